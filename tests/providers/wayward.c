// SPDX-License-Identifier: Apache-2.0
/* A segment provider that breaks the rules, each in the way its name says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <segment-provider.h>

typedef struct WaywardProvider {
	SegmentProvider base;
	const SegmentProviderHost *host;
} WaywardProvider;

static int prepare_positive(SegmentProvider *base, const SegmentClass *class,
			    const atomic_bool *cancel, Segment **ret_segment)
{
	(void)base;
	(void)class;
	(void)cancel;
	(void)ret_segment;
	return ENOSPC;
}

static int prepare_nothing(SegmentProvider *base, const SegmentClass *class,
			   const atomic_bool *cancel, Segment **ret_segment)
{
	(void)base;
	(void)class;
	(void)cancel;
	*ret_segment = NULL;
	return 0;
}

static int prepare_cancelled(SegmentProvider *base, const SegmentClass *class,
			     const atomic_bool *cancel, Segment **ret_segment)
{
	(void)base;
	(void)class;
	(void)cancel;
	(void)ret_segment;
	return -ECANCELED;
}

static int prepare_unfinished(SegmentProvider *base, const SegmentClass *class,
			      const atomic_bool *cancel, Segment **ret_segment)
{
	const SegmentProviderHost *host = ((WaywardProvider *)base)->host;

	(void)cancel;
	return host->create(host, class, ret_segment);
}

/* As `damage` leaves it. */
static int finish_after(SegmentProvider *base, const SegmentClass *class, const atomic_bool *cancel,
			int (*damage)(int fd), Segment **ret_segment)
{
	const SegmentProviderHost *host = ((WaywardProvider *)base)->host;
	SegmentInfo info = { .struct_size = sizeof(info) };
	int r = host->create(host, class, ret_segment);

	if (r < 0)
		return r;
	host->describe(*ret_segment, &info);
	if (damage(info.fd) < 0)
		abort();
	r = host->finish(host, *ret_segment, cancel);
	if (r < 0)
		host->base->discard(host->base, *ret_segment);
	return r;
}

static int leave(int fd)
{
	(void)fd;
	return 0;
}

static int prepare_unfilled(SegmentProvider *base, const SegmentClass *class,
			    const atomic_bool *cancel, Segment **ret_segment)
{
	return finish_after(base, class, cancel, leave, ret_segment);
}

static int make_longer(int fd)
{
	return ftruncate(fd, lseek(fd, 0, SEEK_END) + 1);
}

static int prepare_longer(SegmentProvider *base, const SegmentClass *class,
			  const atomic_bool *cancel, Segment **ret_segment)
{
	return finish_after(base, class, cancel, make_longer, ret_segment);
}

/* All of it, also what is warmfs's own. */
static int overwrite(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END);

	for (off_t offset = 0; offset < end; offset++)
		if (pwrite(fd, "", 1, offset) != 1)
			return -1;
	return 0;
}

static int prepare_overwritten(SegmentProvider *base, const SegmentClass *class,
			       const atomic_bool *cancel, Segment **ret_segment)
{
	return finish_after(base, class, cancel, overwrite, ret_segment);
}

static int prepare_cold_only(SegmentProvider *base, const SegmentClass *class,
			     const atomic_bool *cancel, Segment **ret_segment)
{
	const SegmentProviderHost *host = ((WaywardProvider *)base)->host;

	(void)cancel;
	return host->base->prepare_cold(host->base, class, ret_segment);
}

static int cold_positive(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	return prepare_positive(base, class, NULL, ret_segment);
}

static int cold_nothing(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	return prepare_nothing(base, class, NULL, ret_segment);
}

static int cold_cancelled(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	return prepare_cancelled(base, class, NULL, ret_segment);
}

static int cold_unfinished(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	return prepare_unfinished(base, class, NULL, ret_segment);
}

/* These two keep to them. */
static int cold_from_base(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	return prepare_cold_only(base, class, NULL, ret_segment);
}

static int cold_but_ready(SegmentProvider *base, const SegmentClass *class, Segment **ret_segment)
{
	const SegmentProviderHost *host = ((WaywardProvider *)base)->host;
	static const atomic_bool never;

	return host->base->prepare(host->base, class, &never, ret_segment);
}

static const struct {
	const char *name;
	SegmentProvider table;
} ways[] = {
	{ "positive", { .prepare = prepare_positive } },
	{ "nothing", { .prepare = prepare_nothing } },
	{ "cancelled", { .prepare = prepare_cancelled } },
	{ "unfinished", { .prepare = prepare_unfinished } },
	{ "unfilled", { .prepare = prepare_unfilled } },
	{ "longer", { .prepare = prepare_longer } },
	{ "overwritten", { .prepare = prepare_overwritten } },
	{ "cold", { .prepare = prepare_cold_only } },
	{ "positive-cold", { .prepare_cold = cold_positive } },
	{ "nothing-cold", { .prepare_cold = cold_nothing } },
	{ "cancelled-cold", { .prepare_cold = cold_cancelled } },
	{ "unfinished-cold", { .prepare_cold = cold_unfinished } },
	{ "base-cold", { .prepare_cold = cold_from_base } },
	{ "ready-cold", { .prepare_cold = cold_but_ready } },
};

static int wayward_init(const SegmentProviderHost *host, const char *name,
			SegmentProvider **ret_provider)
{
	WaywardProvider *provider;

	/* Success, and no provider. */
	if (strcmp(name, "absent") == 0)
		return 0;
	provider = calloc(1, sizeof(*provider));
	if (!provider)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(name, ways[i].name) == 0)
			provider->base = ways[i].table;
	provider->host = host;
	*ret_provider = &provider->base;
	return 0;
}

static void wayward_free(SegmentProvider *base)
{
	free(base);
}

const SegmentProviderModule warmfs_segment_provider = {
	.abi_version = SEGMENT_PROVIDER_ABI,
	.struct_size = sizeof(SegmentProviderModule),
	.provider_size = sizeof(SegmentProvider),
	.init = wayward_init,
	.free = wayward_free,
};
