// SPDX-License-Identifier: Apache-2.0
#include "alloc/latch.h"

void latch_init(Latch *latch)
{
	*latch = (Latch){ .open = false };
	mutex_init(&latch->lock);
	cond_init(&latch->opened);
}

void latch_deinit(Latch *latch)
{
	cond_deinit(&latch->opened);
	mutex_deinit(&latch->lock);
}

void latch_open(Latch *latch)
{
	LatchFunc func = NULL;

	mutex_lock(&latch->lock);
	if (!latch->open) {
		latch->open = true;
		func = latch->func;
		cond_broadcast(&latch->opened);
	}
	mutex_unlock(&latch->lock);

	if (func)
		func(latch->func_arg);
}

bool latch_is_open(Latch *latch)
{
	MUTEX_SCOPE(&latch->lock);
	return latch->open;
}

bool latch_wait_until(Latch *latch, int64_t deadline_ns)
{
	MUTEX_SCOPE(&latch->lock);
	while (!latch->open)
		if (!cond_wait_until(&latch->opened, &latch->lock, deadline_ns))
			return latch->open;
	return true;
}

bool latch_on_open(Latch *latch, LatchFunc func, void *arg)
{
	MUTEX_SCOPE(&latch->lock);
	if (latch->open)
		return false;
	g_assert(!latch->func);
	latch->func_arg = arg;
	latch->func = func;
	return true;
}
