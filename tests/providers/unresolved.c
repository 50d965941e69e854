// SPDX-License-Identifier: Apache-2.0
/* A segment provider that calls what nobody has: found out when it is loaded, and not in a create.
 */
#include <segment-provider.h>

extern void warmfs_has_no_such_function(SegmentProvider *provider);

static void unresolved_free(SegmentProvider *provider)
{
	warmfs_has_no_such_function(provider);
}

static int unresolved_init(const SegmentProviderHost *host, const char *name,
			   SegmentProvider **ret_provider)
{
	(void)name;
	*ret_provider = host->base;
	return 0;
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = sizeof(SegmentProvider),
	.init = unresolved_init,
	.free = unresolved_free,
};
