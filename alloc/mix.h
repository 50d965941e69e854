/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check of what warmfs writes for a later daemon to read: against torn writes and chance, not
 * against an adversary. Every step is a bijection of both arguments: a change in one word is never
 * missed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MIX_START UINT64_C(0x31656c626174776d)

static inline uint64_t mix(uint64_t state, uint64_t word)
{
	state ^= word;
	state = (state ^ (state >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	state = (state ^ (state >> 29)) * UINT64_C(0x9e3779b97f4a7c15);
	return state ^ (state >> 32);
}

/* `length` is a multiple of eight. */
static inline uint64_t mix_bytes(const void *bytes, size_t length)
{
	uint64_t state = MIX_START + length;
	uint64_t word;

	for (size_t at = 0; at < length; at += sizeof(word)) {
		memcpy(&word, (const char *)bytes + at, sizeof(word));
		state = mix(state, word);
	}
	return state;
}
