// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-class.h"

#include <errno.h>
#include <string.h>

#include "alloc/byte-size.h"
#include "alloc/option-error.h"

/* A whole T below what off_t holds: sums with offsets and rounding up never overflow it. */
#define SIZE_MAX_BYTES ((UINT64_C(8388607)) << 40)
#define SIZE_ALLOWED "a number of bytes, or one with K, M, G or T, from 1 to 8388607T"
#define AHEAD_MAX	64
#define TIMEOUT_MAX_MS	(60 * 60 * 1000)
#define FOLIO_MIN_BYTES (4 * 1024)
/* The largest folio of the page cache: what one entry of a page table's middle level maps. */
#define FOLIO_MAX_BYTES (2 * 1024 * 1024)

/* Pages of any size, and of all of them still no more bytes than off_t holds. */
#define FLUSH_MAX_PAGES (16 * 1024 * 1024)

#define PROVIDER_MAX_BYTES 64
#define PROVIDER_BUILT_IN  "file"

#define DEFAULT_AHEAD	    2
#define DEFAULT_MAX_AHEAD   8
#define DEFAULT_TIMEOUT_MS  5000
#define DEFAULT_LINGER_MS   10000
#define DEFAULT_FOLIO_BYTES (64 * 1024)
#define DEFAULT_SLOW_MS	    10
#define DEFAULT_FLUSH_PAGES 4096
#define DEFAULT_LOCK_ACTIVE 2

#define SWITCH_ALLOWED "on or off"

/* As in RocketMQ. */
#define DEFAULT_TRANSIENT_POOL_SIZE 5
#define DEFAULT_COMMIT_INTERVAL_MS  200
#define DEFAULT_FLUSH_INTERVAL_MS   500
#define DEFAULT_LEAST_PAGES	    4
#define TRANSIENT_POOL_SIZE_MAX	    64
#define LEAST_PAGES_MAX		    (1024 * 1024)

/* How many bytes of a wrong value an error repeats. */
#define QUOTED_MAX_BYTES 256
/* An unknown key is taken for a misspelled one up to this many changed bytes. */
#define SUGGEST_MAX_DISTANCE 2

static const char *const KIND_NAMES[_SEGMENT_KIND_MAX] = {
	[SEGMENT_KIND_MAPPED] = "mapped",
	[SEGMENT_KIND_APPEND] = "append",
	[SEGMENT_KIND_STREAM] = "stream",
};

const char *segment_kind_to_string(SegmentKind kind)
{
	if (kind < 0 || kind >= _SEGMENT_KIND_MAX)
		return NULL;
	return KIND_NAMES[kind];
}

SegmentKind segment_kind_from_string(const char *name)
{
	for (int kind = 0; kind < _SEGMENT_KIND_MAX; kind++)
		if (strcmp(KIND_NAMES[kind], name) == 0)
			return (SegmentKind)kind;
	return _SEGMENT_KIND_INVALID;
}

SegmentClass *segment_class_new(const char *name)
{
	SegmentClass *class = g_new(SegmentClass, 1);

	*class = (SegmentClass){
		.name = g_strdup(name),
		.kind = SEGMENT_KIND_MAPPED,
		.ahead = DEFAULT_AHEAD,
		.max_ahead = DEFAULT_MAX_AHEAD,
		.timeout_ms = DEFAULT_TIMEOUT_MS,
		.folio_bytes = DEFAULT_FOLIO_BYTES,
		.warm = true,
		.flush_least_pages = DEFAULT_FLUSH_PAGES,
		.lock_active = DEFAULT_LOCK_ACTIVE,
		.linger_ms = DEFAULT_LINGER_MS,
		.slow_ms = DEFAULT_SLOW_MS,
		.transient_pool_size = DEFAULT_TRANSIENT_POOL_SIZE,
		.commit_interval_ms = DEFAULT_COMMIT_INTERVAL_MS,
		.commit_least_pages = DEFAULT_LEAST_PAGES,
		.flush_interval_ms = DEFAULT_FLUSH_INTERVAL_MS,
		.transient_flush_least_pages = DEFAULT_LEAST_PAGES,
		.recycle = true,
		.given = given_options_new(),
	};
	return class;
}

SegmentClass *segment_class_free(SegmentClass *class)
{
	if (!class)
		return NULL;
	g_free(class->name);
	glob_free(class->match);
	g_free(class->provider);
	g_clear_pointer(&class->given, g_hash_table_unref);
	g_free(class);
	return NULL;
}

/*
 * Setters. Each returns NULL, or what is wrong with the value (free with g_free) and leaves the
 * class as it was.
 */
typedef char *(*SetOption)(SegmentClass *class, const char *value);

static char *set_match(SegmentClass *class, const char *value)
{
	g_autoptr(GError) error = NULL;
	Glob *glob = glob_new(value, &error);

	if (!glob)
		return g_strdup(error->message);
	glob_free(class->match);
	class->match = glob;
	return NULL;
}

static char *parse_bytes(const char *value, uint64_t min, uint64_t max, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int r = byte_size_parse(value, &bytes);

	if (r == -EINVAL)
		return g_strdup("not a size");
	if (r < 0 || bytes > max)
		return g_strdup("too large");
	if (bytes < min)
		return g_strdup("too small");
	*ret_bytes = bytes;
	return NULL;
}

static char *set_size(SegmentClass *class, const char *value)
{
	return parse_bytes(value, 1, SIZE_MAX_BYTES, &class->size_bytes);
}

static char *set_quota(SegmentClass *class, const char *value)
{
	uint64_t bytes = 0;
	char *wrong = strcmp(value, "none") == 0 ? NULL : parse_bytes(value, 1, SIZE_MAX_BYTES, &bytes);

	if (!wrong)
		class->quota_bytes = bytes;
	return wrong;
}

static char *set_folio(SegmentClass *class, const char *value)
{
	uint64_t bytes = 0;
	char *wrong = parse_bytes(value, FOLIO_MIN_BYTES, FOLIO_MAX_BYTES, &bytes);

	if (wrong)
		return wrong;
	if (bytes & (bytes - 1))
		return g_strdup("not a power of two");
	class->folio_bytes = bytes;
	return NULL;
}

static char *parse_switch(const char *value, const char *on, const char *off, const char *wrong, bool *ret_on)
{
	bool is_on = strcmp(value, on) == 0;

	if (!is_on && strcmp(value, off) != 0)
		return g_strdup(wrong);
	*ret_on = is_on;
	return NULL;
}

static char *set_warm(SegmentClass *class, const char *value)
{
	return parse_switch(value, "on", "off", "not a switch", &class->warm);
}

static char *set_warm_min_size(SegmentClass *class, const char *value)
{
	return parse_bytes(value, 0, SIZE_MAX_BYTES, &class->warm_min_bytes);
}

static char *set_flush(SegmentClass *class, const char *value)
{
	bool on = false;
	char *wrong = parse_switch(value, "async", "sync", "not a way to flush", &on);

	if (!wrong)
		class->flush_async = on;
	return wrong;
}

static char *take_switch(const char *value, atomic_bool *ret_on)
{
	bool on = false;
	char *wrong = parse_switch(value, "on", "off", "not a switch", &on);

	if (!wrong)
		*ret_on = on;
	return wrong;
}

static char *set_lock(SegmentClass *class, const char *value)
{
	return take_switch(value, &class->lock);
}

static char *set_recycle(SegmentClass *class, const char *value)
{
	return take_switch(value, &class->recycle);
}

static char *set_kind(SegmentClass *class, const char *value)
{
	SegmentKind kind = segment_kind_from_string(value);

	if (kind == _SEGMENT_KIND_INVALID)
		return g_strdup("not a kind");
	class->kind = kind;
	return NULL;
}

static char *parse_number(const char *digits, uint64_t min, uint64_t max, unsigned *ret_number)
{
	g_autoptr(GError) error = NULL;
	uint64_t number;

	if (g_ascii_string_to_unsigned(digits, 10, min, max, &number, &error)) {
		*ret_number = (unsigned)number;
		return NULL;
	}
	if (error->code == G_NUMBER_PARSER_ERROR_INVALID)
		return g_strdup("not a whole number");
	return g_strdup("out of range");
}

static char *take_number(const char *digits, uint64_t min, uint64_t max, atomic_uint *ret_number)
{
	unsigned number = 0;
	char *wrong = parse_number(digits, min, max, &number);

	if (!wrong)
		*ret_number = number;
	return wrong;
}

static char *set_lock_active(SegmentClass *class, const char *value)
{
	return take_number(value, 0, AHEAD_MAX, &class->lock_active);
}

static char *set_flush_least_pages(SegmentClass *class, const char *value)
{
	unsigned number = 0;
	char *wrong = parse_number(value, 1, FLUSH_MAX_PAGES, &number);

	if (!wrong)
		class->flush_least_pages = number;
	return wrong;
}

static char *set_ahead(SegmentClass *class, const char *value)
{
	bool is_auto = strcmp(value, "auto") == 0;
	unsigned ahead = DEFAULT_AHEAD;
	char *wrong = is_auto ? NULL : parse_number(value, 0, AHEAD_MAX, &ahead);

	if (wrong)
		return wrong;
	class->ahead = ahead;
	class->ahead_auto = is_auto;
	return NULL;
}

static char *set_max_ahead(SegmentClass *class, const char *value)
{
	unsigned number = 0;
	char *wrong = parse_number(value, 1, AHEAD_MAX, &number);

	if (!wrong)
		class->max_ahead = number;
	return wrong;
}

static char *take_time(const char *value, unsigned min_ms, atomic_uint *ret_ms)
{
	size_t length = strspn(value, "0123456789");
	g_autofree char *digits = g_strndup(value, length);
	const char *unit = value + length;
	unsigned factor_ms, number = 0;
	char *wrong;

	if (*unit == '\0' || strcmp(unit, "ms") == 0)
		factor_ms = 1;
	else if (strcmp(unit, "s") == 0)
		factor_ms = 1000;
	else
		return g_strdup("not a time");
	wrong = parse_number(digits, min_ms, TIMEOUT_MAX_MS / factor_ms, &number);
	if (wrong)
		return wrong;
	*ret_ms = number * factor_ms;
	return NULL;
}

static char *set_timeout(SegmentClass *class, const char *value)
{
	return take_time(value, 1, &class->timeout_ms);
}

static char *set_linger(SegmentClass *class, const char *value)
{
	return take_time(value, 0, &class->linger_ms);
}

static char *set_slow(SegmentClass *class, const char *value)
{
	return take_time(value, 0, &class->slow_ms);
}

static char *set_transient(SegmentClass *class, const char *value)
{
	return parse_switch(value, "on", "off", "not a switch", &class->transient);
}

static char *set_transient_pool_size(SegmentClass *class, const char *value)
{
	return parse_number(value, 1, TRANSIENT_POOL_SIZE_MAX, &class->transient_pool_size);
}

static char *set_fast_fail(SegmentClass *class, const char *value)
{
	return take_switch(value, &class->fast_fail);
}

static char *set_commit_interval(SegmentClass *class, const char *value)
{
	return take_time(value, 1, &class->commit_interval_ms);
}

static char *set_commit_least_pages(SegmentClass *class, const char *value)
{
	return take_number(value, 0, LEAST_PAGES_MAX, &class->commit_least_pages);
}

static char *set_flush_interval(SegmentClass *class, const char *value)
{
	return take_time(value, 1, &class->flush_interval_ms);
}

static char *set_transient_flush_least_pages(SegmentClass *class, const char *value)
{
	return take_number(value, 0, LEAST_PAGES_MAX, &class->transient_flush_least_pages);
}

static char *set_on_timeout(SegmentClass *class, const char *value)
{
	bool on = false;
	char *wrong = parse_switch(value, "fail", "cold", "not an action", &on);

	if (!wrong)
		class->fail_on_timeout = on;
	return wrong;
}

/* The name becomes part of a file's, so nothing in it leads out of the directory of providers. */
static char *set_provider(SegmentClass *class, const char *value)
{
	size_t length = strspn(value, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_");

	if (length == 0 || length > PROVIDER_MAX_BYTES || value[length])
		return g_strdup("not a provider's name");
	g_free(class->provider);
	class->provider = strcmp(value, PROVIDER_BUILT_IN) == 0 ? NULL : g_strdup(value);
	return NULL;
}

typedef struct ClassOption {
	const char *key;
	SetOption set;
	const char *allowed;
	/* As somebody would write it. NULL: there is none. */
	const char *fallback;
} ClassOption;

static const ClassOption OPTIONS[] = {
	{ "match", set_match, "a pattern for the path below the mount point, such as *.log, wal/* or **/*.log" },
	{ "size", set_size, SIZE_ALLOWED },
	{ "kind", set_kind, "mapped, append or stream", "mapped" },
	{ "ahead", set_ahead, "a number of segments from 0 to 64, or auto", "2" },
	{ "max_ahead", set_max_ahead, "a number of segments from 1 to 64", "8" },
	{ "timeout", set_timeout, "milliseconds, or a number with ms or s, from 1ms to 3600s", "5000" },
	{ "on_timeout", set_on_timeout, "cold or fail", "cold" },
	{ "folio", set_folio, "a power of two from 4K to 2M", "64K" },
	{ "warm", set_warm, SWITCH_ALLOWED, "on" },
	{ "warm_min_size", set_warm_min_size, "a number of bytes, or one with K, M, G or T, from 0 to 8388607T", "0" },
	{ "flush", set_flush, "sync or async", "sync" },
	{ "flush_least_pages", set_flush_least_pages, "a number of pages from 1 to 16777216", "4096" },
	{ "lock", set_lock, SWITCH_ALLOWED, "off" },
	{ "lock_active", set_lock_active, "a number of segments from 0 to 64", "2" },
	{ "linger", set_linger, "milliseconds, or a number with ms or s, from 0 to 3600s", "10000" },
	{ "quota", set_quota, SIZE_ALLOWED ", or none" },
	{ "slow_ms", set_slow, "milliseconds, or a number with ms or s, from 0 to 3600s", "10" },
	{ "transient", set_transient, SWITCH_ALLOWED, "off" },
	{ "transient_pool_size", set_transient_pool_size, "a number of buffers from 1 to 64", "5" },
	{ "fast_fail", set_fast_fail, SWITCH_ALLOWED, "off" },
	{ "commit_interval", set_commit_interval, "milliseconds, or a number with ms or s, from 1ms to 3600s", "200" },
	{ "commit_least_pages", set_commit_least_pages, "a number of pages from 0 to 1048576", "4" },
	{ "flush_interval", set_flush_interval, "milliseconds, or a number with ms or s, from 1ms to 3600s", "500" },
	{ "transient_flush_least_pages", set_transient_flush_least_pages, "a number of pages from 0 to 1048576", "4" },
	{ "recycle", set_recycle, SWITCH_ALLOWED, "on" },
	{ "provider", set_provider, "file, or a name of at most 64 letters, digits, - and _", "file" },
};

static const ClassOption *find_option(const char *key)
{
	for (size_t i = 0; i < G_N_ELEMENTS(OPTIONS); i++)
		if (strcmp(OPTIONS[i].key, key) == 0)
			return &OPTIONS[i];
	return NULL;
}

const char *segment_class_nth_key(size_t nth)
{
	return nth < G_N_ELEMENTS(OPTIONS) ? OPTIONS[nth].key : NULL;
}

const char *segment_class_value(const SegmentClass *class, const char *key, const char **ret_origin)
{
	const GivenOption *given = given_options_find(class->given, key);
	const ClassOption *option = find_option(key);

	*ret_origin = given ? given->origin : "default";
	if (given)
		return given->value;
	return option && option->fallback ? option->fallback : "";
}

const char *segment_class_allowed(const char *key)
{
	return find_option(key)->allowed;
}

bool segment_class_has_key(const char *key)
{
	return find_option(key);
}

/* As much of the text as an error repeats. */
static char *quoted(const char *text)
{
	if (strlen(text) <= QUOTED_MAX_BYTES)
		return g_strdup(text);
	return g_strdup_printf("%.*s...", QUOTED_MAX_BYTES, text);
}

/* Levenshtein's distance; SIZE_MAX where `b` is longer than any key. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t a_length = strlen(a), b_length = strlen(b);
	size_t row[32];

	if (b_length >= G_N_ELEMENTS(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t changed = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(changed, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_length];
}

static const char *closest_key(const char *key)
{
	const char *closest = NULL;
	size_t least = SUGGEST_MAX_DISTANCE + 1;

	for (size_t i = 0; i < G_N_ELEMENTS(OPTIONS); i++) {
		size_t distance = edit_distance(key, OPTIONS[i].key);

		if (distance < least) {
			least = distance;
			closest = OPTIONS[i].key;
		}
	}
	return closest;
}

static bool refuse_key(const char *key, const char *value, GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);
	g_autofree char *quoted_key = quoted(key);
	g_autofree char *quoted_value = quoted(value);
	const char *meant = closest_key(key);

	g_string_append_printf(text, "%s=%s: unknown key", quoted_key, quoted_value);
	if (meant)
		g_string_append_printf(text, ", did you mean %s?", meant);
	for (size_t i = 0; i < G_N_ELEMENTS(OPTIONS); i++)
		g_string_append_printf(text, "%s%s", i ? ", " : "; allowed: ", OPTIONS[i].key);
	return option_error_refuse(error, G_OPTION_ERROR_UNKNOWN_OPTION, "%s", text->str);
}

bool segment_class_set(SegmentClass *class, const char *key, const char *value, GError **error)
{
	return segment_class_set_from(class, key, value, GIVEN_BY_OPTION, error);
}

bool segment_class_set_from(SegmentClass *class, const char *key, const char *value, const char *origin,
			    GError **error)
{
	const ClassOption *option = find_option(key);
	g_autofree char *quoted_value = quoted(value);
	g_autofree char *wrong = NULL;

	if (!option)
		return refuse_key(key, value, error);
	wrong = option->set(class, value);
	if (!wrong) {
		if (class->given)
			given_options_note(class->given, key, value, origin);
		return true;
	}
	return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE, "%s=%s: %s; allowed: %s", key, quoted_value,
		      wrong, option->allowed);
}
