// SPDX-License-Identifier: Apache-2.0
/*
 * Several processes that do what can be done with files, at the same time, in one directory, and know what must be in
 * them: each has files of its own (private-file.c), and stripes and records in files of all (shared-file.c). One more
 * makes, replaces and removes files without end, so that the pool is always at work.
 *
 * It passes on every sound filesystem. What a process does follows from the seed; how far it comes, from the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress/private-file.h"
#include "stress/shared-file.h"

#define MAX_WORKERS 16
#define FILES_EACH 3

static const char usage[] =
	"usage: exerciser --dir DIR [OPTION...]\n"
	"  --dir DIR            an empty directory\n"
	"  --kind SUFFIX:BYTES  new files with such names are so long, and zeroes; several times. Without it, any are empty\n"
	"  --processes N        (default 3) and one that makes and removes files\n"
	"  --seconds N          (default 5)\n"
	"  --seed N             (default: a random one)\n"
	"  --copy-is-refused    copy_file_range may fail with EINVAL\n";

/* What the processes tell each other. */
typedef struct Board {
	atomic_bool stop;
	atomic_uint_fast64_t n_ops;
	/* By kind and process. */
	uint64_t n_records[MAX_KINDS][MAX_WORKERS];
} Board;

static _Noreturn void refuse(const char *what)
{
	fprintf(stderr, "exerciser: %s\n%s", what, usage);
	exit(2);
}

static uint64_t parse_number(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 0);

	if (end == text || *end)
		refuse(text);
	return number;
}

static void add_kind(Setup *setup, char *text)
{
	char *colon = strchr(text, ':');

	if (!colon || setup->n_kinds == MAX_KINDS)
		refuse(text);
	*colon = '\0';
	setup->kinds[setup->n_kinds++] = (FileKind){ .suffix = text, .born_bytes = (off_t)parse_number(colon + 1) };
}

static void parse_options(int argc, char **argv, Setup *setup)
{
	static const struct option known[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "kind", required_argument, NULL, 'k' },
		{ "processes", required_argument, NULL, 'p' },
		{ "seconds", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 's' },
		{ "copy-is-refused", no_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (letter == 'd')
			setup->directory = optarg;
		else if (letter == 'k')
			add_kind(setup, optarg);
		else if (letter == 'p')
			setup->n_workers = (unsigned)parse_number(optarg);
		else if (letter == 't')
			setup->seconds = (unsigned)parse_number(optarg);
		else if (letter == 's')
			setup->seed = parse_number(optarg);
		else if (letter == 'c')
			setup->copy_is_refused = true;
		else
			refuse("see below");
	}
	if (optind < argc || setup->n_workers == 0 || setup->n_workers >= MAX_WORKERS)
		refuse("see below");
	setup->dir_fd = setup->directory ? open(setup->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (setup->dir_fd < 0)
		refuse("--dir: no such directory");
	if (setup->n_kinds == 0)
		setup->kinds[setup->n_kinds++] = (FileKind){ .suffix = "" };
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void work(Worker *worker, Board *board, int64_t until_ms)
{
	const Setup *setup = worker->setup;
	PrivateFile own[FILES_EACH];
	SharedFile shared[MAX_KINDS];

	for (unsigned i = 0; i < FILES_EACH; i++)
		private_file_init(&own[i], worker);
	for (unsigned i = 0; i < setup->n_kinds; i++)
		shared_file_init(&shared[i], worker, &setup->kinds[i]);
	while (now_ms() < until_ms && !atomic_load(&board->stop)) {
		unsigned i = (unsigned)worker_below(worker, FILES_EACH);

		if (worker_chance(worker, 60))
			private_file_step(&own[i], &own[(i + 1) % FILES_EACH]);
		else
			shared_file_step(&shared[worker_below(worker, setup->n_kinds)]);
	}
	for (unsigned i = 0; i < FILES_EACH; i++)
		private_file_end(&own[i]);
	for (unsigned i = 0; i < setup->n_kinds; i++)
		board->n_records[i][worker->number] = shared_file_end(&shared[i]);
}

static void keep_pools_busy(Worker *worker, Board *board, int64_t until_ms)
{
	PrivateFile files[FILES_EACH];

	for (unsigned i = 0; i < FILES_EACH; i++)
		private_file_init(&files[i], worker);
	while (now_ms() < until_ms && !atomic_load(&board->stop)) {
		unsigned i = (unsigned)worker_below(worker, FILES_EACH);

		private_file_traffic_step(&files[i], &files[(i + 1) % FILES_EACH]);
	}
	for (unsigned i = 0; i < FILES_EACH; i++)
		private_file_end(&files[i]);
}

static pid_t start(const Setup *setup, unsigned number, Board *board, int64_t until_ms)
{
	pid_t pid = fork();
	Worker worker;

	if (pid < 0)
		abort();
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	worker_init(&worker, setup, number);
	if (number < setup->n_workers)
		work(&worker, board, until_ms);
	else
		keep_pools_busy(&worker, board, until_ms);
	atomic_fetch_add(&board->n_ops, worker.n_ops);
	_exit(0);
}

static bool wait_for(unsigned number, pid_t pid, Board *board)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			abort();
	if (WIFSIGNALED(status)) {
		printf("process %u: %s\n", number, strsignal(WTERMSIG(status)));
		atomic_store(&board->stop, true);
	}
	return status == 0;
}

int main(int argc, char **argv)
{
	Board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	Setup setup = { .n_workers = 3, .seconds = 5, .dir_fd = -1 };
	pid_t pids[MAX_WORKERS];
	bool ok = true;
	Worker self;

	if (board == MAP_FAILED || getrandom(&setup.seed, 4, 0) != 4)
		abort();
	setup.stop = &board->stop;
	parse_options(argc, argv, &setup);
	printf("seed %" PRIu64 "\n", setup.seed);
	fflush(stdout);
	worker_init(&self, &setup, MAX_WORKERS);
	for (unsigned i = 0; i < setup.n_kinds; i++)
		shared_file_create(&self, &setup.kinds[i]);
	for (unsigned i = 0; i <= setup.n_workers; i++)
		pids[i] = start(&setup, i, board, now_ms() + setup.seconds * 1000);
	for (unsigned i = 0; i <= setup.n_workers; i++)
		ok = wait_for(i, pids[i], board) && ok;
	for (unsigned i = 0; ok && i < setup.n_kinds; i++)
		shared_file_check_log(&self, &setup.kinds[i], board->n_records[i]);
	if (ok)
		printf("%" PRIuFAST64 " operations, no fault\n", board->n_ops);
	return ok ? 0 : 1;
}
