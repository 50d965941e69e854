// SPDX-License-Identifier: Apache-2.0
/*
 * The way of one create. A name without a class is made in the source. A name of a class takes a ready segment, which
 * is published under it; or, when the pool is empty, its request is left unanswered: a PendingCreate
 * stays behind at the latch of an AllocateRequest, this thread goes on to other requests, and whoever
 * opens the latch answers.
 *
 * An interrupted waiter goes on waiting, as natively no signal ends the open of a file, unless it is being killed.
 * libfuse tells of the first signal only: who is killed after a harmless one is gone when the wait is over. It calls
 * on_interrupt with a lock of the request held, so that nothing may be answered there. That only cancels; the latch then
 * opens on a thread of the service. Taking the function away again (fuse_req_interrupt_func with NULL) waits for one
 * that runs, so that the PendingCreate outlives it.
 *
 * A name that has appeared since the kernel looked is ESTALE: the kernel then looks again, and finds it and its
 * permissions. To open it here would be to skip the check of those.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/live-buffer.h"
#include "fs/caller.h"
#include "fs/file-handle.h"
#include "fs/ops.h"
#include "fs/ownership.h"
#include "fs/reply.h"

typedef struct PendingCreate {
	fuse_req_t req;
	Inode *parent;
	char *name;
	mode_t mode;
	struct fuse_file_info fi;
	/* NULL: none. */
	const SegmentClass *class;
	int64_t began_ns;
	/* What is answered with is one. */
	bool is_segment;
	AllocateRequest *request;
	/* Borrowed for the file when the create was accepted, until the segment has it. Or NULL. */
	TransientBuffer *buffer;
} PendingCreate;

/* An error as the application may see it. */
static int create_error(const PendingCreate *create, int r)
{
	return r == -EEXIST && !(create->fi.flags & O_EXCL) ? -ESTALE : r;
}

/* The kernel checks permissions once more before open returns. Attributes that have expired by then would cost the
 * application one more round trip, so they hold for this moment. */
#define LEAST_CREATED_ATTR_TIMEOUT_S 0.001

/* Although the file is open for writing: nobody has mapped it yet, and when somebody does, the kernel asks again. */
static double created_attr_timeout(const Fs *fs)
{
	double timeout = fs->config.attr_timeout;

	return MAX(timeout, LEAST_CREATED_ATTR_TIMEOUT_S);
}

/* Answers with the new file, open as `fd`, whose ownership this takes. */
static void reply_created(PendingCreate *create, int fd)
{
	Fs *fs = fs_of(create->req);
	auto_fd owned = fd;
	struct fuse_entry_param entry;
	struct stat attr;
	Inode *inode;
	int r = fs_reopen(fs, fd, O_PATH);

	if (r >= 0)
		r = inode_table_enter(&fs->inodes, r, &attr, &inode);
	if (r < 0) {
		reply_status(create->req, r);
		return;
	}
	if (create->is_segment)
		atomic_store(&inode->class, create->class);
	r = file_handle_open(create->req, inode, steal_fd(&owned), &create->fi);
	if (r < 0) {
		reply_status(create->req, r);
		inode_table_forget(&fs->inodes, inode, 1);
		return;
	}
	entry = reply_entry_param(fs, inode, &attr);
	entry.attr_timeout = created_attr_timeout(fs);
	fs_metrics_note_create(&fs->metrics, class_rules_index(fs->rules, create->class),
			       monotonic_ns() - create->began_ns);
	if (fuse_reply_create(create->req, &entry, &create->fi) < 0) {
		file_handle_close(fs, inode, &create->fi);
		inode_table_forget(&fs->inodes, inode, 1);
	}
}

static int open_new(Fs *fs, const PendingCreate *create, const char *name, int flags)
{
	const struct fuse_ctx *caller = fuse_req_ctx(create->req);
	mode_t mode = ownership_mode(fs, create->parent, create->mode, caller->umask);
	int fd = ownership_enter(create->req, mode);

	if (fd < 0)
		return fd;
	do {
		fd = openat(create->parent->fd, name, flags | O_CLOEXEC, mode);
		if (fd < 0)
			fd = -errno;
	} while (fd == -ENOSPC && fs->service && allocate_service_give_way(fs->service));
	ownership_leave(create->req, mode);
	return fd;
}

static void create_plain(PendingCreate *create)
{
	int fd = open_new(fs_of(create->req), create, create->name,
			  create->fi.flags | O_CREAT | O_EXCL | O_NOFOLLOW);

	if (fd < 0)
		reply_status(create->req, create_error(create, fd));
	else
		reply_created(create, fd);
}

static int publish(Fs *fs, const PendingCreate *create, Segment *segment)
{
	SegmentTarget target = { .dir_fd = create->parent->fd, .name = create->name };
	int r = ownership_of_segment(create->req, create->parent, create->mode, segment, &target);

	if (r < 0)
		return r;
	do
		r = allocate_service_publish(fs->service, segment, &target);
	while (r == -ENOSPC && allocate_service_give_way(fs->service));
	if (r < 0)
		ownership_undo(segment);
	return r;
}

/* Before the answer: who then asks for another file finds it free. */
static void give_buffer_back(PendingCreate *create)
{
	if (create->buffer)
		transient_pool_give_back(fs_of(create->req)->transient, g_steal_pointer(&create->buffer));
}

static void create_from_segment(PendingCreate *create, Segment *segment)
{
	Fs *fs = fs_of(create->req);
	LiveSegment *live = NULL;
	int r = 0;

	/* Before anybody can see the file, which has more names than it will seem, or is longer. */
	if (segment_becomes_live(segment))
		r = live_set_add(fs->live, segment, &live);
	if (r == 0 && create->buffer && !live->reserved_only)
		live_buffer_assign(live, g_steal_pointer(&create->buffer));
	give_buffer_back(create);
	if (r == 0)
		r = publish(fs, create, segment);
	if (r == 0) {
		create->is_segment = true;
		reply_created(create, steal_fd(&segment->fd));
		allocate_service_retire(fs->service, segment);
		if (live)
			live_set_published(fs->live, live);
		return;
	}
	if (live)
		live_set_drop(fs->live, live);
	allocate_service_give_back(fs->service, segment);
	/* Below the source, but on another filesystem: the class cannot serve it. */
	if (r == -EXDEV)
		create_plain(create);
	else
		reply_status(create->req, create_error(create, r));
}

static void create_cold(PendingCreate *create)
{
	Fs *fs = fs_of(create->req);
	Segment *segment;
	int r = -EAGAIN;

	if (!create->class->fail_on_timeout)
		r = allocate_service_prepare_cold(fs->service, create->class, &segment);
	if (r == 0) {
		create_from_segment(create, segment);
		return;
	}
	give_buffer_back(create);
	reply_status(create->req, r);
}

static void answer(PendingCreate *create)
{
	AllocateRequest *request = create->request;
	Segment *segment = allocate_request_steal_segment(request);

	if (segment) {
		create_from_segment(create, segment);
	} else if (request->state == ALLOCATE_TIMED_OUT) {
		create_cold(create);
	} else {
		give_buffer_back(create);
		reply_status(create->req, create_error(create, request->error));
	}
}

static void resume(void *arg)
{
	PendingCreate *create = arg;

	fuse_req_interrupt_func(create->req, NULL, NULL);
	answer(create);
	allocate_request_unref(create->request);
	g_free(create->name);
	g_free(create);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	PendingCreate *create = arg;

	if (caller_is_killed(fuse_req_ctx(req)->pid))
		allocate_service_cancel(fs_of(req)->service, create->request);
}

static void wait_for_segment(const PendingCreate *on_stack, const char *path)
{
	Fs *fs = fs_of(on_stack->req);
	PendingCreate *create = g_memdup2(on_stack, sizeof(*on_stack));

	create->name = g_strdup(on_stack->name);
	create->request = allocate_service_submit(fs->service, create->class, path);
	fuse_req_interrupt_func(create->req, on_interrupt, create);
	if (!latch_on_open(&create->request->latch, resume, create))
		resume(create);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	PendingCreate create = {
		.req = req,
		.parent = fs_inode(fs, parent),
		.name = (char *)name,
		.mode = mode,
		.fi = *fi,
		.began_ns = monotonic_ns(),
	};
	g_autofree char *path = NULL;
	Segment *segment;

	if (fs_is_hidden(parent, name)) {
		reply_status(req, -EPERM);
		return;
	}
	create.class = fs_find_class(fs, create.parent, name, &path);
	if (create.class && create.class->transient)
		create.buffer = transient_pool_borrow(fs->transient, create.class);
	if (!create.class)
		create_plain(&create);
	else if (create.class->transient && create.class->fast_fail && !create.buffer)
		reply_status(req, -EAGAIN);
	else if ((segment = allocate_service_take(fs->service, create.class)))
		create_from_segment(&create, segment);
	else
		wait_for_segment(&create, path);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	PendingCreate create = {
		.req = req,
		.parent = fs_inode(fs, parent),
		.mode = mode,
		.fi = *fi,
		.began_ns = monotonic_ns(),
	};
	int fd = open_new(fs, &create, ".", (fi->flags & ~O_CREAT) | O_TMPFILE);

	if (fd < 0)
		reply_status(req, fd);
	else
		reply_created(&create, fd);
}
