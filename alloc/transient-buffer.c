// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-buffer.h"

#include <string.h>

/* The order matters to who reads the slot after the daemon was killed at any point. */
static void store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

void transient_buffer_assign(TransientBuffer *buffer, const char *name, ino_t ino)
{
	TransientOwner owner = {
		.offset_bytes = buffer->offset_bytes,
		.capacity_bytes = buffer->capacity_bytes,
		.ino = ino,
	};

	transient_buffer_disown(buffer);
	g_strlcpy(owner.name, name, sizeof(owner.name));
	transient_owner_seal(&owner);
	buffer->slot->owner = owner;
}

static void count(TransientBuffer *buffer, uint64_t before)
{
	atomic_fetch_add_explicit(buffer->n_uncommitted, transient_buffer_uncommitted(buffer) - before,
				  memory_order_relaxed);
}

void transient_buffer_hide(TransientBuffer *buffer)
{
	memset(&buffer->slot->owner, 0, sizeof(buffer->slot->owner));
	atomic_signal_fence(memory_order_seq_cst);
}

void transient_buffer_disown(TransientBuffer *buffer)
{
	uint64_t before = transient_buffer_uncommitted(buffer);

	transient_buffer_hide(buffer);
	buffer->start = buffer->end = 0;
	store(&buffer->slot->end, 0);
	store(&buffer->slot->start, 0);
	count(buffer, before);
}

/* An empty range somewhere else: never is the end behind the start meanwhile. */
static void move(TransientBuffer *buffer, uint64_t offset)
{
	if (offset > buffer->start) {
		store(&buffer->slot->start, offset);
		store(&buffer->slot->end, offset);
	} else {
		store(&buffer->slot->end, offset);
		store(&buffer->slot->start, offset);
	}
	buffer->start = buffer->end = offset;
}

void transient_buffer_write(TransientBuffer *buffer, const void *data, size_t size, uint64_t offset)
{
	uint64_t before = transient_buffer_uncommitted(buffer);

	if (before == 0)
		move(buffer, offset);
	memcpy(buffer->bytes + offset, data, size);
	if (offset + size <= buffer->end)
		return;
	buffer->end = offset + size;
	store(&buffer->slot->end, buffer->end);
	count(buffer, before);
}

void transient_buffer_overlay(const TransientBuffer *buffer, void *data, size_t size, uint64_t offset)
{
	uint64_t from = MAX(offset, buffer->start), to = MIN(offset + size, buffer->end);

	if (from < to)
		memcpy((char *)data + (from - offset), buffer->bytes + from, to - from);
}

void transient_buffer_committed(TransientBuffer *buffer, uint64_t end)
{
	uint64_t before = transient_buffer_uncommitted(buffer);

	buffer->start = end;
	store(&buffer->slot->start, end);
	count(buffer, before);
}
