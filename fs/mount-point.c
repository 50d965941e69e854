// SPDX-License-Identifier: Apache-2.0
#include "fs/mount-point.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "alloc/cleanup.h"

static void refuse(GError **error, const char *role, const char *path, const char *why)
{
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s %s: %s", role, path, why);
}

int mount_point_open_source(const char *source, GError **error)
{
	int fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		refuse(error, "SOURCE", source,
		       errno == ENOTCONN ? "a dead FUSE mount lies over it; umount it first" :
					   g_strerror(errno));
	return fd;
}

typedef struct MountEntry {
	char *type;
	char *device;
} MountEntry;

/* What is mounted at the (real) path, the topmost if there are several; type is NULL if nothing is. */
static MountEntry find_mount(const char *path)
{
	MountEntry found = { NULL, NULL };
	FILE *table = setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char strings[3 * PATH_MAX];

	if (!table)
		return found;
	while (getmntent_r(table, &entry, strings, sizeof(strings))) {
		if (strcmp(entry.mnt_dir, path) != 0)
			continue;
		g_free(found.type);
		g_free(found.device);
		found = (MountEntry){ g_strdup(entry.mnt_type), g_strdup(entry.mnt_fsname) };
	}
	endmntent(table);
	return found;
}

static bool same_directory(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether `fd` is below the source: walking up meets it before the root. */
static bool is_below(int fd, const struct stat *source)
{
	auto_fd at = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct stat here, above;

	while (at >= 0 && fstat(at, &here) == 0) {
		auto_fd parent = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (parent < 0 || fstat(parent, &above) < 0 || same_directory(&here, &above))
			return false;
		if (same_directory(&above, source))
			return true;
		cleanup_fd(&at);
		at = steal_fd(&parent);
	}
	return false;
}

static bool check_not_mounted(const char *mount_point, bool is_source, GError **error)
{
	g_autofree char *real = realpath(mount_point, NULL);
	MountEntry mount = real ? find_mount(real) : (MountEntry){ NULL, NULL };
	g_autofree char *type = mount.type;
	g_autofree char *device = mount.device;
	g_autofree char *why = NULL;

	if (!type || (is_source && strncmp(type, "fuse", 4) != 0) || strcmp(real, "/") == 0)
		return true;
	why = g_strdup_printf("already a mount point (%s on %s); umount it, or choose another directory",
			      type, device);
	refuse(error, "MOUNTPOINT", mount_point, why);
	return false;
}

bool mount_point_check(const char *mount_point, int source_fd, GError **error)
{
	auto_fd fd = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat source, here;

	if (fd < 0 || fstat(fd, &here) < 0 || fstat(source_fd, &source) < 0) {
		refuse(error, "MOUNTPOINT", mount_point,
		       errno == ENOTCONN ? "a dead FUSE mount lies over it; umount it first" :
					   g_strerror(errno));
		return false;
	}
	if (is_below(fd, &source)) {
		refuse(error, "MOUNTPOINT", mount_point,
		       "lies inside SOURCE; allowed: SOURCE itself, or a directory outside of it");
		return false;
	}
	return check_not_mounted(mount_point, same_directory(&here, &source), error);
}

bool mount_point_is_ours(const char *mount_point)
{
	g_autofree char *real = realpath(mount_point, NULL);
	MountEntry mount = real ? find_mount(real) : (MountEntry){ NULL, NULL };
	g_autofree char *type = mount.type;
	g_autofree char *device = mount.device;

	return g_strcmp0(type, "fuse.warmfs") == 0;
}

bool mount_point_is_inside_ours(int fd)
{
	g_autofree char *table = NULL, *wanted = NULL;
	g_auto(GStrv) lines = NULL;
	struct stat attr;
	bool found = false;

	if (fstat(fd, &attr) < 0 || !g_file_get_contents("/proc/self/mountinfo", &table, NULL, NULL))
		return false;
	lines = g_strsplit(table, "\n", -1);
	wanted = g_strdup_printf("%u:%u", major(attr.st_dev), minor(attr.st_dev));
	for (char **line = lines; *line && !found; line++) {
		/* ID, parent's ID, device, root, point, options, ..., "-", type, ... */
		g_auto(GStrv) fields = g_strsplit(*line, " ", 4);

		found = g_strv_length(fields) == 4 && g_str_equal(fields[2], wanted) &&
			strstr(fields[3], " - fuse.warmfs ");
	}
	return found;
}
