/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Medians, and how far a ratio of them can be trusted: the percentile bootstrap (Efron 1979).
 */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "analyzers/stats/stats.h"

/* The ends of a 99% interval then have 50 resamples beyond them. */
#define RESAMPLES 10000

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double *sorted(const double *values, size_t n)
{
	double *copy = g_memdup2(values, n * sizeof(*values));

	qsort(copy, n, sizeof(*copy), by_value);
	return copy;
}

static double median_of_sorted(const double *values, size_t n)
{
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double stats_median(const double *values, size_t n)
{
	g_autofree double *copy = sorted(values, n);

	return median_of_sorted(copy, n);
}

/* A sample, in order, and how often each of its values was drawn. */
struct urn {
	double *values;
	unsigned *drawn;
	size_t n;
};

static struct urn urn_new(const double *values, size_t n)
{
	return (struct urn){sorted(values, n), g_new(unsigned, n), n};
}

static void urn_clear(struct urn *u)
{
	g_free(u->values);
	g_free(u->drawn);
}

/* The value at which so many of the drawn ones lie at or below. */
static size_t place_of(const struct urn *u, size_t rank)
{
	size_t seen = 0, i = 0;

	for (; seen + u->drawn[i] < rank; i++)
		seen += u->drawn[i];
	return i;
}

static double resampled_median(GRand *rand, struct urn *u)
{
	size_t n = u->n, upper;

	memset(u->drawn, 0, n * sizeof(*u->drawn));
	/* A share of 2^32, not a remainder: as even, and without a division. */
	for (size_t i = 0; i < n; i++)
		u->drawn[(uint64_t)g_rand_int(rand) * n >> 32]++;
	upper = place_of(u, n / 2 + 1);
	return n % 2 ? u->values[upper] : (u->values[place_of(u, n / 2)] + u->values[upper]) / 2;
}

/* Nothing over nothing is no change, and must not be a NaN, which cannot be sorted. */
static double quotient(double a, double b)
{
	return a == b ? 1 : a / b;
}

static struct stats_interval interval_of(double estimate, double *resampled, double level)
{
	size_t beyond = (size_t)floor((1 - level) / 2 * RESAMPLES);

	qsort(resampled, RESAMPLES, sizeof(*resampled), by_value);
	return (struct stats_interval){estimate, resampled[beyond],
				       resampled[RESAMPLES - 1 - beyond]};
}

struct stats_interval stats_median_interval(const double *values, size_t n, double level,
					    uint32_t seed)
{
	g_autofree double *medians = g_new(double, RESAMPLES);
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	struct urn u = urn_new(values, n);
	double estimate = median_of_sorted(u.values, n);

	for (size_t i = 0; i < RESAMPLES; i++)
		medians[i] = resampled_median(rand, &u);
	urn_clear(&u);
	return interval_of(estimate, medians, level);
}

struct stats_interval stats_paired_ratio(const double *a, const double *b, size_t n, double level,
					 uint32_t seed)
{
	g_autofree double *ratios = g_new(double, n);

	for (size_t i = 0; i < n; i++)
		ratios[i] = a[i] / b[i];
	return stats_median_interval(ratios, n, level, seed);
}

void stats_change(const double *a, size_t n_a, const double *b, size_t n_b, double level,
		  uint32_t seed, struct stats_interval *ratio, struct stats_interval *difference)
{
	g_autofree double *ratios = g_new(double, RESAMPLES);
	g_autofree double *differences = g_new(double, RESAMPLES);
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	struct urn of_a = urn_new(a, n_a), of_b = urn_new(b, n_b);
	double median_a = median_of_sorted(of_a.values, n_a);
	double median_b = median_of_sorted(of_b.values, n_b);

	for (size_t i = 0; i < RESAMPLES; i++) {
		double x = resampled_median(rand, &of_a), y = resampled_median(rand, &of_b);

		ratios[i] = quotient(x, y);
		differences[i] = x - y;
	}
	urn_clear(&of_a);
	urn_clear(&of_b);
	*ratio = interval_of(quotient(median_a, median_b), ratios, level);
	*difference = interval_of(median_a - median_b, differences, level);
}
