/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound clean-up for what glib 2.74 does not cover. g_autofree and g_autoptr do the rest.
 */
#pragma once

#include <errno.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

/* Closed at the end of its scope. Initialise it, to -1 at least. */
#define auto_fd _cleanup_(cleanup_fd) int

/* Moves a descriptor out of its variable: the receiver closes it now. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
