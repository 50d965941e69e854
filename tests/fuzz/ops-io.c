// SPDX-License-Identifier: Apache-2.0
/* Operations that move data through a descriptor. */
#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/step.h"

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

static bool is_direct(const Step *step)
{
	return step->handle->flags & O_DIRECT;
}

static off_t position(const Step *step)
{
	return lseek(step->handle->fds[NATIVE], 0, SEEK_CUR);
}

/* O_DIRECT only ever with what is aligned for every disk. */
static void align_for_direct(Step *step)
{
	if (!is_direct(step))
		return;
	step->offset &= ~(off_t)(PAGE_BYTES - 1);
	step->length = (step->length + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
	if (step->length == 0)
		step->length = PAGE_BYTES;
}

/* At the position of the descriptor, or at an offset. */
static bool place(Step *step, bool at_position)
{
	step->offset = at_position ? position(step) : step_pick_offset(step);
	step->length = step_pick_length(step, step->offset);
	if (at_position && is_direct(step) && step->offset % PAGE_BYTES)
		return false;
	align_for_direct(step);
	return step->length <= MAX_DATA_BYTES;
}

static void make_offset_extreme(Step *step)
{
	static const off_t extremes[] = { -1, -PAGE_BYTES, LLONG_MAX, 1LL << 62, 1LL << 45 };

	if (!is_direct(step) && step_below(step, 300) == 0)
		step->offset = extremes[step_below(step, sizeof(extremes) / sizeof(extremes[0]))];
}

static bool fits(Step *step, bool append)
{
	off_t start = append ? step->size : step->offset;

	if (append && is_direct(step) && step->size % PAGE_BYTES)
		return false;
	return start < 0 || start > 1LL << 40 || start + (off_t)step->length <= step_max_size(step);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static bool prepare_read(Step *step)
{
	return step_take_handle(step) && place(step, true);
}

static bool prepare_pread(Step *step)
{
	if (!step_take_handle(step) || !place(step, false))
		return false;
	make_offset_extreme(step);
	return true;
}

static int64_t keep_data(Step *step, int64_t n)
{
	if (n > 0)
		step->out->n_data = n;
	return n;
}

static int64_t run_read(Step *step, int world)
{
	return keep_data(step, read(step->handle->fds[world], step->out->data, step->length));
}

static int64_t run_pread(Step *step, int world)
{
	return keep_data(
		step, pread(step->handle->fds[world], step->out->data, step->length, step->offset));
}

/* In three pieces, one of them empty; page-wise for O_DIRECT. */
static int cut(const Step *step, uint8_t *data, struct iovec *ret_pieces)
{
	size_t first = step->length / 3;

	if (is_direct(step))
		first &= ~(size_t)(PAGE_BYTES - 1);
	ret_pieces[0] = (struct iovec){ data, first };
	ret_pieces[1] = (struct iovec){ data, 0 };
	ret_pieces[2] = (struct iovec){ data + first, step->length - first };
	return 3;
}

static int64_t run_readv(Step *step, int world)
{
	struct iovec pieces[3];
	int n = cut(step, step->out->data, pieces);

	return keep_data(step, readv(step->handle->fds[world], pieces, n));
}

static bool prepare_preadv2(Step *step)
{
	step->flags = step_chance(step, 20) ? RWF_HIPRI : 0;
	return prepare_pread(step);
}

static int64_t run_preadv2(Step *step, int world)
{
	struct iovec pieces[3];
	int n = cut(step, step->out->data, pieces);

	return keep_data(step,
			 preadv2(step->handle->fds[world], pieces, n, step->offset, step->flags));
}

/* ---- writing ----------------------------------------------------------------------------------
 */

/* The kernel has set-id bits cleared before it learns that the source has no such offset. */
static bool loses_set_ids(const Step *step)
{
	struct stat attr;

	return step->offset > 1LL << 40 && geteuid() != 0 &&
	       fstat(step->handle->fds[NATIVE], &attr) == 0 && (attr.st_mode & (S_ISUID | S_ISGID));
}

static bool prepare_any_write(Step *step, bool at_position)
{
	if (!step_take_writable_handle(step) || !place(step, at_position))
		return false;
	if (!at_position)
		make_offset_extreme(step);
	if (!fits(step, step->handle->flags & O_APPEND) || loses_set_ids(step))
		return false;
	step_fill_payload(step);
	return true;
}

static bool prepare_write(Step *step)
{
	return prepare_any_write(step, true);
}

static bool prepare_pwrite(Step *step)
{
	return prepare_any_write(step, false);
}

static int64_t run_write(Step *step, int world)
{
	return write(step->handle->fds[world], step->actor->payload, step->length);
}

static int64_t run_pwrite(Step *step, int world)
{
	return pwrite(step->handle->fds[world], step->actor->payload, step->length, step->offset);
}

static int64_t run_writev(Step *step, int world)
{
	struct iovec pieces[3];
	int n = cut(step, step->actor->payload, pieces);

	return writev(step->handle->fds[world], pieces, n);
}

static bool prepare_pwritev2(Step *step)
{
	static const int choices[] = { 0,	   RWF_DSYNC,  RWF_SYNC,
				       RWF_APPEND, RWF_APPEND, RWF_APPEND | RWF_DSYNC };

	if (!prepare_pwrite(step))
		return false;
	step->flags = choices[step_below(step, sizeof(choices) / sizeof(choices[0]))];
	if (step_is_free(step) && step_chance(step, 10))
		step->flags = RWF_NOAPPEND;
	return !(step->flags & RWF_APPEND) || fits(step, true);
}

static int64_t run_pwritev2(Step *step, int world)
{
	struct iovec pieces[3];
	int n = cut(step, step->actor->payload, pieces);

	return pwritev2(step->handle->fds[world], pieces, n, step->offset, step->flags);
}

/* By a child that has the descriptor only by inheritance, and goes at once. */
static int64_t run_fork_write(Step *step, int world)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		errno = 0;
		_exit(run_write(step, world) == (int64_t)step->length ? 0 : errno ? errno : 255);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

/* ---- between descriptors ----------------------------------------------------------------------
 */

/* Sends the file to a memory file, and gives what has arrived. */
static int64_t run_sendfile(Step *step, int world)
{
	int sink = memfd_create("sink", MFD_CLOEXEC);
	off_t offset = step->offset;
	int64_t n = sendfile(sink, step->handle->fds[world], &offset, step->length);
	int saved = errno;

	if (n > 0)
		keep_data(step, pread(sink, step->out->data, MAX_DATA_BYTES, 0));
	close(sink);
	errno = saved;
	return n;
}

static bool prepare_sendfile(Step *step)
{
	if (!step_take_handle(step) || !place(step, false))
		return false;
	/* Ends of pipes in between are not aligned. */
	return !is_direct(step);
}

static bool prepare_from_pipe(Step *step)
{
	return prepare_pwrite(step) && !is_direct(step);
}

static int64_t run_sendfile_in(Step *step, int world)
{
	int from = memfd_create("from", MFD_CLOEXEC);
	off_t offset = 0;
	int64_t n = -2;
	int saved;

	if (write(from, step->actor->payload, step->length) == (ssize_t)step->length)
		n = sendfile(step->handle->fds[world], from, &offset, step->length);
	saved = errno;
	close(from);
	errno = saved;
	return n;
}

/* How much goes at a time depends on how pages fill the pipe: until all has gone. */
static int64_t run_splice_out(Step *step, int world)
{
	loff_t offset = step->offset;
	int64_t total = 0, n = 0;
	int ends[2];
	int saved;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -2;
	while (total < (int64_t)step->length) {
		n = splice(step->handle->fds[world], &offset, ends[1], NULL, step->length - total,
			   0);
		if (n <= 0)
			break;
		for (int64_t got = 0, m; got < n; got += m) {
			m = read(ends[0], step->out->data + total + got, n - got);
			if (m <= 0)
				break;
		}
		total += n;
	}
	saved = errno;
	close(ends[0]);
	close(ends[1]);
	errno = saved;
	return n < 0 && total == 0 ? -1 : keep_data(step, total);
}

static int64_t run_splice_in(Step *step, int world)
{
	loff_t offset = step->offset;
	int64_t total = 0, n = 0;
	int ends[2];
	int saved;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -2;
	while (total < (int64_t)step->length) {
		size_t piece = step->length - total < 16384 ? step->length - total : 16384;

		if (write(ends[1], step->actor->payload + total, piece) != (ssize_t)piece)
			break;
		n = splice(ends[0], NULL, step->handle->fds[world], &offset, piece, 0);
		if (n <= 0)
			break;
		total += n;
		if (n < (int64_t)piece)
			break;
	}
	saved = errno;
	close(ends[0]);
	close(ends[1]);
	errno = saved;
	return n < 0 && total == 0 ? -1 : total;
}

/* Another handle, of the same file or not, takes it. */
static bool prepare_copy_range(Step *step)
{
	Handle *from;

	if (!step_take_handle(step))
		return false;
	from = step->handle;
	step->other_offset = step_pick_offset(step);
	if (!step_take_writable_handle(step) || ((from->flags | step->handle->flags) & O_DIRECT))
		return false;
	step->other = from;
	step->offset = step_pick_offset(step);
	step->length = step_pick_length(step, step->other_offset);
	return fits(step, step->handle->flags & O_APPEND);
}

static int64_t run_copy_range(Step *step, int world)
{
	loff_t from_offset = step->other_offset, to_offset = step->offset;

	return copy_file_range(step->other->fds[world], &from_offset, step->handle->fds[world],
			       &to_offset, step->length, 0);
}

/* ---- seeking ----------------------------------------------------------------------------------
 */

static bool prepare_lseek(Step *step)
{
	if (!step_take_handle(step))
		return false;
	step->offset = step_pick_offset(step);
	step->flags = step_below(step, 3);
	if (step->flags == SEEK_CUR)
		step->offset -= position(step);
	else if (step->flags == SEEK_END)
		step->offset = (off_t)step_below(step, 20000) - 10000;
	if (step_chance(step, 3))
		step->offset = -step->size - 1;
	return true;
}

static int64_t run_lseek(Step *step, int world)
{
	return lseek(step->handle->fds[world], step->offset, step->flags);
}

static bool prepare_seek_hole(Step *step)
{
	/* What the kernel holds back of a store, the daemon takes for a hole. */
	if (!step_take_handle(step) || step->actor->shared->late_times)
		return false;
	step->offset = step_pick_offset(step);
	step->flags = step_chance(step, 50) ? SEEK_DATA : SEEK_HOLE;
	return true;
}

/* Whether the native file is zero there. */
static bool reads_as_zero(Step *step, off_t from, off_t to)
{
	static const size_t piece_bytes = 65536;
	uint8_t *buffer = step->actor->payload;

	if (!handle_reads(step->handle) || is_direct(step))
		return true;
	while (from < to) {
		size_t wanted = to - from < (off_t)piece_bytes ? (size_t)(to - from) : piece_bytes;
		ssize_t n = pread(step->handle->fds[NATIVE], buffer, wanted, from);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++)
			if (buffer[i])
				return false;
		from += n;
	}
	return true;
}

/* A filesystem need not know its holes, but what it calls one has to be zero. 0 if so, else what is
 * wrong. */
static int64_t run_seek_hole(Step *step, int world)
{
	int fd = step->handle->fds[world];
	off_t old = lseek(fd, 0, SEEK_CUR);
	off_t found = lseek(fd, step->offset, step->flags);
	int saved = errno;
	int64_t verdict = 0;

	lseek(fd, old, SEEK_SET);
	errno = saved;
	if (found < 0 && (errno != ENXIO || step->offset >= step->size || step->flags == SEEK_HOLE))
		return -1;
	errno = 0;
	if (found >= 0 && (found < step->offset || found > step->size))
		verdict = 1;
	else if (found >= 0 && found == step->size && step->flags == SEEK_DATA)
		verdict = 2;
	else if (step->flags == SEEK_DATA &&
		 !reads_as_zero(step, step->offset, found < 0 ? step->size : found))
		verdict = 3;
	else if (step->flags == SEEK_HOLE && found < step->size &&
		 !reads_as_zero(step, found, found + 1))
		verdict = 4;
	return verdict;
}

const OpType io_ops[] = {
	{ "read", 40, prepare_read, run_read, NULL },
	{ "pread", 60, prepare_pread, run_pread, NULL },
	{ "readv", 15, prepare_read, run_readv, NULL },
	{ "preadv2", 15, prepare_preadv2, run_preadv2, NULL },
	{ "write", 70, prepare_write, run_write, NULL },
	{ "pwrite", 70, prepare_pwrite, run_pwrite, NULL },
	{ "writev", 20, prepare_write, run_writev, NULL },
	{ "pwritev2", 30, prepare_pwritev2, run_pwritev2, NULL },
	{ "fork_write", 3, prepare_write, run_fork_write, NULL },
	{ "sendfile", 20, prepare_sendfile, run_sendfile, NULL },
	{ "sendfile_in", 8, prepare_write, run_sendfile_in, NULL },
	{ "splice_out", 20, prepare_sendfile, run_splice_out, NULL },
	{ "splice_in", 15, prepare_from_pipe, run_splice_in, NULL },
	{ "copy_range", 25, prepare_copy_range, run_copy_range, NULL },
	{ "lseek", 40, prepare_lseek, run_lseek, NULL },
	{ "seek_hole", 25, prepare_seek_hole, run_seek_hole, NULL },
};
const size_t n_io_ops = sizeof(io_ops) / sizeof(io_ops[0]);
