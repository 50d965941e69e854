// SPDX-License-Identifier: Apache-2.0
/*
 * A segment provider that gives files their blocks itself: zeroes, written from the end of the file
 * to its start, in pieces of its own size. (It is an example: this order is good for nothing.)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <segment-provider.h>

#define PIECE_BYTES (256 * 1024)

typedef struct WriterProvider {
	SegmentProvider base;
	const SegmentProviderHost *host;
} WriterProvider;

static const char zeroes[PIECE_BYTES];

static int write_piece(int fd, size_t length, off_t offset)
{
	while (length > 0) {
		ssize_t n = pwrite(fd, zeroes, length, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		length -= (size_t)n;
		offset += n;
	}
	return 0;
}

static int fill(int fd, uint64_t bytes, const atomic_bool *cancel)
{
	int r = 0;

	while (r == 0 && bytes > 0) {
		size_t length = bytes < PIECE_BYTES ? (size_t)bytes : PIECE_BYTES;

		if (atomic_load(cancel))
			return -ECANCELED;
		bytes -= length;
		r = write_piece(fd, length, (off_t)bytes);
	}
	return r;
}

static int make(WriterProvider *provider, const SegmentClass *class, uint64_t bytes,
		const atomic_bool *cancel, Segment **ret_segment)
{
	const SegmentProviderHost *host = provider->host;
	SegmentInfo info = { .struct_size = sizeof(info) };
	Segment *segment;
	int r = host->create(host, class, &segment);

	if (r < 0)
		return r;
	host->describe(segment, &info);
	r = fill(info.fd, bytes, cancel);
	if (r == 0)
		r = host->finish(host, segment, cancel);
	if (r < 0) {
		host->base->discard(host->base, segment);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

static int writer_prepare(SegmentProvider *base, const SegmentClass *class,
			  const atomic_bool *cancel, Segment **ret_segment)
{
	WriterProvider *provider = (WriterProvider *)base;
	const SegmentProviderHost *host = provider->host;
	SegmentClassInfo info = { .struct_size = sizeof(info) };
	int r;

	host->describe_class(class, &info);
	if (strcmp(info.kind, "mapped") != 0 && strcmp(info.kind, "append") != 0)
		return host->base->prepare(host->base, class, cancel, ret_segment);
	r = host->adopt(host, class, cancel, ret_segment);
	return r == -ENOENT ? make(provider, class, info.size_bytes, cancel, ret_segment) : r;
}

static int writer_init(const SegmentProviderHost *host, const char *name,
		       SegmentProvider **ret_provider)
{
	WriterProvider *provider = calloc(1, sizeof(*provider));

	(void)name;
	if (!provider)
		return -ENOMEM;
	provider->base.prepare = writer_prepare;
	provider->host = host;
	*ret_provider = &provider->base;
	return 0;
}

static void writer_free(SegmentProvider *base)
{
	free(base);
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = sizeof(SegmentProvider),
	.init = writer_init,
	.free = writer_free,
};
