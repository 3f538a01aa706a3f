/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be shown and what cannot.
 */
#include <stdbool.h>

#include <glib.h>

#include "analyzers/model/plain.h"

#define REPLACEMENT 0xfffd

static bool is_plain_ascii(const char *text)
{
	while (*text >= ' ' && *text <= '~')
		text++;
	return !*text;
}

static bool can_be_shown(gunichar c)
{
	switch (g_unichar_type(c)) {
	case G_UNICODE_CONTROL:
	case G_UNICODE_LINE_SEPARATOR:
	case G_UNICODE_PARAGRAPH_SEPARATOR:
		return false;
	default:
		/* Embeddings, overrides and isolates of a direction. */
		return !(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
	}
}

char *plain_text(const char *text)
{
	g_autofree char *valid = NULL;
	GString *plain;

	if (!text || is_plain_ascii(text))
		return g_strdup(text ? text : "");
	valid = g_utf8_make_valid(text, -1);
	plain = g_string_new(NULL);
	for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
		gunichar c = g_utf8_get_char(at);

		g_string_append_unichar(plain, can_be_shown(c) ? c : REPLACEMENT);
	}
	return g_string_free(plain, FALSE);
}
