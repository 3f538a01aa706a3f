/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparing two samples of one figure, e.g. the same load at two QEMUs, without assuming how they
 * are distributed: few, skewed and with outliers is what timings on a shared machine are.
 *
 * Samples are not changed, may be in any order, hold no NaN, and are not empty.
 */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of an even number: the mean of the middle two. */
double stats_median(const double *values, size_t n);

struct stats_interval {
	double estimate;
	double low, high; /* the confidence interval; both the estimate when nothing varies */
};

/* The median and its percentile bootstrap interval. */
struct stats_interval stats_median_interval(const double *values, size_t n, double level,
					    uint32_t seed);
/*
 * The median of a[i] / b[i], and its percentile bootstrap interval: for runs made in pairs, under
 * the same conditions each. Every b[i] is positive. `level` is e.g. 0.95; the same seed gives the
 * same interval. With 5 pairs, 95% is all from the least ratio to the greatest; fewer than 5 cannot
 * support it, whatever this says.
 */
struct stats_interval stats_paired_ratio(const double *a, const double *b, size_t n, double level,
					 uint32_t seed);
/*
 * median(a) / median(b) and median(a) - median(b), both resampled: for runs that are not paired.
 * The ratio of nothing to nothing is 1, of something to nothing infinite.
 */
void stats_change(const double *a, size_t n_a, const double *b, size_t n_b, double level,
		  uint32_t seed, struct stats_interval *ratio, struct stats_interval *difference);

struct stats_ranks {
	double u;     /* pairs of one of each in which a's is greater; equal ones count half */
	double p;     /* two-sided: as far from even as this by chance alone, both being alike */
	double delta; /* Cliff's: 1 every a is greater than every b, 0 even, -1 every a is less */
	bool exact;   /* false: p is the normal approximation (large samples) */
};

/* The Mann-Whitney U test, and the size of the effect that goes with it. */
struct stats_ranks stats_rank_test(const double *a, size_t n_a, const double *b, size_t n_b);
/* The least p that samples of these sizes can give: 2 / (n_a + n_b over n_a). */
double stats_rank_test_least_p(size_t n_a, size_t n_b);
/*
 * How many of each it takes until the rank test finds an effect of this size (Cliff's delta) at
 * `level` with `power` (Noether 1987). SIZE_MAX when there is no effect to find.
 */
size_t stats_rank_test_size(double delta, double level, double power);

/*
 * Many tests at once: p[i] becomes the level at which test i would still be rejected. Holm (1979)
 * bounds the chance of any false one, Benjamini and Hochberg (1995) the share of false ones.
 */
void stats_holm(double *p, size_t n);
void stats_benjamini_hochberg(double *p, size_t n);

#endif
