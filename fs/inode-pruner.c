// SPDX-License-Identifier: Apache-2.0
#include "fs/inode-pruner.h"

#include <errno.h>
#include <sys/uio.h>

#define FUSE_USE_VERSION 318
#include <fuse_lowlevel.h>

/* As <linux/fuse.h> has them since Linux 6.18; libfuse 3.18 does not know them. */
#define NOTIFY_PRUNE 9

typedef struct NotifyHeader {
	uint32_t length;
	int32_t code;
	uint64_t unique;
} NotifyHeader;

typedef struct NotifyPrune {
	uint32_t count;
	uint32_t padding;
	uint64_t spare;
	/* Node ids follow. */
} NotifyPrune;

/* In one message. */
#define BATCH 256

/* What the kernel forgets, it tells a little later. When nothing comes of it, it is not asked as often. */
#define LEAST_REST_NS 10000000
#define MAX_REST_NS   1000000000

/* 0 or -errno. */
static int send_prune(InodePruner *pruner, uint64_t *indices, size_t n)
{
	NotifyPrune prune = { .count = n };
	NotifyHeader header = { .length = sizeof(header) + sizeof(prune) + n * sizeof(*indices), .code = NOTIFY_PRUNE };
	struct iovec parts[] = { { &header, sizeof(header) },
				 { &prune, sizeof(prune) },
				 { indices, n * sizeof(*indices) } };

	return writev(fuse_session_fd(pruner->session), parts, G_N_ELEMENTS(parts)) < 0 ? -errno : 0;
}

/* Asks for `n_wanted`, or for all once. 0 or -errno. */
static int prune(InodePruner *pruner, size_t n_wanted)
{
	uint64_t indices[BATCH];
	size_t n_asked = 0;
	int r = 0;

	do {
		size_t n = inode_table_next_closed(pruner->table, &pruner->cursor, indices,
						   MIN(n_wanted - n_asked, G_N_ELEMENTS(indices)));

		n_asked += n;
		if (n > 0)
			r = send_prune(pruner, indices, n);
	} while (r == 0 && n_asked < n_wanted && pruner->cursor != 0);
	return r;
}

static void *thread_run(void *arg)
{
	InodePruner *pruner = arg;
	DescriptorBudget *budget = pruner->table->budget;
	size_t n_excess, n_given, n_given_before = 0;
	int64_t rest_ns = LEAST_REST_NS;

	while ((n_excess = descriptor_budget_wait_crowded(budget)) > 0 && prune(pruner, n_excess) == 0) {
		if (!descriptor_budget_rest(budget, monotonic_ns() + rest_ns))
			break;
		n_given = atomic_load_explicit(&budget->n_given, memory_order_relaxed);
		rest_ns = n_given != n_given_before ? LEAST_REST_NS : MIN(2 * rest_ns, MAX_REST_NS);
		n_given_before = n_given;
	}
	/* Nothing is given back any more because somebody asks. */
	descriptor_budget_stop(budget);
	return NULL;
}

int inode_pruner_begin(InodePruner *pruner, InodeTable *table, struct fuse_session *session)
{
	int r;

	pruner->table = table;
	pruner->session = session;
	r = thread_start(&pruner->thread, "warmfs-pruner", thread_run, pruner);
	pruner->runs = r == 0;
	return r;
}

void inode_pruner_end(InodePruner *pruner)
{
	if (!pruner->runs)
		return;
	descriptor_budget_stop(pruner->table->budget);
	pthread_join(pruner->thread, NULL);
	pruner->runs = false;
}
