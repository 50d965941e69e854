// SPDX-License-Identifier: Apache-2.0
#include "alloc/io-pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "alloc/cleanup.h"

int io_pressure_parse(const char *text, uint64_t *ret_us)
{
	/* The averages are not for us: they are of ten seconds and more. */
	return sscanf(text, "some avg10=%*f avg60=%*f avg300=%*f total=%" SCNu64, ret_us) == 1 ? 0 : -EBADMSG;
}

int io_pressure_stalled_us(uint64_t *ret_us)
{
	auto_fd fd = open("/proc/pressure/io", O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return io_pressure_parse(text, ret_us);
}
