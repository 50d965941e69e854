// SPDX-License-Identifier: Apache-2.0
#include "alloc/pool-dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/boot-id.h"
#include "alloc/cleanup.h"
#include "alloc/live-table.h"
#include "alloc/segment-name.h"
#include "alloc/sync.h"

#define STATE_NAME    "state"
#define BUFFERED      "buffered"
#define LOCK_NAME     "lock"
#define SEGMENTS_NAME "pool"
/* Behind the pid in the lock. */
#define ENDING " ending"

/* How long a lock is waited for: of a daemon that says that it ends, and of any, which may not have heard that it was
 * unmounted. */
#define ENDING_PATIENCE_NS (INT64_C(60) * 1000 * 1000 * 1000)
#define PATIENCE_NS	   (INT64_C(1) * 1000 * 1000 * 1000)
#define LOOK_INTERVAL_US   10000

static void set_errno_error(GError **error, const char *format, const char *source, int saved)
{
	g_autofree char *what = g_strdup_printf(format, source);

	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved), "%s: %s", what,
		    g_strerror(saved));
}

static int open_directory(int parent_fd, const char *name)
{
	if (mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST)
		return -1;
	return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The names inside are trusted because nobody but the daemon's user can have made them. `name` is below the
 * source. */
static bool check_owner(int fd, const char *source, const char *name, GError **error)
{
	struct stat attr;

	if (fstat(fd, &attr) == 0 && attr.st_uid == geteuid() && (attr.st_mode & 022) == 0)
		return true;
	g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
		    "%s/%s: others may write to it; it must belong to the user that runs warmfs, with "
		    "mode 0700",
		    source, name);
	return false;
}

/* What the one who holds the lock has written there. */
static void read_holder(int lock_fd, char *holder, size_t size)
{
	ssize_t n = pread(lock_fd, holder, size - 1, 0);

	holder[MAX(n, 0)] = '\0';
	g_strstrip(holder);
}

/* False: *holder has who holds it still. */
static bool wait_for_lock(int lock_fd, char *holder, size_t size)
{
	int64_t begin_ns = monotonic_ns(), patience_ns;

	while (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
		read_holder(lock_fd, holder, size);
		patience_ns = g_str_has_suffix(holder, ENDING) ? ENDING_PATIENCE_NS : PATIENCE_NS;
		if (errno != EWOULDBLOCK || monotonic_ns() - begin_ns >= patience_ns)
			return false;
		g_usleep(LOOK_INTERVAL_US);
	}
	return true;
}

static bool lock_directory(PoolDir *dir, const char *source, GError **error)
{
	char holder[32];

	dir->lock_fd = openat(dir->fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* For those who only look. */
	if (dir->lock_fd < 0 && errno == EROFS)
		dir->lock_fd = openat(dir->fd, LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->lock_fd < 0) {
		set_errno_error(error, "%s/" POOL_DIR_NAME "/" LOCK_NAME ": cannot open", source, errno);
		return false;
	}
	if (!wait_for_lock(dir->lock_fd, holder, sizeof(holder))) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
			    "%s: already served by another warmfs (pid %s); unmount that one first", source,
			    holder);
		return false;
	}
	return true;
}

/* The pid is a courtesy to the one who is refused; the lock is what counts. */
static void write_pid(int lock_fd, const char *suffix)
{
	char pid[32];
	int length = snprintf(pid, sizeof(pid), "%ld%s\n", (long)getpid(), suffix);

	if (ftruncate(lock_fd, 0) < 0 || pwrite(lock_fd, pid, length, 0) < 0)
		return;
}

PoolDir *pool_dir_open(int source_fd, const char *source, const Log *log, GError **error)
{
	g_autoptr(PoolDir) dir = g_new(PoolDir, 1);

	*dir = (PoolDir){ .fd = -1, .segments_fd = -1, .lock_fd = -1, .log = log };
	g_queue_init(&dir->adoptable);
	dir->fd = open_directory(source_fd, POOL_DIR_NAME);
	if (dir->fd < 0) {
		set_errno_error(error, "%s/" POOL_DIR_NAME ": cannot make or open the directory of the pool",
				source, errno);
		return NULL;
	}
	if (!check_owner(dir->fd, source, POOL_DIR_NAME, error) || !lock_directory(dir, source, error))
		return NULL;
	dir->segments_fd = open_directory(dir->fd, SEGMENTS_NAME);
	if (dir->segments_fd < 0) {
		set_errno_error(error, "%s/" POOL_DIR_NAME "/" SEGMENTS_NAME ": cannot make or open", source,
				errno);
		return NULL;
	}
	if (!check_owner(dir->segments_fd, source, POOL_DIR_NAME "/" SEGMENTS_NAME, error))
		return NULL;
	return g_steal_pointer(&dir);
}

PoolDir *pool_dir_close(PoolDir *dir)
{
	if (!dir)
		return NULL;
	g_queue_clear_full(&dir->adoptable, g_free);
	cleanup_fd(&dir->segments_fd);
	cleanup_fd(&dir->lock_fd);
	cleanup_fd(&dir->fd);
	g_free(dir);
	return NULL;
}

typedef struct State {
	bool same_boot;
	char how[16];
} State;

/* A missing or odd file says nothing. */
static State read_state(PoolDir *dir)
{
	g_autofree char *boot_id = boot_id_read();
	char text[128] = "", id[64] = "";
	State state = { 0 };
	auto_fd fd = openat(dir->fd, STATE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "boot %63s\n%15s", id, state.how) != 2)
		return (State){ 0 };
	state.same_boot = boot_id && strcmp(id, boot_id) == 0;
	return state;
}

/* Whether the ready segments left by the last daemon are untouched. */
static bool is_trusted(PoolDir *dir)
{
	State state = read_state(dir);

	return strcmp(state.how, "clean") == 0 || state.same_boot;
}

/* Durable on return. The rename makes it whole or not at all. */
static int write_state(PoolDir *dir, const char *how)
{
	g_autofree char *boot_id = boot_id_read();
	g_autofree char *text = g_strdup_printf("boot %s\n%s\n", boot_id ? boot_id : "unknown", how);
	auto_fd fd = openat(dir->fd, STATE_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
			    0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0)
		return -errno;
	if (renameat(dir->fd, STATE_NAME ".new", dir->fd, STATE_NAME) < 0 || fsync(dir->fd) < 0)
		return -errno;
	return 0;
}

static void report_foreign(PoolDir *dir, const char *where, const char *name)
{
	log_warning(dir->log, "pool: " POOL_DIR_NAME "%s/%s: not made by warmfs; left alone", where, name);
}

static void remove_leftover(PoolDir *dir, const char *name, const char *why)
{
	if (unlinkat(dir->segments_fd, name, 0) == 0)
		log_notice(dir->log, "pool: removed %s: %s", name, why);
	else
		log_failure(dir->log, WARNING, "remove", name, errno, "pool: cannot remove %s (%s): %s", name, why,
			    g_strerror(errno));
}

typedef struct Stock {
	PoolDir *dir;
	const ClassRules *rules;
	bool trusted;
	/* How many more each class can use, in the order of the rules. */
	unsigned *wanted;
} Stock;

static bool is_wanted(Stock *stock, const SegmentNameParts *parts)
{
	for (size_t i = 0; i < class_rules_count(stock->rules); i++) {
		if (stock->wanted[i] > 0 && segment_name_serves(parts, class_rules_nth(stock->rules, i))) {
			stock->wanted[i]--;
			return true;
		}
	}
	return false;
}

/* Taken, and not sealed: recovery could not do it this time. */
static bool is_live(const Stock *stock, const char *name)
{
	struct stat attr;

	return fstatat(stock->dir->segments_fd, name, &attr, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(attr.st_mode) &&
	       attr.st_nlink > 1;
}

static void judge_segment(Stock *stock, const char *name)
{
	SegmentNameParts parts;

	switch (segment_name_parse(name, &parts)) {
	case SEGMENT_NAME_WARMING:
		if (!is_live(stock, name))
			remove_leftover(stock->dir, name, "half-made");
		break;
	case SEGMENT_NAME_READY:
		if (parts.kind != SEGMENT_KIND_MAPPED && is_live(stock, name))
			break;
		if (!stock->trusted)
			remove_leftover(stock->dir, name, "the last daemon did not stop cleanly before a reboot");
		else if (!is_wanted(stock, &parts))
			remove_leftover(stock->dir, name, "no class needs it");
		else
			g_queue_push_tail(&stock->dir->adoptable, g_strdup(name));
		break;
	case SEGMENT_NAME_RECYCLED:
		/* The application's name for it may still be there, and stays. */
		remove_leftover(stock->dir, name, "not used again yet");
		break;
	case SEGMENT_NAME_FOREIGN:
		report_foreign(stock->dir, "/" SEGMENTS_NAME, name);
		break;
	}
}

static void judge_own_file(Stock *stock, const char *name)
{
	static const char *const own[] = { LOCK_NAME, STATE_NAME, STATE_NAME ".new", SEGMENTS_NAME,
					   LIVE_TABLE_NAME, LIVE_TABLE_NAME ".new" };

	for (size_t i = 0; i < G_N_ELEMENTS(own); i++)
		if (strcmp(own[i], name) == 0)
			return;
	if (g_str_has_prefix(name, LIVE_TABLE_DAMAGED_PREFIX))
		return;
	report_foreign(stock->dir, "", name);
}

static int for_each_name(int dir_fd, void (*judge)(Stock *stock, const char *name), Stock *stock)
{
	/* Opened anew: a DIR takes its descriptor along when it is closed. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		cleanup_fd(&fd);
		return -errno;
	}
	while ((entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			judge(stock, entry->d_name);
	closedir(stream);
	return 0;
}

bool pool_dir_take_stock(PoolDir *dir, const ClassRules *rules, GError **error)
{
	g_autofree unsigned *wanted = g_new(unsigned, class_rules_count(rules) + 1);
	Stock stock = { .dir = dir, .rules = rules, .trusted = is_trusted(dir), .wanted = wanted };
	int r;

	for (size_t i = 0; i < class_rules_count(rules); i++)
		wanted[i] = class_rules_nth(rules, i)->ahead;
	write_pid(dir->lock_fd, "");
	r = for_each_name(dir->fd, judge_own_file, &stock);
	if (r == 0)
		r = for_each_name(dir->segments_fd, judge_segment, &stock);
	if (r == 0)
		r = write_state(dir, dir->has_buffers ? BUFFERED : "running");
	if (r < 0)
		set_errno_error(error, "%s: cannot take stock of the pool", POOL_DIR_NAME, -r);
	return r == 0;
}

bool pool_dir_left_buffers(PoolDir *dir)
{
	State state = read_state(dir);

	return state.same_boot && strcmp(state.how, BUFFERED) == 0;
}

int pool_dir_forget_buffers(PoolDir *dir)
{
	return write_state(dir, "running");
}

void pool_dir_mark_ending(PoolDir *dir)
{
	write_pid(dir->lock_fd, ENDING);
}

void pool_dir_mark_clean(PoolDir *dir)
{
	int r = write_state(dir, "clean");

	if (r < 0)
		log_failure(dir->log, WARNING, "mark", POOL_DIR_NAME, r,
			    "pool: cannot mark " POOL_DIR_NAME " as clean: %s; after a reboot its "
			    "segments will be made anew", g_strerror(-r));
}
