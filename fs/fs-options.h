/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: `warmfs [-f] [-d] [-o OPTION[=VALUE],...] SOURCE MOUNTPOINT`, or `warmfs --check [--dry-run]
 * SOURCE`; under a name that begins with `mount.`, that of mount(8)'s helpers:
 * `mount.warmfs SOURCE MOUNTPOINT [-fnsv] [-N NAMESPACE] [-o OPTION[=VALUE],...] [-t TYPE]`.
 */
#pragma once

#include <stdbool.h>

#include <glib.h>

#include "alloc/class-rules.h"
#include "alloc/file-provider.h"
#include "alloc/log.h"
#include "fs/fs.h"

typedef struct FsOptions {
	char *source;
	char *mount_point;
	bool foreground;
	bool debug;
	bool show_version;
	/* Seal what was left live, and end; or only say what would be done. There is no mount point then. */
	bool check;
	bool dry_run;
	/* Of a mount helper: look, but do not mount; say that it is mounted; and in which mount namespace, as a path, or
	 * NULL for this one. */
	bool fake;
	bool verbose;
	char *mount_namespace;
	/* Only change the flags of a mount that is there (fs/remount.h). */
	bool remount;
	/* Lines above it are not logged. */
	LogLevel log_level;
	/* Let whoever starts the daemon wait until all pools are full. */
	bool wait_warm;
	/* The configuration file, as an absolute path, or NULL. */
	char *config_path;
	/* Of the options of the mount. While it is used, Fs.config_lock protects them. */
	GivenOptions *given;
	/* What they were when it was mounted. */
	GivenOptions *first_given;
	/* Of -o and of the configuration file together. */
	ClassRules *rules;
	/* Threads that prepare segments. Default: one for two processors, at least 1. */
	unsigned n_threads;
	unsigned n_default_threads;
	FileProviderConfig provider;
	WarmPaceConfig pace;
	/* How much memory may be locked for segments, bytes; 0: half of what there is. */
	uint64_t lock_budget_bytes;
	/* Where the modules of provider= are; an absolute path. */
	char *provider_dir;
	/* Where preset= looks; an absolute path. */
	char *preset_dir;
	FsConfig fs;
	/* Options for the kernel and libfuse, each "NAME" or "NAME=VALUE". */
	GPtrArray *mount_options;
	/* The names of the others in -o, as they came: what a remount does not change. */
	GPtrArray *own_keys;
} FsOptions;

/* Parses and checks what can be checked without looking at the source. NULL: *error says which option, its value, and
 * what is allowed. --help is answered here, and ends the process. */
FsOptions *fs_options_parse(int argc, char **argv, GError **error);
/* The options of the mount by number, NULL behind the last; each one's value in force (free with g_free), and where it is
 * from: `default`, `option` or `FILE:LINE`. */
const char *fs_options_nth_key(size_t nth);
char *fs_options_value(const FsOptions *options, const char *key, const char **ret_origin);
/* The same options, with these bytes in the file of config=, which there is. NULL: *error as of fs_options_parse. */
FsOptions *fs_options_reread(const FsOptions *options, const char *bytes, size_t length, GError **error);
/* The same options, and another value for one of those of the mount. False: *error as of fs_options_parse. */
FsOptions *fs_options_copy(const FsOptions *options);
bool fs_options_set(FsOptions *options, const char *key, const char *value, const char *origin, GError **error);
/* Whether the options of the mount can become those of `wanted` while it is mounted. If not, the error is one line that
 * names key, why, and what to do. */
bool fs_options_can_become(const FsOptions *options, const FsOptions *wanted, GError **error);
/* A line for each that is to become another. Free with g_free. */
char *fs_options_describe_change(const FsOptions *options, const FsOptions *wanted);
/* After that: each one's value, and where it is from, is what `wanted` says. */
void fs_options_note_again(const FsOptions *options, const FsOptions *wanted);
FsOptions *fs_options_free(FsOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FsOptions, fs_options_free)
