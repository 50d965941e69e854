// SPDX-License-Identifier: Apache-2.0
/* Opening and closing, sizes, attributes and names. */
#include <errno.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuzz/step.h"

static int dir_fd(const Step *step, int world)
{
	return step_config(step)->dir_fds[world];
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

static const struct {
	int flag;
	unsigned percent;
} open_flags[] = {
	{ O_CREAT, 70 }, { O_APPEND, 22 }, { O_DIRECT, 10 }, { O_DSYNC, 6 },
	{ O_SYNC, 4 },	 { O_TRUNC, 5 },   { O_EXCL, 2 },
};

static void take_file(Step *step)
{
	unsigned dice = step_below(step, 100);

	step->names = &step->actor->shared->files[dice < 75 ? 0 : dice < 92 ? 1 : 2];
	step->name_before = step->name_after = step->names->name;
}

static bool prepare_open(Step *step)
{
	static const int access_modes[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	static const mode_t modes[] = { 0666, 0666, 0644, 0600, 0640, 04777 };

	take_file(step);
	step->slot = step_below(step, N_SLOTS);
	step->flags = access_modes[step_below(step, 5)] | O_CLOEXEC;
	for (size_t i = 0; i < sizeof(open_flags) / sizeof(open_flags[0]); i++)
		if (step_chance(step, open_flags[i].percent))
			step->flags |= open_flags[i].flag;
	if (!step->names->exists)
		step->flags |= step_chance(step, 80) ? O_CREAT : 0;
	step->mode = modes[step_below(step, 6)];
	umask(step_chance(step, 70) ? 0 : 022);
	handle_close(&step->actor->handles[step->slot]);
	return true;
}

/* What a mapped segment is born with. The descriptor may not do for it, nor the mode; and set-id
 * bits would go. */
static void give_birth_size(const Step *step, int fd)
{
	struct stat attr;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd(step, NATIVE),
		 step->names->name);
	fstat(fd, &attr);
	fchmod(fd, 0600);
	if (truncate(path, step_config(step)->capacity_bytes) < 0)
		perror("truncate");
	fchmod(fd, attr.st_mode & 07777);
}

static int64_t run_open(Step *step, int world)
{
	const FuzzConfig *config = step_config(step);
	const char *name = step->names->name;
	int fd = openat(dir_fd(step, world), name, step->flags, step->mode);

	step->new_fds[world] = fd;
	if (fd < 0)
		return -1;
	if (world == NATIVE && !step->names->exists && config->kind == KIND_MAPPED &&
	    file_is_segment(config, name))
		give_birth_size(step, fd);
	return 0;
}

static void done_open(Step *step)
{
	if (step->new_fds[NATIVE] < 0 || step->new_fds[MOUNT] < 0)
		return;
	step->names->exists = true;
	step->actor->handles[step->slot] = (Handle){
		.fds = { step->new_fds[NATIVE], step->new_fds[MOUNT] },
		.flags = step->flags,
		.opened_to_append = step->flags & O_APPEND,
		.file = step->names - step->actor->shared->files,
	};
}

static int64_t run_close(Step *step, int world)
{
	int fd = step->handle->fds[world];

	step->handle->fds[world] = -1;
	return close(fd);
}

static bool prepare_dup(Step *step)
{
	if (!step_take_handle(step))
		return false;
	step->slot = step_below(step, N_SLOTS);
	if (&step->actor->handles[step->slot] == step->handle)
		return false;
	handle_close(&step->actor->handles[step->slot]);
	return true;
}

static int64_t run_dup(Step *step, int world)
{
	step->new_fds[world] = fcntl(step->handle->fds[world], F_DUPFD_CLOEXEC, 0);
	return step->new_fds[world] < 0 ? -1 : 0;
}

static void done_dup(Step *step)
{
	Handle *copy = &step->actor->handles[step->slot];

	*copy = *step->handle;
	memcpy(copy->fds, step->new_fds, sizeof(copy->fds));
}

static bool prepare_setfl(Step *step)
{
	return step_take_handle(step) &&
	       (step_is_free(step) || !step->handle->opened_to_append);
}

static int64_t run_setfl(Step *step, int world)
{
	int old = fcntl(step->handle->fds[world], F_GETFL);

	if (fcntl(step->handle->fds[world], F_SETFL, old ^ O_APPEND) < 0)
		return -1;
	return fcntl(step->handle->fds[world], F_GETFL) &
	       (O_APPEND | O_DIRECT | O_SYNC | O_ACCMODE);
}

/* Duplicates share it. */
static void done_setfl(Step *step)
{
	for (unsigned i = 0; i < N_SLOTS; i++) {
		Handle *handle = &step->actor->handles[i];

		if (handle_is_open(handle))
			handle->flags = (handle->flags & ~O_APPEND) |
					(fcntl(handle->fds[NATIVE], F_GETFL) & O_APPEND);
	}
}

/* ---- sizes and blocks -------------------------------------------------------------------------
 */

static void pick_size(Step *step)
{
	static const off_t extremes[] = { -1, LLONG_MAX, 1LL << 62, 1LL << 45 };

	step->offset = step_pick_offset(step);
	if (step->offset > step_max_size(step))
		step->offset = 0;
	if (step_below(step, 100) == 0)
		step->offset = extremes[step_below(step, 4)];
}

static bool prepare_ftruncate(Step *step)
{
	if (!step_take_writable_handle(step))
		return false;
	pick_size(step);
	return true;
}

static int64_t run_ftruncate(Step *step, int world)
{
	return ftruncate(step->handle->fds[world], step->offset);
}

static bool prepare_truncate(Step *step)
{
	struct stat attr;

	take_file(step);
	if (fstatat(dir_fd(step, NATIVE), step->names->name, &attr, 0) == 0)
		step->size = attr.st_size;
	pick_size(step);
	return true;
}

/* There is no truncateat(2). */
static int64_t run_truncate(Step *step, int world)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd(step, world), step->names->name);
	return truncate(path, step->offset);
}

static bool prepare_fallocate(Step *step)
{
	static const int modes[] = { 0,
				     0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE,
				     FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_PUNCH_HOLE,
				     0x4000 };

	if (!step_take_writable_handle(step))
		return false;
	step->flags = modes[step_below(step, sizeof(modes) / sizeof(modes[0]))];
	step->offset = step_pick_offset(step);
	step->length = step_pick_length(step, step->offset);
	return step->offset + (off_t)step->length <= step_max_size(step);
}

static int64_t run_fallocate(Step *step, int world)
{
	return fallocate(step->handle->fds[world], step->flags, step->offset, step->length);
}

/* Those that FUSE does not pass on; they have to be refused, and to change nothing. */
static bool prepare_refused(Step *step)
{
	if (!step_take_handle(step) || !handle_writes(step->handle))
		return false;
	step->flags = step_chance(step, 50) ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE;
	step->offset = step_pick_offset(step) & ~(off_t)(PAGE_BYTES - 1);
	step->length = PAGE_BYTES;
	return true;
}

static int64_t run_refused(Step *step, int world)
{
	int64_t r = -1;

	errno = EOPNOTSUPP;
	if (world == MOUNT)
		r = run_fallocate(step, world);
	if (r < 0 && errno == EINVAL)
		errno = EOPNOTSUPP;
	return r;
}

/* ---- durability and advice --------------------------------------------------------------------
 */

static int64_t run_fsync(Step *step, int world)
{
	return fsync(step->handle->fds[world]);
}

static int64_t run_fdatasync(Step *step, int world)
{
	return fdatasync(step->handle->fds[world]);
}

static bool prepare_advice(Step *step)
{
	if (!step_take_handle(step))
		return false;
	step->offset = step_pick_offset(step);
	step->length = step_pick_length(step, step->offset);
	step->flags = step_below(step, 8);
	return true;
}

static int64_t run_fadvise(Step *step, int world)
{
	return posix_fadvise(step->handle->fds[world], step->offset, step->length, step->flags);
}

static int64_t run_sync_range(Step *step, int world)
{
	return sync_file_range(step->handle->fds[world], step->offset, step->length, step->flags);
}

/* ---- attributes -------------------------------------------------------------------------------
 */

static bool prepare_fchmod(Step *step)
{
	static const mode_t modes[] = { 0644, 0666, 0666, 0666, 0600, 06777, 04711, 0444 };

	step->mode = modes[step_below(step, sizeof(modes) / sizeof(modes[0]))];
	return step_take_handle(step);
}

static int64_t run_fchmod(Step *step, int world)
{
	return fchmod(step->handle->fds[world], step->mode);
}

/* A chown by the wrong user that changes nothing but set-id bits is, to the daemon, the same as the
 * kernel's wish that they go before he writes. */
static bool may_seem_to_write(const Step *step)
{
	struct stat attr;

	return step->flags == -1 && step->mode == -1 && geteuid() != 0 &&
	       fstat(step->handle->fds[NATIVE], &attr) == 0 && attr.st_uid != geteuid() &&
	       (attr.st_mode & (S_ISUID | S_ISGID));
}

static bool prepare_fchown(Step *step)
{
	static const int ids[] = { 0, 0, 12345, 54321, -1 };

	step->flags = ids[step_below(step, 5)];
	step->mode = ids[step_below(step, 5)];
	return step_take_handle(step) && !may_seem_to_write(step);
}

static int64_t run_fchown(Step *step, int world)
{
	return fchown(step->handle->fds[world], step->flags, step->mode);
}

static bool prepare_futimens(Step *step)
{
	for (int i = 0; i < 2; i++) {
		step->times[i].tv_sec = step_below(step, 1u << 31);
		step->times[i].tv_nsec = step_below(step, 1000000000);
		if (step_chance(step, 20))
			step->times[i].tv_nsec = UTIME_NOW;
		else if (step_chance(step, 20))
			step->times[i].tv_nsec = UTIME_OMIT;
	}
	step->actor->shared->given_atime =
		step->times[0].tv_nsec != UTIME_NOW && step->times[0].tv_nsec != UTIME_OMIT;
	return step_take_handle(step);
}

static int64_t run_futimens(Step *step, int world)
{
	return futimens(step->handle->fds[world], step->times);
}

/* Only some fields: the others may be asked for later, and must not be stale then. */
static bool prepare_statx(Step *step)
{
	static const int masks[] = { STATX_SIZE, STATX_MODE, STATX_NLINK, STATX_BASIC_STATS,
				     STATX_SIZE | STATX_UID };

	step->flags = masks[step_below(step, 5)];
	return step_take_handle(step);
}

static int64_t run_statx(Step *step, int world)
{
	struct statx attr;

	if (statx(step->handle->fds[world], "", AT_EMPTY_PATH, step->flags, &attr) < 0)
		return -1;
	if ((attr.stx_mask & step->flags) != (unsigned)step->flags)
		return -2;
	if (step->flags & STATX_SIZE)
		return attr.stx_size;
	return step->flags & STATX_MODE ? attr.stx_mode : attr.stx_nlink;
}

static bool prepare_stat(Step *step)
{
	take_file(step);
	return true;
}

static int64_t run_stat(Step *step, int world)
{
	struct stat attr;

	return fstatat(dir_fd(step, world), step->names->name, &attr, 0) < 0 ? -1 : attr.st_size;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static void replace_suffix(Step *step, const char *stem)
{
	static const char *const suffixes[] = { "seg", "seg", "tmp" };
	const FuzzConfig *config = step_config(step);

	snprintf(step->new_name, sizeof(step->new_name), "%s%u.%s", stem,
		 (unsigned)step_below(step, 2),
		 config->kind == KIND_PLAIN ? "dat" : suffixes[step_below(step, 3)]);
}

static bool prepare_rename(Step *step)
{
	take_file(step);
	if (step->names != step->actor->shared->files || !step->names->exists)
		return false;
	replace_suffix(step, "moved");
	step->name_after = step->new_name;
	return strcmp(step->new_name, step->names->name) != 0 &&
	       (!step->names->linked || strcmp(step->new_name, step->names->link) != 0);
}

static int64_t run_rename(Step *step, int world)
{
	return renameat(dir_fd(step, world), step->names->name, dir_fd(step, world),
			step->new_name);
}

static void done_rename(Step *step)
{
	if (step->actor->shared->outcomes[NATIVE].ret == 0)
		strcpy(step->names->name, step->new_name);
}

static bool prepare_link(Step *step)
{
	take_file(step);
	if (step->names != step->actor->shared->files || step->names->linked ||
	    !step->names->exists)
		return false;
	replace_suffix(step, "link");
	return strcmp(step->new_name, step->names->name) != 0;
}

static int64_t run_link(Step *step, int world)
{
	return linkat(dir_fd(step, world), step->names->name, dir_fd(step, world), step->new_name,
		      0);
}

static void done_link(Step *step)
{
	if (step->actor->shared->outcomes[NATIVE].ret < 0)
		return;
	step->names->linked = true;
	strcpy(step->names->link, step->new_name);
}

static bool prepare_unlink(Step *step)
{
	take_file(step);
	/* The last name goes more seldom: with it goes what the file has come to. */
	if (!step->names->linked && step_chance(step, 80))
		return false;
	step->name_after = step->names->linked ? step->names->link : NULL;
	return true;
}

static int64_t run_unlink(Step *step, int world)
{
	return unlinkat(dir_fd(step, world), step->names->name, 0);
}

static void done_unlink(Step *step)
{
	FileNames *files = step->actor->shared->files;

	if (step->actor->shared->outcomes[NATIVE].ret < 0)
		return;
	if (step->names->linked) {
		strcpy(step->names->name, step->names->link);
		step->names->linked = false;
		return;
	}
	file_names_reset(step_config(step), files, step->names - files);
}

static bool prepare_newer(Step *step)
{
	(void)step;
	return true;
}

/* A newer segment of the class is taken, and goes again. */
static int64_t run_newer(Step *step, int world)
{
	int fd = openat(dir_fd(step, world), "newer.seg", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			0600);

	if (fd < 0)
		return -1;
	close(fd);
	return unlinkat(dir_fd(step, world), "newer.seg", 0);
}

const OpType file_ops[] = {
	{ "open", 50, prepare_open, run_open, done_open },
	{ "close", 25, step_take_handle, run_close, NULL },
	{ "dup", 8, prepare_dup, run_dup, done_dup },
	{ "setfl_append", 5, prepare_setfl, run_setfl, done_setfl },
	{ "ftruncate", 25, prepare_ftruncate, run_ftruncate, NULL },
	{ "truncate", 10, prepare_truncate, run_truncate, NULL },
	{ "fallocate", 30, prepare_fallocate, run_fallocate, NULL },
	{ "fallocate_refused", 4, prepare_refused, run_refused, NULL },
	{ "fsync", 4, step_take_handle, run_fsync, NULL },
	{ "fdatasync", 6, step_take_handle, run_fdatasync, NULL },
	{ "fadvise", 8, prepare_advice, run_fadvise, NULL },
	{ "sync_range", 6, prepare_advice, run_sync_range, NULL },
	{ "fchmod", 8, prepare_fchmod, run_fchmod, NULL },
	{ "fchown", 5, prepare_fchown, run_fchown, NULL },
	{ "futimens", 8, prepare_futimens, run_futimens, NULL },
	{ "statx", 10, prepare_statx, run_statx, NULL },
	{ "stat", 12, prepare_stat, run_stat, NULL },
	{ "rename", 6, prepare_rename, run_rename, done_rename },
	{ "link", 5, prepare_link, run_link, done_link },
	{ "unlink", 6, prepare_unlink, run_unlink, done_unlink },
	{ "newer", 2, prepare_newer, run_newer, NULL },
};
const size_t n_file_ops = sizeof(file_ops) / sizeof(file_ops[0]);
const OpType *const open_op = &file_ops[0];
