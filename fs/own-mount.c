// SPDX-License-Identifier: Apache-2.0
#include "fs/own-mount.h"

#include <limits.h>
#include <unistd.h>

static bool begin_question(OwnMount *mount)
{
	MUTEX_SCOPE(&mount->lock);
	while (!mount->wanted && !mount->over)
		cond_wait(&mount->changed, &mount->lock);
	mount->wanted = false;
	mount->asking = !mount->over;
	return mount->asking;
}

static void end_question(OwnMount *mount)
{
	MUTEX_SCOPE(&mount->lock);
	mount->asking = false;
	cond_broadcast(&mount->changed);
}

static void *thread_run(void *arg)
{
	OwnMount *mount = arg;

	if (close_range(0, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0)
		own_mount_stop(mount);
	while (begin_question(mount)) {
		mount->question(mount->path);
		end_question(mount);
	}
	return NULL;
}

void own_mount_begin(OwnMount *mount, const char *thread_name, char *path, void (*question)(const char *path))
{
	*mount = (OwnMount){ .path = path, .question = question };
	mutex_init(&mount->lock);
	cond_init(&mount->changed);
	mount->thread_runs = thread_start(&mount->thread, thread_name, thread_run, mount) == 0;
	if (!mount->thread_runs)
		own_mount_stop(mount);
}

void own_mount_ask(OwnMount *mount)
{
	MUTEX_SCOPE(&mount->lock);
	mount->wanted = true;
	cond_broadcast(&mount->changed);
}

bool own_mount_wait(OwnMount *mount, int64_t deadline_ns)
{
	bool in_time = true;

	MUTEX_SCOPE(&mount->lock);
	while ((mount->wanted || mount->asking) && !mount->over && in_time)
		in_time = cond_wait_until(&mount->changed, &mount->lock, deadline_ns);
	return in_time;
}

void own_mount_stop(OwnMount *mount)
{
	MUTEX_SCOPE(&mount->lock);
	mount->over = true;
	cond_broadcast(&mount->changed);
}

void own_mount_end(OwnMount *mount)
{
	if (mount->thread_runs)
		pthread_join(mount->thread, NULL);
	cond_deinit(&mount->changed);
	mutex_deinit(&mount->lock);
	g_free(mount->path);
}
