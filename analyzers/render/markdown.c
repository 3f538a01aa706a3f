/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A comparison for a pull request: GitHub's and GitLab's Markdown.
 */
#include <string.h>

#include "analyzers/compare/fit.h"
#include "analyzers/render/figure.h"

/* In a table cell a bar would end the cell, and a letter that means something would mean it. */
static char *escaped(const char *text)
{
	GString *s = g_string_new(NULL);

	for (; *text; text++) {
		if (strchr("|\\`*_<>[]", *text))
			g_string_append_c(s, '\\');
		g_string_append_c(s, *text == '\n' ? ' ' : *text);
	}
	return g_string_free(s, FALSE);
}

static const char *sign_of(enum verdict verdict)
{
	static const char *const signs[VERDICTS] = {
		[VERDICT_WORSE] = "**worse**", [VERDICT_BETTER] = "better",
		[VERDICT_SAME] = "same",       [VERDICT_UNKNOWN] = "",
		[VERDICT_ONLY_A] = "vanished", [VERDICT_ONLY_B] = "appeared",
	};

	return signs[verdict];
}

static void row(FILE *out, const struct comparison *c)
{
	g_autofree char *name = escaped(c->name), *a = figure_text(c->unit, c->a.median);
	g_autofree char *b = figure_text(c->unit, c->b.median);
	g_autofree char *ratio = c->a.n && c->b.n ? render_interval(c->ratio) : g_strdup("-");
	g_autofree char *verdict = render_comparison_verdict(c);
	const char *sign = sign_of(c->verdict);

	fprintf(out, "| %s | %s | %s | %s | %.2g | %+.2f | %u/%u | %s |\n", name, a, b, ratio,
		c->p_corrected, c->ranks.delta, c->a.n, c->b.n, *sign ? sign : verdict);
}

static void head(FILE *out, const struct compared *to)
{
	g_autofree char *a = escaped(to->a->label), *b = escaped(to->b->label);

	fprintf(out,
		"| figure | %s | %s | ratio [95%%] | p | delta | n | verdict |\n"
		"|---|--:|--:|--:|--:|--:|--:|---|\n",
		a, b);
}

static void details(FILE *out, const struct compared *to, const struct render_diff_options *o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		n += c->group != FIGURE_HEADLINE && c->group != FIGURE_CONTROL &&
		     (o->all || render_worth_showing(c));
	}
	if (!n)
		return;
	fprintf(out,
		"\n<details><summary>%u detail%s: sites, phases, causes, devices</summary>\n\n", n,
		n == 1 ? "" : "s");
	head(out, to);
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group != FIGURE_HEADLINE && c->group != FIGURE_CONTROL &&
		    (o->all || render_worth_showing(c)))
			row(out, c);
	}
	fputs("\n</details>\n", out);
}

void render_diff_markdown(FILE *out, const struct compared *to, const struct render_diff_options *o)
{
	g_autofree char *plain = render_verdict(to), *verdict = escaped(plain);
	g_autofree char *rest = render_verdict_rest(to), *undecided = escaped(rest);
	g_autofree char *qemu_a = group_qemu(to->a), *qemu_b = group_qemu(to->b);
	g_autofree char *machine = group_machine(to->a);
	const char *scenario = run_scenario(to->a->runs->pdata[0], NULL);

	fprintf(out, "### %s\n\n%s\n\n", verdict, undecided);
	for (unsigned i = 0; o->gates && i < o->gates->len; i++) {
		const struct gate_result *r = &g_array_index(o->gates, struct gate_result, i);
		g_autofree char *reason = escaped(r->reason);

		if (r->state != GATE_KEPT)
			fprintf(out, "- gate `%s` %s: %s\n", r->rule, gate_state_name(r->state),
				reason);
	}
	for (unsigned i = 0; i < to->notes->len; i++) {
		g_autofree char *text = escaped(to->notes->pdata[i]);

		fprintf(out, "- note: %s\n", text);
	}
	fputs("\n", out);
	head(out, to);
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == FIGURE_HEADLINE)
			row(out, c);
	}
	details(out, to, o);
	fprintf(out,
		"\n%s%s%sQEMU %s against %s, on %s. Less is better; p is corrected for the "
		"number of figures; delta is Cliff's.\n",
		scenario ? "Scenario " : "", scenario ?: "", scenario ? ". " : "", qemu_a, qemu_b,
		machine);
}
