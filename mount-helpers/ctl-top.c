// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/ctl-top.h"

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "mount-helpers/ctl-metrics.h"

#define INTERVAL_US (1000 * 1000)
/* Of the histogram in the metrics: buckets by powers of two, microseconds. */
#define FIRST_BUCKET 4
#define LAST_BUCKET  26
#define NAME_WIDTH   16
/* What follows the bar in a line. */
#define FACTS_WIDTH 56
#define MIN_BAR	    4
#define MAX_BAR	    40

typedef struct Screen {
	bool on_terminal;
	struct termios before;
	int width;
	int height;
} Screen;

/* Set by signals: the one thing that a handler can share with the rest. */
static volatile sig_atomic_t is_over;

static void end(int number)
{
	(void)number;
	is_over = 1;
}

/* Only so that waiting ends. */
static void look_again(int number)
{
	(void)number;
}

static void watch_signals(void)
{
	struct sigaction over = { .sa_handler = end }, again = { .sa_handler = look_again };

	sigaction(SIGINT, &over, NULL);
	sigaction(SIGTERM, &over, NULL);
	sigaction(SIGHUP, &over, NULL);
	sigaction(SIGWINCH, &again, NULL);
}

static void screen_begin(Screen *screen)
{
	struct termios raw;

	*screen = (Screen){ .on_terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) &&
					   tcgetattr(STDIN_FILENO, &screen->before) == 0 };
	if (!screen->on_terminal)
		return;
	tcgetattr(STDIN_FILENO, &screen->before);
	raw = screen->before;
	raw.c_lflag &= ~(ICANON | ECHO);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	/* The other page, no cursor. */
	fputs("\033[?1049h\033[?25l", stdout);
}

static void screen_end(const Screen *screen)
{
	if (!screen->on_terminal)
		return;
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
}

static void screen_measure(Screen *screen)
{
	struct winsize size;

	screen->width = 80;
	screen->height = G_MAXINT;
	if (screen->on_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		screen->width = size.ws_col;
		screen->height = size.ws_row;
	}
}

/* Whether q was typed before the time was over; a signal ends the wait, too. */
static bool wait_for_q(const Screen *screen, int64_t until_us)
{
	int64_t left_us = until_us - g_get_monotonic_time();
	struct pollfd typed = { .fd = screen->on_terminal ? STDIN_FILENO : -1, .events = POLLIN };
	char key = 0;

	if (poll(&typed, 1, MAX(left_us, 0) / 1000) <= 0)
		return false;
	return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q';
}

/*
 * What there is to show.
 */

static double bucket(CtlMetrics *metrics, const char *class, unsigned nth)
{
	char bound[G_ASCII_DTOSTR_BUF_SIZE];
	g_autofree char *key = NULL;
	const double *count;

	g_ascii_formatd(bound, sizeof(bound), "%.6f", (double)(UINT64_C(1) << nth) / 1e6);
	key = g_strdup_printf("create_seconds_bucket{class=\"%s\",le=\"%s\"}", class, bound);
	count = metrics ? g_hash_table_lookup(metrics, key) : NULL;
	return count ? *count : 0;
}

static double since(CtlMetrics *now, CtlMetrics *before, const char *name, const char *class)
{
	return ctl_metrics_get(now, name, class) - (before ? ctl_metrics_get(before, name, class) : 0);
}

/* Of the creates since the last picture: 99 of 100 took at most this long. */
static char *p99(CtlMetrics *now, CtlMetrics *before, const char *class)
{
	double n = since(now, before, "create_seconds_count", class);

	if (n <= 0)
		return g_strdup("-");
	for (unsigned i = FIRST_BUCKET; i <= LAST_BUCKET; i++) {
		uint64_t us = UINT64_C(1) << i;

		if (bucket(now, class, i) - bucket(before, class, i) < n * 0.99)
			continue;
		if (us < 1000)
			return g_strdup_printf("%uus", (unsigned)us);
		return us < 1000000 ? g_strdup_printf("%ums", (unsigned)(us / 1000)) :
				      g_strdup_printf("%us", (unsigned)(us / 1000000));
	}
	return g_strdup(">67s");
}

static char *make_bar(int width, double ready, double wanted)
{
	int filled = wanted > 0 ? (int)(MIN(ready, wanted) * width / wanted) : width;
	char *bar = g_malloc(width + 1);

	memset(bar, '#', filled);
	memset(bar + filled, '.', width - filled);
	bar[width] = '\0';
	return bar;
}

static char *class_line(CtlMetrics *now, CtlMetrics *before, const char *class, double seconds, int bar_width)
{
	double ready = ctl_metrics_get(now, "segments_ready", class);
	double wanted = ctl_metrics_get(now, "segments_wanted", class);
	double hits = since(now, before, "hits_total", class), misses = since(now, before, "misses_total", class);
	g_autofree char *bar = make_bar(bar_width, ready, wanted);
	g_autofree char *slowest = p99(now, before, class);
	g_autofree char *share = hits + misses > 0 ? g_strdup_printf("%.0f%%", hits * 100 / (hits + misses)) : g_strdup("-");
	const char *state = ctl_metrics_get(now, "class_degraded", class) > 0 ? "degraded" :
			    ctl_metrics_get(now, "class_drained", class) > 0  ? "drained" :
										"ok";

	return g_strdup_printf("%-*.*s [%s] %2.0f/%-2.0f %4.0f %4.0f %7.1f %5s %6s %s", NAME_WIDTH, NAME_WIDTH, class, bar, ready,
			       wanted, ctl_metrics_get(now, "segments_warming", class),
			       ctl_metrics_get(now, "segments_live", class),
			       since(now, before, "create_seconds_count", class) / seconds, share, slowest, state);
}

static double sum_of_requests(CtlMetrics *metrics)
{
	GHashTableIter iter;
	gpointer key, value;
	double sum = 0;

	g_hash_table_iter_init(&iter, metrics);
	while (g_hash_table_iter_next(&iter, &key, &value))
		if (g_str_has_prefix(key, "requests_total{"))
			sum += *(const double *)value;
	return sum;
}

static GPtrArray *make_lines(const char *mount, CtlMetrics *now, CtlMetrics *before, double seconds, int width)
{
	GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GPtrArray) classes = ctl_metrics_classes(now);
	double requests = (sum_of_requests(now) - (before ? sum_of_requests(before) : 0)) / seconds;
	int bar_width = CLAMP(width - NAME_WIDTH - FACTS_WIDTH, MIN_BAR, MAX_BAR);

	g_ptr_array_add(lines, g_strdup_printf("warmfs %s  %.0f requests/s  passthrough %s  (q ends)", mount, requests,
					       ctl_metrics_get(now, "passthrough", NULL) > 0 ? "on" : "off"));
	g_ptr_array_add(lines, g_strdup_printf("%-*s %-*s %-5s %4s %4s %7s %5s %6s %s", NAME_WIDTH, "CLASS", bar_width + 2,
					       "POOL", "READY", "WARM", "LIVE", "NEW/S", "HITS", "P99", "STATE"));
	for (guint i = 0; i < classes->len; i++)
		g_ptr_array_add(lines, class_line(now, before, g_ptr_array_index(classes, i), seconds, bar_width));
	return lines;
}

/* No line is longer than the screen is wide, nor are there more than it has. */
static void show(const Screen *screen, const GPtrArray *lines)
{
	int n_shown = MIN((int)lines->len, screen->height);

	if (screen->on_terminal)
		fputs("\033[H", stdout);
	for (int i = 0; i < n_shown; i++) {
		const char *line = g_ptr_array_index(lines, i);
		bool more = i == n_shown - 1 && n_shown < (int)lines->len;
		g_autofree char *text = more ? g_strdup_printf("... and %d more", (int)lines->len - i) :
					       g_utf8_substring(line, 0, MIN(g_utf8_strlen(line, -1), screen->width));

		/* A line feed behind the last line would scroll. */
		printf("%s%s%s", text, screen->on_terminal ? "\033[K" : "",
		       screen->on_terminal && i == screen->height - 1 ? "" : "\n");
	}
	fputs(screen->on_terminal ? "\033[J" : "\n", stdout);
	fflush(stdout);
}

/* The first picture is of the time since the mount began. */
static double seconds_since(CtlMetrics *now, int64_t before_us, int64_t now_us)
{
	double seconds = before_us ? (now_us - before_us) / 1e6 :
				     g_get_real_time() / 1e6 - ctl_metrics_get(now, "start_time_seconds", NULL);

	return MAX(seconds, 0.001);
}

bool ctl_top_run(const char *mount, bool once, GError **error)
{
	CtlMetrics *now = ctl_metrics_read(mount, error), *before = NULL;
	int64_t now_us = g_get_monotonic_time(), before_us = 0;
	Screen screen;
	bool quit = false;

	if (!now)
		return false;
	watch_signals();
	screen_begin(&screen);
	while (!quit && !is_over) {
		g_autoptr(GPtrArray) lines = NULL;

		screen_measure(&screen);
		lines = make_lines(mount, now, before, seconds_since(now, before_us, now_us), screen.width);
		show(&screen, lines);
		if (once || ferror(stdout))
			break;
		quit = wait_for_q(&screen, now_us + INTERVAL_US);
		if (quit || g_get_monotonic_time() < now_us + INTERVAL_US)
			continue;
		g_clear_pointer(&before, g_hash_table_unref);
		before = now;
		before_us = now_us;
		now = ctl_metrics_read(mount, error);
		now_us = g_get_monotonic_time();
		if (!now)
			break;
	}
	screen_end(&screen);
	g_clear_pointer(&before, g_hash_table_unref);
	if (!now)
		return false;
	g_hash_table_unref(now);
	return true;
}
