/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open file of MOUNT/.warmfs: a record in a table, whose index is the kernel's `fh`. It is a text that does not change any
 * more; or, of `control`, a conversation: commands are written, and what is read are the answers, in turn.
 */
#pragma once

#define FUSE_USE_VERSION 318
#include <fuse_lowlevel.h>

#include "fs/slot-table.h"

typedef struct StatusFile {
	char *text;
	size_t length;
	/* Of `control`, else NULL: a command whose end has not come, and what is to be read. Protected by lock. */
	GString *command;
	GString *answer;
	Mutex lock;
} StatusFile;

/* Takes ownership of the text. False if the table is full. */
bool status_file_open(SlotTable *files, char *text, struct fuse_file_info *fi);
bool status_file_open_control(SlotTable *files, struct fuse_file_info *fi);
/* Answers. */
void status_file_read(SlotTable *files, fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi);
/* Commands to `control` (fs/control.h): whole lines are done, the rest waits for its end. Answers with what the last one that failed failed with. */
void status_file_write(SlotTable *files, fuse_req_t req, const char *data, size_t size, const struct fuse_file_info *fi);
void status_file_close(SlotTable *files, const struct fuse_file_info *fi);
void status_file_close_all(SlotTable *files);
