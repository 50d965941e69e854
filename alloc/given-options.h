/* SPDX-License-Identifier: Apache-2.0 */
/* The options that somebody gave, as he wrote them, and where: so that it can be said why a value is in force. */
#pragma once

#include <glib.h>

typedef struct GivenOption {
	char *value;
	/* `option`, or `FILE:LINE`. */
	char *origin;
} GivenOption;

/* Key -> GivenOption. One thread at a time. */
typedef GHashTable GivenOptions;

#define GIVEN_BY_OPTION "option"

/* Unref with g_hash_table_unref. */
GivenOptions *given_options_new(void);
/* Replaces what was given before. `value` may be NULL. */
void given_options_note(GivenOptions *given, const char *key, const char *value, const char *origin);
/* NULL if nobody gave it; so is `given` itself where none are kept. Borrowed. */
const GivenOption *given_options_find(GivenOptions *given, const char *key);
