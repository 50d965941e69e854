/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The times of segments that were sealed lately. Sealing moves a file's ctime, and nothing can set it back; programs
 * that compare it (tar, git, incremental backups) would take the file for changed by an application. So what they saw
 * before is remembered, until the file does change.
 *
 * Threads: the caller's lock.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

typedef struct SealedTimes SealedTimes;

/* Remembers so many; then the oldest are forgotten. */
#define SEALED_TIMES_MAX 4096

SealedTimes *sealed_times_new(void);
/* Takes NULL; returns NULL. */
SealedTimes *sealed_times_free(SealedTimes *times);

/* The file is as in `now` (by st_dev and st_ino), and is to be seen with that ctime. */
void sealed_times_add(SealedTimes *times, const struct stat *now, struct timespec seen_ctime);
/* Corrects what stat says of a file. */
void sealed_times_show(const SealedTimes *times, struct stat *attr);
