// SPDX-License-Identifier: Apache-2.0
#include "fs/caller.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

/* Signal N is bit N - 1 of a set. */
#define SIGNAL_BIT(number) ((uint64_t)1 << ((number)-1))

/* Whatever the signal that ends a process is, the kernel gives each of its threads a pending
 * SIGKILL at once. Not if there is to be a core: then not before a thread has taken the signal,
 * which ours cannot while it waits. */
#define CORE_SIGNALS                                                                            \
	(SIGNAL_BIT(SIGQUIT) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGABRT) | \
	 SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGXCPU) |  \
	 SIGNAL_BIT(SIGXFSZ) | SIGNAL_BIT(SIGSYS))

/* The value of a line `key` (with its colon), a number; 0 if there is none. */
static uint64_t find_value(const char *status, const char *key, int base)
{
	size_t length = strlen(key);

	while (status && strncmp(status, key, length) != 0) {
		status = strchr(status, '\n');
		if (status)
			status++;
	}
	return status ? strtoull(status + length, NULL, base) : 0;
}

static uint64_t find_signals(const char *status, const char *key)
{
	return find_value(status, key, 16);
}

bool caller_status_says_killed(const char *status)
{
	uint64_t pending = find_signals(status, "SigPnd:") | find_signals(status, "ShdPnd:");
	uint64_t harmless = find_signals(status, "SigBlk:") | find_signals(status, "SigIgn:") |
			    find_signals(status, "SigCgt:");

	if (pending & SIGNAL_BIT(SIGKILL))
		return true;
	/* A debugger may still take the signal away. */
	if (find_value(status, "TracerPid:", 10) != 0)
		return false;
	return pending & CORE_SIGNALS & ~harmless;
}

bool caller_is_killed(pid_t thread)
{
	g_autofree char *status = NULL;
	char path[32];

	if (thread <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	return g_file_get_contents(path, &status, NULL, NULL) && caller_status_says_killed(status);
}
