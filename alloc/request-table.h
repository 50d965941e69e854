/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path -> the one request that is being worked on for it. Borrows the requests: whoever ends one
 * removes it first. No lock of its own: the allocate service's covers queue and table together.
 */
#pragma once

#include "alloc/allocate-request.h"

typedef struct RequestTable {
	GHashTable *by_path;
} RequestTable;

void request_table_init(RequestTable *table);
/* The table must be empty. */
void request_table_deinit(RequestTable *table);

/* NULL and the request is in, or the one that was there first. */
AllocateRequest *request_table_put_if_absent(RequestTable *table, AllocateRequest *request);
/* The one that is in for the path, or NULL. */
AllocateRequest *request_table_find(const RequestTable *table, const char *path);
/* Removes this request, and not another one of the same path. */
void request_table_remove_if_same(RequestTable *table, AllocateRequest *request);
