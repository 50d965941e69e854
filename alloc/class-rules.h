/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classes of a mount, which together must make sense.
 *
 * Ownership: a ClassRules owns its classes. Both are built and checked by one thread, and from then on readable from any
 * thread without a lock (see alloc/segment-class.h for what may change in a class).
 */
#pragma once

#include "alloc/segment-class.h"

/* Every class is compared with every other, so there is a limit. class_rules_check enforces it. */
#define CLASS_RULES_MAX 128

typedef struct ClassRules ClassRules;

ClassRules *class_rules_new(void);
ClassRules *class_rules_free(ClassRules *rules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ClassRules, class_rules_free)

/* Takes ownership of the class. */
void class_rules_add(ClassRules *rules, SegmentClass *class);
size_t class_rules_count(const ClassRules *rules);
const SegmentClass *class_rules_nth(const ClassRules *rules, size_t nth);
/* NULL if there is none of that name. */
SegmentClass *class_rules_find_named(ClassRules *rules, const char *name);

/*
 * Refuses what cannot work: a class without match or size, two classes of one name, two that match
 * one path, transient buffers for another kind than `append`, more in a full pool (size x ahead)
 * than the filesystem (of filesystem_bytes) or the class's own quota holds. No classes at all are
 * fine. The error (G_OPTION_ERROR) is one line that names the classes.
 */
bool class_rules_check(const ClassRules *rules, uint64_t filesystem_bytes, GError **error);

/* Which of the rules' classes it is; class_rules_count if it is none. */
size_t class_rules_index(const ClassRules *rules, const SegmentClass *class);

/* The class of a new file, or NULL. `path` is relative to the mount point. Any thread. */
const SegmentClass *class_rules_find(const ClassRules *rules, const char *path);
