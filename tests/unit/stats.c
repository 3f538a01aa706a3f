/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The statistics against published tables, against distributions that can be worked out by hand,
 * and against what they promise: an interval covers the truth as often as it says.
 */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "analyzers/stats/stats.h"

#define SEED 20260101

static void median(void)
{
	g_assert_cmpfloat(stats_median((double[]){7}, 1), ==, 7);
	g_assert_cmpfloat(stats_median((double[]){9, 1}, 2), ==, 5);
	g_assert_cmpfloat(stats_median((double[]){3, 100, -1}, 3), ==, 3);
	g_assert_cmpfloat(stats_median((double[]){4, 4, 1, 8}, 4), ==, 4);
}

/* 0..m-1, of which `u` pairs stand above n values spread between them: a sample with that U. */
static struct stats_ranks with_u(unsigned m, unsigned n, unsigned u)
{
	g_autofree double *a = g_new(double, m), *b = g_new(double, n);
	unsigned whole = u / n, rest = u % n;

	for (unsigned k = 0; k < n; k++)
		b[k] = k + 1;
	/* `whole` of a above all of b, one above `rest` of them, the others below all. */
	for (unsigned i = 0; i < m; i++)
		a[i] = i < whole ? 1000 + i : i == whole ? rest + 0.5 : -1.0 - i;
	return stats_rank_test(a, m, b, n);
}

/*
 * Critical values of U, two-sided, as every table since Mann and Whitney's has them: the greatest U
 * that is still significant.
 */
static void tabled_ranks(void)
{
	static const struct {
		unsigned m, n, at_5, at_1;
	} table[] = {
		{5, 5, 2, 0},	{6, 6, 5, 2},	  {7, 7, 8, 4},	    {8, 8, 13, 7},
		{9, 9, 17, 11}, {10, 10, 23, 16}, {12, 12, 37, 27}, {15, 15, 64, 51},
		{5, 10, 8, 4},	{8, 12, 22, 15},  {10, 15, 39, 29}, {20, 20, 127, 105},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		unsigned m = table[i].m, n = table[i].n;

		g_assert_cmpfloat(with_u(m, n, table[i].at_5).p, <=, 0.05);
		g_assert_cmpfloat(with_u(m, n, table[i].at_5 + 1).p, >, 0.05);
		g_assert_cmpfloat(with_u(m, n, table[i].at_1).p, <=, 0.01);
		g_assert_cmpfloat(with_u(m, n, table[i].at_1 + 1).p, >, 0.01);
		/* Either sample may be called the first. */
		g_assert_cmpfloat_with_epsilon(with_u(m, n, m * n - table[i].at_5).p,
					       with_u(n, m, table[i].at_5).p, 1e-12);
	}
}

/* Permeability of a membrane (Hollander and Wolfe 1973, p. 69): W = 35, one-sided p = 0.1272. */
static void published_ranks(void)
{
	static const double term[] = {0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
	static const double early[] = {1.15, 0.88, 0.90, 0.74, 1.21};
	struct stats_ranks r = stats_rank_test(term, 10, early, 5);

	g_assert_true(r.exact);
	g_assert_cmpfloat(r.u, ==, 35);
	g_assert_cmpfloat_with_epsilon(r.p / 2, 0.1272, 5e-5);
	g_assert_cmpfloat_with_epsilon(r.delta, 0.4, 1e-12);

	/* 7 of the 252 orders of 5 and 5 have U <= 3. */
	g_assert_cmpfloat_with_epsilon(with_u(5, 5, 3).p, 2 * 7 / 252.0, 1e-12);
	g_assert_cmpfloat(with_u(5, 5, 25).delta, ==, 1);
	g_assert_cmpfloat(with_u(5, 5, 0).delta, ==, -1);
}

/* Against counting, one by one, all ways in which the ranks could have fallen. */
static void tied_ranks(void)
{
	static const struct {
		unsigned m, n;
		double a[10], b[10];
		unsigned as_far, ways;
		double u;
	} table[] = {
		{6, 7, {0, 0, 0, 1, 1, 2}, {0, 1, 1, 2, 2, 2, 3}, 276, 1716, 10},
		{8, 8, {1, 2, 2, 3, 3, 3, 4, 8}, {3, 4, 5, 5, 6, 7, 7, 9}, 220, 12870, 10},
		{5, 4, {6, 6, 6, 7, 7}, {7, 8, 8, 8}, 6, 126, 1},
		{10,
		 10,
		 {10, 12, 12, 15, 19, 20, 20, 21, 22, 30},
		 {12, 14, 15, 18, 21, 25, 26, 27, 31, 40},
		 38664,
		 184756,
		 33},
	};
	static const double same[] = {4, 4, 4};
	struct stats_ranks r;

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		r = stats_rank_test(table[i].a, table[i].m, table[i].b, table[i].n);
		g_assert_true(r.exact);
		g_assert_cmpfloat(r.u, ==, table[i].u);
		g_assert_cmpfloat_with_epsilon(r.p, table[i].as_far / (double)table[i].ways, 1e-9);
		g_assert_cmpfloat_with_epsilon(r.delta, 2 * r.u / (table[i].m * table[i].n) - 1,
					       1e-12);
	}
	r = stats_rank_test(same, 3, same, 3);
	g_assert_cmpfloat(r.p, ==, 1);
	g_assert_cmpfloat(r.delta, ==, 0);
}

/*
 * What R 4.2.2 says: min(1, 2 * pwilcox(u, m, n)), which needs no ties, and
 * wilcox.test(a, b, exact = FALSE, correct = TRUE).
 */
static void reference_ranks(void)
{
	static const struct {
		unsigned m, n, u;
		double p;
	} exact[] = {
		{5, 5, 3, 0.0555555555555556},	   {10, 10, 23, 0.0432570525449782},
		{12, 12, 37, 0.0449019952990878},  {15, 10, 39, 0.0475244435198669},
		{20, 20, 127, 0.0490903251893724}, {50, 50, 900, 0.0155239452307124},
		{50, 50, 1100, 0.30413961453035},
	};
	double a[60], b[55];
	struct stats_ranks r;

	for (size_t i = 0; i < G_N_ELEMENTS(exact); i++) {
		r = with_u(exact[i].m, exact[i].n, exact[i].u);
		g_assert_true(r.exact);
		g_assert_cmpfloat_with_epsilon(r.p, exact[i].p, 1e-12);
	}
	for (long i = 0; i < 60; i++)
		a[i] = i * 7919 % 101;
	for (long i = 0; i < 55; i++)
		b[i] = i * 104729 % 97 + 5.5;
	r = stats_rank_test(a, 60, b, 55);
	g_assert_false(r.exact);
	g_assert_cmpfloat(r.u, ==, 1572);
	g_assert_cmpfloat_with_epsilon(r.p, 0.664348935126104, 1e-12);
	/* With many ties. */
	for (long i = 0; i < 60; i++)
		a[i] = floor(a[i] / 4);
	for (long i = 0; i < 55; i++)
		b[i] = floor((b[i] - 5.5) / 4) + 2;
	r = stats_rank_test(a, 60, b, 55);
	g_assert_cmpfloat(r.u, ==, 1490);
	g_assert_cmpfloat_with_epsilon(r.p, 0.371443405370325, 1e-12);
}

/* Where exact and approximate meet they say the same. */
static void large_ranks(void)
{
	for (unsigned u = 800; u <= 1250; u += 50) {
		struct stats_ranks exact = with_u(50, 50, u), approximate = with_u(51, 50, u + 25);

		g_assert_true(exact.exact);
		g_assert_false(approximate.exact);
		g_assert_cmpfloat_with_epsilon(exact.p, approximate.p, 0.01);
	}
}

/*
 * The median of 5 drawn from 5 is the least of them with probability 0.0579, one of the least two
 * with 0.3174 (binomial): so 90% and 95% reach from least to greatest, 80% from second to fourth.
 */
static void interval_by_hand(void)
{
	static const double b[] = {1, 2, 4, 8, 16}, a[] = {1.5, 1, 10, 8, 20};
	struct stats_interval r = stats_paired_ratio(a, b, 5, 0.95, SEED);

	/* Ratios 1.5, 0.5, 2.5, 1, 1.25. */
	g_assert_cmpfloat(r.estimate, ==, 1.25);
	g_assert_cmpfloat(r.low, ==, 0.5);
	g_assert_cmpfloat(r.high, ==, 2.5);
	r = stats_paired_ratio(a, b, 5, 0.90, SEED);
	g_assert_cmpfloat(r.low, ==, 0.5);
	g_assert_cmpfloat(r.high, ==, 2.5);
	r = stats_paired_ratio(a, b, 5, 0.80, SEED);
	g_assert_cmpfloat(r.low, ==, 1);
	g_assert_cmpfloat(r.high, ==, 1.5);

	r = stats_paired_ratio(b, b, 5, 0.95, SEED);
	g_assert_cmpfloat(r.low, ==, 1);
	g_assert_cmpfloat(r.high, ==, 1);
}

static struct stats_interval ratio_of(const double *a, size_t n_a, const double *b, size_t n_b,
				      uint32_t seed)
{
	struct stats_interval ratio, difference;

	stats_change(a, n_a, b, n_b, 0.95, seed, &ratio, &difference);
	return ratio;
}

static double log_normal(GRand *rand, double median_at)
{
	double u = 1 - g_rand_double(rand), v = g_rand_double(rand);

	return median_at * exp(0.3 * sqrt(-2 * log(u)) * cos(2 * G_PI * v));
}

/* Of 300 experiments whose true ratio is 1.2, about 95% of the intervals hold it. */
static void coverage(void)
{
	enum { EXPERIMENTS = 300, N = 15 };
	g_autoptr(GRand) rand = g_rand_new_with_seed(SEED);
	int covered = 0, paired_covered = 0;

	for (int e = 0; e < EXPERIMENTS; e++) {
		double a[N], b[N], same[N];
		struct stats_interval r;

		for (int i = 0; i < N; i++) {
			a[i] = log_normal(rand, 120);
			b[i] = log_normal(rand, 100);
			same[i] = 100;
		}
		r = ratio_of(a, N, b, N, SEED + e);
		covered += r.low <= 1.2 && 1.2 <= r.high;
		r = stats_paired_ratio(a, same, N, 0.95, SEED + e);
		paired_covered += r.low <= 1.2 && 1.2 <= r.high;
	}
	g_test_message("%d and %d of %d", covered, paired_covered, EXPERIMENTS);
	g_assert_cmpint(covered, >=, EXPERIMENTS * 91 / 100);
	g_assert_cmpint(covered, <, EXPERIMENTS);
	g_assert_cmpint(paired_covered, >=, EXPERIMENTS * 91 / 100);
	g_assert_cmpint(paired_covered, <, EXPERIMENTS);
}

static void repeatable(void)
{
	static const double a[] = {9, 11, 10, 13, 8, 10.5}, b[] = {9.5, 9, 10, 11, 12, 8};
	struct stats_interval r = ratio_of(a, 6, b, 6, SEED);
	struct stats_interval again = ratio_of(a, 6, b, 6, SEED);

	g_assert_cmpmem(&r, sizeof(r), &again, sizeof(again));
	g_assert_cmpfloat(r.low, <, r.estimate);
	g_assert_cmpfloat(r.high, >, r.estimate);
}

static void change(void)
{
	static const double a[] = {5, 5, 5}, b[] = {2, 2, 2}, none[] = {0, 0, 0};
	struct stats_interval ratio, difference;

	stats_change(a, 3, b, 3, 0.95, SEED, &ratio, &difference);
	g_assert_cmpfloat(ratio.estimate, ==, 2.5);
	g_assert_cmpfloat(ratio.low, ==, 2.5);
	g_assert_cmpfloat(difference.estimate, ==, 3);
	g_assert_cmpfloat(difference.low, ==, 3);
	g_assert_cmpfloat(difference.high, ==, 3);
	/* Of nothing: nothing is as much, something is beyond any ratio. */
	stats_change(none, 3, none, 3, 0.95, SEED, &ratio, &difference);
	g_assert_cmpfloat(ratio.estimate, ==, 1);
	g_assert_cmpfloat(ratio.high, ==, 1);
	stats_change(a, 3, none, 3, 0.95, SEED, &ratio, &difference);
	g_assert_true(isinf(ratio.estimate) && isinf(ratio.low));
	g_assert_cmpfloat(difference.estimate, ==, 5);
}

/* The fifteen tests of Benjamini and Hochberg (1995, p. 295); their four are rejected at 5%. */
static void many_tests(void)
{
	static const double p[] = {0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
				   0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000};
	enum { N = G_N_ELEMENTS(p) };
	double holm[N], bh[N], mixed[3] = {0.04, 0.01, 0.03};

	memcpy(holm, p, sizeof(p));
	memcpy(bh, p, sizeof(p));
	stats_holm(holm, N);
	stats_benjamini_hochberg(bh, N);
	/* By hand: p times what is left, p times 15 over the rank; never below the one before. */
	g_assert_cmpfloat_with_epsilon(holm[0], 0.0015, 1e-12);
	g_assert_cmpfloat_with_epsilon(holm[1], 0.0056, 1e-12);
	g_assert_cmpfloat_with_epsilon(holm[2], 0.0247, 1e-12);
	g_assert_cmpfloat_with_epsilon(holm[3], 0.1140, 1e-12);
	g_assert_cmpfloat_with_epsilon(holm[8], 0.3213, 1e-12);
	g_assert_cmpfloat(holm[14], ==, 1);
	g_assert_cmpfloat_with_epsilon(bh[2], 0.0095, 1e-12);
	g_assert_cmpfloat_with_epsilon(bh[3], 0.035625, 1e-12);
	g_assert_cmpfloat_with_epsilon(bh[4], 0.0603, 1e-12);
	g_assert_cmpfloat_with_epsilon(bh[5], 0.063857, 1e-6);
	g_assert_cmpfloat_with_epsilon(bh[7], 0.0645, 1e-12);
	g_assert_cmpfloat_with_epsilon(bh[8], 0.0765, 1e-12);
	/* In whatever order they come. */
	stats_holm(mixed, 3);
	g_assert_cmpfloat_with_epsilon(mixed[1], 0.03, 1e-12);
	g_assert_cmpfloat_with_epsilon(mixed[2], 0.06, 1e-12);
	g_assert_cmpfloat_with_epsilon(mixed[0], 0.06, 1e-12);
}

/* (z(0.975) + z(0.8))^2 = 7.848880; z(0.995) + z(0.9): 14.879290 (any table of z). */
static void sizes(void)
{
	g_assert_cmpuint(stats_rank_test_size(1, 0.05, 0.8), ==, 6);
	g_assert_cmpuint(stats_rank_test_size(-0.5, 0.05, 0.8), ==, 21);
	g_assert_cmpuint(stats_rank_test_size(0.2, 0.01, 0.9), ==, 248);
	g_assert_cmpuint(stats_rank_test_size(0, 0.05, 0.8), ==, SIZE_MAX);
	g_assert_cmpfloat_with_epsilon(stats_rank_test_least_p(5, 5), 2 / 252.0, 1e-9);
	g_assert_cmpfloat_with_epsilon(stats_rank_test_least_p(10, 10), 2 / 184756.0, 1e-12);
	g_assert_cmpfloat_with_epsilon(stats_rank_test_least_p(1, 1), 1, 1e-9);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/stats/median", median);
	g_test_add_func("/stats/ranks/tabled", tabled_ranks);
	g_test_add_func("/stats/ranks/published", published_ranks);
	g_test_add_func("/stats/ranks/ties", tied_ranks);
	g_test_add_func("/stats/ranks/reference", reference_ranks);
	g_test_add_func("/stats/ranks/large", large_ranks);
	g_test_add_func("/stats/interval/by-hand", interval_by_hand);
	g_test_add_func("/stats/interval/coverage", coverage);
	g_test_add_func("/stats/interval/repeatable", repeatable);
	g_test_add_func("/stats/interval/change", change);
	g_test_add_func("/stats/many", many_tests);
	g_test_add_func("/stats/size", sizes);
	return g_test_run();
}
