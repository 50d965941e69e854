// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void segment_name_warming(char name[SEGMENT_NAME_SIZE], uint64_t serial)
{
	snprintf(name, SEGMENT_NAME_SIZE, "warming-%016" PRIx64, serial);
}

void segment_name_recycled(char name[SEGMENT_NAME_SIZE], uint64_t serial)
{
	snprintf(name, SEGMENT_NAME_SIZE, "recycled-%016" PRIx64, serial);
}

static void ready_name(char name[SEGMENT_NAME_SIZE], const SegmentNameParts *parts)
{
	snprintf(name, SEGMENT_NAME_SIZE, "ready-%s-%" PRIu64 "-%" PRIu64 "-%016" PRIx64,
		 segment_kind_to_string(parts->kind), parts->size_bytes, parts->folio_bytes,
		 parts->serial);
}

/* A class that wants warm segments is not served by cold ones, nor the other way. */
static uint64_t folio_in_name(const SegmentClass *class)
{
	return segment_kind_is_full(class->kind) && !segment_class_is_warmed(class) ? 0 : class->folio_bytes;
}

void segment_name_ready(char name[SEGMENT_NAME_SIZE], const SegmentClass *class, uint64_t serial)
{
	SegmentNameParts parts = {
		.kind = class->kind,
		.size_bytes = class->size_bytes,
		.folio_bytes = folio_in_name(class),
		.serial = serial,
	};

	ready_name(name, &parts);
}

static bool parse_ready(const char *name, SegmentNameParts *ret_parts)
{
	char kind[16];

	if (sscanf(name, "ready-%15[a-z]-%" SCNu64 "-%" SCNu64 "-%" SCNx64, kind,
		   &ret_parts->size_bytes, &ret_parts->folio_bytes, &ret_parts->serial) != 4)
		return false;
	ret_parts->kind = segment_kind_from_string(kind);
	return ret_parts->kind != _SEGMENT_KIND_INVALID;
}

/* sscanf is lenient (signs, blanks, what follows): a name is ours if writing it again gives the same name. */
SegmentNameType segment_name_parse(const char *name, SegmentNameParts *ret_parts)
{
	SegmentNameParts parts = { .serial = 0 };
	char again[SEGMENT_NAME_SIZE];
	SegmentNameType type;

	if (sscanf(name, "warming-%" SCNx64, &parts.serial) == 1) {
		type = SEGMENT_NAME_WARMING;
		segment_name_warming(again, parts.serial);
	} else if (sscanf(name, "recycled-%" SCNx64, &parts.serial) == 1) {
		type = SEGMENT_NAME_RECYCLED;
		segment_name_recycled(again, parts.serial);
	} else if (parse_ready(name, &parts)) {
		type = SEGMENT_NAME_READY;
		ready_name(again, &parts);
	} else {
		return SEGMENT_NAME_FOREIGN;
	}
	if (strcmp(again, name) != 0)
		return SEGMENT_NAME_FOREIGN;
	*ret_parts = parts;
	return type;
}

bool segment_name_serves(const SegmentNameParts *parts, const SegmentClass *class)
{
	return parts->kind == class->kind && parts->size_bytes == class->size_bytes &&
	       parts->folio_bytes == folio_in_name(class);
}
