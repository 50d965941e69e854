// SPDX-License-Identifier: Apache-2.0
#include "tests/stress/stress-world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "alloc/file-provider.h"
#include "alloc/live-set.h"
#include "alloc/segment-name.h"
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

static void fake_unlink(StressWorld *base, GRand *rand)
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
		.free = fake_free,
	};
	return &world->base;
}

#define N_NAMES 200

typedef struct FileWorld {
	StressWorld base;
	char *path;
	int source_fd;
	int out_fd;
	PoolDir *dir;
	LiveTable *table;
	LiveSet *live_set;
	LiveBytes live;
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

static int publish(FileWorld *world, AllocateService *service, Segment *segment, const char *name)
{
	SegmentTarget target = { .dir_fd = world->out_fd, .name = name, .uid = geteuid(),
				 .gid = getegid(), .mode = 0644 };
	LiveSegment *live = NULL;
	struct stat attr;
	int r = 0;

	if (segment_becomes_live(segment))
		r = live_set_add(world->live_set, segment, &live);
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

static void unlink_name(FileWorld *world, const char *name)
{
	struct stat attr;

	if (fstatat(world->out_fd, name, &attr, AT_SYMLINK_NOFOLLOW) == 0 &&
	    unlinkat(world->out_fd, name, 0) == 0)
		live_set_unlinked(world->live_set, attr.st_dev, attr.st_ino);
}

static bool file_use(StressWorld *base, AllocateService *service, Segment *segment, GRand *rand)
{
	g_autofree char *name = random_name(rand);
	int r;

	/* Else there would soon be no name left to give. */
	if (g_rand_boolean(rand))
		unlink_name((FileWorld *)base, name);
	r = publish((FileWorld *)base, service, segment, name);
	if (r < 0)
		allocate_service_give_back(service, segment);
	return r == 0;
}

static void file_unlink(StressWorld *base, GRand *rand)
{
	g_autofree char *name = random_name(rand);

	unlink_name((FileWorld *)base, name);
}

/* One call after the other fails. Only removing goes well: else files would rightly be left. */
static void *break_calls(void *arg)
{
	static const FakeSysCall CALLS[] = {
		FAKE_SYS_OPENAT, FAKE_SYS_RENAMEAT2, FAKE_SYS_LINKAT,  FAKE_SYS_FALLOCATE,
		FAKE_SYS_FTRUNCATE, FAKE_SYS_PWRITE, FAKE_SYS_FSYNC,   FAKE_SYS_FSTATVFS,
		FAKE_SYS_FCHMOD, FAKE_SYS_FUTIMENS,  FAKE_SYS_MMAP,    FAKE_SYS_MADVISE,
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

static StressWorld *file_free(StressWorld *base, unsigned n_ready)
{
	FileWorld *world = (FileWorld *)base;

	atomic_store(&world->stopping, true);
	pthread_join(world->breaker, NULL);
	live_set_free(world->live_set);
	check_pool(world, n_ready);
	file_provider_free(world->provider);
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

static void open_files(FileWorld *world, const ClassRules *rules, const Log *log)
{
	static const FileProviderConfig config = { .reserve_percent = 0 };

	world->path = TEST_DIR_NEW();
	world->source_fd = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(mkdirat(world->source_fd, "out", 0700), ==, 0);
	world->out_fd = openat(world->source_fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->dir = pool_dir_open(world->source_fd, world->path, log, NULL);
	g_assert_nonnull(world->dir);
	g_assert_true(pool_dir_take_stock(world->dir, rules, NULL));
	world->table = live_table_open(world->dir->fd, log, NULL);
	g_assert_nonnull(world->table);
	world->live_set = live_set_new(&(LivePlace){ &sys_kernel, world->table, world->dir->segments_fd, log });
	g_assert_cmpint(live_set_start(world->live_set), ==, 0);
	fake_sys_init(&world->sys, true);
	world->provider = file_provider_new(world->dir, &world->sys.base, &config, log);
}

StressWorld *stress_world_new_files(const ClassRules *rules, const Log *log, GRand *rand)
{
	FileWorld *world = g_new0(FileWorld, 1);

	world->rand = g_rand_new_with_seed(g_rand_int(rand));
	open_files(world, rules, log);
	world->live = (LiveBytes){ .of_class = live_bytes, .arg = world->live_set };
	world->base = (StressWorld){
		.provider = file_provider_base(world->provider),
		.live = &world->live,
		.use = file_use,
		.unlink = file_unlink,
		.free = file_free,
	};
	g_assert_cmpint(thread_start(&world->breaker, "breaker", break_calls, world), ==, 0);
	return &world->base;
}
