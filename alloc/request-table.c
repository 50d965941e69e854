// SPDX-License-Identifier: Apache-2.0
#include "alloc/request-table.h"

void request_table_init(RequestTable *table)
{
	table->by_path = g_hash_table_new(g_str_hash, g_str_equal);
}

void request_table_deinit(RequestTable *table)
{
	g_assert(g_hash_table_size(table->by_path) == 0);
	g_clear_pointer(&table->by_path, g_hash_table_unref);
}

AllocateRequest *request_table_put_if_absent(RequestTable *table, AllocateRequest *request)
{
	AllocateRequest *present = request_table_find(table, request->path);

	if (!present)
		g_hash_table_insert(table->by_path, request->path, request);
	return present;
}

AllocateRequest *request_table_find(const RequestTable *table, const char *path)
{
	return g_hash_table_lookup(table->by_path, path);
}

void request_table_remove_if_same(RequestTable *table, AllocateRequest *request)
{
	if (request_table_find(table, request->path) == request)
		g_hash_table_remove(table->by_path, request->path);
}
