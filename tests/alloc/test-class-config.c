// SPDX-License-Identifier: Apache-2.0
/* Files on disk, good and hostile: a mount must be told on one line what is wrong with its
 * configuration. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "alloc/class-config.h"

/* Nobody's number: what a test drops to when it runs as root, which could read anything. */
#define UNPRIVILEGED_USER 65534

typedef struct Fixture {
	char *dir;
	char *path;
	/* What the mount keys were, as "key=value;" in order. */
	GString *mount_keys;
	ClassRules *rules;
} Fixture;

static void fixture_init(Fixture *fixture, gconstpointer data)
{
	(void)data;
	fixture->dir = g_dir_make_tmp("test-class-config-XXXXXX", NULL);
	g_assert_nonnull(fixture->dir);
	fixture->path = g_build_filename(fixture->dir, "warmfs.conf", NULL);
	fixture->mount_keys = g_string_new(NULL);
	fixture->rules = class_rules_new();
}

static void fixture_deinit(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_remove(fixture->path);
	g_assert_cmpint(g_rmdir(fixture->dir), ==, 0);
	class_rules_free(fixture->rules);
	g_string_free(fixture->mount_keys, TRUE);
	g_free(fixture->path);
	g_free(fixture->dir);
}

/* Knows `io_uring` and `reserve`, and of the latter only 5%. */
static bool set_mount_key(void *arg, const char *key, const char *value, const char *origin, GError **error)
{
	Fixture *fixture = arg;

	g_assert_nonnull(strchr(origin, ':'));
	if (strcmp(key, "reserve") != 0 && strcmp(key, "io_uring") != 0) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION,
			    "%s=%s: unknown key; allowed: io_uring, reserve", key, value);
		return false;
	}
	if (strcmp(key, "reserve") == 0 && strcmp(value, "5%") != 0) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			    "%s=%s: not a share; allowed: 5%%", key, value);
		return false;
	}
	g_string_append_printf(fixture->mount_keys, "%s=%s;", key, value);
	return true;
}

static void write_file(Fixture *fixture, const char *text, gssize length)
{
	g_autoptr(GError) error = NULL;

	g_file_set_contents(fixture->path, text, length, &error);
	g_assert_no_error(error);
}

static void load(Fixture *fixture, const char *text)
{
	g_autoptr(GError) error = NULL;
	bool ok;

	write_file(fixture, text, -1);
	ok = class_config_load(fixture->path, fixture->rules, set_mount_key, fixture, &error);
	g_assert_no_error(error);
	g_assert_true(ok);
}

/* Loads `path`: the error must be its name, and then `text`. */
static void assert_load_fails(Fixture *fixture, const char *path, const char *text)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *expected = g_strdup_printf("%s: %s", path, text);
	size_t before = class_rules_count(fixture->rules);

	g_assert_false(class_config_load(path, fixture->rules, set_mount_key, fixture, &error));
	g_assert_nonnull(error);
	g_assert_cmpstr(error->message, ==, expected);
	g_assert_cmpuint(class_rules_count(fixture->rules), ==, before);
	g_assert_false(class_config_load(path, fixture->rules, set_mount_key, fixture, NULL));
}

static void assert_refused(Fixture *fixture, const char *config, gssize length, const char *text)
{
	write_file(fixture, config, length);
	assert_load_fails(fixture, fixture->path, text);
}

/* Each value is known by the line that gave it. */
static void test_origins(Fixture *fixture, gconstpointer data)
{
	const SegmentClass *class;
	const char *origin;

	(void)data;
	load(fixture, "[warmfs]\n"
		      "reserve=5%\n"
		      "\n"
		      "[class a]\n"
		      "match=a\n"
		      "size=1M\n"
		      "[class b]\n"
		      "# size=2M\n"
		      " size = 3M\r\n"
		      "match=b\n");
	for (int i = 0; i < 2; i++) {
		g_autofree char *expected = g_strdup_printf("%s:%d", fixture->path, i ? 9 : 6);

		class = class_rules_nth(fixture->rules, i);
		g_assert_cmpstr(segment_class_value(class, "size", &origin), ==, i ? "3M" : "1M");
		g_assert_cmpstr(origin, ==, expected);
		segment_class_value(class, "ahead", &origin);
		g_assert_cmpstr(origin, ==, "default");
	}
}

static void test_classes(Fixture *fixture, gconstpointer data)
{
	const SegmentClass *class;

	(void)data;
	load(fixture, "# a comment\n"
		      "\n"
		      "[class wal]\n"
		      "match=wal/*\n"
		      "size=64M\n"
		      "kind=mapped\n"
		      "ahead=3\n"
		      "timeout=2s\n"
		      "on_timeout=fail\n"
		      "folio=128K\n"
		      "quota=1G\n"
		      "[warmfs]\n"
		      "reserve=5%\n"
		      "io_uring=\n"
		      "[class my logs]\n"
		      "match=*.log\n"
		      "size=1M\n"
		      "kind=stream");
	g_assert_cmpuint(class_rules_count(fixture->rules), ==, 2);
	class = class_rules_nth(fixture->rules, 0);
	g_assert_cmpstr(class->name, ==, "wal");
	g_assert_cmpstr(glob_pattern(class->match), ==, "wal/*");
	g_assert_cmpuint(class->size_bytes, ==, 64 << 20);
	g_assert_cmpuint(class->ahead, ==, 3);
	g_assert_cmpuint(class->timeout_ms, ==, 2000);
	g_assert_true(class->fail_on_timeout);
	g_assert_cmpuint(class->folio_bytes, ==, 128 << 10);
	g_assert_cmpuint(class->quota_bytes, ==, 1 << 30);
	class = class_rules_nth(fixture->rules, 1);
	g_assert_cmpstr(class->name, ==, "my logs");
	g_assert_cmpint(class->kind, ==, SEGMENT_KIND_STREAM);
	g_assert_cmpuint(class->ahead, ==, 2);
	g_assert_cmpstr(fixture->mount_keys->str, ==, "reserve=5%;io_uring=;");
}

/* What is already in the rules stays there. */
static void test_adds(Fixture *fixture, gconstpointer data)
{
	(void)data;
	load(fixture, "[class a]\nmatch=a\nsize=1\n");
	load(fixture, "[warmfs]\nreserve=5%\n");
	assert_refused(
		fixture, "[class b]\nmatch=b\nsize=1\n[class c]\nsize=0\n", -1,
		"[class c] size=0: too small; allowed: a number of bytes, or one with K, M, G "
		"or T, from 1 to 8388607T");
	load(fixture, "[class b]\nmatch=b\nsize=1\n");
	g_assert_cmpuint(class_rules_count(fixture->rules), ==, 2);
	g_assert_cmpstr(class_rules_nth(fixture->rules, 0)->name, ==, "a");
	g_assert_cmpstr(class_rules_nth(fixture->rules, 1)->name, ==, "b");
}

/* A class that lacks something is for class_rules_check to refuse. */
static void test_incomplete_class(Fixture *fixture, gconstpointer data)
{
	(void)data;
	load(fixture, "[class a]\n");
	g_assert_cmpuint(class_rules_count(fixture->rules), ==, 1);
	g_assert_false(class_rules_check(fixture->rules, 1 << 30, NULL));
}

static void test_values_as_they_stand(Fixture *fixture, gconstpointer data)
{
	static const char *const PATTERNS[][2] = {
		{ "a\\*b", "a\\*b" },	  { "a\\sb\\n", "a\\sb\\n" },
		{ "a;b\\;c", "a;b\\;c" }, { "# no comment", "# no comment" },
		{ "a=b", "a=b" },	  { "  a b\t ", "a b" },
		{ "a\r", "a" },		  { "\xc3\xa4*", "\xc3\xa4*" },
	};

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(PATTERNS); i++) {
		g_autofree char *text =
			g_strdup_printf("  [class c]  \r\n match =%s\nsize=1\n", PATTERNS[i][0]);

		load(fixture, text);
		g_assert_cmpstr(glob_pattern(class_rules_nth(fixture->rules, i)->match), ==,
				PATTERNS[i][1]);
	}
}

static void test_refuses(Fixture *fixture, gconstpointer data)
{
	static const struct {
		const char *config, *text;
	} CASES[] = {
		{ "", "holds no group; allowed: [class NAME] and [warmfs]" },
		{ "\n# nothing\n\n", "holds no group; allowed: [class NAME] and [warmfs]" },
		{ "[class a]\nkind=fast\n",
		  "[class a] kind=fast: not a kind; allowed: mapped, append or stream" },
		{ "[class a]\nahead=\n",
		  "[class a] ahead=: not a whole number; allowed: a number of segments from 0 to "
		  "64, or auto" },
		{ "[class a]\nsizes=1G\n",
		  "[class a] sizes=1G: unknown key, did you mean size?; allowed: match, size, "
		  "kind, ahead, max_ahead, timeout, on_timeout, folio, warm, warm_min_size, flush, "
		  "flush_least_pages, lock, lock_active, linger, quota, slow_ms, transient, "
		  "transient_pool_size, fast_fail, commit_interval, commit_least_pages, flush_interval, "
		  "transient_flush_least_pages, recycle, provider" },
		{ "[class a]\nsize[de]=1G\n",
		  "[class a] size[de]=1G: unknown key; allowed: match, size, kind, ahead, "
		  "max_ahead, timeout, on_timeout, folio, warm, warm_min_size, flush, flush_least_pages, "
		  "lock, lock_active, linger, quota, slow_ms, transient, "
		  "transient_pool_size, fast_fail, commit_interval, commit_least_pages, flush_interval, "
		  "transient_flush_least_pages, recycle, provider" },
		{ "[warmfs]\nreserve=6%\n", "[warmfs] reserve=6%: not a share; allowed: 5%" },
		{ "[warmfs]\nfoo=1\n", "[warmfs] foo=1: unknown key; allowed: io_uring, reserve" },
		{ "[clas a]\n", "[clas a]: unknown group; allowed: [class NAME] and [warmfs]" },
		{ "[class]\n", "[class]: unknown group; allowed: [class NAME] and [warmfs]" },
		{ "[classes]\n", "[classes]: unknown group; allowed: [class NAME] and [warmfs]" },
		{ "[WarmFS]\n", "[WarmFS]: unknown group; allowed: [class NAME] and [warmfs]" },
		{ "[class a]\n[class b]\n[class a]\n",
		  "line 3: [class a] comes twice; allowed: each group once" },
		{ "[warmfs]\n [warmfs] \n",
		  "line 2: [warmfs] comes twice; allowed: each group once" },
		{ "[class a]\nsize=1\nahead=1\nsize =2\n",
		  "line 4: size comes twice; allowed: each key once in a group" },
		{ "[class a]\nsize\n",
		  "line 2: \"size\" is not a [group], a key=value or a # comment" },
		{ "[class a]\n=1G\n",
		  "line 2: \"=1G\" is not a [group], a key=value or a # comment" },
		{ "[class a\n",
		  "line 1: \"[class a\" is not a [group], a key=value or a # comment" },
		{ "{ \"class\": 1 }",
		  "line 1: \"{ \"class\": 1 }\" is not a [group], a key=value or a # comment" },
		{ "\n[class a]\nmatch=a\x01z\n",
		  "line 3: not text; allowed: UTF-8 without control characters" },
		{ "[class a]\nmatch=\xff\n",
		  "line 2: not text; allowed: UTF-8 without control characters" },
		{ "[class a]\rmatch=a\n",
		  "line 1: not text; allowed: UTF-8 without control characters" },
	};

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_test_message("%s", CASES[i].text);
		assert_refused(fixture, CASES[i].config, -1, CASES[i].text);
	}
}

/* GKeyFile's own refusals: its words, our prefix. */
static void test_refused_by_key_file(Fixture *fixture, gconstpointer data)
{
	static const char *const CONFIGS[] = { "size=1G\n[class a]\n", "[]\n", "[class [a]]\n",
					       "[class a]\n[=1\n" };

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(CONFIGS); i++) {
		g_autoptr(GError) error = NULL;

		write_file(fixture, CONFIGS[i], -1);
		g_assert_false(class_config_load(fixture->path, fixture->rules, set_mount_key,
						 fixture, &error));
		g_test_message("%s", error->message);
		g_assert_cmpint(error->domain, ==, G_KEY_FILE_ERROR);
		g_assert_true(g_str_has_prefix(error->message, fixture->path));
		g_assert_null(strchr(error->message, '\n'));
		g_assert_cmpuint(class_rules_count(fixture->rules), ==, 0);
	}
}

static void test_names(Fixture *fixture, gconstpointer data)
{
	g_autofree char *longest = g_strnfill(CLASS_CONFIG_MAX_NAME, 'n');
	g_autofree char *longer = g_strnfill(CLASS_CONFIG_MAX_NAME + 1, 'n');
	g_autofree char *config = g_strdup_printf("[class %s]\n", longest);
	const char *const NAMES[] = { "", "a/b", "/", ".", "..", ".a", " a", longer };

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++) {
		g_autofree char *bad = g_strdup_printf("[class %s]\nmatch=a\n", NAMES[i]);
		g_autofree char *text = g_strdup_printf(
			"[class %s]: not a name for a class; allowed: 1 to 64 bytes without a "
			"slash, the first neither a dot nor a blank",
			NAMES[i]);

		assert_refused(fixture, bad, -1, text);
	}
	load(fixture, config);
	g_assert_cmpstr(class_rules_nth(fixture->rules, 0)->name, ==, longest);
}

static void test_binary(Fixture *fixture, gconstpointer data)
{
	char bytes[256];

	(void)data;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7);
	assert_refused(fixture, bytes, sizeof(bytes),
		       "line 1: not text; allowed: UTF-8 without control characters");
	assert_refused(fixture, "[class a]\nsize=1\n\0\n", 18,
		       "line 3: not text; allowed: UTF-8 without control characters");
}

static void test_large(Fixture *fixture, gconstpointer data)
{
	g_autoptr(GString) config = g_string_new("[class a]\nsize=1\n");

	(void)data;
	while (config->len + 1024 < CLASS_CONFIG_MAX_FILE)
		g_string_append_printf(config, "#%01022d\n", 0);
	while (config->len < CLASS_CONFIG_MAX_FILE)
		g_string_append_c(config, '\n');
	load(fixture, config->str);
	g_string_append_c(config, '\n');
	assert_refused(fixture, config->str, -1, "too large; allowed: at most 1048576 bytes");
	assert_load_fails(fixture, "/dev/zero", "too large; allowed: at most 1048576 bytes");
	/* Sparse: nothing is read to its end. */
	g_assert_cmpint(truncate(fixture->path, (off_t)1 << 40), ==, 0);
	assert_load_fails(fixture, fixture->path, "too large; allowed: at most 1048576 bytes");
}

static void test_long_line(Fixture *fixture, gconstpointer data)
{
	g_autofree char *comment = g_strnfill(CLASS_CONFIG_MAX_LINE, '#');
	g_autofree char *fits = g_strdup_printf("[class a]\n%s\n", comment);
	g_autofree char *too_long = g_strdup_printf("[class a]\n%s#\n", comment);

	(void)data;
	load(fixture, fits);
	assert_refused(fixture, too_long, -1, "line 2: too long; allowed: at most 4096 bytes");
}

static void test_not_a_file(Fixture *fixture, gconstpointer data)
{
	(void)data;
	assert_load_fails(fixture, fixture->path, "cannot be opened: No such file or directory");
	assert_load_fails(fixture, fixture->dir, "cannot be read: Is a directory");
	assert_load_fails(fixture, "/dev/null",
			  "holds no group; allowed: [class NAME] and [warmfs]");
	assert_load_fails(fixture, "", "cannot be opened: No such file or directory");
}

static void test_unreadable(Fixture *fixture, gconstpointer data)
{
	bool root = geteuid() == 0;
	g_autoptr(GError) error = NULL;
	bool ok;

	(void)data;
	write_file(fixture, "[class a]\nmatch=a\nsize=1\n", -1);
	g_assert_cmpint(g_chmod(fixture->path, 0), ==, 0);
	g_assert_cmpint(g_chmod(fixture->dir, 0755), ==, 0);
	g_assert_true(!root || seteuid(UNPRIVILEGED_USER) == 0);
	ok = class_config_load(fixture->path, fixture->rules, set_mount_key, fixture, &error);
	g_assert_true(!root || seteuid(0) == 0);
	g_assert_false(ok);
	g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_ACCES);
	g_assert_true(g_str_has_suffix(error->message, ": cannot be opened: Permission denied"));
	g_assert_true(g_str_has_prefix(error->message, fixture->path));
}

/* `-o config=/dev/fd/N` of a shell's `<(...)`. */
static void test_pipe(Fixture *fixture, gconstpointer data)
{
	static const char CONFIG[] = "[class a]\nmatch=a\nsize=1\n";
	g_autoptr(GError) error = NULL;
	g_autofree char *path = NULL;
	int fds[2];
	bool ok;

	(void)data;
	g_assert_cmpint(pipe(fds), ==, 0);
	g_assert_cmpint(write(fds[1], CONFIG, strlen(CONFIG)), ==, (gssize)strlen(CONFIG));
	close(fds[1]);
	path = g_strdup_printf("/dev/fd/%d", fds[0]);
	ok = class_config_load(path, fixture->rules, set_mount_key, fixture, &error);
	close(fds[0]);
	g_assert_no_error(error);
	g_assert_true(ok);
	g_assert_cmpuint(class_rules_count(fixture->rules), ==, 1);
}

/* WARMFS_TEST_SEED repeats a run. Every file is a good one with some bytes changed. */
static void test_random_damage(Fixture *fixture, gconstpointer data)
{
	static const char GOOD[] = "[class a]\nmatch=*.log\nsize=1G\n# x\n[warmfs]\nreserve=5%\n";
	static const char BYTES[] = "[]=#\n\r\t \\/a\x01\xff\xc3\xa4";
	const char *seed_text = g_getenv("WARMFS_TEST_SEED");
	guint32 seed = seed_text ? (guint32)g_ascii_strtoull(seed_text, NULL, 10) : g_random_int();
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	int refused = 0;

	(void)data;
	g_test_message("WARMFS_TEST_SEED=%u", seed);
	for (int i = 0; i < 1000; i++) {
		g_autofree char *text = g_strdup(GOOD);
		g_autoptr(GError) error = NULL;

		for (int j = g_rand_int_range(rand, 1, 4); j > 0; j--)
			text[g_rand_int_range(rand, 0, (gint32)strlen(GOOD))] =
				BYTES[g_rand_int_range(rand, 0, (gint32)sizeof(BYTES))];
		write_file(fixture, text, sizeof(GOOD) - 1);
		if (class_config_load(fixture->path, fixture->rules, set_mount_key, fixture,
				      &error)) {
			g_assert_no_error(error);
			continue;
		}
		refused++;
		g_assert_true(g_str_has_prefix(error->message, fixture->path));
		g_assert_true(g_utf8_validate(error->message, -1, NULL));
		g_assert_null(strchr(error->message, '\n'));
	}
	g_test_message("%d refused", refused);
	g_assert_cmpint(refused, >, 100);
}

static void add_test(const char *name, void (*run)(Fixture *, gconstpointer))
{
	g_test_add(name, Fixture, NULL, fixture_init, run, fixture_deinit);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_test("/class-config/classes", test_classes);
	add_test("/class-config/origins", test_origins);
	add_test("/class-config/adds", test_adds);
	add_test("/class-config/incomplete-class", test_incomplete_class);
	add_test("/class-config/values-as-they-stand", test_values_as_they_stand);
	add_test("/class-config/refuses", test_refuses);
	add_test("/class-config/refused-by-key-file", test_refused_by_key_file);
	add_test("/class-config/names", test_names);
	add_test("/class-config/binary", test_binary);
	add_test("/class-config/large", test_large);
	add_test("/class-config/long-line", test_long_line);
	add_test("/class-config/not-a-file", test_not_a_file);
	add_test("/class-config/unreadable", test_unreadable);
	add_test("/class-config/pipe", test_pipe);
	add_test("/class-config/random-damage", test_random_damage);
	return g_test_run();
}
