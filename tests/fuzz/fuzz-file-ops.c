// SPDX-License-Identifier: Apache-2.0
/*
 * A differential fuzzer: the same random operations on files of a native directory and on files of
 * a mount, by three processes, every result compared: what the call returned, the bytes, the
 * position, and what stat says.
 *
 * What is known to differ, and how it is kept out of the comparison:
 *
 * Not of the contract
 * - Where a file has holes is the filesystem's affair. SEEK_DATA and SEEK_HOLE are held to their
 * word: what they call a hole reads as zero (ops-io.c).
 * - What a mapping shows beyond the end of the file, until the file grows. That it is zero then is
 * compared. (ops-map.c)
 * - Whether a store to a page that is dirty already moves times. The first one to a clean page
 * must. (ops-map.c)
 * - O_DIRECT that is not aligned, the rest of the buffer after a short direct read, and access
 * times but one just given by futimens.
 * - Offsets of lseek beyond what the source's filesystem can have: EINVAL natively; the kernel
 * knows no limit of FUSE. And a write there by a user loses the file's set-id bits before it fails:
 * the kernel asks for that first, and does not say for what. (ops-io.c) It asks as chown(-1, -1)
 * does, so that a user may do that to anybody's file that is open for writing. (ops-file.c)
 *
 * Passed through by the kernel
 * - It opens the backing file with the flags of open(2): O_APPEND taken away later by F_SETFL, or
 * for a write by RWF_NOAPPEND, appends all the same. Only tried without passthrough. (ops-file.c,
 * ops-io.c)
 * - COLLAPSE_RANGE and INSERT_RANGE, which FUSE does not pass on, must be refused. (ops-file.c)
 * - sync_file_range and posix_fadvise do nothing; only their results are compared. Late O_DIRECT,
 * RWF_DONTCACHE, RWF_ATOMIC and RWF_NOWAIT are not tried.
 * - S_ISGID of a file that its group may not execute: FUSE has nobody clear it. Not tried.
 * - Attributes that the kernel has cached do not see stores through a mapping: a mount with
 * attr_timeout above 0 needs --no-times.
 *
 * Through the daemon (passthrough=off): stores go to a cache of the kernel, and come late
 * - They move times late: not compared from the first store on. The daemon cannot tell what is not
 * a hole: not asked.
 * - Stores beyond the end of the file come back when it grows by fallocate: not made. (ops-map.c)
 *
 * Segments of kind append
 * - The file beneath does not shrink: private copies of pages, which natively go when the file is
 * cut, would stay. None are made. (ops-map.c)
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "fuzz/episode.h"

#define SHOWN_LINES 30

static const char usage[] =
	"usage: fuzz-file-ops --native DIR --mount DIR --kind plain|mapped|append|stream [OPTION...]\n"
	"  --native DIR      on a filesystem like the mount's source; it is emptied\n"
	"  --mount DIR       in the mount, where *.seg are segments of the kind; it is emptied\n"
	"  --capacity BYTES  size of the segments (default 262144)\n"
	"  --linger MS       wait a bit longer than that, at times, with everything closed\n"
	"  --ops N           so many operations (default 20000)\n"
	"  --seed N          (default: a random one)\n"
	"  --episode N       only this episode of the seed\n"
	"  --only N,N,...    and only these operations of it\n"
	"  --check-every N   compare whole files that often (default 250)\n"
	"  --no-times        do not compare times: the mount may be late with them\n"
	"  --through-daemon  the mount has passthrough=off\n"
	"  --mixed           some files are passed through, others not\n"
	"  --no-reduce       do not look for a smaller sequence that shows the same\n";

typedef struct Options {
	FuzzConfig config;
	uint64_t seed;
	unsigned n_ops;
	long episode;
	char *only;
	unsigned check_every;
	bool reduce;
} Options;

static _Noreturn void refuse(const char *what, const char *why)
{
	fprintf(stderr, "fuzz-file-ops: %s: %s\n%s", what, why, usage);
	exit(2);
}

static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fchmod(fd, 0777) < 0)
		refuse(path, strerror(errno));
	return fd;
}

static uint64_t parse_number(const char *name, const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 0);

	if (end == text || *end)
		refuse(name, "not a number");
	return number;
}

static SegmentKind parse_kind(const char *text)
{
	static const char *const names[] = { "plain", "mapped", "append", "stream" };

	for (int i = 0; i < 4; i++)
		if (strcmp(text, names[i]) == 0)
			return (SegmentKind)i;
	refuse("--kind", "unknown");
}

static void set_option(Options *options, const char *name, char *value)
{
	FuzzConfig *config = &options->config;

	if (strcmp(name, "native") == 0)
		config->dir_fds[NATIVE] = open_directory(value);
	else if (strcmp(name, "mount") == 0)
		config->dir_fds[MOUNT] = open_directory(value);
	else if (strcmp(name, "kind") == 0)
		config->kind = parse_kind(value);
	else if (strcmp(name, "capacity") == 0)
		config->capacity_bytes = parse_number(name, value);
	else if (strcmp(name, "linger") == 0)
		config->linger_ms = parse_number(name, value);
	else if (strcmp(name, "ops") == 0)
		options->n_ops = parse_number(name, value);
	else if (strcmp(name, "seed") == 0)
		options->seed = parse_number(name, value);
	else if (strcmp(name, "episode") == 0)
		options->episode = parse_number(name, value);
	else if (strcmp(name, "only") == 0)
		options->only = value;
	else if (strcmp(name, "check-every") == 0)
		options->check_every = parse_number(name, value);
	else if (strcmp(name, "no-times") == 0)
		config->times = false;
	else if (strcmp(name, "through-daemon") == 0)
		config->through_daemon = true;
	else if (strcmp(name, "mixed") == 0)
		config->through_daemon = config->also_passthrough = true;
	else
		options->reduce = false;
}

static Options parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "native", required_argument, NULL, 0 },
		{ "mount", required_argument, NULL, 0 },
		{ "kind", required_argument, NULL, 0 },
		{ "capacity", required_argument, NULL, 0 },
		{ "linger", required_argument, NULL, 0 },
		{ "ops", required_argument, NULL, 0 },
		{ "seed", required_argument, NULL, 0 },
		{ "episode", required_argument, NULL, 0 },
		{ "only", required_argument, NULL, 0 },
		{ "check-every", required_argument, NULL, 0 },
		{ "no-times", no_argument, NULL, 0 },
		{ "no-reduce", no_argument, NULL, 0 },
		{ "through-daemon", no_argument, NULL, 0 },
		{ "mixed", no_argument, NULL, 0 },
		{ NULL, 0, NULL, 0 },
	};
	Options options = {
		.config = { .capacity_bytes = 256 * 1024, .times = true, .dir_fds = { -1, -1 } },
		.n_ops = 20000,
		.episode = -1,
		.check_every = 250,
		.reduce = true,
	};
	int index;

	if (getrandom(&options.seed, 4, 0) != 4)
		abort();
	while ((index = -1, getopt_long(argc, argv, "", known, &index)) == 0)
		set_option(&options, known[index].name, optarg);
	if (index != -1 || optind < argc || options.config.dir_fds[NATIVE] < 0 ||
	    options.config.dir_fds[MOUNT] < 0 || options.check_every == 0)
		refuse("arguments", "see below");
	return options;
}

static void leave_out_others(Episode *episode, char *only)
{
	memset(episode->left_out, true, sizeof(episode->left_out));
	for (char *word = strtok(only, ","); word; word = strtok(NULL, ",")) {
		uint64_t index = parse_number("only", word);

		if (index >= EPISODE_OPS)
			refuse("only", "no such operation");
		episode->left_out[index] = false;
	}
}

static void report(Episode *episode, bool reduce)
{
	const char *separator = " --only ";

	episode_print(episode, SHOWN_LINES);
	printf("again: --seed %" PRIu64 " --episode %u\n", episode->seed, episode->number);
	fflush(stdout);
	if (!reduce)
		return;
	episode_reduce(episode);
	printf("reduced:\n");
	episode_print(episode, EPISODE_OPS);
	printf("again: --seed %" PRIu64 " --episode %u", episode->seed, episode->number);
	for (unsigned i = 0; i < episode->n_ops; i++) {
		if (episode->left_out[i])
			continue;
		printf("%s%u", separator, i);
		separator = ",";
	}
	printf("\n");
}

static bool run_all(const Options *options, Episode *episode)
{
	unsigned n_episodes = (options->n_ops + EPISODE_OPS - 1) / EPISODE_OPS;
	bool one = options->episode >= 0;

	episode->number = one ? options->episode : 0;
	for (unsigned i = 0; i < (one ? 1 : n_episodes); i++, episode->number++) {
		unsigned left = options->n_ops - i * EPISODE_OPS;

		episode->n_ops = one || left > EPISODE_OPS ? EPISODE_OPS : left;
		if (!episode_run(episode)) {
			report(episode, options->reduce);
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	Options options = parse_options(argc, argv);
	static Episode episode;
	bool ok;

	printf("seed %" PRIu64 "\n", options.seed);
	fflush(stdout);
	episode.seed = options.seed;
	episode.check_every = options.check_every;
	episode.shared = mmap(NULL, sizeof(*episode.shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (episode.shared == MAP_FAILED)
		abort();
	episode.shared->config = options.config;
	if (options.only)
		leave_out_others(&episode, options.only);
	episode.crew = crew_new(episode.shared);
	ok = run_all(&options, &episode);
	if (ok)
		printf("%u operations, no mismatch\n", options.n_ops);
	crew_free(episode.crew);
	return ok ? 0 : 1;
}
