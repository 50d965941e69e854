// SPDX-License-Identifier: Apache-2.0
#include "alloc/option-error.h"

#include <stdarg.h>

bool option_error_refuse(GError **error, GOptionError code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	for (char *at = text; *at; at++)
		if (g_ascii_iscntrl(*at))
			*at = '?';
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	g_set_error_literal(error, G_OPTION_ERROR, code, valid);
	return false;
}
