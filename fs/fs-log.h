/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines to standard error while there is one, else to syslog. */
#pragma once

#include "alloc/log.h"

/* The log's arg is owned by the log; free with fs_log_deinit. */
void fs_log_init(Log *log, LogLevel max_level);
void fs_log_deinit(Log *log);
/* From here on to syslog. Before threads run, or they may be split between the two for a moment. */
void fs_log_to_syslog(Log *log);
