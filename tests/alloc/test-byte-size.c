// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/byte-size.h"

static void test_parse(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} CASES[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "007", 7 },
		{ "64000000", 64000000 },
		{ "1K", 1024 },
		{ "1k", 1024 },
		{ "16M", 16 << 20 },
		{ "16m", 16 << 20 },
		{ "1G", 1 << 30 },
		{ "3g", UINT64_C(3) << 30 },
		{ "2T", UINT64_C(2) << 40 },
		{ "2t", UINT64_C(2) << 40 },
		{ "0T", 0 },
		{ "18446744073709551615", UINT64_MAX },
		{ "16777215T", UINT64_C(16777215) << 40 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		uint64_t bytes = 42;

		g_test_message("%s", CASES[i].text);
		g_assert_cmpint(byte_size_parse(CASES[i].text, &bytes), ==, 0);
		g_assert_cmpuint(bytes, ==, CASES[i].bytes);
	}
}

static void test_parse_refuses(void)
{
	static const struct {
		const char *text;
		int r;
	} CASES[] = {
		{ "", -EINVAL },
		{ "K", -EINVAL },
		{ "12X", -EINVAL },
		{ "1KK", -EINVAL },
		{ "1KB", -EINVAL },
		{ "1GiB", -EINVAL },
		{ "1P", -EINVAL },
		{ " 1", -EINVAL },
		{ "1 ", -EINVAL },
		{ "1 K", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ "1.5G", -EINVAL },
		{ "0x10", -EINVAL },
		{ "1e3", -EINVAL },
		{ "99999999999999999999X", -EINVAL },
		{ "\xc2\xb2", -EINVAL },
		{ "18446744073709551616", -ERANGE },
		{ "99999999999999999999999999999999999999", -ERANGE },
		{ "16777216T", -ERANGE },
		{ "18446744073709551615K", -ERANGE },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		uint64_t bytes = 42;

		g_test_message("'%s'", CASES[i].text);
		g_assert_cmpint(byte_size_parse(CASES[i].text, &bytes), ==, CASES[i].r);
		g_assert_cmpuint(bytes, ==, 42);
	}
}

static void test_format(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} CASES[] = {
		{ 0, "0" },
		{ 1, "1" },
		{ 1000, "1000" },
		{ 1023, "1023" },
		{ 1024, "1K" },
		{ 1025, "1025" },
		{ 1536, "1536" },
		{ 64000000, "62500K" },
		{ 1 << 20, "1M" },
		{ 1 << 30, "1G" },
		{ UINT64_C(1536) << 20, "1536M" },
		{ UINT64_C(1) << 40, "1T" },
		{ UINT64_C(1) << 50, "1024T" },
		{ UINT64_MAX, "18446744073709551615" },
		{ UINT64_C(1) << 63, "8388608T" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autofree char *text = byte_size_format(CASES[i].bytes);

		g_assert_cmpstr(text, ==, CASES[i].text);
	}
}

/* Every bit alone and with its neighbours: what is written must be read back. */
static void test_round_trip(void)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		for (int add = -1; add <= 1; add++) {
			uint64_t bytes = (UINT64_C(1) << bit) + (uint64_t)add, back = 0;
			g_autofree char *text = byte_size_format(bytes);

			g_assert_cmpint(byte_size_parse(text, &back), ==, 0);
			g_assert_cmpuint(back, ==, bytes);
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/byte-size/parse", test_parse);
	g_test_add_func("/byte-size/parse-refuses", test_parse_refuses);
	g_test_add_func("/byte-size/format", test_format);
	g_test_add_func("/byte-size/round-trip", test_round_trip);
	return g_test_run();
}
