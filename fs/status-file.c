// SPDX-License-Identifier: Apache-2.0
#include "fs/status-file.h"

#include <string.h>

static StatusFile *status_file(SlotTable *files, const struct fuse_file_info *fi)
{
	return slot_table_get(files, fi->fh);
}

bool status_file_open(SlotTable *files, char *text, struct fuse_file_info *fi)
{
	fi->fh = slot_table_allocate(files);
	if (fi->fh == 0) {
		g_free(text);
		return false;
	}
	*status_file(files, fi) = (StatusFile){ .text = text, .length = strlen(text) };
	/* Its size is said to be 0, as in /proc: what there is to read shows when it is read. */
	fi->direct_io = 1;
	fi->noflush = 1;
	return true;
}

void status_file_read(SlotTable *files, fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi)
{
	const StatusFile *file = status_file(files, fi);
	size_t n = (size_t)offset < file->length ? MIN(size, file->length - offset) : 0;
	/* Whoever gets the answer may close the file before this thread is back from giving it. */
	g_autofree char *copy = g_memdup2(n ? file->text + offset : NULL, n);

	fuse_reply_buf(req, copy, n);
}

void status_file_close(SlotTable *files, const struct fuse_file_info *fi)
{
	g_clear_pointer(&status_file(files, fi)->text, g_free);
	slot_table_free(files, fi->fh);
}

void status_file_close_all(SlotTable *files)
{
	for (uint64_t index = 1; index < files->n_records; index++)
		g_clear_pointer(&((StatusFile *)slot_table_get(files, index))->text, g_free);
}
