// SPDX-License-Identifier: Apache-2.0
#include "fuzz/outcome.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void outcome_describe(const Outcome *outcome, char *text, size_t size)
{
	const char *name =
		outcome->error == ERROR_SIGBUS ? "SIGBUS" : strerrorname_np(outcome->error);

	if (outcome->ret == -1)
		snprintf(text, size, "-1 %s", name ? name : "?");
	else
		snprintf(text, size, "%lld", (long long)outcome->ret);
}

/* ---- stat -------------------------------------------------------------------------------------
 */

static int compare_times(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

static bool is_now(const Outcome *out, struct timespec time)
{
	return compare_times(time, out->start) >= 0 && compare_times(time, out->end) <= 0;
}

static const char *plain_fields_differ(const struct stat *native, const struct stat *mount)
{
	if (native->st_size != mount->st_size)
		return "st_size";
	if (native->st_mode != mount->st_mode)
		return "st_mode";
	if (native->st_uid != mount->st_uid)
		return "st_uid";
	if (native->st_gid != mount->st_gid)
		return "st_gid";
	if (native->st_nlink != mount->st_nlink)
		return "st_nlink";
	return NULL;
}

/* A time has moved in both worlds or in neither; to now, or to the same given one. */
static bool time_differs(const Outcome *native, const Outcome *mount, size_t field)
{
#define TIME_OF(attr) (*(const struct timespec *)((const char *)(attr) + field))
	struct timespec native_after = TIME_OF(&native->after),
			mount_after = TIME_OF(&mount->after);
	bool native_moved = compare_times(TIME_OF(&native->before), native_after) != 0;
	bool mount_moved = compare_times(TIME_OF(&mount->before), mount_after) != 0;
#undef TIME_OF

	if (native_moved != mount_moved)
		return true;
	if (!native_moved)
		return false;
	if (is_now(native, native_after))
		return !is_now(mount, mount_after);
	return compare_times(native_after, mount_after) != 0;
}

/* A live segment's ctime moves once more when it is sealed, which may be during any operation. */
static bool ctime_differs(const Shared *shared, const Outcome *native, const Outcome *mount)
{
	bool mount_moved = compare_times(mount->before.st_ctim, mount->after.st_ctim) != 0;
	bool may_be_live = shared->config.kind == KIND_APPEND || shared->config.kind == KIND_STREAM;

	if (may_be_live && mount_moved)
		return false;
	return time_differs(native, mount, offsetof(struct stat, st_ctim));
}

static const char *stat_differs(const Shared *shared)
{
	const Outcome *native = &shared->outcomes[NATIVE], *mount = &shared->outcomes[MOUNT];
	const char *field = plain_fields_differ(&native->before, &mount->before);

	if (!field)
		field = plain_fields_differ(&native->after, &mount->after);
	/* Nothing was there before or is after; or what is there is another file. */
	if (field || !shared->config.times || shared->loose_times || shared->late_times ||
	    native->before.st_ino == 0 || native->before.st_ino != native->after.st_ino)
		return field;
	if (shared->given_atime &&
	    compare_times(native->after.st_atim, mount->after.st_atim) != 0 && native->ret == 0)
		return "st_atime";
	if (time_differs(native, mount, offsetof(struct stat, st_mtim)))
		return "st_mtime";
	if (ctime_differs(shared, native, mount))
		return "st_ctime";
	return NULL;
}

static int show_stat(char *text, size_t size, const char *when, const struct stat *attr)
{
	return snprintf(
		text, size,
		" %s{size=%lld mode=%o uid=%u gid=%u nlink=%u mtime=%lld.%09ld ctime=%lld.%09ld}",
		when, (long long)attr->st_size, attr->st_mode, attr->st_uid, attr->st_gid,
		(unsigned)attr->st_nlink, (long long)attr->st_mtim.tv_sec, attr->st_mtim.tv_nsec,
		(long long)attr->st_ctim.tv_sec, attr->st_ctim.tv_nsec);
}

static const char *show_stats(const Shared *shared, const char *field, char *text, size_t size)
{
	int n = snprintf(text, size, "%s", field);

	for (int world = 0; world < N_WORLDS; world++) {
		n += snprintf(text + n, size - n,
			      "\n    %s:", world == NATIVE ? "native" : "mount");
		n += show_stat(text + n, size - n, "before", &shared->outcomes[world].before);
		n += show_stat(text + n, size - n, "after", &shared->outcomes[world].after);
	}
	return text;
}

/* ---- results ----------------------------------------------------------------------------------
 */

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}

static const char *show_data(const char *what, const uint8_t *native, const uint8_t *mount,
			     size_t n, long long base, char *text, size_t size)
{
	size_t at = first_difference(native, mount, n), n_differ = 0;

	for (size_t i = at; i < n; i++)
		n_differ += native[i] != mount[i];
	snprintf(text, size,
		 "data: %s: %zu of %zu bytes, the first at %lld: native %02x, mount %02x", what,
		 n_differ, n, base + (long long)at, native[at], mount[at]);
	return text;
}

const char *outcome_differs(const Shared *shared, char *text, size_t size)
{
	const Outcome *native = &shared->outcomes[NATIVE], *mount = &shared->outcomes[MOUNT];
	const char *field;
	char one[64], other[64];

	if (native->ret != mount->ret || native->error != mount->error) {
		outcome_describe(native, one, sizeof(one));
		outcome_describe(mount, other, sizeof(other));
		snprintf(text, size, "result: native %s, mount %s", one, other);
		return text;
	}
	if (native->n_data != mount->n_data) {
		snprintf(text, size, "bytes: native %zu, mount %zu", native->n_data, mount->n_data);
		return text;
	}
	if (memcmp(native->data, mount->data, native->n_data) != 0)
		return show_data("got", native->data, mount->data, native->n_data, 0, text, size);
	if (native->position != mount->position) {
		snprintf(text, size, "position: native %lld, mount %lld",
			 (long long)native->position, (long long)mount->position);
		return text;
	}
	field = native->has_stat ? stat_differs(shared) : NULL;
	return field ? show_stats(shared, field, text, size) : NULL;
}

/* ---- whole files ------------------------------------------------------------------------------
 */

static const char *read_differs(const char *name, const int *fds, off_t size_bytes, char *text,
				size_t size)
{
	static uint8_t native[65536], mount[sizeof(native)];

	/* Once beyond the end, too. */
	for (off_t at = 0; at <= size_bytes; at += sizeof(native)) {
		ssize_t n = pread(fds[NATIVE], native, sizeof(native), at);
		ssize_t m = pread(fds[MOUNT], mount, sizeof(mount), at);

		if (n != m) {
			snprintf(text, size, "%s: read at %lld: native %zd, mount %zd", name,
				 (long long)at, n, m);
			return text;
		}
		if (n > 0 && memcmp(native, mount, n) != 0)
			return show_data(name, native, mount, n, at, text, size);
	}
	return NULL;
}

static const char *mapped_differs(const char *name, const int *fds, off_t size_bytes, char *text,
				  size_t size)
{
	const char *why = NULL;
	uint8_t *at[N_WORLDS];

	if (size_bytes == 0)
		return NULL;
	for (int world = 0; world < N_WORLDS; world++)
		at[world] = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fds[world], 0);
	if (at[MOUNT] == MAP_FAILED) {
		snprintf(text, size, "%s: cannot be mapped: %s", name, strerror(errno));
		why = text;
	} else if (memcmp(at[NATIVE], at[MOUNT], size_bytes) != 0) {
		why = show_data(name, at[NATIVE], at[MOUNT], size_bytes, 0, text, size);
	}
	for (int world = 0; world < N_WORLDS; world++)
		if (at[world] != MAP_FAILED)
			munmap(at[world], size_bytes);
	return why;
}

static const char *file_differs(const Shared *shared, const char *name, char *text, size_t size)
{
	const char *why = NULL;
	struct stat attrs[N_WORLDS] = { 0 };
	int fds[N_WORLDS];

	for (int world = 0; world < N_WORLDS; world++) {
		fds[world] = openat(shared->config.dir_fds[world], name, O_RDONLY | O_CLOEXEC);
		if (fds[world] >= 0)
			fstat(fds[world], &attrs[world]);
	}
	if ((fds[NATIVE] < 0) != (fds[MOUNT] < 0)) {
		snprintf(text, size, "%s: cannot be opened: %s", name, strerror(errno));
		why = text;
	} else if (fds[NATIVE] >= 0) {
		why = plain_fields_differ(&attrs[NATIVE], &attrs[MOUNT]);
		if (why) {
			snprintf(text, size, "%s: %s: size native %lld, mount %lld", name, why,
				 (long long)attrs[NATIVE].st_size, (long long)attrs[MOUNT].st_size);
			why = text;
		}
		if (!why)
			why = read_differs(name, fds, attrs[NATIVE].st_size, text, size);
		if (!why)
			why = mapped_differs(name, fds, attrs[NATIVE].st_size, text, size);
	}
	for (int world = 0; world < N_WORLDS; world++)
		if (fds[world] >= 0)
			close(fds[world]);
	return why;
}

const char *files_differ(const Shared *shared, char *text, size_t size)
{
	const char *why = NULL;

	for (unsigned i = 0; i < N_FILES && !why; i++)
		why = file_differs(shared, shared->files[i].name, text, size);
	return why;
}
