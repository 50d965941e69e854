/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has the kernel know the name MOUNT/.warmfs before somebody needs it. While a create waits in the mount's root, the kernel
 * keeps everybody out who has to look a name up there, so nobody could see why it waits; who uses names that it knows gets
 * in. Nothing is held for that, as it would keep the mount from being unmounted: when the kernel forgets the name (memory
 * is short, or it was mounted anew), it is looked up again. Not on Linux before 5.9 (fs/own-mount.h).
 */
#pragma once

#include "fs/own-mount.h"

typedef struct KnownName {
	OwnMount mount;
} KnownName;

/* Before requests are served: a thread looks it up, and waits for that. */
void known_name_begin(KnownName *name, const char *mount_point);
/* Blocks until the kernel knows it, it is stopped, or the (monotonic) deadline has passed. */
void known_name_wait(KnownName *name, int64_t deadline_ns);
/* The kernel has forgotten it. Any thread; does not block. */
void known_name_lost(KnownName *name);
/* It is not looked up any more. */
void known_name_stop(KnownName *name);
/* After the end of the session, which ends a look-up under way. Only after known_name_begin. */
void known_name_end(KnownName *name);
