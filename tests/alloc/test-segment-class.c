// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include <glib.h>

#include "alloc/segment-class.h"

#define GIB (UINT64_C(1) << 30)
#define MATCH_ALLOWED \
	"a pattern for the path below the mount point, such as *.log, wal/* or **/*.log"
#define MIN_SIZE_ALLOWED "a number of bytes, or one with K, M, G or T, from 0 to 8388607T"
#define PAGES_ALLOWED	 "a number of pages from 1 to 16777216"
#define SLOW_ALLOWED	"milliseconds, or a number with ms or s, from 0 to 3600s"
#define AHEAD_ALLOWED	"a number of segments from 0 to 64, or auto"
#define TIMEOUT_ALLOWED "milliseconds, or a number with ms or s, from 1ms to 3600s"
#define PROVIDER_ALLOWED "file, or a name of at most 64 letters, digits, - and _"
#define SIZE_ALLOWED	"a number of bytes, or one with K, M, G or T, from 1 to 8388607T"

static void set(SegmentClass *class, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;
	bool ok;

	g_test_message("%s=%s", key, value);
	ok = segment_class_set(class, key, value, &error);
	g_assert_no_error(error);
	g_assert_true(ok);
}

static void test_kind_names(void)
{
	for (int kind = 0; kind < _SEGMENT_KIND_MAX; kind++) {
		const char *name = segment_kind_to_string((SegmentKind)kind);

		g_assert_nonnull(name);
		g_assert_cmpint(segment_kind_from_string(name), ==, kind);
	}
	g_assert_cmpstr(segment_kind_to_string(SEGMENT_KIND_MAPPED), ==, "mapped");
	g_assert_cmpstr(segment_kind_to_string(SEGMENT_KIND_STREAM), ==, "stream");
	g_assert_null(segment_kind_to_string(_SEGMENT_KIND_MAX));
	g_assert_null(segment_kind_to_string(_SEGMENT_KIND_INVALID));
	g_assert_cmpint(segment_kind_from_string(""), ==, _SEGMENT_KIND_INVALID);
	g_assert_cmpint(segment_kind_from_string("Mapped"), ==, _SEGMENT_KIND_INVALID);
}

static void test_defaults(void)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	g_assert_cmpstr(class->name, ==, "wal");
	g_assert_null(class->match);
	g_assert_cmpint(class->kind, ==, SEGMENT_KIND_MAPPED);
	g_assert_cmpuint(class->size_bytes, ==, 0);
	g_assert_cmpuint(class->ahead, ==, 2);
	g_assert_false(class->ahead_auto);
	g_assert_cmpuint(class->max_ahead, ==, 8);
	g_assert_cmpuint(class->slow_ms, ==, 10);
	g_assert_true(class->recycle);
	g_assert_true(class->warm);
	g_assert_cmpuint(class->warm_min_bytes, ==, 0);
	g_assert_false(class->flush_async);
	g_assert_cmpuint(class->flush_least_pages, ==, 4096);
	g_assert_false(class->lock);
	g_assert_cmpuint(class->lock_active, ==, 2);
	g_assert_cmpuint(class->timeout_ms, ==, 5000);
	g_assert_false(class->fail_on_timeout);
	g_assert_cmpuint(class->folio_bytes, ==, 65536);
	g_assert_cmpuint(class->quota_bytes, ==, 0);
	g_assert_null(class->provider);
	g_assert_false(class->transient);
	g_assert_cmpuint(class->transient_pool_size, ==, 5);
	g_assert_false(class->fast_fail);
	g_assert_cmpuint(class->commit_interval_ms, ==, 200);
	g_assert_cmpuint(class->commit_least_pages, ==, 4);
	g_assert_cmpuint(class->flush_interval_ms, ==, 500);
	g_assert_cmpuint(class->transient_flush_least_pages, ==, 4);
	g_assert_null(segment_class_free(NULL));
}

static void test_has_key(void)
{
	static const char *const KEYS[] = { "match",   "size",	     "kind",  "ahead",
					    "timeout", "on_timeout", "folio", "quota",
					    "linger",  "provider", "slow_ms",
					    "max_ahead", "warm", "warm_min_size", "flush",
					    "flush_least_pages", "transient", "transient_pool_size",
					    "fast_fail", "commit_interval", "commit_least_pages",
					    "flush_interval", "transient_flush_least_pages", "recycle" };

	for (size_t i = 0; i < G_N_ELEMENTS(KEYS); i++)
		g_assert_true(segment_class_has_key(KEYS[i]));
	g_assert_false(segment_class_has_key(""));
	g_assert_false(segment_class_has_key("Size"));
	g_assert_false(segment_class_has_key("siz"));
	g_assert_false(segment_class_has_key("config"));
}

static void test_set_match(void)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	set(class, "match", "*.log");
	g_assert_cmpstr(glob_pattern(class->match), ==, "*.log");
	set(class, "match", "**/a\\*b");
	g_assert_cmpstr(glob_pattern(class->match), ==, "**/a\\*b");
}

static void test_set_bytes(void)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	set(class, "size", "1");
	g_assert_cmpuint(class->size_bytes, ==, 1);
	set(class, "size", "1g");
	g_assert_cmpuint(class->size_bytes, ==, GIB);
	set(class, "size", "8388607T");
	g_assert_cmpuint(class->size_bytes, ==, UINT64_C(8388607) << 40);
	set(class, "quota", "1");
	g_assert_cmpuint(class->quota_bytes, ==, 1);
	set(class, "quota", "64000000");
	g_assert_cmpuint(class->quota_bytes, ==, 64000000);
	set(class, "quota", "none");
	g_assert_cmpuint(class->quota_bytes, ==, 0);
	set(class, "folio", "4K");
	g_assert_cmpuint(class->folio_bytes, ==, 4096);
	set(class, "folio", "2097152");
	g_assert_cmpuint(class->folio_bytes, ==, 2 << 20);
	set(class, "warm_min_size", "1G");
	g_assert_cmpuint(class->warm_min_bytes, ==, GIB);
	set(class, "warm_min_size", "0");
	g_assert_cmpuint(class->warm_min_bytes, ==, 0);
	g_assert_cmpuint(class->size_bytes, ==, UINT64_C(8388607) << 40);
}

static void test_set_numbers(void)
{
	static const struct {
		const char *text;
		unsigned timeout_ms;
	} TIMEOUTS[] = {
		{ "1", 1 },
		{ "1ms", 1 },
		{ "250", 250 },
		{ "2500ms", 2500 },
		{ "1s", 1000 },
		{ "3600s", 3600000 },
		{ "3600000", 3600000 },
		{ "3600000ms", 3600000 },
	};
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	for (size_t i = 0; i < G_N_ELEMENTS(TIMEOUTS); i++) {
		set(class, "timeout", TIMEOUTS[i].text);
		g_assert_cmpuint(class->timeout_ms, ==, TIMEOUTS[i].timeout_ms);
	}
	set(class, "ahead", "0");
	g_assert_cmpuint(class->ahead, ==, 0);
	set(class, "ahead", "64");
	g_assert_cmpuint(class->ahead, ==, 64);
	set(class, "ahead", "auto");
	g_assert_true(class->ahead_auto);
	g_assert_cmpuint(class->ahead, ==, 2);
	set(class, "ahead", "3");
	g_assert_false(class->ahead_auto);
	set(class, "lock_active", "0");
	g_assert_cmpuint(class->lock_active, ==, 0);
	set(class, "flush_least_pages", "1");
	g_assert_cmpuint(class->flush_least_pages, ==, 1);
	set(class, "flush_least_pages", "16777216");
	g_assert_cmpuint(class->flush_least_pages, ==, 1 << 24);
	set(class, "max_ahead", "64");
	g_assert_cmpuint(class->max_ahead, ==, 64);
	set(class, "slow_ms", "0");
	g_assert_cmpuint(class->slow_ms, ==, 0);
	set(class, "slow_ms", "2s");
	g_assert_cmpuint(class->slow_ms, ==, 2000);
	set(class, "transient_pool_size", "64");
	g_assert_cmpuint(class->transient_pool_size, ==, 64);
	set(class, "commit_interval", "1s");
	g_assert_cmpuint(class->commit_interval_ms, ==, 1000);
	set(class, "commit_least_pages", "0");
	g_assert_cmpuint(class->commit_least_pages, ==, 0);
	set(class, "flush_interval", "1");
	g_assert_cmpuint(class->flush_interval_ms, ==, 1);
	set(class, "transient_flush_least_pages", "9");
	g_assert_cmpuint(class->transient_flush_least_pages, ==, 9);
}

static void test_set_words(void)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	set(class, "recycle", "off");
	g_assert_false(class->recycle);
	set(class, "recycle", "on");
	g_assert_true(class->recycle);

	set(class, "kind", "stream");
	g_assert_cmpint(class->kind, ==, SEGMENT_KIND_STREAM);
	set(class, "kind", "mapped");
	g_assert_cmpint(class->kind, ==, SEGMENT_KIND_MAPPED);
	set(class, "on_timeout", "fail");
	g_assert_true(class->fail_on_timeout);
	set(class, "on_timeout", "cold");
	g_assert_false(class->fail_on_timeout);
	set(class, "warm", "off");
	g_assert_false(class->warm);
	set(class, "warm", "on");
	g_assert_true(class->warm);
	set(class, "lock", "on");
	g_assert_true(class->lock);
	set(class, "lock", "off");
	g_assert_false(class->lock);
	set(class, "flush", "async");
	g_assert_true(class->flush_async);
	set(class, "flush", "sync");
	g_assert_false(class->flush_async);
	set(class, "transient", "on");
	g_assert_true(class->transient);
	set(class, "transient", "off");
	g_assert_false(class->transient);
	set(class, "fast_fail", "on");
	g_assert_true(class->fast_fail);
}

static void test_set_provider(void)
{
	g_autofree char *longest = g_strnfill(64, 'n');
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	set(class, "provider", "Huge_pages-2");
	g_assert_cmpstr(class->provider, ==, "Huge_pages-2");
	set(class, "provider", longest);
	g_assert_cmpstr(class->provider, ==, longest);
	set(class, "provider", "file");
	g_assert_null(class->provider);
}

static void assert_refused(const char *key, const char *value, const char *text)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");
	g_autoptr(GError) error = NULL;
	SegmentClass before;

	set(class, "match", "*.log");
	set(class, "size", "1G");
	before = *class;
	g_test_message("'%s=%s'", key, value);
	g_assert_false(segment_class_set(class, key, value, &error));
	g_assert_nonnull(error);
	g_assert_cmpstr(error->message, ==, text);
	g_assert_cmpmem(class, sizeof(*class), &before, sizeof(before));
	g_assert_cmpstr(glob_pattern(class->match), ==, "*.log");
	g_assert_false(segment_class_set(class, key, value, NULL));
}

static void test_refuses_values(void)
{
	static const struct {
		const char *key, *value, *wrong, *allowed;
	} CASES[] = {
		{ "match", "", "an empty pattern", MATCH_ALLOWED },
		{ "match", "/a", "a slash at the start", MATCH_ALLOWED },
		{ "match", "[a", "a [ without its ]", MATCH_ALLOWED },
		{ "match", "a\\", "a backslash at the end", MATCH_ALLOWED },
		{ "size", "", "not a size", SIZE_ALLOWED },
		{ "size", "12X", "not a size", SIZE_ALLOWED },
		{ "size", "-1", "not a size", SIZE_ALLOWED },
		{ "size", "1.5G", "not a size", SIZE_ALLOWED },
		{ "size", "0", "too small", SIZE_ALLOWED },
		{ "size", "0G", "too small", SIZE_ALLOWED },
		{ "size", "8388608T", "too large", SIZE_ALLOWED },
		{ "size", "99999999T", "too large", SIZE_ALLOWED },
		{ "quota", "0", "too small", SIZE_ALLOWED ", or none" },
		{ "quota", "all", "not a size", SIZE_ALLOWED ", or none" },
		{ "quota", "8388608T", "too large", SIZE_ALLOWED ", or none" },
		{ "kind", "", "not a kind", "mapped, append or stream" },
		{ "kind", "append2", "not a kind", "mapped, append or stream" },
		{ "kind", "MAPPED", "not a kind", "mapped, append or stream" },
		{ "ahead", "", "not a whole number", AHEAD_ALLOWED },
		{ "ahead", "-1", "not a whole number", AHEAD_ALLOWED },
		{ "ahead", "automatic", "not a whole number", AHEAD_ALLOWED },
		{ "max_ahead", "0", "out of range", "a number of segments from 1 to 64" },
		{ "max_ahead", "65", "out of range", "a number of segments from 1 to 64" },
		{ "max_ahead", "auto", "not a whole number", "a number of segments from 1 to 64" },
		{ "slow_ms", "", "not a whole number", SLOW_ALLOWED },
		{ "slow_ms", "3601s", "out of range", SLOW_ALLOWED },
		{ "slow_ms", "1m", "not a time", SLOW_ALLOWED },
		{ "ahead", "+1", "not a whole number", AHEAD_ALLOWED },
		{ "ahead", "2x", "not a whole number", AHEAD_ALLOWED },
		{ "ahead", "65", "out of range", AHEAD_ALLOWED },
		{ "ahead", "4294967296", "out of range", AHEAD_ALLOWED },
		{ "ahead", "99999999999999999999", "out of range", AHEAD_ALLOWED },
		{ "timeout", "", "not a whole number", TIMEOUT_ALLOWED },
		{ "timeout", "s", "not a whole number", TIMEOUT_ALLOWED },
		{ "timeout", "5m", "not a time", TIMEOUT_ALLOWED },
		{ "timeout", "0.5s", "not a time", TIMEOUT_ALLOWED },
		{ "timeout", "-5", "not a time", TIMEOUT_ALLOWED },
		{ "timeout", "0", "out of range", TIMEOUT_ALLOWED },
		{ "timeout", "0s", "out of range", TIMEOUT_ALLOWED },
		{ "timeout", "3601s", "out of range", TIMEOUT_ALLOWED },
		{ "timeout", "3600001", "out of range", TIMEOUT_ALLOWED },
		{ "timeout", "99999999999999999999s", "out of range", TIMEOUT_ALLOWED },
		{ "on_timeout", "", "not an action", "cold or fail" },
		{ "on_timeout", "Fail", "not an action", "cold or fail" },
		{ "folio", "2K", "too small", "a power of two from 4K to 2M" },
		{ "folio", "4095", "too small", "a power of two from 4K to 2M" },
		{ "folio", "4M", "too large", "a power of two from 4K to 2M" },
		{ "folio", "12K", "not a power of two", "a power of two from 4K to 2M" },
		{ "folio", "big", "not a size", "a power of two from 4K to 2M" },
		{ "warm", "", "not a switch", "on or off" },
		{ "warm", "yes", "not a switch", "on or off" },
		{ "warm_min_size", "", "not a size", MIN_SIZE_ALLOWED },
		{ "warm_min_size", "8388608T", "too large", MIN_SIZE_ALLOWED },
		{ "flush", "on", "not a way to flush", "sync or async" },
		{ "flush_least_pages", "0", "out of range", PAGES_ALLOWED },
		{ "flush_least_pages", "16777217", "out of range", PAGES_ALLOWED },
		{ "lock", "1", "not a switch", "on or off" },
		{ "lock_active", "65", "out of range", "a number of segments from 0 to 64" },
		{ "lock_active", "all", "not a whole number", "a number of segments from 0 to 64" },
		{ "flush_least_pages", "16M", "not a whole number", PAGES_ALLOWED },
		{ "provider", "", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "../x", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "..", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "a/b", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "a.so", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "a b", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "\303\244", "not a provider's name", PROVIDER_ALLOWED },
		{ "provider", "a0123456789012345678901234567890123456789012345678901234567890123",
		  "not a provider's name", PROVIDER_ALLOWED },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autofree char *text =
			g_strdup_printf("%s=%s: %s; allowed: %s", CASES[i].key, CASES[i].value,
					CASES[i].wrong, CASES[i].allowed);

		assert_refused(CASES[i].key, CASES[i].value, text);
	}
}

static void test_refuses_keys(void)
{
	static const struct {
		const char *key, *meant;
	} CASES[] = {
		{ "siez", "size" },
		{ "Size", "size" },
		{ "siz", "size" },
		{ "sizes", "size" },
		{ "match ", "match" },
		{ "timout", "timeout" },
		{ "time_out", "timeout" },
		{ "ontimeout", "on_timeout" },
		{ "quotas", "quota" },
		{ "foil", "folio" },
		{ "flush_least_page", "flush_least_pages" },
		{ "warm_minsize", "warm_min_size" },
		{ "", NULL },
		{ "depth", NULL },
		{ "s", NULL },
		{ "matchpattern", NULL },
		{ "transient_poolsize", "transient_pool_size" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		const char *meant = CASES[i].meant;
		g_autofree char *guess =
			meant ? g_strdup_printf(", did you mean %s?", meant) : g_strdup("");
		g_autofree char *text = g_strdup_printf(
			"%s=1: unknown key%s; allowed: match, size, kind, ahead, max_ahead, timeout, "
			"on_timeout, folio, warm, warm_min_size, flush, flush_least_pages, lock, lock_active, "
			"linger, quota, slow_ms, "
			"transient, transient_pool_size, fast_fail, commit_interval, commit_least_pages, "
			"flush_interval, transient_flush_least_pages, recycle, provider",
			CASES[i].key, guess);

		assert_refused(CASES[i].key, "1", text);
	}
}

/* Errors stay one short line of UTF-8, whatever the value is. */
static void test_hostile_values(void)
{
	g_autofree char *long_text = g_strnfill(100000, 'k');
	const char *const TEXTS[] = { "a\nb\x1b[2J\x7f", "\xff\xfe\xc3", long_text };
	static const char *const KEYS[] = { "match",   "size",	"kind",	 "ahead",
					    "timeout", "folio", "quota", "on_timeout",
					    "linger",  "provider", "warm", "warm_min_size", "flush",
					    "flush_least_pages" };
	g_autoptr(SegmentClass) class = segment_class_new("wal");

	for (size_t i = 0; i < G_N_ELEMENTS(TEXTS); i++) {
		for (size_t j = 0; j <= G_N_ELEMENTS(KEYS); j++) {
			const char *key = j < G_N_ELEMENTS(KEYS) ? KEYS[j] : TEXTS[i];
			g_autoptr(GError) error = NULL;

			if (segment_class_set(class, key, TEXTS[i], &error)) {
				g_assert_cmpstr(key, ==, "match");
				continue;
			}
			g_assert_true(g_utf8_validate(error->message, -1, NULL));
			g_assert_cmpuint(strlen(error->message), <, 1000);
			for (const char *at = error->message; *at; at++)
				g_assert_false(g_ascii_iscntrl(*at));
		}
	}
}

/* The texts that stand for defaults, and the defaults themselves, say the same. */
static void test_defaults_as_text(void)
{
	g_autoptr(SegmentClass) plain = segment_class_new("wal");
	g_autoptr(SegmentClass) spelled = segment_class_new("wal");
	const char *key, *origin;

	for (size_t i = 0; (key = segment_class_nth_key(i)); i++) {
		const char *value = segment_class_value(plain, key, &origin);

		g_assert_cmpstr(origin, ==, "default");
		if (*value)
			set(spelled, key, value);
		else
			g_assert_true(g_str_equal(key, "match") || g_str_equal(key, "size") ||
				      g_str_equal(key, "quota"));
	}
	g_assert_null(spelled->provider);
	SegmentClass a = *plain, b = *spelled;
	a.name = b.name = NULL;
	a.given = b.given = NULL;
	g_assert_cmpmem(&a, sizeof(a), &b, sizeof(b));
}

static void test_origins(void)
{
	g_autoptr(SegmentClass) class = segment_class_new("wal");
	g_autoptr(GError) error = NULL;
	const char *origin;

	set(class, "ahead", "3");
	g_assert_cmpstr(segment_class_value(class, "ahead", &origin), ==, "3");
	g_assert_cmpstr(origin, ==, "option");
	g_assert_true(segment_class_set_from(class, "ahead", "auto", "/etc/w.conf:7", &error));
	g_assert_cmpstr(segment_class_value(class, "ahead", &origin), ==, "auto");
	g_assert_cmpstr(origin, ==, "/etc/w.conf:7");
	/* What was refused is not in force. */
	g_assert_false(segment_class_set_from(class, "ahead", "many", "/etc/w.conf:8", &error));
	g_assert_cmpstr(segment_class_value(class, "ahead", &origin), ==, "auto");
	g_assert_cmpstr(origin, ==, "/etc/w.conf:7");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/segment-class/kind-names", test_kind_names);
	g_test_add_func("/segment-class/defaults", test_defaults);
	g_test_add_func("/segment-class/defaults-as-text", test_defaults_as_text);
	g_test_add_func("/segment-class/origins", test_origins);
	g_test_add_func("/segment-class/has-key", test_has_key);
	g_test_add_func("/segment-class/set-match", test_set_match);
	g_test_add_func("/segment-class/set-bytes", test_set_bytes);
	g_test_add_func("/segment-class/set-numbers", test_set_numbers);
	g_test_add_func("/segment-class/set-words", test_set_words);
	g_test_add_func("/segment-class/set-provider", test_set_provider);
	g_test_add_func("/segment-class/refuses-values", test_refuses_values);
	g_test_add_func("/segment-class/refuses-keys", test_refuses_keys);
	g_test_add_func("/segment-class/hostile-values", test_hostile_values);
	return g_test_run();
}
