/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sum over a stretch of a file, by which it is known later whether all of it reached the disk.
 * Against chance, not against an adversary. It counts eight bytes at a time, each word by its place
 * in the stretch; zeroes count nothing, so a stretch that was filled with them is cheap.
 *
 * Any thread. Errors are -errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "alloc/sys.h"

#define DATA_SUM_WORD_BYTES sizeof(uint64_t)

/* Of `size` bytes that are `at` bytes into the stretch, a multiple of DATA_SUM_WORD_BYTES. The sums
 * of the parts of a stretch, added up, are its sum. */
uint64_t data_sum(const void *bytes, size_t size, uint64_t at);
/* Of a file from `start` to `end`. -EIO if it is shorter. */
int data_sum_of_file(const Sys *sys, int fd, uint64_t start, uint64_t end, uint64_t *ret_sum);
