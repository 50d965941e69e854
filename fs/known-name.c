// SPDX-License-Identifier: Apache-2.0
#include "fs/known-name.h"

#include <unistd.h>

#include "fs/status-dir.h"

/* Whatever the answer is: who needs the name is told it as well. */
static void look_up(const char *path)
{
	access(path, F_OK);
}

void known_name_begin(KnownName *name, const char *mount_point)
{
	own_mount_begin(&name->mount, "warmfs-name", g_build_filename(mount_point, STATUS_DIR_NAME, NULL), look_up);
	own_mount_ask(&name->mount);
}

void known_name_wait(KnownName *name, int64_t deadline_ns)
{
	own_mount_wait(&name->mount, deadline_ns);
}

void known_name_lost(KnownName *name)
{
	own_mount_ask(&name->mount);
}

void known_name_stop(KnownName *name)
{
	own_mount_stop(&name->mount);
}

void known_name_end(KnownName *name)
{
	own_mount_end(&name->mount);
}
