// SPDX-License-Identifier: Apache-2.0
/*
 * A pattern is compiled to tokens, and the tokens are a nondeterministic automaton: to be in state
 * i is to expect token i next, and the state after the last token accepts. Matching follows all
 * states at once, so no pattern makes it slower than (bytes of the path) x (tokens). Two patterns
 * overlap if the search over pairs of their states finds a way to both ends.
 */
#include "alloc/glob.h"

#include <stdint.h>
#include <string.h>

/* A set of bytes, or of states: each token comes from a byte of the pattern or more, so there are
 * few. */
typedef struct BitSet {
	uint64_t words[4];
} BitSet;

G_STATIC_ASSERT(GLOB_MAX_LENGTH + 1 <= 256);

typedef enum TokenKind {
	/* Takes one of `bytes`. */
	TOKEN_KIND_ONE,
	/* Takes any number of `bytes`. */
	TOKEN_KIND_LOOP,
	/* Takes nothing; the `skip` tokens behind it may be left out. */
	TOKEN_KIND_SKIP,
} TokenKind;

typedef struct Token {
	TokenKind kind;
	unsigned skip;
	BitSet bytes;
} Token;

struct Glob {
	char *pattern;
	unsigned count;
	Token tokens[];
};

static void bit_set_add(BitSet *set, unsigned bit)
{
	set->words[bit / 64] |= UINT64_C(1) << bit % 64;
}

static void bit_set_remove(BitSet *set, unsigned bit)
{
	set->words[bit / 64] &= ~(UINT64_C(1) << bit % 64);
}

static bool bit_set_has(const BitSet *set, unsigned bit)
{
	return set->words[bit / 64] >> bit % 64 & 1;
}

static bool bit_set_is_empty(const BitSet *set)
{
	return !(set->words[0] | set->words[1] | set->words[2] | set->words[3]);
}

static void bit_set_invert(BitSet *set)
{
	for (unsigned i = 0; i < 4; i++)
		set->words[i] = ~set->words[i];
}

static BitSet bit_set_common(const BitSet *a, const BitSet *b)
{
	BitSet common;

	for (unsigned i = 0; i < 4; i++)
		common.words[i] = a->words[i] & b->words[i];
	return common;
}

/* Every byte a path can hold, or every one but the slash. */
static BitSet any_byte(bool slash)
{
	BitSet bytes = { 0 };

	bit_set_add(&bytes, '\0');
	if (!slash)
		bit_set_add(&bytes, '/');
	bit_set_invert(&bytes);
	return bytes;
}

/* Always NULL, so that a parser can return it. */
static const char *refuse(GError **error, const char *why)
{
	g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, why);
	return NULL;
}

static void glob_append(Glob *glob, TokenKind kind, BitSet bytes)
{
	glob->tokens[glob->count++] = (Token){ .kind = kind, .bytes = bytes };
}

static void glob_append_byte(Glob *glob, uint8_t byte)
{
	BitSet bytes = { 0 };

	bit_set_add(&bytes, byte);
	glob_append(glob, TOKEN_KIND_ONE, bytes);
}

/* Whether what comes next is the first byte of a name. */
static bool glob_at_name(const Glob *glob)
{
	const Token *last;

	if (glob->count == 0)
		return true;
	last = &glob->tokens[glob->count - 1];
	return last->kind == TOKEN_KIND_ONE && bit_set_has(&last->bytes, '/');
}

/* The parsers below take the place they start at, and return the place behind what they took. */

static const char *compile_stars(Glob *glob, const char *at)
{
	size_t stars = strspn(at, "*");

	at += stars;
	if (stars > 1 && *at == '/' && glob_at_name(glob)) {
		glob_append(glob, TOKEN_KIND_SKIP, (BitSet){ 0 });
		glob->tokens[glob->count - 1].skip = 2;
		glob_append(glob, TOKEN_KIND_LOOP, any_byte(true));
		glob_append_byte(glob, '/');
		return at + 1;
	}
	glob_append(glob, TOKEN_KIND_LOOP, any_byte(stars > 1));
	return at;
}

static const char *compile_any(Glob *glob, const char *at)
{
	glob_append(glob, TOKEN_KIND_ONE, any_byte(false));
	return at + 1;
}

static const char *compile_set_byte(const char *at, uint8_t *ret_byte, GError **error)
{
	if (*at == '[' && at[1] && strchr(":.=", at[1]))
		return refuse(error, "[: or [. or [= inside a set; write \\[ for a [");
	if (*at == '\\')
		at++;
	if (!*at)
		return refuse(error, "a [ without its ]");
	if (*at == '/')
		return refuse(error, "a slash inside a set");
	*ret_byte = (uint8_t)*at;
	return at + 1;
}

static const char *compile_set(Glob *glob, const char *at, GError **error)
{
	bool negated = at[1] == '!' || at[1] == '^';
	BitSet bytes = { 0 };

	at += negated ? 2 : 1;
	/* The first byte is tested after it was taken, so `[]a]` holds a `]`. */
	do {
		uint8_t low = 0, high;

		at = compile_set_byte(at, &low, error);
		if (!at)
			return NULL;
		high = low;
		if (at[0] == '-' && at[1] != ']')
			at = compile_set_byte(at + 1, &high, error);
		if (!at)
			return NULL;
		if (high < low)
			return refuse(error, "a range that runs backwards");
		for (unsigned byte = low; byte <= high; byte++)
			bit_set_add(&bytes, byte);
	} while (*at != ']');
	if (negated)
		bit_set_invert(&bytes);
	bit_set_remove(&bytes, '\0');
	bit_set_remove(&bytes, '/');
	glob_append(glob, TOKEN_KIND_ONE, bytes);
	return at + 1;
}

static const char *compile_byte(Glob *glob, const char *at, GError **error)
{
	if (*at == '\\')
		at++;
	if (!*at)
		return refuse(error, "a backslash at the end");
	if (*at == '/' && glob->count == 0)
		return refuse(error, "a slash at the start");
	if (*at == '/' && glob_at_name(glob))
		return refuse(error, "two slashes in a row");
	glob_append_byte(glob, (uint8_t)*at);
	return at + 1;
}

static bool glob_compile(Glob *glob, GError **error)
{
	const char *at = glob->pattern;

	while (*at) {
		if (*at == '*')
			at = compile_stars(glob, at);
		else if (*at == '[')
			at = compile_set(glob, at, error);
		else if (*at == '?')
			at = compile_any(glob, at);
		else
			at = compile_byte(glob, at, error);
		if (!at)
			return false;
	}
	if (glob_at_name(glob)) {
		refuse(error, "a slash at the end");
		return false;
	}
	return true;
}

Glob *glob_new(const char *pattern, GError **error)
{
	size_t length = strlen(pattern);
	g_autoptr(Glob) glob = NULL;

	if (length == 0)
		refuse(error, "an empty pattern");
	if (length > GLOB_MAX_LENGTH)
		refuse(error, "longer than " G_STRINGIFY(GLOB_MAX_LENGTH) " bytes");
	if (length == 0 || length > GLOB_MAX_LENGTH)
		return NULL;
	glob = g_malloc0(sizeof(Glob) + length * sizeof(Token));
	glob->pattern = g_strdup(pattern);
	if (!glob_compile(glob, error))
		return NULL;
	return g_steal_pointer(&glob);
}

Glob *glob_free(Glob *glob)
{
	if (glob)
		g_free(glob->pattern);
	g_free(glob);
	return NULL;
}

const char *glob_pattern(const Glob *glob)
{
	return glob->pattern;
}

/* Adds the states reached without taking a byte. All are later ones: one ascending pass does. */
static void glob_close(const Glob *glob, BitSet *states)
{
	for (unsigned i = 0; i < glob->count; i++) {
		const Token *token = &glob->tokens[i];

		if (token->kind == TOKEN_KIND_ONE || !bit_set_has(states, i))
			continue;
		bit_set_add(states, i + 1);
		if (token->kind == TOKEN_KIND_SKIP)
			bit_set_add(states, i + 1 + token->skip);
	}
}

static BitSet glob_step(const Glob *glob, const BitSet *states, uint8_t byte)
{
	BitSet next = { 0 };

	/* A SKIP has no bytes, so it is never left this way. */
	for (unsigned i = 0; i < glob->count; i++)
		if (bit_set_has(states, i) && bit_set_has(&glob->tokens[i].bytes, byte))
			bit_set_add(&next, glob->tokens[i].kind == TOKEN_KIND_ONE ? i + 1 : i);
	glob_close(glob, &next);
	return next;
}

bool glob_match(const Glob *glob, const char *path)
{
	BitSet states = { 0 };

	bit_set_add(&states, 0);
	glob_close(glob, &states);
	for (; *path; path++) {
		if (bit_set_is_empty(&states))
			return false;
		states = glob_step(glob, &states, (uint8_t)*path);
	}
	return bit_set_has(&states, glob->count);
}

/*
 * The breadth-first search of glob_overlaps. It need not look after clean paths: where a common
 * string has an empty name, a star of either pattern stands there (glob_compile refuses the rest),
 * and both take a name.
 */
typedef struct Place {
	unsigned a, b;
} Place;

typedef struct Search {
	const Glob *a, *b;
	uint8_t *seen;
	Place *queue;
	size_t head, tail;
} Search;

static void search_push(Search *search, unsigned a, unsigned b)
{
	size_t index = (size_t)a * (search->b->count + 1) + b;

	if (search->seen[index])
		return;
	search->seen[index] = 1;
	search->queue[search->tail++] = (Place){ a, b };
}

static void search_visit(Search *search, Place at)
{
	static const Token END = { .kind = TOKEN_KIND_ONE };
	const Token *a = at.a < search->a->count ? &search->a->tokens[at.a] : &END;
	const Token *b = at.b < search->b->count ? &search->b->tokens[at.b] : &END;
	BitSet common = bit_set_common(&a->bytes, &b->bytes);

	/* A LOOP leaves out nothing but itself: its `skip` is 0. */
	if (a->kind != TOKEN_KIND_ONE) {
		search_push(search, at.a + 1, at.b);
		search_push(search, at.a + 1 + a->skip, at.b);
	}
	if (b->kind != TOKEN_KIND_ONE) {
		search_push(search, at.a, at.b + 1);
		search_push(search, at.a, at.b + 1 + b->skip);
	}
	if (!bit_set_is_empty(&common))
		search_push(search, at.a + (a->kind == TOKEN_KIND_ONE),
			    at.b + (b->kind == TOKEN_KIND_ONE));
}

bool glob_overlaps(const Glob *a, const Glob *b)
{
	size_t places = (size_t)(a->count + 1) * (b->count + 1);
	g_autofree uint8_t *seen = g_new0(uint8_t, places);
	g_autofree Place *queue = g_new(Place, places);
	Search search = { .a = a, .b = b, .seen = seen, .queue = queue };

	search_push(&search, 0, 0);
	while (search.head < search.tail && !seen[places - 1])
		search_visit(&search, queue[search.head++]);
	return seen[places - 1];
}
