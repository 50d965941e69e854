/* SPDX-License-Identifier: Apache-2.0 */
/* Looks before the leap: is SOURCE a directory we can serve, and MOUNTPOINT one we can cover? Changes nothing. */
#pragma once

#include <stdbool.h>

#include <glib.h>

/* The source, open for reading, or -1 and an error. */
int mount_point_open_source(const char *source, GError **error);

/* Refuses what is no directory, what lies inside the source, and what is a mount point already, unless it is
 * the source itself (then on another filesystem than ours). */
bool mount_point_check(const char *mount_point, int source_fd, GError **error);

/* Whether warmfs is mounted there, and is what one sees. */
bool mount_point_is_ours(const char *mount_point);

/* Whether what is open is part of a mount of warmfs. */
bool mount_point_is_inside_ours(int fd);
