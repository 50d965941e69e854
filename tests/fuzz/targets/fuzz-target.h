/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. Each target is one file with libFuzzer's entry point. It is linked twice: with libFuzzer
 * (meson's fuzz_targets=true), and with replay.c, which only feeds it the files of its corpus.
 *
 * A target may be called any number of times, and leaves nothing behind. What must hold it checks with g_assert_...
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Called once, by libFuzzer only. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The input as one string with its end (g_free): in a block of its own, so that a read behind it is seen. */
char *fuzz_text(const uint8_t *data, size_t size);

/* Fixed-size pieces, cut off the front of an input. */
typedef struct FuzzInput {
	const uint8_t *data;
	size_t size;
} FuzzInput;

/* Fills `piece` with zeroes behind the input's end; false if nothing was left. */
bool fuzz_take(FuzzInput *input, void *piece, size_t size);
uint8_t fuzz_take_byte(FuzzInput *input);

/* Failing and saying why go together, and what is said is one line. Clears the error. */
void fuzz_check_error(bool ok, GError **error);

/* A log that checks its lines and forgets them. */
extern const Log fuzz_log;

/* An empty directory on a tmpfs: below WARMFS_FUZZ_DIR, or /dev/shm. fuzz_dir_remove removes all in it, and frees. */
char *fuzz_dir_new(void);
void fuzz_dir_remove(char *path);
