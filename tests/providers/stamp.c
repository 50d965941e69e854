// SPDX-License-Identifier: Apache-2.0
/*
 * A segment provider that has the built-in one prepare, and then does something of its own: each
 * segment gets an extended attribute with the number under which it was made.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <syslog.h>

#include <segment-provider.h>

typedef struct StampProvider {
	SegmentProvider base;
	const SegmentProviderHost *host;
	/* Several threads prepare. */
	atomic_uint n_stamped;
} StampProvider;

static int stamp(StampProvider *provider, const Segment *segment)
{
	SegmentInfo info = { .struct_size = sizeof(info) };
	char text[16];

	provider->host->describe(segment, &info);
	snprintf(text, sizeof(text), "%u", atomic_fetch_add(&provider->n_stamped, 1) + 1);
	return fsetxattr(info.fd, "user.stamp", text, strlen(text), 0) < 0 ? -errno : 0;
}

static int stamp_prepare(SegmentProvider *base, const SegmentClass *class,
			 const atomic_bool *cancel, Segment **ret_segment)
{
	StampProvider *provider = (StampProvider *)base;
	SegmentProvider *built_in = provider->host->base;
	Segment *segment;
	int r = built_in->prepare(built_in, class, cancel, &segment);

	if (r < 0)
		return r;
	r = stamp(provider, segment);
	if (r < 0) {
		built_in->discard(built_in, segment);
		return r;
	}
	*ret_segment = segment;
	return 0;
}

static int stamp_init(const SegmentProviderHost *host, const char *name,
		      SegmentProvider **ret_provider)
{
	StampProvider *provider;

	/* Under another name this is not the module that was asked for. */
	if (strcmp(name, "stamp") != 0)
		return -ENOENT;
	provider = calloc(1, sizeof(*provider));
	if (!provider)
		return -ENOMEM;
	provider->base.prepare = stamp_prepare;
	provider->host = host;
	*ret_provider = &provider->base;
	return 0;
}

static void stamp_free(SegmentProvider *base)
{
	StampProvider *provider = (StampProvider *)base;
	char line[64];

	snprintf(line, sizeof(line), "%u segments stamped", atomic_load(&provider->n_stamped));
	provider->host->log(provider->host, LOG_NOTICE, line);
	free(provider);
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = sizeof(SegmentProvider),
	.init = stamp_init,
	.free = stamp_free,
};
