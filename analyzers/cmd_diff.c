/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat diff: is B worse than A, and where?
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "analyzers/command.h"
#include "analyzers/compare/fit.h"
#include "analyzers/render/figure.h"
#include "analyzers/show.h"
#include "analyzers/input/sides.h"

struct options {
	char *label_a, *label_b, *html, *fail_on;
	gboolean json, markdown, all, force, strict;
	char *least;
	uint64_t least_ns;
	double margin, alpha; /* per cent; a share */
	int seed;
};

static int write_html(const struct compared *compared, const struct render_diff_options *how,
		      const char *path)
{
	g_autofree char *html = render_diff_html(compared, how);

	return command_write_page(path, html);
}

static int print(const struct compared *compared, const struct render_diff_options *how,
		 const struct options *o)
{
	if (o->json) {
		g_autofree char *json = render_diff_json(compared, how);

		puts(json);
	} else if (o->markdown) {
		render_diff_markdown(stdout, compared, how);
	} else {
		render_diff_text(stdout, compared, how);
	}
	if (fflush(stdout) || ferror(stdout))
		return command_fail(EXIT_CANNOT, "cannot write the comparison: %s",
				    strerror(errno));
	return EXIT_DONE;
}

/* After the report: what a gate's failure means is in it. */
static int judge(const GArray *gates, const struct options *o)
{
	int code = EXIT_DONE;

	for (unsigned i = 0; i < gates->len; i++) {
		const struct gate_result *r = &g_array_index(gates, struct gate_result, i);

		if (r->state == GATE_NO_FIGURE)
			code = command_fail(EXIT_USAGE, "--fail-on '%s': %s", r->rule, r->reason);
		else if (r->state == GATE_BROKEN || (r->state == GATE_UNDECIDED && o->strict))
			code = command_fail(code == EXIT_DONE ? EXIT_GATE : code,
					    "gate '%s' failed: %s", r->rule, r->reason);
		else if (r->state == GATE_UNDECIDED)
			fprintf(stderr, "bqlstat: gate '%s' is undecided: %s\n", r->rule,
				r->reason);
	}
	return code;
}

static int compare_sides(struct group *a, struct group *b, const GPtrArray *rules,
			 const struct options *o)
{
	struct compare_options how = COMPARE_DEFAULTS;
	struct render_diff_options look = {.all = o->all,
					   .colour = show_colour() && !o->json && !o->markdown};
	g_autofree char *refusal = compare_refusal(a, b, o->force);
	struct compared *compared;
	GArray *gates = NULL;
	int code;

	if (refusal)
		return command_fail(EXIT_CANNOT, "%s", refusal);
	how.margin = o->margin / 100;
	how.least_ns = (double)o->least_ns;
	how.alpha = o->alpha;
	how.seed = (uint32_t)o->seed;
	compared = compare(a, b, &how);
	if (rules)
		look.gates = gates = gate_check(rules, compared);
	code = o->html ? write_html(compared, &look, o->html) : EXIT_DONE;
	if (code == EXIT_DONE)
		code = print(compared, &look, o);
	if (code == EXIT_DONE && gates)
		code = judge(gates, o);
	if (gates)
		g_array_unref(gates);
	compared_free(compared);
	return code;
}

static int diff(const struct command *command, int argc, char **argv)
{
	struct options o = {.least_ns = 10000, .margin = 10, .alpha = 0.05, .seed = 1};
	const GOptionEntry entries[] = {
		{"a", 'a', 0, G_OPTION_ARG_STRING, &o.label_a, "the label of A's runs", "LABEL"},
		{"b", 'b', 0, G_OPTION_ARG_STRING, &o.label_b, "the label of B's runs", "LABEL"},
		{"fail-on", 'f', 0, G_OPTION_ARG_STRING, &o.fail_on,
		 "exit 1 when one of these holds, e.g. 'hold.max > +20%, qmp.p99 > 50ms, worse'",
		 "RULES"},
		{"strict", 's', 0, G_OPTION_ARG_NONE, &o.strict,
		 "a gate that is undecided fails, too", NULL},
		{"html", 'H', 0, G_OPTION_ARG_FILENAME, &o.html,
		 "also write a page with charts to this file", "FILE"},
		{"markdown", 'm', 0, G_OPTION_ARG_NONE, &o.markdown, "for a pull request", NULL},
		{"json", 'j', 0, G_OPTION_ARG_NONE, &o.json, "for programs", NULL},
		{"all", 'A', 0, G_OPTION_ARG_NONE, &o.all, "every detail, also unchanged ones",
		 NULL},
		{"margin", 'M', 0, G_OPTION_ARG_DOUBLE, &o.margin,
		 "a change by less is none, per cent (10)", "PERCENT"},
		{"least", 'L', 0, G_OPTION_ARG_STRING, &o.least,
		 "so is one of a duration by less than this (10us)", "DUR"},
		{"alpha", 'P', 0, G_OPTION_ARG_DOUBLE, &o.alpha,
		 "chance of a false alarm that is accepted (0.05)", "P"},
		{"seed", 'S', 0, G_OPTION_ARG_INT, &o.seed, "of the resampling (1)", "N"},
		{"force", 'F', 0, G_OPTION_ARG_NONE, &o.force,
		 "compare runs of different scenarios or machines", NULL},
		{},
	};
	struct group *a = NULL, *b = NULL;
	g_autofree char *wrong = NULL;
	GPtrArray *rules = NULL;
	int code;

	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (argc < 2 || argc > 3)
		code = command_fail(EXIT_USAGE, "give two run files, or one that holds two labels: "
						"`bqlstat help diff` tells how");
	else if (!(o.margin > 0) || o.margin > 1000 || !(o.alpha > 0) || o.alpha >= 1)
		code = command_fail(EXIT_USAGE, "--margin wants per cent above 0, --alpha a chance "
						"between 0 and 1");
	else if (o.least && !command_duration(o.least, 1000, &o.least_ns))
		code = command_fail(EXIT_USAGE, "--least wants a duration such as 10us or 1ms");
	else if (o.json && o.markdown)
		code = command_fail(EXIT_USAGE, "--json or --markdown, not both");
	else if (o.fail_on && !(rules = gate_parse(o.fail_on, &wrong)))
		code = command_fail(EXIT_USAGE, "--fail-on: %s", wrong);
	else
		code = sides_load(argv[1], argc > 2 ? argv[2] : NULL, o.label_a, o.label_b, &a, &b);
	if (code == EXIT_DONE)
		code = compare_sides(a, b, rules, &o);

	if (rules)
		g_ptr_array_unref(rules);
	group_free(a);
	group_free(b);
	g_free(o.label_a);
	g_free(o.label_b);
	g_free(o.html);
	g_free(o.least);
	g_free(o.fail_on);
	return code;
}

const struct command command_diff = {
	.name = "diff",
	.does = "tell whether one set of runs is worse than another, and where",
	.usage = "A [B]",
	.help = "Compares the runs of two files, or of two labels in one file, as `bqlstat bench` "
		"makes\n"
		"them: A is what you have, B what you might get. For each figure (total time, "
		"downtime,\n"
		"the monitor's latency, lock holds and waits; then by call site, phase, cause and "
		"device)\n"
		"it shows both medians, their ratio with a confidence interval, the probability p "
		"that\n"
		"chance alone would do this, corrected for the number of figures, Cliff's delta, "
		"and a\n"
		"verdict: worse, better, same (within the margin), or not enough data and how many "
		"more\n"
		"runs of each would probably do.\n\n"
		"--fail-on makes it a gate. RULES are separated by commas:\n"
		"  FIGURE > +20%     B's median is more than 20% above A's, and not by chance\n"
		"  FIGURE > +5ms     the same, by an amount\n"
		"  FIGURE > 50ms     B's median is above that (also 90%, or a plain number)\n"
		"  FIGURE worse      its verdict is worse\n"
		"  worse             any figure of the whole run is worse\n"
		"  failed > 0        one of B's migrations failed\n"
		"FIGURE is a name as shown, * and ? stand for anything: 'device[*].load > +30%'.",
	.run = diff,
};
