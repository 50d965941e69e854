// SPDX-License-Identifier: Apache-2.0
#include "fs/service-notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "alloc/cleanup.h"

/* A path, or with @ in front a name that is in no filesystem. */
static int parse_address(const char *text, struct sockaddr_un *ret_address, socklen_t *ret_length)
{
	size_t length = strlen(text);

	if ((*text != '/' && *text != '@') || length >= sizeof(ret_address->sun_path))
		return -EAFNOSUPPORT;
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_address->sun_path, text, length);
	if (*text == '@')
		ret_address->sun_path[0] = '\0';
	*ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	return 0;
}

int service_notify(const char *format, ...)
{
	const char *target = g_getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t length;
	va_list args;
	int r;

	if (!target)
		return 0;
	r = parse_address(target, &address, &length);
	if (r < 0)
		return r;
	auto_fd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, length) < 0)
		return -errno;
	return 0;
}
