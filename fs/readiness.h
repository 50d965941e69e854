/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says that the mount is there to whoever waits for that: the process that started the daemon, and the service
 * manager (sd_notify(3)). When requests are answered, or (-o wait_warm) when every pool is full, with
 * a progress bar on a terminal. A pool that cannot be filled ends that wait with a warning, because the mount serves all
 * the same.
 */
#pragma once

#include "alloc/allocate-service.h"
#include "alloc/latch.h"
#include "fs/known-name.h"

typedef struct Readiness {
	/* Borrowed. */
	AllocateService *service;
	const ClassRules *rules;
	const Log *log;
	KnownName *known_name;
	/* Of daemonize_begin, or -1 in the foreground. */
	int parent_fd;
	/* Opened by readiness_end. */
	Latch stop;
	pthread_t thread;
	bool thread_runs;
} Readiness;

/* `service` may be NULL: pools are not waited for then. Does not block: a thread waits. */
void readiness_begin(Readiness *readiness, AllocateService *service, const ClassRules *rules, KnownName *known_name,
		     const Log *log, int parent_fd);
/* The mount ends, also while its pools are waited for. Before the service is freed. Only after readiness_begin. */
void readiness_end(Readiness *readiness);
