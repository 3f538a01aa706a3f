/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small means of showing things on a terminal and in JSON.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "analyzers/show.h"

#define NARROWEST 60 /* below that, wrapping into a column makes a ladder of words */

bool show_colour(void)
{
	const char *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(no && *no);
}

unsigned show_columns(FILE *out)
{
	struct winsize size;

	return ioctl(fileno(out), TIOCGWINSZ, &size) ? 0 : size.ws_col;
}

void show_wrapped(FILE *out, unsigned column, const char *text)
{
	unsigned columns = show_columns(out), at = column;

	if (columns < NARROWEST)
		columns = 0;
	while (*text) {
		size_t word = strcspn(text, " ");

		if (columns && at > column && at + 1 + word > columns) {
			fprintf(out, "\n%*s", (int)column - 1, "");
			at = column - 1;
		}
		fprintf(out, " %.*s", (int)word, text);
		at += 1 + word;
		text += word;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

void show_text(JsonBuilder *b, const char *name, const char *value)
{
	g_autofree char *valid = value ? g_utf8_make_valid(value, -1) : NULL;

	json_builder_set_member_name(b, name);
	if (valid)
		json_builder_add_string_value(b, valid);
	else
		json_builder_add_null_value(b);
}

void show_int(JsonBuilder *b, const char *name, uint64_t value)
{
	json_builder_set_member_name(b, name);
	json_builder_add_int_value(b, value);
}

void show_bool(JsonBuilder *b, const char *name, bool value)
{
	json_builder_set_member_name(b, name);
	json_builder_add_boolean_value(b, value);
}

void show_json(FILE *out, JsonBuilder *b)
{
	g_autoptr(JsonNode) root = json_builder_get_root(b);
	g_autofree char *text = json_to_string(root, TRUE);

	fprintf(out, "%s\n", text);
}
