/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What root's daemon may do once it stands: only what serving files needs, and what its children could get is no more.
 * A thread has what the one that started it had, so: before the first thread.
 *
 * mount-helpers/systemd/warmfs@.service.in has the same capabilities, and says what each is for.
 */
#pragma once

/* 0 or -errno. Nothing changes for a daemon that is not root: it needs its fusermount3, and /proc/self. */
int privileges_drop(void);
