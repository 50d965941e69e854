// SPDX-License-Identifier: Apache-2.0
#include "fs/status-file.h"

#include <errno.h>
#include <string.h>

#include "alloc/class-config.h"
#include "fs/control.h"

/* A configuration file as a word, and what goes with it. */
#define COMMAND_MAX_BYTES (CLASS_CONFIG_MAX_FILE / 2 * 3)

static StatusFile *status_file(SlotTable *files, const struct fuse_file_info *fi)
{
	return slot_table_get(files, fi->fh);
}

static void clear(StatusFile *file)
{
	g_clear_pointer(&file->text, g_free);
	if (!file->command)
		return;
	g_string_free(g_steal_pointer(&file->command), TRUE);
	g_string_free(g_steal_pointer(&file->answer), TRUE);
	mutex_deinit(&file->lock);
}

static bool open_file(SlotTable *files, struct fuse_file_info *fi)
{
	fi->fh = slot_table_allocate(files);
	if (fi->fh == 0)
		return false;
	*status_file(files, fi) = (StatusFile){ .text = NULL };
	/* Its size is said to be 0, as in /proc: what there is to read shows when it is read. */
	fi->direct_io = 1;
	fi->noflush = 1;
	return true;
}

bool status_file_open(SlotTable *files, char *text, struct fuse_file_info *fi)
{
	if (!open_file(files, fi)) {
		g_free(text);
		return false;
	}
	status_file(files, fi)->text = text;
	status_file(files, fi)->length = strlen(text);
	return true;
}

bool status_file_open_control(SlotTable *files, struct fuse_file_info *fi)
{
	StatusFile *file;

	if (!open_file(files, fi))
		return false;
	file = status_file(files, fi);
	file->command = g_string_new(NULL);
	file->answer = g_string_new(NULL);
	mutex_init(&file->lock);
	/* What is written and what is read are not the same bytes. */
	fi->nonseekable = 1;
	return true;
}

/* The next bytes of the answer, which are gone from it then. */
static char *take_answer(StatusFile *file, size_t size, size_t *ret_n)
{
	char *bytes;

	MUTEX_SCOPE(&file->lock);
	*ret_n = MIN(size, file->answer->len);
	bytes = g_memdup2(file->answer->str, *ret_n);
	g_string_erase(file->answer, 0, *ret_n);
	return bytes;
}

void status_file_read(SlotTable *files, fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi)
{
	StatusFile *file = status_file(files, fi);
	size_t n = !file->command && (size_t)offset < file->length ? MIN(size, file->length - offset) : 0;
	/* Whoever gets the answer may close the file before this thread is back from giving it. */
	g_autofree char *copy = file->command ? take_answer(file, size, &n) : g_memdup2(n ? file->text + offset : NULL, n);

	fuse_reply_buf(req, copy, n);
}

/* Does what the whole lines say, and leaves what has no end yet. */
static int run_lines(StatusFile *file, Fs *fs)
{
	char *newline;
	int r = 0;

	while ((newline = memchr(file->command->str, '\n', file->command->len))) {
		size_t length = newline - file->command->str;
		g_autofree char *line = g_strndup(file->command->str, length);
		int result = *g_strchomp(line) ? control_run(fs, line, file->answer) : 0;

		g_string_erase(file->command, 0, length + 1);
		r = result < 0 ? result : r;
	}
	return r;
}

void status_file_write(SlotTable *files, fuse_req_t req, const char *data, size_t size, const struct fuse_file_info *fi)
{
	StatusFile *file = status_file(files, fi);
	int r;

	mutex_lock(&file->lock);
	if (file->command->len + size > COMMAND_MAX_BYTES) {
		r = -E2BIG;
	} else {
		g_string_append_len(file->command, data, size);
		r = run_lines(file, fs_of(req));
	}
	mutex_unlock(&file->lock);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

void status_file_close(SlotTable *files, const struct fuse_file_info *fi)
{
	clear(status_file(files, fi));
	slot_table_free(files, fi->fh);
}

void status_file_close_all(SlotTable *files)
{
	for (uint64_t index = 1; index < files->n_records; index++)
		clear(slot_table_get(files, index));
}
