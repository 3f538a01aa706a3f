/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading LTTng traces: how long `bqlstat report` and `bqlstat timeline` take for a trace of ten
 * million events, against babeltrace2 printing it as text, by turns, and in how much memory.
 * Fails when the report is slower than half of babeltrace2's own speed.
 *
 *	ctf [MILLIONS [ROUNDS]]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/ctf/ctf.h"
#include "analyzers/lab/lab.h"
#include "analyzers/lab/machine.h"

enum { MAX_ROUNDS = 50, THREADS = 2, EVENTS_A_TURN = 3 };

struct cost {
	double wall_s, cpu_s;
	long peak_kb;
};

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

/* Its output goes nowhere. */
static struct cost run(const char *const *argv)
{
	uint64_t begin = lab_now_ns();
	struct rusage usage;
	struct cost cost = {0};
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status) {
		fprintf(stderr, "ctf: %s ended with status %d\n", argv[0], status);
		exit(3);
	}
	cost.wall_s = (lab_now_ns() - begin) / 1e9;
	cost.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
	cost.peak_kb = usage.ru_maxrss;
	return cost;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, n, sizeof(*values), by_value);
	return values[n / 2];
}

static void record(const char *folder, unsigned long millions)
{
	/* Some more: a buffer may be full for a moment, and what is discarded does not count. */
	g_autofree char *rounds =
		g_strdup_printf("%lu", millions * 1100000 / EVENTS_A_TURN / THREADS);
	g_autofree char *threads = g_strdup_printf("%d", THREADS);
	const char *argv[] = {lab_program("bqlstat"),
			      "lttng",
			      "capture",
			      "-q",
			      "--buffer",
			      "64",
			      "-o",
			      folder,
			      "--",
			      lab_program("tests/subjects/traced"),
			      rounds,
			      threads,
			      NULL};

	run(argv);
}

static uint64_t events_in(const char *folder)
{
	struct ctf_tally tally;
	struct store_error err;
	GPtrArray *runs;

	if (ctf_load(folder, &runs, &tally, &err)) {
		fprintf(stderr, "ctf: %s\n", err.text);
		exit(3);
	}
	g_ptr_array_unref(runs);
	return tally.events;
}

int main(int argc, char **argv)
{
	unsigned long millions = argc > 1 ? strtoul(argv[1], NULL, 10) : 10;
	int rounds = argc > 2 ? atoi(argv[2]) : 3;
	g_autofree char *folder = g_build_filename(lab_tmpdir(), "trace", NULL);
	g_autofree char *drawing = g_build_filename(lab_tmpdir(), "trace.pftrace.gz", NULL);
	const char *text[] = {"babeltrace2", folder, NULL};
	const char *report[] = {lab_program("bqlstat"), "report", folder, NULL};
	const char *timeline[] = {
		lab_program("bqlstat"), "timeline", "-f", "-o", drawing, folder, NULL};
	const char *const *const ways[] = {text, report, timeline};
	static const char *const names[] = {"babeltrace2, as text", "bqlstat report",
					    "bqlstat timeline"};
	static double wall[3][MAX_ROUNDS], cpu[3][MAX_ROUNDS];
	g_autoptr(GError) error = NULL;
	long peak_kb[3] = {0};
	uint64_t events;
	double ratio;

	if (!millions || rounds < 1 || rounds > MAX_ROUNDS) {
		fputs("usage: ctf [MILLIONS [ROUNDS]]\n", stderr);
		return 2;
	}
	if (!lab_lttng(&error)) {
		fprintf(stderr, "ctf: %s\n", error->message);
		return 3;
	}
	record(folder, millions);
	events = events_in(folder);
	printf("reading an LTTng trace of %.1f million events, median of %d, load %.1f\n\n",
	       events / 1e6, rounds, machine_load());
	for (int r = 0; r < rounds; r++)
		for (int w = 0; w < 3; w++) {
			struct cost c = run(ways[w]);

			wall[w][r] = c.wall_s;
			cpu[w][r] = c.cpu_s;
			peak_kb[w] = MAX(peak_kb[w], c.peak_kb);
		}
	printf("%-22s %8s %8s %12s %10s\n", "", "wall", "CPU", "events/CPU s", "peak");
	for (int w = 0; w < 3; w++)
		printf("%-22s %6.1f s %6.1f s %10.2f M %7.0f MB\n", names[w],
		       median(wall[w], rounds), median(cpu[w], rounds),
		       events / median(cpu[w], rounds) / 1e6, peak_kb[w] / 1024.0);
	ratio = median(cpu[0], rounds) / median(cpu[1], rounds);
	printf("\nbqlstat report: %.1f times babeltrace2's speed (at least 0.5)\n", ratio);
	return ratio < 0.5;
}
