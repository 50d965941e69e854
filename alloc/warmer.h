/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part that makes blocks and pages warm. It works on the descriptor and the mapping of a file that nobody
 * else has, and blocks its thread; a raised cancel flag ends it early with -ECANCELED.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "alloc/segment-class.h"
#include "alloc/sys.h"

/* Gives the empty file `fd` the blocks of its kind and makes them durable: after this, handing the file out
 * leaves nothing of the pool's to flush. */
int warmer_fill(const Sys *sys, int fd, const SegmentClass *class, const atomic_bool *cancel);

/* Has the pages of a shared mapping in the page cache and in this process's page table. */
int warmer_populate(const Sys *sys, void *map, size_t length, const atomic_bool *cancel);
