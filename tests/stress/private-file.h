/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that one process alone has to do with, and what must be in it. Every operation is checked by what it returns,
 * and by the file's size after it; what is read, by each byte.
 */
#pragma once

#include "stress/worker.h"

/* More than a segment can hold. */
#define PRIVATE_FILE_BYTES ((size_t)640 * 1024)

typedef struct PrivateFile {
	Worker *worker;
	char name[64];
	bool has_name;
	int fd;
	int flags;
	/* MAP_SHARED, of PRIVATE_FILE_BYTES, perhaps made by a descriptor that is closed by now; or NULL. */
	uint8_t *map;
	/* PRIVATE_FILE_BYTES: from `size` on, zeroes. */
	uint8_t *model;
	size_t size;
} PrivateFile;

/* Makes the first file. */
void private_file_init(PrivateFile *file, Worker *worker);
/* One random operation. `other` is another one of this process, for copies and to be replaced. */
void private_file_step(PrivateFile *file, PrivateFile *other);
/* One of those that take segments from the pool and remove them. */
void private_file_traffic_step(PrivateFile *file, PrivateFile *other);
/* Checks the whole of it, and closes it. */
void private_file_end(PrivateFile *file);
