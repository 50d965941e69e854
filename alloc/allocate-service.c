// SPDX-License-Identifier: Apache-2.0
/*
 * One lock covers the queue, the table, and every class's ready and waiting lists. It is held for list
 * surgery only: preparing, removing files and opening latches happen without it.
 *
 * A waiting request is at any time in exactly one place of work: in the queue, with a worker, delayed until its
 * next attempt, or joined to an earlier request for the same path. So one of them will end it, or its
 * deadline will. A segment that a worker has made goes to the request it was made for if that still waits; else
 * to the class's oldest waiter, whose own place of work is given up; else to the pool.
 *
 * Ended requests go to an end list under the lock; their latches open after it is dropped. cancel is called where the
 * caller may hold locks that a latch's function takes, so it leaves the opening to the timekeeper, the thread
 * that also minds the deadlines, the pauses after failures, and the filesystem's free space. Requests that have timed
 * out are opened by a thread of their own, because making an unprepared file may be as slow as the disk.
 */
#include "alloc/allocate-service.h"

#include <errno.h>
#include <string.h>

#include "alloc/alloc-error.h"
#include "alloc/end-list.h"
#include "alloc/request-queue.h"
#include "alloc/request-table.h"
#include "alloc/segment-pool.h"
#include "alloc/wait-list.h"

#define MAX_ATTEMPTS 3
#define MAX_RETIRED  16
/* How often the filesystem's free space is looked at while the pool has something to give. */
#define SPACE_INTERVAL_NS INT64_C(250000000)

/* The pause before a failed request's second attempt; the third comes after four of them. */
#define REQUEST_PAUSE_NS INT64_C(40000000)

/* Protected by the service's lock. */
typedef struct ClassState {
	SegmentPool pool;
	WaitList waiting;
} ClassState;

struct AllocateService {
	/* Immutable after start. */
	SegmentProvider *provider;
	const Log *log;
	ClassState *classes;
	size_t n_classes;
	pthread_t *workers;
	unsigned n_workers;
	pthread_t timekeeper;
	pthread_t opener;
	bool opener_runs;
	/* Have locks of their own. */
	EndList ended;
	EndList timed_out;
	/* Also read without the lock: it is the warmer's cancel flag. */
	atomic_bool stopping;

	Mutex lock;
	Cond work;
	Cond time;
	/* Protected by lock. */
	bool started;
	RequestQueue queue;
	RequestTable table;
	GQueue delayed;
	/* Taken segments, to be released, and ready ones beyond a quota, to be discarded. */
	GQueue retired;
	GQueue surplus;
	uint64_t next_serial;
};

static ClassState *class_state(AllocateService *service, const SegmentClass *class)
{
	for (size_t i = 0; i < service->n_classes; i++)
		if (service->classes[i].pool.class == class)
			return &service->classes[i];
	g_assert_not_reached();
}

AllocateService *allocate_service_new(const ClassRules *rules, SegmentProvider *provider, const Log *log)
{
	AllocateService *service = g_new0(AllocateService, 1);

	service->provider = provider;
	service->log = log;
	service->n_classes = class_rules_count(rules);
	service->classes = g_new0(ClassState, service->n_classes);
	for (size_t i = 0; i < service->n_classes; i++)
		segment_pool_init(&service->classes[i].pool, class_rules_nth(rules, i));
	atomic_init(&service->stopping, false);
	mutex_init(&service->lock);
	cond_init(&service->work);
	cond_init(&service->time);
	end_list_init(&service->ended);
	end_list_init(&service->timed_out);
	request_queue_init(&service->queue);
	request_table_init(&service->table);
	return service;
}

AllocateService *allocate_service_free(AllocateService *service)
{
	Segment *segment;

	if (!service)
		return NULL;
	g_assert(!service->started);
	while ((segment = g_queue_pop_head(&service->retired)))
		service->provider->release(service->provider, segment);
	while ((segment = g_queue_pop_head(&service->surplus)))
		service->provider->discard(service->provider, segment);
	for (size_t i = 0; i < service->n_classes; i++) {
		g_assert(wait_list_length(&service->classes[i].waiting) == 0);
		while ((segment = segment_pool_take(&service->classes[i].pool)))
			service->provider->release(service->provider, segment);
		segment_pool_deinit(&service->classes[i].pool);
	}
	end_list_deinit(&service->timed_out);
	end_list_deinit(&service->ended);
	request_table_deinit(&service->table);
	request_queue_deinit(&service->queue);
	cond_deinit(&service->time);
	cond_deinit(&service->work);
	mutex_deinit(&service->lock);
	g_free(service->classes);
	g_free(service);
	return NULL;
}

/*
 * The functions named _locked need service->lock.
 */

static void queue_locked(AllocateService *service, AllocateRequest *request)
{
	request->state = ALLOCATE_QUEUED;
	request_queue_push(&service->queue, request);
	cond_signal(&service->work);
}

/* Wishes for as many segments as the pool lacks. */
static void top_up_locked(AllocateService *service, ClassState *state)
{
	SegmentPool *pool = &state->pool;

	if (atomic_load(&service->stopping) || !service->started)
		return;
	for (unsigned lacks = segment_pool_lacks(pool, monotonic_ns()); lacks > 0; lacks--) {
		AllocateRequest *request =
			allocate_request_new(pool->class, NULL, service->next_serial++);

		queue_locked(service, request);
		allocate_request_unref(request);
		pool->n_coming++;
	}
}

static void end_locked(AllocateService *service, AllocateRequest *request, AllocateState how, int error);

/* What has become of a request decides what becomes of those that joined it. */
static void settle_followers_locked(AllocateService *service, ClassState *state, AllocateRequest *leader)
{
	AllocateRequest *follower;
	int error = leader->state == ALLOCATE_READY ? -EEXIST : leader->error;

	if (leader->state == ALLOCATE_READY || leader->state == ALLOCATE_FAILED) {
		while ((follower = wait_list_follower(&state->waiting, leader)))
			end_locked(service, follower, ALLOCATE_FAILED, error);
	} else if ((follower = wait_list_pass_on(&state->waiting, leader))) {
		request_table_put_if_absent(&service->table, follower);
		queue_locked(service, follower);
	}
}

static void count_end(ClassState *state, const AllocateRequest *request)
{
	static const AllocCounter counters[] = {
		[ALLOCATE_FAILED] = ALLOC_FAILED,
		[ALLOCATE_TIMED_OUT] = ALLOC_TIMEOUTS,
		[ALLOCATE_CANCELLED] = ALLOC_CANCELLED,
	};

	if (request->state != ALLOCATE_READY)
		alloc_counters_add(&state->pool.counters, counters[request->state], 1);
	alloc_counters_add(&state->pool.counters, ALLOC_WAIT_US,
			   (monotonic_ns() - request->submitted_ns) / 1000);
}

/* The only way in which a waiting request ends. The waiting list's reference goes along to the end list; from
 * then on the request is its waiter's. */
static void end_locked(AllocateService *service, AllocateRequest *request, AllocateState how, int error)
{
	ClassState *state = class_state(service, request->class);

	g_assert(allocate_request_has_waiter(request));
	if (request->state == ALLOCATE_DELAYED)
		g_queue_remove(&service->delayed, request);
	/* A worker is at it, and what it makes is now for the pool. */
	if (request->state == ALLOCATE_PREPARING)
		state->pool.n_coming++;
	request_queue_remove(&service->queue, request);
	request_table_remove_if_same(&service->table, request);
	wait_list_remove(&state->waiting, request);
	request->state = how;
	request->error = error;
	count_end(state, request);
	settle_followers_locked(service, state, request);
	/* What a timeout leads to may take long: it has a thread of its own. */
	bool slow = how == ALLOCATE_TIMED_OUT && !request->class->fail_on_timeout;
	end_list_push(slow ? &service->timed_out : &service->ended, request);
}

/* `preferred` may be NULL. */
static void deliver_locked(AllocateService *service, Segment *segment, AllocateRequest *preferred)
{
	ClassState *state = class_state(service, segment->class);
	AllocateRequest *receiver = preferred;

	if (!receiver || !allocate_request_has_waiter(receiver))
		receiver = wait_list_oldest_leader(&state->waiting);
	if (!receiver) {
		if (segment_pool_has_room(&state->pool))
			segment_pool_put(&state->pool, segment);
		else
			g_queue_push_tail(&service->surplus, segment);
		/* Who minds the space has something to give now. */
		cond_signal(&service->time);
		return;
	}
	receiver->segment = segment;
	end_locked(service, receiver, ALLOCATE_READY, 0);
}

/*
 * From here on: without the lock.
 */

static bool is_waited_for(AllocateService *service, const AllocateRequest *request)
{
	MUTEX_SCOPE(&service->lock);
	return allocate_request_has_waiter(request);
}

static int prepare_for(AllocateService *service, const AllocateRequest *request, Segment **ret_segment)
{
	SegmentProvider *provider = service->provider;
	int r = 0;

	if (!request->path)
		r = provider->check_space(provider, request->class->size_bytes);
	if (r < 0)
		return r;
	do
		r = provider->prepare(provider, request->class, &service->stopping, ret_segment);
	while (alloc_error_is_space(r) && is_waited_for(service, request) && allocate_service_give_way(service));
	return r;
}

static void fail_ahead_locked(AllocateService *service, ClassState *state, int error)
{
	if (state->pool.n_failures == 0)
		log_warning(service->log,
			    "class %s: cannot prepare a segment ahead: %s; new files wait for theirs, and "
			    "it is tried again", state->pool.class->name, g_strerror(-error));
	segment_pool_pause(&state->pool, monotonic_ns());
	cond_signal(&service->time);
}

static void fail_waiting_locked(AllocateService *service, AllocateRequest *request, int error)
{
	request->attempts++;
	if (alloc_error_is_passing(error) && request->attempts < MAX_ATTEMPTS) {
		request->state = ALLOCATE_DELAYED;
		request->retry_ns = monotonic_ns() + (REQUEST_PAUSE_NS << 2 * (request->attempts - 1));
		g_queue_push_tail(&service->delayed, request);
		cond_signal(&service->time);
		return;
	}
	log_warning(service->log, "class %s: cannot prepare a segment for %s: %s", request->class->name,
		    request->path, g_strerror(-error));
	end_locked(service, request, ALLOCATE_FAILED, error);
}

static void succeed_locked(AllocateService *service, ClassState *state, AllocateRequest *request,
			   Segment *segment)
{
	if (segment_pool_recover(&state->pool))
		log_notice(service->log, "class %s: segments can be prepared again",
			   state->pool.class->name);
	alloc_counters_add(&state->pool.counters, segment->adopted ? ALLOC_ADOPTED : ALLOC_PREPARED, 1);
	if (request->path && allocate_state_is_end(request->state))
		alloc_counters_add(&state->pool.counters, ALLOC_EXPIRED, 1);
	deliver_locked(service, segment, request);
}

static void finish_locked(AllocateService *service, AllocateRequest *request, int r, Segment *segment)
{
	ClassState *state = class_state(service, request->class);

	if (allocate_request_has_waiter(request))
		request->state = ALLOCATE_QUEUED;
	else
		state->pool.n_coming--;
	if (r == 0)
		succeed_locked(service, state, request, segment);
	else if (r != -ECANCELED)
		alloc_counters_add(&state->pool.counters, ALLOC_ERRORS, 1);
	if (r < 0 && r != -ECANCELED) {
		if (allocate_request_has_waiter(request))
			fail_waiting_locked(service, request, r);
		else
			fail_ahead_locked(service, state, r);
	}
	top_up_locked(service, state);
}

/* What others have left to be done. */
static bool clean_up_once(AllocateService *service)
{
	SegmentProvider *provider = service->provider;
	Segment *retired = g_queue_pop_head(&service->retired);
	Segment *surplus = retired ? NULL : g_queue_pop_head(&service->surplus);

	if (!retired && !surplus)
		return false;
	mutex_unlock(&service->lock);
	if (retired)
		provider->release(provider, retired);
	else
		provider->discard(provider, surplus);
	mutex_lock(&service->lock);
	return true;
}

/* Does the next piece of work. False if there was none. Called, and returns, with the lock held. */
static bool work_once(AllocateService *service)
{
	AllocateRequest *request = request_queue_peek(&service->queue);
	Segment *segment = NULL;
	int r;

	/* Before preparing ahead, and after anything that somebody waits for; but a crowd that always waits must not
	 * keep the mappings of all that it took. */
	bool may_wait = request && request->path && service->retired.length < MAX_RETIRED;
	if (!may_wait && clean_up_once(service))
		return true;
	if (!request)
		return false;
	request_queue_pop(&service->queue);
	request->state = ALLOCATE_PREPARING;
	mutex_unlock(&service->lock);
	r = prepare_for(service, request, &segment);
	mutex_lock(&service->lock);
	finish_locked(service, request, r, segment);
	mutex_unlock(&service->lock);
	allocate_request_unref(request);
	end_list_open(&service->ended);
	mutex_lock(&service->lock);
	return true;
}

static void *worker_run(void *arg)
{
	AllocateService *service = arg;

	MUTEX_SCOPE(&service->lock);
	while (!atomic_load(&service->stopping))
		if (!work_once(service))
			cond_wait(&service->work, &service->lock);
	return NULL;
}

static void expire_locked(AllocateService *service, ClassState *state, int64_t now_ns)
{
	AllocateRequest *first;

	while ((first = wait_list_first(&state->waiting)) && first->deadline_ns <= now_ns)
		end_locked(service, first, ALLOCATE_TIMED_OUT, -EAGAIN);
}

/* Does what is due and returns when the next thing is. */
static int64_t mind_class_locked(AllocateService *service, ClassState *state, int64_t now_ns)
{
	int64_t next_ns = DEADLINE_NEVER;
	AllocateRequest *first;

	expire_locked(service, state, now_ns);
	if (state->pool.resume_ns > now_ns)
		next_ns = state->pool.resume_ns;
	else
		top_up_locked(service, state);
	first = wait_list_first(&state->waiting);
	return first ? MIN(next_ns, first->deadline_ns) : next_ns;
}

static int64_t mind_delayed_locked(AllocateService *service, int64_t now_ns)
{
	int64_t next_ns = DEADLINE_NEVER;
	GList *following;

	for (GList *link = service->delayed.head; link; link = following) {
		AllocateRequest *request = link->data;

		following = link->next;
		if (request->retry_ns <= now_ns) {
			g_queue_delete_link(&service->delayed, link);
			queue_locked(service, request);
		} else {
			next_ns = MIN(next_ns, request->retry_ns);
		}
	}
	return next_ns;
}

static ClassState *largest_ready_locked(AllocateService *service)
{
	ClassState *largest = NULL;

	for (size_t i = 0; i < service->n_classes; i++) {
		ClassState *state = &service->classes[i];

		if (segment_pool_ready(&state->pool) > 0 &&
		    (!largest || state->pool.class->size_bytes > largest->pool.class->size_bytes))
			largest = state;
	}
	return largest;
}

/* Applications that write through the kernel meet a full disk without our hearing of it, so the pool looks for
 * itself, and gives way, one segment at a time, before they do. Drops the lock meanwhile. */
static void mind_space_locked(AllocateService *service)
{
	mutex_unlock(&service->lock);
	if (alloc_error_is_space(service->provider->check_space(service->provider, 0)))
		allocate_service_give_way(service);
	mutex_lock(&service->lock);
}

static void *timekeeper_run(void *arg)
{
	AllocateService *service = arg;
	int64_t space_ns = 0;

	mutex_lock(&service->lock);
	while (!atomic_load(&service->stopping)) {
		int64_t now_ns = monotonic_ns();
		int64_t next_ns = mind_delayed_locked(service, now_ns);

		for (size_t i = 0; i < service->n_classes; i++)
			next_ns = MIN(next_ns, mind_class_locked(service, &service->classes[i], now_ns));
		if (!end_list_is_empty(&service->ended)) {
			mutex_unlock(&service->lock);
			end_list_open(&service->ended);
			mutex_lock(&service->lock);
			continue;
		}
		if (largest_ready_locked(service)) {
			if (now_ns >= space_ns) {
				space_ns = now_ns + SPACE_INTERVAL_NS;
				mind_space_locked(service);
				continue;
			}
			next_ns = MIN(next_ns, space_ns);
		}
		cond_wait_until(&service->time, &service->lock, next_ns);
	}
	mutex_unlock(&service->lock);
	return NULL;
}

static void *opener_run(void *arg)
{
	AllocateService *service = arg;

	end_list_open_until_closed(&service->timed_out);
	return NULL;
}

/* The threads get the lock, and begin, when all of them are there. */
static int start_threads_locked(AllocateService *service, unsigned n_threads)
{
	int r = thread_start(&service->timekeeper, "warmfs-time", timekeeper_run, service);

	if (r < 0)
		return r;
	service->started = true;
	r = thread_start(&service->opener, "warmfs-open", opener_run, service);
	service->opener_runs = r == 0;
	service->workers = g_new0(pthread_t, n_threads);
	while (r == 0 && service->n_workers < n_threads) {
		r = thread_start(&service->workers[service->n_workers], "warmfs-alloc", worker_run, service);
		if (r == 0)
			service->n_workers++;
	}
	return r;
}

int allocate_service_start(AllocateService *service, unsigned n_threads)
{
	mutex_lock(&service->lock);
	int r = start_threads_locked(service, n_threads);
	if (r < 0)
		atomic_store(&service->stopping, true);
	for (size_t i = 0; i < service->n_classes; i++)
		top_up_locked(service, &service->classes[i]);
	mutex_unlock(&service->lock);

	if (r < 0)
		allocate_service_stop(service);
	return r;
}

static void end_everything_locked(AllocateService *service)
{
	AllocateRequest *request;

	for (size_t i = 0; i < service->n_classes; i++)
		while ((request = wait_list_first(&service->classes[i].waiting)))
			end_locked(service, request, ALLOCATE_FAILED, -ESHUTDOWN);
	while ((request = request_queue_pop(&service->queue)))
		allocate_request_unref(request);
}

void allocate_service_stop(AllocateService *service)
{
	mutex_lock(&service->lock);
	bool was_started = service->started;
	service->started = false;
	atomic_store(&service->stopping, true);
	end_everything_locked(service);
	cond_broadcast(&service->work);
	cond_broadcast(&service->time);
	mutex_unlock(&service->lock);

	end_list_open(&service->ended);
	if (!was_started)
		return;
	for (unsigned i = 0; i < service->n_workers; i++)
		pthread_join(service->workers[i], NULL);
	pthread_join(service->timekeeper, NULL);
	end_list_close(&service->timed_out);
	if (service->opener_runs)
		pthread_join(service->opener, NULL);
	g_clear_pointer(&service->workers, g_free);
	end_list_open(&service->ended);
}

static Segment *take_locked(ClassState *state)
{
	Segment *segment = segment_pool_take(&state->pool);

	if (segment)
		alloc_counters_add(&state->pool.counters, ALLOC_HITS, 1);
	return segment;
}

Segment *allocate_service_take(AllocateService *service, const SegmentClass *class)
{
	MUTEX_SCOPE(&service->lock);
	return atomic_load(&service->stopping) ? NULL : take_locked(class_state(service, class));
}

static void wait_locked(AllocateService *service, ClassState *state, AllocateRequest *request)
{
	AllocateRequest *leader = request_table_put_if_absent(&service->table, request);

	alloc_counters_add(&state->pool.counters, ALLOC_WAITS, 1);
	wait_list_push(&state->waiting, request);
	if (leader) {
		alloc_counters_add(&state->pool.counters, ALLOC_JOINED, 1);
		request->state = ALLOCATE_JOINED;
		request->leader = leader;
	} else {
		queue_locked(service, request);
	}
	cond_signal(&service->time);
}

AllocateRequest *allocate_service_submit(AllocateService *service, const SegmentClass *class,
					 const char *path)
{
	ClassState *state = class_state(service, class);

	mutex_lock(&service->lock);
	AllocateRequest *request = allocate_request_new(class, path, service->next_serial++);
	if (atomic_load(&service->stopping)) {
		request->state = ALLOCATE_FAILED;
		request->error = -ESHUTDOWN;
	} else if ((request->segment = take_locked(state))) {
		request->state = ALLOCATE_READY;
	} else {
		wait_locked(service, state, request);
	}
	bool ended = allocate_state_is_end(request->state);
	mutex_unlock(&service->lock);

	if (ended)
		latch_open(&request->latch);
	return request;
}

void allocate_service_cancel(AllocateService *service, AllocateRequest *request)
{
	MUTEX_SCOPE(&service->lock);
	if (!allocate_request_has_waiter(request))
		return;
	end_locked(service, request, ALLOCATE_CANCELLED, -EINTR);
	cond_signal(&service->time);
}

int allocate_service_publish(AllocateService *service, Segment *segment, const SegmentTarget *target)
{
	int r = service->provider->publish(service->provider, segment, target);

	if (r == 0 && !segment->cold)
		alloc_counters_add(&class_state(service, segment->class)->pool.counters, ALLOC_TAKEN, 1);
	return r;
}

int allocate_service_prepare_cold(AllocateService *service, const SegmentClass *class,
				  Segment **ret_segment)
{
	SegmentProvider *provider = service->provider;
	int r;

	do
		r = provider->prepare_cold(provider, class, ret_segment);
	while (alloc_error_is_space(r) && allocate_service_give_way(service));
	return r;
}

void allocate_service_give_back(AllocateService *service, Segment *segment)
{
	if (segment->cold) {
		service->provider->discard(service->provider, segment);
		return;
	}
	MUTEX_SCOPE(&service->lock);
	ClassState *state = class_state(service, segment->class);
	deliver_locked(service, segment, NULL);
	top_up_locked(service, state);
	cond_signal(&service->work);
	cond_signal(&service->time);
}

void allocate_service_retire(AllocateService *service, Segment *segment)
{
	ClassState *state = class_state(service, segment->class);

	MUTEX_SCOPE(&service->lock);
	g_queue_push_tail(&service->retired, segment);
	/* Only now: preparing the next one while this one was being published would have slowed that. */
	top_up_locked(service, state);
	cond_signal(&service->work);
}

bool allocate_service_give_way(AllocateService *service)
{
	Segment *segment = NULL;

	mutex_lock(&service->lock);
	ClassState *state = largest_ready_locked(service);
	if (state) {
		segment = segment_pool_take(&state->pool);
		alloc_counters_add(&state->pool.counters, ALLOC_GAVE_WAY, 1);
		segment_pool_rest(&state->pool, monotonic_ns());
		cond_signal(&service->time);
	}
	mutex_unlock(&service->lock);

	if (segment)
		service->provider->discard(service->provider, segment);
	return segment != NULL;
}

char *allocate_service_describe(AllocateService *service, size_t nth_class)
{
	ClassState *state = &service->classes[nth_class];
	GString *line = g_string_new(NULL);

	/* One moment for all of them: whoever sees a segment ready sees it counted as prepared, too. */
	MUTEX_SCOPE(&service->lock);
	g_string_printf(line, "class %s:", state->pool.class->name);
	for (AllocCounter counter = 0; counter < _ALLOC_COUNTER_MAX; counter++)
		g_string_append_printf(line, " %s=%" G_GUINT64_FORMAT, alloc_counter_name(counter),
				       (guint64)alloc_counters_get(&state->pool.counters, counter));
	g_string_append_printf(line, " ready=%u waiting=%u", segment_pool_ready(&state->pool),
			       wait_list_length(&state->waiting));
	return g_string_free(line, FALSE);
}

uint64_t allocate_service_counter(AllocateService *service, size_t nth_class, AllocCounter counter)
{
	return alloc_counters_get(&service->classes[nth_class].pool.counters, counter);
}

unsigned allocate_service_ready(AllocateService *service, size_t nth_class)
{
	MUTEX_SCOPE(&service->lock);
	return segment_pool_ready(&service->classes[nth_class].pool);
}
