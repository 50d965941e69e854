// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/fake-provider.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

/* A cancel flag wakes nobody: a held preparation looks at it this often. */
#define CANCEL_POLL_NS ((int64_t)1000 * 1000)
#define PAGE_BYTES     4096

typedef struct FakeClass {
	bool held;
	unsigned permits;
	struct {
		unsigned entered, returned, succeeded;
		int error;
		unsigned fail_times;
	} calls[_FAKE_CALL_MAX];
} FakeClass;

struct FakeProvider {
	SegmentProvider base;
	Mutex lock;
	Cond changed;
	/* Protected by lock. FakeClass by SegmentClass; NULL is the key of what holds for all. */
	GHashTable *classes;
	GPtrArray *entered;
	GHashTable *alive;
	uint64_t limit_bytes;
	uint64_t used_bytes;
	bool with_pages;
	FakePrepareFunc func;
	void *func_arg;
};

static FakeProvider *fake_provider(SegmentProvider *base)
{
	return (FakeProvider *)base;
}

static FakeClass *get_class_locked(FakeProvider *provider, const SegmentClass *class)
{
	FakeClass *known = g_hash_table_lookup(provider->classes, class);

	if (!known) {
		known = g_new0(FakeClass, 1);
		g_hash_table_insert(provider->classes, (void *)class, known);
	}
	return known;
}

static void enter_locked(FakeProvider *provider, FakeCall call, const SegmentClass *class)
{
	get_class_locked(provider, class)->calls[call].entered++;
	get_class_locked(provider, NULL)->calls[call].entered++;
	if (call == FAKE_PREPARE)
		g_ptr_array_add(provider->entered, (void *)class);
	cond_broadcast(&provider->changed);
}

static int leave_locked(FakeProvider *provider, FakeCall call, const SegmentClass *class, int r)
{
	get_class_locked(provider, class)->calls[call].returned++;
	get_class_locked(provider, NULL)->calls[call].returned++;
	if (r == 0) {
		get_class_locked(provider, class)->calls[call].succeeded++;
		get_class_locked(provider, NULL)->calls[call].succeeded++;
	}
	cond_broadcast(&provider->changed);
	return r;
}

static bool pass_gate_locked(FakeClass *gate)
{
	if (!gate->held)
		return true;
	if (gate->permits == 0)
		return false;
	gate->permits--;
	return true;
}

static int pass_gates_locked(FakeProvider *provider, const SegmentClass *class,
			     const atomic_bool *cancel)
{
	while (!pass_gate_locked(get_class_locked(provider, class))) {
		if (atomic_load(cancel))
			return -ECANCELED;
		cond_wait_until(&provider->changed, &provider->lock,
				monotonic_ns() + CANCEL_POLL_NS);
	}
	while (!pass_gate_locked(get_class_locked(provider, NULL))) {
		if (atomic_load(cancel))
			return -ECANCELED;
		cond_wait_until(&provider->changed, &provider->lock,
				monotonic_ns() + CANCEL_POLL_NS);
	}
	return 0;
}

static int fault_locked(FakeProvider *provider, FakeCall call, const SegmentClass *class)
{
	const SegmentClass *const keys[] = { class, NULL };

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		FakeClass *known = get_class_locked(provider, keys[i]);

		if (known->calls[call].fail_times == 0)
			continue;
		if (known->calls[call].fail_times != FAKE_FOREVER)
			known->calls[call].fail_times--;
		return known->calls[call].error;
	}
	return 0;
}

static void map_page(Segment *segment)
{
	void *map;

	segment->fd = memfd_create("fake-segment", MFD_CLOEXEC);
	g_assert_cmpint(segment->fd, >=, 0);
	g_assert_cmpint(ftruncate(segment->fd, PAGE_BYTES), ==, 0);
	map = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
	g_assert_true(map != MAP_FAILED);
	segment->map = map;
	segment->map_bytes = PAGE_BYTES;
}

static int make_locked(FakeProvider *provider, const SegmentClass *class, bool cold,
		       Segment **ret_segment)
{
	Segment *segment;

	if (class->size_bytes > provider->limit_bytes ||
	    provider->used_bytes > provider->limit_bytes - class->size_bytes)
		return -ENOSPC;
	segment = g_new(Segment, 1);
	*segment = (Segment){ .class = class, .fd = -1, .mode = 0600, .cold = cold };
	if (provider->with_pages)
		map_page(segment);
	provider->used_bytes += class->size_bytes;
	g_hash_table_add(provider->alive, segment);
	*ret_segment = segment;
	return 0;
}

static int fake_prepare(SegmentProvider *base, const SegmentClass *class, const atomic_bool *cancel,
			Segment **ret_segment)
{
	FakeProvider *provider = fake_provider(base);
	int r;

	mutex_lock(&provider->lock);
	enter_locked(provider, FAKE_PREPARE, class);
	r = pass_gates_locked(provider, class, cancel);
	FakePrepareFunc func = provider->func;
	mutex_unlock(&provider->lock);
	if (r == 0 && func)
		r = func(provider->func_arg, class, cancel);

	MUTEX_SCOPE(&provider->lock);
	if (r == 0)
		r = fault_locked(provider, FAKE_PREPARE, class);
	if (r == 0)
		r = make_locked(provider, class, false, ret_segment);
	return leave_locked(provider, FAKE_PREPARE, class, r);
}

static int fake_prepare_cold(SegmentProvider *base, const SegmentClass *class,
			     Segment **ret_segment)
{
	FakeProvider *provider = fake_provider(base);
	int r;

	MUTEX_SCOPE(&provider->lock);
	enter_locked(provider, FAKE_PREPARE_COLD, class);
	r = fault_locked(provider, FAKE_PREPARE_COLD, class);
	if (r == 0)
		r = make_locked(provider, class, true, ret_segment);
	return leave_locked(provider, FAKE_PREPARE_COLD, class, r);
}

static int fake_publish(SegmentProvider *base, Segment *segment, const SegmentTarget *target)
{
	FakeProvider *provider = fake_provider(base);

	(void)target;
	MUTEX_SCOPE(&provider->lock);
	enter_locked(provider, FAKE_PUBLISH, segment->class);
	g_assert_true(g_hash_table_contains(provider->alive, segment));
	return leave_locked(provider, FAKE_PUBLISH, segment->class,
			    fault_locked(provider, FAKE_PUBLISH, segment->class));
}

static void consume(FakeProvider *provider, FakeCall call, Segment *segment)
{
	MUTEX_SCOPE(&provider->lock);
	const SegmentClass *class = segment->class;

	enter_locked(provider, call, class);
	g_assert_true(g_hash_table_remove(provider->alive, segment));
	if (call == FAKE_DISCARD)
		provider->used_bytes -= class->size_bytes;
	if (segment->map)
		munmap(segment->map, segment->map_bytes);
	if (segment->fd >= 0)
		close(segment->fd);
	g_free(segment);
	leave_locked(provider, call, class, 0);
}

static void fake_discard(SegmentProvider *base, Segment *segment)
{
	consume(fake_provider(base), FAKE_DISCARD, segment);
}

static void fake_release(SegmentProvider *base, Segment *segment)
{
	consume(fake_provider(base), FAKE_RELEASE, segment);
}

static int fake_check_space(SegmentProvider *base, uint64_t bytes)
{
	FakeProvider *provider = fake_provider(base);
	bool fits;

	MUTEX_SCOPE(&provider->lock);
	enter_locked(provider, FAKE_CHECK_SPACE, NULL);
	fits = bytes <= provider->limit_bytes &&
	       provider->used_bytes <= provider->limit_bytes - bytes;
	return leave_locked(provider, FAKE_CHECK_SPACE, NULL, fits ? 0 : -ENOSPC);
}

static int fake_renew(SegmentProvider *base, Segment *segment, const atomic_bool *cancel)
{
	FakeProvider *provider = fake_provider(base);
	const SegmentClass *class = segment->class;
	int r;

	mutex_lock(&provider->lock);
	enter_locked(provider, FAKE_RENEW, class);
	g_assert_true(g_hash_table_contains(provider->alive, segment));
	r = pass_gates_locked(provider, class, cancel);
	if (r == 0)
		r = fault_locked(provider, FAKE_RENEW, class);
	leave_locked(provider, FAKE_RENEW, class, r);
	mutex_unlock(&provider->lock);
	if (r < 0)
		fake_discard(base, segment);
	return r;
}

Segment *fake_provider_removed(FakeProvider *provider, const SegmentClass *class)
{
	Segment *segment = NULL;

	MUTEX_SCOPE(&provider->lock);
	g_assert_cmpint(make_locked(provider, class, false, &segment), ==, 0);
	segment->recycled = true;
	return segment;
}

FakeProvider *fake_provider_new(void)
{
	FakeProvider *provider = g_new0(FakeProvider, 1);

	provider->base = (SegmentProvider){
		.prepare = fake_prepare,
		.prepare_cold = fake_prepare_cold,
		.publish = fake_publish,
		.discard = fake_discard,
		.release = fake_release,
		.check_space = fake_check_space,
		.renew = fake_renew,
	};
	mutex_init(&provider->lock);
	cond_init(&provider->changed);
	provider->classes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	provider->entered = g_ptr_array_new();
	provider->alive = g_hash_table_new(NULL, NULL);
	provider->limit_bytes = UINT64_MAX;
	return provider;
}

FakeProvider *fake_provider_free(FakeProvider *provider)
{
	g_assert_cmpuint(g_hash_table_size(provider->alive), ==, 0);
	g_hash_table_unref(provider->alive);
	g_ptr_array_unref(provider->entered);
	g_hash_table_unref(provider->classes);
	cond_deinit(&provider->changed);
	mutex_deinit(&provider->lock);
	g_free(provider);
	return NULL;
}

SegmentProvider *fake_provider_base(FakeProvider *provider)
{
	return &provider->base;
}

void fake_provider_hold(FakeProvider *provider, const SegmentClass *class)
{
	MUTEX_SCOPE(&provider->lock);
	get_class_locked(provider, class)->held = true;
}

void fake_provider_let(FakeProvider *provider, const SegmentClass *class, unsigned n)
{
	MUTEX_SCOPE(&provider->lock);
	get_class_locked(provider, class)->permits += n;
	cond_broadcast(&provider->changed);
}

void fake_provider_let_all(FakeProvider *provider, const SegmentClass *class)
{
	MUTEX_SCOPE(&provider->lock);
	get_class_locked(provider, class)->held = false;
	cond_broadcast(&provider->changed);
}

void fake_provider_fail(FakeProvider *provider, FakeCall call, const SegmentClass *class, int error,
			unsigned times)
{
	MUTEX_SCOPE(&provider->lock);
	FakeClass *known = get_class_locked(provider, class);

	known->calls[call].error = error;
	known->calls[call].fail_times = times;
}

void fake_provider_limit_space(FakeProvider *provider, uint64_t bytes)
{
	MUTEX_SCOPE(&provider->lock);
	provider->limit_bytes = bytes;
}

void fake_provider_on_prepare(FakeProvider *provider, FakePrepareFunc func, void *arg)
{
	MUTEX_SCOPE(&provider->lock);
	provider->func = func;
	provider->func_arg = arg;
}

void fake_provider_with_pages(FakeProvider *provider)
{
	MUTEX_SCOPE(&provider->lock);
	provider->with_pages = true;
}

unsigned fake_provider_entered(FakeProvider *provider, FakeCall call, const SegmentClass *class)
{
	MUTEX_SCOPE(&provider->lock);
	return get_class_locked(provider, class)->calls[call].entered;
}

unsigned fake_provider_returned(FakeProvider *provider, FakeCall call, const SegmentClass *class)
{
	MUTEX_SCOPE(&provider->lock);
	return get_class_locked(provider, class)->calls[call].returned;
}

unsigned fake_provider_succeeded(FakeProvider *provider, FakeCall call, const SegmentClass *class)
{
	MUTEX_SCOPE(&provider->lock);
	return get_class_locked(provider, class)->calls[call].succeeded;
}

void fake_provider_wait_entered(FakeProvider *provider, FakeCall call, const SegmentClass *class,
				unsigned n)
{
	int64_t give_up_ns = monotonic_ns() + TEST_PATIENCE_NS;

	MUTEX_SCOPE(&provider->lock);
	while (get_class_locked(provider, class)->calls[call].entered < n)
		g_assert_true(cond_wait_until(&provider->changed, &provider->lock, give_up_ns));
}

void fake_provider_wait_returned(FakeProvider *provider, FakeCall call, const SegmentClass *class,
				 unsigned n)
{
	int64_t give_up_ns = monotonic_ns() + TEST_PATIENCE_NS;

	MUTEX_SCOPE(&provider->lock);
	while (get_class_locked(provider, class)->calls[call].returned < n)
		g_assert_true(cond_wait_until(&provider->changed, &provider->lock, give_up_ns));
}

const SegmentClass *fake_provider_nth_entered(FakeProvider *provider, unsigned nth)
{
	MUTEX_SCOPE(&provider->lock);
	g_assert_cmpuint(nth, <, provider->entered->len);
	return g_ptr_array_index(provider->entered, nth);
}

unsigned fake_provider_alive(FakeProvider *provider)
{
	MUTEX_SCOPE(&provider->lock);
	return g_hash_table_size(provider->alive);
}
