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

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/*
 * Of all ways to order m of one kind and n of the other, the share with U <= u. The greatest of all
 * is one of the m, and beats all n, or one of the n: share(i, k, u) is i / (i + k) times
 * share(i - 1, k, u - k) plus k / (i + k) times share(i, k - 1, u). Only sums of positive numbers.
 */
static double share_up_to(size_t m, size_t n, size_t u)
{
	size_t width = u + 1;
	/* Row k, column u: of the i so far, and k. */
	g_autofree double *share = g_new0(double, (n + 1) * width);
	double sum = 0;

	for (size_t k = 0; k <= n; k++)
		share[k * width] = 1;
	for (size_t i = 1; i <= m; i++)
		for (size_t k = 1; k <= n; k++) {
			double *row = share + k * width;
			double first = (double)i / (double)(i + k);

			for (size_t v = width; v-- > 0;)
				row[v] = (v >= k ? first * row[v - k] : 0) +
					 (1 - first) * row[v - width];
		}
	for (size_t v = 0; v < width; v++)
		sum += share[n * width + v];
	return sum;
}

/* Sum of t^3 - t over all groups of t equal values; 0 without ties. */
static double ties(const double *a, size_t n_a, const double *b, size_t n_b)
{
	size_t n = n_a + n_b;
	g_autofree double *all = g_new(double, n);
	double sum = 0;

	memcpy(all, a, n_a * sizeof(*a));
	memcpy(all + n_a, b, n_b * sizeof(*b));
	qsort(all, n, sizeof(*all), by_value);
	for (size_t i = 0, end; i < n; i = end) {
		double t;

		for (end = i + 1; end < n && all[end] == all[i]; end++)
			;
		t = (double)(end - i);
		sum += t * t * t - t;
	}
	return sum;
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
	double tied = ties(a, n_a, b, n_b);
	double pairs = (double)n_a * (double)n_b;
	struct stats_ranks r = {.exact = tied == 0 && n_a <= EXACT_SIZE && n_b <= EXACT_SIZE};

	for (size_t i = 0; i < n_a; i++)
		for (size_t k = 0; k < n_b; k++)
			r.u += a[i] > b[k] ? 1 : a[i] == b[k] ? 0.5 : 0;
	r.delta = 2 * r.u / pairs - 1;
	if (r.exact)
		r.p = fmin(1, 2 * share_up_to(n_a, n_b, (size_t)fmin(r.u, pairs - r.u)));
	else
		r.p = normal_p(r.u, (double)n_a, (double)n_b, tied);
	return r;
}
