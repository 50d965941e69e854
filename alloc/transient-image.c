// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "alloc/boot-id.h"
#include "alloc/byte-size.h"
#include "alloc/cleanup.h"
#include "alloc/mix.h"

#define HEADER_MAGIC UINT64_C(0x31746e736e617274)
#define OWNER_MAGIC  UINT64_C(0x3172656e776f7274)
/* Files that could not be recovered stay beside each other. */
#define FILES_MAX 1000

struct TransientImage {
	const Sys *sys;
	const Log *log;
	int dir_fd;
	char *name;
	char *base;
	size_t n_bytes;
	unsigned n_slots;
	/* Of each buffer in the file. */
	uint64_t *offsets;
	bool locked;
};

void transient_owner_seal(TransientOwner *owner)
{
	owner->magic = OWNER_MAGIC;
	owner->check = mix_bytes(owner, offsetof(TransientOwner, check));
}

bool transient_owner_checks(const TransientOwner *owner)
{
	return owner->magic == OWNER_MAGIC && memchr(owner->name, '\0', sizeof(owner->name)) &&
	       owner->check == mix_bytes(owner, offsetof(TransientOwner, check));
}

bool transient_header_checks(const TransientHeader *header)
{
	return header->magic == HEADER_MAGIC && header->n_slots <= TRANSIENT_SLOTS_MAX &&
	       header->check == mix_bytes(header, offsetof(TransientHeader, check));
}

char *transient_name_prefix(const TransientPlace *place)
{
	g_autofree char *boot_id = boot_id_read();

	if (!boot_id)
		return NULL;
	return g_strdup_printf("%s-%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x.", boot_id,
			       (guint64)place->source_dev, (guint64)place->source_ino);
}

void transient_place_init(TransientPlace *place, const Sys *sys, int source_fd, const Log *log)
{
	struct stat attr = { 0 };

	sys->fstat(sys, source_fd, &attr);
	*place = (TransientPlace){
		.sys = sys,
		.dir = TRANSIENT_DIR,
		.source_dev = attr.st_dev,
		.source_ino = attr.st_ino,
		.log = log,
	};
}

static char *dir_path(const TransientPlace *place)
{
	return g_strdup_printf("%s/warmfs-%u", place->dir, (unsigned)geteuid());
}

/* Everybody may make names in a /dev/shm: what is there under ours may be somebody else's. */
static bool is_ours(int fd)
{
	struct statfs filesystem;
	struct stat attr;

	return fstat(fd, &attr) == 0 && attr.st_uid == geteuid() && !(attr.st_mode & 077) &&
	       fstatfs(fd, &filesystem) == 0 && filesystem.f_type == TMPFS_MAGIC;
}

int transient_dir_open(const TransientPlace *place)
{
	g_autofree char *path = dir_path(place);
	auto_fd fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	return is_ours(fd) ? steal_fd(&fd) : -EPERM;
}

static int make_dir(const TransientPlace *place, GError **error)
{
	g_autofree char *path = dir_path(place);
	int r = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : transient_dir_open(place);

	if (r == -EPERM)
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
			    "transient=on: %s is not a directory of ours alone on a tmpfs; remove it, or mount a tmpfs "
			    "at %s, or leave transient=on out",
			    path, place->dir);
	else if (r < 0)
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-r),
			    "transient=on: cannot make %s: %s; mount a tmpfs at %s, or leave transient=on out", path,
			    g_strerror(-r), place->dir);
	return r;
}

static size_t round_up(size_t n_bytes, size_t unit)
{
	return (n_bytes + unit - 1) / unit * unit;
}

/* False if the sum is more than memory has addresses. */
static bool lay_out(TransientImage *image, const uint64_t *sizes, unsigned n_sizes)
{
	size_t page_bytes = image->sys->page_bytes(image->sys);
	uint64_t at = round_up(TRANSIENT_HEADER_BYTES + (size_t)n_sizes * TRANSIENT_SLOT_BYTES, page_bytes);

	image->n_slots = n_sizes;
	image->offsets = g_new(uint64_t, n_sizes);
	for (unsigned i = 0; i < n_sizes; i++) {
		if (sizes[i] > G_MAXINT64 / 2 - at)
			return false;
		image->offsets[i] = at;
		at += round_up(sizes[i], page_bytes);
	}
	image->n_bytes = at;
	return true;
}

static int create_file(TransientImage *image, const char *prefix)
{
	int fd = -EEXIST;

	for (unsigned i = 0; i < FILES_MAX && fd == -EEXIST; i++) {
		g_free(image->name);
		image->name = g_strdup_printf("%s%u", prefix, i);
		fd = image->sys->openat(image->sys, image->dir_fd, image->name,
					O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	return fd;
}

/* Every page of it exists from here on. */
static int allocate(TransientImage *image, int fd)
{
	void *map;
	int r = image->sys->fallocate(image->sys, fd, 0, 0, image->n_bytes);

	if (r == 0)
		r = image->sys->mmap_shared(image->sys, fd, image->n_bytes, &map);
	if (r == 0)
		image->base = map;
	return r;
}

static void lock_memory(TransientImage *image, uint64_t budget_bytes)
{
	g_autofree char *budget = byte_size_format(budget_bytes);
	int r = -ENOMEM;

	if (image->n_bytes <= budget_bytes)
		r = image->sys->mlock(image->sys, image->base, image->n_bytes);
	image->locked = r == 0;
	if (r < 0)
		log_failure(image->log, WARNING, "mlock", NULL, r,
			    "transient buffers: cannot lock their memory: %s; they may be swapped out. %s may be locked: see "
			    "lock_budget=, RLIMIT_MEMLOCK, and the memory limit of the control group",
			    g_strerror(-r), budget);
}

static void write_header(TransientImage *image, const TransientPlace *place)
{
	TransientHeader header = {
		.magic = HEADER_MAGIC,
		.n_slots = image->n_slots,
		.source_dev = place->source_dev,
		.source_ino = place->source_ino,
	};

	header.check = mix_bytes(&header, offsetof(TransientHeader, check));
	memcpy(image->base, &header, sizeof(header));
}

static int make_file(TransientImage *image, const TransientPlace *place)
{
	g_autofree char *prefix = transient_name_prefix(place);
	auto_fd fd = prefix ? create_file(image, prefix) : -ENOENT;
	int r = fd < 0 ? fd : allocate(image, fd);

	if (fd >= 0 && r < 0)
		image->sys->unlinkat(image->sys, image->dir_fd, image->name, 0);
	return r;
}

TransientImage *transient_image_new(const TransientPlace *place, const uint64_t *sizes, unsigned n_sizes,
				    uint64_t lock_budget_bytes, GError **error)
{
	TransientImage *image = g_new0(TransientImage, 1);
	int r;

	image->sys = place->sys;
	image->log = place->log;
	image->dir_fd = make_dir(place, error);
	if (image->dir_fd < 0)
		return transient_image_close(image, true);
	r = lay_out(image, sizes, n_sizes) ? make_file(image, place) : -ENOSPC;
	if (r < 0) {
		g_autofree char *needed = byte_size_format(image->n_bytes);

		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-r),
			    "transient=on: cannot get %s of memory from %s: %s; make transient_pool_size= or size= "
			    "smaller, or that tmpfs larger",
			    needed, place->dir, g_strerror(-r));
		return transient_image_close(image, true);
	}
	write_header(image, place);
	lock_memory(image, lock_budget_bytes);
	return image;
}

TransientImage *transient_image_close(TransientImage *image, bool keep)
{
	if (!image)
		return NULL;
	if (image->base)
		image->sys->munmap(image->sys, image->base, image->n_bytes);
	if (!keep)
		image->sys->unlinkat(image->sys, image->dir_fd, image->name, 0);
	cleanup_fd(&image->dir_fd);
	g_free(image->offsets);
	g_free(image->name);
	g_free(image);
	return NULL;
}

TransientSlot *transient_image_slot(TransientImage *image, unsigned nth)
{
	return (TransientSlot *)(image->base + TRANSIENT_HEADER_BYTES) + nth;
}

char *transient_image_buffer(TransientImage *image, unsigned nth)
{
	return image->base + image->offsets[nth];
}

uint64_t transient_image_locked_bytes(const TransientImage *image)
{
	return image->locked ? image->n_bytes : 0;
}

uint64_t transient_image_offset(const TransientImage *image, unsigned nth)
{
	return image->offsets[nth];
}
