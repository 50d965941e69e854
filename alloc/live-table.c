// SPDX-License-Identifier: Apache-2.0
#include "alloc/live-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/boot-id.h"
#include "alloc/cleanup.h"
#include "alloc/mix.h"
#include "alloc/segment-name.h"
#include "alloc/sync.h"
#include "alloc/sys.h"

#define NEW_NAME     LIVE_TABLE_NAME ".new"
#define DAMAGED_MAX  1000
#define RECORD_BYTES 512
/* The header has it alone, so that a record is a sector of its own wherever the file lies. */
#define HEADER_BYTES 4096
#define TABLE_BYTES  (HEADER_BYTES + (size_t)LIVE_TABLE_RECORDS * RECORD_BYTES)
/* Small reads and writes leave small folios: a store leads to the write-back of one of them. */
#define CHUNK_BYTES  4096
#define BOOT_ID_SIZE 40
#define HEADER_MAGIC UINT64_C(0x31656c626174776d)
#define RECORD_MAGIC UINT64_C(0x3264726f6365726d)

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000
#endif

/* A write-life hint is kept with the inode in memory and nowhere else: an inode that has ours was not read from a disk
 * since a daemon had the table. This one asks for nothing that is not done anyway. */
#define LIVED_MARK ((uint64_t)RWH_WRITE_LIFE_MEDIUM)

typedef struct LiveHeader {
	uint64_t magic;
	uint64_t n_records;
	uint64_t record_bytes;
	uint64_t check;
} LiveHeader;

typedef struct LiveHead {
	uint64_t magic;
	uint64_t capacity_bytes;
	uint64_t mount_id;
	char boot_id[BOOT_ID_SIZE];
	char name[SEGMENT_NAME_SIZE];
	uint64_t check;
} LiveHead;

typedef struct LiveSlot {
	/* 0: never written. */
	_Atomic uint64_t sequence;
	_Atomic uint64_t length;
	_Atomic uint64_t check;
} LiveSlot;

typedef struct LiveRecord {
	LiveHead head;
	LiveSlot slots[2];
	char rest[RECORD_BYTES - sizeof(LiveHead) - 2 * sizeof(LiveSlot)];
} LiveRecord;

G_STATIC_ASSERT(sizeof(LiveRecord) == RECORD_BYTES);

struct LiveTable {
	/* Immutable. */
	int dir_fd;
	/* The mapped file, or, to look, a copy of it. */
	char *base;
	bool mapped;
	bool was_damaged;
	uint64_t mount_id;
	/* The file has been in memory since an earlier opener had it. */
	bool lived;
	char boot_id[BOOT_ID_SIZE];
	Mutex lock;
	/* Protected by lock. */
	bool used[LIVE_TABLE_RECORDS];
	/* Of the slot written last; the setters' of that record. Not in the file, where anybody may
	 * have written. */
	uint64_t sequences[LIVE_TABLE_RECORDS];
};

static uint64_t check_of_header(const LiveHeader *header)
{
	return mix_bytes(header, offsetof(LiveHeader, check));
}

static uint64_t check_of_head(const LiveHead *head)
{
	return mix_bytes(head, offsetof(LiveHead, check));
}

/* Holds the segment's identity: what another one left in the slot does not check. */
static uint64_t check_of_slot(const LiveHead *head, uint64_t sequence, uint64_t length)
{
	return mix(mix(head->check, sequence), length);
}

static LiveRecord *record_at(const LiveTable *table, int index)
{
	return (LiveRecord *)(table->base + HEADER_BYTES) + index;
}

static bool is_name(const char name[SEGMENT_NAME_SIZE], uint64_t capacity_bytes)
{
	SegmentNameParts parts;

	return memchr(name, '\0', SEGMENT_NAME_SIZE) &&
	       segment_name_parse(name, &parts) == SEGMENT_NAME_READY &&
	       parts.size_bytes == capacity_bytes;
}

static bool head_checks(const LiveHead *head)
{
	return head->magic == RECORD_MAGIC && head->check == check_of_head(head) &&
	       memchr(head->boot_id, '\0', sizeof(head->boot_id)) &&
	       is_name(head->name, head->capacity_bytes);
}

/* The sequence number of the newer slot that checks, 0 if none does. */
static uint64_t read_length(const LiveRecord *record, uint64_t *ret_length)
{
	uint64_t newest = 0;

	*ret_length = 0;
	for (size_t i = 0; i < 2; i++) {
		const LiveSlot *slot = &record->slots[i];
		uint64_t check = atomic_load_explicit(&slot->check, memory_order_acquire);
		uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
		uint64_t length = atomic_load_explicit(&slot->length, memory_order_relaxed);

		if (sequence <= newest || check != check_of_slot(&record->head, sequence, length))
			continue;
		newest = sequence;
		*ret_length = length;
	}
	return newest;
}

/* Into the slot that the newest value is not in. Torn at any point, it leaves that one. */
static void write_length(LiveTable *table, int index, uint64_t length)
{
	LiveRecord *record = record_at(table, index);
	uint64_t sequence = ++table->sequences[index];
	LiveSlot *slot = &record->slots[sequence % 2];

	atomic_store_explicit(&slot->sequence, sequence, memory_order_relaxed);
	atomic_store_explicit(&slot->length, length, memory_order_relaxed);
	atomic_store_explicit(&slot->check, check_of_slot(&record->head, sequence, length),
			      memory_order_release);
}

static void wipe(LiveTable *table, int index)
{
	LiveRecord *record = record_at(table, index);

	memset(&record->head, 0, sizeof(record->head));
	for (size_t i = 0; i < 2; i++) {
		LiveSlot *slot = &record->slots[i];

		atomic_store_explicit(&slot->check, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->sequence, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->length, 0, memory_order_relaxed);
	}
	table->sequences[index] = 0;
	table->used[index] = false;
}

bool live_table_exists(int dir_fd)
{
	struct stat attr;

	return fstatat(dir_fd, LIVE_TABLE_NAME, &attr, AT_SYMLINK_NOFOLLOW) == 0;
}

/* -EUCLEAN if it is nothing that warmfs made: a symlink, directory, FIFO or socket fails to open in
 * its own way. */
static int open_file(int dir_fd, int access, int *ret_fd)
{
	auto_fd fd = openat(dir_fd, LIVE_TABLE_NAME,
			    access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat attr;

	if (fd < 0) {
		bool is_odd = errno == ELOOP || errno == EISDIR || errno == ENXIO ||
			      errno == EACCES || errno == ENODEV;

		return is_odd ? -EUCLEAN : -errno;
	}
	if (fstat(fd, &attr) < 0)
		return -errno;
	/* With another name it could be somebody's file, and storing into it would change that. */
	if (!S_ISREG(attr.st_mode) || attr.st_size != TABLE_BYTES || attr.st_nlink != 1 ||
	    attr.st_uid != geteuid() || (attr.st_mode & 022))
		return -EUCLEAN;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static bool header_checks(const char *base)
{
	LiveHeader header;

	memcpy(&header, base, sizeof(header));
	return header.magic == HEADER_MAGIC && header.n_records == LIVE_TABLE_RECORDS &&
	       header.record_bytes == RECORD_BYTES && header.check == check_of_header(&header);
}

/* Reads the whole file: what cannot be read is an error here, and would be SIGBUS in a mapping. */
static int read_all(int fd, char *base)
{
	size_t done = 0;

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (done < TABLE_BYTES) {
		ssize_t n = pread(fd, base + done, MIN(CHUNK_BYTES, TABLE_BYTES - done), done);

		if (n <= 0)
			return -EUCLEAN;
		done += n;
	}
	return header_checks(base) ? 0 : -EUCLEAN;
}

/* The file is mapped only if nothing about storing into it can fail any more: no hole of it takes
 * space later. */
static int map_file(int fd, char **ret_base)
{
	void *map;
	int r = sys_kernel.fallocate(&sys_kernel, fd, 0, 0, TABLE_BYTES);

	if (r < 0 && r != -EOPNOTSUPP)
		return r;
	r = sys_kernel.mmap_shared(&sys_kernel, fd, TABLE_BYTES, &map);
	if (r < 0)
		return r;
	sys_kernel.madvise(&sys_kernel, map, TABLE_BYTES, MADV_RANDOM);
	*ret_base = map;
	return 0;
}

/* 0, if there is none yet. */
static uint64_t read_mount_id(int dir_fd)
{
	struct statx attr;

	if (statx(dir_fd, "", AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, &attr) < 0 ||
	    !(attr.stx_mask & STATX_MNT_ID_UNIQUE))
		return 0;
	return attr.stx_mnt_id;
}

static bool is_marked(int fd)
{
	uint64_t hint = 0;

	return fcntl(fd, F_GET_RW_HINT, &hint) == 0 && hint == LIVED_MARK;
}

/* Where it cannot be marked, only the mount says whether it has lived. */
static void mark(int fd)
{
	uint64_t hint = LIVED_MARK;

	fcntl(fd, F_SET_RW_HINT, &hint);
}

static bool is_of_this_boot(const LiveTable *table, const LiveRecord *record)
{
	return *table->boot_id && strcmp(record->head.boot_id, table->boot_id) == 0;
}

/* Another mount may be another way to the same filesystem (a mount namespace), or the same disk, cut off and mounted
 * again, which has lost what was in the page cache. */
static bool is_of_this_mount(const LiveTable *table, const LiveRecord *record)
{
	return is_of_this_boot(table, record) && (record->head.mount_id == table->mount_id || table->lived);
}

/* Before the file is marked, which would speak for them, too. */
static void forget_other_mounts(LiveTable *table)
{
	for (int i = 0; i < LIVE_TABLE_RECORDS; i++) {
		const LiveRecord *record = record_at(table, i);

		if (table->used[i] && is_of_this_boot(table, record) && !is_of_this_mount(table, record))
			wipe(table, i);
	}
}

static LiveTable *table_new(int dir_fd, char *base, bool mapped, bool lived)
{
	LiveTable *table = g_new0(LiveTable, 1);
	g_autofree char *boot_id = boot_id_read();
	uint64_t length;

	table->dir_fd = dir_fd;
	table->base = base;
	table->mapped = mapped;
	table->lived = lived;
	table->mount_id = read_mount_id(dir_fd);
	g_strlcpy(table->boot_id, boot_id ? boot_id : "", sizeof(table->boot_id));
	mutex_init(&table->lock);
	for (int i = 0; i < LIVE_TABLE_RECORDS; i++) {
		table->used[i] = head_checks(&record_at(table, i)->head);
		if (table->used[i])
			table->sequences[i] = read_length(record_at(table, i), &length);
	}
	return table;
}

LiveTable *live_table_close(LiveTable *table)
{
	if (!table)
		return NULL;
	if (table->mapped)
		sys_kernel.munmap(&sys_kernel, table->base, TABLE_BYTES);
	else
		g_free(table->base);
	mutex_deinit(&table->lock);
	g_free(table);
	return NULL;
}

static int write_new_file(int fd)
{
	char chunk[CHUNK_BYTES] = "";
	LiveHeader header = {
		.magic = HEADER_MAGIC,
		.n_records = LIVE_TABLE_RECORDS,
		.record_bytes = RECORD_BYTES,
	};

	for (size_t done = 0; done < TABLE_BYTES; done += CHUNK_BYTES) {
		ssize_t n = pwrite(fd, chunk, CHUNK_BYTES, done);

		if (n != CHUNK_BYTES)
			return n < 0 ? -errno : -ENOSPC;
	}
	header.check = check_of_header(&header);
	if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header) || fsync(fd) < 0)
		return -errno;
	return 0;
}

/* The rename makes it whole or not at all. */
static int make_file(int dir_fd)
{
	int r;

	if (unlinkat(dir_fd, NEW_NAME, 0) < 0 && errno != ENOENT)
		return -errno;
	auto_fd fd = openat(dir_fd, NEW_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0600);
	if (fd < 0)
		return -errno;
	r = write_new_file(fd);
	if (r == 0 && renameat2(dir_fd, NEW_NAME, dir_fd, LIVE_TABLE_NAME, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir_fd, NEW_NAME, 0);
	else if (fsync(dir_fd) < 0)
		r = -errno;
	return r;
}

static int set_aside(int dir_fd, const Log *log)
{
	for (unsigned n = 1; n <= DAMAGED_MAX; n++) {
		char name[32];

		snprintf(name, sizeof(name), LIVE_TABLE_DAMAGED_PREFIX "%u", n);
		if (renameat2(dir_fd, LIVE_TABLE_NAME, dir_fd, name, RENAME_NOREPLACE) == 0) {
			log_warning(
				log,
				"live table: damaged, or not made by warmfs: renamed to %s and not believed; "
				"lengths are found by looking at the data",
				name);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int open_mapped(int dir_fd, LiveTable **ret_table)
{
	g_autofree char *copy = g_malloc(TABLE_BYTES);
	auto_fd fd = -1;
	char *base = NULL;
	int r = open_file(dir_fd, O_RDWR, &fd);

	if (r == 0)
		r = read_all(fd, copy);
	if (r == 0)
		r = map_file(fd, &base);
	if (r < 0)
		return r;
	*ret_table = table_new(dir_fd, base, true, is_marked(fd));
	forget_other_mounts(*ret_table);
	mark(fd);
	return 0;
}

static bool fail(GError **error, const char *what, int r)
{
	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-r), "live table: %s: %s", what,
		    g_strerror(-r));
	return false;
}

LiveTable *live_table_open(int dir_fd, const Log *log, GError **error)
{
	LiveTable *table = NULL;
	bool damaged;
	int r = open_mapped(dir_fd, &table);

	damaged = r == -EUCLEAN;
	if (damaged) {
		r = set_aside(dir_fd, log);
		if (r < 0)
			return fail(error, "damaged, and cannot be renamed", r), NULL;
		r = -ENOENT;
	}
	if (r == -ENOENT) {
		r = make_file(dir_fd);
		if (r < 0)
			return fail(error, "cannot be made", r), NULL;
		r = open_mapped(dir_fd, &table);
	}
	if (r < 0)
		return fail(error, "cannot be opened", r), NULL;
	table->was_damaged = damaged;
	return table;
}

LiveTable *live_table_open_to_look(int dir_fd, GError **error)
{
	g_autofree char *copy = g_malloc(TABLE_BYTES);
	auto_fd fd = -1;
	int r = open_file(dir_fd, O_RDONLY, &fd);

	if (r == -ENOENT)
		return NULL;
	if (r == 0)
		r = read_all(fd, copy);
	if (r < 0)
		return fail(error,
			    r == -EUCLEAN ? "damaged, or not made by warmfs" : "cannot be opened",
			    r),
		       NULL;
	return table_new(dir_fd, g_steal_pointer(&copy), false, is_marked(fd));
}

bool live_table_was_damaged(const LiveTable *table)
{
	return table->was_damaged;
}

static int find_free_locked(LiveTable *table)
{
	for (int i = 0; i < LIVE_TABLE_RECORDS; i++)
		if (!table->used[i])
			return i;
	return -ENOSPC;
}

int live_table_add(LiveTable *table, const char *name, uint64_t capacity_bytes)
{
	LiveHead head = {
		.magic = RECORD_MAGIC,
		.capacity_bytes = capacity_bytes,
		.mount_id = table->mount_id,
	};
	int index;

	if (g_strlcpy(head.name, name, sizeof(head.name)) >= sizeof(head.name) ||
	    !is_name(head.name, capacity_bytes))
		return -EINVAL;
	memcpy(head.boot_id, table->boot_id, sizeof(head.boot_id));
	head.check = check_of_head(&head);

	MUTEX_SCOPE(&table->lock);
	index = find_free_locked(table);
	if (index < 0)
		return index;
	wipe(table, index);
	record_at(table, index)->head = head;
	write_length(table, index, 0);
	table->used[index] = true;
	return index;
}

void live_table_set_length(LiveTable *table, int index, uint64_t length)
{
	write_length(table, index, length);
}

void live_table_remove(LiveTable *table, int index)
{
	MUTEX_SCOPE(&table->lock);
	wipe(table, index);
}

static void fill_entry(const LiveTable *table, int index, LiveEntry *ret_entry)
{
	const LiveRecord *record = record_at(table, index);

	*ret_entry = (LiveEntry){ .capacity_bytes = record->head.capacity_bytes };
	g_strlcpy(ret_entry->name, record->head.name, sizeof(ret_entry->name));
	ret_entry->same_boot = is_of_this_boot(table, record);
	ret_entry->same_mount = is_of_this_mount(table, record);
	ret_entry->has_length = read_length(record, &ret_entry->length) > 0;
}

int live_table_find(LiveTable *table, const char *name, LiveEntry *ret_entry)
{
	MUTEX_SCOPE(&table->lock);
	for (int i = 0; i < LIVE_TABLE_RECORDS; i++) {
		const LiveHead *head = &record_at(table, i)->head;

		if (!table->used[i] || strncmp(head->name, name, sizeof(head->name)) != 0 ||
		    !head_checks(head))
			continue;
		fill_entry(table, i, ret_entry);
		return i;
	}
	return -ENOENT;
}

void live_table_clear(LiveTable *table)
{
	MUTEX_SCOPE(&table->lock);
	for (int i = 0; i < LIVE_TABLE_RECORDS; i++)
		wipe(table, i);
	sys_kernel.msync(&sys_kernel, table->base, TABLE_BYTES);
}
