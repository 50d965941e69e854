/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment provider of the allocate service when classes have providers of their own: each
 * segment is made and consumed by the one of its class (provider=).
 *
 * Which that is, is settled once. A module that cannot be loaded, or does not want to serve, costs
 * one warning, and its classes have the built-in provider.
 */
#pragma once

#include "alloc/file-provider.h"

typedef struct ClassProviders ClassProviders;

/* Loads what the classes name from `dir`, an absolute path; the classes of one name share a module.
 * All are borrowed and must outlive it. */
ClassProviders *class_providers_new(const ClassRules *rules, const char *dir, FileProvider *file,
				    const Log *log);
/* When the service is freed. Takes NULL; returns NULL. */
ClassProviders *class_providers_free(ClassProviders *providers);

/* The table to hand to the allocate service. */
SegmentProvider *class_providers_base(ClassProviders *providers);
