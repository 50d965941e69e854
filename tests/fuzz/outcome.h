/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fuzz/step.h"

/* What differs between the two worlds after an operation: a text, or NULL. */
const char *outcome_differs(const Shared *shared, char *text, size_t size);

/* The same of all files as they are now, read and mapped. */
const char *files_differ(const Shared *shared, char *text, size_t size);

/* "0", "-1 ENOSPC", "-1 SIGBUS" */
void outcome_describe(const Outcome *outcome, char *text, size_t size);
