/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stall table: how long the destination's monitor is silent while the stream stalls for three
 * seconds, by QEMU, place and policy. The policies take turns within each round (A B C, A B C), the
 * idle control runs in the same window as each.
 */
#include <stdio.h>
#include <stdlib.h>

#include "analyzers/lab/stall.h"

enum { ROUNDS = 5 };

static const char *const versions[] = { "7.2", "10.0" };
static const struct {
	const char *label;
	const char *policy;
} policies[] = {
	{ "stock", NULL }, { "wait", "wait" }, { "section", "section" }, { "io-free", "io-free" }
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* "median (least-most)" */
static char *spread(double *values, int n)
{
	qsort(values, n, sizeof(*values), by_value);
	return g_strdup_printf("%.1f (%.1f-%.1f)", values[n / 2], values[0], values[n - 1]);
}

static void row(const char *version, enum lab_stall_place place)
{
	double p99[G_N_ELEMENTS(policies)][ROUNDS], max[G_N_ELEMENTS(policies)][ROUNDS];
	double idle[G_N_ELEMENTS(policies)][ROUNDS];
	int n[G_N_ELEMENTS(policies)] = { 0 };

	for (int r = 0; r < ROUNDS; r++)
		for (size_t p = 0; p < G_N_ELEMENTS(policies); p++) {
			const struct lab_stall_options options = { .version = version,
								   .policy = policies[p].policy,
								   .place = place };
			g_autoptr(GError) error = NULL;
			struct lab_stall_result result;

			if (!lab_stall_run(&options, &result, &error)) {
				printf("%-5s %-20s %-8s run lost: %s\n", version,
				       lab_stall_place_name(place), policies[p].label,
				       error->message);
				continue;
			}
			p99[p][n[p]] = result.monitor.p99_ns / 1e6;
			max[p][n[p]] = result.monitor.max_ns / 1e6;
			idle[p][n[p]++] = result.idle.max_ns / 1e6;
			lab_migration_clear(&result.migration);
		}
	for (size_t p = 0; p < G_N_ELEMENTS(policies); p++) {
		if (!n[p])
			continue;
		g_autofree char *p99_text = spread(p99[p], n[p]);
		g_autofree char *max_text = spread(max[p], n[p]);
		g_autofree char *idle_text = spread(idle[p], n[p]);

		printf("%-5s %-20s %-8s %d  %-26s %-26s %s\n", version, lab_stall_place_name(place),
		       policies[p].label, n[p], p99_text, max_text, idle_text);
	}
	fflush(stdout);
}

int main(void)
{
	printf("monitor latency of the destination while its stream stalls for 3 s, ms: "
	       "median (least-most) of n runs\n%-5s %-20s %-8s %s  %-26s %-26s %s\n",
	       "QEMU", "stall", "policy", "n", "p99", "max", "idle QEMU's max");
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		const char *why;

		if (!lab_qemu_path(versions[v], &why)) {
			printf("%-5s not measured: %s\n", versions[v], why);
			continue;
		}
		for (int place = LAB_STALL_RAM; place < LAB_STALL_PLACES; place++)
			row(versions[v], place);
	}
	return 0;
}
