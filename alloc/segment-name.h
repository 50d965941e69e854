/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in the pool directory. A ready one says everything that decides whether it may serve a class:
 * `ready-KIND-SIZE-FOLIO-SERIAL`, with 0 for the folio where nothing was written ahead; one that is being made is `warming-SERIAL`, and one
 * that an application has removed, to be used again, `recycled-SERIAL`. Numbers are
 * decimal, the serial is 16 hex digits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "alloc/segment.h"

typedef enum SegmentNameType {
	SEGMENT_NAME_WARMING,
	SEGMENT_NAME_READY,
	SEGMENT_NAME_RECYCLED,
	/* Not a name that warmfs gives. */
	SEGMENT_NAME_FOREIGN,
} SegmentNameType;

typedef struct SegmentNameParts {
	SegmentKind kind;
	uint64_t size_bytes;
	uint64_t folio_bytes;
	uint64_t serial;
} SegmentNameParts;

void segment_name_warming(char name[SEGMENT_NAME_SIZE], uint64_t serial);
void segment_name_recycled(char name[SEGMENT_NAME_SIZE], uint64_t serial);
void segment_name_ready(char name[SEGMENT_NAME_SIZE], const SegmentClass *class, uint64_t serial);

/* Strict: only what the functions above write is not foreign. Fills ret_parts for
 * SEGMENT_NAME_READY, and its serial for the others. */
SegmentNameType segment_name_parse(const char *name, SegmentNameParts *ret_parts);

/* Whether a ready segment of that name can serve the class. */
bool segment_name_serves(const SegmentNameParts *parts, const SegmentClass *class);
