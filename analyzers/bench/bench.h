/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside `bqlstat bench`: what is compared, and one recorded migration of it.
 */
#ifndef BENCH_H
#define BENCH_H

#include "analyzers/lab/scenario.h"
#include "analyzers/model/run.h"

/* One thing that is compared: a label, and how its destination is started. */
struct bench_side {
	char *label;
	char *policy;		       /* NULL: without loadvm */
	char *qemu, *source_qemu;      /* NULL: the system's; the same as qemu */
	char **args;		       /* more of QEMU's options */
	struct lab_scenario *scenario; /* with this side's own settings */
	uint32_t scenario_version;     /* without them: what all sides have in common */
	uint32_t recipe;	       /* tells it from what the label meant at another time */
};

/*
 * "LABEL: WORD...", or only WORD..., which then is the label, too. NULL and a sentence in *wrong,
 * g_free(). Free with bench_side_free().
 */
struct bench_side *bench_side_parse(const char *text, const struct lab_scenario *scenario,
				    char **wrong);
void bench_side_free(struct bench_side *side);

/* Which run of the plan this is. */
struct bench_place {
	unsigned pair;	   /* from 1; 0: a warm-up */
	unsigned position; /* from 1, of all that are recorded */
};

/*
 * One migration, recorded into a fresh file, in a child process, so that it can be ended at any
 * moment with everything that it started: kill the child. Its end is the run's: exit 0 and the run
 * is in `file`, else one sentence is in `said`.
 */
pid_t bench_start(const struct bench_side *side, struct bench_place place, const char *threshold,
		  const char *file, const char *said);

#endif
