// SPDX-License-Identifier: Apache-2.0
/*
 * The end of a segment's file: a byte of Flags, then either the bytes that are there, or slots with which a trailer is
 * made. Whatever it says, the length is within the capacity, and what is written then is what is read.
 */
#include "alloc/segment-trailer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/data-sum.h"
#include "alloc/mix.h"
#include "tests/fuzz/targets/fuzz-target.h"

#define CAPACITY_BYTES 100000
#define NAME	       "ready-append-100000-65536-0123456789abcdef"
/* The file's format. */
#define SECTOR_BYTES 512
#define CHECK_OFFSET 112

enum Flags {
	RAW = 1,
	SEAL_SUMS = 2,
	SEAL_SLOTS = 4,
};

typedef struct Slot {
	uint64_t sequence;
	uint64_t length;
	uint64_t check;
	uint64_t sum_start;
	uint64_t sum;
} Slot;

static void seal(int fd, uint64_t head_check, Slot *slot, unsigned flags)
{
	bool has_sum = slot->sum_start < slot->length;

	if (flags & SEAL_SUMS && has_sum && slot->length <= CAPACITY_BYTES)
		g_assert_cmpint(data_sum_of_file(&sys_kernel, fd, slot->sum_start, slot->length, &slot->sum), ==, 0);
	if (!(flags & SEAL_SLOTS))
		return;
	slot->check = mix(mix(head_check, slot->sequence), slot->length);
	if (has_sum)
		slot->check = mix(mix(slot->check, slot->sum_start), slot->sum);
}

static void put_slots(int fd, FuzzInput *input, unsigned flags)
{
	off_t at = segment_trailer_offset(CAPACITY_BYTES);
	uint64_t head_check;
	Slot slot;

	g_assert_cmpint(segment_trailer_make(&sys_kernel, fd, CAPACITY_BYTES, NAME), ==, 0);
	g_assert_cmpint(pread(fd, &head_check, sizeof(head_check), at + CHECK_OFFSET), ==, sizeof(head_check));
	for (int i = 1; i <= SEGMENT_TRAILER_SLOTS && fuzz_take(input, &slot, sizeof(slot)); i++) {
		seal(fd, head_check, &slot, flags);
		g_assert_cmpint(pwrite(fd, &slot, sizeof(slot), at + i * SECTOR_BYTES), ==, sizeof(slot));
	}
}

static void put_trailer(int fd, FuzzInput *input)
{
	unsigned flags = fuzz_take_byte(input);

	g_assert_cmpint(pwrite(fd, "data", 4, 0), ==, 4);
	if (flags & RAW)
		g_assert_cmpint(pwrite(fd, input->data, input->size, segment_trailer_offset(CAPACITY_BYTES)), ==,
				input->size);
	else
		put_slots(fd, input, flags);
}

static void check_record(int fd, uint64_t sequence)
{
	LengthRecord record = { .sequence = sequence, .length = 4, .sum_start = 4 };
	uint64_t length;

	g_assert_cmpint(ftruncate(fd, segment_trailer_end(CAPACITY_BYTES)), ==, 0);
	g_assert_cmpint(segment_trailer_make(&sys_kernel, fd, CAPACITY_BYTES, NAME), ==, 0);
	g_assert_cmpint(segment_trailer_record(&sys_kernel, fd, CAPACITY_BYTES, NAME, &record), ==, 0);
	g_assert_cmpint(segment_trailer_read(&sys_kernel, fd, CAPACITY_BYTES, NAME, &length), ==, 0);
	g_assert_cmpuint(length, ==, sequence ? 4 : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput input = { data, size };
	int fd = memfd_create("segment", MFD_CLOEXEC);
	uint64_t length = UINT64_MAX;
	int r;

	put_trailer(fd, &input);
	r = segment_trailer_read(&sys_kernel, fd, CAPACITY_BYTES, NAME, &length);
	g_assert_true(r == 0 || r == -ENOENT);
	if (r == 0)
		g_assert_cmpuint(length, <=, CAPACITY_BYTES);
	check_record(fd, size);
	close(fd);
	return 0;
}
