/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process of the exerciser: what it was told, its dice, and the last things that it did, to be shown when
 * something is wrong.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE_BYTES 4096
#define MAX_IO_BYTES ((size_t)128 * 1024)
#define MAX_KINDS 8
#define SHOWN_LINES 24
#define LINE_BYTES 160

/* What a new file is when its name ends so: so long, all zeroes. */
typedef struct FileKind {
	const char *suffix;
	off_t born_bytes;
} FileKind;

typedef struct Setup {
	const char *directory;
	int dir_fd;
	FileKind kinds[MAX_KINDS];
	unsigned n_kinds;
	unsigned n_workers;
	uint64_t seed;
	unsigned seconds;
	/* copy_file_range may be EINVAL. */
	bool copy_is_refused;
	/* Shared between all processes: one has found a fault. */
	atomic_bool *stop;
} Setup;

typedef struct Worker {
	const Setup *setup;
	unsigned number;
	uint64_t random;
	uint64_t n_ops;
	/* MAX_IO_BYTES each, page-aligned. */
	uint8_t *out, *in;
	char lines[SHOWN_LINES][LINE_BYTES];
	uint64_t n_lines;
} Worker;

void worker_init(Worker *worker, const Setup *setup, unsigned number);

uint64_t worker_below(Worker *worker, uint64_t bound);
bool worker_chance(Worker *worker, unsigned percent);
/* Mostly small, at most MAX_IO_BYTES, never 0. */
size_t worker_length(Worker *worker);
/* Random bytes in `out`. */
void worker_fill(Worker *worker, size_t length);
const FileKind *worker_kind(Worker *worker);

/* Before it is done. */
void worker_note(Worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Shows what was wrong and what came before it, and ends all. */
_Noreturn void worker_fault(Worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same if what a system call returned is an error. */
ssize_t worker_must(Worker *worker, ssize_t result, const char *call);

/* A fault if `seen` is not `wanted`; both are what is at `offset` of a file. */
void worker_compare(Worker *worker, const char *how, off_t offset, const uint8_t *seen, const uint8_t *wanted,
		    size_t length);
