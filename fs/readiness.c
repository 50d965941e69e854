// SPDX-License-Identifier: Apache-2.0
#include "fs/readiness.h"

#include <stdio.h>
#include <string.h>

#include "fs/daemonize.h"
#include "fs/progress-bar.h"
#include "fs/service-notify.h"

/* It takes long only if a create waits already, in software that ran before this was mounted over its files. */
#define NAME_PATIENCE_NS (INT64_C(5) * 1000 * 1000 * 1000)

#define LOOK_INTERVAL_NS (INT64_C(50) * 1000 * 1000)
/* A failed preparation is tried again, and may succeed: so long it is not taken for the last word. */
#define STUCK_NS (INT64_C(2) * 1000 * 1000 * 1000)

/* A service manager that waits is told this often how far it is, and given that many times as long again. */
#define TELL_INTERVAL_NS (INT64_C(1) * 1000 * 1000 * 1000)
#define PATIENCE_INTERVALS 60

/* All pools together, and the first class that gets no further. */
typedef struct Fill {
	unsigned ready;
	unsigned wanted;
	/* Classes that lack segments, and those of them that get no further. */
	unsigned n_short;
	unsigned n_stuck;
	AllocStatus stuck;
} Fill;

static bool is_stuck(const AllocStatus *status)
{
	/* With an open quota used up, nothing is lacking, and nothing comes. */
	return status->error || (status->lacking == 0 && status->preparing == 0);
}

static void look(const Readiness *readiness, Fill *fill)
{
	*fill = (Fill){ 0 };
	for (size_t i = 0; i < class_rules_count(readiness->rules); i++) {
		AllocStatus status = allocate_service_status(readiness->service, i);

		fill->ready += MIN(status.ready, status.ahead);
		fill->wanted += status.ahead;
		if (status.ready >= status.ahead)
			continue;
		fill->n_short++;
		if (!is_stuck(&status))
			continue;
		if (fill->n_stuck++ == 0)
			fill->stuck = status;
	}
}

/* To the log, and to whoever waits at the terminal if that is not the same. */
static void tell_why_not(const Readiness *readiness, const char *why)
{
	if (readiness->parent_fd >= 0)
		fprintf(stderr, "warmfs: wait_warm: %s\n", why);
	log_warning(readiness->log, "wait_warm: %s", why);
}

static void tell_stuck(const Readiness *readiness, const AllocStatus *status)
{
	g_autofree char *why = g_strdup_printf(
		"class %s: %u of %u segments are ready: %s; mounted all the same, and the rest follows when it can",
		status->class_name, status->ready, status->ahead,
		status->error ? g_strerror(-status->error) : "open ones use up its quota");

	tell_why_not(readiness, why);
}

static void show(ProgressBar *bar, const Fill *fill, int64_t *told_ns, int64_t now_ns)
{
	progress_bar_show(bar, fill->ready, fill->wanted, "%u of %u", fill->ready, fill->wanted);
	if (now_ns - *told_ns < TELL_INTERVAL_NS)
		return;
	*told_ns = now_ns;
	service_notify("STATUS=warming: %u of %u segments are ready\nEXTEND_TIMEOUT_USEC=%" G_GINT64_FORMAT, fill->ready,
		       fill->wanted, (gint64)(TELL_INTERVAL_NS / 1000 * PATIENCE_INTERVALS));
}

/* False if the mount ended meanwhile. */
static bool wait_warm(Readiness *readiness)
{
	int64_t stuck_since_ns = DEADLINE_NEVER, told_ns = 0;
	ProgressBar bar;
	Fill fill;

	progress_bar_init(&bar);
	for (look(readiness, &fill); fill.n_short > 0; look(readiness, &fill)) {
		int64_t now_ns = monotonic_ns();

		stuck_since_ns = fill.n_stuck < fill.n_short ? DEADLINE_NEVER : MIN(stuck_since_ns, now_ns);
		if (stuck_since_ns <= now_ns - STUCK_NS)
			break;
		show(&bar, &fill, &told_ns, now_ns);
		if (latch_wait_until(&readiness->stop, now_ns + LOOK_INTERVAL_NS))
			break;
	}
	progress_bar_clear(&bar);
	if (latch_is_open(&readiness->stop)) {
		tell_why_not(readiness, "the mount was ended before its pools were full");
		return false;
	}
	if (fill.n_short > 0)
		tell_stuck(readiness, &fill.stuck);
	else
		log_notice(readiness->log, "wait_warm: all %u segments are ready", fill.wanted);
	return true;
}

static void announce(Readiness *readiness)
{
	int r;

	if (readiness->parent_fd >= 0)
		daemonize_done(readiness->parent_fd);
	r = service_notify("READY=1\nSTATUS=serving");
	if (r < 0)
		log_failure(readiness->log, WARNING, "notify", NULL, r,
			    "cannot tell the service manager that the mount is there: %s", g_strerror(-r));
}

static void *thread_run(void *arg)
{
	Readiness *readiness = arg;

	known_name_wait(readiness->known_name, monotonic_ns() + NAME_PATIENCE_NS);
	if (!readiness->service || wait_warm(readiness))
		announce(readiness);
	return NULL;
}

void readiness_begin(Readiness *readiness, AllocateService *service, const ClassRules *rules, KnownName *known_name,
		     const Log *log, int parent_fd)
{
	int r;

	*readiness = (Readiness){ .service = service, .rules = rules, .known_name = known_name, .log = log,
				  .parent_fd = parent_fd };
	latch_init(&readiness->stop);
	r = thread_start(&readiness->thread, "warmfs-ready", thread_run, readiness);
	readiness->thread_runs = r == 0;
	if (r == 0)
		return;
	if (service)
		log_failure(log, WARNING, "wait_warm", NULL, r, "wait_warm: cannot start a thread: %s; not waited for",
			    g_strerror(-r));
	announce(readiness);
}

void readiness_end(Readiness *readiness)
{
	latch_open(&readiness->stop);
	if (readiness->thread_runs)
		pthread_join(readiness->thread, NULL);
	latch_deinit(&readiness->stop);
}
