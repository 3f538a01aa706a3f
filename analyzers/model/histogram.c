/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arithmetic on log-linear histograms.
 */
#include <math.h>

#include "analyzers/model/histogram.h"

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum_ns += ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
	h->bucket[abi_bucket(ns)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum_ns += from->sum_ns;
	if (from->max_ns > into->max_ns)
		into->max_ns = from->max_ns;
	for (int b = 0; b < HISTOGRAM_BUCKETS; b++)
		into->bucket[b] += from->bucket[b];
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t total = 0, seen = 0, rank, middle;

	/* Not ->count: a snapshot of a growing histogram may be one ahead of its buckets. */
	for (int b = 0; b < HISTOGRAM_BUCKETS; b++)
		total += h->bucket[b];
	if (!total)
		return 0;
	rank = ceil(q * total);
	if (rank < 1)
		rank = 1;
	for (int b = 0; b < HISTOGRAM_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen < rank)
			continue;
		middle = abi_bucket_low(b) + abi_bucket_width(b) / 2;
		return middle < h->max_ns ? middle : h->max_ns;
	}
	return h->max_ns;
}
