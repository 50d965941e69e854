// SPDX-License-Identifier: Apache-2.0
/* A library, but not a segment provider: its one symbol has another name. */
#include <segment-provider.h>

extern const SegmentProviderModule warmfs_segment_supplier;

const SegmentProviderModule warmfs_segment_supplier = { .abi_version = SEGMENT_PROVIDER_ABI };
