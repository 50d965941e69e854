// SPDX-License-Identifier: Apache-2.0
/* Looks at mounts of warmfs, and tells them what to do, through what they show in MOUNT/.warmfs. */
#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/progress-bar.h"
#include "mount-helpers/ctl-metrics.h"
#include "mount-helpers/ctl-mount.h"
#include "mount-helpers/ctl-top.h"

#define POLL_US 100000

static const char usage[] =
	"usage: warmfsctl COMMAND ...\n"
	"\n"
	"  status [MOUNT] [--json]     how all mounts, or one, do\n"
	"  top [MOUNT] [--once]        the same as it lives: a bar for each class, rates, times of creates; q ends\n"
	"  warm MOUNT [CLASS] [--wait] fill the pool, also after drain or a failure; --wait: until it is full\n"
	"  drain MOUNT [CLASS]         give the pool's space back, until a create needs a segment or warm is asked for\n"
	"  set MOUNT [CLASS] KEY=VALUE another value for a class or the mount, until it is unmounted or reloaded\n"
	"  reload MOUNT                read the file of config= again: all of it is taken, or nothing\n"
	"  seal FILE                   make a plain file of a live segment now\n"
	"  explain FILE                which class a new file of that name would get, and why\n"
	"  check [--dry-run] SOURCE    seal what was left live, without mounting (as warmfs --check)\n"
	"  presets [NAME] [--dir=DIR]  which presets there are, or what one says\n"
	"  --version, --help\n"
	"\n"
	"MOUNT is a mount point, or anything below it. Also: seal MOUNT PATH, explain MOUNT PATH, with PATH below MOUNT.\n";

enum {
	STATUS_GOOD = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
};

static int fail(const char *verb, const GError *error)
{
	fprintf(stderr, "warmfsctl: %s: %s\n", verb, error->message);
	return STATUS_FAILED;
}

static int misused(const char *verb, const char *what)
{
	fprintf(stderr, "warmfsctl: %s: %s; see warmfsctl --help\n", verb, what);
	return STATUS_USAGE;
}

/* Takes a flag out of the words. Whether it was there. */
static bool take_flag(char **words, const char *flag)
{
	bool found = false;
	char **kept = words;

	for (char **word = words; *word; word++) {
		if (strcmp(*word, flag) == 0)
			found = true;
		else
			*kept++ = *word;
	}
	*kept = NULL;
	return found;
}

static unsigned count(char **words)
{
	return g_strv_length(words);
}

/*
 * status
 */

static bool show_file(const char *mount, const char *name, GError **error)
{
	g_autofree char *text = ctl_mount_read(mount, name, error);

	if (text)
		fputs(text, stdout);
	return text;
}

/* One that does not answer does not keep the others from being shown. */
static int show_all(bool json)
{
	g_autoptr(GPtrArray) mounts = ctl_mounts_list();
	int status = STATUS_GOOD;

	if (json)
		puts("[");
	else if (mounts->len == 0)
		puts("no warmfs is mounted");
	for (guint i = 0, n_shown = 0; i < mounts->len; i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *text =
			ctl_mount_read(g_ptr_array_index(mounts, i), json ? "status.json" : "status", &error);

		if (text)
			printf("%s%s", n_shown++ == 0 ? "" : json ? "," : "\n", text);
		else
			status = fail("status", error);
	}
	if (json)
		puts("]");
	return status;
}

static int run_status(const char *verb, char **words)
{
	bool json = take_flag(words, "--json");
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;

	if (count(words) > 1)
		return misused(verb, "one MOUNT at most");
	if (count(words) == 0)
		return show_all(json);
	mount = ctl_mount_find(words[0], &error);
	if (mount && show_file(mount, json ? "status.json" : "status", &error))
		return STATUS_GOOD;
	return fail(verb, error);
}

/* Of the only mount that there is, if none is named. */
static char *find_mount(const char *path, GError **error)
{
	g_autoptr(GPtrArray) mounts = NULL;
	g_autofree char *known = NULL;

	if (path)
		return ctl_mount_find(path, error);
	mounts = ctl_mounts_list();
	if (mounts->len == 1)
		return g_strdup(g_ptr_array_index(mounts, 0));
	g_ptr_array_add(mounts, NULL);
	known = g_strjoinv(", ", (char **)mounts->pdata);
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "which mount? mounted are: %s", *known ? known : "none");
	return NULL;
}

static int run_top(const char *verb, char **words)
{
	bool once = take_flag(words, "--once");
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;

	if (count(words) > 1)
		return misused(verb, "one MOUNT at most");
	mount = find_mount(words[0], &error);
	return mount && ctl_top_run(mount, once, &error) ? STATUS_GOOD : fail(verb, error);
}

/*
 * warm, drain
 */

static int tell(const char *verb, const char *mount, const char *argument)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *command = argument ? g_strdup_printf("%s %s", verb, argument) : g_strdup(verb);
	g_autofree char *answer = ctl_mount_command(mount, command, &error);

	if (!answer)
		return fail(verb, error);
	fputs(answer, stdout);
	return STATUS_GOOD;
}

/* What is still missing of one class; -1 if it cannot be made. As far as a quota allows is full. */
static int missing_of(CtlMetrics *metrics, const char *class, unsigned *done, unsigned *total)
{
	unsigned ready = ctl_metrics_get(metrics, "segments_ready", class);
	unsigned wanted = ctl_metrics_get(metrics, "segments_wanted", class);
	bool degraded = ctl_metrics_get(metrics, "class_degraded", class) > 0;
	bool at_work = ctl_metrics_get(metrics, "segments_warming", class) > 0 ||
		       ctl_metrics_get(metrics, "segments_lacking", class) > 0;

	*done += MIN(ready, wanted);
	*total += wanted;
	if (ready >= wanted)
		return 0;
	if (degraded)
		return -1;
	return at_work ? wanted - ready : 0;
}

/* The same of all classes, or of the one that is named. */
static int look_at_classes(const char *mount, const char *only, ProgressBar *bar, GError **error)
{
	g_autoptr(GHashTable) metrics = ctl_metrics_read(mount, error);
	g_autoptr(GPtrArray) classes = NULL;
	unsigned done = 0, total = 0;
	int missing = 0;

	if (!metrics)
		return -1;
	classes = ctl_metrics_classes(metrics);
	for (guint i = 0; i < classes->len && missing >= 0; i++) {
		const char *class = g_ptr_array_index(classes, i);
		g_autofree char *plain = g_strcompress(class);
		int more;

		if (only && strcmp(plain, only) != 0)
			continue;
		more = missing_of(metrics, class, &done, &total);
		if (more < 0)
			g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
				    "class %s: segments cannot be prepared; see warmfsctl status %s for why, and mend that",
				    class, mount);
		missing = more < 0 ? -1 : missing + more;
	}
	progress_bar_show(bar, done, total, "%u of %u", done, total);
	return missing;
}

static int wait_until_warm(const char *verb, const char *mount, const char *class)
{
	g_autoptr(GError) error = NULL;
	ProgressBar bar;
	int missing;

	progress_bar_init(&bar);
	while ((missing = look_at_classes(mount, class, &bar, &error)) > 0)
		g_usleep(POLL_US);
	progress_bar_clear(&bar);
	return missing < 0 ? fail(verb, error) : STATUS_GOOD;
}

static int run_warm(const char *verb, char **words)
{
	bool wait = take_flag(words, "--wait");
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;
	int status;

	if (count(words) < 1 || count(words) > 2)
		return misused(verb, "give MOUNT, and CLASS if it is for one");
	mount = ctl_mount_find(words[0], &error);
	if (!mount)
		return fail(verb, error);
	status = tell(verb, mount, words[1]);
	return status == STATUS_GOOD && wait ? wait_until_warm(verb, mount, words[1]) : status;
}

static int run_drain(const char *verb, char **words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;

	if (count(words) < 1 || count(words) > 2)
		return misused(verb, "give MOUNT, and CLASS if it is for one");
	mount = ctl_mount_find(words[0], &error);
	return mount ? tell(verb, mount, words[1]) : fail(verb, error);
}

/*
 * set, reload
 */

static int run_set(const char *verb, char **words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;
	g_autofree char *argument = NULL;

	if (count(words) < 2 || count(words) > 3 || !strchr(words[count(words) - 1], '='))
		return misused(verb, "give MOUNT, CLASS and KEY=VALUE, or MOUNT and KEY=VALUE");
	mount = ctl_mount_find(words[0], &error);
	argument = g_strjoinv(" ", words + 1);
	return mount ? tell(verb, mount, argument) : fail(verb, error);
}

/* The file of config=, as MOUNT/.warmfs/config names it. */
static char *find_config(const char *mount, GError **error)
{
	static const char begin[] = "\n# config=";
	g_autofree char *text = ctl_mount_read(mount, "config", error);
	const char *at = text ? strstr(text, begin) : NULL;

	if (!text)
		return NULL;
	if (at)
		return g_strndup(at + strlen(begin), strcspn(at + strlen(begin), "\n"));
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
		    "%s was mounted without config=FILE: nothing to read again; warmfsctl set changes single values", mount);
	return NULL;
}

static int run_reload(const char *verb, char **words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;
	g_autofree char *path = NULL;
	g_autofree char *bytes = NULL;
	g_autofree char *word = NULL;
	gsize length = 0;

	if (count(words) != 1)
		return misused(verb, "give MOUNT");
	mount = ctl_mount_find(words[0], &error);
	path = mount ? find_config(mount, &error) : NULL;
	bytes = path ? ctl_read_config(path, &length, &error) : NULL;
	if (!bytes)
		return fail(verb, error);
	word = g_base64_encode((guchar *)bytes, length);
	return tell(verb, mount, word);
}

/*
 * seal, explain
 */

/* The directory's real path and the name: the file need not be there, and the last link of it is not followed. */
static char *real_file(const char *path)
{
	g_autofree char *parent = g_path_get_dirname(path);
	g_autofree char *name = g_path_get_basename(path);
	char *resolved = realpath(parent, NULL);
	char *real = resolved ? g_build_filename(resolved, name, NULL) : g_canonicalize_filename(path, NULL);

	free(resolved);
	return real;
}

static int run_on_file(const char *verb, char **words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *mount = NULL;
	g_autofree char *file = NULL;

	if (count(words) < 1 || count(words) > 2)
		return misused(verb, "give FILE, or MOUNT and PATH");
	mount = ctl_mount_find(words[0], &error);
	if (!mount)
		return fail(verb, error);
	if (count(words) == 2)
		file = g_path_is_absolute(words[1]) ? real_file(words[1]) : g_build_filename(mount, words[1], NULL);
	else
		file = real_file(words[0]);
	if (!g_str_has_prefix(file, mount) || file[strlen(mount)] != '/')
		return misused(verb, "the file is not below the mount point");
	return tell(verb, mount, file + strlen(mount) + 1);
}

/*
 * check
 */

/* The daemon's program is where this one is; or else where programs are. */
static char *find_daemon(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *directory = g_path_get_dirname(self ? self : "/");
	char *beside = g_build_filename(directory, "warmfs", NULL);

	if (g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
		return beside;
	g_free(beside);
	return g_strdup("warmfs");
}

static int run_check(const char *verb, char **words)
{
	bool dry_run = take_flag(words, "--dry-run");
	g_autofree char *daemon = find_daemon();
	char *const arguments[] = { daemon, (char *)"--check", words[0], dry_run ? (char *)"--dry-run" : NULL, NULL };

	if (count(words) != 1)
		return misused(verb, "give one SOURCE");
	execvp(daemon, arguments);
	fprintf(stderr, "warmfsctl: check: cannot run %s: %s; install warmfs beside warmfsctl\n", daemon,
		g_strerror(errno));
	return STATUS_FAILED;
}

/*
 * presets
 */

static const char *take_dir(char **words)
{
	const char *dir = WARMFS_PRESET_DIR;
	char **kept = words;

	for (char **word = words; *word; word++) {
		if (g_str_has_prefix(*word, "--dir="))
			dir = *word + strlen("--dir=");
		else
			*kept++ = *word;
	}
	*kept = NULL;
	return dir;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_presets(const char *verb, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GDir) dir = g_dir_open(path, 0, &error);
	const char *name;

	if (!dir)
		return fail(verb, error);
	while ((name = g_dir_read_name(dir)))
		if (g_str_has_suffix(name, ".conf"))
			g_ptr_array_add(names, g_strndup(name, strlen(name) - strlen(".conf")));
	g_ptr_array_sort(names, compare_names);
	for (guint i = 0; i < names->len; i++)
		puts(g_ptr_array_index(names, i));
	return STATUS_GOOD;
}

static int run_presets(const char *verb, char **words)
{
	const char *dir = take_dir(words);
	g_autoptr(GError) error = NULL;
	g_autofree char *file = NULL;
	g_autofree char *path = NULL;
	g_autofree char *text = NULL;

	if (count(words) > 1)
		return misused(verb, "one NAME at most");
	if (count(words) == 0)
		return list_presets(verb, dir);
	if (strchr(words[0], '/'))
		return misused(verb, "NAME is one of those that warmfsctl presets lists");
	file = g_strconcat(words[0], ".conf", NULL);
	path = g_build_filename(dir, file, NULL);
	if (!g_file_get_contents(path, &text, NULL, &error)) {
		g_clear_error(&error);
		g_set_error(&error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
			    "%s: cannot read %s; warmfsctl presets lists those that there are", words[0], path);
		return fail(verb, error);
	}
	fputs(text, stdout);
	return STATUS_GOOD;
}

static const struct Verb {
	const char *name;
	int (*run)(const char *verb, char **words);
} VERBS[] = {
	{ "status", run_status },   { "top", run_top },		 { "presets", run_presets },
	{ "warm", run_warm },	    { "drain", run_drain },
	{ "set", run_set },	    { "reload", run_reload },
	{ "seal", run_on_file },    { "explain", run_on_file }, { "check", run_check },
};

static bool has_unknown_flag(char **words)
{
	static const char *const known[] = { "--json", "--wait", "--dry-run", "--once", NULL };

	for (char **word = words; *word; word++)
		if (g_str_has_prefix(*word, "--") && !g_str_has_prefix(*word, "--dir=") && !g_strv_contains(known, *word))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	setlocale(LC_ALL, "");
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		fputs(usage, argc < 2 ? stderr : stdout);
		return argc < 2 ? STATUS_USAGE : STATUS_GOOD;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("warmfsctl " WARMFS_VERSION);
		return STATUS_GOOD;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(VERBS); i++)
		if (strcmp(argv[1], VERBS[i].name) == 0) {
			if (has_unknown_flag(argv + 2))
				return misused(argv[1], "no such option");
			return VERBS[i].run(argv[1], argv + 2);
		}
	return misused(argv[1], "no such command");
}
