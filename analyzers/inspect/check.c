/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Findings as data, as text and as JSON.
 */
#include "analyzers/inspect/check.h"
#include "analyzers/show.h"

static const struct {
	const char *json, *text, *colour;
} states[] = {
	[CHECK_OK] = {"ok", "ok", SHOW_GREEN},
	[CHECK_NOTE] = {"note", "note", SHOW_YELLOW},
	[CHECK_MISSING] = {"missing", "MISSING", SHOW_RED},
	[CHECK_UNSEEN] = {"unseen", "unseen", SHOW_YELLOW},
};

static void check_free(void *opaque)
{
	struct check *check = opaque;

	g_free(check->detail);
	g_free(check->mend);
	g_free(check);
}

GPtrArray *checks_new(void)
{
	return g_ptr_array_new_with_free_func(check_free);
}

void checks_add(GPtrArray *checks, enum check_state state, const char *name, const char *mend,
		const char *format, ...)
{
	struct check *check = g_new0(struct check, 1);
	va_list args;

	va_start(args, format);
	check->state = state;
	check->name = name;
	check->detail = g_strdup_vprintf(format, args);
	check->mend = g_strdup(mend);
	va_end(args);
	g_ptr_array_add(checks, check);
}

const struct check *checks_obstacle(const GPtrArray *checks)
{
	static const enum check_state order[] = {CHECK_MISSING, CHECK_UNSEEN};

	for (unsigned s = 0; s < G_N_ELEMENTS(order); s++)
		for (unsigned i = 0; i < checks->len; i++) {
			const struct check *check = checks->pdata[i];

			if (check->state == order[s])
				return check;
		}
	return NULL;
}

void checks_print(FILE *out, const GPtrArray *checks, bool colour)
{
	for (unsigned i = 0; i < checks->len; i++) {
		const struct check *c = checks->pdata[i];

		fprintf(out, "  %s%-7s%s  %-16s", colour ? states[c->state].colour : "",
			states[c->state].text, colour ? SHOW_PLAIN : "", c->name);
		show_wrapped(out, 27, c->detail);
		if (c->mend) {
			fprintf(out, "%25s", "->");
			show_wrapped(out, 27, c->mend);
		}
	}
}

void checks_json(JsonBuilder *b, const GPtrArray *checks)
{
	json_builder_set_member_name(b, "checks");
	json_builder_begin_array(b);
	for (unsigned i = 0; i < checks->len; i++) {
		const struct check *c = checks->pdata[i];

		json_builder_begin_object(b);
		show_text(b, "name", c->name);
		show_text(b, "state", states[c->state].json);
		show_text(b, "detail", c->detail);
		show_text(b, "mend", c->mend);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}
