// SPDX-License-Identifier: Apache-2.0
/*
 * A live table with hostile bytes: a byte of Flags, the header unless that is sealed, then records. What is sealed gets
 * the right magic numbers and checks, so that what is behind those is reached.
 */
#include "alloc/live-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "alloc/boot-id.h"
#include "alloc/mix.h"
#include "alloc/segment-name.h"
#include "tests/fuzz/targets/fuzz-target.h"

/* The file's format. */
#define HEADER_BYTES 4096
#define RECORD_BYTES 512
#define TABLE_BYTES  (HEADER_BYTES + LIVE_TABLE_RECORDS * RECORD_BYTES)
#define HEADER_MAGIC UINT64_C(0x31656c626174776d)
#define RECORD_MAGIC UINT64_C(0x3264726f6365726d)
#define NEW_BYTES    (UINT64_C(1) << 20)
#define NEW_LENGTH   4711

enum Flags {
	SEAL_HEADER = 1,
	SEAL_HEADS = 2,
	SEAL_SLOTS = 4,
	THIS_BOOT = 8,
};

typedef struct Header {
	uint64_t magic;
	uint64_t n_records;
	uint64_t record_bytes;
	uint64_t check;
} Header;

typedef struct Slot {
	uint64_t sequence;
	uint64_t length;
	uint64_t check;
} Slot;

typedef struct Record {
	uint64_t magic;
	uint64_t capacity_bytes;
	uint64_t mount_id;
	char boot_id[40];
	char name[SEGMENT_NAME_SIZE];
	uint64_t check;
	Slot slots[2];
} Record;

static void put_header(int fd, unsigned flags, FuzzInput *input)
{
	Header header = { HEADER_MAGIC, LIVE_TABLE_RECORDS, RECORD_BYTES, 0 };

	if (flags & SEAL_HEADER)
		header.check = mix_bytes(&header, offsetof(Header, check));
	else
		fuzz_take(input, &header, sizeof(header));
	g_assert_cmpint(pwrite(fd, &header, sizeof(header), 0), ==, sizeof(header));
}

static void seal(Record *record, unsigned flags)
{
	g_autofree char *boot_id = boot_id_read();

	if (flags & THIS_BOOT)
		g_strlcpy(record->boot_id, boot_id ? boot_id : "", sizeof(record->boot_id));
	if (flags & SEAL_HEADS) {
		record->magic = RECORD_MAGIC;
		record->check = mix_bytes(record, offsetof(Record, check));
	}
	for (size_t i = 0; flags & SEAL_SLOTS && i < 2; i++) {
		Slot *slot = &record->slots[i];

		slot->check = mix(mix(record->check, slot->sequence), slot->length);
	}
}

/* Returns their names, each once (g_free). */
static GPtrArray *put_records(int fd, unsigned flags, FuzzInput *input)
{
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	Record record;

	for (unsigned i = 0; i < LIVE_TABLE_RECORDS && fuzz_take(input, &record, sizeof(record)); i++) {
		seal(&record, flags);
		g_assert_cmpint(pwrite(fd, &record, sizeof(record), HEADER_BYTES + i * RECORD_BYTES), ==,
				sizeof(record));
		g_ptr_array_add(names, g_strndup(record.name, sizeof(record.name)));
	}
	return names;
}

static GPtrArray *make_file(int dir_fd, FuzzInput *input)
{
	unsigned flags = fuzz_take_byte(input);
	int fd = openat(dir_fd, LIVE_TABLE_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	GPtrArray *names;

	g_assert_cmpint(ftruncate(fd, TABLE_BYTES), ==, 0);
	put_header(fd, flags, input);
	names = put_records(fd, flags, input);
	close(fd);
	return names;
}

/* What is believed is at least possible. */
static void check_found(LiveTable *table, const char *name)
{
	SegmentNameParts parts;
	LiveEntry entry;

	if (live_table_find(table, name, &entry) < 0)
		return;
	g_assert_cmpstr(entry.name, ==, name);
	g_assert_cmpint(segment_name_parse(name, &parts), ==, SEGMENT_NAME_READY);
	g_assert_cmpuint(parts.size_bytes, ==, entry.capacity_bytes);
	g_assert_true(entry.has_length || entry.length == 0);
	g_assert_true(entry.same_boot || !entry.same_mount);
}

/* It works among them as among others. */
static void use(LiveTable *table, const char *name)
{
	LiveEntry entry;
	int index;

	if (live_table_find(table, name, &entry) >= 0)
		return;
	index = live_table_add(table, name, NEW_BYTES);
	g_assert_cmpint(index, >=, 0);
	live_table_set_length(table, index, NEW_LENGTH);
	g_assert_cmpint(live_table_find(table, name, &entry), ==, index);
	g_assert_cmpuint(entry.length, ==, NEW_LENGTH);
	live_table_remove(table, index);
	g_assert_cmpint(live_table_find(table, name, &entry), ==, -ENOENT);
}

static void check_table(LiveTable *table, const GPtrArray *names)
{
	for (unsigned i = 0; i < names->len; i++)
		check_found(table, names->pdata[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput input = { data, size };
	char *path = fuzz_dir_new();
	int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_autoptr(GPtrArray) names = make_file(dir_fd, &input);
	GError *error = NULL;
	LiveTable *table = live_table_open_to_look(dir_fd, &error);

	fuzz_check_error(table, &error);
	if (table)
		check_table(table, names);
	live_table_close(table);
	table = live_table_open(dir_fd, &fuzz_log, &error);
	g_assert_no_error(error);
	check_table(table, names);
	use(table, "ready-append-1048576-65536-0123456789abcdef");
	live_table_clear(table);
	live_table_close(table);
	close(dir_fd);
	fuzz_dir_remove(path);
	return 0;
}
