// SPDX-License-Identifier: Apache-2.0
#include "alloc/data-sum.h"

#include <errno.h>
#include <string.h>

#include <glib.h>

#include "alloc/mix.h"

#define BLOCK_WORDS 8
#define BLOCK_BYTES (BLOCK_WORDS * DATA_SUM_WORD_BYTES)
#define CHUNK_BYTES ((size_t)4096)

/* Odd, so that no two places have the same. */
static uint64_t key_of_place(uint64_t at)
{
	return (at + 1) * UINT64_C(0x9fb21c651e98df25);
}

static uint64_t sum_of_word(uint64_t word, uint64_t at)
{
	return word ? mix(key_of_place(at), word) : 0;
}

static uint64_t sum_of_block(const char *bytes, uint64_t at)
{
	uint64_t words[BLOCK_WORDS], any = 0, sum = 0;

	memcpy(words, bytes, sizeof(words));
	for (size_t i = 0; i < BLOCK_WORDS; i++)
		any |= words[i];
	if (any)
		for (size_t i = 0; i < BLOCK_WORDS; i++)
			sum += sum_of_word(words[i], at + i * sizeof(words[i]));
	return sum;
}

uint64_t data_sum(const void *bytes, size_t size, uint64_t at)
{
	const char *next = bytes;
	uint64_t sum = 0;

	for (; size >= BLOCK_BYTES; next += BLOCK_BYTES, at += BLOCK_BYTES, size -= BLOCK_BYTES)
		sum += sum_of_block(next, at);
	while (size > 0) {
		size_t n = MIN(size, DATA_SUM_WORD_BYTES);
		uint64_t word = 0;

		memcpy(&word, next, n);
		sum += sum_of_word(word, at);
		next += n;
		at += n;
		size -= n;
	}
	return sum;
}

int data_sum_of_file(const Sys *sys, int fd, uint64_t start, uint64_t end, uint64_t *ret_sum)
{
	char chunk[CHUNK_BYTES];
	uint64_t sum = 0;

	for (uint64_t at = 0; start + at < end; at += CHUNK_BYTES) {
		size_t size = MIN(CHUNK_BYTES, end - start - at);
		int r = sys_read_fully(sys, fd, chunk, size, start + at);

		if (r < 0)
			return r;
		sum += data_sum(chunk, size, at);
	}
	*ret_sum = sum;
	return 0;
}
