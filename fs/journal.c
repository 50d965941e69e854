// SPDX-License-Identifier: Apache-2.0
#include "fs/journal.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "alloc/cleanup.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

int journal_open(void)
{
	static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	auto_fd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return steal_fd(&fd);
}

bool journal_has_stderr(void)
{
	const char *stream = g_getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat attr;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &attr) == 0 &&
	       attr.st_dev == device && attr.st_ino == inode;
}

void journal_append(GString *entry, const char *field, const char *value)
{
	uint64_t length = GUINT64_TO_LE(strlen(value));

	g_string_append(entry, field);
	if (strchr(value, '\n')) {
		g_string_append_c(entry, '\n');
		g_string_append_len(entry, (const char *)&length, sizeof(length));
	} else {
		g_string_append_c(entry, '=');
	}
	g_string_append(entry, value);
	g_string_append_c(entry, '\n');
}

int journal_send(int fd, const GString *entry)
{
	return send(fd, entry->str, entry->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}
