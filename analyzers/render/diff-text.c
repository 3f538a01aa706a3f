/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A comparison for a terminal.
 */
#include <math.h>
#include <string.h>

#include "analyzers/compare/fit.h"
#include "analyzers/render/figure.h"
#include "analyzers/show.h"

/* Names of details are long; a figure's own width is never more. */
#define NAME_WIDTH 60

static const char *colour_of(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_WORSE:
		return SHOW_RED;
	case VERDICT_BETTER:
		return SHOW_GREEN;
	case VERDICT_UNKNOWN:
		return SHOW_YELLOW;
	default:
		return "";
	}
}

static void show_row(FILE *out, const struct comparison *c, unsigned width, bool colour)
{
	g_autofree char *a = figure_text(c->unit, c->a.median);
	g_autofree char *b = figure_text(c->unit, c->b.median);
	g_autofree char *ratio = c->a.n && c->b.n ? render_interval(c->ratio) : g_strdup("-");
	g_autofree char *verdict = render_comparison_verdict(c);
	g_autofree char *n = g_strdup_printf("%u/%u", c->a.n, c->b.n);

	fprintf(out, "  %-*s %10s %10s  %-22s %8.2g %6.2f %7s  ", width, c->name, a, b, ratio,
		c->p_corrected, c->ranks.delta, n);
	if (c->group == FIGURE_CONTROL)
		fputs("(not judged)\n", out);
	else
		fprintf(out, "%s%s%s\n", colour ? colour_of(c->verdict) : "", verdict,
			colour ? SHOW_PLAIN : "");
}

static void show_group(FILE *out, const struct compared *to, enum figure_group group,
		       const struct render_diff_options *o)
{
	static const char *const titles[FIGURE_GROUPS] = {
		[FIGURE_HEADLINE] = "the whole run",
		[FIGURE_SITE] = "by call site",
		[FIGURE_PHASE] = "by phase of the migration (time in it; holds kept one by one)",
		[FIGURE_CAUSE] = "asleep while holding, by cause",
		[FIGURE_DEVICE] = "loading each device's state",
		[FIGURE_CONTROL] = "the machine meanwhile",
	};
	bool always = o->all || group == FIGURE_HEADLINE || group == FIGURE_CONTROL;
	unsigned width = 12, shown = 0, left = 0;

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group != group)
			continue;
		if (!always && !render_worth_showing(c)) {
			left++;
			continue;
		}
		shown++;
		width = MAX(width, MIN(NAME_WIDTH, (unsigned)strlen(c->name)));
	}
	if (!shown && !left)
		return;
	fprintf(out, "\n%s%s%s\n", o->colour ? SHOW_BOLD : "", titles[group],
		o->colour ? SHOW_PLAIN : "");
	if (shown)
		fprintf(out, "%s  %-*s %10s %10s  %-22s %8s %6s %7s  %s%s\n",
			o->colour ? SHOW_DIM : "", width, "", "A median", "B median", "B / A [95%]",
			"p", "delta", "n", "verdict", o->colour ? SHOW_PLAIN : "");
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == group && (always || render_worth_showing(c)))
			show_row(out, c, width, o->colour);
	}
	if (left)
		fprintf(out, "  %u %s: nothing to tell (--all shows %s)\n", left,
			shown ? "others" : "figures", left == 1 ? "it" : "them");
}

static void show_side(FILE *out, const char *letter, const struct group *g)
{
	g_autofree char *qemu = group_qemu(g);

	fprintf(out, "  %s  %s: %u run%s, QEMU %s, from %s\n", letter, g->label, g->runs->len,
		g->runs->len == 1 ? "" : "s", qemu, g->file);
}

static void show_gates(FILE *out, const struct render_diff_options *o)
{
	unsigned kept = 0;

	if (!o->gates)
		return;
	fprintf(out, "\n%sgates%s\n", o->colour ? SHOW_BOLD : "", o->colour ? SHOW_PLAIN : "");
	for (unsigned i = 0; i < o->gates->len; i++) {
		const struct gate_result *r = &g_array_index(o->gates, struct gate_result, i);

		if (r->state == GATE_KEPT)
			kept++;
		else
			fprintf(out, "  %s%s%s: %s: %s\n",
				!o->colour		     ? ""
				: r->state == GATE_UNDECIDED ? SHOW_YELLOW
							     : SHOW_RED,
				gate_state_name(r->state), o->colour ? SHOW_PLAIN : "", r->rule,
				r->reason);
	}
	fprintf(out, "  %u of %u checks kept\n", kept, o->gates->len);
}

void render_diff_text(FILE *out, const struct compared *to, const struct render_diff_options *o)
{
	g_autofree char *verdict = render_verdict(to), *rest = render_verdict_rest(to);
	g_autofree char *machine = group_machine(to->a);
	const char *scenario = run_scenario(to->a->runs->pdata[0], NULL);

	fprintf(out, "%s%s%s\n%s\n\n", o->colour ? SHOW_BOLD : "", verdict,
		o->colour ? SHOW_PLAIN : "", rest);
	show_side(out, "A", to->a);
	show_side(out, "B", to->b);
	if (scenario)
		fprintf(out, "  scenario %s\n", scenario);
	fprintf(out, "  on %s\n", machine);
	for (unsigned i = 0; i < to->notes->len; i++)
		fprintf(out, "  note: %s\n", (char *)to->notes->pdata[i]);
	for (enum figure_group g = 0; g < FIGURE_GROUPS; g++)
		show_group(out, to, g, o);
	show_gates(out, o);
	fprintf(out,
		"\nLess is better. p is corrected for the number of figures; \"same\" means that "
		"the\ninterval lies within %g%%, or within %g us.\n",
		100 * to->options.margin, to->least_ns / 1e3);
}
