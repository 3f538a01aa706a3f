/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparisons shown: figures as text, and each format as a whole.
 */
#ifndef RENDER_FIGURE_H
#define RENDER_FIGURE_H

#include <stdio.h>

#include "analyzers/compare/compare.h"
#include "analyzers/compare/gate.h"

struct render_diff_options {
	bool all;    /* every detail; else those that changed, or might have */
	bool colour; /* text only */
	/* Results of gates, or NULL. Elements are struct gate_result. */
	const GArray *gates;
};

/* "1.21 [1.15, 1.30]", "- [...]" when it is not finite. g_free(). */
char *render_interval(struct stats_interval interval);
/* One sentence: is B worse than A? g_free(). */
char *render_verdict(const struct compared *compared);
/* What is undecided, and how many details changed. g_free(). */
char *render_verdict_rest(const struct compared *compared);
/* "worse", "not enough data, 12 more would do". g_free(). */
char *render_comparison_verdict(const struct comparison *comparison);
/* Shown unless all are asked for: what changed, or is not known not to have. */
bool render_worth_showing(const struct comparison *comparison);

void render_diff_text(FILE *out, const struct compared *compared,
		      const struct render_diff_options *options);
void render_diff_markdown(FILE *out, const struct compared *compared,
			  const struct render_diff_options *options);
/* One JSON object; docs/diff-json.md describes it. Free with g_free(). */
char *render_diff_json(const struct compared *compared, const struct render_diff_options *options);
/* One self-contained page. Free with g_free(). */
char *render_diff_html(const struct compared *compared, const struct render_diff_options *options);

#endif
