// SPDX-License-Identifier: Apache-2.0
#include "alloc/boot-id.h"

#include <glib.h>

char *boot_id_read(void)
{
	char *id = NULL;

	if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &id, NULL, NULL))
		return NULL;
	return g_strstrip(id);
}
