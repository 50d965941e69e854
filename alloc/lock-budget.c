// SPDX-License-Identifier: Apache-2.0
#include "alloc/lock-budget.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <glib.h>

static uint64_t read_limit(const char *path)
{
	g_autofree char *text = NULL;
	uint64_t bytes;

	/* "max" is no number, and no limit. */
	if (!g_file_get_contents(path, &text, NULL, NULL) ||
	    !g_ascii_string_to_unsigned(g_strstrip(text), 10, 0, UINT64_MAX, &bytes, NULL))
		return LOCK_BUDGET_MAX;
	return bytes;
}

/* From the group up to the root of its hierarchy, each of which limits all below. */
static uint64_t walk_up(const char *mount, const char *group, const char *file)
{
	g_autofree char *at = g_strdup(group);
	uint64_t least = LOCK_BUDGET_MAX;

	for (;;) {
		g_autofree char *path = g_build_filename(mount, at, file, NULL);
		char *slash;

		least = MIN(least, read_limit(path));
		slash = strrchr(at, '/');
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* "HIERARCHY:CONTROLLERS:GROUP"; version 2 is hierarchy 0, without controllers. */
static uint64_t limit_of_line(char *line, const char *root)
{
	g_auto(GStrv) fields = g_strsplit(line, ":", 3);
	g_auto(GStrv) controllers = NULL;
	g_autofree char *mount = NULL;

	if (g_strv_length(fields) != 3)
		return LOCK_BUDGET_MAX;
	if (strcmp(fields[0], "0") == 0)
		return walk_up(root, fields[2], "memory.max");
	controllers = g_strsplit(fields[1], ",", -1);
	if (!g_strv_contains((const char *const *)controllers, "memory"))
		return LOCK_BUDGET_MAX;
	mount = g_build_filename(root, "memory", NULL);
	return walk_up(mount, fields[2], "memory.limit_in_bytes");
}

uint64_t lock_limits_of_cgroups(const char *self, const char *root)
{
	g_auto(GStrv) lines = g_strsplit(self, "\n", -1);
	uint64_t least = LOCK_BUDGET_MAX;

	for (char **line = lines; *line; line++)
		least = MIN(least, limit_of_line(*line, root));
	return least;
}

static bool has_lock_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

static uint64_t process_limit(void)
{
	struct rlimit limit;

	if (has_lock_capability() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return LOCK_BUDGET_MAX;
	return limit.rlim_cur;
}

void lock_limits_read(LockLimits *ret_limits)
{
	g_autofree char *self = NULL;

	*ret_limits = (LockLimits){
		.process = process_limit(),
		.cgroup = LOCK_BUDGET_MAX,
		.memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
	};
	if (g_file_get_contents("/proc/self/cgroup", &self, NULL, NULL))
		ret_limits->cgroup = lock_limits_of_cgroups(self, "/sys/fs/cgroup");
}

uint64_t lock_budget(const LockLimits *limits, uint64_t wanted)
{
	uint64_t half = MIN(limits->cgroup, limits->memory) / 2;

	return MIN(MIN(limits->process, limits->cgroup), wanted ? wanted : half);
}

uint64_t lock_budget_read(uint64_t wanted)
{
	LockLimits limits;

	lock_limits_read(&limits);
	return lock_budget(&limits, wanted);
}
