/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only pthread: mutex, condition, named thread. Conditions count on CLOCK_MONOTONIC; deadlines are
 * absolute. pthread and not GMutex, because the thread sanitizer sees through pthread only.
 */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <glib.h>

typedef struct Mutex {
	pthread_mutex_t impl;
} Mutex;

typedef struct Cond {
	pthread_cond_t impl;
} Cond;

/* A deadline that never comes. */
#define DEADLINE_NEVER INT64_MAX

static inline int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Where time comes from. Whoever decides by the time is given one, so that a test can say what time it is. */
typedef struct Clock Clock;

struct Clock {
	int64_t (*now_ns)(const Clock *clock);
	/* As cond_wait_until, by this clock. */
	void (*wait_until)(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns);
};

static inline int64_t clock_now_ns(const Clock *clock)
{
	return clock->now_ns(clock);
}

static inline int64_t clock_monotonic_now_ns(const Clock *clock)
{
	(void)clock;
	return monotonic_ns();
}

static inline void mutex_init(Mutex *mutex)
{
	int r = pthread_mutex_init(&mutex->impl, NULL);

	g_assert(r == 0);
}

static inline void mutex_deinit(Mutex *mutex)
{
	pthread_mutex_destroy(&mutex->impl);
}

static inline void mutex_lock(Mutex *mutex)
{
	int r = pthread_mutex_lock(&mutex->impl);

	g_assert(r == 0);
}

static inline void mutex_unlock(Mutex *mutex)
{
	int r = pthread_mutex_unlock(&mutex->impl);

	g_assert(r == 0);
}

static inline Mutex *mutex_scope_enter(Mutex *mutex)
{
	mutex_lock(mutex);
	return mutex;
}

static inline void mutex_scope_leave(Mutex **mutex)
{
	mutex_unlock(*mutex);
}

/* Holds the mutex to the end of the enclosing scope. */
#define MUTEX_SCOPE(mutex)                                                                         \
	__attribute__((cleanup(mutex_scope_leave), unused)) Mutex *G_PASTE(scope_, __LINE__) =     \
		mutex_scope_enter(mutex)

static inline void cond_init(Cond *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cond->impl, &attr);
	pthread_condattr_destroy(&attr);
}

static inline void cond_deinit(Cond *cond)
{
	pthread_cond_destroy(&cond->impl);
}

static inline void cond_wait(Cond *cond, Mutex *mutex)
{
	pthread_cond_wait(&cond->impl, &mutex->impl);
}

/* False if the deadline has passed. Spurious wake-ups happen: ask in a loop. */
static inline bool cond_wait_until(Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	struct timespec until = {
		.tv_sec = deadline_ns / 1000000000,
		.tv_nsec = deadline_ns % 1000000000,
	};

	if (deadline_ns == DEADLINE_NEVER) {
		cond_wait(cond, mutex);
		return true;
	}
	return pthread_cond_timedwait(&cond->impl, &mutex->impl, &until) == 0;
}

static inline void clock_monotonic_wait_until(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	(void)clock;
	cond_wait_until(cond, mutex, deadline_ns);
}

static inline void clock_wait_until(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	clock->wait_until(clock, cond, mutex, deadline_ns);
}

static const Clock clock_monotonic = { .now_ns = clock_monotonic_now_ns, .wait_until = clock_monotonic_wait_until };

static inline void cond_signal(Cond *cond)
{
	pthread_cond_signal(&cond->impl);
}

static inline void cond_broadcast(Cond *cond)
{
	pthread_cond_broadcast(&cond->impl);
}

/* Starts a joinable thread that takes no signal: those go to the thread that waits for them.
 * `name` has at most 15 bytes. 0 or -errno. */
static inline int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(ret_thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		pthread_setname_np(*ret_thread, name);
	return -r;
}
