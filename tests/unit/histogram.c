/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The histogram's promise, on the very functions that run in the kernel: no value is ever shown
 * more than 3.2% off, and merging loses nothing.
 */
#include <math.h>
#include <stdlib.h>

#include <glib.h>

#include "analyzers/model/histogram.h"

#define TOP_NS ((2ULL << ABI_TOP_BIT) - 1)

static void check_value(uint64_t ns)
{
	uint32_t b = abi_bucket(ns);
	uint64_t low, middle;

	g_assert_cmpuint(b, <, HISTOGRAM_BUCKETS);
	low = abi_bucket_low(b);
	g_assert_cmpuint(low, <=, ns);
	g_assert_cmpuint(ns, <, low + abi_bucket_width(b));
	middle = low + abi_bucket_width(b) / 2;
	g_assert_cmpfloat(fabs((double)middle - ns), <=, 0.032 * ns);
}

/* Every value of the first million, then both edges and the inside of every bucket. */
static void error_bound(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	for (uint64_t ns = 1; ns < 1 << 20; ns++)
		check_value(ns);
	for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
		uint64_t low = abi_bucket_low(b), width = abi_bucket_width(b);

		g_assert_cmpuint(abi_bucket(low), ==, b);
		g_assert_cmpuint(abi_bucket(low + width - 1), ==, b);
		if (b + 1 < HISTOGRAM_BUCKETS)
			g_assert_cmpuint(abi_bucket_low(b + 1), ==, low + width);
		for (int i = 0; i < 100; i++)
			check_value(MAX(1, low + (uint64_t)(g_rand_double(rand) * width)));
	}
	g_assert_cmpuint(TOP_NS, >, 60000000000ULL);
	g_assert_cmpuint(abi_bucket(TOP_NS), ==, HISTOGRAM_BUCKETS - 1);
	g_assert_cmpuint(abi_bucket(TOP_NS + 1), ==, HISTOGRAM_BUCKETS - 1);
	g_assert_cmpuint(abi_bucket(UINT64_MAX), ==, HISTOGRAM_BUCKETS - 1);
}

static void log2_is_exact(void)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		g_assert_cmpuint(abi_log2(1ULL << bit), ==, bit);
		g_assert_cmpuint(abi_log2((1ULL << bit) | ((1ULL << bit) - 1)), ==, bit);
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Against the sorted values themselves, over nine decades. */
static void quantiles(void)
{
	enum { N = 20000 };
	g_autoptr(GRand) rand = g_rand_new_with_seed(2);
	g_autofree uint64_t *values = g_new(uint64_t, N);
	struct histogram *h = g_new0(struct histogram, 1);

	for (int i = 0; i < N; i++) {
		values[i] = pow(10, 1 + 9 * g_rand_double(rand));
		histogram_add(h, values[i]);
	}
	qsort(values, N, sizeof(*values), compare);
	for (double q = 0.001; q < 1; q += 0.001) {
		uint64_t exact = values[(int)ceil(q * N) - 1], got = histogram_quantile(h, q);

		g_assert_cmpfloat(fabs((double)got - exact), <=, 0.032 * exact);
	}
	g_assert_cmpuint(histogram_quantile(h, 1), <=, h->max_ns);
	g_assert_cmpuint(h->max_ns, ==, values[N - 1]);
	g_free(h);
}

static void merging(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);
	struct histogram *parts = g_new0(struct histogram, 4), *whole = parts + 3;

	for (int i = 0; i < 30000; i++) {
		uint64_t ns = pow(2, 38 * g_rand_double(rand));

		histogram_add(&parts[i % 2], ns);
		histogram_add(whole, ns);
	}
	histogram_merge(&parts[2], &parts[0]);
	histogram_merge(&parts[2], &parts[1]);
	g_assert_cmpmem(&parts[2], sizeof(*parts), whole, sizeof(*whole));
	g_free(parts);
}

static void empty(void)
{
	struct histogram *h = g_new0(struct histogram, 1);

	g_assert_cmpuint(histogram_quantile(h, 0.5), ==, 0);
	histogram_add(h, 7);
	g_assert_cmpuint(histogram_quantile(h, 0), ==, 7);
	g_assert_cmpuint(histogram_quantile(h, 1), ==, 7);
	g_free(h);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/histogram/log2", log2_is_exact);
	g_test_add_func("/histogram/error-bound", error_bound);
	g_test_add_func("/histogram/quantiles", quantiles);
	g_test_add_func("/histogram/merging", merging);
	g_test_add_func("/histogram/empty", empty);
	return g_test_run();
}
