// SPDX-License-Identifier: Apache-2.0
#include "fs/known-name.h"

#include <limits.h>
#include <unistd.h>

#include "fs/status-dir.h"

/* False if there is no more to be looked up. */
static bool wait_lost(KnownName *name)
{
	MUTEX_SCOPE(&name->lock);
	while (!name->lost && !name->stopping)
		cond_wait(&name->wake, &name->lock);
	name->lost = false;
	return !name->stopping;
}

/* If the daemon is killed, nobody answers a look-up under way, and this thread cannot end before it is answered: the kernel
 * does that when the last descriptor of the device is closed, so this thread must have none. Nor those of whoever started the
 * daemon, and waits for their end. */
static bool give_descriptors_up(void)
{
	return close_range(0, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0;
}

static void *thread_run(void *arg)
{
	KnownName *name = arg;

	if (!give_descriptors_up()) {
		latch_open(&name->first);
		return NULL;
	}
	while (wait_lost(name)) {
		/* Whatever the answer is: who needs the name is told it as well. */
		access(name->path, F_OK);
		latch_open(&name->first);
	}
	return NULL;
}

void known_name_begin(KnownName *name, const char *mount_point)
{
	*name = (KnownName){ .path = g_build_filename(mount_point, STATUS_DIR_NAME, NULL), .lost = true };
	latch_init(&name->first);
	mutex_init(&name->lock);
	cond_init(&name->wake);
	name->thread_runs = thread_start(&name->thread, "warmfs-name", thread_run, name) == 0;
	if (!name->thread_runs)
		latch_open(&name->first);
}

void known_name_wait(KnownName *name, int64_t deadline_ns)
{
	latch_wait_until(&name->first, deadline_ns);
}

void known_name_lost(KnownName *name)
{
	MUTEX_SCOPE(&name->lock);
	name->lost = true;
	cond_signal(&name->wake);
}

void known_name_stop(KnownName *name)
{
	mutex_lock(&name->lock);
	name->stopping = true;
	cond_signal(&name->wake);
	mutex_unlock(&name->lock);
	latch_open(&name->first);
}

void known_name_end(KnownName *name)
{
	if (name->thread_runs)
		pthread_join(name->thread, NULL);
	latch_deinit(&name->first);
	cond_deinit(&name->wake);
	mutex_deinit(&name->lock);
	g_free(name->path);
}
