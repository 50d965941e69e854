/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's pressure stall information says of I/O (/proc/pressure/io, Linux 4.20). */
#pragma once

#include <stdint.h>

/* Microseconds, since the start, in which at least one task was kept waiting by I/O. 0 or -errno: there is no such
 * file in many containers, and no such count in some kernels. */
int io_pressure_stalled_us(uint64_t *ret_us);

/* The same from the file's text; -EBADMSG if it is not one. */
int io_pressure_parse(const char *text, uint64_t *ret_us);
