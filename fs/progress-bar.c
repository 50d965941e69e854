// SPDX-License-Identifier: Apache-2.0
#include "fs/progress-bar.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define WIDTH 40

void progress_bar_show(unsigned done, unsigned total)
{
	int filled = total ? (int)((uint64_t)done * WIDTH / total) : WIDTH;

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r[%-*.*s] %u of %u", WIDTH, filled, "########################################", done,
		total);
	fflush(stderr);
}

void progress_bar_clear(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
