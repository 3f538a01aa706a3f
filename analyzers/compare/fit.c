/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether two groups of runs fit together.
 */
#include <math.h>
#include <string.h>

#include "analyzers/compare/fit.h"

/* Below that many runs of a side a 95% interval of a median does not exist. */
#define FEW_RUNS 5

const char *run_scenario(const struct run *run, double *version)
{
	for (unsigned i = 0; i < run->metrics->len; i++) {
		const struct metric *m = &g_array_index(run->metrics, struct metric, i);

		if (!g_str_has_prefix(m->name, METRIC_SCENARIO))
			continue;
		if (version)
			*version = m->value;
		return m->name + strlen(METRIC_SCENARIO);
	}
	return NULL;
}

static const struct run *first(const struct group *g)
{
	return g->runs->pdata[0];
}

/* What tells a machine: a text of the run's. */
static char *machine_of(const struct run *run)
{
	return g_strdup_printf("%u x %s", run->cpus, *run->cpu ? run->cpu : "an unknown CPU");
}

static char *scenario_of(const struct run *run)
{
	double version = 0;
	const char *name = run_scenario(run, &version);

	return name ? g_strdup_printf("%s (version %08x)", name, (unsigned)version)
		    : g_strdup("no scenario of bench");
}

static char *source_of(const struct run *run)
{
	return g_strdup(*run->source ? run->source : "an unknown source");
}

/* Two runs of either group that differ in this; false when all are alike. */
static bool differ(const struct group *a, const struct group *b, char *(*what)(const struct run *),
		   char **one, char **other)
{
	const struct group *groups[] = {a, b};

	*one = what(first(a));
	*other = NULL;
	for (unsigned g = 0; g < G_N_ELEMENTS(groups); g++)
		for (unsigned i = 0; i < groups[g]->runs->len; i++) {
			*other = what(groups[g]->runs->pdata[i]);
			if (strcmp(*one, *other))
				return true;
			g_free(*other);
		}
	*other = NULL;
	return false;
}

static bool share_a_figure(const struct group *a, const struct group *b)
{
	g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GArray) of_a = figures_of(a->runs->pdata[0], NULL);
	g_autoptr(GArray) of_b = figures_of(b->runs->pdata[0], NULL);

	for (unsigned i = 0; i < of_a->len; i++)
		g_hash_table_add(names, g_array_index(of_a, struct figure, i).name);
	for (unsigned i = 0; i < of_b->len; i++)
		if (g_hash_table_contains(names, g_array_index(of_b, struct figure, i).name))
			return true;
	return false;
}

/* One recording twice: of the same moment, of the same process. */
static bool same_run(const struct run *x, const struct run *y)
{
	return x->begin_ns == y->begin_ns && x->begin_unix_ns == y->begin_unix_ns &&
	       x->pid == y->pid;
}

char *compare_refusal(const struct group *a, const struct group *b, bool force)
{
	static const struct {
		char *(*what)(const struct run *);
		const char *sentence;
	} must_agree[] = {
		{scenario_of, "the runs are of different scenarios, %s and %s"},
		{machine_of, "the runs were made on different machines, %s and %s"},
		{source_of, "the runs were recorded by different means, %s and %s"},
	};

	if (!a->runs->len || !b->runs->len) {
		const struct group *g = a->runs->len ? b : a;

		return g_strdup_printf("there is no run of %s to compare%s", g->label,
				       g->failed ? ": all its migrations failed" : "");
	}
	for (unsigned i = 0; i < a->runs->len; i++)
		for (unsigned k = 0; k < b->runs->len; k++)
			if (same_run(a->runs->pdata[i], b->runs->pdata[k]))
				return g_strdup("both sides hold the same recording: comparing "
						"something with itself says nothing");
	for (unsigned i = 0; i < G_N_ELEMENTS(must_agree) && !force; i++) {
		g_autofree char *one = NULL, *other = NULL;
		g_auto(GStrv) around = NULL;

		if (!differ(a, b, must_agree[i].what, &one, &other))
			continue;
		around = g_strsplit(must_agree[i].sentence, "%s", 3);
		return g_strconcat(around[0], one, around[1], other, around[2],
				   ": a difference would say nothing about the QEMU (--force "
				   "compares all the same)",
				   NULL);
	}
	if (!share_a_figure(a, b))
		return g_strdup("the two have no figure in common");
	return NULL;
}

/* ---- notes ---- */

G_GNUC_PRINTF(2, 3) static void note(GPtrArray *notes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_ptr_array_add(notes, g_strdup_vprintf(format, args));
	va_end(args);
}

static void note_if_differ(GPtrArray *notes, const struct compared *to,
			   char *(*what)(const struct run *), const char *says)
{
	g_autofree char *one = NULL, *other = NULL;

	if (differ(to->a, to->b, what, &one, &other))
		note(notes, "%s: %s and %s", says, one, other);
}

static char *kernel_of(const struct run *run)
{
	return g_strdup(run->kernel);
}

static char *threshold_of(const struct run *run)
{
	return g_strdup_printf("%g us", (double)run->threshold_ns / 1e3);
}

static void note_lost(GPtrArray *notes, const struct group *g)
{
	unsigned runs = 0;
	uint64_t lost = 0;

	for (unsigned i = 0; i < g->runs->len; i++) {
		uint64_t n = run_lost(g->runs->pdata[i]);

		runs += n > 0;
		lost += n;
	}
	if (lost)
		note(notes,
		     "%u of %u runs of %s lost something (%" G_GUINT64_FORMAT
		     " occasions in all): `bqlstat report` says what",
		     runs, g->runs->len, g->label, lost);
}

/* What recorded less above its overhead budget says less of the lock, not of the QEMU. */
static void note_thinned(GPtrArray *notes, const struct group *g)
{
	unsigned runs = 0;

	for (unsigned i = 0; i < g->runs->len; i++)
		runs += ((struct run *)g->runs->pdata[i])->thinnings->len > 0;
	if (runs)
		note(notes,
		     "%u of %u runs of %s were not recorded in full, to keep within the overhead "
		     "budget: compare runs made with --max-overhead 0",
		     runs, g->runs->len, g->label);
}

static void note_failed(GPtrArray *notes, const struct group *g)
{
	if (g->failed)
		note(notes, "%u of %u migrations of %s failed; they are not in any figure",
		     g->failed, g->failed + g->runs->len, g->label);
}

/* Figures of the machine itself: if these differ, so may all others, for a reason of their own. */
static void note_machine(GPtrArray *notes, const struct compared *to)
{
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == FIGURE_CONTROL && c->a.n && c->b.n && c->ranks.p < 0.01)
			note(notes,
			     "the machine was not the same for both: %s differs (p = %.2g), "
			     "medians %.3g and %.3g%s",
			     c->name, c->ranks.p, c->a.median / (c->unit == FIGURE_NS ? 1e6 : 1),
			     c->b.median / (c->unit == FIGURE_NS ? 1e6 : 1),
			     c->unit == FIGURE_NS ? " ms" : "");
	}
}

GPtrArray *compare_notes(const struct compared *to)
{
	GPtrArray *notes = g_ptr_array_new_with_free_func(g_free);
	unsigned n = MIN(to->a->runs->len, to->b->runs->len);

	note_failed(notes, to->a);
	note_failed(notes, to->b);
	note_if_differ(notes, to, scenario_of, "the scenarios differ");
	note_if_differ(notes, to, machine_of, "the machines differ");
	note_if_differ(notes, to, source_of, "the recordings were made by different means");
	note_if_differ(notes, to, kernel_of, "the kernels differ");
	note_if_differ(notes, to, threshold_of,
		       "holds were kept one by one from different lengths on, so figures of "
		       "phases do not compare");
	note_machine(notes, to);
	note_thinned(notes, to->a);
	note_thinned(notes, to->b);
	note_lost(notes, to->a);
	note_lost(notes, to->b);
	if (n < 2)
		note(notes,
		     "one run of a side tells nothing of how runs differ: no figure is judged");
	else if (n < FEW_RUNS)
		note(notes,
		     "%u runs of a side cannot carry a 95%% interval: the intervals shown reach "
		     "from least to greatest",
		     n);
	return notes;
}

/* ---- names ---- */

static char *joined(const struct group *g, char *(*what)(const struct run *))
{
	g_autoptr(GPtrArray) different = g_ptr_array_new_with_free_func(g_free);

	for (unsigned i = 0; i < g->runs->len; i++) {
		g_autofree char *text = what(g->runs->pdata[i]);

		if (!g_ptr_array_find_with_equal_func(different, text, g_str_equal, NULL))
			g_ptr_array_add(different, g_steal_pointer(&text));
	}
	g_ptr_array_add(different, NULL);
	return g_strjoinv(" and ", (char **)different->pdata);
}

static char *qemu_of(const struct run *run)
{
	return g_strdup(*run->qemu_version ? run->qemu_version : "unknown");
}

static char *machine_and_kernel_of(const struct run *run)
{
	g_autofree char *machine = machine_of(run);

	/* A trace does not tell. */
	if (!run->cpus)
		return g_strdup("an unknown machine");
	return g_strdup_printf("%s, %s", machine, run->kernel);
}

char *group_qemu(const struct group *g)
{
	return joined(g, qemu_of);
}

char *group_machine(const struct group *g)
{
	return joined(g, machine_and_kernel_of);
}
