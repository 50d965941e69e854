// SPDX-License-Identifier: Apache-2.0
/*
 * This runs on a thread that serves the mount: so paths are resolved in the source, from the descriptor that we have of it,
 * and never across a mount point, which might be our own.
 */
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "alloc/byte-size.h"
#include "alloc/cleanup.h"
#include "fs/config-change.h"

/* What comes of a command: *answer grows, and the error, if there is one, is told by the caller. */
typedef int (*CommandFunc)(Fs *fs, const char *argument, GString *answer, char **ret_error);

static int G_GNUC_PRINTF(3, 4) refuse(char **ret_error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	*ret_error = g_strdup_vprintf(format, args);
	va_end(args);
	return r;
}

static int refuse_without_class(char **ret_error)
{
	return refuse(ret_error, -EINVAL, "this mount has no class: give match= or config= when mounting");
}

static char *class_names(const Fs *fs)
{
	GString *names = g_string_new(NULL);

	for (size_t i = 0; i < class_rules_count(fs->rules); i++)
		g_string_append_printf(names, "%s%s", i ? ", " : "", class_rules_nth(fs->rules, i)->name);
	return g_string_free(names, FALSE);
}

/* Something to be done for each class that is meant. */
typedef void (*ForClassFunc)(Fs *fs, size_t nth, GString *answer);

static int for_classes(Fs *fs, const char *name, ForClassFunc func, GString *answer, char **ret_error)
{
	g_autofree char *known = class_names(fs);
	unsigned n = 0;

	if (!fs->service)
		return refuse_without_class(ret_error);
	for (size_t i = 0; i < class_rules_count(fs->rules); i++) {
		if (name && strcmp(class_rules_nth(fs->rules, i)->name, name) != 0)
			continue;
		func(fs, i, answer);
		n++;
	}
	return n ? 0 : refuse(ret_error, -EINVAL, "no class %s; there is: %s", name, known);
}

static void warm_class(Fs *fs, size_t nth, GString *answer)
{
	AllocStatus status;

	allocate_service_fill(fs->service, nth);
	status = allocate_service_status(fs->service, nth);
	g_string_append_printf(answer, "class %s: %u of %u ready\n", status.class_name, status.ready, status.ahead);
}

static int run_warm(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	return for_classes(fs, argument, warm_class, answer, ret_error);
}

static void drain_class(Fs *fs, size_t nth, GString *answer)
{
	const SegmentClass *class = class_rules_nth(fs->rules, nth);
	unsigned n = allocate_service_drain(fs->service, nth);
	g_autofree char *size = byte_size_format(n * class->size_bytes);

	g_string_append_printf(answer, "class %s: %u removed, %s given back\n", class->name, n, size);
}

static int run_drain(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	return for_classes(fs, argument, drain_class, answer, ret_error);
}

/* The path below the mount point, or NULL if it leads elsewhere. */
static const char *below_root(const char *path)
{
	g_auto(GStrv) parts = NULL;

	while (*path == '/' || g_str_has_prefix(path, "./"))
		path++;
	parts = g_strsplit(path, "/", -1);
	return *path && !g_strv_contains((const char *const *)parts, "..") ? path : NULL;
}

static int open_in_source(const Fs *fs, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd;

	/* Something was renamed meanwhile, and who knows what the path led to. */
	do
		fd = syscall(SYS_openat2, fs->root_fd, path, &how, sizeof(how));
	while (fd < 0 && errno == EAGAIN);
	return fd < 0 ? -errno : fd;
}

static int run_seal(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	const char *path = below_root(argument);
	auto_fd fd = -1;
	struct stat attr;
	int r;

	if (!path)
		return refuse(ret_error, -EINVAL, "%s: not a path below the mount point", argument);
	fd = open_in_source(fs, path);
	if (fd < 0 || fstat(fd, &attr) < 0)
		return refuse(ret_error, fd < 0 ? fd : -errno, "%s: %s; give a file of the mount", argument,
			      g_strerror(fd < 0 ? -fd : errno));
	r = fs->live ? live_set_seal(fs->live, attr.st_dev, attr.st_ino) : -ENOENT;
	if (r == -EBUSY)
		return refuse(ret_error, r, "%s: somebody has it open; it is sealed soon after the last close", path);
	if (r < 0 && r != -ENOENT)
		return refuse(ret_error, r, "%s: %s; it is tried again after its linger time", path, g_strerror(-r));
	g_string_append_printf(answer, "%s: %s\n", path, r == 0 ? "sealed: a plain file now" : "a plain file already");
	return 0;
}

static void explain_class(const SegmentClass *class, const char *path, GString *answer)
{
	bool matches = glob_match(class->match, path);
	g_autofree char *size = byte_size_format(class->size_bytes);

	g_string_append_printf(answer, "class %s: match=%s %s", class->name, glob_pattern(class->match),
			       matches ? "matches" : "does not match");
	if (matches)
		g_string_append_printf(answer, ": a segment of kind %s, %s", segment_kind_to_string(class->kind), size);
	g_string_append(answer, "\n");
}

static void explain_pool(Fs *fs, const SegmentClass *class, GString *answer)
{
	AllocStatus status = allocate_service_status(fs->service, class_rules_index(fs->rules, class));

	if (status.ready > 0)
		g_string_append_printf(answer, "%u of %u ready: it would be served at once\n", status.ready, status.ahead);
	else
		g_string_append_printf(answer, "none ready: it would wait for at most %u ms, and then %s\n", class->timeout_ms,
				       class->fail_on_timeout ? "fail with EAGAIN" : "get an unprepared file");
}

static int run_explain(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	const char *path = below_root(argument);
	const SegmentClass *class;

	if (!path)
		return refuse(ret_error, -EINVAL, "%s: not a path below the mount point", argument);
	for (size_t i = 0; i < class_rules_count(fs->rules); i++)
		explain_class(class_rules_nth(fs->rules, i), path, answer);
	class = class_rules_find(fs->rules, path);
	if (class && fs->service)
		explain_pool(fs, class, answer);
	else
		g_string_append_printf(answer, "no class: %s would be a plain file\n", path);
	return 0;
}

static int refuse_error(const GError *error, char **ret_error)
{
	*ret_error = g_strdup(error->message);
	return -EINVAL;
}

static int run_set(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	g_autoptr(GError) error = NULL;

	if (!fs->service)
		return refuse_without_class(ret_error);
	return config_change_set(fs, argument, answer, &error) ? 0 : refuse_error(error, ret_error);
}

static int run_reload(Fs *fs, const char *argument, GString *answer, char **ret_error)
{
	g_autoptr(GError) error = NULL;
	gsize length;
	g_autofree guchar *bytes = g_base64_decode(argument ? argument : "", &length);

	if (!fs->service)
		return refuse_without_class(ret_error);
	if (config_change_reload(fs, (char *)bytes, length, answer, &error))
		return 0;
	return refuse_error(error, ret_error);
}

static const struct Command {
	const char *name;
	bool needs_argument;
	CommandFunc run;
} COMMANDS[] = {
	{ "warm", false, run_warm },
	{ "drain", false, run_drain },
	{ "seal", true, run_seal },
	{ "explain", true, run_explain },
	{ "set", true, run_set },
	{ "reload", false, run_reload },
};

static const struct Command *find_command(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(COMMANDS); i++)
		if (strcmp(COMMANDS[i].name, name) == 0)
			return &COMMANDS[i];
	return NULL;
}

static int run(Fs *fs, char *line, GString *answer, char **ret_error)
{
	char *argument = line + strcspn(line, " \t");
	const struct Command *command;

	if (*argument)
		*argument++ = '\0';
	command = find_command(line);
	if (!command)
		return refuse(ret_error, -EINVAL, "%s: no such command; allowed: warm, drain, seal, explain, set, reload", line);
	if (command->needs_argument && !*argument)
		return refuse(ret_error, -EINVAL, "%s: what? give one argument", line);
	return command->run(fs, *argument ? argument : NULL, answer, ret_error);
}

int control_run(Fs *fs, const char *line, GString *answer)
{
	g_autofree char *copy = g_strdup(line);
	g_autofree char *error = NULL;
	int r = run(fs, copy, answer, &error);

	if (r < 0)
		g_string_append_printf(answer, "error: %s\n", error);
	else
		g_string_append(answer, "ok\n");
	return r;
}
