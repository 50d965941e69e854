// SPDX-License-Identifier: Apache-2.0
/*
 * What a killed daemon left in memory, with hostile bytes: a byte of Flags, the header unless that is sealed, then slots.
 * Recovery may write into the one live segment, within its capacity, and nowhere else.
 */
#include "alloc/transient-image.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "alloc/mix.h"
#include "alloc/segment-trailer.h"
#include "alloc/transient-recovery.h"
#include "tests/fuzz/targets/fuzz-target.h"

#define CAPACITY_BYTES UINT64_C(65536)
#define NAME	       "ready-append-65536-65536-0000000000000001"
/* Ready, but not taken: its name in the pool is its only one. */
#define OTHER_NAME     "ready-append-65536-65536-0000000000000002"
#define HEADER_MAGIC   UINT64_C(0x31746e736e617274)
#define IMAGE_BYTES    (UINT64_C(256) * 1024)

enum Flags {
	SEAL_HEADER = 1,
	SEAL_OWNERS = 2,
	/* They have the live segment's name and number. */
	OF_LIVE = 4,
};

/* As far as it is used. */
typedef struct Slot {
	TransientOwner owner;
	uint64_t start;
	uint64_t end;
} Slot;

typedef struct World {
	char *path;
	int source_fd;
	PoolDir *dir;
	int live_fd;
	int other_fd;
	ino_t live_ino;
	TransientPlace place;
} World;

static int make_segment(const World *world, const char *name)
{
	int fd = openat(world->dir->segments_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	g_assert_cmpint(segment_trailer_make(&sys_kernel, fd, CAPACITY_BYTES, name), ==, 0);
	return fd;
}

static void world_init(World *world)
{
	struct stat attr;

	*world = (World){ .path = fuzz_dir_new() };
	world->source_fd = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->dir = pool_dir_open(world->source_fd, world->path, &fuzz_log, NULL);
	g_assert_nonnull(world->dir);
	world->live_fd = make_segment(world, NAME);
	world->other_fd = make_segment(world, OTHER_NAME);
	g_assert_cmpint(linkat(world->dir->segments_fd, NAME, world->source_fd, "visible", 0), ==, 0);
	g_assert_cmpint(fstat(world->live_fd, &attr), ==, 0);
	world->live_ino = attr.st_ino;
	transient_place_init(&world->place, &sys_kernel, world->source_fd, &fuzz_log);
	world->place.dir = world->path;
}

static void world_deinit(World *world)
{
	pool_dir_close(world->dir);
	close(world->live_fd);
	close(world->other_fd);
	close(world->source_fd);
	fuzz_dir_remove(world->path);
}

static void put_header(const World *world, int fd, unsigned flags, FuzzInput *input)
{
	TransientHeader header = {
		.magic = HEADER_MAGIC,
		.n_slots = input->size / sizeof(Slot) + 1,
		.source_dev = world->place.source_dev,
		.source_ino = world->place.source_ino,
	};

	header.check = mix_bytes(&header, offsetof(TransientHeader, check));
	if (!(flags & SEAL_HEADER))
		fuzz_take(input, &header, sizeof(header));
	g_assert_cmpint(pwrite(fd, &header, sizeof(header), 0), ==, sizeof(header));
}

static void put_slots(const World *world, int fd, unsigned flags, FuzzInput *input)
{
	Slot slot;

	for (int i = 0; fuzz_take(input, &slot, sizeof(slot)); i++) {
		off_t at = TRANSIENT_HEADER_BYTES + (off_t)i * TRANSIENT_SLOT_BYTES;

		if (flags & OF_LIVE) {
			slot.owner.ino = world->live_ino;
			memset(slot.owner.name, 0, sizeof(slot.owner.name));
			memcpy(slot.owner.name, NAME, sizeof(NAME));
		}
		if (flags & SEAL_OWNERS)
			transient_owner_seal(&slot.owner);
		g_assert_cmpint(pwrite(fd, &slot, sizeof(slot), at), ==, sizeof(slot));
	}
}

static void put_image(const World *world, FuzzInput *input)
{
	g_autofree char *dir = g_strdup_printf("%s/warmfs-%u", world->path, (unsigned)geteuid());
	g_autofree char *prefix = transient_name_prefix(&world->place);
	g_autofree char *path = g_strdup_printf("%s/%s0", dir, prefix);
	unsigned flags = fuzz_take_byte(input);
	int fd;

	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(ftruncate(fd, IMAGE_BYTES), ==, 0);
	put_header(world, fd, flags, input);
	put_slots(world, fd, flags, input);
	close(fd);
}

/* Nothing of the file is written but data. */
static void check_segment(int fd, const char *name, bool may_have_data)
{
	uint64_t length;
	g_autofree char *zeroes = g_malloc0(CAPACITY_BYTES);
	g_autofree char *bytes = g_malloc(CAPACITY_BYTES);
	struct stat attr;

	g_assert_cmpint(fstat(fd, &attr), ==, 0);
	g_assert_cmpint(attr.st_size, ==, segment_trailer_end(CAPACITY_BYTES));
	g_assert_cmpint(segment_trailer_read(&sys_kernel, fd, CAPACITY_BYTES, name, &length), ==, 0);
	g_assert_cmpuint(length, ==, 0);
	if (may_have_data)
		return;
	g_assert_cmpint(pread(fd, bytes, CAPACITY_BYTES, 0), ==, CAPACITY_BYTES);
	g_assert_cmpmem(bytes, CAPACITY_BYTES, zeroes, CAPACITY_BYTES);
}

static void recover(World *world, bool dry_run)
{
	TransientResult result;
	int r = transient_recovery_run(&world->place, world->dir, dry_run, &result);

	g_assert_true(r < 0 ? result.n_failed > 0 : result.n_failed == 0);
	check_segment(world->live_fd, NAME, !dry_run && result.n_written > 0);
	check_segment(world->other_fd, OTHER_NAME, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput input = { data, size };
	World world;

	world_init(&world);
	put_image(&world, &input);
	recover(&world, true);
	recover(&world, false);
	world_deinit(&world);
	return 0;
}
