// SPDX-License-Identifier: Apache-2.0
/*
 * Threads: the main one runs libfuse's loop, libfuse adds workers, the allocate service its own; one more waits for
 * signals, which every other thread has blocked, and so may do anything when one comes.
 *
 * Stopping: the service first, so that waiting creates are answered while there still is a session; then the loop.
 */
#include "fs/fs-session.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "alloc/class-providers.h"
#include "alloc/cleanup.h"
#include "alloc/lock-budget.h"
#include "alloc/recovery.h"
#include "alloc/transient-commit.h"
#include "alloc/transient-recovery.h"
#include "fs/daemonize.h"
#include "fs/fs-log.h"
#include "fs/inode-pruner.h"
#include "fs/mount-point.h"
#include "fs/privileges.h"
#include "fs/readiness.h"
#include "fs/service-notify.h"
#include "fs/watchdog.h"

/* Requests that may block in the daemon at a time (an fsync, a read of a cold file). Waiting creates are not among
 * them. */
#define MAX_LOOP_THREADS 64
G_STATIC_ASSERT(MAX_LOOP_THREADS > DESCRIPTOR_BUDGET_MAX_WAITING);
/* So many more than are busy stay: after a burst, the others end and give back their buffers, of 1 MiB each. */
#define MAX_IDLE_LOOP_THREADS 8
/* More than the answer to the largest read needs, less than the buffer of a thread. */
#define OWN_MAPPING_BYTES (1024 * 1024 + 8192)

typedef struct FsSession {
	const FsOptions *options;
	Log log;
	char *mount_point;
	int source_fd;
	PoolDir *pool_dir;
	LiveTable *live_table;
	TransientPool *transient;
	TransientCommit *transient_commit;
	LiveSet *live;
	LiveBytes live_bytes;
	InodePruner pruner;
	WarmPace *pace;
	SegmentLocks *locks;
	FileProvider *provider;
	ClassProviders *class_providers;
	AllocateService *service;
	Fs fs;
	bool fs_ready;
	struct fuse_session *fuse;
	bool mounted;
	pthread_t signal_thread;
	bool signal_thread_runs;
	KnownName known_name;
	Readiness readiness;
	Watchdog watchdog;
	bool serving;
	int64_t served_since_ns;
} FsSession;

static bool fail(GError **error, const char *what, int saved)
{
	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved), "%s: %s", what, g_strerror(saved));
	return false;
}

/* Asked for, or for the record. */
static void log_counters(FsSession *session, bool asked_for)
{
	for (size_t i = 0; session->service && i < class_rules_count(session->options->rules); i++) {
		const SegmentClass *class = class_rules_nth(session->options->rules, i);
		g_autofree char *line = allocate_service_describe(session->service, i);
		g_autofree char *buffers = transient_pool_describe(session->transient, class);
		g_autofree char *whole = g_strconcat(line, buffers, NULL);

		if (asked_for)
			fs_log_say(&session->log, whole);
		else
			log_notice(&session->log, "%s", whole);
	}
}

static uint64_t count_all(FsSession *session, AllocCounter counter)
{
	uint64_t sum = 0;

	for (size_t i = 0; session->service && i < class_rules_count(session->options->rules); i++)
		sum += allocate_service_counter(session->service, i, counter);
	return sum;
}

/* One line of what it was good for. */
static void log_summary(FsSession *session)
{
	uint64_t hits = count_all(session, ALLOC_HITS), all = hits + count_all(session, ALLOC_MISSES);
	double seconds = (double)(monotonic_ns() - session->served_since_ns) / 1e9;

	log_notice(&session->log,
		   "served %s at %s for %.1f s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " new segments came ready "
		   "from the pool (%.1f %%), %" G_GUINT64_FORMAT " waits, %" G_GUINT64_FORMAT " timeouts, "
		   "%" G_GUINT64_FORMAT " preparations failed",
		   session->options->source, session->mount_point, seconds, (guint64)hits, (guint64)all,
		   all ? 100.0 * (double)hits / (double)all : 100.0, (guint64)count_all(session, ALLOC_WAITS),
		   (guint64)count_all(session, ALLOC_TIMEOUTS), (guint64)count_all(session, ALLOC_ERRORS));
}

static void signals_to_wait_for(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
}

static void *signal_thread_run(void *arg)
{
	FsSession *session = arg;
	sigset_t set;
	int signal_number = 0;

	signals_to_wait_for(&set);
	for (;;) {
		if (sigwait(&set, &signal_number) != 0)
			continue;
		if (signal_number != SIGUSR1)
			break;
		log_counters(session, true);
	}
	if (session->service)
		allocate_service_stop(session->service);
	fuse_session_exit(session->fuse);
	return NULL;
}

/* Every inode that the kernel knows has a descriptor here. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit = { .rlim_cur = 1048576, .rlim_max = 1048576 };

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Or else every burst leaves more of it behind: an arena for each thread, and, once a buffer of a thread has been
 * freed, megabytes kept free in each. */
static void bound_free_memory(void)
{
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, (int)g_get_num_processors());
	mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
#endif
}

static void set_up_process(void)
{
	sigset_t set;

	signals_to_wait_for(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Somebody waits for a lease (alloc/reservation.h), which is given up at once in any case. */
	signal(SIGIO, SIG_IGN);
	/* A limit on file sizes is an error of one call (EFBIG), and not the end of everybody's filesystem. */
	signal(SIGXFSZ, SIG_IGN);
	/* A new file's mode is worked out for the application that creates it. */
	umask(0);
	raise_descriptor_limit();
	bound_free_memory();
}

/* Everything that can be refused without touching anything. */
static bool look(FsSession *session, GError **error)
{
	const FsOptions *options = session->options;
	struct statvfs stat;

	session->source_fd = mount_point_open_source(options->source, error);
	if (session->source_fd < 0 || !mount_point_check(options->mount_point, session->source_fd, error))
		return false;
	if (fstatvfs(session->source_fd, &stat) < 0)
		return fail(error, options->source, errno);
	if (!class_rules_check(options->rules, (uint64_t)stat.f_blocks * stat.f_frsize, error))
		return false;
	session->mount_point = realpath(options->mount_point, NULL);
	return session->mount_point || fail(error, options->mount_point, errno);
}

static bool set_up_fs(FsSession *session, GError **error)
{
	int r = fs_init(&session->fs, session->source_fd, &session->options->fs, &session->log,
			session->options->rules);

	if (r < 0)
		return fail(error, "/proc/self/fd", -r);
	session->fs.options = session->options;
	session->fs.mount_point = session->mount_point;
	session->fs.started_s = time(NULL);
	steal_fd(&session->source_fd);
	session->fs_ready = true;
	return true;
}

static bool has_class_of(const ClassRules *rules, SegmentKind kind)
{
	for (size_t i = 0; i < class_rules_count(rules); i++)
		if (class_rules_nth(rules, i)->kind == kind)
			return true;
	return false;
}

/* What the last daemon left live is sealed before anything else is done with the pool. */
static bool recover(FsSession *session, GError **error)
{
	int dir_fd = session->pool_dir->fd;
	TransientPlace place;
	TransientResult transient_result;
	RecoveryResult result;
	int r;

	if (has_class_of(session->options->rules, SEGMENT_KIND_APPEND) || live_table_exists(dir_fd)) {
		session->live_table = live_table_open(dir_fd, &session->log, error);
		if (!session->live_table)
			return false;
	}
	transient_place_init(&place, &sys_kernel, session->fs.root_fd, &session->log);
	r = transient_recovery_run(&place, session->pool_dir, false, &transient_result);
	if (r == 0)
		r = recovery_run(&sys_kernel, session->pool_dir, session->live_table, &session->log, false, NULL,
				 NULL, &result);
	return r == 0 || fail(error, "recovery", -r);
}

/* For a mount that prepares nothing: the pool stays as it is, but every file must have its true length. */
static bool recover_only(FsSession *session, GError **error)
{
	struct stat attr;
	bool ok;

	if (fstatat(session->fs.root_fd, POOL_DIR_NAME, &attr, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return true;
	session->pool_dir = pool_dir_open(session->fs.root_fd, session->options->source, &session->log, error);
	ok = session->pool_dir && recover(session, error);
	session->live_table = live_table_close(session->live_table);
	session->pool_dir = pool_dir_close(session->pool_dir);
	return ok;
}

static uint64_t live_bytes(void *arg, const SegmentClass *class)
{
	return live_set_bytes(arg, class);
}

static void set_up_live(FsSession *session)
{
	const ClassRules *rules = session->options->rules;
	LivePlace place = { .sys = &sys_kernel, .table = session->live_table,
			    .pool_fd = session->pool_dir->segments_fd, .log = &session->log,
			    .transient = session->transient, .locks = session->locks,
			    .descriptors = &session->fs.descriptors };

	if (!has_class_of(rules, SEGMENT_KIND_APPEND) && !has_class_of(rules, SEGMENT_KIND_STREAM))
		return;
	session->live = live_set_new(&place);
	session->live_bytes = (LiveBytes){ .of_class = live_bytes, .arg = session->live };
	session->fs.live = session->live;
}

/* False if some class wants buffers, and there is no memory for them. */
static bool set_up_transient(FsSession *session, uint64_t lock_budget_bytes, GError **error)
{
	TransientPlace place;
	GError *refused = NULL;

	transient_place_init(&place, &sys_kernel, session->fs.root_fd, &session->log);
	session->transient = transient_pool_new(&place, session->options->rules, &clock_monotonic, lock_budget_bytes,
						&refused);
	if (refused)
		g_propagate_error(error, refused);
	session->fs.transient = session->transient;
	session->pool_dir->has_buffers = session->transient;
	return !refused;
}

/* What the transient buffers have left of the budget. */
static void set_up_locks(FsSession *session, uint64_t lock_budget_bytes)
{
	session->locks = segment_locks_new(session->options->rules, &sys_kernel,
					   lock_budget_left(lock_budget_bytes, transient_pool_locked_bytes(session->transient)),
					   &session->log);
	session->fs.locks = session->locks;
}

static bool set_up_pool(FsSession *session, GError **error)
{
	const FsOptions *options = session->options;
	FileProviderConfig provider_config = options->provider;
	uint64_t lock_budget_bytes = lock_budget_read(options->lock_budget_bytes);

	if (class_rules_count(options->rules) == 0) {
		log_warning(&session->log, "neither match= nor config= given: no file will be prepared");
		return recover_only(session, error);
	}
	session->pool_dir = pool_dir_open(session->fs.root_fd, options->source, &session->log, error);
	if (!session->pool_dir || !recover(session, error) ||
	    !set_up_transient(session, lock_budget_bytes, error) ||
	    !pool_dir_take_stock(session->pool_dir, options->rules, error))
		return false;
	session->pace = warm_pace_new(&options->pace, &sys_kernel, &clock_monotonic);
	provider_config.pace = session->fs.pace = session->pace;
	set_up_locks(session, lock_budget_bytes);
	provider_config.locks = session->locks;
	session->provider = file_provider_new(session->pool_dir, &sys_kernel, &provider_config, &session->log);
	session->class_providers = class_providers_new(options->rules, options->provider_dir,
						       session->provider, &session->log);
	set_up_live(session);
	session->service = allocate_service_new(
		options->rules, class_providers_base(session->class_providers),
		session->live ? &session->live_bytes : NULL, &session->log);
	allocate_service_set_pace(session->service, session->pace);
	allocate_service_set_locks(session->service, session->locks);
	session->fs.service = session->service;
	session->fs.provider = session->provider;
	return true;
}

static char *mount_option_list(const FsOptions *options, int root_fd)
{
	struct statvfs stat;
	char *list = NULL;
	bool named = false;

	for (guint i = 0; i < options->mount_options->len; i++) {
		const char *option = g_ptr_array_index(options->mount_options, i);

		named = named || g_str_has_prefix(option, "fsname=");
		fuse_opt_add_opt_escaped(&list, option);
	}
	if (!named) {
		g_autofree char *name = g_strconcat("fsname=", options->source, NULL);

		fuse_opt_add_opt_escaped(&list, name);
	}
	/* As the source is: access(2) and statvfs(2) are answered without asking us. */
	if (fstatvfs(root_fd, &stat) == 0 && (stat.f_flag & ST_RDONLY))
		fuse_opt_add_opt(&list, "ro");
	/* The kernel checks permissions, by the modes and ACLs we report, before a request reaches us. */
	fuse_opt_add_opt(&list, "default_permissions");
	fuse_opt_add_opt(&list, "subtype=warmfs");
	if (geteuid() == 0)
		fuse_opt_add_opt(&list, "allow_other");
	return list;
}

/* While setting up, what libfuse has to say is said by our own one line. */
static void drop_fuse_line(enum fuse_log_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
}

static bool mount_session(FsSession *session, GError **error)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *list = mount_option_list(session->options, session->fs.root_fd);

	fuse_opt_add_arg(&args, "warmfs");
	fuse_opt_add_arg(&args, "-o");
	fuse_opt_add_arg(&args, list);
	if (session->options->debug)
		fuse_opt_add_arg(&args, "-d");
	if (!session->options->debug)
		fuse_set_log_func(drop_fuse_line);
	errno = EINVAL;
	session->fuse = fuse_session_new(&args, fs_operations(), sizeof(*fs_operations()), &session->fs);
	session->fs.session = session->fuse;
	session->mounted = session->fuse && fuse_session_mount(session->fuse, session->mount_point) == 0;
	if (!session->mounted)
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
			    "MOUNTPOINT %s: cannot mount with -o %s: %s; allowed: what mount(8) knows, with "
			    "/dev/fuse there and the right to mount",
			    session->mount_point, list, g_strerror(errno));
	fuse_set_log_func(NULL);
	fuse_opt_free_args(&args);
	free(list);
	return session->mounted;
}

/* Once the mount is made: fusermount3, and libfuse's own looks at the system, are done with. */
static bool drop_privileges(GError **error)
{
	int r = privileges_drop();

	return r == 0 || fail(error, "cannot drop the capabilities that are not needed", -r);
}

static bool start_threads(FsSession *session, GError **error)
{
	int r = 0;

	if (session->service)
		r = allocate_service_start(session->service, session->options->n_threads);
	if (r == 0)
		r = inode_pruner_begin(&session->pruner, &session->fs.inodes, session->fuse);
	if (r == 0 && session->live)
		r = live_set_start(session->live);
	if (r == 0 && session->live)
		session->transient_commit = session->fs.transient_commit =
			transient_commit_start(session->live, session->options->rules, &r);
	if (r == 0)
		r = thread_start(&session->signal_thread, "warmfs-signal", signal_thread_run, session);
	session->signal_thread_runs = r == 0;
	return r == 0 || fail(error, "cannot start threads", -r);
}

static bool set_up(FsSession *session, GError **error)
{
	/* The mount before the pool: if the kernel refuses, nothing has been changed. Requests wait until serve. */
	return set_up_fs(session, error) && mount_session(session, error) && drop_privileges(error) &&
	       set_up_pool(session, error) && start_threads(session, error);
}

static void tear_down(FsSession *session)
{
	if (session->pool_dir)
		pool_dir_mark_ending(session->pool_dir);
	if (session->serving) {
		service_notify("STOPPING=1\nSTATUS=ending");
		known_name_stop(&session->known_name);
		readiness_end(&session->readiness);
	}
	if (session->signal_thread_runs) {
		pthread_kill(session->signal_thread, SIGTERM);
		pthread_join(session->signal_thread, NULL);
	} else if (session->service) {
		allocate_service_stop(session->service);
	}
	inode_pruner_end(&session->pruner);
	if (session->mounted) {
		if (session->signal_thread_runs)
			log_counters(session, false);
		if (session->serving)
			log_summary(session);
		fuse_session_unmount(session->fuse);
	}
	g_clear_pointer(&session->fuse, fuse_session_destroy);
	if (session->serving) {
		watchdog_end(&session->watchdog);
		known_name_end(&session->known_name);
	}
	session->service = allocate_service_free(session->service);
	if (session->fs_ready)
		fs_close_all(&session->fs);
	session->transient_commit = transient_commit_stop(session->transient_commit);
	session->live = live_set_free(session->live);
	session->transient = transient_pool_free(session->transient);
	session->class_providers = class_providers_free(session->class_providers);
	session->provider = file_provider_free(session->provider);
	session->locks = segment_locks_free(session->locks);
	session->pace = warm_pace_free(session->pace);
	if (session->pool_dir)
		pool_dir_mark_clean(session->pool_dir);
	session->live_table = live_table_close(session->live_table);
	session->pool_dir = pool_dir_close(session->pool_dir);
	if (session->fs_ready)
		fs_deinit(&session->fs);
	cleanup_fd(&session->source_fd);
	g_clear_pointer(&session->mount_point, free);
	fs_log_deinit(&session->log);
}

static void serve(FsSession *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	fuse_loop_cfg_set_max_threads(config, MAX_LOOP_THREADS);
	fuse_loop_cfg_set_idle_threads(config, MAX_IDLE_LOOP_THREADS);
	fuse_session_loop_mt(session->fuse, config);
	fuse_loop_cfg_destroy(config);
}

static bool go_to_background(FsSession *session, int *ret_notify_fd, GError **error)
{
	*ret_notify_fd = -1;
	if (session->options->foreground)
		return true;
	*ret_notify_fd = daemonize_begin();
	return *ret_notify_fd >= 0 || fail(error, "cannot fork", -*ret_notify_fd);
}

/* From here on the log is where it stays, and threads may write to it. */
static void begin_to_serve(FsSession *session, int notify_fd)
{
	const FsOptions *options = session->options;

	if (!options->foreground)
		fuse_log_enable_syslog("warmfs", LOG_PID, LOG_DAEMON);
	fs_log_settle(&session->log, options->foreground, options->source, session->mount_point);
	log_notice(&session->log, "serving %s at %s", options->source, session->mount_point);
	if (options->verbose) {
		printf("%s is mounted on %s\n", options->source, session->mount_point);
		fflush(stdout);
	}
	if (chdir("/") < 0)
		log_failure(&session->log, WARNING, "chdir", "/", errno, "cannot leave the current directory: %s",
			    g_strerror(errno));
	known_name_begin(&session->known_name, session->mount_point);
	session->fs.known_name = &session->known_name;
	readiness_begin(&session->readiness, options->wait_warm ? session->service : NULL, options->rules,
			&session->known_name, &session->log, notify_fd);
	watchdog_begin(&session->watchdog, session->service, session->mount_point, &session->log);
	session->served_since_ns = monotonic_ns();
	session->serving = true;
}

bool fs_session_run(const FsOptions *options, GError **error)
{
	FsSession session = { .options = options, .source_fd = -1 };
	int notify_fd = -1;
	bool ok;

	fs_log_init(&session.log, options->debug ? LOG_LEVEL_DEBUG : options->log_level);
	set_up_process();
	ok = look(&session, error);
	if (ok && !options->fake) {
		ok = go_to_background(&session, &notify_fd, error) && set_up(&session, error);
		if (ok) {
			begin_to_serve(&session, notify_fd);
			serve(&session);
		}
	}
	tear_down(&session);
	return ok;
}
