/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often a real 20% is found with ten runs of each: holds of lockdance that last 20% longer, and
 * a QEMU behind a proxy that stalls a multifd channel 20% longer, while the destination holds the
 * lock. Every trial records its runs afresh, A B B A. Fails below 90%.
 *
 *	regression [DANCE-TRIALS [QEMU-TRIALS]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/lab/lab.h"
#include "analyzers/input/sides.h"

/*
 * The stall is as long as in the stall table: what else the machine does shifts the moment at which
 * the destination begins to wait for it, by tens to hundreds of milliseconds.
 */
enum { RUNS = 10, HOLD_US = 400, STALL_MS = 3000, LIMIT_MS = 900000 };

static bool run(const char *const *argv, GError **error)
{
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, error);
	g_autofree char *said = NULL;
	int status;

	if (!p || !lab_process_wait(p, LIMIT_MS, &status, error))
		return false;
	said = lab_process_stderr(p);
	if (status)
		g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "%s", g_strstrip(said));
	return !status;
}

static bool record_dance(const char *file, bool of_b, GError **error)
{
	g_autofree char *script = g_strdup_printf("thread a; repeat 100; lock savevm.c:2; hold %d; "
						  "unlock; idle 100; end",
						  of_b ? HOLD_US * 6 / 5 : HOLD_US);
	const char *argv[] = {lab_program("bqlstat"),	"record", "-q",	  "-l",
			      of_b ? "b" : "a",		"-o",	  file,	  "--",
			      lab_program("lockdance"), "-e",	  script, NULL};

	return run(argv, error);
}

static bool record_dances(const char *file, GError **error)
{
	for (unsigned i = 0; i < 2 * RUNS; i++)
		if (!record_dance(file, i % 4 == 1 || i % 4 == 2, error))
			return false;
	return true;
}

static bool record_qemus(const char *file, GError **error)
{
	g_autofree char *a = g_strdup_printf("a: stock fault.stall_ms=%d", STALL_MS);
	g_autofree char *b = g_strdup_printf("b: stock fault.stall_ms=%d", STALL_MS * 6 / 5);
	g_autofree char *n = g_strdup_printf("%d", RUNS);
	const char *argv[] = {lab_program("bqlstat"), "bench", "-q", "--a", a,	  "--b", b, "-s",
			      "multifd-stall",	      "-n",    n,    "-o",  file, NULL};

	return run(argv, error);
}

/* Was it called worse? */
static bool found(const char *file, const char *figure, double *ratio, double *p)
{
	struct compare_options options = COMPARE_DEFAULTS;
	struct group *a, *b;
	struct compared *compared;
	const struct comparison *c;
	bool worse = false;

	*ratio = *p = NAN;
	if (sides_load(file, NULL, "a", "b", &a, &b))
		return false;
	compared = compare(a, b, &options);
	c = compared_find(compared, figure);
	if (c) {
		worse = c->verdict == VERDICT_WORSE;
		*ratio = c->ratio.estimate;
		*p = c->p_corrected;
	}
	compared_free(compared);
	group_free(a);
	group_free(b);
	return worse;
}

static bool trials(const char *what, unsigned n, bool (*record)(const char *, GError **),
		   const char *figure)
{
	g_autofree char *file = g_build_filename(lab_tmpdir(), "trial.bql", NULL);
	unsigned hits = 0;

	for (unsigned i = 0; i < n; i++) {
		g_autoptr(GError) error = NULL;
		double ratio, p;
		bool hit;

		remove(file);
		if (!record(file, &error)) {
			printf("%-24s not measured: %s\n", what, error->message);
			return true;
		}
		hit = found(file, figure, &ratio, &p);
		hits += hit;
		printf("%-24s trial %2u: x %.2f, corrected p %.2g%s\n", what, i + 1, ratio, p,
		       hit ? "" : ", missed");
		fflush(stdout);
	}
	if (!n)
		return true;
	printf("%-24s 20%% more with n = %d found in %u of %u trials\n", what, RUNS, hits, n);
	return hits * 10 >= n * 9;
}

int main(int argc, char **argv)
{
	unsigned dances = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
	unsigned qemus = argc > 2 ? (unsigned)atoi(argv[2]) : 10;
	bool ok = trials("lockdance", dances, record_dances,
			 "site[migration/savevm.c:2 migration].hold.p50");

	ok &= trials("QEMU behind a proxy", qemus, record_qemus, "hold.max");
	return !ok;
}
