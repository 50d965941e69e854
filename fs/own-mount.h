/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that asks the daemon's own mount something when it is told to, for others that must not hang in that.
 *
 * If the daemon is killed meanwhile, nobody answers, and who has asked cannot end before it is answered: the kernel does that
 * when the last descriptor of the FUSE device is closed. So this thread has none of the daemon's descriptors, and must not log;
 * nor those of whoever started the daemon, and waits for their end. On Linux before 5.9 that cannot be: there nothing is asked.
 */
#pragma once

#include "alloc/sync.h"

typedef struct OwnMount {
	char *path;
	void (*question)(const char *path);
	pthread_t thread;
	bool thread_runs;
	Mutex lock;
	Cond changed;
	/* Protected by lock. To be asked; being asked; nothing is asked any more. */
	bool wanted;
	bool asking;
	bool over;
} OwnMount;

/* The question is asked on the thread, with a path in the mount. */
void own_mount_begin(OwnMount *mount, const char *thread_name, char *path, void (*question)(const char *path));
/* Once more, if it is being asked. Any thread; does not block. */
void own_mount_ask(OwnMount *mount);
/* Blocks until all is answered, or nothing is asked any more. False if the (monotonic) deadline passed first. */
bool own_mount_wait(OwnMount *mount, int64_t deadline_ns);
/* Nothing is asked any more. */
void own_mount_stop(OwnMount *mount);
/* After own_mount_stop and the end of the session, which ends a question under way. */
void own_mount_end(OwnMount *mount);
