// SPDX-License-Identifier: Apache-2.0
/* A segment provider of a version to come: whatever else is in it, it must not be called. */
#include <stdlib.h>

#include <segment-provider.h>

static int next_init(const SegmentProviderHost *host, const char *name,
		     SegmentProvider **ret_provider)
{
	(void)host;
	(void)name;
	(void)ret_provider;
	abort();
}

static void next_free(SegmentProvider *provider)
{
	(void)provider;
	abort();
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI + 1,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = sizeof(SegmentProvider),
	.init = next_init,
	.free = next_free,
};
