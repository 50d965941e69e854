/* SPDX-License-Identifier: Apache-2.0 */
/* A mount as it lives: a bar for the pool of each class, rates, and how long creates take. */
#pragma once

#include <stdbool.h>

#include <glib.h>

/* Every second, until q, an interrupt or `once`. On a terminal in place, in its size; else one picture below the other, plain
 * text. False and *error when the mount does not answer. */
bool ctl_top_run(const char *mount, bool once, GError **error);
