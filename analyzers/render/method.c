/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a run was measured, in words.
 */
#include <string.h>

#include "analyzers/model/words.h"
#include "analyzers/render/method.h"

/* For printf's arguments: a buffer that lives until the end of the full expression's block. */
#define D(ns) words_duration((char[WORDS_DURATION]){}, ns)

/* "START", or "COND_WOKE (1 of 2)" when only some of a kind's points were never reached. */
static void add_unreached(GString *list, const struct run *run, const char *kind)
{
	unsigned all = 0, unreached = 0;

	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		if (!p->attached || strcmp(p->kind, kind))
			continue;
		all++;
		unreached += !p->hit;
	}
	g_string_append_printf(list, "%s%s", list->len ? ", " : "", kind);
	if (unreached < all)
		g_string_append_printf(list, " (%u of %u)", unreached, all);
}

static bool first_unreached(const struct run *run, unsigned index)
{
	const struct point *point = &g_array_index(run->points, struct point, index);

	if (!point->attached || point->hit)
		return false;
	for (unsigned i = 0; i < index; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		if (p->attached && !p->hit && !strcmp(p->kind, point->kind))
			return false;
	}
	return true;
}

char *render_points(const struct run *run)
{
	g_autoptr(GString) text = g_string_new(NULL), never = g_string_new(NULL);
	unsigned attached = 0, stepped = 0;

	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		attached += p->attached;
		stepped += p->attached && !p->emulated;
		if (first_unreached(run, i))
			add_unreached(never, run, p->kind);
	}
	g_string_append_printf(text, "%u attached", attached);
	if (stepped)
		g_string_append_printf(text, ", %u of them single-stepped (about 10 us a hit)",
				       stepped);
	if (never->len)
		g_string_append_printf(text, "; never reached: %s", never->str);
	return g_string_free(g_steal_pointer(&text), FALSE);
}

char *render_probe_cost(const struct run *run)
{
	if (!strcmp(run->source, "lttng"))
		return g_strdup("an LTTng trace; what its tracepoints take is part of the times "
				"below");
	if (!run->calibrated)
		return g_strdup("not measured: holds and waits are about 0.6 us too long");
	return g_strdup_printf(
		"%s a lock and unlock here; taken off below: %s of every hold, %s of "
		"every wait",
		D(run->pair_ns), D(run->hold_bias_ns), D(run->wait_bias_ns));
}

char *render_coverage(const struct run *run)
{
	uint64_t covered = run_covered_ns(run);

	if (!run->thinnings->len)
		return NULL;
	return g_strdup_printf("above the budget: the lock was recorded for %s, %.1f%% of the "
			       "time; sums and shares are of that",
			       D(covered),
			       run->duration_ns ? 100.0 * covered / run->duration_ns : 0);
}

static const char *level_meaning(const char *level)
{
	if (!strcmp(level, "holds"))
		return "holds only: their call sites and waits are not known";
	if (!strcmp(level, "bursts"))
		return "in bursts: a hold longer than one is not seen";
	if (!strcmp(level, "away"))
		return "hardly ever";
	return "everything again";
}

char *render_thinning(const struct run *run, const struct thinning *t)
{
	return g_strdup_printf("from %s on %s (all of it would cost %.1f%% of a core)",
			       D(t->at_ns > run->begin_ns ? t->at_ns - run->begin_ns : 0),
			       level_meaning(t->level), 100 * t->cores);
}
