// SPDX-License-Identifier: Apache-2.0
#include "alloc/remover.h"

#include <sys/resource.h>

/* Each holds a descriptor. Beyond that, who removes pays for it himself, as natively. */
#define MAX_WAITING 256
/* Of 19. Somebody may be waiting for it, behind others who only compute. */
#define NICENESS 10

typedef struct Burial {
	int fd;
	uint64_t bytes;
} Burial;

void remover_init(Remover *remover, const Sys *sys)
{
	*remover = (Remover){ .sys = sys };
	atomic_init(&remover->pending_bytes, 0);
	atomic_init(&remover->pending_files, 0);
	mutex_init(&remover->lock);
	cond_init(&remover->work);
	cond_init(&remover->done);
	g_queue_init(&remover->waiting);
}

void remover_deinit(Remover *remover)
{
	g_assert(!remover->running && g_queue_is_empty(&remover->waiting));
	cond_deinit(&remover->done);
	cond_deinit(&remover->work);
	mutex_deinit(&remover->lock);
}

static void bury_next_locked(Remover *remover)
{
	Burial *burial = g_queue_pop_head(&remover->waiting);

	mutex_unlock(&remover->lock);
	remover->sys->close(remover->sys, burial->fd);
	atomic_fetch_sub(&remover->pending_bytes, burial->bytes);
	atomic_fetch_sub(&remover->pending_files, 1);
	g_free(burial);
	mutex_lock(&remover->lock);
	remover->n_done++;
	cond_broadcast(&remover->done);
}

static void *remover_run(void *arg)
{
	Remover *remover = arg;

	/* Of this thread alone, on Linux. If it may not be, it is none the worse. */
	setpriority(PRIO_PROCESS, 0, NICENESS);
	MUTEX_SCOPE(&remover->lock);
	while (remover->running || !g_queue_is_empty(&remover->waiting)) {
		if (g_queue_is_empty(&remover->waiting))
			cond_wait(&remover->work, &remover->lock);
		else
			bury_next_locked(remover);
	}
	return NULL;
}

int remover_start(Remover *remover)
{
	MUTEX_SCOPE(&remover->lock);
	int r = thread_start(&remover->thread, "warmfs-remove", remover_run, remover);

	remover->running = r == 0;
	return r;
}

void remover_stop(Remover *remover)
{
	mutex_lock(&remover->lock);
	bool was_running = remover->running;
	remover->running = false;
	cond_signal(&remover->work);
	mutex_unlock(&remover->lock);
	if (was_running)
		pthread_join(remover->thread, NULL);
}

static bool leave_to_thread(Remover *remover, int fd, uint64_t bytes)
{
	MUTEX_SCOPE(&remover->lock);
	if (!remover->running || remover->waiting.length >= MAX_WAITING)
		return false;
	Burial *burial = g_new(Burial, 1);
	*burial = (Burial){ fd, bytes };
	atomic_fetch_add(&remover->pending_bytes, bytes);
	atomic_fetch_add(&remover->pending_files, 1);
	g_queue_push_tail(&remover->waiting, burial);
	remover->n_begun++;
	cond_signal(&remover->work);
	return true;
}

void remover_bury(Remover *remover, int fd, uint64_t bytes)
{
	if (!leave_to_thread(remover, fd, bytes))
		remover->sys->close(remover->sys, fd);
}

uint64_t remover_pending_bytes(Remover *remover)
{
	return atomic_load(&remover->pending_bytes);
}

uint64_t remover_pending_files(Remover *remover)
{
	return atomic_load(&remover->pending_files);
}

bool remover_is_busy(Remover *remover)
{
	MUTEX_SCOPE(&remover->lock);
	return remover->n_done < remover->n_begun;
}

bool remover_wait(Remover *remover)
{
	MUTEX_SCOPE(&remover->lock);
	uint64_t last = remover->n_begun;

	if (remover->n_done == last)
		return false;
	while (remover->n_done < last)
		cond_wait(&remover->done, &remover->lock);
	return true;
}
