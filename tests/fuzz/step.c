// SPDX-License-Identifier: Apache-2.0
#include "fuzz/step.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
	uint64_t mixed = *state += 0x9e3779b97f4a7c15u;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
	return mixed ^ mixed >> 31;
}

uint64_t step_below(Step *step, uint64_t bound)
{
	return random_next(&step->random) % bound;
}

bool step_chance(Step *step, unsigned percent)
{
	return step_below(step, 100) < percent;
}

static off_t size_of(int fd)
{
	struct stat attr;

	return fstat(fd, &attr) < 0 ? 0 : attr.st_size;
}

/* The first that is open, from a random one on. */
static bool take_handle(Step *step, bool writable)
{
	unsigned start = step_below(step, N_SLOTS);

	for (unsigned i = 0; i < N_SLOTS; i++) {
		Handle *handle = &step->actor->handles[(start + i) % N_SLOTS];

		if (!handle_is_open(handle) || (writable && !handle_writes(handle)))
			continue;
		step->handle = handle;
		step->size = size_of(handle->fds[NATIVE]);
		return true;
	}
	return false;
}

bool step_take_handle(Step *step)
{
	return take_handle(step, false);
}

/* Now and then one that is not, to see it refused. */
bool step_take_writable_handle(Step *step)
{
	return take_handle(step, !step_chance(step, 3));
}

static off_t pick_anchor(Step *step)
{
	off_t capacity = step_config(step)->capacity_bytes;
	off_t room = (step->size > capacity ? step->size : capacity) + 2 * PAGE_BYTES;

	switch (step_below(step, 12)) {
	case 0:
		return 0;
	case 1:
	case 2:
	case 3:
		return step->size;
	case 4:
		return capacity;
	case 5:
		return step->size & ~(off_t)(PAGE_BYTES - 1);
	case 6:
	case 7:
		return (off_t)step_below(step, room / PAGE_BYTES) * PAGE_BYTES;
	case 8:
		return (off_t)step_below(step, room / 512) * 512;
	case 9:
		return step->size ? (off_t)step_below(step, step->size) : 0;
	default:
		return step_below(step, room);
	}
}

static off_t pick_delta(Step *step)
{
	switch (step_below(step, 8)) {
	case 0:
		return 1;
	case 1:
		return -1;
	case 2:
		return (off_t)step_below(step, 200) - 100;
	case 3:
		return (off_t)step_below(step, 2 * PAGE_BYTES) - PAGE_BYTES;
	case 4:
		return step_chance(step, 50) ? PAGE_BYTES : -PAGE_BYTES;
	default:
		return 0;
	}
}

off_t step_pick_offset(Step *step)
{
	off_t offset = pick_anchor(step) + pick_delta(step);

	return offset < 0 ? 0 : offset;
}

size_t step_pick_length(Step *step, off_t offset)
{
	off_t to_end = step->size - offset;
	off_t to_capacity = step_config(step)->capacity_bytes - offset;

	switch (step_below(step, 16)) {
	case 0:
		return step_below(step, 3);
	case 1:
	case 2:
	case 3:
		return 1 + step_below(step, 64);
	case 4:
		return PAGE_BYTES - 1 + step_below(step, 3);
	case 5:
	case 6:
		return PAGE_BYTES * (1 + step_below(step, 4));
	case 7:
		if (to_end > 0 && to_end < MAX_DATA_BYTES - 1)
			return to_end + step_below(step, 3) - 1;
		return 512;
	case 8:
		if (to_capacity > 0 && to_capacity < MAX_DATA_BYTES - 1 && step_chance(step, 30))
			return to_capacity + step_below(step, 3) - 1;
		return 511;
	case 9:
		return 1 + step_below(step, 65536);
	case 10:
		/* More than goes into one request. */
		return step_chance(step, 6) ? (1 << 20) + step_below(step, 300000) : 100;
	case 11:
		return 256;
	default:
		return 1 + step_below(step, 3 * PAGE_BYTES);
	}
}

/* Ends in zero bytes now and then: they are what tells a length from the data. */
void step_fill_payload(Step *step)
{
	uint8_t *payload = step->actor->payload;
	uint64_t state = step->random;
	unsigned shape = step_below(step, 10);
	size_t n_zero = 0;

	for (size_t i = 0; i < step->length; i += sizeof(uint64_t)) {
		/* Payload's room is a multiple of that. */
		uint64_t word = random_next(&state) | 0x0101010101010101u;

		memcpy(payload + i, &word, sizeof(word));
	}
	if (shape == 0)
		n_zero = step->length;
	else if (shape < 3)
		n_zero = step_below(step, step->length + 1);
	memset(payload + step->length - n_zero, 0, n_zero);
}

void handle_close(Handle *handle)
{
	for (int world = 0; world < N_WORLDS; world++) {
		if (handle->fds[world] >= 0)
			close(handle->fds[world]);
		handle->fds[world] = -1;
	}
}

void mapping_close(Mapping *mapping)
{
	for (int world = 0; world < N_WORLDS; world++) {
		if (mapping->at[world])
			munmap(mapping->at[world], mapping->length);
		if (mapping->at[world] && mapping->fds[world] >= 0)
			close(mapping->fds[world]);
		mapping->at[world] = NULL;
	}
}

static size_t bound_by(const Mapping *mapping, off_t end)
{
	if (end <= mapping->offset)
		return 0;
	return end - mapping->offset < (off_t)mapping->length ? (size_t)(end - mapping->offset)
							      : mapping->length;
}

size_t mapping_touchable(const Mapping *mapping)
{
	off_t size = size_of(mapping->fds[NATIVE]);

	return bound_by(mapping, (size + PAGE_BYTES - 1) & ~(off_t)(PAGE_BYTES - 1));
}

size_t mapping_valid(const Mapping *mapping)
{
	return bound_by(mapping, size_of(mapping->fds[NATIVE]));
}

bool file_is_segment(const FuzzConfig *config, const char *name)
{
	size_t length = strlen(name);

	return config->kind != KIND_PLAIN && length > 4 && strcmp(name + length - 4, ".seg") == 0;
}

void file_names_reset(const FuzzConfig *config, FileNames *files, unsigned file)
{
	static const char *const stems[N_FILES] = { "main", "second", "plain" };
	bool segment = config->kind != KIND_PLAIN && file != 2;

	files[file] = (FileNames){ .exists = false };
	snprintf(files[file].name, sizeof(files[file].name), "%s.%s", stems[file],
		 segment ? "seg" : "dat");
}
