// SPDX-License-Identifier: Apache-2.0
#include "stress/shared-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not whole pages: most stripes begin and end in a page of two processes. */
#define STRIPE_BYTES ((size_t)3 * PAGE_BYTES + 1000)
#define STRIPES_EACH 4
/* So that none crosses a page: natively, no other process sees half of one then. */
#define RECORD_BYTES 512
/* Beyond what a segment can hold. */
#define MAX_RECORDS_EACH 400

typedef struct Record {
	uint64_t worker;
	uint64_t number;
	uint8_t payload[RECORD_BYTES - 2 * sizeof(uint64_t)];
} Record;

static void name_files(SharedFile *file, const FileKind *kind)
{
	snprintf(file->striped_name, sizeof(file->striped_name), "shared%s", kind->suffix);
	snprintf(file->log_name, sizeof(file->log_name), "log%s", kind->suffix);
}

static size_t whole_size(const Worker *worker)
{
	return worker->setup->n_workers * STRIPES_EACH * STRIPE_BYTES;
}

static int open_file(Worker *worker, const char *name, int flags)
{
	int fd = openat(worker->setup->dir_fd, name, flags | O_CLOEXEC, 0644);

	worker_must(worker, fd, name);
	return fd;
}

static void create_one(Worker *worker, const char *name, size_t size)
{
	int fd = open_file(worker, name, O_RDWR | O_CREAT | O_EXCL);

	worker_must(worker, ftruncate(fd, (off_t)size), "ftruncate");
	close(fd);
}

void shared_file_create(Worker *worker, const FileKind *kind)
{
	SharedFile file;

	name_files(&file, kind);
	create_one(worker, file.striped_name, whole_size(worker));
	create_one(worker, file.log_name, 0);
}

static void open_files(SharedFile *file)
{
	file->striped_fd = open_file(file->worker, file->striped_name, O_RDWR);
	file->log_fd = open_file(file->worker, file->log_name, O_RDWR | O_APPEND);
}

void shared_file_init(SharedFile *file, Worker *worker, const FileKind *kind)
{
	*file = (SharedFile){ .worker = worker, .size = whole_size(worker), .model = calloc(1, whole_size(worker)) };
	if (!file->model)
		abort();
	name_files(file, kind);
	open_files(file);
}

static bool is_own(const SharedFile *file, size_t offset)
{
	return offset / STRIPE_BYTES % file->worker->setup->n_workers == file->worker->number;
}

static size_t own_stripe(SharedFile *file)
{
	Worker *worker = file->worker;

	return (worker_below(worker, STRIPES_EACH) * worker->setup->n_workers + worker->number) * STRIPE_BYTES;
}

/* A range within one of the own stripes. */
static void pick_own(SharedFile *file, size_t *ret_offset, size_t *ret_length)
{
	size_t within = worker_below(file->worker, STRIPE_BYTES);
	size_t length = worker_length(file->worker);

	*ret_offset = own_stripe(file) + within;
	*ret_length = length < STRIPE_BYTES - within ? length : STRIPE_BYTES - within;
}

static void compare_own(SharedFile *file, const char *how, size_t offset, size_t length)
{
	for (size_t at = 0, n; at < length; at += n) {
		n = STRIPE_BYTES - (offset + at) % STRIPE_BYTES;
		n = n < length - at ? n : length - at;
		if (is_own(file, offset + at))
			worker_compare(file->worker, how, (off_t)(offset + at), file->worker->in + at,
				       file->model + offset + at, n);
	}
}

static void read_range(SharedFile *file, size_t offset, size_t length)
{
	size_t wanted = length < file->size - offset ? length : file->size - offset;
	ssize_t n = pread(file->striped_fd, file->worker->in, length, (off_t)offset);

	worker_must(file->worker, n, "pread");
	if ((size_t)n != wanted)
		worker_fault(file->worker, "pread of %s, %zu bytes at %zu, returned %zd", file->striped_name, length,
			     offset, n);
	compare_own(file, "pread", offset, wanted);
}

static void op_read(SharedFile *file)
{
	size_t offset = worker_below(file->worker, file->size), length = worker_length(file->worker);

	worker_note(file->worker, "pread %s, %zu bytes at %zu", file->striped_name, length, offset);
	read_range(file, offset, length);
}

static void op_write(SharedFile *file)
{
	Worker *worker = file->worker;
	size_t offset, length;
	ssize_t n;

	pick_own(file, &offset, &length);
	worker_note(worker, "pwrite %s, %zu bytes at %zu", file->striped_name, length, offset);
	worker_fill(worker, length);
	n = worker_must(worker, pwrite(file->striped_fd, worker->out, length, (off_t)offset), "pwrite");
	if ((size_t)n != length)
		worker_fault(worker, "pwrite of %zu bytes returned %zd", length, n);
	memcpy(file->model + offset, worker->out, length);
}

static void map(SharedFile *file)
{
	if (file->map)
		return;
	file->map = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_SHARED, file->striped_fd, 0);
	if (file->map == MAP_FAILED)
		worker_fault(file->worker, "mmap of %s: %s", file->striped_name, strerror(errno));
}

static void unmap(SharedFile *file)
{
	if (file->map)
		munmap(file->map, file->size);
	file->map = NULL;
}

static void op_load(SharedFile *file)
{
	size_t offset, length;

	pick_own(file, &offset, &length);
	worker_note(file->worker, "load from %s, %zu bytes at %zu", file->striped_name, length, offset);
	map(file);
	memcpy(file->worker->in, file->map + offset, length);
	compare_own(file, "load", offset, length);
}

/* Only to pages that are all of this process: a page that some store to and others write(2) is, where a mapping and
 * write(2) go different ways (passthrough=off), as undefined as with O_DIRECT natively. */
static void op_store(SharedFile *file)
{
	Worker *worker = file->worker;
	size_t stripe = own_stripe(file);
	size_t first = (stripe + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	size_t room = (stripe + STRIPE_BYTES) / PAGE_BYTES * PAGE_BYTES - first;
	size_t within = worker_below(worker, room), length = worker_length(worker);

	length = length < room - within ? length : room - within;
	worker_note(worker, "store to %s, %zu bytes at %zu", file->striped_name, length, first + within);
	map(file);
	worker_fill(worker, length);
	memcpy(file->map + first + within, worker->out, length);
	memcpy(file->model + first + within, worker->out, length);
}

static void op_punch(SharedFile *file)
{
	int mode = (worker_chance(file->worker, 50) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
	size_t offset, length;

	pick_own(file, &offset, &length);
	worker_note(file->worker, "fallocate %s, mode %d, %zu bytes at %zu", file->striped_name, mode, length, offset);
	worker_must(file->worker, fallocate(file->striped_fd, mode, (off_t)offset, (off_t)length), "fallocate");
	memset(file->model + offset, 0, length);
}

/* From one own stripe to another. */
static void op_copy(SharedFile *file)
{
	Worker *worker = file->worker;
	size_t from, to, length, room;
	off_t in, out;
	ssize_t n;

	pick_own(file, &from, &length);
	pick_own(file, &to, &room);
	length = length < room ? length : room;
	if (from / STRIPE_BYTES == to / STRIPE_BYTES)
		return;
	in = (off_t)from;
	out = (off_t)to;
	worker_note(worker, "copy_file_range in %s from %zu to %zu, %zu bytes", file->striped_name, from, to, length);
	n = copy_file_range(file->striped_fd, &in, file->striped_fd, &out, length, 0);
	if (n < 0 && errno == EINVAL && worker->setup->copy_is_refused)
		return;
	worker_must(worker, n, "copy_file_range");
	if (n == 0 || (size_t)n > length)
		worker_fault(worker, "copy_file_range of %zu bytes returned %zd", length, n);
	memcpy(file->model + to, file->model + from, (size_t)n);
}

static void op_sync(SharedFile *file)
{
	worker_note(file->worker, "sync %s", file->striped_name);
	if (file->map && worker_chance(file->worker, 50))
		worker_must(file->worker, msync(file->map, file->size, MS_SYNC), "msync");
	else
		worker_must(file->worker, fdatasync(file->striped_fd), "fdatasync");
}

static void op_reopen(SharedFile *file)
{
	worker_note(file->worker, "reopen %s and %s", file->striped_name, file->log_name);
	if (worker_chance(file->worker, 50))
		unmap(file);
	close(file->striped_fd);
	close(file->log_fd);
	open_files(file);
}

static void make_record(const Worker *worker, uint64_t number, Record *ret_record)
{
	*ret_record = (Record){ .worker = worker->number, .number = number };
	memset(ret_record->payload, (int)(worker->number * 31 + number) & 0xff, sizeof(ret_record->payload));
}

static void check_log_size(SharedFile *file)
{
	struct stat attr;

	worker_must(file->worker, fstat(file->log_fd, &attr), "fstat");
	if (attr.st_size % RECORD_BYTES || attr.st_size < file->last_record_end)
		worker_fault(file->worker, "%s: st_size is %jd, and there is a record up to %jd", file->log_name,
			     (intmax_t)attr.st_size, (intmax_t)file->last_record_end);
}

static void op_append(SharedFile *file)
{
	Worker *worker = file->worker;
	Record record, found;
	off_t end;

	if (file->n_records == MAX_RECORDS_EACH)
		return;
	worker_note(worker, "append record %" PRIu64 " to %s", file->n_records, file->log_name);
	make_record(worker, file->n_records, &record);
	if (worker_must(worker, write(file->log_fd, &record, sizeof(record)), "write") != sizeof(record))
		worker_fault(worker, "%s: short write", file->log_name);
	file->n_records++;
	end = lseek(file->log_fd, 0, SEEK_CUR);
	if (end <= file->last_record_end || end % RECORD_BYTES)
		worker_fault(worker, "%s: the position is %jd, and was %jd before", file->log_name, (intmax_t)end,
			     (intmax_t)file->last_record_end);
	file->last_record_end = end;
	if (worker_must(worker, pread(file->log_fd, &found, sizeof(found), end - RECORD_BYTES), "pread") !=
	    sizeof(found))
		worker_fault(worker, "%s: the record that was just appended cannot be read at %jd", file->log_name,
			     (intmax_t)end - RECORD_BYTES);
	worker_compare(worker, file->log_name, end - RECORD_BYTES, (uint8_t *)&found, (uint8_t *)&record,
		       sizeof(record));
}

static void check_striped_size(SharedFile *file)
{
	struct stat attr;

	worker_must(file->worker, fstat(file->striped_fd, &attr), "fstat");
	if ((size_t)attr.st_size != file->size)
		worker_fault(file->worker, "%s: st_size is %jd, not %zu", file->striped_name, (intmax_t)attr.st_size,
			     file->size);
}

void shared_file_step(SharedFile *file)
{
	unsigned dice = (unsigned)worker_below(file->worker, 100);

	if (dice < 25)
		op_write(file);
	else if (dice < 45)
		op_read(file);
	else if (dice < 55)
		op_load(file);
	else if (dice < 68)
		op_store(file);
	else if (dice < 74)
		op_punch(file);
	else if (dice < 79)
		op_copy(file);
	else if (dice < 93)
		op_append(file);
	else if (dice < 95)
		op_sync(file);
	else
		op_reopen(file);
	check_striped_size(file);
	check_log_size(file);
}

uint64_t shared_file_end(SharedFile *file)
{
	worker_note(file->worker, "read all of %s", file->striped_name);
	for (size_t offset = 0; offset < file->size; offset += MAX_IO_BYTES)
		read_range(file, offset, MAX_IO_BYTES);
	unmap(file);
	close(file->striped_fd);
	close(file->log_fd);
	free(file->model);
	return file->n_records;
}

void shared_file_check_log(Worker *worker, const FileKind *kind, const uint64_t *n_records)
{
	uint64_t *seen = calloc(worker->setup->n_workers, sizeof(*seen));
	Record record, wanted;
	SharedFile file;
	ssize_t n;
	int fd;

	name_files(&file, kind);
	fd = open_file(worker, file.log_name, O_RDONLY);
	while ((n = worker_must(worker, read(fd, &record, sizeof(record)), "read")) == sizeof(record)) {
		Worker writer = { .number = (unsigned)record.worker };

		if (record.worker >= worker->setup->n_workers)
			worker_fault(worker, "%s: no record at %jd", file.log_name, (intmax_t)lseek(fd, 0, SEEK_CUR) - n);
		make_record(&writer, seen[record.worker]++, &wanted);
		worker_compare(worker, file.log_name, lseek(fd, 0, SEEK_CUR) - n, (uint8_t *)&record, (uint8_t *)&wanted,
			       sizeof(record));
	}
	for (unsigned i = 0; i < worker->setup->n_workers; i++)
		if (seen[i] != n_records[i] || n != 0)
			worker_fault(worker, "%s: %" PRIu64 " of %" PRIu64 " records of process %u", file.log_name, seen[i],
				     n_records[i], i);
	close(fd);
	free(seen);
}
