// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-name.h"

#include <string.h>

#include "tests/lib/test-util.h"

static void test_names(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a kind=mapped size=1G folio=64K");
	char name[SEGMENT_NAME_SIZE];

	segment_name_warming(name, 0xab);
	g_assert_cmpstr(name, ==, "warming-00000000000000ab");
	segment_name_recycled(name, 0xab);
	g_assert_cmpstr(name, ==, "recycled-00000000000000ab");
	segment_name_ready(name, class, UINT64_MAX);
	g_assert_cmpstr(name, ==, "ready-mapped-1073741824-65536-ffffffffffffffff");
	class->warm = false;
	segment_name_ready(name, class, 0);
	g_assert_cmpstr(name, ==, "ready-mapped-1073741824-0-0000000000000000");
	class->kind = SEGMENT_KIND_STREAM;
	segment_name_ready(name, class, 0);
	g_assert_cmpstr(name, ==, "ready-stream-1073741824-65536-0000000000000000");
}

static void test_longest_fits(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	char name[SEGMENT_NAME_SIZE];
	SegmentNameParts parts;

	class->size_bytes = UINT64_MAX;
	class->folio_bytes = SIZE_MAX;
	segment_name_ready(name, class, UINT64_MAX);
	g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_READY);
	g_assert_cmpuint(parts.size_bytes, ==, UINT64_MAX);
	g_assert_cmpuint(parts.folio_bytes, ==, UINT64_MAX);
}

static void test_hostile(void)
{
	static const char *const NAMES[] = {
		"",
		".",
		"..",
		"ready",
		"warming",
		"warming-",
		"ready-",
		"ready----",
		"foo",
		"Warming-00000000000000ab",
		" warming-00000000000000ab",
		"warming-00000000000000AB",
		"warming-ab",
		"recycled-ab",
		"recycled-00000000000000AB",
		"warming- 0000000000000ab",
		"warming-0x000000000000ab",
		"warming-+0000000000000ab",
		"warming--0000000000000ab",
		"warming-00000000000000ab ",
		"warming-00000000000000ab~",
		"warming-00000000000000abc",
		"warming-00000000000000ab/x",
		"warming-10000000000000000",
		"ready-mapped-1-2-3",
		"ready-mapped-01-2-0000000000000003",
		"ready-mapped--1-2-0000000000000003",
		"ready-mapped-+1-2-0000000000000003",
		"ready-mapped- 1-2-0000000000000003",
		"ready-mapped-1-2-0000000000000003.bak",
		"ready-mapped-1-2--000000000000003",
		"ready-mapped-18446744073709551616-2-0000000000000003",
		"ready-mapped-99999999999999999999999-2-0000000000000003",
		"ready-mapped-1-18446744073709551616-0000000000000003",
		"ready-appended-1-2-0000000000000003",
		"ready-mappe-1-2-0000000000000003",
		"ready-mappedd-1-2-0000000000000003",
		"ready-MAPPED-1-2-0000000000000003",
		"ready-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-1-2-0000000000000003",
		"ready--1-2-0000000000000003",
		"ready-mapped-0x1-2-0000000000000003",
		"ready-mapped-%s%n-2-0000000000000003",
		"ready-mapped-1-2-0000000000000003\n",
		"ready-mapped-\xff-2-0000000000000003",
	};
	g_autofree char *long_name = g_strdup_printf("warming-%0200d", 1);

	for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++) {
		SegmentNameParts parts = { .serial = 42, .size_bytes = 43 };
		g_autofree char *printable = g_strescape(NAMES[i], NULL);

		g_test_message("%s", printable);
		g_assert_cmpint(segment_name_parse(NAMES[i], &parts), ==, SEGMENT_NAME_FOREIGN);
		/* Outputs are untouched on failure. */
		g_assert_cmpuint(parts.serial, ==, 42);
		g_assert_cmpuint(parts.size_bytes, ==, 43);
	}
	SegmentNameParts parts;
	g_assert_cmpint(segment_name_parse(long_name, &parts), ==, SEGMENT_NAME_FOREIGN);
}

static uint64_t random_number(GRand *rand)
{
	uint64_t number = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);

	return number >> g_rand_int_range(rand, 0, 64);
}

static void test_round_trip(void)
{
	g_autoptr(GRand) rand = test_rand_new();
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");

	for (int i = 0; i < 20000; i++) {
		char name[SEGMENT_NAME_SIZE];
		SegmentNameParts parts;
		uint64_t serial = random_number(rand);

		class->kind = g_rand_int_range(rand, 0, _SEGMENT_KIND_MAX);
		class->size_bytes = random_number(rand);
		class->folio_bytes = random_number(rand);
		segment_name_ready(name, class, serial);
		g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_READY);
		g_assert_cmpint(parts.kind, ==, class->kind);
		g_assert_cmpuint(parts.size_bytes, ==, class->size_bytes);
		g_assert_cmpuint(parts.folio_bytes, ==, class->folio_bytes);
		g_assert_cmpuint(parts.serial, ==, serial);
		g_assert_true(segment_name_serves(&parts, class));
		segment_name_warming(name, serial);
		g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_WARMING);
		g_assert_cmpuint(parts.serial, ==, serial);
	}
}

/* One changed byte: foreign, or exactly another name of ours. */
static void test_mutations(void)
{
	g_autoptr(GRand) rand = test_rand_new();
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	unsigned n_foreign = 0;

	for (int i = 0; i < 20000; i++) {
		char name[SEGMENT_NAME_SIZE], again[SEGMENT_NAME_SIZE];
		SegmentNameParts parts;

		segment_name_ready(name, class, random_number(rand));
		name[g_rand_int_range(rand, 0, strlen(name))] =
			(char)g_rand_int_range(rand, 1, 256);
		switch (segment_name_parse(name, &parts)) {
		case SEGMENT_NAME_FOREIGN:
			n_foreign++;
			break;
		case SEGMENT_NAME_READY: {
			SegmentClass same = { .kind = parts.kind,
					      .size_bytes = parts.size_bytes,
					      .folio_bytes = parts.folio_bytes,
					      .warm = parts.folio_bytes > 0 };

			segment_name_ready(again, &same, parts.serial);
			g_assert_cmpstr(again, ==, name);
			break;
		}
		case SEGMENT_NAME_WARMING:
		case SEGMENT_NAME_RECYCLED:
			g_assert_not_reached();
		}
	}
	g_assert_cmpuint(n_foreign, >, 10000);
}

static void test_serves(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a kind=mapped size=1M folio=64K");
	SegmentNameParts good = { .kind = SEGMENT_KIND_MAPPED,
				  .size_bytes = 1 << 20,
				  .folio_bytes = 64 << 10 };
	SegmentNameParts parts = good;

	g_assert_true(segment_name_serves(&parts, class));
	parts.kind = SEGMENT_KIND_STREAM;
	g_assert_false(segment_name_serves(&parts, class));
	parts = good;
	parts.size_bytes++;
	g_assert_false(segment_name_serves(&parts, class));
	parts = good;
	parts.folio_bytes *= 2;
	g_assert_false(segment_name_serves(&parts, class));
}

static void test_serves_as_warm(void)
{
	static const char *const CLASSES[] = { "a size=1M", "a size=1M warm=off", "a size=1M kind=append",
					       "a size=1M kind=append warm_min_size=2M" };
	char name[SEGMENT_NAME_SIZE];
	SegmentNameParts parts;

	for (size_t i = 0; i < G_N_ELEMENTS(CLASSES); i++)
		for (size_t j = 0; j < G_N_ELEMENTS(CLASSES); j++) {
			g_autoptr(SegmentClass) maker = test_class_new(CLASSES[i]);
			g_autoptr(SegmentClass) user = test_class_new(CLASSES[j]);

			segment_name_ready(name, maker, 1);
			g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_READY);
			g_assert_cmpint(segment_name_serves(&parts, user), ==, i == j);
		}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/segment-name/names", test_names);
	test_add("/segment-name/longest-fits", test_longest_fits);
	test_add("/segment-name/hostile", test_hostile);
	test_add("/segment-name/round-trip", test_round_trip);
	test_add("/segment-name/mutations", test_mutations);
	test_add("/segment-name/serves", test_serves);
	test_add("/segment-name/serves-as-warm", test_serves_as_warm);
	return g_test_run();
}
