/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records reached by index. A record never moves, so a thread that rightly holds an index reads its record
 * without a lock; only allocating and freeing lock. Index 0 is never given out.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/sync.h"

#define SLOT_CHUNK_RECORDS 512
#define SLOT_MAX_CHUNKS	   16384

typedef struct SlotTable {
	size_t record_bytes;
	/* Set once each, under the lock; read without. */
	_Atomic(char *) chunks[SLOT_MAX_CHUNKS];
	Mutex lock;
	/* Protected by lock. */
	uint64_t n_records;
	GArray *free_indices;
} SlotTable;

void slot_table_init(SlotTable *table, size_t record_bytes);
/* Frees the records' memory; what they own is the caller's affair. */
void slot_table_deinit(SlotTable *table);

/* The index of a record, zeroed if it is new and as it was freed if not; 0 if the table is full. */
uint64_t slot_table_allocate(SlotTable *table);
void slot_table_free(SlotTable *table, uint64_t index);

/* Behind the highest index that was ever given out. */
uint64_t slot_table_end(SlotTable *table);

static inline void *slot_table_get(SlotTable *table, uint64_t index)
{
	/* Acquire: pairs with the release in slot_table_allocate, so that the chunk is seen zeroed. */
	char *chunk = atomic_load_explicit(&table->chunks[index / SLOT_CHUNK_RECORDS],
					   memory_order_acquire);

	return chunk + index % SLOT_CHUNK_RECORDS * table->record_bytes;
}
