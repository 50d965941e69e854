// SPDX-License-Identifier: Apache-2.0
/*
 * A disk that remembers in which order it was written:
 *
 *	block-recorder IMAGE LOG MOUNTPOINT
 *
 * serves one file, MOUNTPOINT/disk, with the bytes of IMAGE, and appends to LOG what reaches it: writes with their data,
 * discards, and flushes. A loop device with direct I/O on that file makes it a block device whose flushes arrive here
 * as FSYNC. What was answered before a flush began is on the disk once the flush is answered; everything after it may
 * be there or not. So LOG describes every state that a power cut could have left (tests/crash/replay.py).
 *
 * Single-threaded: the order of the records is the order in which the requests were served. It stays in the foreground
 * and ends when it is unmounted.
 */
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 17)
#include <fuse_lowlevel.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define DISK_NAME "disk"
#define DISK_INO  2
#define FOREVER_S 86400

enum record_type {
	RECORD_WRITE = 1,
	RECORD_ZERO = 2,
	RECORD_FLUSH = 3,
};

/* Before the data of a write, and alone for the others. replay.py has the same. */
typedef struct Record {
	uint64_t type;
	uint64_t offset;
	uint64_t length;
} Record;

typedef struct Recorder {
	int image_fd;
	int log_fd;
	char *buffer;
	size_t buffer_bytes;
} Recorder;

/* A record that is not whole would make every later one unreadable. */
static void record(Recorder *recorder, enum record_type type, off_t offset, size_t length, const void *data)
{
	Record head = { .type = type, .offset = (uint64_t)offset, .length = length };
	struct iovec parts[] = {
		{ .iov_base = &head, .iov_len = sizeof(head) },
		{ .iov_base = (void *)data, .iov_len = data ? length : 0 },
	};
	ssize_t wanted = (ssize_t)(parts[0].iov_len + parts[1].iov_len);

	if (writev(recorder->log_fd, parts, 2) != wanted)
		err(1, "the log");
}

static int disk_stat(Recorder *recorder, fuse_ino_t ino, struct stat *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->st_ino = ino;
	if (ino == FUSE_ROOT_ID) {
		attr->st_mode = S_IFDIR | 0700;
		attr->st_nlink = 2;
		return 0;
	}
	if (fstat(recorder->image_fd, attr) < 0)
		return errno;
	attr->st_ino = ino;
	return 0;
}

static void disk_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = DISK_INO, .attr_timeout = FOREVER_S, .entry_timeout = FOREVER_S };
	int error;

	if (parent != FUSE_ROOT_ID || strcmp(name, DISK_NAME) != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	error = disk_stat(fuse_req_userdata(req), DISK_INO, &entry.attr);
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_entry(req, &entry);
}

static void disk_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;
	int error = disk_stat(fuse_req_userdata(req), ino, &attr);

	(void)fi;
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_attr(req, &attr, FOREVER_S);
}

static void disk_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != DISK_INO) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1;
	fi->parallel_direct_writes = 1;
	fuse_reply_open(req, fi);
}

static void disk_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	Recorder *recorder = fuse_req_userdata(req);
	ssize_t n;

	(void)ino;
	(void)fi;
	if (size > recorder->buffer_bytes) {
		recorder->buffer = realloc(recorder->buffer, size);
		if (!recorder->buffer)
			err(1, "a buffer");
		recorder->buffer_bytes = size;
	}
	n = pread(recorder->image_fd, recorder->buffer, size, offset);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, recorder->buffer, (size_t)n);
}

static void disk_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	Recorder *recorder = fuse_req_userdata(req);

	(void)ino;
	(void)fi;
	record(recorder, RECORD_WRITE, offset, size, data);
	if (pwrite(recorder->image_fd, data, size, offset) != (ssize_t)size)
		err(1, "the image");
	fuse_reply_write(req, size);
}

/* A discard leaves zeros, here: any of what a disk may leave would do. */
static void disk_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			   struct fuse_file_info *fi)
{
	Recorder *recorder = fuse_req_userdata(req);

	(void)ino;
	(void)fi;
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	record(recorder, RECORD_ZERO, offset, (size_t)length, NULL);
	if (fallocate(recorder->image_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) < 0)
		err(1, "the image");
	fuse_reply_err(req, 0);
}

static void disk_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	record(fuse_req_userdata(req), RECORD_FLUSH, 0, 0, NULL);
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops disk_ops = {
	.lookup = disk_lookup,
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fallocate = disk_fallocate,
	.fsync = disk_fsync,
};

static int serve(Recorder *recorder, char *program, const char *mount_point)
{
	char *argv[] = { program, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session;
	int status = 1;

	session = fuse_session_new(&args, &disk_ops, sizeof(disk_ops), recorder);
	if (!session)
		return 1;
	if (fuse_session_mount(session, mount_point) == 0) {
		status = fuse_session_loop(session) < 0;
		fuse_session_unmount(session);
	}
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return status;
}

int main(int argc, char **argv)
{
	Recorder recorder = { 0 };
	int status;

	if (argc != 4)
		errx(1, "usage: block-recorder IMAGE LOG MOUNTPOINT");
	/* The kernel may write to this disk to get memory: we must not wait for that. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	recorder.image_fd = open(argv[1], O_RDWR | O_CLOEXEC);
	recorder.log_fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (recorder.image_fd < 0 || recorder.log_fd < 0)
		err(1, "%s", recorder.image_fd < 0 ? argv[1] : argv[2]);
	status = serve(&recorder, argv[0], argv[3]);
	free(recorder.buffer);
	return status;
}
