/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Charts of comparisons, and the distribution of holds.
 */
#include <math.h>
#include <string.h>

#include "analyzers/render/charts.h"
#include "analyzers/render/figure.h"
#include "analyzers/render/svg.h"

#define RATIO_CAP 1000.0 /* drawn at the edge beyond that */

static const char *class_of(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_WORSE:
		return "worse";
	case VERDICT_BETTER:
		return "better";
	case VERDICT_SAME:
		return "same";
	default:
		return "unknown";
	}
}

/* ---- ratios ---- */

static bool has_ratio(const struct comparison *c)
{
	return c->group == FIGURE_HEADLINE && c->a.n && c->b.n && c->ratio.estimate > 0 &&
	       isfinite(c->ratio.estimate);
}

static double capped(double ratio)
{
	return fmin(RATIO_CAP, fmax(1 / RATIO_CAP, ratio));
}

static char *ratio_tick(double ratio)
{
	return g_strdup_printf("x %g", ratio);
}

static struct scale ratio_scale(const struct compared *to, double from, double to_x)
{
	double below = log(1.3), above = log(1.3);

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (!has_ratio(c))
			continue;
		below = fmax(below, -log(capped(c->ratio.estimate)));
		above = fmax(above, log(capped(c->ratio.estimate)));
		if (isnan(c->ratio.low))
			continue;
		below = fmax(below, -log(capped(c->ratio.low)));
		above = fmax(above, log(capped(c->ratio.high)));
	}
	/* Room for what stands above either side, and a little beyond the last interval. */
	below = 1.05 * fmax(below, 0.4 * above);
	above = 1.05 * fmax(above, 0.4 * below);
	return (struct scale){exp(-below), exp(above), true, from, to_x};
}

static void ratio_ticks(GString *out, const struct scale *x, double bottom)
{
	static const double small[] = {0.25, 0.5, 0.8, 1, 1.25, 2, 4};
	/* Where that many would not crowd. */
	double span = x->high / x->low;

	if (span > 30) {
		svg_axis_x(out, x, 20, bottom, 6, ratio_tick);
		return;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(small); i++) {
		g_autofree char *label = ratio_tick(small[i]);
		double at = scale_at(x, small[i]);

		if (small[i] < x->low || small[i] > x->high ||
		    (span > 8 && (small[i] == 0.8 || small[i] == 1.25)))
			continue;
		svg_line(out, at, 20, at, bottom, "grid");
		svg_text(out, at, bottom + 16, "middle", "tick", label);
	}
}

/* The median's place; an arrow at the edge when it lies beyond. */
static void ratio_mark(GString *out, const struct scale *x, double y, double ratio)
{
	double at = scale_at(x, capped(ratio)), way = ratio > 1 ? 1 : -1;

	if (ratio == capped(ratio))
		g_string_append_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>", at, y);
	else
		g_string_append_printf(out,
				       "<path class=\"beyond\" d=\"M%.1f %.1fl%.0f 6l%.0f 6z\"/>",
				       at - 4 * way, y - 6, 10 * way, -10 * way);
}

static void ratio_row(GString *out, const struct comparison *c, const struct scale *x, double y)
{
	g_autofree char *interval = render_interval(c->ratio);
	g_autofree char *ratio = figure_ratio(c->ratio.estimate);
	g_autofree char *times = g_strdup_printf("x %s", ratio);

	g_string_append_printf(out, "<g class=\"%s\"><title>%s: %s, %s</title>",
			       class_of(c->verdict), c->name, interval, verdict_name(c->verdict));
	svg_text(out, x->from - 8, y + 4, "end", "label", c->name);
	if (!isnan(c->ratio.low))
		svg_line(out, scale_at(x, capped(c->ratio.low)), y,
			 scale_at(x, capped(c->ratio.high)), y, "interval");
	ratio_mark(out, x, y, c->ratio.estimate);
	svg_text(out, x->to + 66, y + 4, "end", "tick", times);
	svg_text(out, x->to + 76, y + 4, "start", "word",
		 c->verdict == VERDICT_UNKNOWN ? "?" : verdict_name(c->verdict));
	g_string_append(out, "</g>");
}

void chart_ratios(GString *out, const struct compared *to)
{
	/* To the left names, to the right the ratio and the verdict; all in a phone's letters. */
	enum { LEFT = 138, RIGHT = 582, ROW = 24, TOP = 28 };
	struct scale x = ratio_scale(to, LEFT, RIGHT);
	double margin = 1 + to->options.margin, bottom, y = TOP + ROW / 2.0;
	unsigned rows = 0;

	for (unsigned i = 0; i < to->all->len; i++)
		rows += has_ratio(&g_array_index(to->all, struct comparison, i));
	if (!rows)
		return;
	bottom = TOP + rows * ROW;
	svg_begin(out, 720, bottom + 24, "ratios of B to A with their intervals");
	g_string_append_printf(
		out, "<rect x=\"%.1f\" y=\"20\" width=\"%.1f\" height=\"%.1f\" class=\"margin\"/>",
		scale_at(&x, 1 / margin), scale_at(&x, margin) - scale_at(&x, 1 / margin),
		bottom - 20);
	ratio_ticks(out, &x, bottom);
	svg_line(out, scale_at(&x, 1), 14, scale_at(&x, 1), bottom, "axis");
	svg_text(out, scale_at(&x, 1) - 8, 12, "end", "tick", "B is less: better");
	svg_text(out, scale_at(&x, 1) + 8, 12, "start", "tick", "B is more: worse");
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (!has_ratio(c))
			continue;
		ratio_row(out, c, &x, y);
		y += ROW;
	}
	svg_end(out);
}

/* ---- dots ---- */

static char *share_tick(double share)
{
	return g_strdup_printf("%.3g%%", share * 100);
}

static char *count_tick(double count)
{
	if (count >= 1e6)
		return g_strdup_printf("%.4g M", count / 1e6);
	if (count >= 1e4)
		return g_strdup_printf("%.4g k", count / 1e3);
	return g_strdup_printf("%.4g", count);
}

static tick_text tick_for(enum figure_unit unit)
{
	return unit == FIGURE_NS ? tick_duration : unit == FIGURE_SHARE ? share_tick : count_tick;
}

static void dots_row(GString *out, const struct scale *x, const struct sample *s, const char *class,
		     double y, uint32_t seed)
{
	struct stats_interval median;

	if (!s->n)
		return;
	median = stats_median_interval(s->values, s->n, 0.95, seed);
	g_string_append_printf(out, "<g class=\"%s\">", class);
	svg_line(out, scale_at(x, median.low), y, scale_at(x, median.high), y, "interval");
	for (unsigned i = 0; i < s->n; i++)
		/* Dots that would cover each other stand in rows, in the order of the runs. */
		g_string_append_printf(out,
				       "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" class=\"dot\"/>",
				       scale_at(x, s->values[i]), y - 8 + (i % 3) * 8.0);
	g_string_append_printf(out,
			       "<rect x=\"%.1f\" y=\"%.1f\" width=\"3\" height=\"24\" "
			       "class=\"median\"/></g>",
			       scale_at(x, s->median) - 1.5, y - 12);
}

void chart_dots(GString *out, const struct compared *to, const struct comparison *c)
{
	enum { LEFT = 14, RIGHT = 296, TOP = 26, BOTTOM = 100 };
	g_autofree double *all = g_new(double, c->a.n + c->b.n + 1);
	g_autofree char *a = figure_text(c->unit, c->a.median);
	g_autofree char *b = figure_text(c->unit, c->b.median);
	g_autofree char *medians = g_strdup_printf("%s -> %s", a, b);
	struct scale x;

	memcpy(all, c->a.values, c->a.n * sizeof(double));
	memcpy(all + c->a.n, c->b.values, c->b.n * sizeof(double));
	x = scale_for(all, c->a.n + c->b.n, 1.3, LEFT, RIGHT);
	svg_begin(out, 310, 120, c->name);
	svg_text(out, LEFT - 10, 14, "start", "label", c->name);
	svg_text(out, RIGHT + 8, 14, "end", "tick", medians);
	svg_axis_x(out, &x, TOP, BOTTOM, 4, tick_for(c->unit));
	dots_row(out, &x, &c->a, "a", TOP + 20, to->options.seed);
	dots_row(out, &x, &c->b, "b", TOP + 56, to->options.seed);
	svg_end(out);
}

/* ---- holds ---- */

#define LEAST_HOLD_NS 100.0

static struct histogram merged(const struct series *s)
{
	struct histogram h = {0};

	for (unsigned r = 0; r < s->runs->len; r++) {
		const struct run *run = s->runs->pdata[r];

		for (unsigned i = 0; i < run->usages->len; i++)
			histogram_merge(&h, &g_array_index(run->usages, struct usage, i).hold);
	}
	return h;
}

static double bias_of(const struct series *s)
{
	double sum = 0;

	for (unsigned r = 0; r < s->runs->len; r++)
		sum += (double)((struct run *)s->runs->pdata[r])->hold_bias_ns;
	return sum / s->runs->len;
}

/* From the longest down: steps at the buckets that hold something. */
static void holds_line(GString *out, const struct series *s, const struct scale *x,
		       const struct scale *y)
{
	struct histogram h = merged(s);
	double bias = bias_of(s), above = 0, at = scale_at(x, (double)h.max_ns);

	g_string_append_printf(out, "<path class=\"line %s\" d=\"M%.1f %.1f", s->class, at,
			       y->from);
	for (int b = HISTOGRAM_BUCKETS - 1; b >= 0; b--) {
		double ns = (double)abi_bucket_low(b) - bias;

		if (!h.bucket[b])
			continue;
		above += (double)h.bucket[b] / s->runs->len;
		g_string_append_printf(out, "V%.1f", scale_at(y, above));
		if (ns < LEAST_HOLD_NS)
			break;
		g_string_append_printf(out, "H%.1f", scale_at(x, ns));
	}
	g_string_append(out, "\"/>");
}

void chart_holds(GString *out, const struct series *series, unsigned n)
{
	enum { LEFT = 52, RIGHT = 706, TOP = 12, BOTTOM = 300 };
	struct scale x = {LEAST_HOLD_NS, 1e6, true, LEFT, RIGHT};
	struct scale y = {1, 10, true, BOTTOM, TOP};

	for (unsigned i = 0; i < n; i++) {
		struct histogram h = merged(&series[i]);

		x.high = fmax(x.high, (double)h.max_ns * 1.3);
		y.high = fmax(y.high, (double)h.count / series[i].runs->len * 1.3);
		y.low = fmin(y.low, 0.9 / series[i].runs->len);
	}
	svg_begin(out, 720, 340, "how many holds of the lock are longer than a duration");
	svg_axis_x(out, &x, TOP, BOTTOM, 8, tick_duration);
	svg_axis_y(out, &y, LEFT, RIGHT, 7, count_tick);
	for (unsigned i = 0; i < n; i++)
		holds_line(out, &series[i], &x, &y);
	svg_text(out, RIGHT, BOTTOM + 36, "end", "tick", "held longer than");
	svg_text(out, LEFT + 6, BOTTOM - 8, "start", "tick", "holds a run");
	svg_end(out);
}
