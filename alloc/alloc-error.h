/* SPDX-License-Identifier: Apache-2.0 */
/* What an error of a preparation (-errno) calls for. */
#pragma once

#include <errno.h>
#include <stdbool.h>

/* Somebody's space has to be given up first. */
static inline bool alloc_error_is_space(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

/* It may be gone in a moment, so trying again is worth it. The others are the same at every attempt. */
static inline bool alloc_error_is_passing(int error)
{
	switch (-error) {
	case EAGAIN:
	case EBUSY:
	case EINTR:
	case EIO:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return true;
	default:
		return false;
	}
}
