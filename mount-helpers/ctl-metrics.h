/* SPDX-License-Identifier: Apache-2.0 */
/* Reads MOUNT/.warmfs/metrics. */
#pragma once

#include <glib.h>

/* `NAME` or `NAME{LABELS}`, without `warmfs_` -> its value. */
typedef GHashTable CtlMetrics;

/* Unref with g_hash_table_unref. NULL: *error. */
CtlMetrics *ctl_metrics_read(const char *mount, GError **error);
/* The names of the classes, as the labels have them. */
GPtrArray *ctl_metrics_classes(CtlMetrics *metrics);
/* Of a class, or with NULL of the mount. 0 if there is none. */
double ctl_metrics_get(CtlMetrics *metrics, const char *name, const char *class);
