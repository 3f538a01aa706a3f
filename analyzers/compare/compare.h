/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two groups of runs, compared figure by figure: is B worse than A, and where?
 *
 * For each figure: medians; their ratio B / A and difference B - A with bootstrap intervals; the
 * Mann-Whitney test; Cliff's delta. Two families are corrected for their number, each at `alpha`:
 * the whole run's figures by Holm (so that "nothing changed" is called worse with at most that
 * chance), details by Benjamini and Hochberg (so that at most that share of what is called changed
 * is not).
 */
#ifndef COMPARE_H
#define COMPARE_H

#include "analyzers/compare/figures.h"
#include "analyzers/stats/stats.h"

struct compare_options {
	double alpha;	 /* 0.05 */
	double margin;	 /* 0.1: a change by less than 10% is none */
	double least_ns; /* 10000: so is one of a duration by less than that; nobody feels it */
	double level;	 /* 0.95, of the intervals */
	uint32_t seed;
	/* Intervals only of what is significant: what is worse or better is the same, and found ten
	 * times as fast; the rest is unknown. For many trials. */
	bool quick;
};

#define COMPARE_DEFAULTS ((struct compare_options){0.05, 0.1, 10000, 0.95, 1, false})

/* The runs of one side, all with one label. Owns the runs. */
struct group {
	char *label; /* or the file's name where the runs have none */
	char *file;
	GPtrArray *runs; /* struct run *, as made: what is compared */
	unsigned failed; /* migrations that did not end well: counted, not compared */
};

struct group *group_new(const char *label, const char *file);
void group_add(struct group *group, struct run *run);
void group_free(struct group *group);

enum verdict {
	VERDICT_WORSE, /* not by chance, and by more than the margin and the least that counts */
	VERDICT_BETTER,
	VERDICT_SAME,	 /* the interval lies within the margin, or below what probes resolve */
	VERDICT_UNKNOWN, /* not enough data: `more` says how much more */
	VERDICT_ONLY_A,	 /* it has vanished: only A has it */
	VERDICT_ONLY_B,	 /* it has appeared */
	VERDICTS
};

#define MORE_TOO_MANY UINT_MAX

struct sample {
	double *values; /* as the runs were made, those that have it */
	unsigned n;
	double median; /* NAN when n is 0 */
};

struct comparison {
	char *name, *subject;
	enum figure_unit unit;
	enum figure_group group;
	struct sample a, b;
	struct stats_interval ratio;	  /* B / A; infinite when A's median is 0 */
	struct stats_interval difference; /* B - A; ends are NAN where too few runs have it */
	struct stats_ranks ranks;	  /* delta > 0: B's are greater */
	double p_corrected;
	enum verdict verdict;
	unsigned more; /* VERDICT_UNKNOWN: runs of each side that would probably do, beyond these */
};

struct compared {
	struct group *a, *b; /* the caller's */
	struct compare_options options;
	double least_ns;  /* of the options, or more where the probes cannot tell that apart */
	GArray *all;	  /* struct comparison: the whole run's first, as figures_of() orders */
	GPtrArray *notes; /* char *: what a reader must know before he believes it */
	unsigned verdicts[VERDICTS]; /* of all that are judged */
};

/* Groups that compare_refusal() (fit.h) does not refuse. */
struct compared *compare(struct group *a, struct group *b, const struct compare_options *options);
void compared_free(struct compared *compared);

const char *verdict_name(enum verdict verdict); /* "worse", "not enough data" */
/* Of the whole: the worst of the run's own figures, then of details. */
enum verdict compared_verdict(const struct compared *compared);
const struct comparison *compared_find(const struct compared *compared, const char *name);
#endif
