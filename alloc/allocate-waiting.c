// SPDX-License-Identifier: Apache-2.0
#include "alloc/allocate-waiting.h"

#include <errno.h>

/* Whether a preparation that would be given up is what those in the queue need, and takes no worker from others. */
static bool is_of_use(AllocateScheduler *scheduler, ClassState *state)
{
	return state->n_queued > state->pool.n_coming && request_queue_length(&scheduler->queue) == state->n_queued &&
	       allocate_scheduler_room(scheduler, state) > 0;
}

/* For nobody in particular, from now on. */
static void let_go_on(AllocateScheduler *scheduler, ClassState *state)
{
	scheduler->n_background++;
	state->pool.n_coming++;
}

/* What was given up may still be under way, and keep the worker that the queue waits for. */
static void take_up(AllocateScheduler *scheduler, ClassState *state)
{
	for (GList *link = scheduler->preparing.head; link && is_of_use(scheduler, state); link = link->next) {
		AllocateRequest *request = link->data;

		if (!request->given_up || request->class != state->pool.class)
			continue;
		request->given_up = false;
		atomic_store(&request->cancel, false);
		let_go_on(scheduler, state);
	}
}

void allocate_waiting_enqueue(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	request->state = ALLOCATE_QUEUED;
	request_queue_push(&scheduler->queue, request);
	state->n_queued++;
	take_up(scheduler, state);
	cond_signal(&scheduler->work);
}

void allocate_waiting_dequeue(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	request_queue_remove(&scheduler->queue, request);
	state->n_queued--;
}

/* What has become of a request decides what becomes of those that joined it. */
static void settle_followers(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *leader)
{
	AllocateRequest *follower;
	int error = leader->state == ALLOCATE_READY ? -EEXIST : leader->error;

	if (leader->state == ALLOCATE_READY || leader->state == ALLOCATE_FAILED) {
		while ((follower = wait_list_follower(&state->waiting, leader)))
			allocate_waiting_end(scheduler, follower, ALLOCATE_FAILED, error);
	} else if ((follower = wait_list_pass_on(&state->waiting, leader))) {
		request_table_put_if_absent(&scheduler->table, follower);
		allocate_waiting_enqueue(scheduler, state, follower);
	}
}

/* A worker is at it, and what it makes is now for whoever comes next; but not if that leaves no worker for those
 * who come next, and they are of other classes. */
static void abandon(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	scheduler->n_urgent--;
	state->pool.n_promised--;
	if (scheduler->n_background < scheduler->n_threads || is_of_use(scheduler, state)) {
		let_go_on(scheduler, state);
	} else {
		request->given_up = true;
		atomic_store(&request->cancel, true);
		warm_pace_wake(scheduler->pace);
	}
	cond_signal(&scheduler->work);
}

/* Takes the request from its place of work. */
static void give_up_place(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	switch (request->state) {
	case ALLOCATE_QUEUED:
		if (request->queue_place) {
			allocate_waiting_dequeue(scheduler, state, request);
			allocate_request_unref(request);
		}
		break;
	case ALLOCATE_PREPARING:
		abandon(scheduler, state, request);
		break;
	case ALLOCATE_DELAYED:
		g_queue_unlink(&scheduler->delayed, &request->work_link);
		break;
	case ALLOCATE_JOINED:
		break;
	case ALLOCATE_READY:
	case ALLOCATE_FAILED:
	case ALLOCATE_TIMED_OUT:
	case ALLOCATE_CANCELLED:
		g_assert_not_reached();
	}
}

/* The waiting list's reference goes along to the end list; from then on the request is its waiter's. */
void allocate_waiting_end(AllocateScheduler *scheduler, AllocateRequest *request, AllocateState how, int error)
{
	ClassState *state = allocate_scheduler_class(scheduler, request->class);

	g_assert(allocate_request_has_waiter(request));
	warm_pace_relax(scheduler->pace);
	give_up_place(scheduler, state, request);
	request_table_remove_if_same(&scheduler->table, request);
	wait_list_remove(&state->waiting, request);
	request->state = how;
	request->error = error;
	class_state_note_end(state, request, clock_now_ns(scheduler->clock));
	settle_followers(scheduler, state, request);
	/* What a timeout leads to may take long: it has a thread of its own. */
	bool slow = how == ALLOCATE_TIMED_OUT && !request->class->fail_on_timeout;
	end_list_push(slow ? &scheduler->timed_out : &scheduler->ended, request);
}

void allocate_waiting_end_all(AllocateScheduler *scheduler)
{
	AllocateRequest *request;

	for (size_t i = 0; i < scheduler->n_classes; i++)
		while ((request = wait_list_first(&scheduler->classes[i].waiting)))
			allocate_waiting_end(scheduler, request, ALLOCATE_FAILED, -ESHUTDOWN);
	for (GList *link = scheduler->preparing.head; link; link = link->next)
		atomic_store(&((AllocateRequest *)link->data)->cancel, true);
	warm_pace_wake(scheduler->pace);
}

void allocate_waiting_begin(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request)
{
	AllocateRequest *leader = request_table_put_if_absent(&scheduler->table, request);

	class_state_count(state, ALLOC_WAITS);
	wait_list_push(&state->waiting, request);
	warm_pace_hurry(scheduler->pace);
	if (leader) {
		class_state_count(state, ALLOC_JOINED);
		request->state = ALLOCATE_JOINED;
		request->leader = leader;
	} else {
		class_state_count(state, ALLOC_MISSES);
		segment_pool_missed(&state->pool);
		allocate_waiting_enqueue(scheduler, state, request);
	}
	cond_signal(&scheduler->time);
}
