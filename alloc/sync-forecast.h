/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guesses that an application is about to sync a file: after as many writes as before each of its
 * last few syncs. A wrong guess is the last one until the application has become regular again.
 *
 * No lock of its own.
 */
#pragma once

#include <stdbool.h>

/* Syncs after equally many writes, before the next one is believed to be. */
#define SYNC_FORECAST_ALIKE 3

typedef struct SyncForecast {
	unsigned n_writes;
	unsigned n_writes_before;
	unsigned n_alike;
} SyncForecast;

static inline void sync_forecast_note_write(SyncForecast *forecast)
{
	forecast->n_writes++;
}

static inline void sync_forecast_note_sync(SyncForecast *forecast)
{
	bool alike = forecast->n_writes > 0 && forecast->n_writes == forecast->n_writes_before;

	forecast->n_alike = alike ? forecast->n_alike + 1 : 0;
	forecast->n_writes_before = forecast->n_writes;
	forecast->n_writes = 0;
}

/* Whether one may: for what costs little and is then done. */
static inline bool sync_forecast_is_likely(const SyncForecast *forecast)
{
	return forecast->n_writes_before > 0 && forecast->n_writes == 1;
}

/* Whether a sync follows the write that was noted last. */
static inline bool sync_forecast_is_due(const SyncForecast *forecast)
{
	return forecast->n_alike >= SYNC_FORECAST_ALIKE &&
	       forecast->n_writes == forecast->n_writes_before;
}
