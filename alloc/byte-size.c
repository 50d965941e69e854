// SPDX-License-Identifier: Apache-2.0
#include "alloc/byte-size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include <glib.h>

/* Each letter stands for 1024 times the one before it. */
static const char UNITS[] = "KMGT";

/* How many times 1024 the suffix stands for; -EINVAL. */
static int suffix_power(const char *suffix)
{
	const char *unit;

	if (!*suffix)
		return 0;
	unit = strchr(UNITS, g_ascii_toupper(*suffix));
	if (!unit || suffix[1])
		return -EINVAL;
	return (int)(unit - UNITS) + 1;
}

int byte_size_parse(const char *text, uint64_t *ret_bytes)
{
	size_t digits = strspn(text, "0123456789");
	int power = suffix_power(text + digits);
	bool overflow = false;
	uint64_t bytes = 0;

	if (digits == 0 || power < 0)
		return -EINVAL;
	for (size_t i = 0; i < digits; i++) {
		overflow |= __builtin_mul_overflow(bytes, UINT64_C(10), &bytes);
		overflow |= __builtin_add_overflow(bytes, (uint64_t)(text[i] - '0'), &bytes);
	}
	overflow |= __builtin_mul_overflow(bytes, UINT64_C(1) << 10 * power, &bytes);
	if (overflow)
		return -ERANGE;
	*ret_bytes = bytes;
	return 0;
}

char *byte_size_format(uint64_t bytes)
{
	unsigned power = 0;

	while (bytes && bytes % 1024 == 0 && power < strlen(UNITS)) {
		bytes /= 1024;
		power++;
	}
	return power ? g_strdup_printf("%" PRIu64 "%c", bytes, UNITS[power - 1])
		     : g_strdup_printf("%" PRIu64, bytes);
}
