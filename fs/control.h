/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of MOUNT/.warmfs/control, one a line; the argument is all behind the first blank:
 *
 *	warm [CLASS]		fill the pool
 *	drain [CLASS]		remove what is ready, and prepare no more until a create finds none
 *	seal PATH		make a plain file of a live segment; the path is below the mount point
 *	explain PATH		what class a new file of that name would get, and why
 *	set CLASS KEY=VALUE	another value for a class (fs/config-change.h)
 *	reload BASE64		other values from what the file of config= holds now. Whoever asks for it reads it: it may lie
 *				in this mount
 *
 * Without CLASS, all classes. None waits for a preparation.
 */
#pragma once

#include "fs/fs.h"

/* Adds the answer, whole lines, the last of them `ok` or `error: ...`. 0 or -errno, as what was asked for could be done. May
 * block for the removal or the sealing of files. */
int control_run(Fs *fs, const char *line, GString *answer);
