/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a run was measured, in words: what a reader must know in order to believe it, whatever the
 * report looks like. Strings are the caller's: g_free().
 */
#ifndef METHOD_H
#define METHOD_H

#include "analyzers/model/run.h"

/* "18 attached; never reached: START": of a run that has points. */
char *render_points(const struct run *run);
/* What watching costs, and what of that was taken off the figures. */
char *render_probe_cost(const struct run *run);
/* Of what part of the time the figures are; NULL: of all. */
char *render_coverage(const struct run *run);
/* From when on how much was recorded, and why. */
char *render_thinning(const struct run *run, const struct thinning *thinning);

#endif
