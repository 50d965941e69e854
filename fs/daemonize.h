/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into the background, in two steps, so that whoever started the daemon hears how starting it went: fork first, with
 * standard error still there; then, when everything stands, let go.
 */
#pragma once

/* In the child: a descriptor for daemonize_done. In the parent it does not return: the parent waits, and exits with 0
 * after daemonize_done, or with 1 if the child ends before. -errno if it could not fork. */
int daemonize_begin(void);

/* Lets the parent go, and drops the terminal. Consumes the descriptor. */
void daemonize_done(int notify_fd);
