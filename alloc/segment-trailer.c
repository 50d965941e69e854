// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-trailer.h"

#include <errno.h>
#include <stddef.h>

#include <glib.h>

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
} TrailerSlot;

G_STATIC_ASSERT(sizeof(TrailerHead) <= SECTOR_BYTES);

static void head_init(TrailerHead *head, uint64_t capacity_bytes, const char *name)
{
	*head = (TrailerHead){ .magic = TRAILER_MAGIC, .capacity_bytes = capacity_bytes };
	g_strlcpy(head->name, name, sizeof(head->name));
	head->check = mix_bytes(head, offsetof(TrailerHead, check));
}

static uint64_t check_of_slot(const TrailerHead *head, const TrailerSlot *slot)
{
	return mix(mix(head->check, slot->sequence), slot->length);
}

static size_t offset_of_slot(uint64_t nth)
{
	return SECTOR_BYTES * (1 + nth % 2);
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
			   uint64_t sequence, uint64_t length)
{
	TrailerSlot slot = { .sequence = sequence, .length = length };
	TrailerHead head;

	head_init(&head, capacity_bytes, name);
	slot.check = check_of_slot(&head, &slot);
	return write_at(sys, fd, &slot, sizeof(slot),
			segment_trailer_offset(capacity_bytes) + offset_of_slot(sequence));
}

/* The one written last among those that check; 0 if none was. */
static uint64_t newest_length(const TrailerHead *head, const char *page)
{
	uint64_t newest = 0, length = 0;

	for (size_t i = 0; i < 2; i++) {
		TrailerSlot slot;

		memcpy(&slot, page + offset_of_slot(i), sizeof(slot));
		if (slot.sequence <= newest || slot.check != check_of_slot(head, &slot))
			continue;
		newest = slot.sequence;
		length = slot.length;
	}
	return length;
}

int segment_trailer_read(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			 uint64_t *ret_length)
{
	/* One byte more than there should be. */
	char page[SEGMENT_TRAILER_BYTES + 1];
	TrailerHead head;
	ssize_t n;

	head_init(&head, capacity_bytes, name);
	n = sys->pread(sys, fd, page, sizeof(page), segment_trailer_offset(capacity_bytes));
	if (n < 0)
		return n;
	if (n != SEGMENT_TRAILER_BYTES || memcmp(page, &head, sizeof(head)) != 0)
		return -ENOENT;
	*ret_length = MIN(newest_length(&head, page), capacity_bytes);
	return 0;
}
