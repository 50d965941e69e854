/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that all processes write at the same time. In one, every process has stripes of its own, and must find there what
 * it put there, whatever the others do beside them. To the other one all append records: each must be whole, where its
 * writer's position says, and those of one process in their order.
 */
#pragma once

#include "stress/worker.h"

typedef struct SharedFile {
	Worker *worker;
	char striped_name[32], log_name[32];
	int striped_fd, log_fd;
	uint8_t *map;
	/* Of the whole file; only the bytes in the own stripes count. */
	uint8_t *model;
	size_t size;
	uint64_t n_records;
	off_t last_record_end;
} SharedFile;

/* Before there are other processes. */
void shared_file_create(Worker *worker, const FileKind *kind);
void shared_file_init(SharedFile *file, Worker *worker, const FileKind *kind);
void shared_file_step(SharedFile *file);
/* Checks the own stripes and closes. Returns how many records this process has appended. */
uint64_t shared_file_end(SharedFile *file);
/* After all: each process has appended so many. */
void shared_file_check_log(Worker *worker, const FileKind *kind, const uint64_t *n_records);
