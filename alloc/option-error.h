/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with an option, for who gave it. */
#pragma once

#include <stdbool.h>

#include <glib.h>

/* Sets a G_OPTION_ERROR. Whatever the names and values in it hold, it is one line of UTF-8. Always false. */
bool option_error_refuse(GError **error, GOptionError code, const char *format, ...) G_GNUC_PRINTF(3, 4);
