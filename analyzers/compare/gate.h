/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gates: rules that a comparison must keep, as `bqlstat diff --fail-on` takes them.
 *
 *	RULES := RULE { "," RULE }
 *	RULE  := FIGURE [ "worse" ]             its verdict is "worse"
 *	       | FIGURE ">" "+" NUMBER "%"      B's median is that much above A's, and not by chance
 *	       | FIGURE ">" "+" NUMBER UNIT     the same, by an absolute amount
 *	       | FIGURE ">" NUMBER [UNIT | "%"] B's median is above that, whatever A's is
 *	       | "worse"                        any figure of the run as a whole is worse
 *	       | "failed" ">" NUMBER            more of B's migrations failed
 *
 * FIGURE may hold * and ?. UNIT: ns us ms s; none for a plain number. "Not by chance": the
 * corrected p is at most the comparison's alpha. A rule that is broken by the medians, but could be
 * so by chance, is undecided, and so is a limit on a figure of the whole run that B does not have.
 */
#ifndef GATE_H
#define GATE_H

#include "analyzers/compare/compare.h"

enum gate_state {
	GATE_KEPT,
	GATE_UNDECIDED,
	GATE_BROKEN,
	GATE_NO_FIGURE, /* nothing is called that: the rule guards nothing */
};

struct gate_result {
	char *rule;   /* as written */
	char *reason; /* one sentence; "" when kept */
	enum gate_state state;
};

/* NULL and one sentence in *wrong (g_free()) when the rules cannot be understood. */
GPtrArray *gate_parse(const char *rules, char **wrong);
/* An array of struct gate_result, one or more a rule. Free with g_array_unref(). */
GArray *gate_check(const GPtrArray *rules, const struct compared *compared);
enum gate_state gate_worst(const GArray *results);
const char *gate_state_name(enum gate_state state);

#endif
