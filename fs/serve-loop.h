/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that take requests from the kernel and answer them.
 *
 * As a rule one thread has the turn: it takes and answers requests, one after the other, and then waits for the next at
 * the device. So what an application asks for in a row costs one wake-up each, always of the thread that has everything in
 * its processor's caches; threads that all wait at the device are woken in turn. Before it begins what may take
 * long (to read, to sync), and when it has answered many and there still are more, it has a spare thread come for
 * the next request. If what seemed quick holds it up (a directory that must be read from the disk), a spare thread comes
 * after a tick or two. Nobody wakes up while there is nothing to do.
 */
#pragma once

#define FUSE_USE_VERSION 318
#include <fuse_lowlevel.h>

typedef struct ServeLoop ServeLoop;

/* After so many requests, who serves looks whether there is enough for one more. */
#define SERVE_LOOK_EVERY 16
/* How soon it is seen that somebody is held up. */
#define SERVE_TICK_NS 1000000
/* Requests that may block at a time (an fsync, a read of a cold file). Creates that wait for a segment are not among them. */
#define SERVE_MAX_THREADS 64
/* After a burst, the others end and give back their buffers, of 1 MiB each. */
#define SERVE_MAX_SPARE 8

/* For a session that is mounted (borrowed), whose device nobody else reads. NULL and errno. */
ServeLoop *serve_loop_new(struct fuse_session *session, int64_t tick_ns);
/* Not while it runs. Takes NULL; returns NULL. */
ServeLoop *serve_loop_free(ServeLoop *loop);

/* Returns when the session is unmounted or the loop is stopped, and each request that was taken has been dealt with. 0,
 * or -errno if there is no thread to serve. */
int serve_loop_run(ServeLoop *loop);
/* From any thread, also before it runs. */
void serve_loop_stop(ServeLoop *loop);
