// SPDX-License-Identifier: Apache-2.0
/* A configuration file. What it sets can be set again, as it is shown. */
#include "alloc/class-config.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/targets/fuzz-target.h"

#define FILESYSTEM_BYTES (UINT64_C(1) << 40)

static bool take_mount_key(void *arg, const char *key, const char *value, const char *origin, GError **error)
{
	(void)arg;
	(void)error;
	g_assert_true(key && value && strchr(origin, ':'));
	return true;
}

static void check_class(const SegmentClass *class)
{
	g_autoptr(SegmentClass) twin = segment_class_new("twin");
	const char *key, *origin;

	for (size_t i = 0; (key = segment_class_nth_key(i)); i++) {
		g_autofree char *value = g_strdup(segment_class_value(class, key, &origin));

		if (strcmp(origin, "default") == 0)
			continue;
		g_assert_true(segment_class_set(twin, key, value, NULL));
		g_assert_cmpstr(segment_class_value(twin, key, &origin), ==, value);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(ClassRules) rules = class_rules_new();
	g_autofree char *path = NULL;
	GError *error = NULL;
	int fd = memfd_create("config", MFD_CLOEXEC);
	bool ok;

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, data, size), ==, size);
	path = g_strdup_printf("/proc/self/fd/%d", fd);
	ok = class_config_load(path, rules, take_mount_key, NULL, &error);
	fuzz_check_error(ok, &error);
	close(fd);
	if (!ok)
		g_assert_cmpuint(class_rules_count(rules), ==, 0);
	for (size_t i = 0; i < class_rules_count(rules); i++)
		check_class(class_rules_nth(rules, i));
	ok = class_rules_check(rules, FILESYSTEM_BYTES, &error);
	fuzz_check_error(ok, &error);
	if (ok)
		class_rules_find(rules, "d/a.wal");
	return 0;
}
