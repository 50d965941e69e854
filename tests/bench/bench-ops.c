// SPDX-License-Identifier: Apache-2.0
/*
 * The timed loops of the benchmark, one operation per run:
 *
 *	bench-ops OPERATION [KEY=VALUE]... TARGET...
 *
 * It works on all targets in turn, a batch of operations on each, so that whatever else the machine
 * does meanwhile falls on all of them alike, and prints one line per target:
 *
 *	count=N total_ns=N p50_ns=N p99_ns=N p9999_ns=N max_ns=N
 *
 * With samples=1 it prints every sample instead, in ns, in ascending order, one a line.
 *
 * One clock reading ends an operation and begins the next: a store of 4 KiB takes 200 ns here, two
 * readings would be a quarter of it. What a batch leaves behind (open files) is cleared untimed,
 *and so is the flush at the end that keeps dirty pages from disturbing the next run.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S     1000000000ull
#define UNIT_BYTES   4096ul
#define RECORD_MAX   (1ul << 20)
#define BATCH_MAX    1024
#define TARGETS_MAX  8
#define DIRENT_BYTES 32768

typedef struct Options {
	/* Operations per target, and how many of them in a row. */
	size_t count;
	size_t batch;
	/* Of the file; what a file that is shorter is brought to, and by which call. */
	size_t size_bytes;
	const char *grow;
	/* Bytes per write of `fill`. */
	size_t chunk_bytes;
	/* `fill` begins with fallocate, as an application that preallocates does. */
	bool fallocate;
	/* Of one record of `append`, `put` and `get`, and what its last one is. */
	size_t unit_bytes;
	int last_byte;
	/* Names come again after that many. */
	size_t n_files;
	/* `stat` asks the server even where the kernel has valid attributes. */
	bool force;
	/* `readdir` is each time of a directory that has changed. */
	bool changed;
	/* Every sample is reported, not the summary. */
	bool samples;
	/* Names are TARGET, six digits, suffix. */
	const char *suffix;
} Options;

typedef struct Target {
	const char *path;
	/* The file, or the directory of the names. */
	int fd;
	char *map;
	size_t map_bytes;
	uint64_t *samples_ns;
	size_t n_samples;
	uint64_t total_ns;
	int batch_fds[BATCH_MAX];
	size_t n_batch_fds;
} Target;

typedef struct Operation {
	const char *name;
	void (*prepare)(const Options *options, Target *target);
	void (*run)(const Options *options, Target *target, size_t nth);
	/* One sample is a whole batch, divided: for what takes little longer than reading the
	 * clock. */
	bool sample_is_batch;
	bool flush;
} Operation;

static char page[UNIT_BYTES];
static char record[RECORD_MAX];

static _Noreturn void __attribute__((format(printf, 1, 2))) die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fputs("bench-ops: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- preparing a target, untimed --------------------------------------------------------- */

static void file_prepare(const Options *options, Target *target)
{
	struct stat status;
	int error = 0;

	target->fd = open(target->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (target->fd < 0 || fstat(target->fd, &status) < 0)
		die("open %s", target->path);
	if (!options->grow || (size_t)status.st_size >= options->size_bytes)
		return;
	if (!strcmp(options->grow, "ftruncate")) {
		if (ftruncate(target->fd, (off_t)options->size_bytes) < 0)
			error = errno;
	} else {
		error = posix_fallocate(target->fd, 0, (off_t)options->size_bytes);
	}
	if (error) {
		errno = error;
		die("%s %s", options->grow, target->path);
	}
}

static void append_prepare(const Options *options, Target *target)
{
	(void)options;
	target->fd = open(target->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (target->fd < 0)
		die("open %s", target->path);
}

static void map_prepare(const Options *options, Target *target)
{
	file_prepare(options, target);
	target->map_bytes = options->size_bytes;
	target->map =
		mmap(NULL, target->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, target->fd, 0);
	if (target->map == MAP_FAILED)
		die("mmap %s", target->path);
}

/* Opening the directory has its path looked up, and the name that is not there wakes the server and
 * has the calls bound: a single timed operation must not pay for being the first. */
static void names_prepare(const Options *options, Target *target)
{
	char *slash = strrchr(target->path, '/');

	(void)options;
	if (!slash) {
		errno = EINVAL;
		die("%s has no directory", target->path);
	}
	*slash = '\0';
	target->fd = open(target->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (target->fd < 0)
		die("open %s", target->path);
	*slash = '/';
	if (openat(target->fd, "no-such-name", O_RDWR | O_CLOEXEC) >= 0 || errno != ENOENT)
		die("open no-such-name in %s", target->path);
}

/* ---- the operations ---------------------------------------------------------------------- */

static void name_nth(const Options *options, const Target *target, size_t nth, char *ret_name,
		     size_t name_bytes)
{
	snprintf(ret_name, name_bytes, "%s%06zu%s", strrchr(target->path, '/') + 1,
		 nth % options->n_files, options->suffix);
}

static void create_run(const Options *options, Target *target, size_t nth)
{
	char name[256];
	int fd;

	name_nth(options, target, nth, name, sizeof(name));
	fd = openat(target->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		die("create %s in %s", name, target->path);
	target->batch_fds[target->n_batch_fds++] = fd;
}

/* Opens, does something to, and closes the nth file: ends the run if that fails. */
static int open_nth(const Options *options, const Target *target, size_t nth, int flags)
{
	char name[256];
	int fd;

	name_nth(options, target, nth, name, sizeof(name));
	fd = openat(target->fd, name, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		die("open %s in %s", name, target->path);
	return fd;
}

static void put_run(const Options *options, Target *target, size_t nth)
{
	int fd = open_nth(options, target, nth, O_WRONLY);

	if (write(fd, record, options->unit_bytes) != (ssize_t)options->unit_bytes)
		die("write in %s", target->path);
	close(fd);
}

static void get_run(const Options *options, Target *target, size_t nth)
{
	static char buffer[RECORD_MAX];
	int fd = open_nth(options, target, nth, O_RDONLY);

	if (read(fd, buffer, options->unit_bytes) != (ssize_t)options->unit_bytes)
		die("read in %s", target->path);
	close(fd);
}

static void unlink_run(const Options *options, Target *target, size_t nth)
{
	char name[256];

	name_nth(options, target, nth, name, sizeof(name));
	if (unlinkat(target->fd, name, 0) < 0)
		die("unlink %s in %s", name, target->path);
}

/* A file that comes and goes. */
static void churn_run(const Options *options, Target *target, size_t nth)
{
	close(open_nth(options, target, nth, O_RDWR | O_CREAT | O_EXCL));
	unlink_run(options, target, nth);
}

static void stat_run(const Options *options, Target *target, size_t nth)
{
	char name[256];
	struct statx status;

	name_nth(options, target, nth, name, sizeof(name));
	if (statx(target->fd, name, options->force ? AT_STATX_FORCE_SYNC : AT_STATX_SYNC_AS_STAT,
		  STATX_BASIC_STATS, &status) < 0)
		die("stat %s in %s", name, target->path);
}

static void change_directory(const Target *target)
{
	int fd = openat(target->fd, "changed", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0 || close(fd) < 0 || unlinkat(target->fd, "changed", 0) < 0)
		die("change %s", target->path);
}

static void readdir_run(const Options *options, Target *target, size_t nth)
{
	static char entries[DIRENT_BYTES] __attribute__((aligned(8)));
	long n;
	int fd;

	(void)options;
	(void)nth;
	fd = openat(target->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die("open %s", target->path);
	do
		n = syscall(SYS_getdents64, fd, entries, sizeof(entries));
	while (n > 0);
	if (n < 0)
		die("readdir %s", target->path);
	close(fd);
}

static size_t unit_offset(const Options *options, size_t nth)
{
	size_t n_units = options->size_bytes / UNIT_BYTES;

	return nth % n_units * UNIT_BYTES;
}

static void store_run(const Options *options, Target *target, size_t nth)
{
	memcpy(target->map + unit_offset(options, nth), page, UNIT_BYTES);
}

static void write_run(const Options *options, Target *target, size_t nth)
{
	off_t offset = (off_t)unit_offset(options, nth);

	if (pwrite(target->fd, page, UNIT_BYTES, offset) != (ssize_t)UNIT_BYTES)
		die("write %s", target->path);
}

static void sync_run(const Options *options, Target *target, size_t nth)
{
	write_run(options, target, nth);
	if (fdatasync(target->fd) < 0)
		die("fdatasync %s", target->path);
}

static void append_run(const Options *options, Target *target, size_t nth)
{
	(void)nth;
	if (write(target->fd, record, options->unit_bytes) != (ssize_t)options->unit_bytes)
		die("append to %s", target->path);
}

static void append_sync_run(const Options *options, Target *target, size_t nth)
{
	append_run(options, target, nth);
	if (fdatasync(target->fd) < 0)
		die("fdatasync %s", target->path);
}

static void no_prepare(const Options *options, Target *target)
{
	(void)options;
	(void)target;
}

/* What an application that wants a prepared file does for itself. */
static void fill_run(const Options *options, Target *target, size_t nth)
{
	char *zeros = calloc(1, options->chunk_bytes);
	int fd = open(target->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	(void)nth;
	if (!zeros || fd < 0)
		die("create %s", target->path);
	if (options->fallocate && fallocate(fd, 0, 0, (off_t)options->size_bytes) < 0)
		die("fallocate %s", target->path);
	for (size_t done = 0; done < options->size_bytes; done += options->chunk_bytes) {
		ssize_t n = write(fd, zeros, options->chunk_bytes);
		if (n != (ssize_t)options->chunk_bytes)
			die("write %s", target->path);
	}
	if (fsync(fd) < 0)
		die("fsync %s", target->path);
	target->batch_fds[target->n_batch_fds++] = fd;
	free(zeros);
}

static const Operation operations[] = {
	{ .name = "create", .prepare = names_prepare, .run = create_run },
	{ .name = "churn", .prepare = names_prepare, .run = churn_run },
	{ .name = "put", .prepare = names_prepare, .run = put_run },
	{ .name = "get", .prepare = names_prepare, .run = get_run },
	{ .name = "unlink", .prepare = names_prepare, .run = unlink_run },
	{ .name = "stat", .prepare = names_prepare, .run = stat_run },
	{ .name = "readdir", .prepare = names_prepare, .run = readdir_run },
	{ .name = "store", .prepare = map_prepare, .run = store_run, .flush = true },
	{ .name = "write",
	  .prepare = file_prepare,
	  .run = write_run,
	  .sample_is_batch = true,
	  .flush = true },
	{ .name = "sync", .prepare = file_prepare, .run = sync_run, .flush = true },
	{ .name = "append",
	  .prepare = append_prepare,
	  .run = append_run,
	  .sample_is_batch = true,
	  .flush = true },
	{ .name = "append_sync", .prepare = append_prepare, .run = append_sync_run, .flush = true },
	{ .name = "fill", .prepare = no_prepare, .run = fill_run },
};

/* ---- running and reporting --------------------------------------------------------------- */

static void target_batch(const Options *options, const Operation *operation, Target *target,
			 size_t first, size_t n)
{
	uint64_t begin = now_ns(), last = begin, now;

	for (size_t i = 0; i < n; i++) {
		if (options->changed) {
			change_directory(target);
			last = now_ns();
		}
		operation->run(options, target, first + i);
		if (operation->sample_is_batch)
			continue;
		now = now_ns();
		target->samples_ns[target->n_samples++] = now - last;
		last = now;
	}
	now = now_ns();
	target->total_ns += now - begin;
	if (operation->sample_is_batch)
		target->samples_ns[target->n_samples++] = (now - begin) / n;
	while (target->n_batch_fds > 0)
		close(target->batch_fds[--target->n_batch_fds]);
}

static void run(const Options *options, const Operation *operation, Target *targets,
		size_t n_targets)
{
	for (size_t done = 0, n; done < options->count; done += n) {
		n = options->count - done;
		if (n > options->batch)
			n = options->batch;
		for (size_t t = 0; t < n_targets; t++)
			target_batch(options, operation, &targets[t], done, n);
	}
}

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The smallest sample that at least `per_10000` of 10000 do not exceed; `target` is sorted. */
static uint64_t target_quantile(const Target *target, size_t per_10000)
{
	size_t rank = (target->n_samples * per_10000 + 9999) / 10000;

	return target->samples_ns[rank > 0 ? rank - 1 : 0];
}

static void target_report(const Options *options, Target *target)
{
	qsort(target->samples_ns, target->n_samples, sizeof(*target->samples_ns), compare_ns);
	if (options->samples) {
		for (size_t i = 0; i < target->n_samples; i++)
			printf("%" PRIu64 "\n", target->samples_ns[i]);
		return;
	}
	printf("count=%zu total_ns=%" PRIu64 " p50_ns=%" PRIu64 " p99_ns=%" PRIu64
	       " p9999_ns=%" PRIu64 " max_ns=%" PRIu64 "\n",
	       options->count, target->total_ns, target_quantile(target, 5000),
	       target_quantile(target, 9900), target_quantile(target, 9999),
	       target->samples_ns[target->n_samples - 1]);
}

static void target_finish(const Operation *operation, Target *target)
{
	if (target->map && munmap(target->map, target->map_bytes) < 0)
		die("munmap %s", target->path);
	if (operation->flush && fsync(target->fd) < 0)
		die("fsync %s", target->path);
	if (target->fd >= 0)
		close(target->fd);
	free(target->samples_ns);
}

/* ---- the command line -------------------------------------------------------------------- */

static size_t parse_number(const char *key, const char *value, size_t min, size_t max)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (errno || end == value || *end || number < min || number > max) {
		errno = EINVAL;
		die("%s=%s is not a number from %zu to %zu", key, value, min, max);
	}
	return (size_t)number;
}

static size_t parse_size(const char *key, const char *value, size_t max)
{
	return parse_number(key, value, 1, max);
}

/* False if `argument` is not KEY=VALUE but the first target. */
static bool option_set(Options *options, const char *argument)
{
	const char *equals = strchr(argument, '=');
	const char *value = equals + 1;
	size_t length = equals ? (size_t)(equals - argument) : 0;
	char key[32];

	if (!equals || length >= sizeof(key) || memchr(argument, '/', length))
		return false;
	memcpy(key, argument, length);
	key[length] = '\0';
	if (!strcmp(key, "count"))
		options->count = parse_size(key, value, 1 << 30);
	else if (!strcmp(key, "files"))
		options->n_files = parse_size(key, value, 1 << 30);
	else if (!strcmp(key, "batch"))
		options->batch = parse_size(key, value, BATCH_MAX);
	else if (!strcmp(key, "size"))
		options->size_bytes = parse_size(key, value, 1ul << 40);
	else if (!strcmp(key, "chunk"))
		options->chunk_bytes = parse_size(key, value, 1 << 30);
	else if (!strcmp(key, "unit"))
		options->unit_bytes = parse_size(key, value, RECORD_MAX);
	else if (!strcmp(key, "last_byte"))
		options->last_byte = (int)parse_number(key, value, 0, UINT8_MAX);
	else if (!strcmp(key, "grow"))
		options->grow = value;
	else if (!strcmp(key, "suffix"))
		options->suffix = value;
	else if (!strcmp(key, "fallocate"))
		options->fallocate = true;
	else if (!strcmp(key, "force"))
		options->force = true;
	else if (!strcmp(key, "changed"))
		options->changed = true;
	else if (!strcmp(key, "samples"))
		options->samples = true;
	else {
		errno = EINVAL;
		die("%s", argument);
	}
	return true;
}

static void options_check(const Options *options)
{
	errno = EINVAL;
	if (options->size_bytes < UNIT_BYTES || options->size_bytes % options->chunk_bytes)
		die("size is not a multiple of chunk and at least %lu", UNIT_BYTES);
	if (options->grow && strcmp(options->grow, "ftruncate") &&
	    strcmp(options->grow, "fallocate"))
		die("grow=%s is neither ftruncate nor fallocate", options->grow);
}

static const Operation *operation_find(const char *name)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (!strcmp(operations[i].name, name))
			return &operations[i];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static Target targets[TARGETS_MAX];
	Options options = { .count = 1,
			    .batch = BATCH_MAX,
			    .n_files = SIZE_MAX,
			    .size_bytes = UNIT_BYTES,
			    .chunk_bytes = UNIT_BYTES,
			    .unit_bytes = UNIT_BYTES,
			    .last_byte = 'w',
			    .suffix = "" };
	const Operation *operation = argc > 1 ? operation_find(argv[1]) : NULL;
	int first = 2;
	size_t n_targets;

	while (operation && first < argc && option_set(&options, argv[first]))
		first++;
	n_targets = argc > first ? (size_t)(argc - first) : 0;
	if (!operation || n_targets < 1 || n_targets > TARGETS_MAX) {
		fprintf(stderr, "usage: bench-ops OPERATION [KEY=VALUE]... TARGET...\n");
		return 2;
	}
	options_check(&options);
	memset(page, 'w', sizeof(page));
	memset(record, 'w', sizeof(record));
	record[options.unit_bytes - 1] = (char)options.last_byte;
	for (size_t t = 0; t < n_targets; t++) {
		targets[t].path = argv[first + (int)t];
		targets[t].fd = -1;
		targets[t].samples_ns = calloc(options.count, sizeof(*targets[t].samples_ns));
		if (!targets[t].samples_ns)
			die("samples");
		/* Touched now: the first samples must not pay for the pages of their own array. */
		memset(targets[t].samples_ns, 1, options.count * sizeof(*targets[t].samples_ns));
		operation->prepare(&options, &targets[t]);
	}
	run(&options, operation, targets, n_targets);
	for (size_t t = 0; t < n_targets; t++) {
		target_report(&options, &targets[t]);
		target_finish(operation, &targets[t]);
	}
	return 0;
}
