/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: a GKeyFile with one `[class NAME]` group for each class and an optional
 * `[warmfs]` group for what concerns the whole mount:
 *
 *	# comment
 *	[class wal]
 *	match=**.wal
 *	size=1G
 *
 * A value is taken as it stands, without the blanks around it: GKeyFile's own escapes do not apply,
 * so a backslash in a pattern is written once. The last blank of a pattern is written `[ ]`.
 *
 * Stricter than GKeyFile: no group and no key may come twice, there are no translated keys
 * (`key[de]`), and the file is UTF-8 text without control characters, so that whatever an error
 * quotes is one clean line.
 */
#pragma once

#include <stdbool.h>

#include "alloc/class-rules.h"

/* Limits of a file and of a line, bytes. */
#define CLASS_CONFIG_MAX_FILE (1024 * 1024)
#define CLASS_CONFIG_MAX_LINE 4096
/* Limit of a class's name, bytes. It holds no slash, and starts with neither dot nor blank. */
#define CLASS_CONFIG_MAX_NAME 64

/* Sets one key of the `[warmfs]` group, which comes from `origin` (`FILE:LINE`); or false and an error naming key, value
 * and the allowed. */
typedef bool (*ClassConfigSet)(void *arg, const char *key, const char *value, const char *origin,
			       GError **error);

/*
 * Adds the file's classes to `rules`, in the order of the file; on failure `rules` is as it was,
 * though some mount keys may have been set. A file without any group is refused. The error is one
 * line: it names the file and, as far as they are known, the line or the group, the key, the value
 * and what is allowed.
 */
bool class_config_load(const char *path, ClassRules *rules, ClassConfigSet set_mount_key, void *arg,
		       GError **error);
/* The same of the file's bytes, which somebody else has read. */
bool class_config_load_bytes(const char *path, const char *bytes, size_t length, ClassRules *rules,
			     ClassConfigSet set_mount_key, void *arg, GError **error);
