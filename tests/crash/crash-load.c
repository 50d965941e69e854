// SPDX-License-Identifier: Apache-2.0
/*
 * One writer of log files, that keeps account of what it did and of what it was promised:
 *
 *	crash-load KEY=VALUE...
 *
 *	dir=DIR       where it writes
 *	source=DIR    the same directory on the filesystem below, whose writing back it provokes at random (optional)
 *	account=FILE  the account: an array of Op, a mapped file that must lie elsewhere and survives whatever happens
 *	pattern=FILE  PATTERN_BYTES random bytes: what all records are cut from
 *	log=FILE      of the block recorder, whose length says when something happened (optional)
 *	writer=N      goes into the names
 *	seed=N ops=N capacity=BYTES
 *	kind=KIND     native, mapped, stream or append; `mapped`: files are written from their start, not at their end
 *	syncs=N       of 100 writes, how many are followed by a sync (default 35)
 *	broken=1      promises syncs that it never asked for: what a test of the tests needs
 *
 * It has N_OPEN files open at a time, appends records to them, overwrites, truncates, syncs, renames, closes and opens
 * them again, and goes on to new ones. Nobody else touches them. Every operation is put into the account before it
 * begins and marked when it has ended. Any error ends the writer, with status 2; its operation then remains begun.
 * tests/crash/history.py reads the account, and has the meaning of each operation.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATTERN_BYTES	(1u << 20)
#define RECORD_MAX	20480
#define N_OPEN		2
#define N_FINISHED	1024
#define RECORDS_OF_FILE 40
#define PAGE_BYTES	4096u

enum op_type {
	OP_CREATE = 1,
	OP_WRITE = 2,
	OP_TRUNCATE = 3,
	OP_SYNC = 4,
	OP_SYNC_DIR = 5,
	OP_RENAME = 6,
	OP_UNLINK = 7,
};

enum op_state {
	OP_BEGUN = 1,
	OP_DONE = 2,
};

/* history.py has the same. */
typedef struct Op {
	uint32_t type;
	uint32_t file;
	uint64_t offset;
	uint64_t length;
	/* Of a write: where in the pattern its bytes are, and how many zeros it ends with instead. */
	uint32_t pattern;
	uint32_t n_zeros;
	/* Length of the recorder's log before and after. */
	uint64_t begun_at;
	uint64_t ended_at;
	/* Of a write: its end promises that it is on the disk. */
	uint32_t synced;
	_Atomic uint32_t state;
	uint64_t unused;
} Op;

_Static_assert(sizeof(Op) == 64, "the account's format");

typedef struct File {
	int fd;
	uint32_t number;
	/* How often it was renamed. */
	uint32_t n_names;
	uint32_t n_records;
	/* Where the next record goes. */
	uint64_t tail;
	uint64_t length;
	bool append;
	bool dsync;
	/* Nobody can map it: then warmfs relies on more. */
	bool write_only;
} File;

typedef struct Load {
	const char *dir;
	const char *source;
	const char *account;
	const char *pattern_path;
	const char *log;
	const char *kind;
	uint64_t writer;
	uint64_t seed;
	uint64_t n_ops;
	uint64_t capacity;
	uint64_t syncs;
	uint64_t broken;

	Op *ops;
	uint64_t n_done;
	const uint8_t *pattern;
	int dir_fd;
	int source_fd;
	int log_fd;
	uint64_t random;
	uint32_t n_files;
	File open[N_OPEN];
	File finished[N_FINISHED];
	uint32_t n_finished;
	uint32_t n_unlinked;
} Load;

static uint64_t next_random(Load *load)
{
	uint64_t z = load->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t below(Load *load, uint64_t end)
{
	return next_random(load) % end;
}

static bool chance(Load *load, unsigned percent)
{
	return below(load, 100) < percent;
}

static uint64_t log_length(const Load *load)
{
	struct stat attr;

	if (load->log_fd < 0)
		return 0;
	if (fstat(load->log_fd, &attr) < 0)
		err(1, "%s", load->log);
	return (uint64_t)attr.st_size;
}

static Op *begin(Load *load, enum op_type type, uint32_t file)
{
	Op *op = &load->ops[load->n_done];

	/* The parent reads how many there are from the size of the account. */
	if (load->n_done == load->n_ops)
		exit(0);
	op->type = type;
	op->file = file;
	op->begun_at = log_length(load);
	return op;
}

static void start(Op *op)
{
	atomic_store(&op->state, OP_BEGUN);
}

static void end(Load *load, Op *op, const char *what, bool ok)
{
	if (!ok) {
		warn("writer %u: %s of file %u", (unsigned)load->writer, what, op->file);
		exit(2);
	}
	op->ended_at = log_length(load);
	atomic_store(&op->state, OP_DONE);
	load->n_done++;
}

static void name_of(const Load *load, const File *file, char name[static 64])
{
	snprintf(name, 64, "w%u-%04u-%u.seg", (unsigned)load->writer, file->number, file->n_names);
}

/* Through the filesystem below, whatever the kind: no promise, but data gets to the disk in some order. */
static void provoke_write_back(Load *load, const File *file)
{
	char name[64];
	int fd;

	if (load->source_fd < 0)
		return;
	name_of(load, file, name);
	fd = openat(load->source_fd, chance(load, 30) ? ".warmfs/live" : name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	close(fd);
}

static void sync_dir(Load *load, const File *file)
{
	Op *op = begin(load, OP_SYNC_DIR, file->number);

	start(op);
	end(load, op, "sync of the directory", load->broken || fsync(load->dir_fd) == 0);
}

static void sync_file(Load *load, const File *file)
{
	Op *op = begin(load, OP_SYNC, file->number);
	bool whole = chance(load, 50);

	start(op);
	end(load, op, "sync", load->broken || (whole ? fsync(file->fd) : fdatasync(file->fd)) == 0);
}

static void open_file(Load *load, File *file, int flags)
{
	char name[64];

	name_of(load, file, name);
	file->append = strcmp(load->kind, "mapped") != 0 && chance(load, 50);
	file->dsync = chance(load, 20);
	flags |= (file->write_only ? O_WRONLY : O_RDWR) | O_CLOEXEC | (file->append ? O_APPEND : 0);
	flags |= file->dsync && !load->broken ? O_DSYNC : 0;
	file->fd = openat(load->dir_fd, name, flags, 0600);
}

static void create(Load *load, File *file)
{
	Op *op;
	struct stat attr;
	bool ok;

	*file = (File){ .fd = -1, .number = load->n_files++, .write_only = chance(load, 50) };
	op = begin(load, OP_CREATE, file->number);
	start(op);
	open_file(load, file, O_CREAT | O_EXCL);
	ok = file->fd >= 0 && fstat(file->fd, &attr) == 0;
	if (ok)
		op->length = file->length = (uint64_t)attr.st_size;
	end(load, op, "create", ok);
	if (chance(load, 30))
		sync_file(load, file);
	if (chance(load, 70))
		sync_dir(load, file);
}

static void fill(Load *load, Op *op, uint8_t data[static RECORD_MAX])
{
	unsigned dice = (unsigned)below(load, 100);

	op->pattern = (uint32_t)below(load, PATTERN_BYTES - RECORD_MAX);
	op->n_zeros = dice < 6 ? (uint32_t)op->length : dice < 40 ? (uint32_t)below(load, op->length + 1) : 0;
	memcpy(data, load->pattern + op->pattern, op->length);
	memset(data + op->length - op->n_zeros, 0, op->n_zeros);
}

static uint64_t record_size(Load *load)
{
	static const uint64_t limits[] = { 16, 600, 600, 4096, 4096, RECORD_MAX };

	return 1 + below(load, limits[below(load, sizeof(limits) / sizeof(limits[0]))]);
}

static void append_record(Load *load, File *file)
{
	uint8_t data[RECORD_MAX];
	Op *op = begin(load, OP_WRITE, file->number);
	ssize_t n;

	op->offset = file->append ? file->length : file->tail;
	op->length = record_size(load);
	op->synced = file->dsync;
	fill(load, op, data);
	start(op);
	n = file->append ? write(file->fd, data, op->length) :
			   pwrite(file->fd, data, op->length, (off_t)op->offset);
	end(load, op, "write", n == (ssize_t)op->length);
	file->tail = op->offset + op->length;
	file->length = file->tail > file->length ? file->tail : file->length;
	file->n_records++;
	if (below(load, 100) < load->syncs)
		sync_file(load, file);
}

/* Of a file that is not empty. */
static void choose_piece(Load *load, const File *file, Op *op)
{
	op->length = record_size(load);
	op->offset = below(load, file->tail > 0 ? file->tail : file->length);
	if (op->length > file->length - op->offset)
		op->length = file->length - op->offset;
}

static void overwrite(Load *load, File *file)
{
	uint8_t data[RECORD_MAX];
	Op *op;

	/* Linux appends with pwrite, too, on such a file. */
	if (file->append || file->length == 0)
		return;
	op = begin(load, OP_WRITE, file->number);
	choose_piece(load, file, op);
	op->synced = file->dsync;
	fill(load, op, data);
	start(op);
	end(load, op, "overwrite", pwrite(file->fd, data, op->length, (off_t)op->offset) == (ssize_t)op->length);
}

static bool store(Load *load, const File *file, const Op *op, const uint8_t *data)
{
	uint64_t from = op->offset & ~(uint64_t)(PAGE_BYTES - 1);
	size_t length = op->offset + op->length - from;
	uint8_t *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, (off_t)from);
	bool ok;

	if (memory == MAP_FAILED)
		return false;
	memcpy(memory + (op->offset - from), data, op->length);
	ok = !op->synced || load->broken || msync(memory, length, MS_SYNC) == 0;
	munmap(memory, length);
	return ok;
}

static void overwrite_mapped(Load *load, File *file)
{
	uint8_t data[RECORD_MAX];
	Op *op;

	bool synced = chance(load, 60);

	if (file->write_only || file->length == 0)
		return;
	/* msync promises the bytes. That the file is long enough for them was natively promised with it; of an append
	 * segment, whose daemon does not hear of it, only a sync of the file promises that. */
	if (synced && strcmp(load->kind, "append") == 0)
		sync_file(load, file);
	op = begin(load, OP_WRITE, file->number);
	choose_piece(load, file, op);
	op->synced = synced;
	fill(load, op, data);
	start(op);
	end(load, op, "store", store(load, file, op, data));
}

static void truncate_file(Load *load, File *file, uint64_t length)
{
	Op *op = begin(load, OP_TRUNCATE, file->number);

	op->length = length;
	start(op);
	end(load, op, "truncate", ftruncate(file->fd, (off_t)length) == 0);
	file->length = length;
	file->tail = file->tail < length ? file->tail : length;
	if (chance(load, 70))
		sync_file(load, file);
}

static void rename_file(Load *load, File *file)
{
	char from[64], to[64];
	Op *op = begin(load, OP_RENAME, file->number);

	name_of(load, file, from);
	file->n_names++;
	name_of(load, file, to);
	start(op);
	end(load, op, "rename", renameat(load->dir_fd, from, load->dir_fd, to) == 0);
	if (chance(load, 60))
		sync_dir(load, file);
}

static void reopen(Load *load, File *file)
{
	/* Through O_DSYNC only its own writes are promised: what came before must not look promised with them. */
	if (chance(load, 50))
		sync_file(load, file);
	close(file->fd);
	open_file(load, file, 0);
	if (file->fd < 0) {
		warn("writer %u: open of file %u", (unsigned)load->writer, file->number);
		exit(2);
	}
}

static void unlink_oldest(Load *load)
{
	const File *file = &load->finished[load->n_unlinked % N_FINISHED];
	char name[64];
	Op *op = begin(load, OP_UNLINK, file->number);

	name_of(load, file, name);
	start(op);
	end(load, op, "unlink", unlinkat(load->dir_fd, name, 0) == 0);
	load->n_unlinked++;
	if (chance(load, 50))
		sync_dir(load, file);
}

static void finish(Load *load, File *file)
{
	if (chance(load, 60))
		sync_file(load, file);
	close(file->fd);
	load->finished[load->n_finished++ % N_FINISHED] = *file;
	if (load->n_finished - load->n_unlinked > 5 && chance(load, 60))
		unlink_oldest(load);
	create(load, file);
}

static void act(Load *load, File *file)
{
	unsigned dice = (unsigned)below(load, 100);

	if (file->n_records >= RECORDS_OF_FILE || (file->tail >= load->capacity && chance(load, 30)))
		finish(load, file);
	else if (dice < 70)
		append_record(load, file);
	else if (dice < 77)
		overwrite(load, file);
	else if (dice < 82)
		overwrite_mapped(load, file);
	else if (dice < 85)
		truncate_file(load, file, below(load, file->length + 1));
	else if (dice < 87)
		truncate_file(load, file, file->length + record_size(load));
	else if (dice < 91)
		reopen(load, file);
	else if (dice < 93)
		rename_file(load, file);
	else if (dice < 94)
		finish(load, file);
	else
		provoke_write_back(load, file);
}

static int open_or_die(const char *path, int flags)
{
	int fd = path ? open(path, flags | O_CLOEXEC) : -1;

	if (path && fd < 0)
		err(1, "%s", path);
	return fd;
}

static void *map_or_die(const char *path, size_t length, int flags, int protection)
{
	int fd = open_or_die(path, flags);
	void *memory;

	if (fd < 0)
		errx(1, "account= and pattern= must be given");
	if (flags == O_RDWR && ftruncate(fd, (off_t)length) < 0)
		err(1, "%s", path);
	memory = mmap(NULL, length, protection, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	return memory;
}

static bool parse(Load *load, const char *word)
{
	const struct {
		const char *key;
		const char **text;
		uint64_t *number;
	} keys[] = {
		{ "dir", &load->dir, NULL },	     { "source", &load->source, NULL },
		{ "account", &load->account, NULL }, { "pattern", &load->pattern_path, NULL },
		{ "log", &load->log, NULL },	     { "kind", &load->kind, NULL },
		{ "writer", NULL, &load->writer },   { "seed", NULL, &load->seed },
		{ "ops", NULL, &load->n_ops },	     { "capacity", NULL, &load->capacity },
		{ "syncs", NULL, &load->syncs },     { "broken", NULL, &load->broken },
	};
	const char *value = strchr(word, '=');

	for (size_t i = 0; value && i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strlen(keys[i].key) != (size_t)(value - word) ||
		    strncmp(keys[i].key, word, (size_t)(value - word)) != 0)
			continue;
		if (keys[i].text)
			*keys[i].text = value + 1;
		else
			*keys[i].number = strtoull(value + 1, NULL, 10);
		return true;
	}
	return false;
}

static void prepare(Load *load)
{
	if (!load->dir || !load->kind || load->n_ops == 0 || load->capacity == 0)
		errx(1, "dir=, kind=, ops= and capacity= must be given");
	load->dir_fd = open_or_die(load->dir, O_RDONLY | O_DIRECTORY);
	load->source_fd = open_or_die(load->source, O_RDONLY | O_DIRECTORY);
	load->log_fd = open_or_die(load->log, O_RDONLY);
	load->pattern = map_or_die(load->pattern_path, PATTERN_BYTES, O_RDONLY, PROT_READ);
	load->ops = map_or_die(load->account, load->n_ops * sizeof(Op), O_RDWR, PROT_READ | PROT_WRITE);
	load->random = load->seed * 1000003 + load->writer;
}

int main(int argc, char **argv)
{
	Load *load = calloc(1, sizeof(*load));

	if (!load)
		err(1, "memory");
	load->syncs = 35;
	for (int i = 1; i < argc; i++)
		if (!parse(load, argv[i]))
			errx(1, "%s: not understood; the head of crash-load.c has the words", argv[i]);
	prepare(load);
	for (unsigned i = 0; i < N_OPEN; i++)
		create(load, &load->open[i]);
	/* Ends by the number of operations (begin), or by an error. */
	for (;;)
		act(load, &load->open[chance(load, 70) ? 0 : 1]);
}
