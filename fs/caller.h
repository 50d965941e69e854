/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to know about the thread that a request comes from. An interrupted request says
 * only that some signal is there, also if it does no harm; whether it ends the process is in /proc.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Whether the text, as of /proc/PID/status, is that of a thread that a pending signal ends: not one
 * that is handled, ignored or blocked. False where it does not say. */
bool caller_status_says_killed(const char *status);

/* Asks /proc about a thread. False if it cannot be known: no such thread, or one of another pid
 * namespace (0). */
bool caller_is_killed(pid_t thread);
