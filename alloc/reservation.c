// SPDX-License-Identifier: Apache-2.0
#include "alloc/reservation.h"

#include <errno.h>
#include <fcntl.h>

static int cut_at_end(const Sys *sys, int fd)
{
	struct stat attr;
	int r = sys->fstat(sys, fd, &attr);

	if (r == 0)
		r = sys->ftruncate(sys, fd, attr.st_size);
	if (r == 0) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, attr.st_mtim };

		sys->futimens(sys, fd, times);
	}
	return r;
}

int reservation_release(const Sys *sys, int fd)
{
	int r = sys->set_lease(sys, fd, F_WRLCK);

	if (r == -EINVAL || r == -EACCES)
		return 0;
	if (r < 0)
		return r == -EAGAIN ? -EBUSY : r;
	r = cut_at_end(sys, fd);
	sys->set_lease(sys, fd, F_UNLCK);
	return r;
}
