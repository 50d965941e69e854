// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-options.h"

#include <string.h>
#include <unistd.h>

#include "alloc/class-config.h"

#define MAX_THREADS 64
#define MAX_RESERVE_PERCENT 90
#define MAX_ATTR_TIMEOUT_S 86400

static bool bad_value(GError **error, const char *key, const char *value, const char *allowed)
{
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s=%s: allowed: %s", key,
		    value ? value : "", allowed);
	return false;
}

static bool parse_number(const char *value, unsigned min, unsigned max, unsigned *ret_number)
{
	guint64 number;

	if (!value || !g_ascii_string_to_unsigned(value, 10, min, max, &number, NULL))
		return false;
	*ret_number = number;
	return true;
}

static bool set_threads(FsOptions *options, const char *value)
{
	return parse_number(value, 1, MAX_THREADS, &options->n_threads);
}

static bool set_reserve(FsOptions *options, const char *value)
{
	g_autofree char *number = g_strdup(value ? value : "");

	if (g_str_has_suffix(number, "%"))
		number[strlen(number) - 1] = '\0';
	return parse_number(number, 0, MAX_RESERVE_PERCENT, &options->provider.reserve_percent);
}

static bool set_passthrough(FsOptions *options, const char *value)
{
	if (g_strcmp0(value, "on") != 0 && g_strcmp0(value, "off") != 0)
		return false;
	options->fs.passthrough = strcmp(value, "on") == 0;
	return true;
}

static bool set_attr_timeout(FsOptions *options, const char *value)
{
	char *end = NULL;
	double seconds = value ? g_ascii_strtod(value, &end) : -1;

	if (!end || end == value || *end || !(seconds >= 0 && seconds <= MAX_ATTR_TIMEOUT_S))
		return false;
	options->fs.attr_timeout = seconds;
	return true;
}

static bool set_provider_dir(FsOptions *options, const char *value)
{
	if (!value || !g_path_is_absolute(value))
		return false;
	g_free(options->provider_dir);
	options->provider_dir = g_strdup(value);
	return true;
}

/* What concerns the whole mount; also the keys of the `[warmfs]` group. */
static const struct MountKey {
	const char *key;
	bool (*set)(FsOptions *options, const char *value);
	const char *allowed;
} mount_keys[] = {
	{ "threads", set_threads, "1 to 64" },
	{ "reserve", set_reserve, "0% to 90%" },
	{ "passthrough", set_passthrough, "on or off" },
	{ "attr_timeout", set_attr_timeout, "0 to 86400 seconds" },
	{ "provider_dir", set_provider_dir, "an absolute path" },
};

static const struct MountKey *find_mount_key(const char *key)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++)
		if (strcmp(mount_keys[i].key, key) == 0)
			return &mount_keys[i];
	return NULL;
}

static bool set_mount_key(void *arg, const char *key, const char *value, GError **error)
{
	const struct MountKey *known = find_mount_key(key);

	if (!known) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION,
			    "%s=%s: no such key; allowed: threads, reserve, passthrough, attr_timeout, provider_dir",
			    key, value);
		return false;
	}
	return known->set(arg, value) || bad_value(error, key, value, known->allowed);
}

/* Handed on as they are. */
static const char *const kernel_options[] = {
	"ro",	   "rw",	  "suid",	   "nosuid",  "dev",	     "nodev",
	"exec",	   "noexec",	  "atime",	   "noatime", "diratime",    "nodiratime",
	"relatime", "norelatime", "strictatime",   "sync",    "async",	     "dirsync",
	"fsname",  "io_uring",	  "io_uring_q_depth", "max_read", "default_permissions", "allow_other",
	NULL,
};

/* For mount(8), fstab and systemd; nothing to us. */
static const char *const ignored_options[] = {
	"defaults", "nofail", "_netdev", "auto", "noauto", "user", "nouser", "users", "owner", "group",
	NULL,
};

static bool is_ignored(const char *key)
{
	return g_strv_contains(ignored_options, key) || g_str_has_prefix(key, "x-") ||
	       strcmp(key, "comment") == 0;
}

typedef struct OptionParse {
	FsOptions *options;
	/* The class that is described by -o; NULL until there is a word of it. */
	SegmentClass *class;
	char *config_path;
} OptionParse;

static bool set_option(OptionParse *parse, const char *key, const char *value, GError **error)
{
	const struct MountKey *known = find_mount_key(key);

	if (known)
		return known->set(parse->options, value) || bad_value(error, key, value, known->allowed);
	if (strcmp(key, "config") == 0) {
		g_free(parse->config_path);
		parse->config_path = g_strdup(value);
		return value && *value ? true : bad_value(error, key, value, "the path of a file");
	}
	if (g_strv_contains(kernel_options, key)) {
		g_ptr_array_add(parse->options->mount_options,
				value ? g_strdup_printf("%s=%s", key, value) : g_strdup(key));
		return true;
	}
	if (is_ignored(key))
		return true;
	if (!parse->class)
		parse->class = segment_class_new("default");
	return segment_class_set(parse->class, key, value ? value : "", error);
}

/* The next element of a list, cut off it; a backslash takes a comma along. */
static char *next_element(const char **list)
{
	GString *element = g_string_new(NULL);
	const char *p = *list;

	for (; *p && *p != ','; p++) {
		/* What a backslash means in a pattern stays with it; only the comma's is ours. */
		if (p[0] == '\\' && p[1] == ',')
			p++;
		g_string_append_c(element, *p);
	}
	*list = *p ? p + 1 : p;
	return g_string_free(element, FALSE);
}

static bool parse_list(OptionParse *parse, const char *list, GError **error)
{
	while (*list) {
		g_autofree char *element = next_element(&list);
		char *value = strchr(element, '=');

		if (!*element)
			continue;
		if (value)
			*value++ = '\0';
		if (!set_option(parse, element, value, error)) {
			g_prefix_error(error, "-o ");
			return false;
		}
	}
	return true;
}

static bool parse_lists(FsOptions *options, char **lists, GError **error)
{
	OptionParse parse = { .options = options };
	bool ok = true;

	for (char **list = lists; ok && list && *list; list++)
		ok = parse_list(&parse, *list, error);
	if (ok && parse.class)
		class_rules_add(options->rules, g_steal_pointer(&parse.class));
	if (ok && parse.config_path) {
		ok = class_config_load(parse.config_path, options->rules, set_mount_key, options, error);
		if (!ok)
			g_prefix_error(error, "-o config=");
	}
	segment_class_free(parse.class);
	g_free(parse.config_path);
	return ok;
}

static const char description[] =
	"Options of a class (for one class; -o config=FILE for many):\n"
	"  match=GLOB            new files that get segments; * does not cross /, ** does\n"
	"  size=SIZE             bytes of a segment (K, M, G, T)\n"
	"  kind=KIND             mapped (born full and warm), append (born empty, over warm blocks) or\n"
	"                        stream (born empty, blocks reserved)\n"
	"  ahead=N|auto          segments kept ready; auto: as many as are used (2)\n"
	"  max_ahead=N           with ahead=auto, at most so many (8)\n"
	"  timeout=MS            how long a create waits for one (5000)\n"
	"  on_timeout=cold|fail  then: an unprepared file, or EAGAIN (cold)\n"
	"  folio=SIZE            size of one warming write (64K)\n"
	"  linger=MS             how long a closed segment may still be reopened cheaply (10000)\n"
	"  quota=SIZE            bound on the bytes of segments that are ready or open (none)\n"
	"  slow_ms=MS            log a preparation that takes longer (10)\n"
	"  provider=NAME         what makes the segments: a module, or file, which is built in (file)\n"
	"Options of the mount:\n"
	"  config=FILE           classes from a file: [class NAME] groups, and [warmfs]\n"
	"  threads=N             threads that prepare segments (one for two processors)\n"
	"  reserve=N%            space that preparing ahead leaves free (5%)\n"
	"  passthrough=on|off    reads and writes by the kernel itself (on)\n"
	"  attr_timeout=SECONDS  how long the kernel may remember names and attributes (1)\n"
	"  provider_dir=DIR      where the modules are (" WARMFS_PROVIDER_DIR ")\n"
	"  io_uring              talk to the kernel through io_uring\n"
	"  ro, noatime, ...      as for mount(8)\n";

static bool take_source(FsOptions *options, char **paths, GError **error)
{
	if (paths && g_strv_length(paths) == 1) {
		options->source = g_strdup(paths[0]);
		return true;
	}
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "usage: warmfs --check [--dry-run] SOURCE");
	return false;
}

static bool take_paths(FsOptions *options, char **paths, GError **error)
{
	if (!paths || g_strv_length(paths) != 2) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "%s given; usage: warmfs [-f] [-o OPTION[=VALUE],...] SOURCE MOUNTPOINT",
			    !paths || !paths[0] ? "no SOURCE" :
			    !paths[1]		? "no MOUNTPOINT" :
						  "more than SOURCE and MOUNTPOINT");
		return false;
	}
	options->source = g_strdup(paths[0]);
	options->mount_point = g_strdup(paths[1]);
	return true;
}

static FsOptions *fs_options_new(void)
{
	FsOptions *options = g_new0(FsOptions, 1);

	options->rules = class_rules_new();
	options->n_threads = CLAMP(g_get_num_processors() / 2, 1, MAX_THREADS);
	options->provider.reserve_percent = 5;
	options->provider_dir = g_strdup(WARMFS_PROVIDER_DIR);
	options->fs = (FsConfig){ .passthrough = true, .attr_timeout = 1 };
	options->mount_options = g_ptr_array_new_with_free_func(g_free);
	return options;
}

FsOptions *fs_options_free(FsOptions *options)
{
	if (!options)
		return NULL;
	g_free(options->source);
	g_free(options->mount_point);
	g_free(options->provider_dir);
	class_rules_free(options->rules);
	g_ptr_array_unref(options->mount_options);
	g_free(options);
	return NULL;
}

/* GOption does not know `-oOPTION`, which mount(8) and people write: it becomes two words. */
static char **separate_words(int argc, char **argv)
{
	GPtrArray *words = g_ptr_array_new();

	for (int i = 0; i < argc; i++) {
		bool glued = i > 0 && g_str_has_prefix(argv[i], "-o") && argv[i][2] != '\0';

		if (glued)
			g_ptr_array_add(words, g_strdup("-o"));
		g_ptr_array_add(words, g_strdup(glued ? argv[i] + 2 : argv[i]));
	}
	g_ptr_array_add(words, NULL);
	return (char **)g_ptr_array_free(words, FALSE);
}

FsOptions *fs_options_parse(int argc, char **argv, GError **error)
{
	g_auto(GStrv) words = separate_words(argc, argv);
	g_autoptr(FsOptions) options = fs_options_new();
	g_auto(GStrv) lists = NULL;
	g_auto(GStrv) paths = NULL;
	gboolean foreground = FALSE, debug = FALSE, version = FALSE, check = FALSE, dry_run = FALSE;
	const GOptionEntry entries[] = {
		{ "foreground", 'f', 0, G_OPTION_ARG_NONE, &foreground, "Stay in the foreground", NULL },
		{ "debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Log every request; implies -f", NULL },
		{ "options", 'o', 0, G_OPTION_ARG_STRING_ARRAY, &lists, "Options, see below", "OPT[=VALUE],..." },
		{ "check", 0, 0, G_OPTION_ARG_NONE, &check, "Seal what was left live in SOURCE; do not mount", NULL },
		{ "dry-run", 0, 0, G_OPTION_ARG_NONE, &dry_run, "With --check: only say what would be done", NULL },
		{ "version", 'V', 0, G_OPTION_ARG_NONE, &version, "Say the version and end", NULL },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &paths, NULL, "SOURCE MOUNTPOINT" },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_summary(context, "Serves SOURCE at MOUNTPOINT, with pre-warmed segment files.");
	g_option_context_set_description(context, description);
	if (!g_option_context_parse_strv(context, &words, error))
		return NULL;
	options->show_version = version;
	options->check = check;
	options->dry_run = dry_run;
	options->debug = debug;
	options->foreground = foreground || debug;
	if (version)
		return g_steal_pointer(&options);
	if (dry_run && !check) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "--dry-run: only with --check");
		return NULL;
	}
	if (check)
		return take_source(options, paths, error) ? g_steal_pointer(&options) : NULL;
	if (!take_paths(options, paths, error) || !parse_lists(options, lists, error))
		return NULL;
	return g_steal_pointer(&options);
}
