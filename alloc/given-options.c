// SPDX-License-Identifier: Apache-2.0
#include "alloc/given-options.h"

static void free_option(gpointer arg)
{
	GivenOption *option = arg;

	g_free(option->value);
	g_free(option->origin);
	g_free(option);
}

GivenOptions *given_options_new(void)
{
	return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_option);
}

void given_options_note(GivenOptions *given, const char *key, const char *value, const char *origin)
{
	GivenOption *option = g_new(GivenOption, 1);

	*option = (GivenOption){ .value = g_strdup(value ? value : ""), .origin = g_strdup(origin) };
	g_hash_table_replace(given, g_strdup(key), option);
}

const GivenOption *given_options_find(GivenOptions *given, const char *key)
{
	return given ? g_hash_table_lookup(given, key) : NULL;
}
