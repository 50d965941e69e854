/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Through the table SegmentProvider the allocate service makes segments. The built-in provider
 * (alloc/file-provider.h) makes files in SOURCE/.warmfs/pool; tests have their own. A class with
 * provider=NAME has the one of a module, `warmfs-provider-NAME.so` in the directory provider_dir=,
 * loaded once, when the mount begins.
 *
 * The rest is for who writes a module; two that work are in tests/providers/. This header is all it
 * needs (C11; `pkg-config --cflags warmfs`, <segment-provider.h>). warmfs exports no symbols to it:
 * what it may call is in the SegmentProviderHost, and it exports one, the SegmentProviderModule
 * `warmfs_segment_provider`.
 *
 * A module wraps the built-in provider. It may do something of its own to what that prepares, or
 * give a file its blocks and pages itself, and leaves to it what makes a segment survive restarts
 * and power cuts: names, marks, lengths, publishing, recovery. An operation that it leaves NULL is
 * the built-in provider's. What is published is the application's, and a module's no more.
 *
 * Versions. SEGMENT_PROVIDER_ABI changes when what is here changes its meaning or its place, and
 * only a module of the same one is loaded. Within one version, structures and tables grow at their
 * end, and each says how large it was for who filled it: a shorter one lacks what came later, and
 * nobody looks behind the end of a longer one.
 *
 * When a module cannot be loaded, has another version, or its init fails, one warning says so, and
 * the built-in provider serves in its place, as if provider= had not been given.
 *
 * Ownership. Segments and classes are warmfs's own structures; to a module they are pointers to
 * ask the host about. A class lives as long as the provider. A segment comes from the base provider
 * or from `create`; who gets it has to hand it on, or to consume it with discard or release of the
 * *base* provider. Its descriptor and its mapping belong to it.
 *
 * Threads. init and free are called by one thread, when no other knows the provider. The operations
 * are called by several at once, also for one class; which, and how patiently, is said at each. None
 * of warmfs's locks is held meanwhile, so base provider and host may be called from anywhere, also
 * from threads of the module's own (with every signal blocked; none may be left after free). This
 * is the process that serves the filesystem: a module does not touch files through the mount, and
 * leaves alone what all threads share (signals, umask, working directory, user, standard streams).
 *
 * Errors are -errno. What the service makes of them:
 *	ENOSPC EDQUOT		while somebody waits, ready segments are given up, and it is tried again
 *	EAGAIN EBUSY EINTR EIO	may pass: while somebody waits, tried up to three times, with pauses
 *	EMFILE ENFILE ENOMEM
 *	ECANCELED		only with *cancel raised; else it is EIO
 *	any other		the same at every attempt: what the create that waits ends with
 * A class whose preparing ahead fails pauses, with one warning, and then tries again. Nothing is
 * handed to the built-in provider silently: a module that wants that calls it. A result above 0, or
 * a success without a segment that is ready and of the class asked for, is EIO.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Segment Segment;
typedef struct SegmentClass SegmentClass;
typedef struct SegmentTarget SegmentTarget;
typedef struct SegmentProvider SegmentProvider;

struct SegmentProvider {
	/* Makes a ready segment of the class. The caller owns it. Ends early with -ECANCELED when *cancel is
	 * set. On failure nothing stays behind. Threads of the service, which have nothing else to do: it may
	 * take its time, but looks at *cancel, which is raised for good when the mount ends, every few
	 * milliseconds. */
	int (*prepare)(SegmentProvider *provider, const SegmentClass *class, const atomic_bool *cancel,
		       Segment **ret_segment);
	/* Makes an unprepared one of the same kind and size, at once: what is handed out after a timeout. */
	int (*prepare_cold)(SegmentProvider *provider, const SegmentClass *class, Segment **ret_segment);
	/* Gives a segment its name in the source. Fails with -EEXIST, and the segment is as it was, if the
	 * name is taken; other failures too leave it publishable. An application waits: it must not block. Always
	 * the built-in provider's: a module's is not called. */
	int (*publish)(SegmentProvider *provider, Segment *segment, const SegmentTarget *target);
	/* Removes the segment and its blocks. Consumes it. Any thread; may block for the removal of one file. */
	void (*discard)(SegmentProvider *provider, Segment *segment);
	/* Unmaps, closes (if fd is still there) and forgets; the file stays as it is. Consumes it. Threads of the
	 * service, and the one that ends it. */
	void (*release)(SegmentProvider *provider, Segment *segment);
	/* Checks that the filesystem can give `bytes` for one more segment and keep its reserve. 0 or -ENOSPC.
	 * Always the built-in provider's: a module's is not called. */
	int (*check_space)(SegmentProvider *provider, uint64_t bytes);
	/* Makes a ready segment of what was a file that an application has removed (it has a name in the pool, and a
	 * descriptor). Consumes it on failure. Always the built-in provider's, for the classes that have no module. */
	int (*renew)(SegmentProvider *provider, Segment *segment, const atomic_bool *cancel);
};

#define SEGMENT_PROVIDER_ABI UINT32_C(1)

/* What is to be known of a class. Who asks has set struct_size to its sizeof. */
typedef struct SegmentClassInfo {
	size_t struct_size;
	const char *name;
	/* "mapped", "append" or "stream". Leave one that you do not know to the base provider. */
	const char *kind;
	uint64_t size_bytes;
	uint64_t folio_bytes;
} SegmentClassInfo;

/* What is to be known of a segment. As above. */
typedef struct SegmentInfo {
	size_t struct_size;
	const SegmentClass *class;
	/* In the pool directory, for messages. */
	const char *name;
	/* Open read-write; -1 once an application has it. */
	int fd;
	/* The warmed pages, shared with every mapping of the file; or NULL. */
	void *map;
	size_t map_bytes;
	/* Left in the pool by an earlier mount, which may have had another provider. */
	bool adopted;
	/* From prepare_cold. */
	bool cold;
} SegmentInfo;

typedef struct SegmentProviderHost SegmentProviderHost;

/* What warmfs gives to a provider, each its own, until its free has returned. Any thread may call any of it. */
struct SegmentProviderHost {
	uint32_t abi_version;
	uint32_t struct_size;
	/* The built-in provider, complete. */
	SegmentProvider *base;
	/* One line for warmfs's log, without a newline; the provider's name is put before it. The priority is
	 * LOG_ERR, LOG_WARNING, LOG_NOTICE or LOG_DEBUG of <syslog.h>. */
	void (*log)(const SegmentProviderHost *host, int priority, const char *line);
	void (*describe_class)(const SegmentClass *class, SegmentClassInfo *ret_info);
	void (*describe)(const Segment *segment, SegmentInfo *ret_info);
	/*
	 * The steps of the base provider's prepare, for one that fills files itself: adopt; if that has none
	 * (-ENOENT), create, fill, finish. Without adopt, what earlier mounts have left keeps its space in vain.
	 *
	 * What the file is, and what filling has to make of it:
	 *	kind	created			when finished
	 *	mapped	empty			`size_bytes` long, zeroes, every block written
	 *	append	ends in a record	as long as it was, zeroes below `size_bytes`, every block there
	 *		that warmfs keeps	written
	 *	stream	empty			empty; blocks may be reserved behind its end
	 * All of its zeroes: a byte that is not one would be seen by the application as if it had written it.
	 */
	int (*adopt)(const SegmentProviderHost *host, const SegmentClass *class, const atomic_bool *cancel,
		     Segment **ret_segment);
	int (*create)(const SegmentProviderHost *host, const SegmentClass *class, Segment **ret_segment);
	/* Makes the file durable, checks its size and blocks (-EINVAL, and a warning), maps and populates the pages and
	 * marks the segment as ready. From then on, as after the base provider's prepare, its data, size and
	 * times must stay as they are: they tell the next mount that nobody has had it. (Attributes and what is
	 * done to the mapping's pages are free.) After a failure, only discard it. */
	int (*finish)(const SegmentProviderHost *host, Segment *segment, const atomic_bool *cancel);
};

/* The one symbol of a module. The first two fields are looked at before any code of the module is called. */
typedef struct SegmentProviderModule {
	/* SEGMENT_PROVIDER_ABI. Never moves. */
	uint32_t abi_version;
	/* sizeof(SegmentProviderModule) and sizeof(SegmentProvider). */
	uint32_t struct_size;
	uint32_t provider_size;
	/* 0. */
	uint32_t reserved;
	/* 0 and a provider, whose table is complete and is read once; or -errno, with nothing left behind, if it
	 * cannot serve here. `name` is the one of provider=, borrowed for the call: one module may have several. */
	int (*init)(const SegmentProviderHost *host, const char *name, SegmentProvider **ret_provider);
	/* At unmount, when every segment has been consumed. The module is unloaded afterwards. */
	void (*free)(SegmentProvider *provider);
} SegmentProviderModule;

#define SEGMENT_PROVIDER_SYMBOL "warmfs_segment_provider"

/* In the module. Export it also with -fvisibility=hidden. */
extern __attribute__((visibility("default"))) const SegmentProviderModule warmfs_segment_provider;
