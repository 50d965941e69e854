/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other values for the classes of a mount while it is used. They stay the same classes: what segments look like, and which
 * files get them, is settled for as long as it is mounted; how many there are, and how long who waits for what, is not.
 */
#pragma once

#include "alloc/class-rules.h"

/* The same class, or classes, with what was given, and where. */
SegmentClass *segment_class_copy(const SegmentClass *class);
ClassRules *class_rules_copy(const ClassRules *rules);

/* Whether `rules`, which are in use, can become `wanted`, which class_rules_check has found good. If not, the error
 * (G_OPTION_ERROR) is one line that names class, key, why, and what to do. */
bool class_rules_can_become(ClassRules *rules, ClassRules *wanted, GError **error);
/* A line for each value that is to become another. Free with g_free. */
char *class_rules_describe_change(ClassRules *rules, ClassRules *wanted);
/* After that: does it, under whatever lock has those wait who must see all of it or nothing. `given` becomes that of
 * `wanted`, too. */
void class_rules_become(ClassRules *rules, ClassRules *wanted);
