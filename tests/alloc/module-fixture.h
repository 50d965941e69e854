/* SPDX-License-Identifier: Apache-2.0 */
/* A provider fixture, and a directory of modules (tests/providers/) beside it. */
#pragma once

#include "tests/alloc/provider-fixture.h"

typedef struct ModuleFixture {
	Fixture base;
	char *dir;
} ModuleFixture;

void module_fixture_init(ModuleFixture *f);
void module_fixture_deinit(ModuleFixture *f);

/* Copies a module into a directory, as warmfs-provider-NAME.so, and gives that path (g_free). */
char *install_module(const char *dir, const char *module, const char *name);

/* The stamp on a segment's file, 0 if it has none. */
unsigned stamp_of(const Segment *segment);
