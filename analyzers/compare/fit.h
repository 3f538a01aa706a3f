/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether two groups of runs fit together, and what a reader of their comparison must be told.
 */
#ifndef FIT_H
#define FIT_H

#include "analyzers/compare/compare.h"

/*
 * Why the two cannot be compared, one sentence, g_free(); NULL when they can. `force` lets pass
 * what only makes a comparison doubtful (another scenario, another machine): a note then says so.
 */
char *compare_refusal(const struct group *a, const struct group *b, bool force);
/* char *, most important first. Free with g_ptr_array_unref(). */
GPtrArray *compare_notes(const struct compared *compared);

/* The scenario that a run says it played, or NULL. The run's string. */
const char *run_scenario(const struct run *run, double *version);
/* "7.2.22 (Debian ...)", or "7.2.22 and 10.0.2" when the runs differ. g_free(). */
char *group_qemu(const struct group *group);
/* "2 x AMD EPYC, Linux 6.18.5". g_free(). */
char *group_machine(const struct group *group);

#endif
