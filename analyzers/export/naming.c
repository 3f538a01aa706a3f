/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that others have chosen.
 */
#include <glib.h>

#include "analyzers/export/naming.h"

#define REPLACEMENT 0xfffd

char *naming_clean(const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	GString *out = g_string_new(NULL);
	unsigned length = 0;

	for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
		gunichar c = g_utf8_get_char(at);

		if (length++ == NAMING_CHARACTERS) {
			g_string_append(out, "...");
			break;
		}
		g_string_append_unichar(out, g_unichar_iscntrl(c) ? REPLACEMENT : c);
	}
	return g_string_free(out, FALSE);
}
