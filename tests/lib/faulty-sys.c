// SPDX-License-Identifier: Apache-2.0
/*
 * A preloaded object that delays or fails chosen system calls of the process, as a rule file says:
 *
 *	LD_PRELOAD=faulty-sys.so WARMFS_FAULTS=/some/rules command...
 *
 * One rule a line, empty lines and `#` comments aside:
 *
 *	CALL [errno=NAME|NUMBER] [delay_ms=N|hold] [after=N] [count=N] [path=SUBSTRING] [len=N]
 *
 * CALL is the plain name (`pwrite`, `fallocate`, never `pwrite64`). A call matches if its
 *descriptor's path (or one of its path arguments) contains `path` and its length argument is `len`.
 *The first `after` matches pass; then `count` of them (all, if not given) are delayed, then failed
 *with `errno`. `delay_ms=hold` waits until the rule file changes. A rule with neither delay nor
 *errno only reports.
 *
 * The file is looked at on every call and read again when it was replaced or changed; that ends
 *delays and starts all counts anew. Each time a rule applies, a line `CALL PATH` is appended to the
 *file RULES.hits, before the delay, so that a test can wait for it.
 *
 * Rules are protected by one mutex, never held during a delay or a call. Nothing is allocated.
 */

/* Both the 32-bit names and the 64-bit ones are defined below, so no name may be redirected. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define EXPORT	  __attribute__((visibility("default")))
#define MAX_RULES 64
#define HOLD	  (-1L)
/* A held call notices a new rule file this fast. */
#define SLICE_NS (5L * 1000 * 1000)

typedef struct Rule {
	char call[32];
	char path[256];
	int error;
	long delay_ms;
	long after;
	/* -1: no bound. */
	long count;
	/* -1: any. */
	long long len;
	long matches;
} Rule;

/* What one call has to show to the rules. */
typedef struct Call {
	const char *name;
	int fd;
	const char *path;
	const char *path2;
	long long len;
} Call;

typedef struct Version {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
} Version;

/* The preloaded object has no context of its own to hang this on. Protected by lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Rule rules[MAX_RULES];
static int n_rules;
static Version version;
static bool loaded;

static const struct {
	const char *name;
	int error;
} errors[] = {
	{ "EPERM", EPERM },	      { "ENOENT", ENOENT },
	{ "EINTR", EINTR },	      { "EIO", EIO },
	{ "EAGAIN", EAGAIN },	      { "ENOMEM", ENOMEM },
	{ "EACCES", EACCES },	      { "EBUSY", EBUSY },
	{ "EEXIST", EEXIST },	      { "EXDEV", EXDEV },
	{ "EINVAL", EINVAL },	      { "ENFILE", ENFILE },
	{ "EMFILE", EMFILE },	      { "EFBIG", EFBIG },
	{ "ENOSPC", ENOSPC },	      { "EROFS", EROFS },
	{ "ENOSYS", ENOSYS },	      { "EDQUOT", EDQUOT },
	{ "EOPNOTSUPP", EOPNOTSUPP },
};

static int error_from_string(const char *text)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(errors[i].name, text) == 0)
			return errors[i].error;
	return atoi(text);
}

static void rule_set(Rule *rule, const char *word)
{
	const char *value = strchr(word, '=');
	size_t length = value ? (size_t)(value - word) : 0;

	if (!value) {
		snprintf(rule->call, sizeof(rule->call), "%s", word);
		return;
	}
	value++;
	if (strncmp(word, "errno", length) == 0)
		rule->error = error_from_string(value);
	else if (strncmp(word, "delay_ms", length) == 0)
		rule->delay_ms = strcmp(value, "hold") == 0 ? HOLD : atol(value);
	else if (strncmp(word, "after", length) == 0)
		rule->after = atol(value);
	else if (strncmp(word, "count", length) == 0)
		rule->count = atol(value);
	else if (strncmp(word, "len", length) == 0)
		rule->len = atoll(value);
	else if (strncmp(word, "path", length) == 0)
		snprintf(rule->path, sizeof(rule->path), "%s", value);
}

static void rules_parse_locked(char *text)
{
	char *line_state, *word_state;

	n_rules = 0;
	for (char *line = strtok_r(text, "\n", &line_state); line && n_rules < MAX_RULES;
	     line = strtok_r(NULL, "\n", &line_state)) {
		Rule *rule = &rules[n_rules];
		char *word = strtok_r(line, " \t", &word_state);

		if (!word || word[0] == '#')
			continue;
		*rule = (Rule){ .count = -1, .len = -1 };
		for (; word; word = strtok_r(NULL, " \t", &word_state))
			rule_set(rule, word);
		n_rules++;
	}
}

/* The file's version, zeros if it is not there. By raw calls: the wrappers may be ours. */
static Version version_read(const char *file)
{
	struct stat status;

	if (syscall(SYS_newfstatat, AT_FDCWD, file, &status, 0) < 0)
		return (Version){ 0 };
	return (Version){
		.dev = status.st_dev,
		.ino = status.st_ino,
		.size = status.st_size,
		.mtime = status.st_mtim,
	};
}

static bool version_equal(const Version *a, const Version *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static void rules_refresh_locked(const char *file)
{
	/* Static for its size, protected by lock like the rules. */
	static char text[8192];
	Version now = version_read(file);
	ssize_t length = 0;
	int fd;

	if (loaded && version_equal(&now, &version))
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		length = syscall(SYS_read, fd, text, sizeof(text) - 1);
		syscall(SYS_close, fd);
	}
	text[length > 0 ? length : 0] = '\0';
	rules_parse_locked(text);
	version = now;
	loaded = true;
}

/* Where the call goes, for rules with a path and for the report. */
static void call_describe(const Call *call, char *ret_text, size_t size)
{
	char link[64];
	ssize_t length = 0;

	if (call->path) {
		snprintf(ret_text, size, "%s %s", call->path, call->path2 ? call->path2 : "");
		return;
	}
	if (call->fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", call->fd);
		length = syscall(SYS_readlink, link, ret_text, size - 1);
	}
	ret_text[length > 0 ? length : 0] = '\0';
}

static bool rule_applies_locked(Rule *rule, const Call *call, const char *where)
{
	if (strcmp(rule->call, call->name) != 0)
		return false;
	if (rule->path[0] && !strstr(where, rule->path))
		return false;
	if (rule->len >= 0 && rule->len != call->len)
		return false;
	rule->matches++;
	if (rule->matches <= rule->after)
		return false;
	return rule->count < 0 || rule->matches <= rule->after + rule->count;
}

static void hit_report(const char *file, const Call *call, const char *where)
{
	char name[512], line[1024];
	int length, fd;

	snprintf(name, sizeof(name), "%s.hits", file);
	fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
			  0644);
	if (fd < 0)
		return;
	length = snprintf(line, sizeof(line), "%s %s\n", call->name, where);
	if (length > 0 && (size_t)length < sizeof(line))
		syscall(SYS_write, fd, line, (size_t)length);
	syscall(SYS_close, fd);
}

/* Waits delay_ms, or until the rules are no longer those of `since`. */
static void delay(const char *file, long delay_ms, const Version *since)
{
	struct timespec slice = { .tv_nsec = SLICE_NS };
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		Version current = version_read(file);

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (!version_equal(&current, since))
			return;
		if (delay_ms != HOLD &&
		    (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >=
			    delay_ms)
			return;
		nanosleep(&slice, NULL);
	}
}

/* 0, or the errno to fail with. */
static int call_judge(const Call *call)
{
	const char *file = getenv("WARMFS_FAULTS");
	int saved = errno, error = 0;
	long delay_ms = 0;
	bool applies = false;
	Version since;
	char where[1024];

	if (!file)
		return 0;
	call_describe(call, where, sizeof(where));
	pthread_mutex_lock(&lock);
	rules_refresh_locked(file);
	for (int i = 0; i < n_rules && !applies; i++) {
		applies = rule_applies_locked(&rules[i], call, where);
		if (applies) {
			error = rules[i].error;
			delay_ms = rules[i].delay_ms;
		}
	}
	since = version;
	pthread_mutex_unlock(&lock);
	if (applies)
		hit_report(file, call, where);
	if (delay_ms != 0)
		delay(file, delay_ms, &since);
	errno = saved;
	return error;
}

#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

#define JUDGE(...)                                               \
	do {                                                     \
		int error_ = call_judge(&(Call){ __VA_ARGS__ }); \
		if (error_ != 0) {                               \
			errno = error_;                          \
			return -1;                               \
		}                                                \
	} while (0)

EXPORT ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	JUDGE(.name = "pread", .fd = fd, .len = (long long)size);
	return NEXT(pread)(fd, buffer, size, offset);
}

EXPORT ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
	JUDGE(.name = "pread", .fd = fd, .len = (long long)size);
	return NEXT(pread64)(fd, buffer, size, offset);
}

EXPORT ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
	JUDGE(.name = "pwrite", .fd = fd, .len = (long long)size);
	return NEXT(pwrite)(fd, buffer, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
	JUDGE(.name = "pwrite", .fd = fd, .len = (long long)size);
	return NEXT(pwrite64)(fd, buffer, size, offset);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t length)
{
	JUDGE(.name = "fallocate", .fd = fd, .len = length);
	return NEXT(fallocate)(fd, mode, offset, length);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	JUDGE(.name = "fallocate", .fd = fd, .len = length);
	return NEXT(fallocate64)(fd, mode, offset, length);
}

/* These return the error instead of setting errno. */
EXPORT int posix_fallocate(int fd, off_t offset, off_t length)
{
	int error = call_judge(&(Call){ .name = "fallocate", .fd = fd, .len = length });

	return error != 0 ? error : NEXT(posix_fallocate)(fd, offset, length);
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	int error = call_judge(&(Call){ .name = "fallocate", .fd = fd, .len = length });

	return error != 0 ? error : NEXT(posix_fallocate64)(fd, offset, length);
}

EXPORT int fsync(int fd)
{
	JUDGE(.name = "fsync", .fd = fd, .len = -1);
	return NEXT(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
	JUDGE(.name = "fdatasync", .fd = fd, .len = -1);
	return NEXT(fdatasync)(fd);
}

EXPORT int ftruncate(int fd, off_t length)
{
	JUDGE(.name = "ftruncate", .fd = fd, .len = length);
	return NEXT(ftruncate)(fd, length);
}

EXPORT int ftruncate64(int fd, off64_t length)
{
	JUDGE(.name = "ftruncate", .fd = fd, .len = length);
	return NEXT(ftruncate64)(fd, length);
}

/* The C library's allocator and loader do not come through here, but a sanitizer's may, before
 * dlsym works. */
EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	int error =
		fd < 0 ? 0
		       : call_judge(&(Call){ .name = "mmap", .fd = fd, .len = (long long)length });

	if (error != 0) {
		errno = error;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return mmap(address, length, protection, flags, fd, offset);
}

/* There is no descriptor here: a rule with a path never matches. */
EXPORT int madvise(void *address, size_t length, int advice)
{
	JUDGE(.name = "madvise", .fd = -1, .len = (long long)length);
	return (int)syscall(SYS_madvise, address, length, advice);
}

EXPORT int close(int fd)
{
	JUDGE(.name = "close", .fd = fd, .len = -1);
	return (int)syscall(SYS_close, fd);
}

EXPORT int renameat2(int old_dir, const char *old_path, int new_dir, const char *new_path,
		     unsigned flags)
{
	JUDGE(.name = "renameat2", .fd = old_dir, .path = old_path, .path2 = new_path, .len = -1);
	return NEXT(renameat2)(old_dir, old_path, new_dir, new_path, flags);
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
	JUDGE(.name = "unlinkat", .fd = dir, .path = path, .len = -1);
	return NEXT(unlinkat)(dir, path, flags);
}

EXPORT int fchown(int fd, uid_t owner, gid_t group)
{
	JUDGE(.name = "fchown", .fd = fd, .len = -1);
	return NEXT(fchown)(fd, owner, group);
}

EXPORT int fchmod(int fd, mode_t mode)
{
	JUDGE(.name = "fchmod", .fd = fd, .len = -1);
	return NEXT(fchmod)(fd, mode);
}

/* Of the descriptor, if the path is empty. */
EXPORT int fstatat(int dir, const char *path, struct stat *status, int flags)
{
	JUDGE(.name = "fstatat", .fd = dir, .path = *path ? path : NULL, .len = -1);
	return NEXT(fstatat)(dir, path, status, flags);
}

EXPORT int fstatat64(int dir, const char *path, struct stat64 *status, int flags)
{
	JUDGE(.name = "fstatat", .fd = dir, .path = *path ? path : NULL, .len = -1);
	return NEXT(fstatat64)(dir, path, status, flags);
}

EXPORT ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
	JUDGE(.name = "getxattr", .fd = -1, .path = path, .len = (long long)size);
	return NEXT(getxattr)(path, name, value, size);
}

EXPORT ssize_t listxattr(const char *path, char *list, size_t size)
{
	JUDGE(.name = "listxattr", .fd = -1, .path = path, .len = (long long)size);
	return NEXT(listxattr)(path, list, size);
}

EXPORT int fstatvfs(int fd, struct statvfs *status)
{
	JUDGE(.name = "fstatvfs", .fd = fd, .len = -1);
	return NEXT(fstatvfs)(fd, status);
}

EXPORT int fstatvfs64(int fd, struct statvfs64 *status)
{
	JUDGE(.name = "fstatvfs", .fd = fd, .len = -1);
	return NEXT(fstatvfs64)(fd, status);
}

static mode_t mode_from(int flags, va_list *args)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(*args, mode_t) : 0;
}

#define OPENAT(function)                                                     \
	EXPORT int function(int dir, const char *path, int flags, ...)       \
	{                                                                    \
		va_list args;                                                \
		mode_t mode;                                                 \
                                                                             \
		va_start(args, flags);                                       \
		mode = mode_from(flags, &args);                              \
		va_end(args);                                                \
		JUDGE(.name = "openat", .fd = dir, .path = path, .len = -1); \
		return NEXT(function)(dir, path, flags, mode);               \
	}

OPENAT(openat)
OPENAT(openat64)

/* What a fortified build calls when it passes no mode. */
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	return openat64(dir, path, flags);
}

/* openat2 has no wrapper in the C library; everything else passes unseen. */
EXPORT long syscall(long number, ...)
{
	long (*next)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	va_list args;
	long a[6];

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_openat2)
		JUDGE(.name = "openat2", .fd = (int)a[0], .path = (const char *)a[1], .len = -1);
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
