// SPDX-License-Identifier: Apache-2.0
/*
 * A segment provider of a time when the tables were shorter: behind their ends is something else,
 * which warmfs neither calls nor overwrites.
 */
#include <errno.h>
#include <stdlib.h>

#include <segment-provider.h>

#define END_OF_INFO  offsetof(SegmentInfo, map)
#define END_OF_TABLE offsetof(SegmentProvider, discard)

static const SegmentProviderHost *host_of_all;

static int older_prepare(SegmentProvider *base, const SegmentClass *class,
			 const atomic_bool *cancel, Segment **ret_segment)
{
	SegmentInfo info = { .struct_size = END_OF_INFO, .map = base, .cold = true };
	int r = host_of_all->base->prepare(host_of_all->base, class, cancel, ret_segment);

	if (r < 0)
		return r;
	host_of_all->describe(*ret_segment, &info);
	if (info.fd >= 0 && info.class == class && info.map == base && info.cold)
		return 0;
	host_of_all->base->discard(host_of_all->base, *ret_segment);
	return -EDOM;
}

static void not_a_discard(SegmentProvider *base, Segment *segment)
{
	(void)base;
	(void)segment;
	abort();
}

static int older_init(const SegmentProviderHost *host, const char *name,
		      SegmentProvider **ret_provider)
{
	static SegmentProvider provider = { .prepare = older_prepare, .discard = not_a_discard };

	(void)name;
	host_of_all = host;
	*ret_provider = &provider;
	return 0;
}

static void older_free(SegmentProvider *base)
{
	(void)base;
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = END_OF_TABLE,
	.init = older_init,
	.free = older_free,
};
