// SPDX-License-Identifier: Apache-2.0
#include "fuzz/episode.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz/outcome.h"

#define MAX_REDUCE_S 40

/* ---- making operations ------------------------------------------------------------------------
 */

static unsigned total_weight(const OpType *types, size_t n)
{
	unsigned total = 0;

	for (size_t i = 0; i < n; i++)
		total += types[i].weight;
	return total;
}

static const OpType *find_by_weight(uint64_t dice)
{
	const struct {
		const OpType *types;
		size_t n;
	} tables[] = { { io_ops, n_io_ops }, { map_ops, n_map_ops }, { file_ops, n_file_ops } };
	unsigned total = 0;

	for (size_t t = 0; t < 3; t++)
		total += total_weight(tables[t].types, tables[t].n);
	dice %= total;
	for (size_t t = 0; t < 3; t++) {
		for (size_t i = 0; i < tables[t].n; i++) {
			if (dice < tables[t].types[i].weight)
				return &tables[t].types[i];
			dice -= tables[t].types[i].weight;
		}
	}
	return open_op;
}

/* The same whatever comes before it. */
static Op make_op(const Episode *episode, unsigned index)
{
	uint64_t random = episode->seed;
	unsigned dice;
	Op op = { .index = index };

	random = random_next(&random) ^ episode->number;
	random = random_next(&random) ^ index;
	op.type = find_by_weight(random_next(&random));
	dice = random_next(&random) % 100;
	op.actor = dice < 60 ? 0 : dice < 85 ? 1 : 2;
	op.random = random;
	return op;
}

/* ---- running ----------------------------------------------------------------------------------
 */

static void empty_directory(int fd)
{
	DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_type != DT_DIR)
			unlinkat(fd, entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static void start_over(Episode *episode)
{
	Shared *shared = episode->shared;

	crew_close_files(episode->crew, true);
	shared->late_times = false;
	for (int world = 0; world < N_WORLDS; world++)
		empty_directory(shared->config.dir_fds[world]);
	for (unsigned i = 0; i < N_FILES; i++)
		file_names_reset(&shared->config, shared->files, i);
	memset(episode->lines, 0, sizeof(episode->lines));
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

/* Everybody closes; and some wait until a segment is sealed. */
static bool quiesce(Episode *episode, const Op *op)
{
	uint64_t random = op->random;
	bool mappings = random_next(&random) % 2;
	unsigned linger_ms = episode->shared->config.linger_ms;
	bool wait = linger_ms && random_next(&random) % 3 == 0;

	snprintf(episode->lines[op->index].text, sizeof(episode->lines[0].text), "all close%s%s",
		 mappings ? ", unmap" : "", wait ? ", pause" : "");
	if (!crew_close_files(episode->crew, mappings))
		return false;
	if (wait)
		sleep_ms(linger_ms + linger_ms / 2 + 10);
	return true;
}

static bool found(Episode *episode, const Op *op, const char *op_name, const char *why)
{
	if (!why)
		return false;
	episode->mismatch.index = op->index;
	episode->mismatch.op_name = op_name;
	snprintf(episode->mismatch.why, sizeof(episode->mismatch.why), "%s", why);
	return true;
}

static bool perform(Episode *episode, const Op *op)
{
	Shared *shared = episode->shared;
	EpisodeLine *line = &episode->lines[op->index];
	char text[1000];

	if (!crew_perform(episode->crew, op))
		return !found(episode, op, op->type->name, "one of the processes has died");
	if (shared->skipped)
		return true;
	memcpy(line->text, shared->text, sizeof(line->text));
	for (int world = 0; world < N_WORLDS; world++)
		outcome_describe(&shared->outcomes[world], line->results[world],
				 sizeof(line->results[0]));
	return !found(episode, op, op->type->name, outcome_differs(shared, text, sizeof(text)));
}

bool episode_run(Episode *episode)
{
	char text[1000];

	start_over(episode);
	for (unsigned i = 0; i < episode->n_ops; i++) {
		Op op = make_op(episode, i);
		bool check = (i + 1) % episode->check_every == 0 || i + 1 == episode->n_ops;

		if (!episode->left_out[i]) {
			if (op.random % 150 == 0)
				quiesce(episode, &op);
			else if (!perform(episode, &op))
				return false;
		}
		if (check && found(episode, &op, "whole files",
				   files_differ(episode->shared, text, sizeof(text))))
			return false;
	}
	return true;
}

/* ---- reducing ---------------------------------------------------------------------------------
 */

/* Another mismatch would lead away from this one. */
static bool is_same(const Mismatch *one, const Mismatch *other)
{
	return one->op_name == other->op_name &&
	       strcspn(one->why, ":\n") == strcspn(other->why, ":\n") &&
	       strncmp(one->why, other->why, strcspn(one->why, ":\n")) == 0;
}

static bool still_fails(Episode *episode, const Mismatch *wanted)
{
	return !episode_run(episode) && is_same(&episode->mismatch, wanted);
}

static unsigned n_kept(const Episode *episode)
{
	unsigned n = 0;

	for (unsigned i = 0; i < episode->n_ops; i++)
		n += !episode->left_out[i];
	return n;
}

/* Tries without each run of `n` operations that are still in. True if that helped. */
static bool leave_out(Episode *episode, unsigned n, const Mismatch *wanted, time_t until)
{
	bool saved[EPISODE_OPS], better = false;
	unsigned i = episode->n_ops;

	while (i > 0 && time(NULL) < until) {
		unsigned n_out = 0;

		memcpy(saved, episode->left_out, sizeof(saved));
		while (i > 0 && n_out < n) {
			n_out += !episode->left_out[--i];
			episode->left_out[i] = true;
		}
		if (n_out == 0)
			break;
		if (still_fails(episode, wanted)) {
			better = true;
			episode->n_ops = episode->mismatch.index + 1;
			i = i < episode->n_ops ? i : episode->n_ops;
		} else {
			memcpy(episode->left_out, saved, sizeof(saved));
		}
	}
	return better;
}

void episode_reduce(Episode *episode)
{
	const Mismatch wanted = episode->mismatch;
	const time_t until = time(NULL) + MAX_REDUCE_S;
	unsigned n;

	episode->n_ops = wanted.index + 1;
	/* At the end only. */
	episode->check_every = EPISODE_OPS;
	for (unsigned i = 0; i < episode->n_ops; i++)
		if (!episode->lines[i].text[0])
			episode->left_out[i] = true;
	for (n = n_kept(episode) / 2; n > 0; n /= 2)
		leave_out(episode, n, &wanted, until);
	while (leave_out(episode, 1, &wanted, until))
		;
	if (!still_fails(episode, &wanted))
		printf("the mismatch did not come again in the last run: it depends on more than the sequence\n");
}

void episode_print(const Episode *episode, unsigned n_lines)
{
	const Mismatch *mismatch = &episode->mismatch;
	unsigned first = mismatch->index + 1;

	for (unsigned n = 0; first > 0 && n < n_lines; first--)
		n += episode->lines[first - 1].text[0] != '\0';
	for (unsigned i = first; i <= mismatch->index; i++) {
		const EpisodeLine *line = &episode->lines[i];

		if (!line->text[0])
			continue;
		if (strcmp(line->results[NATIVE], line->results[MOUNT]) == 0)
			printf("  %4u %s = %s\n", i, line->text, line->results[NATIVE]);
		else
			printf("  %4u %s = %s, mount %s\n", i, line->text, line->results[NATIVE],
			       line->results[MOUNT]);
	}
	printf("MISMATCH at operation %u (%s): %s\n", mismatch->index, mismatch->op_name,
	       mismatch->why);
}
