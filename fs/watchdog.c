// SPDX-License-Identifier: Apache-2.0
#include "fs/watchdog.h"

#include <errno.h>
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

/* If it does not, this may never return: then nobody is told either. */
static bool mount_answers(const Watchdog *watchdog)
{
	struct statvfs stat;

	/* Whatever the answer is. */
	return statvfs(watchdog->mount_point, &stat) == 0 || errno != EINTR;
}

static bool is_well(const Watchdog *watchdog)
{
	if (watchdog->service &&
	    !allocate_service_answers(watchdog->service, monotonic_ns() + watchdog->interval_ns))
		return false;
	return mount_answers(watchdog);
}

static void *thread_run(void *arg)
{
	Watchdog *watchdog = arg;
	int64_t next_ns = monotonic_ns();
	bool was_well = true;

	while (!latch_wait_until(&watchdog->stop, next_ns)) {
		bool well = is_well(watchdog);

		if (well)
			service_notify("WATCHDOG=1");
		else if (was_well)
			log_error(watchdog->log, "watchdog: the allocate service does not mind its deadlines");
		was_well = well;
		next_ns = monotonic_ns() + watchdog->interval_ns;
	}
	return NULL;
}

void watchdog_begin(Watchdog *watchdog, AllocateService *service, const char *mount_point, const Log *log)
{
	int r;

	*watchdog = (Watchdog){ .service = service, .mount_point = mount_point, .log = log,
				.interval_ns = watched_ns() / PARTS };
	latch_init(&watchdog->stop);
	if (watchdog->interval_ns == 0)
		return;
	r = thread_start(&watchdog->thread, "warmfs-watchdog", thread_run, watchdog);
	watchdog->thread_runs = r == 0;
	if (r < 0)
		log_failure(log, ERROR, "watchdog", NULL, r,
			    "watchdog: cannot start its thread: %s; the service manager will end this", g_strerror(-r));
}

void watchdog_end(Watchdog *watchdog)
{
	latch_open(&watchdog->stop);
	if (watchdog->thread_runs)
		pthread_join(watchdog->thread, NULL);
	latch_deinit(&watchdog->stop);
}
