// SPDX-License-Identifier: Apache-2.0
#include "fs/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All of them are in the first word of a set. */
#define KEPT                                                                                                     \
	(CAP_TO_MASK(CAP_SYS_ADMIN) | CAP_TO_MASK(CAP_SETUID) | CAP_TO_MASK(CAP_SETGID) | CAP_TO_MASK(CAP_CHOWN) | \
	 CAP_TO_MASK(CAP_DAC_OVERRIDE) | CAP_TO_MASK(CAP_DAC_READ_SEARCH) | CAP_TO_MASK(CAP_FOWNER) |            \
	 CAP_TO_MASK(CAP_FSETID) | CAP_TO_MASK(CAP_MKNOD) | CAP_TO_MASK(CAP_SETFCAP) |                           \
	 CAP_TO_MASK(CAP_LEASE) | CAP_TO_MASK(CAP_IPC_LOCK) | CAP_TO_MASK(CAP_LINUX_IMMUTABLE))

/* A program that root starts gets what is in this set. Who lacks CAP_SETPCAP cannot make it smaller. */
static int shrink_bounding_set(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (cap < 32 && (KEPT & CAP_TO_MASK(cap)))
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int shrink_sets(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct __user_cap_data_struct kept[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	kept[0].permitted = data[0].permitted & KEPT;
	kept[0].effective = data[0].effective & KEPT;
	/* Ambient ones go with the inheritable ones. */
	return syscall(SYS_capset, &header, kept) < 0 ? -errno : 0;
}

int privileges_drop(void)
{
	int r;

	if (geteuid() != 0)
		return 0;
	r = shrink_bounding_set();
	if (r == 0)
		r = shrink_sets();
	/* Not dumpable: its memory has everybody's data. */
	if (r == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		r = -errno;
	return r;
}
