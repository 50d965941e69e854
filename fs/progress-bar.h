/* SPDX-License-Identifier: Apache-2.0 */
/* How far something is, on standard error if that is a terminal; else nothing is shown. Threads: one at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

typedef struct ProgressBar {
	bool on_terminal;
	/* What is shown; empty: nothing. */
	char text[256];
} ProgressBar;

void progress_bar_init(ProgressBar *bar);
/* Shows it in place of what was shown before, with words after it. */
void progress_bar_show(ProgressBar *bar, uint64_t done, uint64_t total, const char *format, ...) G_GNUC_PRINTF(4, 5);
/* Around a line that is to stand above it. */
void progress_bar_hide(const ProgressBar *bar);
void progress_bar_show_again(const ProgressBar *bar);
/* Takes it away. */
void progress_bar_clear(ProgressBar *bar);
