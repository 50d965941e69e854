/* SPDX-License-Identifier: Apache-2.0 */
/* The warmfs mounts of this machine, and how to talk to one. */
#pragma once

#include <stdbool.h>

#include <glib.h>

/* The mount points of all mounts of warmfs that are in sight, each a g_free string, as /proc/self/mountinfo has them. The
 * filesystems themselves are not asked. */
GPtrArray *ctl_mounts_list(void);

/* The mount point of the warmfs that a path is on. NULL: *error says what to do. Free with g_free. */
char *ctl_mount_find(const char *path, GError **error);

/* One of the files of MOUNT/.warmfs. NULL: *error. Free with g_free. */
char *ctl_mount_read(const char *mount, const char *name, GError **error);

/* Has a command done (fs/control.h). The answer, without its last line, `ok`; NULL: *error is what the daemon says. */
char *ctl_mount_command(const char *mount, const char *command, GError **error);

/* The bytes of a configuration file, of one that is too large hardly more than allowed (alloc/class-config.h). NULL: *error.
 * Free with g_free. */
char *ctl_read_config(const char *path, gsize *ret_length, GError **error);
