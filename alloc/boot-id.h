/* SPDX-License-Identifier: Apache-2.0 */
/* Which run of the kernel this is: what is only in the page cache is worth something under the same
 * one only. */
#pragma once

/* g_free it; NULL if the kernel does not say. */
char *boot_id_read(void);
