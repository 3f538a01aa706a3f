/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many tests at once (Holm 1979, Benjamini and Hochberg 1995), and how large samples would have to
 * be (Noether 1987).
 */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "analyzers/stats/stats.h"

static int by_pointed(const void *a, const void *b)
{
	double x = **(double *const *)a, y = **(double *const *)b;

	return (x > y) - (x < y);
}

/* The least first, in place. g_free(). */
static double **in_order(double *p, size_t n)
{
	double **order = g_new(double *, n);

	for (size_t i = 0; i < n; i++)
		order[i] = &p[i];
	qsort(order, n, sizeof(*order), by_pointed);
	return order;
}

void stats_holm(double *p, size_t n)
{
	g_autofree double **order = in_order(p, n);
	double most = 0;

	for (size_t i = 0; i < n; i++) {
		most = fmax(most, fmin(1, *order[i] * (double)(n - i)));
		*order[i] = most;
	}
}

void stats_benjamini_hochberg(double *p, size_t n)
{
	g_autofree double **order = in_order(p, n);
	double least = 1;

	for (size_t i = n; i-- > 0;) {
		least = fmin(least, *order[i] * (double)n / (double)(i + 1));
		*order[i] = least;
	}
}

/* The point that a standard normal variable stays below with this probability, by halving. */
static double normal_quantile(double probability)
{
	double low = -40, high = 40;

	for (int i = 0; i < 100; i++) {
		double middle = (low + high) / 2;

		if (erfc(-middle / sqrt(2)) / 2 < probability)
			low = middle;
		else
			high = middle;
	}
	return low;
}

size_t stats_rank_test_size(double delta, double level, double power)
{
	/* The chance that one of either compares as the effect says, less an even one. */
	double off = fabs(delta) / 2;
	double reach = normal_quantile(1 - level / 2) + normal_quantile(power);
	/* Both samples together, each half of it: N = reach^2 / (12 c (1 - c) off^2), c = 1/2. */
	double each = reach * reach / (6 * off * off);

	return off > 0 && each < 1e9 ? (size_t)ceil(each) : SIZE_MAX;
}

double stats_rank_test_least_p(size_t n_a, size_t n_b)
{
	double orders =
		lgamma((double)(n_a + n_b) + 1) - lgamma((double)n_a + 1) - lgamma((double)n_b + 1);

	return fmin(1, 2 * exp(-orders));
}
