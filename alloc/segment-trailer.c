// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-trailer.h"

#include <errno.h>
#include <stddef.h>

#include <glib.h>

#include "alloc/data-sum.h"
#include "alloc/mix.h"
#include "alloc/segment.h"

#define SECTOR_BYTES  512
#define TRAILER_MAGIC UINT64_C(0x3172656c69617274)

typedef struct TrailerHead {
	uint64_t magic;
	uint64_t capacity_bytes;
	char name[SEGMENT_NAME_SIZE];
	uint64_t check;
} TrailerHead;

typedef struct TrailerSlot {
	uint64_t sequence;
	uint64_t length;
	uint64_t check;
	uint64_t sum_start;
	uint64_t sum;
} TrailerSlot;

G_STATIC_ASSERT(sizeof(TrailerHead) <= SECTOR_BYTES);
G_STATIC_ASSERT(SECTOR_BYTES *(1 + SEGMENT_TRAILER_SLOTS) <= SEGMENT_TRAILER_BYTES);

static void head_init(TrailerHead *head, uint64_t capacity_bytes, const char *name)
{
	*head = (TrailerHead){ .magic = TRAILER_MAGIC, .capacity_bytes = capacity_bytes };
	g_strlcpy(head->name, name, sizeof(head->name));
	head->check = mix_bytes(head, offsetof(TrailerHead, check));
}

static uint64_t check_of_record(const TrailerHead *head, const LengthRecord *record)
{
	uint64_t check = mix(mix(head->check, record->sequence), record->length);

	if (length_record_has_sum(record))
		check = mix(mix(check, record->sum_start), record->sum);
	return check;
}

static size_t offset_of_slot(uint64_t sequence)
{
	return SECTOR_BYTES * (1 + sequence % SEGMENT_TRAILER_SLOTS);
}

static int write_at(const Sys *sys, int fd, const void *data, size_t size, uint64_t offset)
{
	ssize_t n;

	do
		n = sys->pwrite(sys, fd, data, size, offset);
	while (n == -EINTR);
	if (n < 0)
		return n;
	return (size_t)n == size ? 0 : -EIO;
}

int segment_trailer_make(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name)
{
	char page[SEGMENT_TRAILER_BYTES] = "";
	TrailerHead head;

	head_init(&head, capacity_bytes, name);
	memcpy(page, &head, sizeof(head));
	return write_at(sys, fd, page, sizeof(page), segment_trailer_offset(capacity_bytes));
}

int segment_trailer_record(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			   const LengthRecord *record)
{
	TrailerSlot slot = { record->sequence, record->length, 0, record->sum_start, record->sum };
	TrailerHead head;

	head_init(&head, capacity_bytes, name);
	slot.check = check_of_record(&head, record);
	return write_at(sys, fd, &slot, sizeof(slot),
			segment_trailer_offset(capacity_bytes) + offset_of_slot(record->sequence));
}

/* False if nothing was ever written there, or it was torn. */
static bool parse_slot(const TrailerHead *head, const char *page, size_t nth,
		       LengthRecord *ret_record)
{
	TrailerSlot slot;

	memcpy(&slot, page + offset_of_slot(nth), sizeof(slot));
	*ret_record = (LengthRecord){ slot.sequence, slot.length, slot.length, 0 };
	if (slot.sequence > 0 && slot.check == check_of_record(head, ret_record))
		return true;
	ret_record->sum_start = slot.sum_start;
	ret_record->sum = slot.sum;
	return slot.sequence > 0 && length_record_has_sum(ret_record) &&
	       slot.check == check_of_record(head, ret_record);
}

/* Newest first. */
static size_t parse_slots(const TrailerHead *head, const char *page,
			  LengthRecord records[SEGMENT_TRAILER_SLOTS])
{
	size_t n = 0;

	for (size_t nth = 0; nth < SEGMENT_TRAILER_SLOTS; nth++) {
		LengthRecord record;
		size_t i = n;

		if (!parse_slot(head, page, nth, &record))
			continue;
		for (; i > 0 && records[i - 1].sequence < record.sequence; i--)
			records[i] = records[i - 1];
		records[i] = record;
		n++;
	}
	return n;
}

/* 1 or 0. */
static int holds(const Sys *sys, int fd, uint64_t capacity_bytes, const LengthRecord *record)
{
	uint64_t sum;
	int r;

	if (!length_record_has_sum(record))
		return 1;
	if (record->length > capacity_bytes ||
	    record->length - record->sum_start > SEGMENT_TRAILER_SUM_MAX)
		return 0;
	r = data_sum_of_file(sys, fd, record->sum_start, record->length, &sum);
	return r < 0 ? r : sum == record->sum;
}

int segment_trailer_read(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			 uint64_t *ret_length)
{
	/* One byte more than there should be. */
	char page[SEGMENT_TRAILER_BYTES + 1];
	LengthRecord records[SEGMENT_TRAILER_SLOTS];
	TrailerHead head;
	size_t n_records;
	ssize_t n;
	int r = 0;

	head_init(&head, capacity_bytes, name);
	n = sys->pread(sys, fd, page, sizeof(page), segment_trailer_offset(capacity_bytes));
	if (n < 0)
		return n;
	if (n != SEGMENT_TRAILER_BYTES || memcmp(page, &head, sizeof(head)) != 0)
		return -ENOENT;
	n_records = parse_slots(&head, page, records);
	*ret_length = 0;
	for (size_t i = 0; i < n_records && r == 0; i++) {
		r = holds(sys, fd, capacity_bytes, &records[i]);
		if (r > 0)
			*ret_length = MIN(records[i].length, capacity_bytes);
	}
	return MIN(r, 0);
}
