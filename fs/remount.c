// SPDX-License-Identifier: Apache-2.0
#include "fs/remount.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "fs/mount-point.h"

static const struct Flag {
	const char *name;
	unsigned long set;
	unsigned long clear;
} flags_by_name[] = {
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME },
	{ "atime", 0, MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME },
	{ "relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME },
};

/* What the mount has now; the kernel would take away what it is not told. */
static bool current_flags(const char *mount_point, unsigned long *ret_flags)
{
	static const struct {
		unsigned long is, becomes;
	} map[] = {
		{ ST_RDONLY, MS_RDONLY },	{ ST_NOSUID, MS_NOSUID },   { ST_NODEV, MS_NODEV },
		{ ST_NOEXEC, MS_NOEXEC },	{ ST_SYNCHRONOUS, MS_SYNCHRONOUS },
		{ ST_NOATIME, MS_NOATIME },	{ ST_NODIRATIME, MS_NODIRATIME },
		{ ST_RELATIME, MS_RELATIME },
	};
	struct statvfs stat;

	if (statvfs(mount_point, &stat) < 0)
		return false;
	*ret_flags = 0;
	for (size_t i = 0; i < G_N_ELEMENTS(map); i++)
		if (stat.f_flag & map[i].is)
			*ret_flags |= map[i].becomes;
	return true;
}

static unsigned long apply(unsigned long flags, const GPtrArray *mount_options)
{
	for (guint i = 0; i < mount_options->len; i++)
		for (size_t j = 0; j < G_N_ELEMENTS(flags_by_name); j++)
			if (strcmp(g_ptr_array_index(mount_options, i), flags_by_name[j].name) == 0)
				flags = (flags & ~flags_by_name[j].clear) | flags_by_name[j].set;
	return flags;
}

static void tell_unchanged(const FsOptions *options)
{
	g_autoptr(GString) keys = g_string_new(NULL);

	for (guint i = 0; i < options->own_keys->len; i++)
		g_string_append_printf(keys, "%s%s", i ? ", " : "",
				       (const char *)g_ptr_array_index(options->own_keys, i));
	if (keys->len > 0)
		fprintf(stderr, "warmfs: %s: remount changes ro, rw, noatime and the like only; as they were when it "
			"was mounted stay: %s\n", options->mount_point, keys->str);
}

static bool fail(const FsOptions *options, int saved, GError **error)
{
	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved), "MOUNTPOINT %s: cannot remount: %s",
		    options->mount_point, g_strerror(saved));
	return false;
}

bool remount_run(const FsOptions *options, GError **error)
{
	unsigned long flags;

	if (!mount_point_is_ours(options->mount_point)) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
			    "MOUNTPOINT %s: no warmfs is mounted there, so it cannot be remounted; mount it without "
			    "remount", options->mount_point);
		return false;
	}
	if (!current_flags(options->mount_point, &flags))
		return fail(options, errno, error);
	flags = apply(flags, options->mount_options);
	if (!options->fake && mount(NULL, options->mount_point, NULL, MS_REMOUNT | flags, NULL) < 0)
		return fail(options, errno, error);
	tell_unchanged(options);
	return true;
}
