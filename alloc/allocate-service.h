/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocate service: background threads that prepare segments ahead and for whoever waits.
 *
 * Threads: every function may be called from any thread unless it says otherwise; none blocks on a
 * preparation. Latches open on a thread of the service (or, for stop, on the caller's), never
 * inside submit or cancel, and with no lock held.
 */
#pragma once

#include "alloc/alloc-status.h"
#include "alloc/allocate-request.h"
#include "alloc/class-rules.h"
#include "alloc/live-bytes.h"
#include "alloc/log.h"
#include "alloc/segment-locks.h"
#include "alloc/segment-provider.h"
#include "alloc/warm-pace.h"

typedef struct AllocateService AllocateService;

/* All are borrowed and must outlive the service. `live` may be NULL: no taken segment is live then. */
AllocateService *allocate_service_new(const ClassRules *rules, SegmentProvider *provider,
				      const LiveBytes *live, const Log *log);
/* Before start: from now on the pace hears whether creates wait. Borrowed. */
void allocate_service_set_pace(AllocateService *service, WarmPace *pace);
/* Before start: where the status has it from what is locked. Borrowed. */
void allocate_service_set_locks(AllocateService *service, SegmentLocks *locks);
/* Legal before start and after stop. Segments still in the pool stay as files. Takes NULL; returns NULL. */
AllocateService *allocate_service_free(AllocateService *service);

/* Begins to fill the pools, with n_threads (at least 1) pieces of work at a time, and one more for a create that
 * waits while those are for nobody. 0 or -errno; then nothing runs. */
int allocate_service_start(AllocateService *service, unsigned n_threads);

/* Another number of them, while it runs. 0 or -errno; then it is as it was. */
int allocate_service_set_threads(AllocateService *service, unsigned n_threads);

/* Ends every waiting request with -ESHUTDOWN, interrupts what is being prepared and joins the threads. From then
 * on submit gives requests that have failed so. One thread calls it, and may call it again. */
void allocate_service_stop(AllocateService *service);

/* The pool's oldest ready segment of the class, now the caller's, or NULL. The pool is filled again when it is
 * retired or given back, so that preparing does not slow publishing. */
Segment *allocate_service_take(AllocateService *service, const SegmentClass *class);

/* A wish for a segment for `path`: ended at once if the pool has one, else waiting. The caller unrefs it, and
 * owns the segment that it may hold at the end: publish it, then retire it, or give it back. */
AllocateRequest *allocate_service_submit(AllocateService *service, const SegmentClass *class,
					 const char *path);

/* The waiter is gone: ends the request as ALLOCATE_CANCELLED, if it has not ended. */
void allocate_service_cancel(AllocateService *service, AllocateRequest *request);

/* See SegmentProvider. */
int allocate_service_publish(AllocateService *service, Segment *segment, const SegmentTarget *target);
int allocate_service_prepare_cold(AllocateService *service, const SegmentClass *class,
				  Segment **ret_segment);

/* Consumes a segment that was not published: the next waiter or the pool gets it (a cold one is removed). */
void allocate_service_give_back(AllocateService *service, Segment *segment);
/* Consumes a published segment; what is slow about it (unmapping) happens in the background. */
void allocate_service_retire(AllocateService *service, Segment *segment);

/* Whether a file of the class that is about to lose its last name should become a segment again. Then recycle has to
 * follow, with what it has become: a segment to be renewed, or NULL if it cannot. */
bool allocate_service_claim(AllocateService *service, const SegmentClass *class);
void allocate_service_recycle(AllocateService *service, const SegmentClass *class, Segment *segment);

/* Makes space: waits for the burials under way, or if there are none, removes one ready segment, the largest first. False
 * if there is none either. */
bool allocate_service_give_way(AllocateService *service);

/* Consumes the last descriptor of a removed file of so many bytes: its blocks are given back in the background, unless
 * free space is scarce (alloc/remover.h). */
void allocate_service_bury(AllocateService *service, int fd, uint64_t bytes);
/* Of those, what is still to be given back: bytes, and files. */
uint64_t allocate_service_burying_bytes(AllocateService *service);
uint64_t allocate_service_burying_files(AllocateService *service);
/* For a watchdog. Whether the thread that minds deadlines does so, seen before the (monotonic) deadline; blocks
 * meanwhile. What waits for the disk may take its time, and does not count; but if somebody keeps the lock, this never
 * returns. True if the service is not running. */
bool allocate_service_answers(AllocateService *service, int64_t deadline_ns);

/* Removes the ready segments of a class, and prepares no more ahead until a create finds none, or fill is called. How many
 * were removed; blocks for that. What is just being prepared for the pool goes, too, when it is ready. */
unsigned allocate_service_drain(AllocateService *service, size_t nth_class);
/* Ends that, and any pause after a failure. */
void allocate_service_fill(AllocateService *service, size_t nth_class);

/* Changes the service's rules as class_rules_become does, all at once: pools that are to be deeper are filled, what is
 * too much is removed in the background, and requests that wait already keep their deadlines. */
void allocate_service_change(AllocateService *service, ClassRules *rules, ClassRules *wanted);

/* Descriptors of ready segments of the class, at most `max`, for looking at: the caller closes them soon. How many. */
unsigned allocate_service_open_ready(AllocateService *service, size_t nth_class, int *ret_fds, unsigned max);

AllocStatus allocate_service_status(AllocateService *service, size_t nth_class);
/* The same as a line (alloc/alloc-status.h). Free with g_free. */
char *allocate_service_describe(AllocateService *service, size_t nth_class);
uint64_t allocate_service_counter(AllocateService *service, size_t nth_class, AllocCounter counter);
unsigned allocate_service_ready(AllocateService *service, size_t nth_class);
