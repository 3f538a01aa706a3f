/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reports: from the model only. Every duration shown has the probes' bias taken off.
 */
#ifndef RENDER_H
#define RENDER_H

#include <stdio.h>

#include "analyzers/model/run.h"

struct render_options {
	unsigned top;	/* rows of each list; 0: all */
	bool each_vcpu; /* vCPUs apart instead of together */
	bool stacks;	/* of every hold that is shown, not only of the longest few */
	bool colour;
	unsigned columns; /* the terminal's: less is shown where more would wrap; 0: all */
};

void render_text(FILE *out, struct run *run, const struct render_options *options);
/* One JSON object; docs/report-json.md describes it. Free with g_free(). */
char *render_json(struct run *run, const struct render_options *options);

/* One self-contained page. Free with g_free(). */
char *render_html(struct run *run);

#endif
