/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Mann-Whitney U test (Mann and Whitney 1947) and Cliff's delta (Cliff 1993).
 */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "analyzers/stats/stats.h"

/* Above, the normal approximation is good to far more digits than anybody reads. */
#define EXACT_SIZE 50

struct ranked {
	double value;
	bool of_a;
	unsigned twice_rank; /* equal values share their ranks' mean: halves */
};

static int by_value(const void *a, const void *b)
{
	double x = ((const struct ranked *)a)->value, y = ((const struct ranked *)b)->value;

	return (x > y) - (x < y);
}

/* *tied: the sum of t^3 - t over all groups of t equal values; 0 without ties. g_free(). */
static struct ranked *rank(const double *a, size_t n_a, const double *b, size_t n_b, double *tied)
{
	size_t n = n_a + n_b;
	struct ranked *all = g_new(struct ranked, n);

	for (size_t i = 0; i < n; i++)
		all[i] = (struct ranked){i < n_a ? a[i] : b[i - n_a], i < n_a, 0};
	qsort(all, n, sizeof(*all), by_value);
	*tied = 0;
	for (size_t i = 0, end; i < n; i = end) {
		double t;

		for (end = i + 1; end < n && all[end].value == all[i].value; end++)
			;
		for (size_t k = i; k < end; k++)
			all[k].twice_rank = (unsigned)(i + 1 + end);
		t = (double)(end - i);
		*tied += t * t * t - t;
	}
	return all;
}

/*
 * Of all ways to say which n_a of these ranks are a's, the share whose sum is at least as far from
 * the mean as a's own. Row k, column s: the share of ways to have taken k with that sum out of the
 * i so far; the next one is taken with the probability that is left for it. Only sums of positive
 * numbers, so nothing is lost to rounding.
 */
static double exact_p(const struct ranked *all, size_t n_a, size_t n_b)
{
	size_t n = n_a + n_b, most = 0, sum = 0, width;
	g_autofree double *share = NULL;
	double mean = (double)n_a * (double)(n + 1), off, p = 0;

	for (size_t i = 0; i < n; i++) {
		sum += all[i].of_a ? all[i].twice_rank : 0;
		most += i >= n_b ? all[i].twice_rank : 0;
	}
	width = most + 1;
	share = g_new0(double, (n_a + 1) * width);
	share[0] = 1;
	for (size_t i = 0; i < n; i++) {
		size_t rank = all[i].twice_rank;

		for (size_t k = MIN(i, n_a) + 1; k-- > 0;) {
			double take = (double)(n_a - k) / (double)(n - i);
			double *row = share + k * width, *next = row + width;

			for (size_t s = 0; s < width; s++) {
				if (k < n_a && s + rank < width)
					next[s + rank] += row[s] * take;
				row[s] *= 1 - take;
			}
		}
	}
	off = fabs((double)sum - mean);
	for (size_t s = 0; s < width; s++)
		if (fabs((double)s - mean) >= off)
			p += share[n_a * width + s];
	return fmin(1, p);
}

/* With corrections for ties and for continuity. */
static double normal_p(double u, double m, double n, double tied)
{
	double total = m + n;
	double variance = m * n / 12 * (total + 1 - tied / (total * (total - 1)));
	double off = fabs(u - m * n / 2) - 0.5;

	/* All values are the same one: nothing tells the two apart. */
	if (variance <= 0 || off <= 0)
		return 1;
	return erfc(off / sqrt(variance) / sqrt(2));
}

struct stats_ranks stats_rank_test(const double *a, size_t n_a, const double *b, size_t n_b)
{
	double tied, pairs = (double)n_a * (double)n_b;
	g_autofree struct ranked *all = rank(a, n_a, b, n_b, &tied);
	struct stats_ranks r = {.exact = n_a <= EXACT_SIZE && n_b <= EXACT_SIZE};

	for (size_t i = 0; i < n_a; i++)
		for (size_t k = 0; k < n_b; k++)
			r.u += a[i] > b[k] ? 1 : a[i] == b[k] ? 0.5 : 0;
	r.delta = 2 * r.u / pairs - 1;
	if (r.exact)
		r.p = exact_p(all, n_a, n_b);
	else
		r.p = normal_p(r.u, (double)n_a, (double)n_b, tied);
	return r;
}
