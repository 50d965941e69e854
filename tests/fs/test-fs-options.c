// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-options.h"

#include <string.h>

#include "tests/lib/test-util.h"

/* A command line of words up to a NULL; "-o" included. */
static FsOptions *parse_words(char **words, GError **error)
{
	g_autofree char **argv = g_memdup2(words, sizeof(char *) * (g_strv_length(words) + 1));

	return fs_options_parse((int)g_strv_length(words), argv, error);
}

static FsOptions *parse_option(const char *option, GError **error)
{
	char *words[] = { "warmfs", "-o", (char *)option, "/src", "/mnt", NULL };

	return parse_words(words, error);
}

static FsOptions *parse_good(const char *option)
{
	g_autoptr(GError) error = NULL;
	FsOptions *options = parse_option(option, &error);

	g_assert_no_error(error);
	g_assert_nonnull(options);
	return options;
}

static void test_defaults(void)
{
	char *words[] = { "warmfs", "/src", "/mnt", NULL };
	g_autoptr(GError) error = NULL;
	g_autoptr(FsOptions) options = parse_words(words, &error);

	g_assert_no_error(error);
	g_assert_cmpstr(options->source, ==, "/src");
	g_assert_cmpstr(options->mount_point, ==, "/mnt");
	g_assert_false(options->foreground);
	g_assert_false(options->debug);
	g_assert_cmpuint(class_rules_count(options->rules), ==, 0);
	g_assert_cmpuint(options->n_threads, >=, 1);
	g_assert_cmpuint(options->provider.reserve_percent, ==, 5);
	g_assert_cmpuint(options->pace.rate_bytes, ==, 0);
	g_assert_true(options->pace.yields);
	g_assert_cmpuint(options->lock_budget_bytes, ==, 0);
	g_assert_true(options->fs.passthrough);
	g_assert_true(options->fs.attr_timeout == 1);
	g_assert_true(g_path_is_absolute(options->provider_dir));
	g_assert_cmpuint(options->mount_options->len, ==, 0);
	g_assert_null(fs_options_free(NULL));
}

static void test_flags(void)
{
	char *foreground[] = { "warmfs", "-f", "/src", "/mnt", NULL };
	char *debug[] = { "warmfs", "/src", "-d", "/mnt", NULL };
	char *version[] = { "warmfs", "-V", NULL };
	g_autoptr(GError) error = NULL;
	g_autoptr(FsOptions) a = parse_words(foreground, &error);
	g_autoptr(FsOptions) b = parse_words(debug, &error);
	g_autoptr(FsOptions) c = parse_words(version, &error);

	g_assert_no_error(error);
	g_assert_true(a->foreground && !a->debug);
	g_assert_true(b->foreground && b->debug);
	g_assert_true(c->show_version);
}

/* The command line of mount(8): other letters, -f among them. */
static void test_mount_helper(void)
{
	char *words[] = { "/sbin/mount.warmfs", "/src", "/mnt", "-fsvn", "-N", "/proc/7/ns/mnt", "-t", "fuse.warmfs",
			  "-o", "rw,match=*.log,size=1M,colour=red", NULL };
	char *strict[] = { "mount.warmfs", "/src", "/mnt", "-o", "rw,colour=red", NULL };
	g_autoptr(GError) error = NULL;
	g_autoptr(FsOptions) a = parse_words(words, &error);
	g_autoptr(FsOptions) b = NULL;

	g_assert_no_error(error);
	g_assert_true(a->fake && a->verbose && !a->foreground);
	g_assert_cmpstr(a->mount_namespace, ==, "/proc/7/ns/mnt");
	g_assert_cmpuint(class_rules_count(a->rules), ==, 1);
	b = parse_words(strict, &error);
	g_assert_null(b);
	g_assert_nonnull(strstr(error->message, "colour=red"));
}

static void test_remount(void)
{
	g_autoptr(FsOptions) options = parse_good("rw,user_id=0,group_id=0,remount,size=1M,match=*.x,threads=2,ro");
	g_autoptr(FsOptions) without = parse_good("ro");

	g_assert_true(options->remount);
	g_assert_false(without->remount);
	g_assert_cmpuint(options->mount_options->len, ==, 2);
	g_assert_cmpuint(options->own_keys->len, ==, 3);
	g_assert_cmpstr(g_ptr_array_index(options->own_keys, 2), ==, "threads");
}

static void test_wait_warm(void)
{
	g_autoptr(FsOptions) a = parse_good("ro");
	g_autoptr(FsOptions) b = parse_good("wait_warm");
	g_autoptr(FsOptions) c = parse_good("wait_warm=on");
	g_autoptr(FsOptions) d = parse_good("wait_warm=off");

	g_assert_true(!a->wait_warm && b->wait_warm && c->wait_warm && !d->wait_warm);
}

static void test_class(void)
{
	g_autoptr(FsOptions) options =
		parse_good("match=wal/*.log,size=16M,kind=stream,ahead=3,timeout=100,"
			   "on_timeout=fail,folio=128K,quota=1G,provider=huge");
	const SegmentClass *class;

	g_assert_cmpuint(class_rules_count(options->rules), ==, 1);
	class = class_rules_nth(options->rules, 0);
	g_assert_cmpstr(glob_pattern(class->match), ==, "wal/*.log");
	g_assert_cmpuint(class->size_bytes, ==, 16 << 20);
	g_assert_cmpint(class->kind, ==, SEGMENT_KIND_STREAM);
	g_assert_cmpuint(class->ahead, ==, 3);
	g_assert_cmpuint(class->timeout_ms, ==, 100);
	g_assert_true(class->fail_on_timeout);
	g_assert_cmpuint(class->folio_bytes, ==, 128 << 10);
	g_assert_cmpuint(class->quota_bytes, ==, 1 << 30);
	g_assert_cmpstr(class->provider, ==, "huge");
}

static void test_several_lists(void)
{
	char *words[] = { "warmfs", "-o", "match=*.log", "/src", "--options=size=1M",
			  "/mnt",   "-o", "threads=3",	 NULL };
	g_autoptr(GError) error = NULL;
	g_autoptr(FsOptions) options = parse_words(words, &error);

	g_assert_no_error(error);
	g_assert_cmpuint(class_rules_count(options->rules), ==, 1);
	g_assert_cmpuint(class_rules_nth(options->rules, 0)->size_bytes, ==, 1 << 20);
	g_assert_cmpuint(options->n_threads, ==, 3);
}

static void test_escaped_comma(void)
{
	g_autoptr(FsOptions) a = parse_good("match=a\\,b*,size=1M");
	g_autoptr(FsOptions) b = parse_good("match=a\\*b,size=1M");

	g_assert_cmpstr(glob_pattern(class_rules_nth(a->rules, 0)->match), ==, "a,b*");
	g_assert_cmpstr(glob_pattern(class_rules_nth(b->rules, 0)->match), ==, "a\\*b");
}

static void test_mount_keys(void)
{
	g_autoptr(FsOptions) a = parse_good("threads=64,reserve=0%,passthrough=off,rate=100M,yield=off,"
						"attr_timeout=0,provider_dir=/x,log_level=warning");
	g_autoptr(FsOptions) b = parse_good("threads=1,reserve=90,passthrough=on,attr_timeout=2.5,rate=1,yield=on,lock_budget=2G");

	g_assert_cmpuint(a->n_threads, ==, 64);
	g_assert_cmpuint(a->provider.reserve_percent, ==, 0);
	g_assert_cmpuint(a->pace.rate_bytes, ==, 100 << 20);
	g_assert_false(a->pace.yields);
	g_assert_false(a->fs.passthrough);
	g_assert_true(a->fs.attr_timeout == 0);
	g_assert_cmpint(a->log_level, ==, LOG_LEVEL_WARNING);
	g_assert_cmpint(b->log_level, ==, LOG_LEVEL_NOTICE);
	g_assert_cmpstr(a->provider_dir, ==, "/x");
	g_assert_cmpuint(b->n_threads, ==, 1);
	g_assert_cmpuint(b->provider.reserve_percent, ==, 90);
	g_assert_cmpuint(b->pace.rate_bytes, ==, 1);
	g_assert_true(b->pace.yields);
	g_assert_cmpuint(b->lock_budget_bytes, ==, G_GUINT64_CONSTANT(2) << 30);
	g_assert_true(b->fs.passthrough);
	g_assert_true(b->fs.attr_timeout == 2.5);
	g_assert_cmpuint(class_rules_count(a->rules), ==, 0);
}

static void test_kernel_options(void)
{
	g_autoptr(FsOptions) options = parse_good(
		"ro,,noatime,fsname=x\\,y,defaults,_netdev,nofail,x-systemd.automount,comment=z,");

	g_assert_cmpuint(options->mount_options->len, ==, 3);
	g_assert_cmpstr(g_ptr_array_index(options->mount_options, 0), ==, "ro");
	g_assert_cmpstr(g_ptr_array_index(options->mount_options, 1), ==, "noatime");
	g_assert_cmpstr(g_ptr_array_index(options->mount_options, 2), ==, "fsname=x,y");
	g_assert_cmpuint(class_rules_count(options->rules), ==, 0);
}

/* The error is one line that names the option, its value and, in `allowed`, what may be there. */
static void test_bad_options(void)
{
	static const struct {
		const char *option, *names, *allowed;
	} CASES[] = {
		{ "threads=0", "threads=0", "1 to 64" },
		{ "threads=65", "threads=65", "1 to 64" },
		{ "threads=-1", "threads=-1", "1 to 64" },
		{ "threads=", "threads=", "1 to 64" },
		{ "threads", "threads", "1 to 64" },
		{ "threads=4x", "threads=4x", "1 to 64" },
		{ "threads=99999999999999999999", "threads=9999", "1 to 64" },
		{ "reserve=91", "reserve=91", "0% to 90%" },
		{ "reserve=%", "reserve=%", "0% to 90%" },
		{ "rate=0", "rate=0", "bytes per second" },
		{ "rate", "rate=", "bytes per second" },
		{ "rate=5MB", "rate=5MB", "bytes per second" },
		{ "yield=yes", "yield=yes", "on or off" },
		{ "yield", "yield=", "on or off" },
		{ "reserve=5%%", "reserve=5%%", "0% to 90%" },
		{ "reserve", "reserve", "0% to 90%" },
		{ "passthrough=yes", "passthrough=yes", "on or off" },
		{ "passthrough", "passthrough", "on or off" },
		{ "attr_timeout=-1", "attr_timeout=-1", "0 to 86400" },
		{ "attr_timeout=86401", "attr_timeout=86401", "0 to 86400" },
		{ "attr_timeout=nan", "attr_timeout=nan", "0 to 86400" },
		{ "attr_timeout=inf", "attr_timeout=inf", "0 to 86400" },
		{ "attr_timeout=1s", "attr_timeout=1s", "0 to 86400" },
		{ "attr_timeout=", "attr_timeout=", "0 to 86400" },
		{ "provider_dir=lib", "provider_dir=lib", "an absolute path" },
		{ "provider_dir=", "provider_dir=", "an absolute path" },
		{ "provider_dir", "provider_dir", "an absolute path" },
		{ "preset_dir=presets", "preset_dir=presets", "an absolute path" },
		{ "preset", "preset", "NAME:NAME" },
		{ "wait_warm=maybe", "wait_warm=maybe", "on or off" },
		{ "log_level=loud", "log_level=loud", "notice" },
		{ "log_level", "log_level", "notice" },
		{ "remount=ro", "remount=ro", "no value" },
		{ "provider=a/b", "provider=a/b", "letters, digits" },
		{ "config=", "config=", "path of a file" },
		{ "config", "config", "path of a file" },
		{ "config=/does/not/exist", "/does/not/exist", "" },
		{ "size=12Q", "size=12Q", "K, M, G or T" },
		{ "size=0", "size=0", "K, M, G or T" },
		{ "size", "size", "K, M, G or T" },
		{ "kind=appended", "kind=appended", "mapped" },
		{ "match=", "match=", "" },
		{ "match=/abs", "match=/abs", "" },
		{ "ahead=x", "ahead=x", "" },
		{ "sizes=1M", "sizes", "size" },
		{ "nonsense", "nonsense", "" },
		{ "=", "", "" },
		{ "ro,threads=0", "threads=0", "1 to 64" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(FsOptions) options = parse_option(CASES[i].option, &error);

		g_test_message("%s: %s", CASES[i].option, error ? error->message : "(taken)");
		g_assert_null(options);
		g_assert_nonnull(error);
		g_assert_nonnull(strstr(error->message, CASES[i].names));
		g_assert_nonnull(strstr(error->message, CASES[i].allowed));
		g_assert_null(strchr(error->message, '\n'));
	}
}

static void test_bad_lines(void)
{
	static char *const LINES[][6] = {
		{ "warmfs", NULL },
		{ "warmfs", "/src", NULL },
		{ "warmfs", "/src", "/mnt", "/more", NULL },
		{ "warmfs", "-o", "ro", NULL },
		{ "warmfs", "/src", "/mnt", "-o", NULL },
		{ "warmfs", "--nonsense", "/src", "/mnt", NULL },
		{ "warmfs", "-x", "/src", "/mnt", NULL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(LINES); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(FsOptions) options = parse_words((char **)LINES[i], &error);

		g_test_message("%zu: %s", i, error ? error->message : "(taken)");
		g_assert_null(options);
		g_assert_nonnull(error);
	}
}

static char *write_config(const char *dir, const char *text)
{
	char *path = g_build_filename(dir, "config", NULL);
	g_autoptr(GError) error = NULL;

	g_file_set_contents(path, text, -1, &error);
	g_assert_no_error(error);
	return path;
}

static void test_config(void)
{
	char *dir = TEST_DIR_NEW();
	g_autofree char *path = write_config(dir, "[warmfs]\nthreads=7\nreserve=10%\n"
						  "[class wal]\nmatch=**.wal\nsize=1M\n");
	g_autofree char *both = g_strdup_printf("match=*.log,size=2M,threads=2,config=%s", path);
	g_autoptr(FsOptions) options = parse_good(both);

	g_assert_cmpuint(class_rules_count(options->rules), ==, 2);
	g_assert_cmpstr(class_rules_nth(options->rules, 1)->name, ==, "wal");
	g_assert_cmpuint(options->provider.reserve_percent, ==, 10);
	/* What -o says stands. */
	g_assert_cmpuint(options->n_threads, ==, 2);
	g_assert_cmpstr(options->config_path, ==, path);
	test_dir_remove(dir);
}

static void assert_origin(const FsOptions *options, const char *key, const char *value, const char *expected)
{
	const char *origin;
	g_autofree char *found = fs_options_value(options, key, &origin);

	g_assert_cmpstr(found, ==, value);
	g_assert_cmpstr(origin, ==, expected);
}

static void test_origins(void)
{
	char *dir = TEST_DIR_NEW();
	g_autofree char *path = write_config(dir, "[warmfs]\n\nreserve=10%\n");
	g_autofree char *line = g_strdup_printf("%s:3", path);
	g_autofree char *list = g_strdup_printf("passthrough=off,wait_warm,config=%s", path);
	g_autoptr(FsOptions) options = parse_good(list);
	g_autofree char *threads = g_strdup_printf("%u", options->n_threads);
	size_t n = 0;

	assert_origin(options, "reserve", "10%", line);
	assert_origin(options, "passthrough", "off", "option");
	assert_origin(options, "wait_warm", "on", "option");
	assert_origin(options, "attr_timeout", "1", "default");
	assert_origin(options, "threads", threads, "default");
	while (fs_options_nth_key(n))
		n++;
	g_assert_cmpuint(n, >=, 6);
	test_dir_remove(dir);
}

static void test_preset(void)
{
	char *dir = TEST_DIR_NEW();
	g_autofree char *path = g_build_filename(dir, "one.conf", NULL);
	g_autofree char *other = g_build_filename(dir, "two-b.conf", NULL);
	g_autofree char *good = g_strdup_printf("preset=one:two-b,preset_dir=%s,match=*.log,size=2M", dir);
	static const char *const BAD[] = { "none", "", "one:", "../one", "one:none", "one:one", "on" };

	g_assert_true(g_file_set_contents(path, "[warmfs]\nthreads=7\n[class wal]\nmatch=**.wal\nsize=1M\n", -1, NULL));
	g_assert_true(g_file_set_contents(other, "[class b]\nmatch=**.b\nsize=3M\n", -1, NULL));
	{
		g_autoptr(FsOptions) options = parse_good(good);

		g_assert_cmpuint(class_rules_count(options->rules), ==, 3);
		g_assert_cmpstr(class_rules_nth(options->rules, 1)->name, ==, "wal");
		g_assert_cmpstr(class_rules_nth(options->rules, 2)->name, ==, "b");
		g_assert_cmpuint(options->n_threads, ==, 7);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(BAD); i++) {
		g_autofree char *bad = g_strdup_printf("preset=%s,preset_dir=%s", BAD[i], dir);
		g_autoptr(GError) error = NULL;
		g_autoptr(FsOptions) options = parse_option(bad, &error);

		g_test_message("%s: %s", BAD[i], error ? error->message : "(taken)");
		if (strcmp(BAD[i], "one:one") == 0) {
			/* Two classes of one name, which is seen when all are there. */
			g_assert_nonnull(options);
			continue;
		}
		g_assert_null(options);
		g_assert_nonnull(strstr(error->message, *BAD[i] ? "one, two-b" : "NAME:NAME"));
	}
	test_dir_remove(dir);
}

static void test_bad_config(void)
{
	static const struct {
		const char *text, *names, *allowed;
	} CASES[] = {
		{ "[warmfs]\nthreads=0\n", "threads=0", "1 to 64" },
		{ "[warmfs]\nsize=1M\n", "size=1M", "allowed: threads" },
		{ "[warmfs]\nwait_warm=maybe\n", "wait_warm=maybe", "on or off" },
		{ "[class a]\nthreads=1\n", "threads", "" },
	};
	char *dir = TEST_DIR_NEW();

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autofree char *path = write_config(dir, CASES[i].text);
		g_autofree char *option = g_strdup_printf("config=%s", path);
		g_autoptr(GError) error = NULL;
		g_autoptr(FsOptions) options = parse_option(option, &error);

		g_test_message("%s", error ? error->message : "(taken)");
		g_assert_null(options);
		g_assert_nonnull(strstr(error->message, path));
		g_assert_nonnull(strstr(error->message, CASES[i].names));
		g_assert_nonnull(strstr(error->message, CASES[i].allowed));
	}
	test_dir_remove(dir);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/fs-options/defaults", test_defaults);
	test_add("/fs-options/flags", test_flags);
	test_add("/fs-options/mount-helper", test_mount_helper);
	test_add("/fs-options/remount", test_remount);
	test_add("/fs-options/wait-warm", test_wait_warm);
	test_add("/fs-options/class", test_class);
	test_add("/fs-options/several-lists", test_several_lists);
	test_add("/fs-options/escaped-comma", test_escaped_comma);
	test_add("/fs-options/mount-keys", test_mount_keys);
	test_add("/fs-options/kernel-options", test_kernel_options);
	test_add("/fs-options/bad-options", test_bad_options);
	test_add("/fs-options/bad-lines", test_bad_lines);
	test_add("/fs-options/config", test_config);
	test_add("/fs-options/origins", test_origins);
	test_add("/fs-options/preset", test_preset);
	test_add("/fs-options/bad-config", test_bad_config);
	return g_test_run();
}
