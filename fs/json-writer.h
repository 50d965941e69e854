/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON: commas, quotes and escapes are its affair. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

typedef struct JsonWriter {
	GString *text;
	/* Whether something precedes in the innermost object or array. */
	bool follows;
} JsonWriter;

/* `key` is NULL for what has none: elements of an array, and the outermost value. */
void json_begin(JsonWriter *json, const char *key, char bracket);
void json_end(JsonWriter *json, char bracket);
/* What is no UTF-8 is made so. */
void json_string(JsonWriter *json, const char *key, const char *value);
void json_number(JsonWriter *json, const char *key, uint64_t value);
void json_real(JsonWriter *json, const char *key, double value);
void json_bool(JsonWriter *json, const char *key, bool value);
