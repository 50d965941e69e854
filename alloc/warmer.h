/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part that makes blocks and pages warm. It works on the descriptor and the mapping of a file that nobody
 * else has, chunk by chunk as its stint allows, and blocks its thread; a raised cancel flag ends it early with
 * -ECANCELED.
 */
#pragma once

#include "alloc/segment-class.h"
#include "alloc/sys.h"
#include "alloc/warm-pace.h"

/* Gives the empty file `fd` the blocks of its kind and makes them durable: after this, handing the file out
 * leaves nothing of the pool's to flush. */
int warmer_fill(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint);

/* Writes zeroes over all of a file that has the class's size. Not durable on return. */
int warmer_overwrite(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint);

/* Has the pages of a shared mapping in the page cache and in this process's page table. `from_disk`: they may have to be
 * read first. */
int warmer_populate(const Sys *sys, void *map, size_t length, bool from_disk, WarmStint *stint);
