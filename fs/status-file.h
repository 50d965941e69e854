/* SPDX-License-Identifier: Apache-2.0 */
/* An open file of MOUNT/.warmfs: a text that does not change any more. A record in a table, whose index is the kernel's
 * `fh`. */
#pragma once

#define FUSE_USE_VERSION 318
#include <fuse_lowlevel.h>

#include "fs/slot-table.h"

typedef struct StatusFile {
	char *text;
	size_t length;
} StatusFile;

/* Takes ownership of the text. False if the table is full. */
bool status_file_open(SlotTable *files, char *text, struct fuse_file_info *fi);
/* Answers. */
void status_file_read(SlotTable *files, fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi);
void status_file_close(SlotTable *files, const struct fuse_file_info *fi);
void status_file_close_all(SlotTable *files);
