// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-providers.h"

#include <string.h>

#include "alloc/provider-module.h"

struct ClassProviders {
	SegmentProvider base;
	/* Immutable. */
	const ClassRules *rules;
	SegmentProvider *file;
	/* Of each class of the rules, in their order. */
	SegmentProvider **of_class;
	GPtrArray *modules;
};

static SegmentProvider *provider_of(SegmentProvider *base, const SegmentClass *class)
{
	ClassProviders *providers = (ClassProviders *)base;

	for (size_t i = 0; i < class_rules_count(providers->rules); i++)
		if (class_rules_nth(providers->rules, i) == class)
			return providers->of_class[i];
	g_assert_not_reached();
}

static int class_providers_prepare(SegmentProvider *base, const SegmentClass *class,
				   const atomic_bool *cancel, Segment **ret_segment)
{
	SegmentProvider *provider = provider_of(base, class);

	return provider->prepare(provider, class, cancel, ret_segment);
}

static int class_providers_prepare_cold(SegmentProvider *base, const SegmentClass *class,
					Segment **ret_segment)
{
	SegmentProvider *provider = provider_of(base, class);

	return provider->prepare_cold(provider, class, ret_segment);
}

static int class_providers_publish(SegmentProvider *base, Segment *segment,
				   const SegmentTarget *target)
{
	SegmentProvider *provider = provider_of(base, segment->class);

	return provider->publish(provider, segment, target);
}

static void class_providers_discard(SegmentProvider *base, Segment *segment)
{
	SegmentProvider *provider = provider_of(base, segment->class);

	provider->discard(provider, segment);
}

static void class_providers_release(SegmentProvider *base, Segment *segment)
{
	SegmentProvider *provider = provider_of(base, segment->class);

	provider->release(provider, segment);
}

/* There is one filesystem for all classes. */
static int class_providers_check_space(SegmentProvider *base, uint64_t bytes)
{
	ClassProviders *providers = (ClassProviders *)base;

	return providers->file->check_space(providers->file, bytes);
}

/* No class that has a module recycles (alloc/recycled-file.h). */
static int class_providers_renew(SegmentProvider *base, Segment *segment, const atomic_bool *cancel)
{
	ClassProviders *providers = (ClassProviders *)base;

	return providers->file->renew(providers->file, segment, cancel);
}

static SegmentProvider *load(ClassProviders *providers, const char *dir, const char *name,
			     FileProvider *file, const Log *log)
{
	g_autoptr(GError) error = NULL;
	ProviderModule *module = provider_module_load(dir, name, file, log, &error);

	if (!module) {
		log_warning(log, "provider %s: %s; its classes have the built-in provider", name,
			    error->message);
		return providers->file;
	}
	g_ptr_array_add(providers->modules, module);
	return provider_module_base(module);
}

/* Of an earlier class with the same name for it, or NULL. */
static SegmentProvider *find_loaded(ClassProviders *providers, size_t n_settled, const char *name)
{
	for (size_t i = 0; i < n_settled; i++)
		if (g_strcmp0(class_rules_nth(providers->rules, i)->provider, name) == 0)
			return providers->of_class[i];
	return NULL;
}

static void free_module(void *module)
{
	provider_module_free(module);
}

ClassProviders *class_providers_new(const ClassRules *rules, const char *dir, FileProvider *file,
				    const Log *log)
{
	ClassProviders *providers = g_new0(ClassProviders, 1);

	providers->base = (SegmentProvider){
		.prepare = class_providers_prepare,
		.prepare_cold = class_providers_prepare_cold,
		.publish = class_providers_publish,
		.discard = class_providers_discard,
		.release = class_providers_release,
		.check_space = class_providers_check_space,
		.renew = class_providers_renew,
	};
	providers->rules = rules;
	providers->file = file_provider_base(file);
	providers->of_class = g_new0(SegmentProvider *, class_rules_count(rules));
	providers->modules = g_ptr_array_new_with_free_func(free_module);
	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const char *name = class_rules_nth(rules, i)->provider;
		SegmentProvider *provider =
			name ? find_loaded(providers, i, name) : providers->file;

		providers->of_class[i] =
			provider ? provider : load(providers, dir, name, file, log);
	}
	return providers;
}

ClassProviders *class_providers_free(ClassProviders *providers)
{
	if (!providers)
		return NULL;
	g_ptr_array_unref(providers->modules);
	g_free(providers->of_class);
	g_free(providers);
	return NULL;
}

SegmentProvider *class_providers_base(ClassProviders *providers)
{
	return &providers->base;
}
