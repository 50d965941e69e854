/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of the transient buffers: a file of root's on a tmpfs, which outlives the daemon, but not the kernel. What
 * a daemon that was killed had not committed is found there by the next one (alloc/transient-recovery.h).
 *
 * DIR/warmfs-UID/BOOT-DEV-INO.N is of the source directory DEV:INO. It holds a page of header, then a slot for each
 * buffer, then the buffers, each as large as a segment of its class: byte X of a buffer is byte X of its segment.
 *
 * All of it is allocated when it is made, so that no store into it can fail, and locked, if the kernel lets us.
 *
 * Threads: none of these functions is for more than one thread at a time. Stores into a slot: see transient-buffer.h.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/log.h"
#include "alloc/segment.h"
#include "alloc/sys.h"

#define TRANSIENT_DIR	       "/dev/shm"
#define TRANSIENT_SLOT_BYTES   512
#define TRANSIENT_HEADER_BYTES 4096
#define TRANSIENT_SLOTS_MAX    8192

typedef struct TransientHeader {
	uint64_t magic;
	uint64_t n_slots;
	uint64_t source_dev;
	uint64_t source_ino;
	uint64_t check;
} TransientHeader;

/* Whose buffer it is. */
typedef struct TransientOwner {
	uint64_t magic;
	/* Where in the file the buffer is, and its size. */
	uint64_t offset_bytes;
	uint64_t capacity_bytes;
	uint64_t ino;
	char name[SEGMENT_NAME_SIZE];
	uint64_t check;
} TransientOwner;

typedef struct TransientSlot {
	TransientOwner owner;
	/* The bytes that are not in the segment yet; none unless start < end. Never torn: of the two only one is stored at
	 * a time, or the range is empty before, between and after. */
	_Atomic uint64_t start;
	_Atomic uint64_t end;
	char rest[TRANSIENT_SLOT_BYTES - sizeof(TransientOwner) - 2 * sizeof(uint64_t)];
} TransientSlot;

G_STATIC_ASSERT(sizeof(TransientSlot) == TRANSIENT_SLOT_BYTES);

/* Where the files of a source are. */
typedef struct TransientPlace {
	const Sys *sys;
	/* Of a tmpfs; TRANSIENT_DIR but for tests. */
	const char *dir;
	uint64_t source_dev;
	uint64_t source_ino;
	const Log *log;
} TransientPlace;

/* In TRANSIENT_DIR. */
void transient_place_init(TransientPlace *place, const Sys *sys, int source_fd, const Log *log);

typedef struct TransientImage TransientImage;

/* With a slot for each of `sizes`; no more than `lock_budget_bytes` may be locked. NULL, and one line that says what to
 * do, if the memory is not to be had. */
TransientImage *transient_image_new(const TransientPlace *place, const uint64_t *sizes, unsigned n_sizes,
				    uint64_t lock_budget_bytes, GError **error);
/* Removes the file, unless something in it is still to be kept. Takes NULL; returns NULL. */
TransientImage *transient_image_close(TransientImage *image, bool keep);

TransientSlot *transient_image_slot(TransientImage *image, unsigned nth);
char *transient_image_buffer(TransientImage *image, unsigned nth);
/* Where in the file that is. */
uint64_t transient_image_offset(const TransientImage *image, unsigned nth);
/* How much memory is locked: all of it, or none, which one warning has told. */
uint64_t transient_image_locked_bytes(const TransientImage *image);

void transient_owner_seal(TransientOwner *owner);
bool transient_owner_checks(const TransientOwner *owner);
bool transient_header_checks(const TransientHeader *header);

/* The directory of the files, to look into: a descriptor, -ENOENT if it is not there, -EPERM if it is not ours alone. */
int transient_dir_open(const TransientPlace *place);
/* What the names of a source's files begin with (g_free), or NULL if the kernel does not say which boot this is. */
char *transient_name_prefix(const TransientPlace *place);
