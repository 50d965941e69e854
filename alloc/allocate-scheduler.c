// SPDX-License-Identifier: Apache-2.0
#include "alloc/allocate-scheduler.h"

#include <errno.h>
#include <string.h>

#include "alloc/alloc-error.h"

#define MAX_ATTEMPTS 3

/* The pause before a failed request's second attempt; the third comes after four of them. */
#define REQUEST_PAUSE_NS INT64_C(40000000)

void allocate_scheduler_init(AllocateScheduler *scheduler, const ClassRules *rules, const Log *log)
{
	*scheduler = (AllocateScheduler){ .log = log, .n_classes = class_rules_count(rules) };
	scheduler->classes = g_new0(ClassState, scheduler->n_classes);
	for (size_t i = 0; i < scheduler->n_classes; i++)
		segment_pool_init(&scheduler->classes[i].pool, class_rules_nth(rules, i));
	cond_init(&scheduler->work);
	cond_init(&scheduler->time);
	end_list_init(&scheduler->ended);
	end_list_init(&scheduler->timed_out);
	request_queue_init(&scheduler->queue);
	request_table_init(&scheduler->table);
}

void allocate_scheduler_deinit(AllocateScheduler *scheduler)
{
	g_assert(g_queue_is_empty(&scheduler->surplus));
	for (size_t i = 0; i < scheduler->n_classes; i++) {
		g_assert(wait_list_length(&scheduler->classes[i].waiting) == 0);
		segment_pool_deinit(&scheduler->classes[i].pool);
	}
	end_list_deinit(&scheduler->timed_out);
	end_list_deinit(&scheduler->ended);
	request_table_deinit(&scheduler->table);
	request_queue_deinit(&scheduler->queue);
	cond_deinit(&scheduler->time);
	cond_deinit(&scheduler->work);
	g_free(scheduler->classes);
}

ClassState *allocate_scheduler_class(AllocateScheduler *scheduler, const SegmentClass *class)
{
	for (size_t i = 0; i < scheduler->n_classes; i++)
		if (scheduler->classes[i].pool.class == class)
			return &scheduler->classes[i];
	g_assert_not_reached();
}

static void queue_request(AllocateScheduler *scheduler, AllocateRequest *request)
{
	request->state = ALLOCATE_QUEUED;
	request_queue_push(&scheduler->queue, request);
	cond_signal(&scheduler->work);
}

/* Wishes for as many segments as the pool lacks. */
void allocate_scheduler_top_up(AllocateScheduler *scheduler, ClassState *state)
{
	SegmentPool *pool = &state->pool;

	if (!scheduler->filling)
		return;
	for (unsigned lacks = segment_pool_lacks(pool, monotonic_ns()); lacks > 0; lacks--) {
		AllocateRequest *request =
			allocate_request_new(pool->class, NULL, scheduler->next_serial++);

		queue_request(scheduler, request);
		allocate_request_unref(request);
		pool->n_coming++;
	}
}

/* What has become of a request decides what becomes of those that joined it. */
static void settle_followers(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *leader)
{
	AllocateRequest *follower;
	int error = leader->state == ALLOCATE_READY ? -EEXIST : leader->error;

	if (leader->state == ALLOCATE_READY || leader->state == ALLOCATE_FAILED) {
		while ((follower = wait_list_follower(&state->waiting, leader)))
			allocate_scheduler_end(scheduler, follower, ALLOCATE_FAILED, error);
	} else if ((follower = wait_list_pass_on(&state->waiting, leader))) {
		request_table_put_if_absent(&scheduler->table, follower);
		queue_request(scheduler, follower);
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
void allocate_scheduler_end(AllocateScheduler *scheduler, AllocateRequest *request, AllocateState how, int error)
{
	ClassState *state = allocate_scheduler_class(scheduler, request->class);

	g_assert(allocate_request_has_waiter(request));
	if (request->state == ALLOCATE_DELAYED)
		g_queue_remove(&scheduler->delayed, request);
	/* A worker is at it, and what it makes is now for the pool. */
	if (request->state == ALLOCATE_PREPARING)
		state->pool.n_coming++;
	request_queue_remove(&scheduler->queue, request);
	request_table_remove_if_same(&scheduler->table, request);
	wait_list_remove(&state->waiting, request);
	request->state = how;
	request->error = error;
	count_end(state, request);
	settle_followers(scheduler, state, request);
	/* What a timeout leads to may take long: it has a thread of its own. */
	bool slow = how == ALLOCATE_TIMED_OUT && !request->class->fail_on_timeout;
	end_list_push(slow ? &scheduler->timed_out : &scheduler->ended, request);
}

/* `preferred` may be NULL. */
void allocate_scheduler_deliver(AllocateScheduler *scheduler, Segment *segment, AllocateRequest *preferred)
{
	ClassState *state = allocate_scheduler_class(scheduler, segment->class);
	AllocateRequest *receiver = preferred;

	if (!receiver || !allocate_request_has_waiter(receiver))
		receiver = wait_list_oldest_leader(&state->waiting);
	if (!receiver) {
		if (segment_pool_has_room(&state->pool))
			segment_pool_put(&state->pool, segment);
		else
			g_queue_push_tail(&scheduler->surplus, segment);
		/* Who minds the space has something to give now. */
		cond_signal(&scheduler->time);
		return;
	}
	receiver->segment = segment;
	allocate_scheduler_end(scheduler, receiver, ALLOCATE_READY, 0);
}

static void fail_ahead(AllocateScheduler *scheduler, ClassState *state, int error)
{
	if (state->pool.n_failures == 0)
		log_warning(scheduler->log,
			    "class %s: cannot prepare a segment ahead: %s; new files wait for theirs, and "
			    "it is tried again", state->pool.class->name, g_strerror(-error));
	segment_pool_pause(&state->pool, monotonic_ns());
	cond_signal(&scheduler->time);
}

static void fail_waiting(AllocateScheduler *scheduler, AllocateRequest *request, int error)
{
	request->attempts++;
	if (alloc_error_is_passing(error) && request->attempts < MAX_ATTEMPTS) {
		request->state = ALLOCATE_DELAYED;
		request->retry_ns = monotonic_ns() + (REQUEST_PAUSE_NS << 2 * (request->attempts - 1));
		g_queue_push_tail(&scheduler->delayed, request);
		cond_signal(&scheduler->time);
		return;
	}
	log_warning(scheduler->log, "class %s: cannot prepare a segment for %s: %s", request->class->name,
		    request->path, g_strerror(-error));
	allocate_scheduler_end(scheduler, request, ALLOCATE_FAILED, error);
}

static void succeed(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request,
		    Segment *segment)
{
	if (segment_pool_recover(&state->pool))
		log_notice(scheduler->log, "class %s: segments can be prepared again",
			   state->pool.class->name);
	alloc_counters_add(&state->pool.counters, segment->adopted ? ALLOC_ADOPTED : ALLOC_PREPARED, 1);
	if (request->path && allocate_state_is_end(request->state))
		alloc_counters_add(&state->pool.counters, ALLOC_EXPIRED, 1);
	allocate_scheduler_deliver(scheduler, segment, request);
}

void allocate_scheduler_finish(AllocateScheduler *scheduler, AllocateRequest *request, int r, Segment *segment)
{
	ClassState *state = allocate_scheduler_class(scheduler, request->class);

	if (allocate_request_has_waiter(request))
		request->state = ALLOCATE_QUEUED;
	else
		state->pool.n_coming--;
	if (r == 0)
		succeed(scheduler, state, request, segment);
	else if (r != -ECANCELED)
		alloc_counters_add(&state->pool.counters, ALLOC_ERRORS, 1);
	if (r < 0 && r != -ECANCELED) {
		if (allocate_request_has_waiter(request))
			fail_waiting(scheduler, request, r);
		else
			fail_ahead(scheduler, state, r);
	}
	allocate_scheduler_top_up(scheduler, state);
}

static void expire(AllocateScheduler *scheduler, ClassState *state, int64_t now_ns)
{
	AllocateRequest *first;

	while ((first = wait_list_first(&state->waiting)) && first->deadline_ns <= now_ns)
		allocate_scheduler_end(scheduler, first, ALLOCATE_TIMED_OUT, -EAGAIN);
}

/* Does what is due and returns when the next thing is. */
static int64_t mind_class(AllocateScheduler *scheduler, ClassState *state, int64_t now_ns)
{
	int64_t next_ns = DEADLINE_NEVER;
	AllocateRequest *first;

	expire(scheduler, state, now_ns);
	if (state->pool.resume_ns > now_ns)
		next_ns = state->pool.resume_ns;
	else
		allocate_scheduler_top_up(scheduler, state);
	first = wait_list_first(&state->waiting);
	return first ? MIN(next_ns, first->deadline_ns) : next_ns;
}

static int64_t mind_delayed(AllocateScheduler *scheduler, int64_t now_ns)
{
	int64_t next_ns = DEADLINE_NEVER;
	GList *following;

	for (GList *link = scheduler->delayed.head; link; link = following) {
		AllocateRequest *request = link->data;

		following = link->next;
		if (request->retry_ns <= now_ns) {
			g_queue_delete_link(&scheduler->delayed, link);
			queue_request(scheduler, request);
		} else {
			next_ns = MIN(next_ns, request->retry_ns);
		}
	}
	return next_ns;
}

int64_t allocate_scheduler_mind(AllocateScheduler *scheduler, int64_t now_ns)
{
	int64_t next_ns = mind_delayed(scheduler, now_ns);

	for (size_t i = 0; i < scheduler->n_classes; i++)
		next_ns = MIN(next_ns, mind_class(scheduler, &scheduler->classes[i], now_ns));
	return next_ns;
}

ClassState *allocate_scheduler_largest_ready(AllocateScheduler *scheduler)
{
	ClassState *largest = NULL;

	for (size_t i = 0; i < scheduler->n_classes; i++) {
		ClassState *state = &scheduler->classes[i];

		if (segment_pool_ready(&state->pool) > 0 &&
		    (!largest || state->pool.class->size_bytes > largest->pool.class->size_bytes))
			largest = state;
	}
	return largest;
}

void allocate_scheduler_end_all(AllocateScheduler *scheduler)
{
	AllocateRequest *request;

	for (size_t i = 0; i < scheduler->n_classes; i++)
		while ((request = wait_list_first(&scheduler->classes[i].waiting)))
			allocate_scheduler_end(scheduler, request, ALLOCATE_FAILED, -ESHUTDOWN);
	while ((request = request_queue_pop(&scheduler->queue)))
		allocate_request_unref(request);
}

Segment *allocate_scheduler_take(ClassState *state)
{
	Segment *segment = segment_pool_take(&state->pool);

	if (segment)
		alloc_counters_add(&state->pool.counters, ALLOC_HITS, 1);
	return segment;
}

void allocate_scheduler_wait(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	AllocateRequest *leader = request_table_put_if_absent(&scheduler->table, request);

	alloc_counters_add(&state->pool.counters, ALLOC_WAITS, 1);
	wait_list_push(&state->waiting, request);
	if (leader) {
		alloc_counters_add(&state->pool.counters, ALLOC_JOINED, 1);
		request->state = ALLOCATE_JOINED;
		request->leader = leader;
	} else {
		queue_request(scheduler, request);
	}
	cond_signal(&scheduler->time);
}
