// SPDX-License-Identifier: Apache-2.0
#include "fuzz/actor.h"

#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMON_USER 12345

/* What a process is asked for. Pointers mean the same in all: they are forks. */
typedef struct Order {
	enum { ORDER_PERFORM, ORDER_CLOSE_FILES, ORDER_CLOSE_ALL } what;
	Op op;
} Order;

struct Crew {
	Actor self;
	pid_t pids[N_ACTORS];
	int sockets[N_ACTORS];
};

/* Signal handlers have no argument of ours. */
static sigjmp_buf bus_error;

static void on_bus_error(int number)
{
	(void)number;
	siglongjmp(bus_error, 1);
}

static void stat_target(const Step *step, int world, bool after, struct stat *ret_attr)
{
	const FuzzConfig *config = step_config(step);
	const char *name = after ? step->name_after : step->name_before;
	int fd = -1;

	memset(ret_attr, 0, sizeof(*ret_attr));
	if (step->handle)
		fd = step->handle->fds[world];
	else if (step->mapping)
		fd = step->mapping->fds[MOUNT] < 0 ? -1 : step->mapping->fds[world];
	if (fd >= 0)
		fstat(fd, ret_attr);
	else if (name && !step->handle && !step->mapping)
		fstatat(config->dir_fds[world], name, ret_attr, 0);
}

static void run_guarded(Step *step, int world)
{
	Outcome *out = step->out;

	if (sigsetjmp(bus_error, 1)) {
		out->ret = -1;
		out->error = ERROR_SIGBUS;
		return;
	}
	errno = 0;
	out->ret = step->type->run(step, world);
	out->error = out->ret == -1 ? errno : 0;
}

static void run_in(Step *step, int world, bool with_stat)
{
	Outcome *out = step->out = &step->actor->shared->outcomes[world];

	out->n_data = 0;
	out->position = 0;
	out->has_stat = with_stat;
	if (with_stat)
		stat_target(step, world, false, &out->before);
	/* Files get the time of the last tick. */
	clock_gettime(CLOCK_REALTIME_COARSE, &out->start);
	run_guarded(step, world);
	clock_gettime(CLOCK_REALTIME, &out->end);
	if (with_stat)
		stat_target(step, world, true, &out->after);
	if (step->handle && step->handle->fds[world] >= 0)
		out->position = lseek(step->handle->fds[world], 0, SEEK_CUR);
}

static void describe_handle(char *text, size_t size, const Step *step, const Handle *handle)
{
	static const char *const modes[] = { "r", "w", "rw", "?" };

	snprintf(text, size, " h%d[%s %s%s%s%s%s]", (int)(handle - step->actor->handles),
		 (const char *[]){ "main", "second", "plain" }[handle->file],
		 modes[handle->flags & O_ACCMODE], handle->flags & O_APPEND ? " append" : "",
		 handle->flags & O_DIRECT ? " direct" : "",
		 (handle->flags & O_SYNC) == O_SYNC ? " sync" : "",
		 (handle->flags & O_SYNC) == O_DSYNC ? " dsync" : "");
}

static void describe(const Step *step)
{
	char *text = step->actor->shared->text;
	size_t size = sizeof(step->actor->shared->text);
	char target[80] = "", source[80] = "";
	const struct {
		const char *format;
		long long value;
	} numbers[] = {
		{ " from=%lld", step->other_offset }, { " off=%lld", step->offset },
		{ " len=%lld", step->length },	      { " flags=%#llx", step->flags },
		{ " mode=%#llo", step->mode },	      { " slot=%lld", step->slot },
		{ " (size %lld)", step->size },
	};
	int n;

	if (step->handle)
		describe_handle(target, sizeof(target), step, step->handle);
	if (step->other)
		describe_handle(source, sizeof(source), step, step->other);
	if (step->mapping)
		snprintf(source, sizeof(source), " m%d[%s%s at %lld+%zu]+%zu",
			 (int)(step->mapping - step->actor->mappings),
			 step->mapping->shared ? "shared" : "private",
			 step->mapping->writable ? " rw" : " r", (long long)step->mapping->offset,
			 step->mapping->length, step->map_offset);
	n = snprintf(text, size, "p%u %s%s%s", step->actor->index, step->type->name, target,
		     source);
	if (step->names)
		n += snprintf(text + n, size - n, " %s %s", step->names->name, step->new_name);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i].value)
			n += snprintf(text + n, size - n, numbers[i].format, numbers[i].value);
}

static bool has_open_file(const Actor *actor)
{
	for (unsigned i = 0; i < N_SLOTS; i++)
		if (handle_is_open(&actor->handles[i]))
			return true;
	return false;
}

static void actor_perform(Actor *actor, const Op *op)
{
	Shared *shared = actor->shared;
	Step step = {
		.actor = actor,
		.type = has_open_file(actor) ? op->type : open_op,
		.random = op->random,
		.new_fds = { -1, -1 },
	};
	bool with_stat = step_chance(&step, 70);

	shared->loose_times = shared->given_atime = false;
	shared->skipped = !step.type->prepare(&step);
	if (shared->skipped)
		return;
	describe(&step);
	for (int world = 0; world < N_WORLDS; world++)
		run_in(&step, world, with_stat);
	if (step.type->done)
		step.type->done(&step);
}

static void actor_close_files(Actor *actor, bool mappings)
{
	for (unsigned i = 0; i < N_SLOTS; i++)
		handle_close(&actor->handles[i]);
	for (unsigned i = 0; mappings && i < N_MAPPINGS; i++)
		mapping_close(&actor->mappings[i]);
}

static void actor_obey(Actor *actor, const Order *order)
{
	if (order->what == ORDER_PERFORM)
		actor_perform(actor, &order->op);
	else
		actor_close_files(actor, order->what == ORDER_CLOSE_ALL);
}

static void actor_init(Actor *actor, unsigned index, Shared *shared)
{
	*actor = (Actor){ .index = index, .shared = shared };
	for (unsigned i = 0; i < N_SLOTS; i++)
		actor->handles[i] = (Handle){ .fds = { -1, -1 } };
	actor->payload = mmap(NULL, MAX_DATA_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (actor->payload == MAP_FAILED)
		abort();
	signal(SIGBUS, on_bus_error);
	signal(SIGPIPE, SIG_IGN);
}

static _Noreturn void serve(unsigned index, Shared *shared, int socket)
{
	Actor actor;
	Order order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	actor_init(&actor, index, shared);
	if (index == 2 && (setgroups(0, NULL) < 0 || setgid(COMMON_USER) < 0 ||
			   setuid(COMMON_USER) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0))
		_exit(1);
	while (recv(socket, &order, sizeof(order), 0) == sizeof(order)) {
		actor_obey(&actor, &order);
		if (send(socket, "", 1, 0) != 1)
			break;
	}
	_exit(0);
}

Crew *crew_new(Shared *shared)
{
	Crew *crew = calloc(1, sizeof(*crew));
	int ends[2];

	if (!crew)
		abort();
	for (unsigned i = 1; i < N_ACTORS; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
			abort();
		crew->sockets[i] = ends[0];
		crew->pids[i] = fork();
		if (crew->pids[i] < 0)
			abort();
		if (crew->pids[i] == 0) {
			for (unsigned j = 1; j <= i; j++)
				close(crew->sockets[j]);
			serve(i, shared, ends[1]);
		}
		close(ends[1]);
	}
	actor_init(&crew->self, 0, shared);
	return crew;
}

Crew *crew_free(Crew *crew)
{
	actor_close_files(&crew->self, true);
	munmap(crew->self.payload, MAX_DATA_BYTES);
	for (unsigned i = 1; i < N_ACTORS; i++) {
		close(crew->sockets[i]);
		waitpid(crew->pids[i], NULL, 0);
	}
	free(crew);
	return NULL;
}

static bool order_done(Crew *crew, unsigned actor, const Order *order)
{
	char answer;

	if (actor == 0) {
		actor_obey(&crew->self, order);
		return true;
	}
	return send(crew->sockets[actor], order, sizeof(*order), MSG_NOSIGNAL) == sizeof(*order) &&
	       recv(crew->sockets[actor], &answer, 1, 0) == 1;
}

bool crew_perform(Crew *crew, const Op *op)
{
	return order_done(crew, op->actor, &(Order){ .what = ORDER_PERFORM, .op = *op });
}

bool crew_close_files(Crew *crew, bool mappings)
{
	const Order order = { .what = mappings ? ORDER_CLOSE_ALL : ORDER_CLOSE_FILES };
	bool ok = true;

	for (unsigned i = 0; i < N_ACTORS; i++)
		ok = order_done(crew, i, &order) && ok;
	return ok;
}
