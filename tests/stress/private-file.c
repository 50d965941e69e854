// SPDX-License-Identifier: Apache-2.0
#include "stress/private-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Twice what the tests let a segment linger: it is a plain file then. */
#define REST_MAX_US 20000

static void check_size(PrivateFile *file)
{
	struct stat attr;
	int r = file->has_name && worker_chance(file->worker, 30) ?
			fstatat(file->worker->setup->dir_fd, file->name, &attr, AT_SYMLINK_NOFOLLOW) :
			fstat(file->fd, &attr);

	worker_must(file->worker, r, "stat");
	if ((size_t)attr.st_size != file->size)
		worker_fault(file->worker, "%s: st_size is %jd, not %zu", file->name, (intmax_t)attr.st_size,
			     file->size);
	if (attr.st_nlink != file->has_name)
		worker_fault(file->worker, "%s: st_nlink is %ju", file->name, (uintmax_t)attr.st_nlink);
}

static void grow(PrivateFile *file, size_t size)
{
	if (size > file->size)
		file->size = size;
}

/* The file's part of a range, at most MAX_IO_BYTES of it. */
static size_t within(const PrivateFile *file, size_t offset, size_t length)
{
	if (offset >= file->size)
		return 0;
	length = length < MAX_IO_BYTES ? length : MAX_IO_BYTES;
	return length < file->size - offset ? length : file->size - offset;
}

/* A range that fits into the model; with O_DIRECT, of whole pages. */
static void pick_range(PrivateFile *file, size_t *ret_offset, size_t *ret_length)
{
	Worker *worker = file->worker;
	size_t offset = worker_below(worker, worker_chance(worker, 70) ? file->size + 1 : PRIVATE_FILE_BYTES);
	size_t length = worker_length(worker);

	if (file->flags & O_DIRECT) {
		offset &= ~(size_t)(PAGE_BYTES - 1);
		length = (length + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
	}
	if (length > PRIVATE_FILE_BYTES - offset)
		length = PRIVATE_FILE_BYTES - offset;
	*ret_offset = offset;
	*ret_length = length;
}

static void read_range(PrivateFile *file, size_t offset, size_t length)
{
	size_t wanted = within(file, offset, length);
	ssize_t n = worker_must(file->worker, pread(file->fd, file->worker->in, length, (off_t)offset), "pread");

	if ((size_t)n != wanted)
		worker_fault(file->worker, "%s: pread(%zu) at %zu of %zu bytes returned %zd, not %zu", file->name,
			     length, offset, file->size, n, wanted);
	worker_compare(file->worker, "pread", (off_t)offset, file->worker->in, file->model + offset, wanted);
}

static void op_read(PrivateFile *file)
{
	size_t offset, length;

	pick_range(file, &offset, &length);
	worker_note(file->worker, "pread %s, %zu bytes at %zu", file->name, length, offset);
	read_range(file, offset, length);
}

static void read_all(PrivateFile *file)
{
	worker_note(file->worker, "read all %zu bytes of %s", file->size, file->name);
	for (size_t offset = 0; offset < PRIVATE_FILE_BYTES; offset += MAX_IO_BYTES)
		read_range(file, offset, MAX_IO_BYTES);
}

static void op_write(PrivateFile *file)
{
	Worker *worker = file->worker;
	bool append = file->flags & O_APPEND;
	size_t offset, length;
	ssize_t n;

	pick_range(file, &offset, &length);
	if (append) {
		offset = file->size;
		length = length < PRIVATE_FILE_BYTES - offset ? length : PRIVATE_FILE_BYTES - offset;
	}
	if (length == 0)
		return;
	worker_note(worker, "%s %s, %zu bytes at %zu", append ? "append to" : "pwrite", file->name, length, offset);
	worker_fill(worker, length);
	n = append ? write(file->fd, worker->out, length) : pwrite(file->fd, worker->out, length, (off_t)offset);
	worker_must(worker, n, "write");
	if ((size_t)n != length)
		worker_fault(worker, "%s: write(%zu) returned %zd", file->name, length, n);
	memcpy(file->model + offset, worker->out, length);
	grow(file, offset + length);
	if (append && lseek(file->fd, 0, SEEK_CUR) != (off_t)file->size)
		worker_fault(worker, "%s: the position after an append is not the end of the file", file->name);
}

static void map(PrivateFile *file)
{
	if (file->map)
		return;
	file->map = mmap(NULL, PRIVATE_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
	if (file->map == MAP_FAILED)
		worker_fault(file->worker, "mmap of %s: %s", file->name, strerror(errno));
}

static void unmap(PrivateFile *file)
{
	if (file->map)
		munmap(file->map, PRIVATE_FILE_BYTES);
	file->map = NULL;
}

/* Never beyond the end. */
static void op_map(PrivateFile *file)
{
	Worker *worker = file->worker;
	size_t offset, length;

	pick_range(file, &offset, &length);
	length = within(file, offset, length);
	if (length == 0)
		return;
	map(file);
	if (worker_chance(worker, 40)) {
		worker_note(worker, "load from %s, %zu bytes at %zu", file->name, length, offset);
		memcpy(worker->in, file->map + offset, length);
		worker_compare(worker, "load", (off_t)offset, worker->in, file->model + offset, length);
		return;
	}
	worker_note(worker, "store to %s, %zu bytes at %zu", file->name, length, offset);
	worker_fill(worker, length);
	memcpy(file->map + offset, worker->out, length);
	memcpy(file->model + offset, worker->out, length);
	if (worker_chance(worker, 20))
		worker_must(worker, msync(file->map, file->size, worker_chance(worker, 50) ? MS_SYNC : MS_ASYNC),
			    "msync");
}

static void op_truncate(PrivateFile *file)
{
	size_t size, length;

	pick_range(file, &size, &length);
	if (worker_chance(file->worker, 30))
		size = size / 4;
	worker_note(file->worker, "ftruncate %s of %zu bytes to %zu", file->name, file->size, size);
	worker_must(file->worker, ftruncate(file->fd, (off_t)size), "ftruncate");
	if (size < file->size)
		memset(file->model + size, 0, file->size - size);
	file->size = size;
}

static void op_allocate(PrivateFile *file)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int mode = modes[worker_below(file->worker, 5)];
	size_t offset, length;

	pick_range(file, &offset, &length);
	if (length == 0)
		return;
	worker_note(file->worker, "fallocate %s, mode %d, %zu bytes at %zu", file->name, mode, length, offset);
	worker_must(file->worker, fallocate(file->fd, mode, (off_t)offset, (off_t)length), "fallocate");
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(file->model + offset, 0, within(file, offset, length));
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(file, offset + length);
}

/* Within one file as well, from one place to another. */
static void op_copy(PrivateFile *file, PrivateFile *to)
{
	Worker *worker = file->worker;
	size_t offset, length, wanted, at = worker_below(worker, PRIVATE_FILE_BYTES);
	off_t from = 0, into = (off_t)at;
	ssize_t n;

	pick_range(file, &offset, &length);
	length = length < PRIVATE_FILE_BYTES - at ? length : PRIVATE_FILE_BYTES - at;
	if (((file->flags | to->flags) & O_DIRECT) || (to->flags & O_APPEND) || length == 0 ||
	    (file == to && offset < at + length && at < offset + length))
		return;
	from = (off_t)offset;
	worker_note(worker, "copy_file_range from %s at %zu to %s at %zu, %zu bytes", file->name, offset, to->name, at,
		    length);
	n = copy_file_range(file->fd, &from, to->fd, &into, length, 0);
	if (n < 0 && errno == EINVAL && worker->setup->copy_is_refused)
		return;
	worker_must(worker, n, "copy_file_range");
	wanted = within(file, offset, length);
	if ((size_t)n > wanted || (n == 0 && wanted > 0))
		worker_fault(worker, "copy_file_range of %zu bytes returned %zd", wanted, n);
	memmove(to->model + at, file->model + offset, (size_t)n);
	if (n > 0)
		grow(to, at + (size_t)n);
	check_size(to);
}

static void pick_name(PrivateFile *file, const FileKind *kind, char *ret_name)
{
	snprintf(ret_name, sizeof(file->name), "own-%u-%" PRIu64 "%s", file->worker->number, file->worker->n_lines,
		 kind->suffix);
}

/* To a new name, or to that of another file, which then has none. */
static void op_rename(PrivateFile *file, PrivateFile *other)
{
	int dir_fd = file->worker->setup->dir_fd;
	bool replaces = other != file && other->has_name && worker_chance(file->worker, 30);
	char name[sizeof(file->name)];

	if (!file->has_name)
		return;
	pick_name(file, worker_kind(file->worker), name);
	if (replaces)
		memcpy(name, other->name, sizeof(name));
	worker_note(file->worker, "rename %s to %s", file->name, name);
	worker_must(file->worker, renameat(dir_fd, file->name, dir_fd, name), "rename");
	memcpy(file->name, name, sizeof(name));
	other->has_name = other->has_name && !replaces;
	check_size(other);
}

static void op_unlink(PrivateFile *file)
{
	if (!file->has_name)
		return;
	worker_note(file->worker, "unlink %s", file->name);
	worker_must(file->worker, unlinkat(file->worker->setup->dir_fd, file->name, 0), "unlink");
	file->has_name = false;
}

/* Whether somebody else's bytes are in it is seen by reading it whole. */
static void create(PrivateFile *file)
{
	Worker *worker = file->worker;
	const FileKind *kind = worker_kind(worker);

	pick_name(file, kind, file->name);
	worker_note(worker, "create %s", file->name);
	file->flags = O_RDWR;
	file->fd = openat(worker->setup->dir_fd, file->name, file->flags | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	worker_must(worker, file->fd, "create");
	file->has_name = true;
	memset(file->model, 0, PRIVATE_FILE_BYTES);
	file->size = (size_t)kind->born_bytes;
	check_size(file);
	read_all(file);
}

/* A closed file, and so one that may become a segment again, or an open one. */
static void op_replace(PrivateFile *file)
{
	bool close_first = worker_chance(file->worker, 70);

	if (worker_chance(file->worker, 20))
		read_all(file);
	unmap(file);
	if (close_first)
		close(file->fd);
	op_unlink(file);
	if (!close_first)
		close(file->fd);
	create(file);
}

static void op_reopen(PrivateFile *file)
{
	static const int flags[] = { 0, O_APPEND, O_DIRECT, O_DSYNC, O_DIRECT | O_APPEND, O_TRUNC };
	Worker *worker = file->worker;

	if (!file->has_name)
		return;
	if (worker_chance(worker, 70))
		unmap(file);
	file->flags = O_RDWR | flags[worker_below(worker, 6)];
	if ((file->flags & O_APPEND) && (file->flags & O_DIRECT))
		file->flags &= ~O_DIRECT;
	worker_note(worker, "reopen %s, flags %#x", file->name, file->flags);
	close(file->fd);
	if (worker_chance(worker, 30))
		usleep((useconds_t)worker_below(worker, REST_MAX_US));
	file->fd = openat(worker->setup->dir_fd, file->name, file->flags | O_CLOEXEC);
	worker_must(worker, file->fd, "open");
	if (file->flags & O_TRUNC) {
		memset(file->model, 0, file->size);
		file->size = 0;
	}
}

static void op_sync(PrivateFile *file)
{
	bool data = worker_chance(file->worker, 50);

	worker_note(file->worker, "%s %s", data ? "fdatasync" : "fsync", file->name);
	worker_must(file->worker, data ? fdatasync(file->fd) : fsync(file->fd), "fsync");
}

void private_file_init(PrivateFile *file, Worker *worker)
{
	*file = (PrivateFile){ .worker = worker, .model = calloc(1, PRIVATE_FILE_BYTES) };
	if (!file->model)
		abort();
	create(file);
}

void private_file_step(PrivateFile *file, PrivateFile *other)
{
	unsigned dice = (unsigned)worker_below(file->worker, 100);

	if (dice < 25)
		op_write(file);
	else if (dice < 45)
		op_read(file);
	else if (dice < 63)
		op_map(file);
	else if (dice < 69)
		op_truncate(file);
	else if (dice < 75)
		op_allocate(file);
	else if (dice < 80)
		op_copy(file, worker_chance(file->worker, 50) ? file : other);
	else if (dice < 84)
		op_rename(file, other);
	else if (dice < 86)
		op_unlink(file);
	else if (dice < 90)
		op_replace(file);
	else if (dice < 97)
		op_reopen(file);
	else if (dice < 99)
		op_sync(file);
	else
		read_all(file);
	check_size(file);
}

void private_file_traffic_step(PrivateFile *file, PrivateFile *other)
{
	unsigned dice = (unsigned)worker_below(file->worker, 10);

	if (dice < 3)
		op_write(file);
	else if (dice < 4)
		op_rename(file, other);
	else if (dice < 5)
		op_reopen(file);
	else
		op_replace(file);
	check_size(file);
}

void private_file_end(PrivateFile *file)
{
	read_all(file);
	unmap(file);
	close(file->fd);
	free(file->model);
}
