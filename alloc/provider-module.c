// SPDX-License-Identifier: Apache-2.0
#include "alloc/provider-module.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <gmodule.h>

#include "alloc/segment-name.h"

struct ProviderModule {
	SegmentProvider base;
	/* Immutable once loaded. */
	SegmentProviderHost host;
	FileProvider *file;
	const Log *log;
	char *name;
	GModule *library;
	const SegmentProviderModule *entry;
	SegmentProvider *provider;
	/* The provider's operations, as init has left them; NULL for those it does not have. */
	SegmentProvider own;
};

static ProviderModule *provider_module(SegmentProvider *base)
{
	return (ProviderModule *)base;
}

static ProviderModule *module_of_host(const SegmentProviderHost *host)
{
	return (ProviderModule *)((char *)host - offsetof(ProviderModule, host));
}

/*
 * What the module may call.
 */

static void host_log(const SegmentProviderHost *host, int priority, const char *line)
{
	ProviderModule *module = module_of_host(host);
	LogLevel level = priority <= LOG_ERR	   ? LOG_LEVEL_ERROR
			 : priority == LOG_WARNING ? LOG_LEVEL_WARNING
			 : priority == LOG_DEBUG   ? LOG_LEVEL_DEBUG
						   : LOG_LEVEL_NOTICE;

	log_line(module->log, level, &(const LogSubject){ 0 }, "provider %s: %s", module->name, line);
}

static void host_describe_class(const SegmentClass *class, SegmentClassInfo *ret_info)
{
	SegmentClassInfo info = {
		.struct_size = ret_info->struct_size,
		.name = class->name,
		.kind = segment_kind_to_string(class->kind),
		.size_bytes = class->size_bytes,
		.folio_bytes = class->folio_bytes,
	};

	memcpy(ret_info, &info, MIN(info.struct_size, sizeof(info)));
}

static void host_describe(const Segment *segment, SegmentInfo *ret_info)
{
	SegmentInfo info = {
		.struct_size = ret_info->struct_size,
		.class = segment->class,
		.name = segment->name,
		.fd = segment->fd,
		.map = segment->map,
		.map_bytes = segment->map_bytes,
		.adopted = segment->adopted,
		.cold = segment->cold,
	};

	memcpy(ret_info, &info, MIN(info.struct_size, sizeof(info)));
}

static int host_adopt(const SegmentProviderHost *host, const SegmentClass *class,
		      const atomic_bool *cancel, Segment **ret_segment)
{
	return file_provider_adopt(module_of_host(host)->file, class, cancel, ret_segment);
}

static int host_create(const SegmentProviderHost *host, const SegmentClass *class,
		       Segment **ret_segment)
{
	return file_provider_create(module_of_host(host)->file, class, ret_segment);
}

static int host_finish(const SegmentProviderHost *host, Segment *segment, const atomic_bool *cancel)
{
	return file_provider_finish(module_of_host(host)->file, segment, cancel);
}

/*
 * What the service calls.
 */

/* An unfinished one would be published as it is, and recovery not know it. */
static bool is_for(const Segment *segment, const SegmentClass *class, bool may_be_cold)
{
	SegmentNameParts parts;

	if (segment->class != class)
		return false;
	if (segment->cold)
		return may_be_cold;
	return segment_name_parse(segment->name, &parts) == SEGMENT_NAME_READY;
}

/* What the service relies on: an error is negative, what says that it was cancelled was, and a
 * success has a segment that can be published. `cancel` is NULL for a cold one. */
static int check_outcome(ProviderModule *module, int r, const SegmentClass *class,
			 const atomic_bool *cancel, Segment *segment)
{
	if (r > 0 || (r == 0 && !segment) || (r == -ECANCELED && !(cancel && atomic_load(cancel))))
		return -EIO;
	if (r < 0 || is_for(segment, class, !cancel))
		return r;
	log_warning(module->log,
		    "provider %s: has given %s to class %s, for which it is not ready; removed",
		    module->name, segment->name, class->name);
	module->host.base->discard(module->host.base, segment);
	return -EIO;
}

static int module_prepare(SegmentProvider *base, const SegmentClass *class,
			  const atomic_bool *cancel, Segment **ret_segment)
{
	ProviderModule *module = provider_module(base);
	Segment *segment = NULL;
	int r;

	if (!module->own.prepare)
		return module->host.base->prepare(module->host.base, class, cancel, ret_segment);
	r = module->own.prepare(module->provider, class, cancel, &segment);
	r = check_outcome(module, r, class, cancel, segment);
	if (r == 0)
		*ret_segment = segment;
	return r;
}

static int module_prepare_cold(SegmentProvider *base, const SegmentClass *class,
			       Segment **ret_segment)
{
	ProviderModule *module = provider_module(base);
	Segment *segment = NULL;
	int r;

	if (!module->own.prepare_cold)
		return module->host.base->prepare_cold(module->host.base, class, ret_segment);
	r = module->own.prepare_cold(module->provider, class, &segment);
	r = check_outcome(module, r, class, NULL, segment);
	if (r == 0)
		*ret_segment = segment;
	return r;
}

static int module_publish(SegmentProvider *base, Segment *segment, const SegmentTarget *target)
{
	ProviderModule *module = provider_module(base);

	return module->host.base->publish(module->host.base, segment, target);
}

static void module_discard(SegmentProvider *base, Segment *segment)
{
	ProviderModule *module = provider_module(base);

	if (module->own.discard)
		module->own.discard(module->provider, segment);
	else
		module->host.base->discard(module->host.base, segment);
}

static void module_release(SegmentProvider *base, Segment *segment)
{
	ProviderModule *module = provider_module(base);

	if (module->own.release)
		module->own.release(module->provider, segment);
	else
		module->host.base->release(module->host.base, segment);
}

static int module_check_space(SegmentProvider *base, uint64_t bytes)
{
	ProviderModule *module = provider_module(base);

	return module->host.base->check_space(module->host.base, bytes);
}

/*
 * Loading.
 */

static bool G_GNUC_PRINTF(3, 4) refuse(GError **error, const char *path, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *reason = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, G_MODULE_ERROR, G_MODULE_ERROR_FAILED, "%s: %s", path, reason);
	return false;
}

/* Whether nobody but root and ourselves can change what is there. A sticky directory's entries are
 * their owners'. */
static bool check_component(const char *path, GError **error)
{
	struct stat attr;

	if (lstat(path, &attr) < 0)
		return refuse(error, path, "%s", g_strerror(errno));
	if (S_ISLNK(attr.st_mode))
		return refuse(error, path, "is a symbolic link; give provider_dir= without any");
	if (attr.st_uid != 0 && attr.st_uid != geteuid())
		return refuse(error, path, "belongs to user %u, who could change it",
			      (unsigned)attr.st_uid);
	if ((attr.st_mode & 022) && !(S_ISDIR(attr.st_mode) && (attr.st_mode & S_ISVTX)))
		return refuse(error, path, "others can write to it (mode %04o)",
			      attr.st_mode & 07777);
	return true;
}

static bool check_path(const char *path, GError **error)
{
	struct stat attr;

	for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
		g_autofree char *upper =
			slash == path ? g_strdup("/") : g_strndup(path, slash - path);

		if (!check_component(upper, error))
			return false;
	}
	if (!check_component(path, error))
		return false;
	if (stat(path, &attr) < 0 || !S_ISREG(attr.st_mode))
		return refuse(error, path, "is not a file");
	return true;
}

/* Only the fields that no version moves are looked at until the version is known to be ours. */
static bool check_version(const SegmentProviderModule *entry, const char *path, GError **error)
{
	if (entry->abi_version != SEGMENT_PROVIDER_ABI)
		return refuse(error, path,
			      "is made for version %u of providers, and not for %u: build it again",
			      entry->abi_version, SEGMENT_PROVIDER_ABI);
	if (entry->struct_size < offsetof(SegmentProviderModule, free) + sizeof(entry->free) ||
	    !entry->init || !entry->free)
		return refuse(error, path, "has no init and free in %s", SEGMENT_PROVIDER_SYMBOL);
	return true;
}

static bool open_library(ProviderModule *module, const char *path, GError **error)
{
	void *symbol;

	/* Every symbol now: one that is missing must not end the daemon later. */
	module->library = g_module_open_full(path, G_MODULE_BIND_LOCAL, error);
	if (!module->library)
		return false;
	if (!g_module_symbol(module->library, SEGMENT_PROVIDER_SYMBOL, &symbol))
		return refuse(error, path, "has no symbol %s", SEGMENT_PROVIDER_SYMBOL);
	module->entry = symbol;
	return check_version(module->entry, path, error);
}

static bool start_provider(ProviderModule *module, const char *path, GError **error)
{
	int r = module->entry->init(&module->host, module->name, &module->provider);

	if (r == 0 && !module->provider)
		r = -EIO;
	if (r != 0) {
		module->provider = NULL;
		return refuse(error, path, "refuses to serve: %s", g_strerror(ABS(r)));
	}
	memcpy(&module->own, module->provider,
	       MIN(module->entry->provider_size, sizeof(module->own)));
	return true;
}

static ProviderModule *provider_module_new(const char *name, FileProvider *file, const Log *log)
{
	ProviderModule *module = g_new0(ProviderModule, 1);

	module->base = (SegmentProvider){
		.prepare = module_prepare,
		.prepare_cold = module_prepare_cold,
		.publish = module_publish,
		.discard = module_discard,
		.release = module_release,
		.check_space = module_check_space,
	};
	module->host = (SegmentProviderHost){
		.abi_version = SEGMENT_PROVIDER_ABI,
		.struct_size = sizeof(SegmentProviderHost),
		.base = file_provider_base(file),
		.log = host_log,
		.describe_class = host_describe_class,
		.describe = host_describe,
		.adopt = host_adopt,
		.create = host_create,
		.finish = host_finish,
	};
	module->name = g_strdup(name);
	module->file = file;
	module->log = log;
	return module;
}

ProviderModule *provider_module_load(const char *dir, const char *name, FileProvider *file,
				     const Log *log, GError **error)
{
	g_autofree char *path = g_strdup_printf("%s/warmfs-provider-%s.so", dir, name);
	g_autoptr(ProviderModule) module = provider_module_new(name, file, log);

	if (!check_path(path, error) || !open_library(module, path, error) ||
	    !start_provider(module, path, error))
		return NULL;
	log_notice(log, "provider %s: loaded from %s", name, path);
	return g_steal_pointer(&module);
}

ProviderModule *provider_module_free(ProviderModule *module)
{
	if (!module)
		return NULL;
	if (module->provider)
		module->entry->free(module->provider);
	g_clear_pointer(&module->library, g_module_close);
	g_free(module->name);
	g_free(module);
	return NULL;
}

SegmentProvider *provider_module_base(ProviderModule *module)
{
	return &module->base;
}
