/* SPDX-License-Identifier: Apache-2.0 */
/* Entries for systemd's journal, in its own protocol: a datagram of fields. Any thread. */
#pragma once

#include <stdbool.h>

#include <glib.h>

/* A connected socket, or -errno, -ENOENT if no journal runs here. */
int journal_open(void);
/* Whether standard error ends in the journal, line by line: then fields may be sent instead. */
bool journal_has_stderr(void);
/* Appends a field; the value may hold anything but a NUL. */
void journal_append(GString *entry, const char *field, const char *value);
/* 0 or -errno. Does not block. */
int journal_send(int fd, const GString *entry);
