/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment provider from a module (alloc/segment-provider.h says what modules are): found,
 * checked, loaded, and completed with the built-in provider's operations where it has none of its
 * own.
 *
 * The daemon may be root, and a module is code of the daemon's: so neither it nor any directory on
 * the way to it may be one that somebody else can change. Nothing of the environment is asked.
 */
#pragma once

#include "alloc/file-provider.h"

typedef struct ProviderModule ProviderModule;

/*
 * Loads `warmfs-provider-NAME.so` in `dir`, an absolute path. The name is one that
 * segment_class_set lets pass. `file` and `log` are borrowed and must outlive the module. NULL:
 * the error is one line that says which file and why, and nothing is loaded.
 */
ProviderModule *provider_module_load(const char *dir, const char *name, FileProvider *file,
				     const Log *log, GError **error);
/* When its last segment is consumed. Takes NULL; returns NULL. */
ProviderModule *provider_module_free(ProviderModule *module);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProviderModule, provider_module_free)

/* A complete table; lives as long as the module. */
SegmentProvider *provider_module_base(ProviderModule *module);
