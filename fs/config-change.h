/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other values for the options of a mount while it is used: all that is asked for, or nothing. What is refused at the
 * start is refused here, in the same words; so is what cannot change any more.
 */
#pragma once

#include "fs/fs.h"

/* `CLASS KEY=VALUE`, or `KEY=VALUE` for the mount. Both add to `answer` a line for each value that is another one now, and log it. */
bool config_change_set(Fs *fs, const char *words, GString *answer, GError **error);
/* As if it were mounted now, with these bytes in the file of config=; classes that are not from there stay as they are. */
bool config_change_reload(Fs *fs, const char *bytes, size_t length, GString *answer, GError **error);
