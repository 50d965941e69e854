/* SPDX-License-Identifier: Apache-2.0 */
/* How far something is, on standard error if that is a terminal; else nothing is shown. */
#pragma once

/* Shows it in place of what was shown before. */
void progress_bar_show(unsigned done, unsigned total);
/* Takes it away, so that lines can follow. */
void progress_bar_clear(void);
