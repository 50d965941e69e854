// SPDX-License-Identifier: Apache-2.0
#include "alloc/io-pressure.h"

#include <errno.h>

#include "tests/lib/test-util.h"

static void test_parse(void)
{
	uint64_t us = 0;

	g_assert_cmpint(io_pressure_parse("some avg10=0.07 avg60=12.85 avg300=100.00 total=17741875\n"
					  "full avg10=0.07 avg60=0.65 avg300=0.69 total=12337231\n", &us), ==, 0);
	g_assert_cmpuint(us, ==, 17741875);
	g_assert_cmpint(io_pressure_parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551615", &us),
			==, 0);
	g_assert_cmpuint(us, ==, UINT64_MAX);
}

static void test_refuses(void)
{
	static const char *const TEXTS[] = { "", "some", "full avg10=0.07 avg60=0.65 avg300=0.69 total=1\n",
					     "some avg10=0.00 avg60=0.00 avg300=0.00 total=\n",
					     "some avg10=0.00 total=5\n" };
	uint64_t us;

	for (size_t i = 0; i < G_N_ELEMENTS(TEXTS); i++)
		g_assert_cmpint(io_pressure_parse(TEXTS[i], &us), ==, -EBADMSG);
}

/* Whatever machine this is. */
static void test_kernel(void)
{
	uint64_t first = 0, second = 0;
	int r = io_pressure_stalled_us(&first);

	if (r < 0) {
		g_test_skip(g_strerror(-r));
		return;
	}
	g_assert_cmpint(io_pressure_stalled_us(&second), ==, 0);
	g_assert_cmpuint(second, >=, first);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/io-pressure/parse", test_parse);
	test_add("/io-pressure/refuses", test_refuses);
	test_add("/io-pressure/kernel", test_kernel);
	return g_test_run();
}
