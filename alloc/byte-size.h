/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as people write them. */
#pragma once

#include <stdint.h>

/* "64000000", "16M", "1G", "2T" (powers of 1024; k/m/g/t too): decimal digits and at most one
 * letter, nothing around them. 0, -EINVAL if it is not of this form, -ERANGE if it does not fit. */
int byte_size_parse(const char *text, uint64_t *ret_bytes);

/* The shortest text that byte_size_parse reads as `bytes` ("1G", "62500K"); free with g_free. */
char *byte_size_format(uint64_t bytes);
