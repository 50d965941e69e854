/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives the blocks of removed files back in the background. They go when the last descriptor of a file that has no
 * name any more is closed, and for a large one that takes long: so whoever removes the last name keeps a descriptor
 * open, and a thread of low priority closes it. Until then the blocks count as free, and who needs them waits for that.
 *
 * Nothing has to be remembered: if the process ends, the kernel closes the descriptors.
 *
 * Threads: any, but for init, start, stop and deinit.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/sync.h"
#include "alloc/sys.h"

typedef struct Remover {
	/* Immutable once started. */
	const Sys *sys;
	pthread_t thread;
	atomic_uint_fast64_t pending_bytes;
	atomic_uint_fast64_t pending_files;
	Mutex lock;
	Cond work;
	Cond done;
	/* Protected by lock. Burials; and how many there were, and are done. */
	bool running;
	GQueue waiting;
	uint64_t n_begun;
	uint64_t n_done;
} Remover;

/* `sys` is borrowed. */
void remover_init(Remover *remover, const Sys *sys);
/* It must be stopped, or never have been started. */
void remover_deinit(Remover *remover);
/* 0 or -errno. */
int remover_start(Remover *remover);
/* Does what is left. May be called again. */
void remover_stop(Remover *remover);

/* Closes `fd`, the last descriptor of a removed file of so many bytes: soon, or at once if the thread does not run or
 * has too much to do. */
void remover_bury(Remover *remover, int fd, uint64_t bytes);
/* What is still to be given back: bytes, and files. */
uint64_t remover_pending_bytes(Remover *remover);
uint64_t remover_pending_files(Remover *remover);
bool remover_is_busy(Remover *remover);
/* Waits until all that is pending now has been given back. False if nothing is. */
bool remover_wait(Remover *remover);
