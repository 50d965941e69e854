/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the service manager's watchdog (WatchdogSec= of a systemd unit) that all is well, as long as it is: the allocate
 * service minds its deadlines, and the mount answers. A disk that is slow is not an ill daemon: what threads wait for there
 * is not looked at, unless the mount waits for it. A thread of its own asks the mount; where that cannot be (fs/own-mount.h),
 * the mount is not asked.
 */
#pragma once

#include "alloc/allocate-service.h"
#include "alloc/latch.h"
#include "fs/own-mount.h"

typedef struct Watchdog {
	/* Borrowed. The service is NULL without classes. */
	AllocateService *service;
	const Log *log;
	/* How often it is told; 0: nobody watches. */
	int64_t interval_ns;
	OwnMount mount;
	Latch stop;
	pthread_t thread;
	bool thread_runs;
} Watchdog;

/* Does nothing if nobody watches this process (WATCHDOG_USEC, WATCHDOG_PID). */
void watchdog_begin(Watchdog *watchdog, AllocateService *service, const char *mount_point, const Log *log);
/* The mount may be asked just then: to be called when that answers or is gone, and before the service is freed. */
void watchdog_end(Watchdog *watchdog);
