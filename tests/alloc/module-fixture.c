// SPDX-License-Identifier: Apache-2.0
#include "tests/alloc/module-fixture.h"

#include <stdlib.h>
#include <sys/xattr.h>

void module_fixture_init(ModuleFixture *f)
{
	fixture_init(&f->base);
	f->dir = TEST_DIR_NEW();
}

void module_fixture_deinit(ModuleFixture *f)
{
	test_dir_remove(f->dir);
	fixture_deinit(&f->base);
}

char *install_module(const char *dir, const char *module, const char *name)
{
	g_autofree char *from =
		g_strdup_printf("%s/warmfs-provider-%s.so", PROVIDER_MODULES, module);
	char *to = g_strdup_printf("%s/warmfs-provider-%s.so", dir, name);
	g_autoptr(GError) error = NULL;
	g_autofree char *data = NULL;
	gsize length;

	g_file_get_contents(from, &data, &length, &error);
	g_assert_no_error(error);
	g_file_set_contents_full(to, data, length, G_FILE_SET_CONTENTS_NONE, 0755, &error);
	g_assert_no_error(error);
	return to;
}

unsigned stamp_of(const Segment *segment)
{
	char text[16] = "";

	return fgetxattr(segment->fd, "user.stamp", text, sizeof(text) - 1) < 0 ? 0
										       : atoi(text);
}
