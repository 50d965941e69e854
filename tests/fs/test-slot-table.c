// SPDX-License-Identifier: Apache-2.0
#include "fs/slot-table.h"

#include <string.h>

#include "tests/lib/test-util.h"

typedef struct Record {
	uint64_t index;
	char text[24];
} Record;

/* 128 KiB: not for the stack of a test under a sanitizer. */
static SlotTable *table_new(size_t record_bytes)
{
	SlotTable *table = g_new0(SlotTable, 1);

	slot_table_init(table, record_bytes);
	return table;
}

static void table_free(SlotTable *table)
{
	slot_table_deinit(table);
	g_free(table);
}

static void test_indices(void)
{
	SlotTable *table = table_new(sizeof(Record));

	for (uint64_t i = 1; i <= 3 * SLOT_CHUNK_RECORDS; i++) {
		static const Record zero;
		Record *record;

		g_assert_cmpuint(slot_table_allocate(table), ==, i);
		record = slot_table_get(table, i);
		g_assert_cmpmem(record, sizeof(*record), &zero, sizeof(zero));
		record->index = i;
		memset(record->text, 0xff, sizeof(record->text));
	}
	for (uint64_t i = 1; i <= 3 * SLOT_CHUNK_RECORDS; i++)
		g_assert_cmpuint(((Record *)slot_table_get(table, i))->index, ==, i);
	table_free(table);
}

static void test_stays_in_place(void)
{
	SlotTable *table = table_new(sizeof(Record));
	uint64_t first = slot_table_allocate(table);
	Record *record = slot_table_get(table, first);

	for (int i = 0; i < 10 * SLOT_CHUNK_RECORDS; i++)
		slot_table_allocate(table);
	g_assert_true(slot_table_get(table, first) == record);
	table_free(table);
}

static void test_reuse(void)
{
	SlotTable *table = table_new(sizeof(Record));
	uint64_t a = slot_table_allocate(table), b = slot_table_allocate(table);

	((Record *)slot_table_get(table, a))->index = 77;
	slot_table_free(table, a);
	g_assert_cmpuint(slot_table_allocate(table), ==, a);
	/* As it was freed. */
	g_assert_cmpuint(((Record *)slot_table_get(table, a))->index, ==, 77);
	g_assert_cmpuint(slot_table_allocate(table), ==, b + 1);
	table_free(table);
}

static void test_full(void)
{
	SlotTable *table = table_new(1);
	uint64_t n = (uint64_t)SLOT_MAX_CHUNKS * SLOT_CHUNK_RECORDS - 1;

	for (uint64_t i = 1; i <= n; i++)
		if (slot_table_allocate(table) != i)
			g_error("record %" G_GUINT64_FORMAT, (guint64)i);
	*(char *)slot_table_get(table, n) = 'x';
	g_assert_cmpuint(slot_table_allocate(table), ==, 0);
	g_assert_cmpuint(slot_table_allocate(table), ==, 0);
	slot_table_free(table, 4711);
	g_assert_cmpuint(slot_table_allocate(table), ==, 4711);
	g_assert_cmpuint(slot_table_allocate(table), ==, 0);
	table_free(table);
}

/* Each thread owns what it was given: nobody else has the index. */
static void *take_and_free(void *arg)
{
	SlotTable *table = arg;
	uint64_t indices[64];

	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
			indices[i] = slot_table_allocate(table);
			((Record *)slot_table_get(table, indices[i]))->index = indices[i];
		}
		for (size_t i = 0; i < G_N_ELEMENTS(indices); i++) {
			Record *record = slot_table_get(table, indices[i]);

			g_assert_cmpuint(record->index, ==, indices[i]);
			record->index = 0;
			slot_table_free(table, indices[i]);
		}
	}
	return NULL;
}

static void test_threads(void)
{
	SlotTable *table = table_new(sizeof(Record));
	pthread_t threads[4];

	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		g_assert_cmpint(thread_start(&threads[i], "taker", take_and_free, table), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		pthread_join(threads[i], NULL);
	g_assert_cmpuint(table->n_records, <=, 4 * 64 + 1);
	table_free(table);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/slot-table/indices", test_indices);
	test_add("/slot-table/stays-in-place", test_stays_in_place);
	test_add("/slot-table/reuse", test_reuse);
	test_add("/slot-table/full", test_full);
	test_add("/slot-table/threads", test_threads);
	return g_test_run();
}
