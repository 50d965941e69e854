// SPDX-License-Identifier: Apache-2.0
/*
 * Mappings. Only pages that the native file has are touched. What a load finds beyond the end of
 * the file is not compared: when a store there vanishes, short of the file's growing, is up to the
 * write-back. And for the same reason private pages are only made of whole pages of the file.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/step.h"

static size_t page_floor(size_t n)
{
	return n & ~(size_t)(PAGE_BYTES - 1);
}

static bool prepare_mmap(Step *step)
{
	if (!step_take_handle(step))
		return false;
	step->slot = step_below(step, N_MAPPINGS);
	step->offset =
		step_chance(step, 60) ? 0 : step_pick_offset(step) & ~(off_t)(PAGE_BYTES - 1);
	step->length = step_chance(step, 50) ? (size_t)step_config(step)->capacity_bytes
					     : 1 + step_below(step, 20 * PAGE_BYTES);
	step->flags = step_chance(step, 75) ? MAP_SHARED : MAP_PRIVATE;
	step->mode = step_chance(step, 75) ? PROT_READ | PROT_WRITE : PROT_READ;
	mapping_close(&step->actor->mappings[step->slot]);
	return true;
}

static int64_t run_mmap(Step *step, int world)
{
	void *at = mmap(NULL, step->length, step->mode, step->flags, step->handle->fds[world],
			step->offset);

	step->new_at[world] = at == MAP_FAILED ? NULL : at;
	return at == MAP_FAILED ? -1 : 0;
}

static void done_mmap(Step *step)
{
	Mapping *mapping = &step->actor->mappings[step->slot];
	bool keep = step_chance(step, 50);

	if (!step->new_at[NATIVE] || !step->new_at[MOUNT])
		return;
	*mapping = (Mapping){
		.at = { step->new_at[NATIVE], step->new_at[MOUNT] },
		.fds = { dup(step->handle->fds[NATIVE]),
			 keep ? dup(step->handle->fds[MOUNT]) : -1 },
		.length = step->length,
		.offset = step->offset,
		.file = step->handle->file,
		.shared = step->flags == MAP_SHARED,
		.writable = step->mode & PROT_WRITE,
	};
}

static bool take_mapping(Step *step)
{
	unsigned start = step_below(step, N_MAPPINGS);

	for (unsigned i = 0; i < N_MAPPINGS; i++) {
		Mapping *mapping = &step->actor->mappings[(start + i) % N_MAPPINGS];

		if (!mapping->at[NATIVE])
			continue;
		step->mapping = mapping;
		step->size = mapping->offset + (off_t)mapping_valid(mapping);
		return true;
	}
	return false;
}

/* A range below `end`, near a boundary or near the end. */
static bool pick_range(Step *step, size_t end)
{
	size_t offset, length;

	if (end == 0)
		return false;
	offset = step_below(step, end);
	length = 1 + step_below(step, 200);
	switch (step_below(step, 4)) {
	case 0:
		offset = end - 1 - step_below(step, end < PAGE_BYTES ? end : PAGE_BYTES);
		break;
	case 1:
		offset = page_floor(offset);
		length = 1 + step_below(step, 2 * PAGE_BYTES);
		break;
	case 2:
		length = 1 + step_below(step, 5 * PAGE_BYTES);
		break;
	}
	step->map_offset = offset;
	step->length = length < end - offset ? length : end - offset;
	return true;
}

/* Beyond the end of the file only where a store reaches the source's own pages. */
static size_t storable(const Step *step)
{
	const Mapping *mapping = step->mapping;

	if (!mapping->shared && step_config(step)->kind == KIND_APPEND)
		return 0;
	if (!mapping->shared)
		return page_floor(mapping_valid(mapping));
	return step_config(step)->through_daemon ? mapping_valid(mapping)
						 : mapping_touchable(mapping);
}

static bool prepare_load(Step *step)
{
	return take_mapping(step) && pick_range(step, mapping_valid(step->mapping));
}

static int64_t run_load(Step *step, int world)
{
	memcpy(step->out->data, step->mapping->at[world] + step->map_offset, step->length);
	step->out->n_data = step->length;
	return 0;
}

static void expect_store(Step *step)
{
	Shared *shared = step->actor->shared;

	shared->loose_times = true;
	shared->late_times |= shared->config.through_daemon && step->mapping->shared;
}

static bool prepare_store(Step *step)
{
	if (!take_mapping(step) || !step->mapping->writable || !pick_range(step, storable(step)))
		return false;
	step_fill_payload(step);
	expect_store(step);
	return true;
}

static int64_t run_store(Step *step, int world)
{
	memcpy(step->mapping->at[world] + step->map_offset, step->actor->payload, step->length);
	return 0;
}

/* A page that has just been cleaned is written to: that has to move the times. */
static bool prepare_clean_store(Step *step)
{
	if (!prepare_store(step) || !step->mapping->shared || step->mapping->fds[MOUNT] < 0)
		return false;
	step->actor->shared->loose_times = false;
	for (int world = 0; world < N_WORLDS; world++)
		fsync(step->mapping->fds[world]);
	return true;
}

static bool prepare_msync(Step *step)
{
	static const int choices[] = { MS_SYNC, MS_SYNC, MS_ASYNC, MS_INVALIDATE,
				       MS_SYNC | MS_ASYNC };

	if (!take_mapping(step) || !pick_range(step, step->mapping->length))
		return false;
	if (!step_chance(step, 5))
		step->map_offset = page_floor(step->map_offset);
	step->flags = choices[step_below(step, sizeof(choices) / sizeof(choices[0]))];
	return true;
}

static int64_t run_msync(Step *step, int world)
{
	return msync(step->mapping->at[world] + step->map_offset, step->length, step->flags);
}

static bool prepare_madvise(Step *step)
{
	static const int choices[] = { MADV_DONTNEED, MADV_REMOVE, MADV_WILLNEED,
				       MADV_POPULATE_READ, MADV_POPULATE_WRITE };

	if (!take_mapping(step))
		return false;
	step->flags = choices[step_below(step, sizeof(choices) / sizeof(choices[0]))];
	if (!pick_range(step, storable(step)))
		return false;
	step->length += step->map_offset - page_floor(step->map_offset);
	step->map_offset = page_floor(step->map_offset);
	if (step->flags == MADV_POPULATE_WRITE)
		expect_store(step);
	return true;
}

static int64_t run_madvise(Step *step, int world)
{
	return madvise(step->mapping->at[world] + step->map_offset, step->length, step->flags);
}

static bool prepare_munmap(Step *step)
{
	return take_mapping(step);
}

static int64_t run_munmap(Step *step, int world)
{
	return munmap(step->mapping->at[world], step->mapping->length);
}

static void done_munmap(Step *step)
{
	for (int world = 0; world < N_WORLDS; world++) {
		if (step->mapping->fds[world] >= 0)
			close(step->mapping->fds[world]);
		step->mapping->at[world] = NULL;
	}
}

/* Reading and writing with memory of a mapping, of this file or another, as the buffer. In whole
 * pages, and of one file never the same ones: in what order those are copied is nobody's business.
 */
static bool prepare_with_memory(Step *step, size_t end)
{
	off_t from;

	if (!pick_range(step, end) || page_floor(end) == 0)
		return false;
	step->map_offset = page_floor(step->map_offset < page_floor(end) ? step->map_offset : 0);
	step->length = step->length > PAGE_BYTES ? 2 * PAGE_BYTES : PAGE_BYTES;
	if (step->map_offset + step->length > page_floor(end))
		step->length = PAGE_BYTES;
	from = step->mapping->offset + (off_t)step->map_offset;
	step->offset = step_pick_offset(step) & ~(off_t)(PAGE_BYTES - 1);
	if (step->handle->flags & O_APPEND)
		return false;
	return step->offset + (off_t)step->length <= from ||
	       from + (off_t)step->length <= step->offset;
}

static bool prepare_write_mapped(Step *step)
{
	if (!take_mapping(step) || !step_take_writable_handle(step))
		return false;
	return prepare_with_memory(step, mapping_valid(step->mapping)) &&
	       step->offset + (off_t)step->length <= step_max_size(step);
}

static int64_t run_write_mapped(Step *step, int world)
{
	return pwrite(step->handle->fds[world], step->mapping->at[world] + step->map_offset,
		      step->length, step->offset);
}

static bool prepare_read_mapped(Step *step)
{
	if (!take_mapping(step) || !step->mapping->writable || !step_take_handle(step))
		return false;
	expect_store(step);
	/* A direct read takes its private pages before it knows that nothing is to be read. */
	if (!step->mapping->shared && step_config(step)->kind == KIND_APPEND)
		return false;
	if (!prepare_with_memory(step, page_floor(mapping_valid(step->mapping))))
		return false;
	/* What a short direct read leaves in the rest of the buffer is not defined. */
	return !(step->handle->flags & O_DIRECT) ||
	       step->offset + (off_t)step->length <= step->size;
}

static int64_t run_read_mapped(Step *step, int world)
{
	return pread(step->handle->fds[world], step->mapping->at[world] + step->map_offset,
		     step->length, step->offset);
}

const OpType map_ops[] = {
	{ "mmap", 20, prepare_mmap, run_mmap, done_mmap },
	{ "load", 40, prepare_load, run_load, NULL },
	{ "store", 50, prepare_store, run_store, NULL },
	{ "clean_store", 3, prepare_clean_store, run_store, NULL },
	{ "msync", 4, prepare_msync, run_msync, NULL },
	{ "madvise", 10, prepare_madvise, run_madvise, NULL },
	{ "munmap", 6, prepare_munmap, run_munmap, done_munmap },
	{ "write_mapped", 10, prepare_write_mapped, run_write_mapped, NULL },
	{ "read_mapped", 10, prepare_read_mapped, run_read_mapped, NULL },
};
const size_t n_map_ops = sizeof(map_ops) / sizeof(map_ops[0]);
