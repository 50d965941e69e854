// SPDX-License-Identifier: Apache-2.0
#include "stress/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *new_pages(size_t length)
{
	void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		abort();
	return pages;
}

void worker_init(Worker *worker, const Setup *setup, unsigned number)
{
	*worker = (Worker){
		.setup = setup,
		.number = number,
		.random = setup->seed + (uint64_t)number * 0x9e3779b97f4a7c15u,
		.out = new_pages(MAX_IO_BYTES),
		.in = new_pages(MAX_IO_BYTES),
	};
}

/* splitmix64 */
static uint64_t next(Worker *worker)
{
	uint64_t mixed = worker->random += 0x9e3779b97f4a7c15u;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
	return mixed ^ mixed >> 31;
}

uint64_t worker_below(Worker *worker, uint64_t bound)
{
	return next(worker) % bound;
}

bool worker_chance(Worker *worker, unsigned percent)
{
	return worker_below(worker, 100) < percent;
}

size_t worker_length(Worker *worker)
{
	return 1 + worker_below(worker, MAX_IO_BYTES >> worker_below(worker, 12));
}

void worker_fill(Worker *worker, size_t length)
{
	for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
		uint64_t word = next(worker);

		memcpy(worker->out + i, &word, sizeof(word));
	}
}

const FileKind *worker_kind(Worker *worker)
{
	return &worker->setup->kinds[worker_below(worker, worker->setup->n_kinds)];
}

void worker_note(Worker *worker, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(worker->lines[worker->n_lines++ % SHOWN_LINES], LINE_BYTES, format, args);
	va_end(args);
	worker->n_ops++;
}

void worker_fault(Worker *worker, const char *format, ...)
{
	uint64_t first = worker->n_lines > SHOWN_LINES ? worker->n_lines - SHOWN_LINES : 0;
	va_list args;

	/* The first one tells it. */
	if (atomic_exchange(worker->setup->stop, true))
		_exit(1);
	for (uint64_t i = first; i < worker->n_lines; i++)
		printf("  %" PRIu64 ": %s\n", i, worker->lines[i % SHOWN_LINES]);
	printf("process %u: ", worker->number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

ssize_t worker_must(Worker *worker, ssize_t result, const char *call)
{
	if (result < 0)
		worker_fault(worker, "%s: %s", call, strerror(errno));
	return result;
}

void worker_compare(Worker *worker, const char *how, off_t offset, const uint8_t *seen, const uint8_t *wanted,
		    size_t length)
{
	size_t first = 0, n_wrong = 0;

	if (memcmp(seen, wanted, length) == 0)
		return;
	while (seen[first] == wanted[first])
		first++;
	for (size_t i = first; i < length; i++)
		n_wrong += seen[i] != wanted[i];
	worker_fault(worker, "%s: %zu bytes are wrong, the first at %jd: %02x, not %02x", how, n_wrong,
		     (intmax_t)offset + (intmax_t)first, seen[first], wanted[first]);
}
