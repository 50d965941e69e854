/* SPDX-License-Identifier: Apache-2.0 */
/* The names in a directory, taken down before anything is done with them. */
#pragma once

#include <glib.h>

/* Those that begin with `prefix` ("": all), "." and ".." too, in no order; NULL with errno set if it cannot be read. The
 * directory's descriptor is only looked at. Free with g_ptr_array_unref. */
GPtrArray *dir_names(int dir_fd, const char *prefix);
