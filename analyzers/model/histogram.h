/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Histograms of durations in nanoseconds, in the shape that the probes fill (probes/abi.h):
 * log-linear, 16 buckets an octave, so that a bucket's middle is at most 3.125% off any value in
 * it, from 1 ns to 137 s. Merging loses nothing.
 */
#ifndef MODEL_HISTOGRAM_H
#define MODEL_HISTOGRAM_H

#include <stdint.h>

#include "probes/abi.h"

#define HISTOGRAM_BUCKETS ABI_BUCKETS

struct histogram {
	uint64_t count;
	uint64_t sum_ns; /* exact */
	uint64_t max_ns; /* exact */
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/*
 * The value below which a share q (0..1) of the values lies: the middle of the bucket where it is
 * found, but never more than the maximum. 0 when empty.
 */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
