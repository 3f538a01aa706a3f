/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages: a comparison, and one run.
 */
#include <math.h>
#include <string.h>
#include <time.h>

#include "analyzers/compare/fit.h"
#include "analyzers/model/words.h"
#include "analyzers/render/charts.h"
#include "analyzers/render/figure.h"
#include "analyzers/render/method.h"
#include "analyzers/render/page.h"
#include "analyzers/render/render.h"
#include "analyzers/render/svg.h"

/* Of one run's details, what is shorter is shown on request. */
#define UNFELT_NS 10000

static const char *class_of(enum verdict verdict)
{
	static const char *const names[VERDICTS] = {
		[VERDICT_WORSE] = "worse",     [VERDICT_BETTER] = "better",
		[VERDICT_SAME] = "same",       [VERDICT_UNKNOWN] = "unknown",
		[VERDICT_ONLY_A] = "vanished", [VERDICT_ONLY_B] = "appeared",
	};

	return names[verdict];
}

static void term(GString *out, const char *name, const char *text)
{
	g_string_append(out, "<dt>");
	html_text(out, name);
	g_string_append(out, "</dt><dd>");
	html_text(out, text);
	g_string_append(out, "</dd>\n");
}

G_GNUC_PRINTF(3, 4)
static void termf(GString *out, const char *name, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	term(out, name, text);
}

static void phases_legend(GString *out)
{
	static const struct page_key keys[] = {
		{"phase-setup", "setup"},	  {"phase-ram", "RAM"},
		{"phase-device", "device state"}, {"phase-activate", "disks"},
		{"phase-start", "start"},	  {"phase-postcopy", "postcopy"},
	};

	page_legend(out, keys, G_N_ELEMENTS(keys));
}

/* ---- what both kinds of page have ---- */

static const char about_holds[] =
	"Each line: how many times in one run the lock was held longer than the duration below it, "
	"on average. A line that ends further to the left has the shorter worst case.";
static const char about_heat[] =
	"From left to right the migration as the destination sees it, from below to above longer "
	"holds; the stronger the colour, the more holds a run. Only holds that were kept one by "
	"one.";
static const char about_timeline[] =
	"Above, the phases of the incoming migration; below, by thread, when the lock was held "
	"(the 200 longest holds). Point at a hold to see where it was taken and what it was "
	"blocked on.";

static void series_legend(GString *out, const struct series *series, unsigned n)
{
	g_autofree struct page_key *keys = g_new(struct page_key, n);
	g_autoptr(GPtrArray) classes = g_ptr_array_new_with_free_func(g_free);

	for (unsigned i = 0; i < n; i++) {
		g_ptr_array_add(classes, g_strdup_printf("hold %s", series[i].class));
		keys[i] = (struct page_key){classes->pdata[i], series[i].label};
	}
	page_legend(out, keys, n);
}

static void holds_and_heat(GString *out, const struct series *series, unsigned n)
{
	page_section(out, "How long the lock is held", about_holds);
	if (n > 1)
		series_legend(out, series, n);
	page_chart_begin(out);
	chart_holds(out, series, n);
	page_chart_end(out);
	page_section(out, "When it is held", about_heat);
	page_chart_begin(out);
	chart_heat(out, series, n);
	page_chart_end(out);
}

static uint64_t span_of(const struct series *s)
{
	uint64_t begin, end;

	run_migration(series_median_run(s), &begin, &end);
	return end - begin;
}

static void timeline(GString *out, const struct series *s, const char *which, uint64_t span_ns)
{
	struct run *run = series_median_run(s);
	char took[WORDS_DURATION];
	uint64_t begin, end;

	run_migration(run, &begin, &end);
	g_string_append(out, "<p><b>");
	html_text(out, s->label);
	g_string_append_printf(out,
			       "</b>, run %d%s: %s from the first byte to the guest's start</p>\n",
			       (int)run->id, which, words_duration(took, end - begin));
	page_chart_begin(out);
	chart_timeline(out, run, s->class, span_ns);
	page_chart_end(out);
}

static void probes_of(GString *out, const char *name, const GPtrArray *runs)
{
	uint64_t lost = 0, acquired = 0, hold = 0, wait = 0, pair = 0;
	char hold_text[WORDS_DURATION], wait_text[WORDS_DURATION], pair_text[WORDS_DURATION];
	const struct run *first = runs->pdata[0];
	g_autofree char *cost = NULL;

	for (unsigned i = 0; i < runs->len; i++) {
		const struct run *run = runs->pdata[i];

		lost += run_lost(run);
		acquired += run_acquired(run);
		hold = MAX(hold, run->hold_bias_ns);
		wait = MAX(wait, run->wait_bias_ns);
		pair = MAX(pair, run->pair_ns);
	}
	cost = first->calibrated
		       ? g_strdup_printf("a watched lock and unlock cost %s more; %s was taken off "
					 "each hold and %s off each wait",
					 words_duration(pair_text, pair),
					 words_duration(hold_text, hold),
					 words_duration(wait_text, wait))
		       : render_probe_cost(first);
	termf(out, name,
	      "by %s, %" G_GUINT64_FORMAT " acquisitions, %" G_GUINT64_FORMAT
	      " lost; %s; holds of %g us and more were kept one by one",
	      first->source, acquired, lost, cost, first->threshold_ns / 1e3);
}

static void when(GString *out, const GPtrArray *runs)
{
	const struct run *first = runs->pdata[0];
	g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(first->begin_unix_ns / 1000000000);
	g_autofree char *text = t ? g_date_time_format(t, "%F %T UTC") : g_strdup("?");

	term(out, "When", text);
}

/* ---- a comparison ---- */

static char *runs_text(const struct group *g)
{
	return g_strdup_printf("%u run%s", g->runs->len, g->runs->len == 1 ? "" : "s");
}

static void gates(GString *out, const GArray *results)
{
	unsigned kept = 0;

	if (!results)
		return;
	g_string_append(out, "<ul class=\"gates\">\n");
	for (unsigned i = 0; i < results->len; i++) {
		const struct gate_result *r = &g_array_index(results, struct gate_result, i);

		if (r->state == GATE_KEPT) {
			kept++;
			continue;
		}
		g_string_append(out, "<li><b>Gate ");
		html_text(out, gate_state_name(r->state));
		g_string_append(out, ":</b> <code>");
		html_text(out, r->rule);
		g_string_append(out, "</code>: ");
		html_text(out, r->reason);
		g_string_append(out, "</li>\n");
	}
	g_string_append_printf(out, "<li>%u of %u checks kept</li>\n</ul>\n", kept, results->len);
}

static void head(GString *out, const struct compared *to, const struct render_diff_options *o)
{
	g_autofree char *verdict = render_verdict(to), *rest = render_verdict_rest(to);
	g_autofree char *qemu_a = group_qemu(to->a), *qemu_b = group_qemu(to->b);

	g_string_append_printf(out, "<div class=\"verdict %s\">\n<h1>",
			       class_of(compared_verdict(to)));
	html_text(out, verdict);
	g_string_append(out, "</h1>\n<p>");
	html_text(out, rest);
	g_string_append(out, "</p>\n");
	gates(out, o->gates);
	g_string_append(out, "</div>\n");
	{
		g_autofree char *runs_a = runs_text(to->a), *runs_b = runs_text(to->b);
		g_autofree char *a =
			g_strdup_printf("A: %s, QEMU %s, %s", to->a->label, qemu_a, runs_a);
		g_autofree char *b =
			g_strdup_printf("B: %s, QEMU %s, %s", to->b->label, qemu_b, runs_b);
		const struct page_key keys[] = {{"hold a", a}, {"hold b", b}};

		page_legend(out, keys, G_N_ELEMENTS(keys));
	}
	for (unsigned i = 0; i < to->notes->len; i++) {
		g_string_append(out, "<p class=\"dim\">Note: ");
		html_text(out, to->notes->pdata[i]);
		g_string_append(out, "</p>\n");
	}
}

static void ratios_and_dots(GString *out, const struct compared *to)
{
	g_autofree char *about = g_strdup_printf(
		"B / A of the medians, with the %g%% interval. Inside the grey band, %g%% to "
		"either "
		"side, a change counts as none, and so does one of less than %g us. A hollow dot: "
		"not "
		"enough data to say.",
		100 * to->options.level, 100 * to->options.margin, to->least_ns / 1e3);

	page_section(out, "What changed", about);
	page_chart_begin(out);
	chart_ratios(out, to);
	page_chart_end(out);
	page_section(out, "Every run",
		     "One dot a run, the bar is the median, the line its interval. Scales are "
		     "logarithmic where the runs differ twentyfold.");
	g_string_append(out, "<div class=\"grid-of-charts\">\n");
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == FIGURE_HEADLINE || c->group == FIGURE_CONTROL)
			chart_dots(out, to, c);
	}
	g_string_append(out, "</div>\n");
}

/* Of details only those that changed, or might have, unless the reader asks for all. */
static bool tells(const struct comparison *c)
{
	return c->group == FIGURE_HEADLINE || c->group == FIGURE_CONTROL || render_worth_showing(c);
}

static void row(GString *out, const struct comparison *c)
{
	g_autofree char *a = figure_text(c->unit, c->a.median);
	g_autofree char *b = figure_text(c->unit, c->b.median);
	bool both = c->a.n && c->b.n;
	g_autofree char *ratio = both ? render_interval(c->ratio) : g_strdup("-");
	g_autofree char *p = g_strdup_printf("%.2g", c->p_corrected);
	g_autofree char *delta = g_strdup_printf("%+.2f", c->ranks.delta);
	g_autofree char *n = g_strdup_printf("%u/%u", c->a.n, c->b.n);
	g_autofree char *verdict =
		c->group == FIGURE_CONTROL ? g_strdup("not judged") : render_comparison_verdict(c);

	g_autofree char *class =
		g_strconcat(c->group == FIGURE_CONTROL ? "same" : class_of(c->verdict),
			    tells(c) ? "" : " dull", NULL);

	page_row_begin(out, class);
	page_cell(out, NAN, c->name);
	page_word(out, verdict);
	page_cell(out, NAN, figure_group_name(c->group));
	page_cell(out, c->a.n ? c->a.median : -1, a);
	page_cell(out, c->b.n ? c->b.median : -1, b);
	page_cell(out, both ? c->ratio.estimate : -1, ratio);
	page_cell(out, c->p_corrected, p);
	page_cell(out, c->ranks.delta, delta);
	page_cell(out, c->a.n + c->b.n, n);
	page_row_end(out);
}

static void table(GString *out, const struct compared *to)
{
	static const char *const columns[] = {"figure",	   "verdict", "of", "#A median",
					      "#B median", "#B / A",  "#p", "#delta",
					      "#n",	   NULL};
	unsigned dull = 0;

	page_section(out, "All figures",
		     "Less is better everywhere. p: the chance that two alike sets of runs differ "
		     "as much, corrected for the number of figures. delta: Cliff's, 1 when every "
		     "run of B is greater than every run of A. A click on a heading sorts.");
	page_wide_begin(out);
	page_table_begin(out, columns);
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		row(out, c);
		dull += !tells(c);
	}
	page_table_end(out, dull);
	page_wide_end(out);
}

static void side_terms(GString *out, const char *letter, const struct group *g)
{
	g_autofree char *qemu = group_qemu(g), *runs = runs_text(g);
	const struct run *run = g->runs->pdata[0];

	termf(out, letter, "%s: %s from %s, %u migrations failed; QEMU %s, build id %s", g->label,
	      runs, g->file, g->failed, qemu, *run->qemu_build_id ? run->qemu_build_id : "unknown");
}

static void how_measured(GString *out, const struct compared *to)
{
	const char *scenario = run_scenario(to->a->runs->pdata[0], NULL);
	g_autofree char *machine = group_machine(to->a);

	page_section(out, "How it was measured", NULL);
	g_string_append(out, "<dl>\n");
	side_terms(out, "A", to->a);
	side_terms(out, "B", to->b);
	if (scenario)
		term(out, "Scenario", scenario);
	term(out, "Machine", machine);
	when(out, to->a->runs);
	probes_of(out, "Recorded, A", to->a->runs);
	probes_of(out, "Recorded, B", to->b->runs);
	termf(out, "Statistics",
	      "medians; percentile bootstrap of their ratio and difference, 10000 resamples, seed "
	      "%u; Mann-Whitney U, two-sided, exact up to 50 runs of a side; the run's own figures "
	      "corrected by Holm, details by Benjamini and Hochberg, at %g each; \"same\": the "
	      "interval within %g%%, or the difference within %g us",
	      to->options.seed, to->options.alpha, 100 * to->options.margin, to->least_ns / 1e3);
	term(out, "Made by", "bqlstat " BQLSTAT_VERSION);
	g_string_append(out, "</dl>\n");
}

char *render_diff_html(const struct compared *to, const struct render_diff_options *o)
{
	g_autofree char *title =
		g_strdup_printf("%s against %s - bqlstat", to->b->label, to->a->label);
	const struct series series[] = {{to->a->label, "a", to->a->runs},
					{to->b->label, "b", to->b->runs}};
	GString *out = g_string_new(NULL);

	page_begin(out, title);
	head(out, to, o);
	ratios_and_dots(out, to);
	holds_and_heat(out, series, G_N_ELEMENTS(series));
	page_section(out, "The median run of each", about_timeline);
	phases_legend(out);
	for (unsigned i = 0; i < G_N_ELEMENTS(series); i++)
		timeline(out, &series[i], ", the median by total time",
			 MAX(span_of(&series[0]), span_of(&series[1])));
	table(out, to);
	how_measured(out, to);
	page_end(out);
	return g_string_free(out, FALSE);
}

/* ---- one run ---- */

static void run_head(GString *out, struct run *run)
{
	g_autoptr(GPtrArray) longest = run_longest(run, 1);
	g_autofree char *coverage = render_coverage(run);
	char held[WORDS_DURATION], took[WORDS_DURATION];

	g_string_append(out, "<div class=\"verdict same\">\n<h1>");
	if (longest->len) {
		const struct hold *h = longest->pdata[0];
		const struct site *s = &g_array_index(run->sites, struct site, h->site);
		const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);
		g_autofree char *text = g_strdup_printf(
			"The longest hold was %s, by %s at %s:%u; the lock was held %.1f%% of %s.",
			words_duration(held, run_hold_ns(run, h->hold_ns)), run_who(run, t, true),
			words_file(s->file), s->line, 100 * run_share_held(run),
			words_duration(took, run->duration_ns));

		html_text(out, text);
	} else {
		html_text(out, "No hold was recorded.");
	}
	g_string_append(out, "</h1>\n");
	if (coverage) {
		g_string_append(out, "<p>");
		g_string_append(out, "Overhead ");
		html_text(out, coverage);
		g_string_append(out, ".</p>\n");
	}
	g_string_append(out, "</div>\n");
}

/* Whether it is a dull one. */
static bool figure_row(GString *out, const struct figure *f)
{
	bool dull = f->group != FIGURE_HEADLINE && f->unit == FIGURE_NS && f->value < UNFELT_NS;
	g_autofree char *value = figure_text(f->unit, f->value);

	page_row_begin(out, dull ? "dull" : "");
	page_cell(out, NAN, f->name);
	page_cell(out, NAN, figure_group_name(f->group));
	page_cell(out, f->value, value);
	page_row_end(out);
	return dull;
}

/* Of the run as a whole, its phases, causes and devices: what a comparison would compare. */
static void figures_table(GString *out, struct run *run)
{
	static const char *const columns[] = {"figure", "of", "#value", NULL};
	g_autoptr(GArray) figures = figures_of(run, NULL);

	unsigned dull = 0;

	page_section(out, "Figures",
		     "Less is better everywhere. `bqlstat diff` compares these, and call sites.");
	page_wide_begin(out);
	page_table_begin(out, columns);
	for (unsigned group = 0; group < FIGURE_GROUPS; group++)
		for (unsigned i = 0; i < figures->len && group != FIGURE_SITE; i++) {
			const struct figure *f = &g_array_index(figures, struct figure, i);

			if (f->group == group)
				dull += figure_row(out, f);
		}
	page_table_end(out, dull);
	page_wide_end(out);
}

static void ns_cell(GString *out, uint64_t ns)
{
	char text[WORDS_DURATION];

	page_cell(out, (double)ns, words_duration(text, ns));
}

static void sites_table(GString *out, struct run *run)
{
	static const char *const columns[] = {"site",	   "thread",	"#taken",    "#held in all",
					      "#hold p50", "#hold p99", "#hold max", "#wait p99",
					      "#wait max", "#blocked",	NULL};
	g_autoptr(GArray) rows = run_rows(run, false);

	page_section(out, "By call site",
		     "Who took the lock, longest total hold first. A click on a heading sorts.");
	page_wide_begin(out);
	page_table_begin(out, columns);
	for (unsigned i = 0; i < rows->len; i++) {
		const struct row *r = &g_array_index(rows, struct row, i);
		const struct site *s = &g_array_index(run->sites, struct site, r->site);
		g_autofree char *site = g_strdup_printf("%s:%u%s", words_file(s->file), s->line,
							s->cond ? " (condvar)" : "");
		g_autofree char *taken = g_strdup_printf("%" G_GUINT64_FORMAT, r->acquired);

		page_row_begin(out, "");
		page_cell(out, NAN, site);
		page_cell(out, NAN, r->who);
		page_cell(out, (double)r->acquired, taken);
		ns_cell(out, r->hold_total_ns);
		ns_cell(out, r->hold_p50_ns);
		ns_cell(out, r->hold_p99_ns);
		ns_cell(out, r->hold_max_ns);
		ns_cell(out, r->wait_p99_ns);
		ns_cell(out, r->wait_max_ns);
		ns_cell(out, r->blocked_ns);
		page_row_end(out);
	}
	page_table_end(out, 0);
	page_wide_end(out);
}

static void run_terms(GString *out, struct run *run, const GPtrArray *runs)
{
	g_autofree char *points = render_points(run);

	page_section(out, "How it was measured", NULL);
	g_string_append(out, "<dl>\n");
	if (*run->label)
		term(out, "Label", run->label);
	termf(out, "QEMU", "%s, build id %s, process %u",
	      *run->qemu_version ? run->qemu_version : "unknown",
	      *run->qemu_build_id ? run->qemu_build_id : "unknown", run->pid);
	if (run->cpus)
		termf(out, "Machine", "%u x %s, %s", run->cpus, run->cpu, run->kernel);
	when(out, runs);
	for (unsigned i = 0; i < run->thinnings->len; i++) {
		g_autofree char *text =
			render_thinning(run, &g_array_index(run->thinnings, struct thinning, i));

		term(out, "Recorded less", text);
	}
	if (run->points->len)
		term(out, "Probes", points);
	termf(out, "Ended", "%s", *run->ended ? run->ended : "it goes on, or bqlstat was killed");
	probes_of(out, "Recorded", runs);
	term(out, "Made by", "bqlstat " BQLSTAT_VERSION);
	g_string_append(out, "</dl>\n");
}

char *render_html(struct run *run)
{
	g_autoptr(GPtrArray) runs = g_ptr_array_new();
	g_autofree char *title = g_strdup_printf("run %d%s%s - bqlstat", (int)run->id,
						 *run->label ? ", " : "", run->label);
	const struct series series = {*run->label ? run->label : "this run", "a", runs};
	GString *out = g_string_new(NULL);

	g_ptr_array_add(runs, run);
	page_begin(out, title);
	run_head(out, run);
	holds_and_heat(out, &series, 1);
	page_section(out, "The run", about_timeline);
	phases_legend(out);
	timeline(out, &series, "", 0);
	sites_table(out, run);
	figures_table(out, run);
	run_terms(out, run, runs);
	page_end(out);
	return g_string_free(out, FALSE);
}
