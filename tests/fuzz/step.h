/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation of the fuzzer, done in two worlds: on a native file and on its twin in a mount.
 *
 * An Op is what a seed makes: a type, an actor (one of three processes) and a source of random
 * numbers of its own, so that leaving out other operations does not change it. A Step is an Op on
 * its way: its arguments are chosen once, by the state of the native world alone, and then it runs
 * in both.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define PAGE_BYTES     4096
#define MAX_DATA_BYTES (2u << 20)
/* What Outcome.error says after a SIGBUS. */
#define ERROR_SIGBUS (-7)

enum {
	NATIVE,
	MOUNT,
	N_WORLDS,
};

enum {
	N_SLOTS = 6,
	N_MAPPINGS = 3,
	N_FILES = 3,
	N_ACTORS = 3,
};

typedef enum SegmentKind {
	KIND_PLAIN,
	KIND_MAPPED,
	KIND_APPEND,
	KIND_STREAM,
} SegmentKind;

typedef struct FuzzConfig {
	SegmentKind kind;
	off_t capacity_bytes;
	unsigned linger_ms;
	/* Whether times are compared. */
	bool times;
	/* Nothing is passed through by the kernel: its limits do not apply. */
	bool through_daemon;
	/* Not of all files: for the others they do. */
	bool also_passthrough;
	/* Of the two directories; by world. */
	int dir_fds[N_WORLDS];
} FuzzConfig;

/* An open file, in both worlds. Closed if fds[NATIVE] is negative. */
typedef struct Handle {
	int fds[N_WORLDS];
	int flags;
	bool opened_to_append;
	unsigned file;
} Handle;

/* The mount's mapping may be all that holds its file: then fds[MOUNT] is negative. */
typedef struct Mapping {
	uint8_t *at[N_WORLDS];
	int fds[N_WORLDS];
	size_t length;
	off_t offset;
	unsigned file;
	bool shared;
	bool writable;
} Mapping;

/* A file's names, the same in both worlds. */
typedef struct FileNames {
	char name[16];
	char link[16];
	bool exists;
	bool linked;
} FileNames;

/* What one operation came to in one world. */
typedef struct Outcome {
	int64_t ret;
	int error;
	/* Of the file descriptor after it. */
	off_t position;
	bool has_stat;
	struct stat before, after;
	/* The clock before and after it. */
	struct timespec start, end;
	size_t n_data;
	/* Aligned for O_DIRECT. */
	_Alignas(PAGE_BYTES) uint8_t data[MAX_DATA_BYTES];
} Outcome;

/* What the processes share. Only one of them is at work at a time. */
typedef struct Shared {
	FuzzConfig config;
	FileNames files[N_FILES];
	/* There was nothing that the operation could have been done to. */
	bool skipped;
	/* When a store through a mapping moves times is the write-back's to decide. */
	bool loose_times;
	/* The operation sets the access time to a given one: only then it is compared. */
	bool given_atime;
	/* Through the daemon, a store is written late, and moves times then. */
	bool late_times;
	/* The operation with its arguments. */
	char text[240];
	Outcome outcomes[N_WORLDS];
} Shared;

typedef struct Actor {
	unsigned index;
	Shared *shared;
	Handle handles[N_SLOTS];
	Mapping mappings[N_MAPPINGS];
	/* MAX_DATA_BYTES of page-aligned room for what is written. */
	uint8_t *payload;
} Actor;

typedef struct OpType OpType;

typedef struct Op {
	const OpType *type;
	unsigned index;
	unsigned actor;
	uint64_t random;
} Op;

typedef struct Step {
	Actor *actor;
	const OpType *type;
	uint64_t random;
	/* In what world it runs now. */
	Outcome *out;
	Handle *handle;
	Handle *other;
	Mapping *mapping;
	unsigned slot;
	FileNames *names;
	/* To stat when there is no handle: the name before and after. */
	const char *name_before;
	const char *name_after;
	char new_name[16];
	/* Of the native file, before. */
	off_t size;
	off_t offset;
	off_t other_offset;
	size_t length;
	size_t map_offset;
	int flags;
	int mode;
	int new_fds[N_WORLDS];
	uint8_t *new_at[N_WORLDS];
	struct timespec times[2];
} Step;

struct OpType {
	const char *name;
	unsigned weight;
	/* Chooses the arguments; false if there is nothing to do. */
	bool (*prepare)(Step *step);
	/* Does it in one world: what the system call returns, and errno. */
	int64_t (*run)(Step *step, int world);
	/* Keeps what has become of it. */
	void (*done)(Step *step);
};

extern const OpType io_ops[], map_ops[], file_ops[];
extern const size_t n_io_ops, n_map_ops, n_file_ops;
/* What is done when an operation finds no open file. */
extern const OpType *const open_op;

uint64_t random_next(uint64_t *state);
uint64_t step_below(Step *step, uint64_t bound);
bool step_chance(Step *step, unsigned percent);

static inline const FuzzConfig *step_config(const Step *step)
{
	return &step->actor->shared->config;
}

/* Whether the kernel passes no file through: then O_APPEND can come and go. */
static inline bool step_is_free(const Step *step)
{
	return step_config(step)->through_daemon && !step_config(step)->also_passthrough;
}

/* Beyond this, files only shrink. */
static inline off_t step_max_size(const Step *step)
{
	return 4 * step_config(step)->capacity_bytes;
}

/* The arguments. Those of a handle take `step->size` from it. */
bool step_take_handle(Step *step);
bool step_take_writable_handle(Step *step);
off_t step_pick_offset(Step *step);
size_t step_pick_length(Step *step, off_t offset);
void step_fill_payload(Step *step);

static inline bool handle_is_open(const Handle *handle)
{
	return handle->fds[NATIVE] >= 0;
}

static inline bool handle_writes(const Handle *handle)
{
	return (handle->flags & O_ACCMODE) != O_RDONLY;
}

static inline bool handle_reads(const Handle *handle)
{
	return (handle->flags & O_ACCMODE) != O_WRONLY;
}

void handle_close(Handle *handle);
void mapping_close(Mapping *mapping);
/* How far the mapping may be touched: in whole pages, and in bytes of the file. */
size_t mapping_touchable(const Mapping *mapping);
size_t mapping_valid(const Mapping *mapping);

bool file_is_segment(const FuzzConfig *config, const char *name);
/* The names that file has when it is created. */
void file_names_reset(const FuzzConfig *config, FileNames *files, unsigned file);
