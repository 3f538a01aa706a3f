/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Charts along the migration's time: where holds fall in it, and one run in full.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/compare/figures.h"
#include "analyzers/model/words.h"
#include "analyzers/render/charts.h"
#include "analyzers/render/svg.h"

void run_migration(const struct run *run, uint64_t *begin_ns, uint64_t *end_ns)
{
	*begin_ns = *end_ns = 0;
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);

		if (m->in.phase != PHASE_NONE && !*begin_ns)
			*begin_ns = m->at_ns;
		if (*begin_ns)
			*end_ns = m->at_ns;
	}
	if (*end_ns <= *begin_ns) {
		*begin_ns = run->begin_ns;
		*end_ns = run->begin_ns + run->duration_ns;
	}
}

struct ranked {
	double value;
	struct run *run;
};

static int by_value(const void *a, const void *b)
{
	double x = ((const struct ranked *)a)->value, y = ((const struct ranked *)b)->value;

	return (x > y) - (x < y);
}

struct run *series_median_run(const struct series *s)
{
	g_autofree struct ranked *all = g_new(struct ranked, s->runs->len);

	for (unsigned i = 0; i < s->runs->len; i++) {
		struct run *run = s->runs->pdata[i];

		all[i] = (struct ranked){(double)run->duration_ns, run};
		run_metric(run, METRIC_TOTAL, &all[i].value);
	}
	qsort(all, s->runs->len, sizeof(*all), by_value);
	return all[s->runs->len / 2].run;
}

/* ---- where holds fall ---- */

enum { COLUMNS = 64, ROWS = 24, SHADES = 5 };

struct heat {
	double cells[COLUMNS][ROWS]; /* holds a run */
	double most;
};

/* What is drawn: the longest migration, the least and the greatest hold of any series. */
static void heat_bounds(const struct series *series, unsigned n, struct scale *x, struct scale *y)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned r = 0; r < series[i].runs->len; r++) {
			const struct run *run = series[i].runs->pdata[r];
			uint64_t begin, end;

			run_migration(run, &begin, &end);
			x->high = fmax(x->high, (double)(end - begin));
			y->low = fmin(y->low, (double)run->threshold_ns);
			for (unsigned h = 0; h < run->holds->len; h++) {
				const struct hold *hold =
					&g_array_index(run->holds, struct hold, h);

				y->high = fmax(y->high, (double)hold->hold_ns);
			}
		}
	y->low = fmax(y->low, 1000);
	y->high = fmax(y->high * 1.2, y->low * 10);
	x->high *= 1.02;
}

static void heat_fill(struct heat *heat, const struct series *s, const struct scale *x,
		      const struct scale *y)
{
	for (unsigned r = 0; r < s->runs->len; r++) {
		const struct run *run = s->runs->pdata[r];
		uint64_t begin, end;

		run_migration(run, &begin, &end);
		for (unsigned h = 0; h < run->holds->len; h++) {
			const struct hold *hold = &g_array_index(run->holds, struct hold, h);
			double at = (double)hold->begin_ns - (double)begin;
			double up = log(fmax(1, (double)hold->hold_ns / y->low)) /
				    log(y->high / y->low);
			int row = MIN((int)(up * ROWS), ROWS - 1);

			/* One that began before the migration and reaches into it counts, too. */
			if ((at < 0 && at + (double)hold->hold_ns <= 0) || at >= x->high)
				continue;
			at = fmax(at, 0);
			heat->cells[(int)(at / x->high * COLUMNS)][row] += 1.0 / s->runs->len;
		}
	}
	for (unsigned c = 0; c < COLUMNS; c++)
		for (unsigned row = 0; row < ROWS; row++)
			heat->most = fmax(heat->most, heat->cells[c][row]);
}

static int shade_of(double value, double least, double most)
{
	double share = most > least ? log(value / least) / log(most / least) : 1;

	return (int)fmin(SHADES - 1, share * SHADES);
}

static double opacity_of(int shade)
{
	return 0.2 + 0.8 * shade / (SHADES - 1);
}

static void heat_panel(GString *out, const struct heat *heat, const struct series *s,
		       const struct scale *x, const struct scale *y, double least, double most)
{
	double width = (x->to - x->from) / COLUMNS, height = (y->from - y->to) / ROWS;

	for (int shade = 0; shade < SHADES; shade++) {
		g_string_append_printf(out, "<path class=\"heat %s\" fill-opacity=\"%.2f\" d=\"",
				       s->class, opacity_of(shade));
		for (unsigned c = 0; c < COLUMNS; c++)
			for (unsigned row = 0; row < ROWS; row++) {
				double value = heat->cells[c][row];

				if (!(value > 0) || shade_of(value, least, most) != shade)
					continue;
				g_string_append_printf(
					out, "M%.1f %.1fh%.1fv%.1fh-%.1fz", x->from + c * width,
					y->from - (row + 1) * height, width, height, width);
			}
		g_string_append(out, "\"/>");
	}
}

/* The shades from the faintest to the strongest, and how many holds these are; ends at `right`. */
static void heat_key(GString *out, const struct series *s, double right, double y, double least,
		     double most)
{
	enum { SIDE = 12 };
	g_autofree char *few = g_strdup_printf("%.2g", least);
	g_autofree char *many = g_strdup_printf("%.3g a run", most);
	double left = right - 110 - SHADES * SIDE;

	svg_text(out, left - 6, y, "end", "tick", few);
	for (int shade = 0; shade < SHADES; shade++)
		g_string_append_printf(out,
				       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"10\" "
				       "class=\"heat %s\" fill-opacity=\"%.2f\"/>",
				       left + shade * SIDE, y - 9, SIDE, s->class,
				       opacity_of(shade));
	svg_text(out, left + SHADES * SIDE + 6, y, "start", "tick", many);
}

void chart_heat(GString *out, const struct series *series, unsigned n)
{
	enum { LEFT = 62, RIGHT = 706, TOP = 24, HEIGHT = 168, PANEL = 220 };
	struct scale x = {0, 1e6, false, LEFT, RIGHT};
	struct scale y = {1e9, 1e6, true, 0, 0};
	g_autofree struct heat *heats = g_new0(struct heat, n);
	double least = 1, most = 0;

	heat_bounds(series, n, &x, &y);
	for (unsigned i = 0; i < n; i++) {
		heat_fill(&heats[i], &series[i], &x, &y);
		least = fmin(least, 1.0 / series[i].runs->len);
		most = fmax(most, heats[i].most);
	}
	svg_begin(out, 720, n * PANEL + 8, "when in the migration holds of which length began");
	for (unsigned i = 0; i < n; i++) {
		y.from = i * PANEL + TOP + HEIGHT;
		y.to = i * PANEL + TOP;
		svg_text(out, LEFT, y.to - 8, "start", "label", series[i].label);
		svg_axis_x(out, &x, y.to, y.from, 8, tick_duration);
		svg_axis_y(out, &y, LEFT, RIGHT, 6, tick_duration);
		heat_panel(out, &heats[i], &series[i], &x, &y, least, most);
		if (most > 0)
			heat_key(out, &series[i], RIGHT, y.to - 8, least, most);
	}
	svg_end(out);
}

/* ---- one run ---- */

enum { MOST_HOLDS = 200, TITLES = 40 };

static void phases_band(GString *out, const struct run *run, const struct scale *x, uint64_t begin,
			double top)
{
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);
		uint64_t next =
			i + 1 < run->marks->len ? m[1].at_ns : run->begin_ns + run->duration_ns;
		double from, to;
		g_autofree char *title = NULL;
		char took[WORDS_DURATION];

		if (m->in.phase == PHASE_NONE || m->at_ns < begin)
			continue;
		from = scale_at(x, (double)(m->at_ns - begin));
		to = scale_at(x, (double)(next - begin));
		title = g_strdup_printf("%s%s%s, %s", phase_name(m->in.phase),
					*m->in.device ? " " : "", m->in.device,
					words_duration(took, next - m->at_ns));
		g_string_append_printf(out,
				       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" "
				       "class=\"phase-%s\"><title>",
				       from, top, fmax(0.3, to - from), phase_name(m->in.phase));
		html_text(out, title);
		g_string_append(out, "</title></rect>");
		if (to - from > (m->in.phase == PHASE_DEVICE ? 120 : 44))
			svg_text(out, (from + to) / 2, top + 11, "middle", "in-band",
				 *m->in.device ? m->in.device : phase_name(m->in.phase));
	}
}

/* Lanes in the order of the roles; which of them the run has. */
static unsigned lanes_of(struct run *run, const GPtrArray *holds, unsigned lanes[ROLES])
{
	bool has[ROLES] = {false};
	unsigned n = 0;

	for (unsigned i = 0; i < holds->len; i++) {
		const struct hold *h = holds->pdata[i];

		has[g_array_index(run->threads, struct thread, h->thread).role] = true;
	}
	for (unsigned r = 0; r < ROLES; r++)
		if (has[r])
			lanes[r] = n++;
	return n;
}

static char *hold_title(struct run *run, const struct hold *h)
{
	const struct site *s = &g_array_index(run->sites, struct site, h->site);
	const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);
	char held[WORDS_DURATION], blocked[WORDS_DURATION];
	g_autofree char *why = NULL;

	if (h->longest_ns)
		why = g_strdup_printf(", blocked %s in %s", words_duration(blocked, h->longest_ns),
				      cause_name(h->longest_cause));
	return g_strdup_printf("%s, %s at %s:%u%s",
			       words_duration(held, run_hold_ns(run, h->hold_ns)),
			       run_who(run, t, true), words_file(s->file), s->line, why ?: "");
}

static void hold_boxes(GString *out, struct run *run, const GPtrArray *holds,
		       const unsigned lanes[ROLES], const struct scale *x, uint64_t begin,
		       double top, const char *class)
{
	for (unsigned i = 0; i < holds->len; i++) {
		const struct hold *h = holds->pdata[i];
		enum role role = g_array_index(run->threads, struct thread, h->thread).role;
		double from = (double)h->begin_ns - (double)begin;
		double to = from + (double)h->hold_ns;

		if (to < 0 || from > x->high)
			continue;
		from = scale_at(x, fmax(0, from));
		g_string_append_printf(out,
				       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" "
				       "class=\"hold %s\"",
				       from, top + lanes[role] * 20.0,
				       fmax(0.6, scale_at(x, to) - from), class);
		if (i < TITLES) {
			g_autofree char *title = hold_title(run, h);

			g_string_append(out, "><title>");
			html_text(out, title);
			g_string_append(out, "</title></rect>");
		} else {
			g_string_append(out, "/>");
		}
	}
}

void chart_timeline(GString *out, struct run *run, const char *class, uint64_t span_ns)
{
	enum { LEFT = 86, RIGHT = 706, TOP = 8, LANES = 32 };
	g_autoptr(GPtrArray) holds = run_longest(run, MOST_HOLDS);
	unsigned lanes[ROLES] = {0}, n = lanes_of(run, holds, lanes);
	struct scale x = {0, 1, false, LEFT, RIGHT};
	uint64_t begin, end;
	double bottom = LANES + n * 20 + 4;

	run_migration(run, &begin, &end);
	x.high = fmax(1, (double)MAX(span_ns, end - begin)) * 1.02;
	svg_begin(out, 720, bottom + 22, "phases and holds of one run");
	svg_axis_x(out, &x, TOP, bottom, 8, tick_duration);
	svg_text(out, LEFT - 8, TOP + 11, "end", "tick", "phase");
	phases_band(out, run, &x, begin, TOP);
	for (unsigned r = 0; r < ROLES; r++) {
		bool there = false;

		for (unsigned i = 0; i < holds->len && !there; i++)
			there = g_array_index(run->threads, struct thread,
					      ((struct hold *)holds->pdata[i])->thread)
					.role == r;
		if (there)
			svg_text(out, LEFT - 8, LANES + lanes[r] * 20.0 + 11, "end", "tick",
				 role_name(r));
	}
	hold_boxes(out, run, holds, lanes, &x, begin, LANES, class);
	svg_end(out);
}
