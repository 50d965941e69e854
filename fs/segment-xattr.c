// SPDX-License-Identifier: Apache-2.0
#include "fs/segment-xattr.h"

#include <fcntl.h>

#include "alloc/cleanup.h"

typedef struct SegmentFacts {
	Fs *fs;
	const Inode *inode;
	const SegmentClass *class;
	bool live;
} SegmentFacts;

static char *number(uint64_t value)
{
	return g_strdup_printf("%" G_GUINT64_FORMAT, (guint64)value);
}

static char *get_class(const SegmentFacts *facts)
{
	return g_strdup(facts->class->name);
}

static char *get_kind(const SegmentFacts *facts)
{
	return g_strdup(segment_kind_to_string(facts->class->kind));
}

static char *get_state(const SegmentFacts *facts)
{
	return g_strdup(facts->live ? "live" : "sealed");
}

static char *get_capacity(const SegmentFacts *facts)
{
	return number(facts->class->size_bytes);
}

static char *get_length(const SegmentFacts *facts)
{
	struct stat attr;

	if (fstatat(facts->inode->fd, "", &attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	fs_patch_attr(facts->fs, facts->inode->fd, "", &attr);
	return number(attr.st_size);
}

static char *get_resident(const SegmentFacts *facts)
{
	auto_fd fd = fs_reopen(facts->fs, facts->inode->fd, O_RDONLY | O_NONBLOCK);
	uint64_t length, bytes;
	struct stat attr;

	if (fd < 0 || fstat(fd, &attr) < 0)
		return NULL;
	/* Behind the capacity of a live one may be what is not the application's. */
	length = facts->live ? MIN((uint64_t)attr.st_size, facts->class->size_bytes) : (uint64_t)attr.st_size;
	return sys_kernel.resident_bytes(&sys_kernel, fd, length, &bytes) < 0 ? NULL : number(bytes);
}

static bool find_out(Fs *fs, const Inode *inode, SegmentFacts *ret_facts)
{
	const SegmentClass *live = fs->live ? live_set_class_of(fs->live, inode->dev, inode->ino) : NULL;
	const SegmentClass *class = live ? live : atomic_load(&inode->class);

	*ret_facts = (SegmentFacts){ .fs = fs, .inode = inode, .class = class, .live = live };
	return class;
}

char *segment_xattr_value(Fs *fs, const Inode *inode, const char *name)
{
	static const struct {
		const char *name;
		char *(*get)(const SegmentFacts *facts);
	} attributes[] = {
		{ "class", get_class },	      { "kind", get_kind },	{ "state", get_state },
		{ "capacity", get_capacity }, { "length", get_length }, { "resident", get_resident },
	};
	SegmentFacts facts;

	if (!find_out(fs, inode, &facts))
		return NULL;
	for (size_t i = 0; i < G_N_ELEMENTS(attributes); i++)
		if (strcmp(name + strlen(SEGMENT_XATTR_PREFIX), attributes[i].name) == 0)
			return attributes[i].get(&facts);
	return NULL;
}
