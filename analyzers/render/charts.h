/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Charts of runs and of comparisons, each as inline SVG appended to a page.
 */
#ifndef CHARTS_H
#define CHARTS_H

#include "analyzers/compare/compare.h"

/* Runs that are drawn alike. */
struct series {
	const char *label;
	const char *class;     /* of the page: "a" or "b" */
	const GPtrArray *runs; /* struct run * */
};

/* Ratios B / A of the whole run's figures with their intervals, about the line of no change. */
void chart_ratios(GString *out, const struct compared *compared);
/* One figure: a dot a run, the median and its interval. */
void chart_dots(GString *out, const struct compared *compared, const struct comparison *comparison);
/* How many holds a run are longer than that, on log axes. */
void chart_holds(GString *out, const struct series *series, unsigned n);
/* When in the migration holds of which length began, per run; one panel a series. */
void chart_heat(GString *out, const struct series *series, unsigned n);
/* One run: phases, and holds by thread; at least `span_ns` wide, so that two can be compared. */
void chart_timeline(GString *out, struct run *run, const char *class, uint64_t span_ns);

/* When the incoming migration began and ended; the recording's ends when there is none. */
void run_migration(const struct run *run, uint64_t *begin_ns, uint64_t *end_ns);
/* The one whose total time, or else recording, is the median of them. */
struct run *series_median_run(const struct series *series);

#endif
