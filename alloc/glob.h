/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path patterns: `*` and `?` do not cross a slash, `**` does, `**` followed by a slash also stands
 * for no directory at all (where a name could begin), `[a-z]`, `[!a-z]` (or `[^a-z]`), and a
 * backslash takes the next byte literally. `?` and sets stand for one byte, never for a slash. A
 * leading dot is nothing special.
 *
 * A path is relative and clean: names with one slash between them. A pattern that no such path
 * could match because of its slashes (at the start, at the end, two in a row) is refused.
 *
 * A Glob is immutable; any thread may match with it. Matching allocates nothing.
 */
#pragma once

#include <stdbool.h>

#include <glib.h>

typedef struct Glob Glob;

/* Patterns longer than this many bytes are refused: the matcher's state is a fixed array. */
#define GLOB_MAX_LENGTH 255

/* The error (G_OPTION_ERROR) says what is wrong without repeating the pattern. */
Glob *glob_new(const char *pattern, GError **error);
Glob *glob_free(Glob *glob);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Glob, glob_free)

const char *glob_pattern(const Glob *glob);
bool glob_match(const Glob *glob, const char *path);
/* Whether any path could match both. Exact, not a guess. */
bool glob_overlaps(const Glob *a, const Glob *b);
