// SPDX-License-Identifier: Apache-2.0
/*
 * Besides examples: random patterns against two other ways to the same answer. Matching is compared
 * with a translation to a regular expression, overlapping with trying every short path.
 */
#include <stdbool.h>
#include <string.h>

#include <glib.h>

#include "alloc/glob.h"

/* Few enough that all paths of PATH_LENGTH can be tried. Only wildcards and sets take the `0`. */
static const char ALPHABET[] = "ab/.0";
#define PATH_LENGTH 6

static Glob *glob_must(const char *pattern)
{
	g_autoptr(GError) error = NULL;
	Glob *glob = glob_new(pattern, &error);

	g_assert_no_error(error);
	return glob;
}

typedef struct MatchCase {
	const char *pattern;
	const char *path;
	bool matches;
} MatchCase;

static void check_matches(const MatchCase *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		g_autoptr(Glob) glob = glob_must(cases[i].pattern);
		g_autofree char *path = g_strescape(cases[i].path, NULL);
		g_autofree char *pattern = g_strescape(cases[i].pattern, NULL);

		g_test_message("%s against %s", pattern, path);
		g_assert_cmpint(glob_match(glob, cases[i].path), ==, cases[i].matches);
		g_assert_cmpstr(glob_pattern(glob), ==, cases[i].pattern);
	}
}

static void test_stars(void)
{
	static const MatchCase CASES[] = {
		{ "a.log", "a.log", true },
		{ "a.log", "a.lo", false },
		{ "a.log", "a.log2", false },
		{ "a.log", "b/a.log", false },
		{ "*.log", "a.log", true },
		{ "*.log", ".log", true },
		{ "*.log", "d/a.log", false },
		{ "*.log", "a.log.log", true },
		{ "*", "a", true },
		{ "*", "", true },
		{ "*", "a/b", false },
		{ "wal/*", "wal/0001", true },
		{ "wal/*", "wal/d/0001", false },
		{ "*/*", "a/b", true },
		{ "**", "a", true },
		{ "**", "a/b/c", true },
		{ "**.log", "d/e/a.log", true },
		{ "**.log", "a.log", true },
		{ "**/a", "a", true },
		{ "**/a", "d/a", true },
		{ "**/a", "d/e/a", true },
		{ "**/a", "da", false },
		{ "**/xlogtemp.*", "pg_wal/xlogtemp.31", true },
		{ "d/**/a", "d/a", true },
		{ "d/**/a", "d/e/a", true },
		{ "d/**/a", "d/e/f/a", true },
		{ "d/**/a", "da", false },
		{ "d/**/a", "d/ea", false },
		{ "d/**/**/a", "d/a", true },
		/* Not where a name begins: what stands around it must be there. */
		{ "d**/a", "d/a", true },
		{ "d**/a", "de/f/a", true },
		{ "d**/a", "da", false },
		{ "d/**", "d/a", true },
		{ "d/**", "d/e/a", true },
		{ "d/**", "d", false },
		{ "***", "a/b", true },
		{ "***/a", "a", true },
		{ "a*b*c", "a.b.b.c", true },
		{ "a*b*c", "a.c.b", false },
	};

	check_matches(CASES, G_N_ELEMENTS(CASES));
}

static void test_bytes(void)
{
	static const MatchCase CASES[] = {
		{ "?", "a", true },
		{ "?", "", false },
		{ "?", "/", false },
		{ "a?b", "a/b", false },
		{ "[abc]", "b", true },
		{ "[abc]", "d", false },
		{ "[a-c]", "b", true },
		{ "[a-c]", "-", false },
		{ "[a-]", "-", true },
		{ "[-a]", "-", true },
		{ "[-a]", "b", false },
		{ "[]a]", "]", true },
		{ "[!]a]", "]", false },
		{ "[!]a]", "b", true },
		{ "[!a-c]", "d", true },
		{ "[!a-c]", "b", false },
		{ "[^a-c]", "b", false },
		{ "[!a]b", "/b", false },
		{ "x[.-0]y", "x/y", false },
		{ "x[.-0]y", "x.y", true },
		{ "[a!^]", "!", true },
		{ "[\\]]", "]", true },
		{ "[a\\-c]", "b", false },
		{ "[a\\-c]", "-", true },
		{ "[\\[.]", "[", true },
		{ "[?*]", "?", true },
		{ "[?*]", "a", false },
		{ "\\*", "*", true },
		{ "\\*", "a", false },
		{ "a\\bc", "abc", true },
		{ "\\\\", "\\", true },
		{ "a]", "a]", true },
		{ "{a,b}", "{a,b}", true },
		{ "\xc3\xa4?", "\xc3\xa4x", true },
		{ "[\xa0-\xff]", "\xc3", true },
		{ "[!a]", "\xff", true },
		{ "a*", "a\nb", true },
	};

	check_matches(CASES, G_N_ELEMENTS(CASES));
}

static void test_refuses(void)
{
	static const struct {
		const char *pattern;
		const char *why;
	} CASES[] = {
		{ "", "an empty pattern" },
		{ "/a", "a slash at the start" },
		{ "\\/a", "a slash at the start" },
		{ "/", "a slash at the start" },
		{ "a/", "a slash at the end" },
		{ "**/", "a slash at the end" },
		{ "a//b", "two slashes in a row" },
		{ "**//a", "two slashes in a row" },
		{ "a\\", "a backslash at the end" },
		{ "[", "a [ without its ]" },
		{ "[]", "a [ without its ]" },
		{ "[!]", "a [ without its ]" },
		{ "[a", "a [ without its ]" },
		{ "[a-", "a [ without its ]" },
		{ "[a\\", "a [ without its ]" },
		{ "[c-a]", "a range that runs backwards" },
		{ "[a/b]", "a slash inside a set" },
		{ "[a-\\/]", "a slash inside a set" },
		{ "[[:digit:]]", "[: or [. or [= inside a set; write \\[ for a [" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autoptr(GError) error = NULL;

		g_test_message("'%s'", CASES[i].pattern);
		g_assert_null(glob_new(CASES[i].pattern, &error));
		g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
		g_assert_cmpstr(error->message, ==, CASES[i].why);
		g_assert_null(glob_new(CASES[i].pattern, NULL));
	}
}

/* The longest pattern fills every array; one byte more is refused. */
static void test_length(void)
{
	static const char *const UNITS[] = { "a", "?", "*?", "*\\a", "**/" };
	g_autofree char *path = g_strnfill(GLOB_MAX_LENGTH, 'a');

	for (size_t i = 0; i < G_N_ELEMENTS(UNITS); i++) {
		g_autoptr(GString) pattern = g_string_new(NULL);
		g_autoptr(GError) error = NULL;

		while (pattern->len < GLOB_MAX_LENGTH)
			g_string_append(pattern, UNITS[i]);
		g_string_truncate(pattern, GLOB_MAX_LENGTH - 1);
		g_string_append_c(pattern, 'a');
		g_autoptr(Glob) glob = glob_must(pattern->str);
		g_assert_true(glob_match(glob, path));
		g_assert_true(glob_overlaps(glob, glob));

		g_string_append_c(pattern, 'a');
		g_assert_null(glob_new(pattern->str, &error));
		g_assert_cmpstr(error->message, ==, "longer than 255 bytes");
	}
}

/* A backtracking matcher would need longer than the universe has. */
static void test_no_backtracking(void)
{
	g_autofree char *path = g_strnfill(4096, 'a');
	g_autoptr(GString) pattern = g_string_new(NULL);

	while (pattern->len < GLOB_MAX_LENGTH - 1)
		g_string_append(pattern, "*a");
	g_string_append_c(pattern, 'b');
	g_autoptr(Glob) glob = glob_must(pattern->str);
	g_assert_false(glob_match(glob, path));
	path[4095] = 'b';
	g_assert_true(glob_match(glob, path));
}

static void test_overlaps(void)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} CASES[] = {
		{ "*.log", "x*.log", true },   { "*.log", "*.wal", false },
		{ "*.log", "a*", true },       { "a*b", "b*a", false },
		{ "a*b", "*ab", true },	       { "*", "d/*", false },
		{ "**", "d/*", true },	       { "**/a", "a", true },
		{ "**/a", "**/b", false },     { "d/**/a", "d/a", true },
		{ "d/**/a", "d/*/a", true },   { "d/**/a", "*a", false },
		{ "d/**", "d*", false },       { "[a-c]x", "[c-e]x", true },
		{ "[a-c]x", "[d-e]x", false }, { "[!a]", "a", false },
		{ "[!a]", "[!b]", true },      { "?", "??", false },
		{ "?*", "**?", true },	       { "d/[!b]", "d/b", false },
		{ "*/*", "**", true },	       { "*/*/a", "**/**/?", true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autoptr(Glob) a = glob_must(CASES[i].a);
		g_autoptr(Glob) b = glob_must(CASES[i].b);

		g_test_message("%s and %s", CASES[i].a, CASES[i].b);
		g_assert_cmpint(glob_overlaps(a, b), ==, CASES[i].overlap);
		g_assert_cmpint(glob_overlaps(b, a), ==, CASES[i].overlap);
		g_assert_true(glob_overlaps(a, a));
	}
}

/* A set that leaves no byte over matches nothing, and so overlaps nothing, not even itself. */
static void test_empty_set(void)
{
	g_autoptr(Glob) empty = glob_must("[!\x01-\xff]");
	g_autoptr(Glob) any = glob_must("?");

	g_assert_false(glob_match(empty, "a"));
	g_assert_false(glob_match(empty, ""));
	g_assert_false(glob_overlaps(empty, any));
	g_assert_false(glob_overlaps(empty, empty));
}

/* WARMFS_TEST_SEED repeats a run. */
static GRand *seeded_rand(void)
{
	const char *text = g_getenv("WARMFS_TEST_SEED");
	guint32 seed = text ? (guint32)g_ascii_strtoull(text, NULL, 10) : g_random_int();

	g_test_message("WARMFS_TEST_SEED=%u", seed);
	return g_rand_new_with_seed(seed);
}

/* A pattern of 1 to 4 pieces, or NULL if its slashes make it one that must be refused. */
static Glob *random_glob(GRand *rand, bool stars)
{
	static const char *const PIECES[] = { "a",    "b",     ".",    "/",	"/", "?",
					      "[ab]", "[!a.]", "\\a",  "[.-0]", "*", "*",
					      "**",   "**/",   "/**/", "*/" };
	size_t star_free = 10;
	g_autoptr(GString) pattern = g_string_new(NULL);
	int count = g_rand_int_range(rand, 1, 5);

	for (int i = 0; i < count; i++) {
		int last = stars ? (int)G_N_ELEMENTS(PIECES) : (int)star_free;

		g_string_append(pattern, PIECES[g_rand_int_range(rand, 0, last)]);
	}
	if (pattern->str[0] == '/' || strstr(pattern->str, "//") ||
	    g_str_has_suffix(pattern->str, "/")) {
		g_assert_null(glob_new(pattern->str, NULL));
		return NULL;
	}
	return glob_must(pattern->str);
}

/* Behind a run of stars: what the run means. */
static const char *translate_stars(const char *pattern, const char **at)
{
	bool at_name = *at == pattern || (*at)[-1] == '/';
	size_t stars = strspn(*at, "*");

	*at += stars;
	if (stars == 1)
		return "[^/]*";
	if (**at != '/' || !at_name)
		return ".*";
	++*at;
	return "(?:.*/)?";
}

/* Knows just the pieces of random_glob. */
static GRegex *translate(const char *pattern)
{
	g_autoptr(GString) regex = g_string_new("\\A");
	g_autoptr(GError) error = NULL;
	GRegex *compiled;

	for (const char *at = pattern; *at;) {
		if (*at == '*') {
			g_string_append(regex, translate_stars(pattern, &at));
		} else if (*at == '[') {
			size_t length = strcspn(at, "]") + 1;
			bool negated = at[1] == '!';

			g_string_append(regex, negated ? "(?!/)[^" : "(?!/)[");
			g_string_append_len(regex, at + 1 + negated, length - 1 - negated);
			at += length;
		} else {
			g_string_append(regex, *at == '?' ? "[^/]" : *at == '.' ? "\\." : "");
			at += *at == '\\';
			if (!strchr("?.", *at))
				g_string_append_c(regex, *at);
			at++;
		}
	}
	g_string_append(regex, "\\z");
	compiled = g_regex_new(regex->str, G_REGEX_RAW | G_REGEX_DOTALL, 0, &error);
	g_assert_no_error(error);
	return compiled;
}

static void add_strings(GPtrArray *strings, char *prefix, size_t length)
{
	prefix[length] = '\0';
	g_ptr_array_add(strings, g_strdup(prefix));
	if (length == PATH_LENGTH)
		return;
	for (const char *byte = ALPHABET; *byte; byte++) {
		prefix[length] = *byte;
		add_strings(strings, prefix, length + 1);
	}
}

/* All strings over the alphabet. */
static GPtrArray *short_strings(void)
{
	GPtrArray *strings = g_ptr_array_new_with_free_func(g_free);
	char prefix[PATH_LENGTH + 1];

	add_strings(strings, prefix, 0);
	return strings;
}

static bool is_clean_path(const char *path)
{
	return *path && *path != '/' && !strstr(path, "//") && !g_str_has_suffix(path, "/");
}

static void test_random_matches(void)
{
	g_autoptr(GRand) rand = seeded_rand();
	g_autoptr(GPtrArray) strings = short_strings();
	size_t compared = 0, matched = 0;

	for (int i = 0; i < 400; i++) {
		g_autoptr(Glob) glob = random_glob(rand, true);

		if (!glob)
			continue;
		g_autoptr(GRegex) regex = translate(glob_pattern(glob));
		for (int j = 0; j < 500; j++) {
			gint32 nth = g_rand_int_range(rand, 0, (gint32)strings->len);
			const char *path = g_ptr_array_index(strings, nth);
			bool expected = g_regex_match(regex, path, 0, NULL);

			if (glob_match(glob, path) != expected)
				g_error("%s against %s: expected %d (%s)", glob_pattern(glob), path,
					expected, g_regex_get_pattern(regex));
			compared++;
			matched += expected;
		}
	}
	g_test_message("%zu compared, %zu matched", compared, matched);
	g_assert_cmpuint(matched, >, compared / 1000);
}

/* Which of the paths a pattern matches: one byte for each. */
static char *match_all(const Glob *glob, const GPtrArray *strings)
{
	char *matches = g_new0(char, strings->len);

	for (size_t i = 0; i < strings->len; i++) {
		const char *path = g_ptr_array_index(strings, i);

		matches[i] = is_clean_path(path) && glob_match(glob, path);
	}
	return matches;
}

static const char *common_path(const char *a, const char *b, const GPtrArray *strings)
{
	for (size_t i = 0; i < strings->len; i++)
		if (a[i] && b[i])
			return g_ptr_array_index(strings, i);
	return NULL;
}

/*
 * How long the shortest common path can be at most: each byte of it is there because one of the
 * patterns asks for it, or because a name between two slashes must not be empty.
 */
static size_t longest_needed(const Glob *a, const Glob *b)
{
	const Glob *globs[] = { a, b };
	size_t bytes = 1;

	for (size_t i = 0; i < G_N_ELEMENTS(globs); i++) {
		for (const char *at = glob_pattern(globs[i]); *at; at++) {
			bytes += *at == '/';
			bytes += *at != '*' && *at != '\\';
			at += *at == '[' ? strcspn(at, "]") : 0;
		}
	}
	return bytes;
}

static void compare_overlaps(bool stars, int count)
{
	g_autoptr(GRand) rand = seeded_rand();
	g_autoptr(GPtrArray) strings = short_strings();
	g_autoptr(GPtrArray) globs = g_ptr_array_new();
	g_autoptr(GPtrArray) matches = g_ptr_array_new_with_free_func(g_free);
	size_t exact[2] = { 0, 0 }, inexact = 0;

	while (globs->len < (guint)count) {
		Glob *glob = random_glob(rand, stars);

		if (!glob)
			continue;
		g_ptr_array_add(globs, glob);
		g_ptr_array_add(matches, match_all(glob, strings));
	}
	for (size_t i = 0; i < globs->len; i++) {
		for (size_t j = 0; j < globs->len; j++) {
			const Glob *a = globs->pdata[i], *b = globs->pdata[j];
			bool overlaps = glob_overlaps(a, b);
			const char *path =
				common_path(matches->pdata[i], matches->pdata[j], strings);
			bool found_all = !stars || longest_needed(a, b) <= PATH_LENGTH;

			if (path ? !overlaps : overlaps && found_all)
				g_error("%s and %s: overlaps %d, but common path %s",
					glob_pattern(a), glob_pattern(b), overlaps,
					path ? path : "none");
			if (path || found_all)
				exact[overlaps]++;
			else
				inexact++;
		}
	}
	g_test_message("%zu overlap, %zu do not, %zu too long to say", exact[true], exact[false],
		       inexact);
	g_assert_cmpuint(exact[true], >, 0);
	g_assert_cmpuint(exact[false], >, 0);
	for (size_t i = 0; i < globs->len; i++)
		glob_free(globs->pdata[i]);
}

static void test_random_overlaps(void)
{
	compare_overlaps(true, 150);
}

static void test_random_overlaps_star_free(void)
{
	compare_overlaps(false, 150);
}

/* Hostile patterns: whatever comes out, the sanitizers have nothing to say. */
static void test_random_bytes(void)
{
	static const char BYTES[] = "[]!^-\\*?/a.:=\x01\xff";
	g_autoptr(GRand) rand = seeded_rand();
	g_autoptr(Glob) previous = glob_must("**");
	int accepted = 0;

	for (int i = 0; i < 20000; i++) {
		char pattern[GLOB_MAX_LENGTH + 8];
		int length = g_rand_int_range(rand, 0, i % 100 ? 12 : (int)sizeof(pattern));
		g_autoptr(GError) error = NULL;

		for (int j = 0; j < length; j++)
			pattern[j] = BYTES[g_rand_int_range(rand, 0, (int)sizeof(BYTES) - 1)];
		pattern[length] = '\0';
		g_autoptr(Glob) glob = glob_new(pattern, &error);
		g_assert_true(!glob == !!error);
		if (!glob)
			continue;
		glob_match(glob, pattern);
		g_assert_cmpint(glob_overlaps(glob, previous), ==, glob_overlaps(previous, glob));
		glob_free(previous);
		previous = g_steal_pointer(&glob);
		accepted++;
	}
	g_test_message("%d accepted", accepted);
	g_assert_cmpint(accepted, >, 100);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/glob/stars", test_stars);
	g_test_add_func("/glob/bytes", test_bytes);
	g_test_add_func("/glob/refuses", test_refuses);
	g_test_add_func("/glob/length", test_length);
	g_test_add_func("/glob/no-backtracking", test_no_backtracking);
	g_test_add_func("/glob/overlaps", test_overlaps);
	g_test_add_func("/glob/empty-set", test_empty_set);
	g_test_add_func("/glob/random-matches", test_random_matches);
	g_test_add_func("/glob/random-overlaps", test_random_overlaps);
	g_test_add_func("/glob/random-overlaps-star-free", test_random_overlaps_star_free);
	g_test_add_func("/glob/random-bytes", test_random_bytes);
	return g_test_run();
}
