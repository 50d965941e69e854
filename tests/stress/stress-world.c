// SPDX-License-Identifier: Apache-2.0
#include "tests/stress/stress-world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc/file-provider.h"
#include "alloc/live-buffer.h"
#include "alloc/live-set.h"
#include "alloc/lock-budget.h"
#include "alloc/recycled-file.h"
#include "alloc/segment-name.h"
#include "alloc/transient-commit.h"
#include "tests/lib/fake-provider.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

typedef struct FakeWorld {
	StressWorld base;
	FakeProvider *provider;
	Mutex lock;
	/* Protected by lock. */
	GRand *rand;
} FakeWorld;

static int random_prepare(void *arg, const SegmentClass *class, const atomic_bool *cancel)
{
	static const int ERRORS[] = { -EIO, -ENOMEM, -ENOSPC, -EDQUOT, -EINVAL, -EROFS };
	FakeWorld *world = arg;

	(void)class;
	mutex_lock(&world->lock);
	int dice = g_rand_int_range(world->rand, 0, 100);
	int delay_us = dice < 50 ? 0 : g_rand_int_range(world->rand, 0, 3000);
	mutex_unlock(&world->lock);
	/* What a preparation takes. */
	if (delay_us > 0)
		g_usleep(delay_us);
	if (atomic_load(cancel))
		return -ECANCELED;
	return dice % 10 == 0 ? ERRORS[dice / 10 % G_N_ELEMENTS(ERRORS)] : 0;
}

static bool fake_use(StressWorld *base, AllocateService *service, Segment *segment, GRand *rand)
{
	static const SegmentTarget target = { .dir_fd = -1, .name = "name" };

	(void)base;
	if (g_rand_int_range(rand, 0, 4) > 0 && allocate_service_publish(service, segment, &target) == 0) {
		allocate_service_retire(service, segment);
		return true;
	}
	allocate_service_give_back(service, segment);
	return false;
}

static void fake_unlink(StressWorld *base, AllocateService *service, GRand *rand)
{
	(void)base;
	(void)service;
	(void)rand;
}

static void fake_write(StressWorld *base, GRand *rand)
{
	(void)base;
	(void)rand;
}

/* Made, taken, given back, released or removed: none lost, none twice. The provider checks. */
static StressWorld *fake_free(StressWorld *base, unsigned n_ready)
{
	FakeWorld *world = (FakeWorld *)base;

	(void)n_ready;
	g_assert_cmpuint(fake_provider_alive(world->provider), ==, 0);
	g_assert_cmpuint(fake_provider_succeeded(world->provider, FAKE_PREPARE, NULL) +
				 fake_provider_succeeded(world->provider, FAKE_PREPARE_COLD, NULL),
			 ==,
			 fake_provider_returned(world->provider, FAKE_DISCARD, NULL) +
				 fake_provider_returned(world->provider, FAKE_RELEASE, NULL));
	fake_provider_free(world->provider);
	g_rand_free(world->rand);
	mutex_deinit(&world->lock);
	g_free(world);
	return NULL;
}

StressWorld *stress_world_new_fake(GRand *rand)
{
	FakeWorld *world = g_new0(FakeWorld, 1);

	mutex_init(&world->lock);
	world->rand = g_rand_new_with_seed(g_rand_int(rand));
	world->provider = fake_provider_new();
	fake_provider_with_pages(world->provider);
	fake_provider_on_prepare(world->provider, random_prepare, world);
	world->base = (StressWorld){
		.provider = fake_provider_base(world->provider),
		.use = fake_use,
		.unlink = fake_unlink,
		.write = fake_write,
		.free = fake_free,
	};
	return &world->base;
}

#define N_NAMES 200

typedef struct FileWorld {
	StressWorld base;
	const ClassRules *rules;
	char *path;
	int source_fd;
	int out_fd;
	PoolDir *dir;
	LiveTable *table;
	LiveSet *live_set;
	LiveBytes live;
	char *transient_path;
	TransientPool *transient;
	TransientCommit *commit;
	uint64_t locked_before_bytes;
	FakeSys sys;
	FileProvider *provider;
	GRand *rand;
	pthread_t breaker;
	atomic_bool stopping;
} FileWorld;

static uint64_t live_bytes(void *arg, const SegmentClass *class)
{
	return live_set_bytes(arg, class);
}

static char *random_name(GRand *rand)
{
	return g_strdup_printf("%d", g_rand_int_range(rand, 0, N_NAMES));
}

static void assign_buffer(FileWorld *world, LiveSegment *live)
{
	TransientBuffer *buffer = live->class->transient ? transient_pool_borrow(world->transient, live->class) : NULL;

	if (buffer && !live->reserved_only)
		live_buffer_assign(live, buffer);
	else if (buffer)
		transient_pool_give_back(world->transient, buffer);
}

static int publish(FileWorld *world, AllocateService *service, Segment *segment, const char *name)
{
	SegmentTarget target = { .dir_fd = world->out_fd, .name = name, .uid = geteuid(),
				 .gid = getegid(), .mode = 0644 };
	LiveSegment *live = NULL;
	struct stat attr;
	int r = 0;

	if (segment_becomes_live(segment))
		r = live_set_add(world->live_set, segment, &live);
	if (live)
		assign_buffer(world, live);
	if (r == 0)
		r = allocate_service_publish(service, segment, &target);
	if (r < 0) {
		if (live)
			live_set_drop(world->live_set, live);
		return r;
	}
	g_assert_cmpint(fstat(segment->fd, &attr), ==, 0);
	if (segment->class->kind == SEGMENT_KIND_MAPPED)
		g_assert_cmpint(attr.st_size, ==, segment->class->size_bytes);
	allocate_service_retire(service, segment);
	if (live)
		live_set_published(world->live_set, live);
	return 0;
}

/* The file gets a second name in the pool, if its class has a use for it. */
static const SegmentClass *keep(FileWorld *world, AllocateService *service, const char *name, const struct stat *attr,
				char kept_name[SEGMENT_NAME_SIZE])
{
	for (size_t i = 0; attr->st_nlink == 1 && i < class_rules_count(world->rules); i++) {
		const SegmentClass *class = class_rules_nth(world->rules, i);

		if (!recycled_file_fits(class, attr) || !allocate_service_claim(service, class))
			continue;
		if (file_provider_keep(world->provider, world->out_fd, name, kept_name) == 0)
			return class;
		allocate_service_recycle(service, class, NULL);
	}
	return NULL;
}

static void take_over(FileWorld *world, AllocateService *service, const SegmentClass *class, const char *kept_name,
		      ino_t ino)
{
	Segment *segment = NULL;

	if (file_provider_take_over(world->provider, class, kept_name, ino, &segment) < 0)
		file_provider_drop(world->provider, kept_name);
	allocate_service_recycle(service, class, segment);
}

static void unlink_name(FileWorld *world, AllocateService *service, const char *name)
{
	const SegmentClass *class;
	char kept_name[SEGMENT_NAME_SIZE];
	struct stat attr;

	if (fstatat(world->out_fd, name, &attr, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	class = keep(world, service, name, &attr, kept_name);
	if (unlinkat(world->out_fd, name, 0) == 0) {
		live_set_unlinked(world->live_set, attr.st_dev, attr.st_ino, false);
		segment_locks_let_go(world->base.locks, attr.st_dev, attr.st_ino);
	}
	if (class)
		take_over(world, service, class, kept_name, attr.st_ino);
}

static bool file_use(StressWorld *base, AllocateService *service, Segment *segment, GRand *rand)
{
	g_autofree char *name = random_name(rand);
	int r;

	/* Else there would soon be no name left to give. */
	if (g_rand_boolean(rand))
		unlink_name((FileWorld *)base, service, name);
	r = publish((FileWorld *)base, service, segment, name);
	if (r < 0)
		allocate_service_give_back(service, segment);
	return r == 0;
}

static void file_unlink(StressWorld *base, AllocateService *service, GRand *rand)
{
	g_autofree char *name = random_name(rand);

	unlink_name((FileWorld *)base, service, name);
}

static void write_live(LiveSegment *live, GRand *rand)
{
	char data[5000];
	size_t size = g_rand_int_range(rand, 1, sizeof(data) + 1);
	off_t offset = g_rand_boolean(rand) ? 0 : g_rand_int_range(rand, 0, MIN(live->capacity_bytes, INT_MAX));

	memset(data, 'x', sizeof(data));
	g_assert_cmpint(live_segment_write(live, data, size, offset, false), ==, size);
	if (g_rand_int_range(rand, 0, 8) == 0)
		g_assert_cmpint(live_segment_sync(live, live->fd, true), ==, 0);
}

static void file_write(StressWorld *base, GRand *rand)
{
	FileWorld *world = (FileWorld *)base;
	g_autofree char *name = random_name(rand);
	LiveSegment *live;
	struct stat attr;

	if (fstatat(world->out_fd, name, &attr, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	live = live_set_open(world->live_set, attr.st_dev, attr.st_ino);
	if (!live)
		return;
	if (!live->reserved_only)
		write_live(live, rand);
	live_set_close(world->live_set, live);
}

/* One call after the other fails. Only removing goes well: else files would rightly be left. */
static void *break_calls(void *arg)
{
	static const FakeSysCall CALLS[] = {
		FAKE_SYS_OPENAT, FAKE_SYS_RENAMEAT2, FAKE_SYS_LINKAT,  FAKE_SYS_FALLOCATE,
		FAKE_SYS_FTRUNCATE, FAKE_SYS_PWRITE, FAKE_SYS_FSYNC,   FAKE_SYS_FSTATVFS,
		FAKE_SYS_FCHMOD, FAKE_SYS_FUTIMENS,  FAKE_SYS_MMAP,    FAKE_SYS_MADVISE,
		FAKE_SYS_MLOCK,	 FAKE_SYS_SET_LEASE, FAKE_SYS_SYNC_FILE_RANGE,
	};
	static const int ERRORS[] = { -EIO, -ENOMEM, -ENOSPC, -EDQUOT, -EROFS, -EMFILE };
	FileWorld *world = arg;

	while (!atomic_load(&world->stopping)) {
		fake_sys_reset(&world->sys);
		fake_sys_fail(&world->sys, CALLS[g_rand_int_range(world->rand, 0, G_N_ELEMENTS(CALLS))],
			      g_rand_int_range(world->rand, 1, 10), 1,
			      ERRORS[g_rand_int_range(world->rand, 0, G_N_ELEMENTS(ERRORS))]);
		g_usleep(2000);
	}
	return NULL;
}

/* In the pool are the ready ones, and nothing else: nothing half-made, nothing live. */
static void check_pool(const FileWorld *world, unsigned n_ready)
{
	GDir *names;
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", world->dir->segments_fd);
	SegmentNameParts parts;
	const char *name;
	unsigned n = 0;

	names = g_dir_open(path, 0, NULL);
	g_assert_nonnull(names);
	for (; (name = g_dir_read_name(names)); n++)
		g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_READY);
	g_dir_close(names);
	g_assert_cmpuint(n, ==, n_ready);
}

/* All are lent no more, and hold nothing; and their memory is gone. */
static void free_buffers(FileWorld *world)
{
	g_autofree char *dir = g_strdup_printf("%s/warmfs-%u", world->transient_path, (unsigned)geteuid());

	for (size_t i = 0; i < class_rules_count(world->rules); i++) {
		TransientCounts counts = transient_pool_count(world->transient, class_rules_nth(world->rules, i));

		g_assert_cmpuint(counts.n_free, ==, counts.n_buffers);
		g_assert_cmpuint(counts.uncommitted_bytes, ==, 0);
	}
	world->transient = transient_pool_free(world->transient);
	g_assert_cmpint(rmdir(dir), ==, 0);
	g_assert_cmpint(rmdir(world->transient_path), ==, 0);
	g_free(world->transient_path);
}

/* Those of ready segments went with the service. */
static void free_locks(FileWorld *world)
{
	world->base.locks = segment_locks_free(world->base.locks);
	g_assert_cmpuint(test_locked_bytes(), ==, world->locked_before_bytes);
}

static StressWorld *file_free(StressWorld *base, unsigned n_ready)
{
	FileWorld *world = (FileWorld *)base;

	atomic_store(&world->stopping, true);
	pthread_join(world->breaker, NULL);
	transient_commit_stop(world->commit);
	live_set_free(world->live_set);
	free_buffers(world);
	check_pool(world, n_ready);
	file_provider_free(world->provider);
	free_locks(world);
	warm_pace_free(world->base.pace);
	live_table_close(world->table);
	pool_dir_close(world->dir);
	fake_sys_deinit(&world->sys);
	close(world->out_fd);
	close(world->source_fd);
	test_dir_remove(world->path);
	g_rand_free(world->rand);
	g_free(world);
	return NULL;
}

static void make_buffers(FileWorld *world, const Log *log)
{
	TransientPlace place = { &sys_kernel, NULL, 1, 1, log };

	world->transient_path = g_strdup("/dev/shm/warmfs-test-XXXXXX");
	g_assert_nonnull(mkdtemp(world->transient_path));
	place.dir = world->transient_path;
	world->transient = transient_pool_new(&place, world->rules, &clock_monotonic, LOCK_BUDGET_MAX, NULL);
	g_assert_nonnull(world->transient);
}

static void make_live_set(FileWorld *world, const Log *log)
{
	LivePlace place = { .sys = &sys_kernel, .table = world->table, .pool_fd = world->dir->segments_fd, .log = log,
			    .transient = world->transient, .locks = world->base.locks };
	int r;

	world->live_set = live_set_new(&place);
	g_assert_cmpint(live_set_start(world->live_set), ==, 0);
	world->commit = transient_commit_start(world->live_set, world->rules, &r);
	g_assert_nonnull(world->commit);
}

static void open_files(FileWorld *world, const ClassRules *rules, const Log *log)
{
	static const WarmPaceConfig pace = { .rate_bytes = 64 << 20, .yields = true };
	FileProviderConfig config = { .reserve_percent = 0 };

	world->rules = rules;
	world->locked_before_bytes = test_locked_bytes();
	world->path = TEST_DIR_NEW();
	world->source_fd = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(mkdirat(world->source_fd, "out", 0700), ==, 0);
	world->out_fd = openat(world->source_fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->dir = pool_dir_open(world->source_fd, world->path, log, NULL);
	g_assert_nonnull(world->dir);
	g_assert_true(pool_dir_take_stock(world->dir, rules, NULL));
	world->table = live_table_open(world->dir->fd, log, NULL);
	g_assert_nonnull(world->table);
	fake_sys_init(&world->sys, true);
	world->base.pace = config.pace = warm_pace_new(&pace, &world->sys.base, &clock_monotonic);
	world->base.locks = config.locks =
		segment_locks_new(rules, &world->sys.base, STRESS_LOCK_BUDGET_BYTES, log);
	make_buffers(world, log);
	make_live_set(world, log);
	world->provider = file_provider_new(world->dir, &world->sys.base, &config, log);
}

StressWorld *stress_world_new_files(const ClassRules *rules, const Log *log, GRand *rand)
{
	FileWorld *world = g_new0(FileWorld, 1);

	world->rand = g_rand_new_with_seed(g_rand_int(rand));
	open_files(world, rules, log);
	world->live = (LiveBytes){ .of_class = live_bytes, .arg = world->live_set };
	world->base.provider = file_provider_base(world->provider);
	world->base.live = &world->live;
	world->base.use = file_use;
	world->base.unlink = file_unlink;
	world->base.write = file_write;
	world->base.free = file_free;
	g_assert_cmpint(thread_start(&world->breaker, "breaker", break_calls, world), ==, 0);
	return &world->base;
}
