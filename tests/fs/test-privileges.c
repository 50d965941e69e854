// SPDX-License-Identifier: Apache-2.0
#include "fs/privileges.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

typedef bool (*ChildCheck)(void);

/* What is dropped does not come back: so in a process of its own. */
static void check_in_child(ChildCheck check)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(check() ? 0 : 1);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static bool may(int capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	syscall(SYS_capget, &header, data);
	return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static bool root_is_less(void)
{
	bool had_lock = may(CAP_IPC_LOCK);

	return privileges_drop() == 0 && !may(CAP_NET_ADMIN) && !may(CAP_SETPCAP) && may(CAP_IPC_LOCK) == had_lock &&
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static void test_root(void)
{
	check_in_child(root_is_less);
}

/* A container may have taken the right to change the bounding set. */
static bool root_without_setpcap_is_less(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	syscall(SYS_capget, &header, data);
	data[0].effective &= ~CAP_TO_MASK(CAP_SETPCAP);
	data[0].permitted &= ~CAP_TO_MASK(CAP_SETPCAP);
	return syscall(SYS_capset, &header, data) == 0 && root_is_less();
}

static void test_root_without_setpcap(void)
{
	check_in_child(root_without_setpcap_is_less);
}

static bool user_is_as_before(void)
{
	if (setresuid(65534, 65534, 65534) < 0)
		return false;
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return privileges_drop() == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 &&
	       prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
}

static void test_user(void)
{
	check_in_child(user_is_as_before);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	if (geteuid() == 0) {
		g_test_add_func("/privileges/root", test_root);
		g_test_add_func("/privileges/root-without-setpcap", test_root_without_setpcap);
		g_test_add_func("/privileges/user", test_user);
	}
	return g_test_run();
}
