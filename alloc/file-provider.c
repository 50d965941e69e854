// SPDX-License-Identifier: Apache-2.0
#include "alloc/file-provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "alloc/cleanup.h"
#include "alloc/recycled-file.h"
#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "alloc/sync.h"
#include "alloc/warmer.h"

struct FileProvider {
	SegmentProvider base;
	/* Immutable. */
	PoolDir *dir;
	const Sys *sys;
	FileProviderConfig config;
	const Log *log;
	/* That of the config, or another one since. */
	atomic_uint reserve_percent;
	/* Counts up from a random start: a name is not used twice in the life of a source. */
	atomic_uint_fast64_t next_serial;
	atomic_uint_fast64_t held_bytes;
	atomic_uint_fast64_t held_files;
	/* Protects dir->adoptable. */
	Mutex lock;
};

/* The times of a segment that nobody has had. */
static const struct timespec never[2];

static FileProvider *file_provider(SegmentProvider *base)
{
	return (FileProvider *)base;
}

/* What a ready segment's size must be. Only a `mapped` one gets another when it is published. */
static off_t ready_size(const SegmentClass *class)
{
	if (class->kind == SEGMENT_KIND_APPEND)
		return segment_trailer_end(class->size_bytes);
	return class->kind == SEGMENT_KIND_MAPPED ? class->size_bytes + 1 : 0;
}

static void hold(FileProvider *provider, uint64_t bytes)
{
	atomic_fetch_add_explicit(&provider->held_bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&provider->held_files, 1, memory_order_relaxed);
}

static void let_go(FileProvider *provider, uint64_t bytes)
{
	atomic_fetch_sub_explicit(&provider->held_bytes, bytes, memory_order_relaxed);
	atomic_fetch_sub_explicit(&provider->held_files, 1, memory_order_relaxed);
}

static Segment *segment_new(const SegmentClass *class)
{
	Segment *segment = g_new(Segment, 1);

	*segment = (Segment){ .class = class, .fd = -1, .mode = 0600 };
	return segment;
}

static void segment_free(FileProvider *provider, Segment *segment)
{
	segment_locks_unmap(provider->config.locks, provider->sys, segment);
	cleanup_fd(&segment->fd);
	g_free(segment);
}

/* Also for one that is only half there. */
static void file_provider_discard(SegmentProvider *base, Segment *segment)
{
	FileProvider *provider = file_provider(base);
	int r = provider->sys->unlinkat(provider->sys, provider->dir->segments_fd, segment->name, 0);

	if (r < 0 && r != -ENOENT)
		log_failure(provider->log, WARNING, "remove", segment->name, r, "pool: cannot remove %s: %s",
			    segment->name, g_strerror(-r));
	let_go(provider, segment->class->size_bytes);
	segment_free(provider, segment);
}

static void file_provider_release(SegmentProvider *base, Segment *segment)
{
	segment_free(file_provider(base), segment);
}

/* `warming-SERIAL` becomes `ready-...-SERIAL`. */
static void name_when_ready(const Segment *segment, char name[SEGMENT_NAME_SIZE])
{
	SegmentNameParts parts;

	segment_name_parse(segment->name, &parts);
	segment_name_ready(name, segment->class, parts.serial);
}

static int create_file(FileProvider *provider, const SegmentClass *class, Segment **ret_segment)
{
	Segment *segment = segment_new(class);
	int fd;

	segment_name_warming(segment->name, atomic_fetch_add(&provider->next_serial, 1));
	fd = provider->sys->openat(provider->sys, provider->dir->segments_fd, segment->name,
				   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		g_free(segment);
		return fd;
	}
	segment->fd = fd;
	segment->uid = geteuid();
	segment->gid = getegid();
	hold(provider, class->size_bytes);
	*ret_segment = segment;
	return 0;
}

static int map_and_populate(FileProvider *provider, Segment *segment, WarmStint *stint)
{
	const SegmentClass *class = segment->class;
	int r;

	if (!segment_class_is_warmed(class))
		return 0;
	r = provider->sys->mmap_shared(provider->sys, segment->fd, class->size_bytes, &segment->map);
	if (r < 0)
		return r;
	segment->map_bytes = class->size_bytes;
	r = warmer_populate(provider->sys, segment->map, segment->map_bytes, segment->adopted, stint);
	if (r == 0)
		segment_locks_lock(provider->config.locks, segment);
	return r;
}

/* Marks the file as one that nobody has had, and names it so. */
static int mark_ready(FileProvider *provider, Segment *segment)
{
	const Sys *sys = provider->sys;
	char name[SEGMENT_NAME_SIZE];
	int r;

	name_when_ready(segment, name);
	if (segment->class->kind == SEGMENT_KIND_MAPPED) {
		r = sys->ftruncate(sys, segment->fd, ready_size(segment->class));
		if (r < 0)
			return r;
	}
	r = sys->futimens(sys, segment->fd, never);
	if (r < 0)
		return r;
	r = sys->renameat2(sys, provider->dir->segments_fd, segment->name, provider->dir->segments_fd,
			   name, 0);
	if (r < 0)
		return r;
	g_strlcpy(segment->name, name, sizeof(segment->name));
	return 0;
}

int file_provider_create(FileProvider *provider, const SegmentClass *class, Segment **ret_segment)
{
	char name[SEGMENT_NAME_SIZE];
	Segment *segment;
	int r = create_file(provider, class, &segment);

	if (r < 0)
		return r;
	name_when_ready(segment, name);
	if (class->kind == SEGMENT_KIND_APPEND)
		r = segment_trailer_make(provider->sys, segment->fd, class->size_bytes, name);
	if (r < 0) {
		file_provider_discard(&provider->base, segment);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

static int prepare_new(FileProvider *provider, const SegmentClass *class, const atomic_bool *cancel,
		       Segment **ret_segment)
{
	Segment *segment;
	WarmStint stint;
	int r = file_provider_create(provider, class, &segment);

	if (r < 0)
		return r;
	warm_stint_begin(&stint, provider->config.pace, cancel);
	r = warmer_fill(provider->sys, segment->fd, class, &stint);
	if (r == 0)
		r = map_and_populate(provider, segment, &stint);
	if (r == 0)
		r = mark_ready(provider, segment);
	warm_stint_end(&stint);
	segment->paused_ns = stint.paused_ns;
	if (r < 0) {
		file_provider_discard(&provider->base, segment);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

static bool has_trailer(FileProvider *provider, const Segment *segment, const char *name)
{
	uint64_t length;

	return segment_trailer_read(provider->sys, segment->fd, segment->class->size_bytes, name, &length) == 0;
}

/* What somebody else has filled must be what warmer_fill makes, as far as can be seen without reading it. */
static int check_filled(FileProvider *provider, const Segment *segment)
{
	const SegmentClass *class = segment->class;
	off_t size = class->kind == SEGMENT_KIND_MAPPED ? (off_t)class->size_bytes : ready_size(class);
	char name[SEGMENT_NAME_SIZE];
	struct stat attr;
	int r = provider->sys->fstat(provider->sys, segment->fd, &attr);

	if (r < 0)
		return r;
	name_when_ready(segment, name);
	if (attr.st_size == size &&
	    (!segment_kind_is_full(class->kind) || (uint64_t)attr.st_blocks * 512 >= class->size_bytes) &&
	    (class->kind != SEGMENT_KIND_APPEND || has_trailer(provider, segment, name)))
		return 0;
	log_warning(provider->log,
		    "class %s: its provider has left %s with %" G_GINT64_FORMAT " bytes and %" G_GINT64_FORMAT
		    " in blocks, which is no %s segment", class->name, segment->name, (gint64)attr.st_size,
		    (gint64)attr.st_blocks * 512, segment_kind_to_string(class->kind));
	return -EINVAL;
}

int file_provider_finish(FileProvider *provider, Segment *segment, const atomic_bool *cancel)
{
	WarmStint stint;
	int r;

	warm_stint_begin(&stint, provider->config.pace, cancel);
	r = warm_stint_step(&stint, 0);
	if (r == 0)
		r = provider->sys->fsync(provider->sys, segment->fd);
	/* Only now are all the blocks there that will be. */
	if (r == 0)
		r = check_filled(provider, segment);
	if (r == 0)
		r = map_and_populate(provider, segment, &stint);
	if (r == 0)
		r = mark_ready(provider, segment);
	warm_stint_end(&stint);
	segment->paused_ns = stint.paused_ns;
	return r;
}

/* A file found in the pool serves if it is just as mark_ready left it. */
static bool is_untouched(const struct stat *attr, const SegmentClass *class)
{
	return S_ISREG(attr->st_mode) && attr->st_nlink == 1 && attr->st_size == ready_size(class) &&
	       attr->st_mtim.tv_sec == 0 && attr->st_mtim.tv_nsec == 0 &&
	       (uint64_t)attr->st_blocks * 512 >= class->size_bytes;
}

static int open_adoptable(FileProvider *provider, Segment *segment)
{
	const Sys *sys = provider->sys;
	struct stat attr;
	int r = sys->openat(sys, provider->dir->segments_fd, segment->name,
			    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

	if (r < 0)
		return r;
	segment->fd = r;
	r = sys->fstat(sys, segment->fd, &attr);
	if (r < 0)
		return r;
	if (!is_untouched(&attr, segment->class))
		return -EUCLEAN;
	if (segment->class->kind == SEGMENT_KIND_APPEND && !has_trailer(provider, segment, segment->name))
		return -EUCLEAN;
	segment->uid = attr.st_uid;
	segment->gid = attr.st_gid;
	segment->mode = attr.st_mode & 07777;
	return 0;
}

/* The next name in the pool directory that serves the class, or NULL. */
static char *pop_adoptable(FileProvider *provider, const SegmentClass *class)
{
	SegmentNameParts parts;

	MUTEX_SCOPE(&provider->lock);
	for (GList *link = provider->dir->adoptable.head; link; link = link->next) {
		if (segment_name_parse(link->data, &parts) != SEGMENT_NAME_READY ||
		    !segment_name_serves(&parts, class))
			continue;
		char *name = link->data;
		g_queue_delete_link(&provider->dir->adoptable, link);
		return name;
	}
	return NULL;
}

static void push_adoptable(FileProvider *provider, const char *name)
{
	MUTEX_SCOPE(&provider->lock);
	g_queue_push_head(&provider->dir->adoptable, g_strdup(name));
}

/* Errors that say something of the process, not of the segment. */
static bool is_shortage(int error)
{
	return error == -ECANCELED || error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
	       error == -EINTR || error == -EAGAIN;
}

static int adopt_one(FileProvider *provider, const SegmentClass *class, const char *name,
		     const atomic_bool *cancel, Segment **ret_segment)
{
	Segment *segment = segment_new(class);
	WarmStint stint;
	int r;

	g_strlcpy(segment->name, name, sizeof(segment->name));
	segment->adopted = true;
	warm_stint_begin(&stint, provider->config.pace, cancel);
	r = open_adoptable(provider, segment);
	if (r == 0)
		r = map_and_populate(provider, segment, &stint);
	warm_stint_end(&stint);
	segment->paused_ns = stint.paused_ns;
	if (r == 0) {
		*ret_segment = segment;
	} else if (is_shortage(r)) {
		push_adoptable(provider, name);
		segment_free(provider, segment);
	} else {
		log_failure(provider->log, WARNING, "adopt", name, r, "pool: %s: not as it was left (%s); removed", name,
			    g_strerror(-r));
		file_provider_discard(&provider->base, segment);
	}
	return r;
}

int file_provider_adopt(FileProvider *provider, const SegmentClass *class, const atomic_bool *cancel,
			Segment **ret_segment)
{
	char *name;

	while ((name = pop_adoptable(provider, class))) {
		int r = adopt_one(provider, class, name, cancel, ret_segment);

		g_free(name);
		if (r == 0 || is_shortage(r))
			return r;
	}
	return -ENOENT;
}

static int file_provider_prepare(SegmentProvider *base, const SegmentClass *class,
				 const atomic_bool *cancel, Segment **ret_segment)
{
	FileProvider *provider = file_provider(base);
	int r = file_provider_adopt(provider, class, cancel, ret_segment);

	return r == -ENOENT ? prepare_new(provider, class, cancel, ret_segment) : r;
}

int file_provider_keep(FileProvider *provider, int dir_fd, const char *name, char ret_name[SEGMENT_NAME_SIZE])
{
	segment_name_recycled(ret_name, atomic_fetch_add(&provider->next_serial, 1));
	return provider->sys->linkat(provider->sys, dir_fd, name, provider->dir->segments_fd, ret_name);
}

void file_provider_drop(FileProvider *provider, const char *name)
{
	int r = provider->sys->unlinkat(provider->sys, provider->dir->segments_fd, name, 0);

	if (r < 0 && r != -ENOENT)
		log_failure(provider->log, WARNING, "remove", name, r, "pool: cannot remove %s: %s; the next mount does",
			    name, g_strerror(-r));
}

int file_provider_take_over(FileProvider *provider, const SegmentClass *class, const char *name, ino_t ino,
			    Segment **ret_segment)
{
	int fd = recycled_file_open(provider->sys, provider->dir->segments_fd, name, ino, class);
	Segment *segment;

	if (fd < 0)
		return fd;
	segment = segment_new(class);
	segment->fd = fd;
	segment->recycled = true;
	segment->uid = geteuid();
	segment->gid = getegid();
	g_strlcpy(segment->name, name, sizeof(segment->name));
	hold(provider, class->size_bytes);
	*ret_segment = segment;
	return 0;
}

static int file_provider_renew(SegmentProvider *base, Segment *segment, const atomic_bool *cancel)
{
	FileProvider *provider = file_provider(base);
	char name[SEGMENT_NAME_SIZE];
	WarmStint stint;
	int r;

	name_when_ready(segment, name);
	warm_stint_begin(&stint, provider->config.pace, cancel);
	r = recycled_file_renew(provider->sys, segment->fd, segment->class, name, &stint);
	warm_stint_end(&stint);
	if (r == 0)
		r = file_provider_finish(provider, segment, cancel);
	segment->paused_ns += stint.paused_ns;
	if (r < 0) {
		log_failure(provider->log, DEBUG, "recycle", segment->name, r, "class %s: %s cannot be used again: %s",
			    segment->class->name, segment->name, g_strerror(-r));
		file_provider_discard(base, segment);
	}
	return r;
}

/* Reserves, so that a full disk is an error now and not a SIGBUS later, but writes nothing. */
static int reserve_blocks(const Sys *sys, int fd, const SegmentClass *class)
{
	int mode = class->kind == SEGMENT_KIND_MAPPED ? 0 : FALLOC_FL_KEEP_SIZE;
	int r = sys->fallocate(sys, fd, mode, 0, class->size_bytes);

	if (r == -EOPNOTSUPP)
		r = 0;
	if (r == 0 && class->kind == SEGMENT_KIND_MAPPED)
		r = sys->ftruncate(sys, fd, ready_size(class));
	return r;
}

static int file_provider_prepare_cold(SegmentProvider *base, const SegmentClass *class,
				      Segment **ret_segment)
{
	FileProvider *provider = file_provider(base);
	Segment *segment;
	int r = create_file(provider, class, &segment);

	if (r < 0)
		return r;
	segment->cold = true;
	r = reserve_blocks(provider->sys, segment->fd, class);
	if (r < 0) {
		file_provider_discard(base, segment);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

static int set_attributes(const Sys *sys, Segment *segment, const SegmentTarget *target)
{
	static const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	int r;

	if (segment->uid != target->uid || segment->gid != target->gid) {
		r = sys->fchown(sys, segment->fd, target->uid, target->gid);
		if (r < 0)
			return r;
		segment->uid = target->uid;
		segment->gid = target->gid;
	}
	/* Also after a change of owner, which clears the set-id bits. */
	if (segment->mode != target->mode || (target->mode & 07000)) {
		r = sys->fchmod(sys, segment->fd, target->mode);
		if (r < 0)
			return r;
		segment->mode = target->mode;
	}
	return sys->futimens(sys, segment->fd, now);
}

/* One that becomes live keeps its name in the pool beside the new one, until it is sealed: there recovery finds it. */
static int give_name(FileProvider *provider, const Segment *segment, const SegmentTarget *target)
{
	const Sys *sys = provider->sys;
	int pool_fd = provider->dir->segments_fd;

	if (segment_becomes_live(segment))
		return sys->linkat(sys, pool_fd, segment->name, target->dir_fd, target->name);
	return sys->renameat2(sys, pool_fd, segment->name, target->dir_fd, target->name, RENAME_NOREPLACE);
}

static int cut_to(FileProvider *provider, Segment *segment, uint64_t size)
{
	if (segment->class->kind != SEGMENT_KIND_MAPPED)
		return 0;
	return provider->sys->ftruncate(provider->sys, segment->fd, size);
}

/* Cut first: so a power cut in between leaves a segment that is not untouched, and not a published file of a wrong
 * size; and a daemon that is not root loses no set-id bits by it. */
static int file_provider_publish(SegmentProvider *base, Segment *segment, const SegmentTarget *target)
{
	FileProvider *provider = file_provider(base);
	const Sys *sys = provider->sys;
	int r = cut_to(provider, segment, segment->class->size_bytes);

	if (r == 0)
		r = set_attributes(sys, segment, target);
	if (r == 0)
		r = give_name(provider, segment, target);
	if (r < 0) {
		cut_to(provider, segment, ready_size(segment->class));
		sys->futimens(sys, segment->fd, never);
		return r;
	}
	let_go(provider, segment->class->size_bytes);
	segment_locks_keep(provider->config.locks, segment);
	return 0;
}

/* A segment that is there already costs nothing. */
static bool has_adoptable(FileProvider *provider, uint64_t bytes)
{
	SegmentNameParts parts;

	MUTEX_SCOPE(&provider->lock);
	for (GList *link = provider->dir->adoptable.head; link; link = link->next)
		if (segment_name_parse(link->data, &parts) == SEGMENT_NAME_READY && parts.size_bytes == bytes)
			return true;
	return false;
}

static int file_provider_check_space(SegmentProvider *base, uint64_t bytes)
{
	FileProvider *provider = file_provider(base);
	struct statvfs fs;
	int r;

	if (has_adoptable(provider, bytes))
		return 0;
	r = provider->sys->fstatvfs(provider->sys, provider->dir->segments_fd, &fs);

	if (r < 0)
		return r;
	uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
	uint64_t reserve = (uint64_t)fs.f_blocks * fs.f_frsize / 100 * provider->reserve_percent;
	return available < bytes || available - bytes < reserve ? -ENOSPC : 0;
}

void file_provider_set_reserve(FileProvider *provider, unsigned percent)
{
	provider->reserve_percent = percent;
}

FileProvider *file_provider_new(PoolDir *dir, const Sys *sys, const FileProviderConfig *config,
				const Log *log)
{
	FileProvider *provider = g_new0(FileProvider, 1);
	SegmentNameParts parts;
	uint64_t serial = 0;

	provider->base = (SegmentProvider){
		.prepare = file_provider_prepare,
		.prepare_cold = file_provider_prepare_cold,
		.publish = file_provider_publish,
		.discard = file_provider_discard,
		.release = file_provider_release,
		.check_space = file_provider_check_space,
		.renew = file_provider_renew,
	};
	provider->dir = dir;
	provider->sys = sys;
	provider->config = *config;
	provider->reserve_percent = config->reserve_percent;
	provider->log = log;
	mutex_init(&provider->lock);
	if (getrandom(&serial, sizeof(serial), GRND_NONBLOCK) < 0)
		serial = monotonic_ns();
	atomic_init(&provider->next_serial, serial);
	for (GList *link = dir->adoptable.head; link; link = link->next)
		if (segment_name_parse(link->data, &parts) == SEGMENT_NAME_READY)
			hold(provider, parts.size_bytes);
	return provider;
}

FileProvider *file_provider_free(FileProvider *provider)
{
	if (!provider)
		return NULL;
	mutex_deinit(&provider->lock);
	g_free(provider);
	return NULL;
}

SegmentProvider *file_provider_base(FileProvider *provider)
{
	return &provider->base;
}

uint64_t file_provider_held_bytes(FileProvider *provider)
{
	return atomic_load_explicit(&provider->held_bytes, memory_order_relaxed);
}

uint64_t file_provider_held_files(FileProvider *provider)
{
	return atomic_load_explicit(&provider->held_files, memory_order_relaxed);
}
