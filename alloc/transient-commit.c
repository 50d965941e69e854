// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-commit.h"

#include "alloc/live-buffer.h"

typedef struct Pace {
	TransientCommit *commit;
	bool of_flush;
	void (*visit)(void *arg, LiveSegment *live);
	pthread_t thread;
	bool runs;
} Pace;

struct TransientCommit {
	/* Immutable while the threads run. */
	LiveSet *set;
	const ClassRules *rules;
	Pace committing;
	Pace flushing;
	Mutex lock;
	Cond wake;
	/* Protected by lock. */
	bool stopping;
};

/* A failure is the segment's: it is logged there, and tried again. */
static void visit_to_commit(void *arg, LiveSegment *live)
{
	(void)arg;
	live_buffer_commit_if_due(live, monotonic_ns());
}

/* The application that syncs hears of the failure from its own descriptor. */
static void visit_to_flush(void *arg, LiveSegment *live)
{
	(void)arg;
	live_buffer_flush_if_due(live, monotonic_ns());
}

/* As often as the class that asks for most. 0: none asks. */
static unsigned shortest_ms(const ClassRules *rules, bool of_flush)
{
	unsigned shortest = 0;

	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);
		unsigned interval = of_flush ? class->flush_interval_ms : class->commit_interval_ms;

		if (class->transient && (shortest == 0 || interval < shortest))
			shortest = interval;
	}
	return shortest;
}

static void *run(void *arg)
{
	Pace *pace = arg;
	TransientCommit *commit = pace->commit;
	int64_t last_ns = 0;

	mutex_lock(&commit->lock);
	while (!commit->stopping) {
		int64_t next_ns = last_ns + INT64_C(1000000) * shortest_ms(commit->rules, pace->of_flush);

		if (monotonic_ns() < next_ns) {
			cond_wait_until(&commit->wake, &commit->lock, next_ns);
			continue;
		}
		last_ns = monotonic_ns();
		mutex_unlock(&commit->lock);
		live_set_visit(commit->set, pace->visit, NULL);
		mutex_lock(&commit->lock);
	}
	mutex_unlock(&commit->lock);
	return NULL;
}

static int start(Pace *pace, const char *name)
{
	int r = thread_start(&pace->thread, name, run, pace);

	pace->runs = r == 0;
	return r;
}

static void join(Pace *pace)
{
	if (pace->runs)
		pthread_join(pace->thread, NULL);
}

TransientCommit *transient_commit_stop(TransientCommit *commit)
{
	if (!commit)
		return NULL;
	mutex_lock(&commit->lock);
	commit->stopping = true;
	cond_broadcast(&commit->wake);
	mutex_unlock(&commit->lock);
	join(&commit->committing);
	join(&commit->flushing);
	cond_deinit(&commit->wake);
	mutex_deinit(&commit->lock);
	g_free(commit);
	return NULL;
}

TransientCommit *transient_commit_start(LiveSet *set, const ClassRules *rules, int *ret_r)
{
	TransientCommit *commit;
	int r;

	*ret_r = 0;
	if (shortest_ms(rules, false) == 0)
		return NULL;
	commit = g_new0(TransientCommit, 1);
	commit->set = set;
	commit->rules = rules;
	mutex_init(&commit->lock);
	cond_init(&commit->wake);
	commit->committing = (Pace){ commit, false, visit_to_commit };
	commit->flushing = (Pace){ commit, true, visit_to_flush };
	r = start(&commit->committing, "warmfs-commit");
	if (r == 0)
		r = start(&commit->flushing, "warmfs-flush");
	*ret_r = r;
	return r < 0 ? transient_commit_stop(commit) : commit;
}

void transient_commit_change(TransientCommit *commit)
{
	if (!commit)
		return;
	MUTEX_SCOPE(&commit->lock);
	cond_broadcast(&commit->wake);
}
