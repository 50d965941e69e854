// SPDX-License-Identifier: Apache-2.0
/*
 * One lock covers the scheduler, who decides what is to be done and who gets it. It is held for list
 * surgery only: preparing, removing files and opening latches happen without it.
 *
 * Ended requests go to an end list under the lock; their latches open after it is dropped. cancel is called where the
 * caller may hold locks that a latch's function takes, so it leaves the opening to the timekeeper, the thread
 * that also minds the deadlines, the pauses after failures, and the filesystem's free space. Requests that have timed
 * out are opened by a thread of their own, because making an unprepared file may be as slow as the disk.
 */
#include "alloc/allocate-service.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/alloc-error.h"
#include "alloc/allocate-waiting.h"
#include "alloc/class-change.h"
#include "alloc/remover.h"

/* Free space beyond the reserve is plenty if applications cannot use that up while nobody looks. */
#define PLENTY_BYTES (UINT64_C(8) << 30)

struct AllocateService {
	/* Immutable after start. */
	SegmentProvider *provider;
	SegmentLocks *locks;
	pthread_t *workers;
	unsigned n_workers;
	pthread_t timekeeper;
	pthread_t opener;
	bool opener_runs;
	Remover remover;
	Mutex lock;
	/* Protected by lock. */
	bool started;
	bool stopping;
	AllocateScheduler scheduler;
	/* How often the timekeeper has come round, and when it does; and whether it may be waiting for the disk. */
	uint64_t n_rounds;
	Cond round;
	bool at_disk;
};

AllocateService *allocate_service_new(const ClassRules *rules, SegmentProvider *provider,
				      const LiveBytes *live, const Log *log)
{
	AllocateService *service = g_new0(AllocateService, 1);

	service->provider = provider;
	mutex_init(&service->lock);
	remover_init(&service->remover, &sys_kernel);
	cond_init(&service->round);
	allocate_scheduler_init(&service->scheduler, rules, &clock_monotonic, live, log);
	return service;
}

void allocate_service_set_pace(AllocateService *service, WarmPace *pace)
{
	service->scheduler.pace = pace;
}

void allocate_service_set_locks(AllocateService *service, SegmentLocks *locks)
{
	service->locks = locks;
}

AllocateService *allocate_service_free(AllocateService *service)
{
	AllocateScheduler *scheduler;
	Segment *segment;

	if (!service)
		return NULL;
	g_assert(!service->started);
	scheduler = &service->scheduler;
	while ((segment = g_queue_pop_head(&scheduler->retired)))
		service->provider->release(service->provider, segment);
	while ((segment = g_queue_pop_head(&scheduler->surplus)))
		service->provider->discard(service->provider, segment);
	for (size_t i = 0; i < scheduler->n_classes; i++)
		while ((segment = segment_pool_take(&scheduler->classes[i].pool)))
			service->provider->release(service->provider, segment);
	for (size_t i = 0; i < scheduler->n_classes; i++)
		while ((segment = g_queue_pop_head(&scheduler->classes[i].pool.recycled)))
			service->provider->discard(service->provider, segment);
	allocate_scheduler_deinit(scheduler);
	remover_deinit(&service->remover);
	cond_deinit(&service->round);
	mutex_deinit(&service->lock);
	g_free(service);
	return NULL;
}

static bool is_waited_for(AllocateService *service, const AllocateRequest *request)
{
	MUTEX_SCOPE(&service->lock);
	return allocate_request_has_waiter(request);
}

static int prepare_new(AllocateService *service, AllocateRequest *request, Segment **ret_segment)
{
	SegmentProvider *provider = service->provider;
	int r = 0;

	if (!request->path)
		r = provider->check_space(provider, request->class->size_bytes);
	if (r < 0)
		return r;
	do
		r = provider->prepare(provider, request->class, &request->cancel, ret_segment);
	while (alloc_error_is_space(r) && is_waited_for(service, request) && allocate_service_give_way(service));
	/* A provider that says neither yes nor no has failed. */
	if (r >= 0)
		r = *ret_segment ? 0 : -EIO;
	return r;
}

/* The counters need no lock. */
static void count(AllocateService *service, const SegmentClass *class, AllocCounter counter)
{
	class_state_count(allocate_scheduler_class(&service->scheduler, class), counter);
}

/* It needs no space; but while that is scarce, it is needed by others. */
static int renew(AllocateService *service, AllocateRequest *request, Segment *recycled)
{
	SegmentProvider *provider = service->provider;

	if (request->path || provider->check_space(provider, 0) == 0)
		return provider->renew(provider, recycled, &request->cancel);
	provider->discard(provider, recycled);
	return -ENOSPC;
}

static int prepare_for(AllocateService *service, const Work *work, Segment **ret_segment)
{
	if (!work->recycled)
		return prepare_new(service, work->request, ret_segment);
	if (renew(service, work->request, work->recycled) == 0) {
		*ret_segment = work->recycled;
		return 0;
	}
	count(service, work->request->class, ALLOC_NOT_RECYCLED);
	return prepare_new(service, work->request, ret_segment);
}

static void prepare(AllocateService *service, const Work *work)
{
	AllocateRequest *request = work->request;
	Segment *segment = NULL;
	int r = prepare_for(service, work, &segment);

	mutex_lock(&service->lock);
	allocate_scheduler_finish(&service->scheduler, request, r, segment);
	mutex_unlock(&service->lock);
	allocate_request_unref(request);
	end_list_open(&service->scheduler.ended);
}

static void clean_up(AllocateService *service, const Work *work)
{
	SegmentProvider *provider = service->provider;

	if (work->retired)
		provider->release(provider, work->retired);
	else
		provider->discard(provider, work->surplus);
	MUTEX_SCOPE(&service->lock);
	allocate_scheduler_cleaned_up(&service->scheduler);
}

/* Does the next piece of work. False if there was none. Called, and returns, with the lock held. */
static bool work_once(AllocateService *service)
{
	Work work;

	if (!allocate_scheduler_next(&service->scheduler, &work))
		return false;
	mutex_unlock(&service->lock);
	if (work.request)
		prepare(service, &work);
	else
		clean_up(service, &work);
	mutex_lock(&service->lock);
	return true;
}

static void *worker_run(void *arg)
{
	AllocateService *service = arg;

	MUTEX_SCOPE(&service->lock);
	while (!service->stopping)
		if (!work_once(service))
			cond_wait(&service->scheduler.work, &service->lock);
	return NULL;
}

static bool give_way_now(AllocateService *service)
{
	mutex_lock(&service->lock);
	Segment *segment = allocate_scheduler_give_way(&service->scheduler);
	mutex_unlock(&service->lock);

	if (segment)
		service->provider->discard(service->provider, segment);
	return segment != NULL;
}

/* Applications that write through the kernel meet a full disk without our hearing of it, so the pool looks for
 * itself, and gives way, one segment at a time, before they do. Whether there is plenty. Drops the lock meanwhile. */
static bool mind_space_locked(AllocateService *service)
{
	service->at_disk = true;
	mutex_unlock(&service->lock);
	bool plenty = !alloc_error_is_space(service->provider->check_space(service->provider, PLENTY_BYTES));
	/* What is being removed comes first. */
	if (!plenty && !remover_is_busy(&service->remover) &&
	    alloc_error_is_space(service->provider->check_space(service->provider, 0)))
		give_way_now(service);
	mutex_lock(&service->lock);
	service->at_disk = false;
	return plenty;
}

static void *timekeeper_run(void *arg)
{
	AllocateService *service = arg;
	int64_t looked_ns = 0;
	bool plenty = false;

	mutex_lock(&service->lock);
	while (!service->stopping) {
		int64_t now_ns = monotonic_ns();
		int64_t next_ns = allocate_scheduler_mind(&service->scheduler);

		service->n_rounds++;
		cond_broadcast(&service->round);
		if (!end_list_is_empty(&service->scheduler.ended)) {
			mutex_unlock(&service->lock);
			end_list_open(&service->scheduler.ended);
			mutex_lock(&service->lock);
			continue;
		}
		int64_t space_ns = allocate_scheduler_space_ns(&service->scheduler, looked_ns, plenty);
		if (now_ns >= space_ns) {
			looked_ns = now_ns;
			plenty = mind_space_locked(service);
			continue;
		}
		cond_wait_until(&service->scheduler.time, &service->lock, MIN(next_ns, space_ns));
	}
	mutex_unlock(&service->lock);
	return NULL;
}

static void *opener_run(void *arg)
{
	AllocateService *service = arg;

	end_list_open_until_closed(&service->scheduler.timed_out);
	return NULL;
}

/* Those that are too many find nothing to do. */
static int set_threads_locked(AllocateService *service, unsigned n_threads)
{
	/* One more than work at a time, for a create that waits while the others prepare ahead. */
	unsigned wanted = MAX(service->n_workers, n_threads + 1);
	int r = 0;

	service->workers = g_renew(pthread_t, service->workers, wanted);
	while (r == 0 && service->n_workers < wanted) {
		r = thread_start(&service->workers[service->n_workers], "warmfs-alloc", worker_run, service);
		if (r == 0)
			service->n_workers++;
	}
	if (r == 0)
		service->scheduler.n_threads = n_threads;
	return r;
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
	if (r == 0)
		r = remover_start(&service->remover);
	return r < 0 ? r : set_threads_locked(service, n_threads);
}

int allocate_service_start(AllocateService *service, unsigned n_threads)
{
	mutex_lock(&service->lock);
	int r = start_threads_locked(service, n_threads);
	if (r < 0)
		service->stopping = true;
	service->scheduler.filling = r == 0;
	mutex_unlock(&service->lock);

	if (r < 0)
		allocate_service_stop(service);
	return r;
}

void allocate_service_stop(AllocateService *service)
{
	mutex_lock(&service->lock);
	bool was_started = service->started;
	service->started = false;
	service->scheduler.filling = false;
	service->stopping = true;
	allocate_waiting_end_all(&service->scheduler);
	cond_broadcast(&service->scheduler.work);
	cond_broadcast(&service->scheduler.time);
	cond_broadcast(&service->round);
	mutex_unlock(&service->lock);

	end_list_open(&service->scheduler.ended);
	remover_stop(&service->remover);
	if (!was_started)
		return;
	for (unsigned i = 0; i < service->n_workers; i++)
		pthread_join(service->workers[i], NULL);
	pthread_join(service->timekeeper, NULL);
	end_list_close(&service->scheduler.timed_out);
	if (service->opener_runs)
		pthread_join(service->opener, NULL);
	g_clear_pointer(&service->workers, g_free);
	end_list_open(&service->scheduler.ended);
}

int allocate_service_set_threads(AllocateService *service, unsigned n_threads)
{
	MUTEX_SCOPE(&service->lock);
	if (service->stopping || !service->started)
		return -ESHUTDOWN;
	int r = set_threads_locked(service, n_threads);
	cond_broadcast(&service->scheduler.work);
	return r;
}

Segment *allocate_service_take(AllocateService *service, const SegmentClass *class)
{
	MUTEX_SCOPE(&service->lock);
	return service->stopping ? NULL : allocate_scheduler_take(&service->scheduler, class);
}

AllocateRequest *allocate_service_submit(AllocateService *service, const SegmentClass *class,
					 const char *path)
{
	AllocateRequest *request;

	mutex_lock(&service->lock);
	if (service->stopping)
		request = allocate_scheduler_refuse(&service->scheduler, class, path);
	else
		request = allocate_scheduler_submit(&service->scheduler, class, path);
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
	allocate_waiting_end(&service->scheduler, request, ALLOCATE_CANCELLED, -EINTR);
	cond_signal(&service->scheduler.time);
}

int allocate_service_publish(AllocateService *service, Segment *segment, const SegmentTarget *target)
{
	int r = service->provider->publish(service->provider, segment, target);

	if (r == 0 && !segment->cold)
		count(service, segment->class, ALLOC_TAKEN);
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
	allocate_scheduler_give_back(&service->scheduler, segment);
}

void allocate_service_retire(AllocateService *service, Segment *segment)
{
	MUTEX_SCOPE(&service->lock);
	allocate_scheduler_retire(&service->scheduler, segment);
}

/* It may be one of those, and our own mapping in the way. */
static void release_retired(AllocateService *service, const SegmentClass *class)
{
	Segment *segment;

	do {
		mutex_lock(&service->lock);
		segment = allocate_scheduler_take_retired(&service->scheduler, class);
		mutex_unlock(&service->lock);
		if (segment)
			service->provider->release(service->provider, segment);
	} while (segment);
}

bool allocate_service_claim(AllocateService *service, const SegmentClass *class)
{
	/* While space is scarce, it is others who need it. */
	if (service->provider->check_space(service->provider, 0) < 0)
		return false;
	mutex_lock(&service->lock);
	bool is_wanted = allocate_scheduler_claim(&service->scheduler, class);
	mutex_unlock(&service->lock);

	if (is_wanted)
		release_retired(service, class);
	return is_wanted;
}

void allocate_service_recycle(AllocateService *service, const SegmentClass *class, Segment *segment)
{
	MUTEX_SCOPE(&service->lock);
	allocate_scheduler_recycle(&service->scheduler, class, segment);
}

bool allocate_service_give_way(AllocateService *service)
{
	return remover_wait(&service->remover) || give_way_now(service);
}

/* Applications that write through the kernel cannot wait for it, when the disk is nearly full. */
void allocate_service_bury(AllocateService *service, int fd, uint64_t bytes)
{
	if (service->provider->check_space(service->provider, 0) < 0)
		close(fd);
	else
		remover_bury(&service->remover, fd, bytes);
}

uint64_t allocate_service_burying_bytes(AllocateService *service)
{
	return remover_pending_bytes(&service->remover);
}

uint64_t allocate_service_burying_files(AllocateService *service)
{
	return remover_pending_files(&service->remover);
}

bool allocate_service_answers(AllocateService *service, int64_t deadline_ns)
{
	MUTEX_SCOPE(&service->lock);
	uint64_t before = service->n_rounds;

	cond_signal(&service->scheduler.time);
	while (service->started && service->n_rounds == before)
		if (!cond_wait_until(&service->round, &service->lock, deadline_ns))
			return !service->started || service->n_rounds != before || service->at_disk;
	return true;
}

static Segment *drain_one(AllocateService *service, size_t nth_class)
{
	MUTEX_SCOPE(&service->lock);
	return allocate_scheduler_drain(&service->scheduler, nth_class);
}

unsigned allocate_service_drain(AllocateService *service, size_t nth_class)
{
	Segment *segment;
	unsigned n = 0;

	while ((segment = drain_one(service, nth_class))) {
		service->provider->discard(service->provider, segment);
		n++;
	}
	return n;
}

void allocate_service_fill(AllocateService *service, size_t nth_class)
{
	MUTEX_SCOPE(&service->lock);
	allocate_scheduler_fill(&service->scheduler, nth_class);
}

void allocate_service_change(AllocateService *service, ClassRules *rules, ClassRules *wanted)
{
	MUTEX_SCOPE(&service->lock);
	class_rules_become(rules, wanted);
	allocate_scheduler_adjust(&service->scheduler);
}

unsigned allocate_service_open_ready(AllocateService *service, size_t nth_class, int *ret_fds, unsigned max)
{
	unsigned n = 0;

	MUTEX_SCOPE(&service->lock);
	for (GList *link = service->scheduler.classes[nth_class].pool.ready.head; link && n < max; link = link->next) {
		int fd = fcntl(((Segment *)link->data)->fd, F_DUPFD_CLOEXEC, 3);

		if (fd >= 0)
			ret_fds[n++] = fd;
	}
	return n;
}

AllocStatus allocate_service_status(AllocateService *service, size_t nth_class)
{
	MUTEX_SCOPE(&service->lock);
	AllocStatus status = allocate_scheduler_status(&service->scheduler, nth_class);
	status.locked_bytes =
		segment_locks_bytes(service->locks, service->scheduler.classes[nth_class].pool.class);
	return status;
}

char *allocate_service_describe(AllocateService *service, size_t nth_class)
{
	AllocStatus status = allocate_service_status(service, nth_class);

	return alloc_status_to_line(&status);
}

uint64_t allocate_service_counter(AllocateService *service, size_t nth_class, AllocCounter counter)
{
	return alloc_counters_get(&service->scheduler.classes[nth_class].pool.counters, counter);
}

unsigned allocate_service_ready(AllocateService *service, size_t nth_class)
{
	MUTEX_SCOPE(&service->lock);
	return segment_pool_ready(&service->scheduler.classes[nth_class].pool);
}
