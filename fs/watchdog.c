// SPDX-License-Identifier: Apache-2.0
#include "fs/watchdog.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/service-notify.h"

/* Of the watchdog's time, the part after which it is told: the rest is for a machine that is busy. */
#define PARTS 3

static uint64_t number_of(const char *name)
{
	const char *text = g_getenv(name);
	guint64 number;

	return text && g_ascii_string_to_unsigned(text, 10, 1, INT64_MAX / 1000, &number, NULL) ? number : 0;
}

static int64_t watched_ns(void)
{
	uint64_t pid = number_of("WATCHDOG_PID");

	if (!service_is_notified() || (pid != 0 && pid != (uint64_t)getpid()))
		return 0;
	return (int64_t)number_of("WATCHDOG_USEC") * 1000;
}

/* Whatever the answer is. */
static void ask(const char *mount_point)
{
	struct statvfs stat;

	statvfs(mount_point, &stat);
}

/* What is wrong, or NULL. */
static const char *look(Watchdog *watchdog)
{
	if (watchdog->service &&
	    !allocate_service_answers(watchdog->service, monotonic_ns() + watchdog->interval_ns))
		return "the allocate service does not mind its deadlines";
	own_mount_ask(&watchdog->mount);
	if (!own_mount_wait(&watchdog->mount, monotonic_ns() + watchdog->interval_ns))
		return "the mount does not answer";
	return NULL;
}

static void *thread_run(void *arg)
{
	Watchdog *watchdog = arg;
	int64_t next_ns = monotonic_ns();
	const char *was_wrong = NULL;

	while (!latch_wait_until(&watchdog->stop, next_ns)) {
		const char *wrong = look(watchdog);

		if (!wrong)
			service_notify("WATCHDOG=1");
		else if (!was_wrong)
			log_error(watchdog->log, "watchdog: %s", wrong);
		was_wrong = wrong;
		next_ns = monotonic_ns() + watchdog->interval_ns;
	}
	return NULL;
}

void watchdog_begin(Watchdog *watchdog, AllocateService *service, const char *mount_point, const Log *log)
{
	int r;

	*watchdog = (Watchdog){ .service = service, .log = log, .interval_ns = watched_ns() / PARTS };
	if (watchdog->interval_ns == 0)
		return;
	latch_init(&watchdog->stop);
	own_mount_begin(&watchdog->mount, "warmfs-ask", g_strdup(mount_point), ask);
	r = thread_start(&watchdog->thread, "warmfs-watchdog", thread_run, watchdog);
	watchdog->thread_runs = r == 0;
	if (r < 0)
		log_failure(log, ERROR, "watchdog", NULL, r,
			    "watchdog: cannot start its thread: %s; the service manager will end this", g_strerror(-r));
}

void watchdog_end(Watchdog *watchdog)
{
	if (watchdog->interval_ns == 0)
		return;
	latch_open(&watchdog->stop);
	own_mount_stop(&watchdog->mount);
	if (watchdog->thread_runs)
		pthread_join(watchdog->thread, NULL);
	own_mount_end(&watchdog->mount);
	latch_deinit(&watchdog->stop);
}
