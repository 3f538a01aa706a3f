/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures, intervals and verdicts as text: what every format of a comparison shares.
 */
#include <math.h>
#include <string.h>

#include "analyzers/render/figure.h"

/* What came or went and never held the lock that long is not worth a line. */
#define FELT_NS 10000

char *render_interval(struct stats_interval i)
{
	g_autofree char *estimate = figure_ratio(i.estimate), *low = figure_ratio(i.low);
	g_autofree char *high = figure_ratio(i.high);

	/* Of too few runs there is none. */
	if (isnan(i.low))
		return g_strdup(estimate);
	if (!isfinite(i.estimate) && !isfinite(i.low))
		return g_strdup("-");
	return g_strdup_printf("%s [%s, %s]", estimate, low, high);
}

char *render_comparison_verdict(const struct comparison *c)
{
	if (c->verdict != VERDICT_UNKNOWN)
		return g_strdup(verdict_name(c->verdict));
	if (c->more == MORE_TOO_MANY)
		return g_strdup("not enough data, nor would 1000 runs");
	return g_strdup_printf("not enough data, %u more would do", c->more);
}

bool render_worth_showing(const struct comparison *c)
{
	switch (c->verdict) {
	case VERDICT_WORSE:
	case VERDICT_BETTER:
		return true;
	case VERDICT_SAME:
		return false;
	case VERDICT_UNKNOWN:
		/* Twice as much, or half, is worth a look even unproved. */
		return c->a.n && c->b.n && (c->ratio.estimate >= 2 || c->ratio.estimate <= 0.5) &&
		       c->ranks.p < 0.1;
	case VERDICT_ONLY_A:
	case VERDICT_ONLY_B:
	case VERDICTS:
		break;
	}
	return g_str_has_suffix(c->name, "hold.max") &&
	       (c->a.n ? c->a.median : c->b.median) >= FELT_NS;
}

#define NAMED 6 /* figures by name, before "and 3 more" */

static unsigned count(const struct compared *to, bool headline, enum verdict verdict,
		      GString *names)
{
	unsigned n = 0;

	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (c->group == FIGURE_CONTROL || (c->group == FIGURE_HEADLINE) != headline ||
		    c->verdict != verdict)
			continue;
		n++;
		if (names && n <= NAMED)
			g_string_append_printf(names, "%s%s", names->len ? ", " : "", c->name);
	}
	if (names && n > NAMED)
		g_string_append_printf(names, " and %u more", n - NAMED);
	return n;
}

char *render_verdict(const struct compared *to)
{
	g_autoptr(GString) worse = g_string_new(NULL), better = g_string_new(NULL);
	unsigned n_worse = count(to, true, VERDICT_WORSE, worse);
	unsigned n_better = count(to, true, VERDICT_BETTER, better);
	unsigned n_unknown = count(to, true, VERDICT_UNKNOWN, NULL);
	const char *b = to->b->label, *a = to->a->label;

	if (n_worse && n_better)
		return g_strdup_printf("%s is worse than %s in %s; better in %s.", b, a, worse->str,
				       better->str);
	if (n_worse)
		return g_strdup_printf("%s is worse than %s in %s.", b, a, worse->str);
	if (n_better)
		return g_strdup_printf("%s is better than %s in %s; worse in nothing that could be "
				       "told.",
				       b, a, better->str);
	if (n_unknown)
		return g_strdup_printf("Not enough data to say whether %s is worse than %s.", b, a);
	return g_strdup_printf("%s is the same as %s, within %g%%.", b, a,
			       100 * to->options.margin);
}

char *render_verdict_rest(const struct compared *to)
{
	g_autoptr(GString) unknown = g_string_new(NULL), text = g_string_new(NULL);
	unsigned worse = count(to, false, VERDICT_WORSE, NULL);
	unsigned better = count(to, false, VERDICT_BETTER, NULL);

	if (count(to, true, VERDICT_UNKNOWN, unknown))
		g_string_append_printf(text, "Undecided: %s. ", unknown->str);
	g_string_append_printf(text,
			       "In detail, by site, phase, cause and device: %u worse, %u better.",
			       worse, better);
	return g_string_free(g_steal_pointer(&text), FALSE);
}
