// SPDX-License-Identifier: Apache-2.0
#include "alloc/allocate-scheduler.h"

#include <errno.h>

#include "alloc/alloc-error.h"
#include "alloc/allocate-waiting.h"

#define MAX_ATTEMPTS 3
/* The pause before a failed request's second attempt; the third comes after four of them. */
#define REQUEST_PAUSE_NS INT64_C(40000000)

/* As many later requests may go before one that their sizes or numbers put behind. */
#define MAX_PASSED_OVER 8
#define MAX_RETIRED	16

/* How often it is looked whether open segments have made room in a quota, and how long a create waits for that. */
#define QUOTA_INTERVAL_NS INT64_C(250000000)
#define QUOTA_PATIENCE_NS QUOTA_INTERVAL_NS

/* How often it is looked whether the filesystem has free space: while it becomes less, and while nothing happens. */
#define SPACE_INTERVAL_NS      INT64_C(250000000)
#define SPACE_IDLE_INTERVAL_NS INT64_C(2000000000)

void allocate_scheduler_init(AllocateScheduler *scheduler, const ClassRules *rules, const Clock *clock,
			     const LiveBytes *live, const Log *log)
{
	*scheduler = (AllocateScheduler){
		.clock = clock,
		.live = live,
		.log = log,
		.n_classes = class_rules_count(rules),
	};
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
	g_assert(g_queue_is_empty(&scheduler->retired));
	g_assert(g_queue_is_empty(&scheduler->surplus));
	g_assert(g_queue_is_empty(&scheduler->preparing));
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

static int64_t now_ns(const AllocateScheduler *scheduler)
{
	return clock_now_ns(scheduler->clock);
}

ClassState *allocate_scheduler_class(AllocateScheduler *scheduler, const SegmentClass *class)
{
	for (size_t i = 0; i < scheduler->n_classes; i++)
		if (scheduler->classes[i].pool.class == class)
			return &scheduler->classes[i];
	g_assert_not_reached();
}

static uint64_t live_bytes(const AllocateScheduler *scheduler, const ClassState *state)
{
	const SegmentClass *class = state->pool.class;

	if (!scheduler->live || !class->quota_bytes)
		return 0;
	return scheduler->live->of_class(scheduler->live->arg, class);
}

unsigned allocate_scheduler_room(const AllocateScheduler *scheduler, const ClassState *state)
{
	return segment_pool_room(&state->pool, live_bytes(scheduler, state));
}

AllocateRequest *allocate_scheduler_submit(AllocateScheduler *scheduler, const SegmentClass *class,
					   const char *path)
{
	AllocateRequest *request =
		allocate_request_new(class, path, ++scheduler->last_serial, now_ns(scheduler));

	request->segment = allocate_scheduler_take(scheduler, class);
	if (request->segment)
		request->state = ALLOCATE_READY;
	else
		allocate_waiting_begin(scheduler, allocate_scheduler_class(scheduler, class), request);
	return request;
}

AllocateRequest *allocate_scheduler_refuse(AllocateScheduler *scheduler, const SegmentClass *class,
					   const char *path)
{
	AllocateRequest *request =
		allocate_request_new(class, path, ++scheduler->last_serial, now_ns(scheduler));

	request->state = ALLOCATE_FAILED;
	request->error = -ESHUTDOWN;
	return request;
}

Segment *allocate_scheduler_take(AllocateScheduler *scheduler, const SegmentClass *class)
{
	ClassState *state = allocate_scheduler_class(scheduler, class);
	Segment *segment = segment_pool_take(&state->pool);

	if (!segment)
		return NULL;
	class_state_count(state, ALLOC_HITS);
	state->pool.n_out++;
	return segment;
}

/* `preferred` may be NULL. */
static void deliver(AllocateScheduler *scheduler, ClassState *state, Segment *segment,
		    AllocateRequest *preferred)
{
	AllocateRequest *receiver = preferred;

	if (!receiver || !allocate_request_has_waiter(receiver))
		receiver = wait_list_oldest_leader(&state->waiting);
	if (receiver) {
		receiver->segment = segment;
		state->pool.n_out++;
		allocate_waiting_end(scheduler, receiver, ALLOCATE_READY, 0);
		return;
	}
	if (!state->pool.drained && !segment_pool_is_full(&state->pool, live_bytes(scheduler, state)))
		segment_pool_put(&state->pool, segment);
	else
		g_queue_push_tail(&scheduler->surplus, segment);
	/* Who minds the space has something to give now. */
	cond_signal(&scheduler->time);
}

void allocate_scheduler_give_back(AllocateScheduler *scheduler, Segment *segment)
{
	ClassState *state = allocate_scheduler_class(scheduler, segment->class);

	state->pool.n_out--;
	deliver(scheduler, state, segment, NULL);
	cond_signal(&scheduler->work);
	cond_signal(&scheduler->time);
}

void allocate_scheduler_retire(AllocateScheduler *scheduler, Segment *segment)
{
	if (!segment->cold)
		allocate_scheduler_class(scheduler, segment->class)->pool.n_out--;
	g_queue_push_tail(&scheduler->retired, segment);
	cond_signal(&scheduler->work);
	/* From now on it is looked whether there is room for the next one. */
	if (segment->class->quota_bytes)
		cond_signal(&scheduler->time);
}

bool allocate_scheduler_claim(AllocateScheduler *scheduler, const SegmentClass *class)
{
	ClassState *state = allocate_scheduler_class(scheduler, class);

	if (!scheduler->filling ||
	    !segment_pool_wants_recycled(&state->pool, live_bytes(scheduler, state), now_ns(scheduler)))
		return false;
	state->pool.n_recycling++;
	return true;
}

void allocate_scheduler_recycle(AllocateScheduler *scheduler, const SegmentClass *class, Segment *segment)
{
	ClassState *state = allocate_scheduler_class(scheduler, class);

	state->pool.n_recycling--;
	if (segment) {
		g_queue_push_tail(&state->pool.recycled, segment);
		cond_signal(&scheduler->work);
		/* Who minds the space has something to give now. */
		cond_signal(&scheduler->time);
	} else {
		class_state_count(state, ALLOC_NOT_RECYCLED);
	}
}

Segment *allocate_scheduler_take_retired(AllocateScheduler *scheduler, const SegmentClass *class)
{
	for (GList *link = scheduler->retired.head; link; link = link->next) {
		Segment *segment = link->data;

		if (segment->class == class) {
			g_queue_delete_link(&scheduler->retired, link);
			return segment;
		}
	}
	return NULL;
}

static Segment *pop_recycled(AllocateScheduler *scheduler)
{
	Segment *segment = NULL;

	for (size_t i = 0; i < scheduler->n_classes && !segment; i++)
		segment = g_queue_pop_head(&scheduler->classes[i].pool.recycled);
	return segment;
}

static ClassState *largest_ready(AllocateScheduler *scheduler)
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

Segment *allocate_scheduler_give_way(AllocateScheduler *scheduler)
{
	Segment *recycled = pop_recycled(scheduler);
	ClassState *state;

	if (recycled)
		return recycled;
	state = largest_ready(scheduler);
	if (!state)
		return NULL;
	class_state_count(state, ALLOC_GAVE_WAY);
	segment_pool_rest(&state->pool, now_ns(scheduler));
	cond_signal(&scheduler->time);
	return segment_pool_take(&state->pool);
}

Segment *allocate_scheduler_drain(AllocateScheduler *scheduler, size_t nth_class)
{
	SegmentPool *pool = &scheduler->classes[nth_class].pool;

	segment_pool_drain(pool);
	Segment *segment = segment_pool_take(pool);
	return segment ? segment : g_queue_pop_head(&pool->recycled);
}

void allocate_scheduler_fill(AllocateScheduler *scheduler, size_t nth_class)
{
	segment_pool_fill(&scheduler->classes[nth_class].pool);
	cond_signal(&scheduler->work);
}

static void shed_recycled(AllocateScheduler *scheduler, ClassState *state)
{
	uint64_t bytes = live_bytes(scheduler, state);
	Segment *left_over;

	while ((left_over = segment_pool_shed_recycled(&state->pool, bytes)))
		g_queue_push_tail(&scheduler->surplus, left_over);
}

static void adjust(AllocateScheduler *scheduler, ClassState *state)
{
	SegmentPool *pool = &state->pool;
	uint64_t bytes = live_bytes(scheduler, state);
	Segment *left_over;

	segment_pool_adjust(pool);
	while ((left_over = segment_pool_shed(pool, bytes)))
		g_queue_push_tail(&scheduler->surplus, left_over);
	shed_recycled(scheduler, state);
}

void allocate_scheduler_adjust(AllocateScheduler *scheduler)
{
	for (size_t i = 0; i < scheduler->n_classes; i++)
		adjust(scheduler, &scheduler->classes[i]);
	/* There may be work for all, and other times to mind. */
	cond_broadcast(&scheduler->work);
	cond_signal(&scheduler->time);
}

bool allocate_scheduler_can_give_way(const AllocateScheduler *scheduler)
{
	for (size_t i = 0; i < scheduler->n_classes; i++)
		if (segment_pool_ready(&scheduler->classes[i].pool) > 0 ||
		    !g_queue_is_empty(&scheduler->classes[i].pool.recycled))
			return true;
	return false;
}

/*
 * What is to be done next.
 */

/* None of a class may be begun if what is on its way serves all that are in the queue. */
static void find_out_who_may_begin(AllocateScheduler *scheduler)
{
	for (size_t i = 0; i < scheduler->n_classes; i++) {
		ClassState *state = &scheduler->classes[i];

		state->may_begin = state->n_queued > state->pool.n_coming &&
				   allocate_scheduler_room(scheduler, state) > 0;
	}
}

static AllocateRequest *next_waiting(AllocateScheduler *scheduler)
{
	AllocateRequest *first = NULL, *oldest = NULL;

	find_out_who_may_begin(scheduler);
	for (AllocateRequest *request = request_queue_first(&scheduler->queue); request;
	     request = request_queue_next(request)) {
		if (!allocate_scheduler_class(scheduler, request->class)->may_begin)
			continue;
		if (!first)
			first = request;
		if (!oldest || request->serial < oldest->serial)
			oldest = request;
	}
	if (first == oldest || oldest->n_passed_over++ < MAX_PASSED_OVER)
		return first;
	return oldest;
}

static bool start(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request, Work *work)
{
	request->state = ALLOCATE_PREPARING;
	request->started_ns = now_ns(scheduler);
	g_queue_push_tail_link(&scheduler->preparing, &request->work_link);
	work->request = request;
	work->recycled = g_queue_pop_head(&state->pool.recycled);
	/* Space is minded more closely from now on. */
	cond_signal(&scheduler->time);
	return true;
}

static bool next_urgent(AllocateScheduler *scheduler, Work *work)
{
	unsigned n_idle = scheduler->n_threads - MIN(scheduler->n_threads, scheduler->n_background);
	AllocateRequest *request;

	if (scheduler->n_urgent >= MAX(n_idle, 1) || !(request = next_waiting(scheduler)))
		return false;
	ClassState *state = allocate_scheduler_class(scheduler, request->class);
	allocate_waiting_dequeue(scheduler, state, request);
	scheduler->n_urgent++;
	state->pool.n_promised++;
	return start(scheduler, state, request, work);
}

static bool may_begin_for_nobody(const AllocateScheduler *scheduler)
{
	return scheduler->n_urgent + scheduler->n_background < scheduler->n_threads;
}

static bool next_clean_up(AllocateScheduler *scheduler, Work *work)
{
	if (!may_begin_for_nobody(scheduler))
		return false;
	work->retired = g_queue_pop_head(&scheduler->retired);
	if (!work->retired)
		work->surplus = g_queue_pop_head(&scheduler->surplus);
	if (!work->retired && !work->surplus)
		return false;
	scheduler->n_background++;
	return true;
}

static ClassState *neediest(const AllocateScheduler *scheduler)
{
	int64_t now = now_ns(scheduler);
	ClassState *neediest = NULL;

	for (size_t i = 0; i < scheduler->n_classes; i++) {
		ClassState *state = &scheduler->classes[i];

		if (segment_pool_lacks(&state->pool, live_bytes(scheduler, state), now) > 0 &&
		    (!neediest || segment_pool_compare_need(&state->pool, &neediest->pool) < 0))
			neediest = state;
	}
	return neediest;
}

static bool next_ahead(AllocateScheduler *scheduler, Work *work)
{
	ClassState *state;

	if (!scheduler->filling || !may_begin_for_nobody(scheduler) || !(state = neediest(scheduler)))
		return false;
	scheduler->n_background++;
	state->pool.n_coming++;
	state->pool.last_turn = ++scheduler->last_serial;
	return start(scheduler, state,
		     allocate_request_new(state->pool.class, NULL, state->pool.last_turn, now_ns(scheduler)),
		     work);
}

bool allocate_scheduler_next(AllocateScheduler *scheduler, Work *ret_work)
{
	/* A crowd that always waits must not keep the mappings of all that it took. */
	bool crowded = scheduler->retired.length >= MAX_RETIRED;

	*ret_work = (Work){ 0 };
	if ((crowded && next_clean_up(scheduler, ret_work)) || next_urgent(scheduler, ret_work) ||
	    next_clean_up(scheduler, ret_work) || next_ahead(scheduler, ret_work)) {
		/* There may be something for another worker, too. */
		cond_signal(&scheduler->work);
		return true;
	}
	return false;
}

/*
 * What came of it.
 */

static void fail_waiting(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request, int error)
{
	request->attempts++;
	if (alloc_error_is_passing(error) && request->attempts < MAX_ATTEMPTS) {
		request->state = ALLOCATE_DELAYED;
		request->retry_ns = now_ns(scheduler) + (REQUEST_PAUSE_NS << 2 * (request->attempts - 1));
		g_queue_push_tail_link(&scheduler->delayed, &request->work_link);
		return;
	}
	class_state_fail_waiting(state, request, error, scheduler->log);
	allocate_waiting_end(scheduler, request, ALLOCATE_FAILED, error);
}

/* Perhaps somebody has taken it up since, but too late. */
static bool was_cancelled(const AllocateRequest *request)
{
	return atomic_load(&request->cancel) || (request->path && allocate_state_is_end(request->state));
}

static void fail(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request, int error)
{
	if (error == -ECANCELED && was_cancelled(request))
		return;
	class_state_note_failure(state, error);
	if (allocate_request_has_waiter(request))
		fail_waiting(scheduler, state, request, error);
	else
		class_state_fail_ahead(state, error, scheduler->log, now_ns(scheduler));
	cond_signal(&scheduler->time);
}

static bool is_superseded(const AllocateScheduler *scheduler, const AllocateRequest *request)
{
	return request->state == ALLOCATE_READY || request_table_find(&scheduler->table, request->path);
}

static void succeed(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request,
		    Segment *segment)
{
	int64_t now = now_ns(scheduler);

	class_state_recover(state, scheduler->log);
	class_state_note_prepared(state, request, segment, request_queue_length(&scheduler->queue),
				  scheduler->log, now);
	if (request->path && allocate_state_is_end(request->state))
		class_state_note_late(state, request, is_superseded(scheduler, request), scheduler->log, now);
	deliver(scheduler, state, segment, request);
}

/* The worker is free again. */
static void leave_worker(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	g_queue_unlink(&scheduler->preparing, &request->work_link);
	if (allocate_request_has_waiter(request)) {
		request->state = ALLOCATE_QUEUED;
		scheduler->n_urgent--;
		state->pool.n_promised--;
	} else if (!request->given_up) {
		scheduler->n_background--;
		state->pool.n_coming--;
	}
}

void allocate_scheduler_finish(AllocateScheduler *scheduler, AllocateRequest *request, int r, Segment *segment)
{
	ClassState *state = allocate_scheduler_class(scheduler, request->class);

	leave_worker(scheduler, state, request);
	if (r == 0)
		succeed(scheduler, state, request, segment);
	else
		fail(scheduler, state, request, r);
}

void allocate_scheduler_cleaned_up(AllocateScheduler *scheduler)
{
	scheduler->n_background--;
}

/*
 * What time brings.
 */

/* Ends those whose time is over. When the next one's is. */
static int64_t expire(AllocateScheduler *scheduler, ClassState *state, int64_t now)
{
	bool is_used_up = segment_pool_is_used_up(&state->pool, live_bytes(scheduler, state));
	AllocateRequest *first;

	while ((first = wait_list_first(&state->waiting))) {
		int64_t patience_ns = is_used_up ? first->submitted_ns + QUOTA_PATIENCE_NS : DEADLINE_NEVER;
		int64_t end_ns = MIN(first->deadline_ns, patience_ns);

		if (end_ns > now)
			return end_ns;
		if (first->deadline_ns > now)
			class_state_note_over_quota(state, scheduler->log, now);
		allocate_waiting_end(scheduler, first, ALLOCATE_TIMED_OUT, -EAGAIN);
	}
	return DEADLINE_NEVER;
}

static int64_t mind_depth(AllocateScheduler *scheduler, ClassState *state, int64_t now)
{
	Segment *left_over;
	int64_t next_ns = segment_pool_mind_depth(&state->pool, now, &left_over);

	if (left_over)
		g_queue_push_tail(&scheduler->surplus, left_over);
	shed_recycled(scheduler, state);
	return next_ns;
}

/* When more may be prepared than now, as far as time decides that. */
static int64_t mind_wishes(const ClassState *state, int64_t now)
{
	const SegmentPool *pool = &state->pool;

	if (pool->resume_ns > now)
		return pool->resume_ns;
	if (pool->class->quota_bytes && (segment_pool_wants(pool, now) > 0 || state->n_queued > 0))
		return now + QUOTA_INTERVAL_NS;
	return DEADLINE_NEVER;
}

static int64_t mind_class(AllocateScheduler *scheduler, ClassState *state, int64_t now)
{
	int64_t next_ns = expire(scheduler, state, now);

	next_ns = MIN(next_ns, mind_depth(scheduler, state, now));
	return MIN(next_ns, mind_wishes(state, now));
}

static int64_t mind_delayed(AllocateScheduler *scheduler, int64_t now)
{
	int64_t next_ns = DEADLINE_NEVER;
	GList *following;

	for (GList *link = scheduler->delayed.head; link; link = following) {
		AllocateRequest *request = link->data;

		following = link->next;
		if (request->retry_ns <= now) {
			g_queue_unlink(&scheduler->delayed, link);
			allocate_waiting_enqueue(scheduler, allocate_scheduler_class(scheduler, request->class),
						 request);
		} else {
			next_ns = MIN(next_ns, request->retry_ns);
		}
	}
	return next_ns;
}

bool allocate_scheduler_has_work(const AllocateScheduler *scheduler)
{
	return request_queue_length(&scheduler->queue) > 0 || scheduler->retired.length > 0 ||
	       scheduler->surplus.length > 0 || (scheduler->filling && neediest(scheduler));
}

int64_t allocate_scheduler_space_ns(const AllocateScheduler *scheduler, int64_t looked_ns, bool plenty)
{
	if (!allocate_scheduler_can_give_way(scheduler))
		return DEADLINE_NEVER;
	if (plenty && scheduler->preparing.length == 0)
		return looked_ns + SPACE_IDLE_INTERVAL_NS;
	return looked_ns + SPACE_INTERVAL_NS;
}

int64_t allocate_scheduler_mind(AllocateScheduler *scheduler)
{
	int64_t now = now_ns(scheduler);
	int64_t next_ns = mind_delayed(scheduler, now);

	for (size_t i = 0; i < scheduler->n_classes; i++)
		next_ns = MIN(next_ns, mind_class(scheduler, &scheduler->classes[i], now));
	/* A pause may be over, or room have been made. */
	if (allocate_scheduler_has_work(scheduler))
		cond_signal(&scheduler->work);
	return next_ns;
}

AllocStatus allocate_scheduler_status(AllocateScheduler *scheduler, size_t nth_class)
{
	ClassState *state = &scheduler->classes[nth_class];

	return class_state_status(state, live_bytes(scheduler, state), now_ns(scheduler));
}
