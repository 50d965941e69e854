// SPDX-License-Identifier: Apache-2.0
#include "fs/json-writer.h"
#include "tests/lib/test-util.h"

static void test_nesting(void)
{
	JsonWriter json = { .text = g_string_new(NULL) };

	json_begin(&json, NULL, '{');
	json_number(&json, "a", UINT64_MAX);
	json_begin(&json, "b", '[');
	json_begin(&json, NULL, '{');
	json_end(&json, '}');
	json_begin(&json, NULL, '{');
	json_bool(&json, "c", true);
	json_real(&json, "d", 0.25);
	json_end(&json, '}');
	json_end(&json, ']');
	json_bool(&json, "e", false);
	json_end(&json, '}');
	g_assert_cmpstr(json.text->str, ==,
			"{\"a\":18446744073709551615,\"b\":[{},{\"c\":true,\"d\":0.25}],\"e\":false}");
	g_string_free(json.text, TRUE);
}

static void test_strings(void)
{
	JsonWriter json = { .text = g_string_new(NULL) };

	json_begin(&json, NULL, '[');
	json_string(&json, NULL, "a\"b\\c\n\x01\x7f");
	json_string(&json, NULL, "\xc3\xa9\xff");
	json_end(&json, ']');
	g_assert_cmpstr(json.text->str, ==, "[\"a\\\"b\\\\c\\u000a\\u0001\x7f\",\"\xc3\xa9\xef\xbf\xbd\"]");
	g_string_free(json.text, TRUE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/json-writer/nesting", test_nesting);
	test_add("/json-writer/strings", test_strings);
	return g_test_run();
}
