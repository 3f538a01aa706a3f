/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A comparison for programs. docs/diff-json.md describes every member; a member is added, never
 * changed in meaning, as long as "format" stays the same.
 */
#include <math.h>

#include <json-glib/json-glib.h>

#include "analyzers/compare/fit.h"
#include "analyzers/render/figure.h"
#include "analyzers/show.h"

#define FORMAT 1

/* JSON has no infinity. */
static void add_number(JsonBuilder *b, const char *name, double value)
{
	json_builder_set_member_name(b, name);
	if (isfinite(value))
		json_builder_add_double_value(b, value);
	else
		json_builder_add_null_value(b);
}

static void begin(JsonBuilder *b, const char *name)
{
	json_builder_set_member_name(b, name);
	json_builder_begin_object(b);
}

static void begin_array(JsonBuilder *b, const char *name)
{
	json_builder_set_member_name(b, name);
	json_builder_begin_array(b);
}

static void add_side(JsonBuilder *b, const char *name, const struct group *g)
{
	g_autofree char *qemu = group_qemu(g), *machine = group_machine(g);

	begin(b, name);
	show_text(b, "label", g->label);
	show_text(b, "file", g->file);
	show_int(b, "runs", g->runs->len);
	show_int(b, "failed", g->failed);
	show_text(b, "qemu", qemu);
	show_text(b, "build_id", ((struct run *)g->runs->pdata[0])->qemu_build_id);
	show_text(b, "machine", machine);
	json_builder_end_object(b);
}

static void add_sample(JsonBuilder *b, const char *name, const struct sample *s)
{
	begin(b, name);
	show_int(b, "n", s->n);
	add_number(b, "median", s->median);
	begin_array(b, "values");
	for (unsigned i = 0; i < s->n; i++)
		json_builder_add_double_value(b, s->values[i]);
	json_builder_end_array(b);
	json_builder_end_object(b);
}

static void add_interval(JsonBuilder *b, const char *name, struct stats_interval i, bool known)
{
	begin(b, name);
	add_number(b, "estimate", known ? i.estimate : NAN);
	add_number(b, "low", known ? i.low : NAN);
	add_number(b, "high", known ? i.high : NAN);
	json_builder_end_object(b);
}

static const char *unit_name(enum figure_unit unit)
{
	static const char *const names[] = {
		[FIGURE_NS] = "ns",
		[FIGURE_SHARE] = "ratio",
		[FIGURE_BYTES] = "bytes",
		[FIGURE_COUNT] = "count",
	};

	return names[unit];
}

static void add_comparison(JsonBuilder *b, const struct comparison *c)
{
	bool known = c->a.n && c->b.n;

	json_builder_begin_object(b);
	show_text(b, "name", c->name);
	show_text(b, "group", figure_group_name(c->group));
	show_text(b, "subject", c->subject);
	show_text(b, "unit", unit_name(c->unit));
	show_text(b, "verdict",
		  c->group == FIGURE_CONTROL ? "not judged" : verdict_name(c->verdict));
	json_builder_set_member_name(b, "more_runs");
	if (c->verdict == VERDICT_UNKNOWN && c->more != MORE_TOO_MANY)
		json_builder_add_int_value(b, c->more);
	else
		json_builder_add_null_value(b);
	add_sample(b, "a", &c->a);
	add_sample(b, "b", &c->b);
	add_interval(b, "ratio", c->ratio, known);
	add_interval(b, "difference", c->difference, known);
	add_number(b, "p", c->ranks.p);
	add_number(b, "p_corrected", c->p_corrected);
	show_bool(b, "p_exact", c->ranks.exact);
	add_number(b, "cliffs_delta", c->ranks.delta);
	json_builder_end_object(b);
}

static void add_gates(JsonBuilder *b, const GArray *gates)
{
	begin_array(b, "gates");
	for (unsigned i = 0; gates && i < gates->len; i++) {
		const struct gate_result *r = &g_array_index(gates, struct gate_result, i);

		json_builder_begin_object(b);
		show_text(b, "rule", r->rule);
		show_text(b, "state", gate_state_name(r->state));
		show_text(b, "reason", r->reason);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

char *render_diff_json(const struct compared *to, const struct render_diff_options *o)
{
	g_autoptr(JsonBuilder) b = json_builder_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *summary = render_verdict(to);

	json_builder_begin_object(b);
	show_int(b, "format", FORMAT);
	show_text(b, "tool", BQLSTAT_VERSION);
	show_text(b, "verdict", verdict_name(compared_verdict(to)));
	show_text(b, "summary", summary);
	show_text(b, "scenario", run_scenario(to->a->runs->pdata[0], NULL));
	add_side(b, "a", to->a);
	add_side(b, "b", to->b);
	begin(b, "method");
	add_number(b, "alpha", to->options.alpha);
	add_number(b, "margin", to->options.margin);
	add_number(b, "confidence", to->options.level);
	show_int(b, "seed", to->options.seed);
	add_number(b, "least_ns", to->least_ns);
	json_builder_end_object(b);
	begin_array(b, "notes");
	for (unsigned i = 0; i < to->notes->len; i++)
		json_builder_add_string_value(b, to->notes->pdata[i]);
	json_builder_end_array(b);
	add_gates(b, o->gates);
	begin_array(b, "figures");
	for (unsigned i = 0; i < to->all->len; i++)
		add_comparison(b, &g_array_index(to->all, struct comparison, i));
	json_builder_end_array(b);
	json_builder_end_object(b);
	root = json_builder_get_root(b);
	return json_to_string(root, TRUE);
}
