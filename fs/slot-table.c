// SPDX-License-Identifier: Apache-2.0
#include "fs/slot-table.h"

void slot_table_init(SlotTable *table, size_t record_bytes)
{
	table->record_bytes = record_bytes;
	for (size_t i = 0; i < SLOT_MAX_CHUNKS; i++)
		atomic_init(&table->chunks[i], NULL);
	mutex_init(&table->lock);
	table->n_records = 1;
	table->free_indices = g_array_new(FALSE, FALSE, sizeof(uint64_t));
}

void slot_table_deinit(SlotTable *table)
{
	for (size_t i = 0; i < SLOT_MAX_CHUNKS; i++)
		g_free(atomic_load_explicit(&table->chunks[i], memory_order_relaxed));
	g_clear_pointer(&table->free_indices, g_array_unref);
	mutex_deinit(&table->lock);
}

uint64_t slot_table_allocate(SlotTable *table)
{
	MUTEX_SCOPE(&table->lock);
	GArray *free_indices = table->free_indices;

	if (free_indices->len > 0) {
		uint64_t index = g_array_index(free_indices, uint64_t, free_indices->len - 1);

		g_array_set_size(free_indices, free_indices->len - 1);
		return index;
	}
	size_t chunk = table->n_records / SLOT_CHUNK_RECORDS;
	if (chunk >= SLOT_MAX_CHUNKS)
		return 0;
	if (!atomic_load_explicit(&table->chunks[chunk], memory_order_relaxed))
		atomic_store_explicit(&table->chunks[chunk],
				      g_malloc0(table->record_bytes * SLOT_CHUNK_RECORDS),
				      memory_order_release);
	return table->n_records++;
}

void slot_table_free(SlotTable *table, uint64_t index)
{
	MUTEX_SCOPE(&table->lock);
	g_array_append_val(table->free_indices, index);
}

uint64_t slot_table_end(SlotTable *table)
{
	MUTEX_SCOPE(&table->lock);
	return table->n_records;
}
