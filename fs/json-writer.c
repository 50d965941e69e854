// SPDX-License-Identifier: Apache-2.0
#include "fs/json-writer.h"

static void append_quoted(GString *text, const char *value)
{
	g_autofree char *valid = g_utf8_make_valid(value, -1);

	g_string_append_c(text, '"');
	for (const char *at = valid; *at; at++) {
		if (*at == '"' || *at == '\\')
			g_string_append_printf(text, "\\%c", *at);
		else if ((unsigned char)*at < 0x20)
			g_string_append_printf(text, "\\u%04x", *at);
		else
			g_string_append_c(text, *at);
	}
	g_string_append_c(text, '"');
}

static void begin_value(JsonWriter *json, const char *key)
{
	if (json->follows)
		g_string_append_c(json->text, ',');
	json->follows = true;
	if (key) {
		append_quoted(json->text, key);
		g_string_append_c(json->text, ':');
	}
}

void json_begin(JsonWriter *json, const char *key, char bracket)
{
	begin_value(json, key);
	g_string_append_c(json->text, bracket);
	json->follows = false;
}

void json_end(JsonWriter *json, char bracket)
{
	g_string_append_c(json->text, bracket);
	json->follows = true;
}

void json_string(JsonWriter *json, const char *key, const char *value)
{
	begin_value(json, key);
	append_quoted(json->text, value);
}

void json_number(JsonWriter *json, const char *key, uint64_t value)
{
	begin_value(json, key);
	g_string_append_printf(json->text, "%" G_GUINT64_FORMAT, (guint64)value);
}

void json_real(JsonWriter *json, const char *key, double value)
{
	char number[G_ASCII_DTOSTR_BUF_SIZE];

	begin_value(json, key);
	g_string_append(json->text, g_ascii_formatd(number, sizeof(number), "%.9g", value));
}

void json_bool(JsonWriter *json, const char *key, bool value)
{
	begin_value(json, key);
	g_string_append(json->text, value ? "true" : "false");
}
