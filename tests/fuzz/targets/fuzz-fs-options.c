// SPDX-License-Identifier: Apache-2.0
/* A command line, a word in each line; the first is the program's name. */
#include "fs/fs-options.h"

#include <string.h>

#include "tests/fuzz/targets/fuzz-target.h"

#define FILESYSTEM_BYTES (UINT64_C(1) << 40)

/* --help is answered at once, and would end the fuzzer. A configuration could be any file, also one without an end. */
static bool is_for_us(const char *word)
{
	if (strstr(word, "config="))
		return false;
	if (word[0] != '-' || g_str_has_prefix(word, "-o"))
		return true;
	return word[1] == '-' ? !g_str_has_prefix(word, "--help") : !strpbrk(word, "h?");
}

static void check_values(const FsOptions *options)
{
	const char *key, *origin;

	for (size_t i = 0; (key = fs_options_nth_key(i)); i++) {
		g_autofree char *value = fs_options_value(options, key, &origin);

		g_assert_true(value && origin);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = fuzz_text(data, size);
	g_auto(GStrv) words = g_strsplit(text, "\n", -1);
	GError *error = NULL;

	for (char **word = words; *word; word++)
		if (!is_for_us(*word))
			return 0;
	g_autoptr(FsOptions) options = fs_options_parse((int)g_strv_length(words), words, &error);
	fuzz_check_error(options, &error);
	if (!options)
		return 0;
	check_values(options);
	fuzz_check_error(class_rules_check(options->rules, FILESYSTEM_BYTES, &error), &error);
	return 0;
}
