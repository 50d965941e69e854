/* SPDX-License-Identifier: Apache-2.0 */
/* Classes for known applications: files in the format of config= (alloc/class-config.h), one for each. */
#pragma once

#include <glib.h>

/* The path of NAME's file, DIR/NAME.conf (g_free). NULL: there is none of that name; *error says which there are. */
char *preset_find(const char *dir, const char *name, GError **error);
