// SPDX-License-Identifier: Apache-2.0
/* The text of /proc/PID/status: nobody is said to be killed who has no pending signal. */
#include "fs/caller.h"

#include <string.h>

#include "tests/fuzz/targets/fuzz-target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = fuzz_text(data, size);

	if (caller_status_says_killed(text))
		g_assert_true(strstr(text, "SigPnd:") || strstr(text, "ShdPnd:"));
	return 0;
}
