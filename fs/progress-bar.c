// SPDX-License-Identifier: Apache-2.0
#include "fs/progress-bar.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_WIDTH 40
#define MIN_WIDTH 8
#define ANY_COLUMNS 80
#define ERASE "\r\033[K"

void progress_bar_init(ProgressBar *bar)
{
	*bar = (ProgressBar){ .on_terminal = isatty(STDERR_FILENO) };
}

/* What is longer than a line cannot be taken away again. */
static int columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return ANY_COLUMNS;
	return size.ws_col;
}

/* The words alone where there is no room for more. */
static void draw(char *text, size_t size, uint64_t done, uint64_t total, const char *words)
{
	double share = total ? (double)MIN(done, total) / total : 1;
	int room = columns() - 1, width = MIN(room - (int)strlen(words) - (int)strlen("[] , 100%"), MAX_WIDTH);

	if (width < MIN_WIDTH)
		snprintf(text, MIN(size, (size_t)room + 1), "%s", words);
	else
		snprintf(text, size, "[%-*.*s] %s, %d%%", width, (int)(share * width),
			 "########################################", words, (int)(share * 100));
}

void progress_bar_show(ProgressBar *bar, uint64_t done, uint64_t total, const char *format, ...)
{
	char words[128], text[sizeof(bar->text)];
	va_list args;

	if (!bar->on_terminal)
		return;
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	draw(text, sizeof(text), done, total, words);
	/* Most steps change nothing that one sees. */
	if (strcmp(text, bar->text) == 0)
		return;
	memcpy(bar->text, text, sizeof(text));
	progress_bar_show_again(bar);
}

void progress_bar_hide(const ProgressBar *bar)
{
	if (bar->text[0])
		fputs(ERASE, stderr);
}

void progress_bar_show_again(const ProgressBar *bar)
{
	if (bar->text[0])
		fprintf(stderr, ERASE "%s", bar->text);
}

void progress_bar_clear(ProgressBar *bar)
{
	progress_bar_hide(bar);
	bar->text[0] = '\0';
}
