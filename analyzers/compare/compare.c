/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups of runs compared figure by figure.
 */
#include <math.h>
#include <string.h>

#include "analyzers/compare/compare.h"
#include "analyzers/compare/fit.h"
#include "analyzers/compare/match.h"

#define POWER	   0.8
#define MOST_MORE  1000
#define LEAST_RUNS 2 /* of a side that knows the figure: below, nothing can be said of spread */
#define LEAST_SAME                                                                                 \
	5 /* a 95% interval of fewer is narrower than the truth: it would prove too much */

struct group *group_new(const char *label, const char *file)
{
	struct group *g = g_new0(struct group, 1);

	g->label = g_strdup(label);
	g->file = g_strdup(file);
	g->runs = g_ptr_array_new_with_free_func((GDestroyNotify)run_free);
	return g;
}

void group_add(struct group *g, struct run *run)
{
	double failed;

	if (run_metric(run, METRIC_FAILED, &failed) && failed) {
		g->failed++;
		run_free(run);
	} else {
		g_ptr_array_add(g->runs, run);
	}
}

void group_free(struct group *g)
{
	if (!g)
		return;
	g_ptr_array_unref(g->runs);
	g_free(g->label);
	g_free(g->file);
	g_free(g);
}

/* ---- collecting ---- */

static void clear(gpointer opaque)
{
	struct comparison *c = opaque;

	g_free(c->name);
	g_free(c->subject);
	g_free(c->a.values);
	g_free(c->b.values);
}

struct collect {
	struct compared *to;
	GHashTable *index; /* a figure's name to its place + 1 in to->all */
	GArray *zeroes;	   /* bool, beside to->all: a run without it has 0 */
};

static unsigned place_of(struct collect *c, const struct figure *f)
{
	unsigned place = GPOINTER_TO_UINT(g_hash_table_lookup(c->index, f->name));
	struct comparison new = {.unit = f->unit, .group = f->group};
	bool zero = f->zero_if_absent;

	if (place)
		return place - 1;
	new.name = g_strdup(f->name);
	new.subject = g_strdup(f->subject);
	new.a.values = g_new0(double, c->to->a->runs->len);
	new.b.values = g_new0(double, c->to->b->runs->len);
	g_array_append_val(c->to->all, new);
	g_array_append_val(c->zeroes, zero);
	g_hash_table_insert(c->index, g_strdup(f->name), GUINT_TO_POINTER(c->to->all->len));
	return c->to->all->len - 1;
}

static struct sample *sample_of(struct comparison *c, bool of_b)
{
	return of_b ? &c->b : &c->a;
}

static void collect_side(struct collect *c, const struct group *g, GHashTable *sites, bool of_b)
{
	for (unsigned r = 0; r < g->runs->len; r++) {
		g_autoptr(GArray) figures = figures_of(g->runs->pdata[r], sites);

		for (unsigned i = 0; i < figures->len; i++) {
			const struct figure *f = &g_array_index(figures, struct figure, i);
			unsigned place = place_of(c, f);
			struct sample *s = sample_of(
				&g_array_index(c->to->all, struct comparison, place), of_b);

			s->values[s->n++] = f->value;
		}
	}
}

/*
 * A run in which nobody waited there belongs to the sample, as long as another one has it. Where
 * none has it a site or a phase is absent, which is told as such; a cause is then 0.
 */
static void add_zeroes(struct collect *c, bool of_b)
{
	unsigned n = of_b ? c->to->b->runs->len : c->to->a->runs->len;

	for (unsigned i = 0; i < c->to->all->len; i++) {
		struct comparison *x = &g_array_index(c->to->all, struct comparison, i);
		struct sample *s = sample_of(x, of_b);

		if (g_array_index(c->zeroes, bool, i) && (s->n || x->group == FIGURE_CAUSE))
			s->n = n;
		s->median = s->n ? stats_median(s->values, s->n) : NAN;
	}
}

static gint by_group(gconstpointer a, gconstpointer b)
{
	const struct comparison *x = a, *y = b;

	return (int)x->group - (int)y->group;
}

static void collect(struct compared *to)
{
	struct match match = match_sites(to->a->runs, to->b->runs);
	struct collect c = {
		.to = to,
		.index = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
		.zeroes = g_array_new(FALSE, FALSE, sizeof(bool)),
	};

	collect_side(&c, to->a, match.a, false);
	collect_side(&c, to->b, match.b, true);
	add_zeroes(&c, false);
	add_zeroes(&c, true);
	/* GLib's is a merge sort: within a group the order stays. */
	g_array_sort(to->all, by_group);
	g_hash_table_unref(c.index);
	g_array_unref(c.zeroes);
	match_clear(&match);
}

/* ---- judging ---- */

static bool testable(const struct comparison *c)
{
	return c->a.n >= LEAST_RUNS && c->b.n >= LEAST_RUNS;
}

/* One family's p values, corrected together. */
static void correct(struct compared *to, bool headline, void (*method)(double *, size_t))
{
	g_autoptr(GArray) p = g_array_new(FALSE, FALSE, sizeof(double));
	unsigned next = 0;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < to->all->len; i++) {
			struct comparison *c = &g_array_index(to->all, struct comparison, i);

			if ((c->group == FIGURE_HEADLINE) != headline ||
			    c->group == FIGURE_CONTROL || !testable(c))
				continue;
			if (!pass)
				g_array_append_val(p, c->ranks.p);
			else
				c->p_corrected = g_array_index(p, double, next++);
		}
		if (!pass && p->len)
			method((double *)p->data, p->len);
	}
}

/* Less than anybody feels, or the whole interval within the margin: no change. */
static bool is_same(const struct compared *to, const struct comparison *c)
{
	double margin = to->options.margin;

	if (MIN(c->a.n, c->b.n) < LEAST_SAME)
		return false;
	if (c->unit == FIGURE_NS &&
	    fmax(fabs(c->difference.low), fabs(c->difference.high)) <= to->least_ns)
		return true;
	return c->ratio.low >= 1 / (1 + margin) && c->ratio.high <= 1 + margin;
}

/* By more than the margin and the least that counts, if the estimate is right. */
static bool is_large(const struct compared *to, const struct comparison *c)
{
	double margin = 1 + to->options.margin, ratio = c->ratio.estimate;

	if (c->unit == FIGURE_NS && fabs(c->difference.estimate) <= to->least_ns)
		return false;
	return ratio > margin || ratio < 1 / margin;
}

/* What is certain, but too small to matter, is no change, though perhaps not proved to be none. */
static bool matters(const struct compared *to, const struct comparison *c)
{
	return c->p_corrected <= to->options.alpha && is_large(to, c);
}

/*
 * How many it takes until an interval, which now ends that far from its estimate, ends within
 * `room` of it, with POWER: it narrows with the square root of n; a 95% one reaches 1.96 standard
 * errors from an estimate that itself is off by less than 0.84 of them with that chance.
 */
static double until_near(unsigned n, double end, double room)
{
	double reach = (1.96 + 0.84) / 1.96;

	return isfinite(end) && room > 0 ? n * pow(reach * end / room, 2) : INFINITY;
}

/* Until both ends lie within these limits. */
static double until_within(unsigned n, double estimate, double low, double high, double limit)
{
	return fmax(until_near(n, estimate - low, estimate + limit),
		    until_near(n, high - estimate, limit - estimate));
}

static double until_same(const struct compared *to, const struct comparison *c, unsigned n)
{
	const struct stats_interval *r = &c->ratio, *d = &c->difference;
	double relative = until_within(n, log(r->estimate), log(r->low), log(r->high),
				       log(1 + to->options.margin));
	double absolute = INFINITY;

	if (c->unit == FIGURE_NS)
		absolute = until_within(n, d->estimate, d->low, d->high, to->least_ns);
	return fmax(LEAST_SAME, fmin(relative, absolute));
}

static double until_different(const struct compared *to, const struct comparison *c, unsigned n)
{
	double corrected = fmax(1, c->p_corrected / fmax(c->ranks.p, 1e-12));
	/* Complete separation in a few runs is no proof of it: a little less is expected. */
	double delta = copysign(fmin(fabs(c->ranks.delta), 0.9), c->ranks.delta);
	size_t ranks = stats_rank_test_size(delta, to->options.alpha / corrected, POWER);
	const struct stats_interval *d = &c->difference;
	/* The end that lies towards no difference. */
	double interval =
		until_near(n, d->estimate > 0 ? d->estimate - d->low : d->high - d->estimate,
			   fabs(d->estimate));
	double needed = fmax(ranks == SIZE_MAX ? INFINITY : (double)ranks, interval);

	/* Enough that the test could speak at all. */
	while (needed < MOST_MORE &&
	       stats_rank_test_least_p((size_t)needed, (size_t)needed) * corrected >
		       to->options.alpha)
		needed++;
	return needed;
}

/* A change that is too small can only be found to be none, however sure the test becomes. */
static unsigned how_many_more(const struct compared *to, const struct comparison *c)
{
	unsigned n = MIN(c->a.n, c->b.n);
	double needed = is_large(to, c) ? until_different(to, c, n) : until_same(to, c, n);

	return needed < MOST_MORE ? (unsigned)fmax(1, ceil(needed) - n) : MORE_TOO_MANY;
}

/*
 * Of what has hardly been seen nothing can be foretold: as many as the rank test needs to tell a
 * complete separation from chance among all figures that are corrected with this one.
 */
static unsigned runs_to_begin(const struct compared *to, const struct comparison *c)
{
	unsigned family = 0, n = LEAST_SAME;

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *x = &g_array_index(to->all, struct comparison, i);

		family += (x->group == FIGURE_HEADLINE) == (c->group == FIGURE_HEADLINE) &&
			  x->group != FIGURE_CONTROL && x->a.n && x->b.n;
	}
	while (stats_rank_test_least_p(n, n) * family > to->options.alpha)
		n++;
	return n - MIN(c->a.n, c->b.n);
}

static enum verdict judge(const struct compared *to, const struct comparison *c)
{
	if (!c->b.n)
		return VERDICT_ONLY_A;
	if (!c->a.n)
		return VERDICT_ONLY_B;
	if (!testable(c))
		return VERDICT_UNKNOWN;
	if (is_same(to, c))
		return VERDICT_SAME;
	if (matters(to, c) && c->ranks.delta > 0 && c->difference.low > 0)
		return VERDICT_WORSE;
	if (matters(to, c) && c->ranks.delta < 0 && c->difference.high < 0)
		return VERDICT_BETTER;
	return VERDICT_UNKNOWN;
}

static void test(struct comparison *c)
{
	c->p_corrected = 1;
	c->ranks.p = 1;
	if (testable(c))
		c->ranks = stats_rank_test(c->b.values, c->b.n, c->a.values, c->a.n);
}

static void measure(const struct compared *to, struct comparison *c)
{
	const struct compare_options *o = &to->options;
	const struct sample *a = &c->a, *b = &c->b;

	if (!testable(c)) {
		/* The medians are all there is to say. */
		c->ratio = (struct stats_interval){b->median / a->median, NAN, NAN};
		c->difference = (struct stats_interval){b->median - a->median, NAN, NAN};
		return;
	}
	if (o->quick && c->p_corrected > o->alpha) {
		c->ratio = (struct stats_interval){b->median / a->median, 0, INFINITY};
		c->difference = (struct stats_interval){b->median - a->median, -INFINITY, INFINITY};
		return;
	}
	stats_change(b->values, b->n, a->values, a->n, o->level, o->seed, &c->ratio,
		     &c->difference);
}

static double resolution_of(const struct group *g)
{
	double ns = 0;

	for (unsigned i = 0; i < g->runs->len; i++) {
		const struct run *run = g->runs->pdata[i];

		ns = fmax(ns, (double)run->hold_bias_ns);
	}
	return ns;
}

struct compared *compare(struct group *a, struct group *b, const struct compare_options *options)
{
	struct compared *to = g_new0(struct compared, 1);

	to->a = a;
	to->b = b;
	to->options = *options;
	to->least_ns = fmax(options->least_ns, fmax(resolution_of(a), resolution_of(b)));
	to->all = g_array_new(FALSE, TRUE, sizeof(struct comparison));
	g_array_set_clear_func(to->all, clear);
	collect(to);
	for (unsigned i = 0; i < to->all->len; i++)
		test(&g_array_index(to->all, struct comparison, i));
	correct(to, true, stats_holm);
	correct(to, false, stats_benjamini_hochberg);
	for (unsigned i = 0; i < to->all->len; i++) {
		struct comparison *c = &g_array_index(to->all, struct comparison, i);

		measure(to, c);
		c->verdict = judge(to, c);
		if (c->verdict == VERDICT_UNKNOWN)
			c->more = testable(c) ? how_many_more(to, c) : runs_to_begin(to, c);
		if (c->group != FIGURE_CONTROL)
			to->verdicts[c->verdict]++;
	}
	to->notes = compare_notes(to);
	return to;
}

void compared_free(struct compared *to)
{
	if (!to)
		return;
	g_array_unref(to->all);
	g_ptr_array_unref(to->notes);
	g_free(to);
}

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[VERDICTS] = {
		[VERDICT_WORSE] = "worse",     [VERDICT_BETTER] = "better",
		[VERDICT_SAME] = "same",       [VERDICT_UNKNOWN] = "not enough data",
		[VERDICT_ONLY_A] = "vanished", [VERDICT_ONLY_B] = "appeared",
	};

	return names[verdict];
}

enum verdict compared_verdict(const struct compared *to)
{
	static const enum verdict order[] = {VERDICT_WORSE, VERDICT_BETTER, VERDICT_UNKNOWN};
	unsigned of[VERDICTS] = {0};

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == FIGURE_HEADLINE)
			of[c->verdict]++;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
		if (of[order[i]])
			return order[i];
	return VERDICT_SAME;
}

const struct comparison *compared_find(const struct compared *to, const char *name)
{
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (!strcmp(c->name, name))
			return c;
	}
	return NULL;
}
