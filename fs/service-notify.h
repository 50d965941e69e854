/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager that started us how we are: sd_notify(3)'s protocol, which is one datagram. */
#pragma once

#include <glib.h>

/* Whether somebody wants to hear: NOTIFY_SOCKET is set. */
#define service_is_notified() (g_getenv("NOTIFY_SOCKET") != NULL)

/* Lines of NAME=VALUE. 0, also if nobody wants to hear; or -errno. Any thread. */
int service_notify(const char *format, ...) G_GNUC_PRINTF(1, 2);
