/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stall table: how long the destination's monitor is silent while the stream stalls for three
 * seconds, by QEMU, place and policy. The policies take turns within each round (A B C, A B C), the
 * idle control runs in the same window as each. About half an hour for both QEMUs.
 *
 *	stall [--qemu VERSION] [--rounds N]
 */
#include <stdio.h>
#include <stdlib.h>

#include "analyzers/lab/stall.h"
#include "analyzers/lab/machine.h"

enum { MAX_ROUNDS = 100 };

static int rounds = 5;

static const struct {
	const char *label;
	enum lab_copy copy;
	enum lab_stall_place place;
} places[] = {
	{"mid-RAM", LAB_COPY_PRE, LAB_STALL_RAM},
	{"mid-device-state", LAB_COPY_PRE, LAB_STALL_DEVICE},
	{"one multifd channel", LAB_COPY_PRE, LAB_STALL_MULTIFD},
	{"postcopy, package", LAB_COPY_POST, LAB_STALL_DEVICE},
	{"postcopy, RAM", LAB_COPY_POST, LAB_STALL_LATE},
	{"preempt, package", LAB_COPY_PREEMPT, LAB_STALL_DEVICE},
	{"preempt, RAM", LAB_COPY_PREEMPT, LAB_STALL_LATE},
};
static const struct {
	const char *label;
	const char *policy;
} policies[] = {{"stock", NULL}, {"wait", "wait"}, {"section", "section"}, {"io-free", "io-free"}};

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

static void row(const char *version, size_t place)
{
	static double p99[G_N_ELEMENTS(policies)][MAX_ROUNDS],
		max[G_N_ELEMENTS(policies)][MAX_ROUNDS];
	static double idle[G_N_ELEMENTS(policies)][MAX_ROUNDS];
	int n[G_N_ELEMENTS(policies)] = {0};

	for (int r = 0; r < rounds; r++)
		for (size_t p = 0; p < G_N_ELEMENTS(policies); p++) {
			const struct lab_stall_options options = {.version = version,
								  .policy = policies[p].policy,
								  .copy = places[place].copy,
								  .place = places[place].place};
			g_autoptr(GError) error = NULL;
			struct lab_stall_result result;

			if (!lab_stall_run(&options, &result, &error)) {
				printf("%-5s %-20s %-8s run lost: %s\n", version,
				       places[place].label, policies[p].label, error->message);
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

		printf("%-5s %-20s %-8s %d  %-24s %-24s %-18s %4.1f\n", version,
		       places[place].label, policies[p].label, n[p], p99_text, max_text, idle_text,
		       machine_load());
	}
	fflush(stdout);
}

static void measure(const char *version)
{
	const char *why;

	if (!lab_qemu_path(version, &why)) {
		printf("%-5s not measured: %s\n", version, why);
		return;
	}
	for (size_t place = 0; place < G_N_ELEMENTS(places); place++)
		row(version, place);
}

int main(int argc, char **argv)
{
	g_autofree char *version = NULL;
	const GOptionEntry entries[] = {
		{"qemu", 'q', 0, G_OPTION_ARG_STRING, &version, "only this one", "VERSION"},
		{"rounds", 'n', 0, G_OPTION_ARG_INT, &rounds, "runs of each kind (5)", "N"},
		{0},
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_autoptr(GError) error = NULL;

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || rounds < 1 ||
	    rounds > MAX_ROUNDS) {
		fprintf(stderr, "stall: %s; see --help\n",
			error ? error->message : "wrong arguments");
		return 2;
	}
	printf("monitor latency of the destination while its stream stalls for 3 s, ms: "
	       "median (least-most) of n runs\n%-5s %-20s %-8s %s  %-24s %-24s %-18s %s\n",
	       "QEMU", "stall", "policy", "n", "p99", "max", "idle QEMU's max", "load");
	if (version) {
		measure(version);
	} else {
		measure("7.2");
		measure("10.0");
	}
	return 0;
}
