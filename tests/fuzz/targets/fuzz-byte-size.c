// SPDX-License-Identifier: Apache-2.0
/* A size as text. What is a size is the same when it is written and read again. */
#include "alloc/byte-size.h"

#include <errno.h>

#include "tests/fuzz/targets/fuzz-target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = fuzz_text(data, size);
	g_autofree char *again = NULL;
	uint64_t bytes, bytes_again;
	int r = byte_size_parse(text, &bytes);

	g_assert_true(r == 0 || r == -EINVAL || r == -ERANGE);
	if (r < 0)
		return 0;
	again = byte_size_format(bytes);
	g_assert_cmpint(byte_size_parse(again, &bytes_again), ==, 0);
	g_assert_cmpuint(bytes_again, ==, bytes);
	return 0;
}
