/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who made whom wait, for the eye: by call site and kind of thread.
 */
#include "analyzers/model/run.h"

static const struct usage *usage_at(const struct run *run, unsigned index)
{
	return &g_array_index(run->usages, struct usage, index);
}

static const struct thread *thread_at(const struct run *run, unsigned usage)
{
	return &g_array_index(run->threads, struct thread, usage_at(run, usage)->thread);
}

static struct victim_row row_of(struct run *run, const struct charge *c, bool each_vcpu)
{
	const struct thread *victim = thread_at(run, c->victim);
	struct victim_row row = {
		.holder_site = c->holder,
		.holder_who = "",
		.holder_role = ROLE_OTHER,
		.victim_site = usage_at(run, c->victim)->site,
		.victim_who = run_who(run, victim, each_vcpu),
		.victim_role = victim->role,
	};

	if (c->holder >= 0) {
		const struct thread *holder = thread_at(run, c->holder);

		row.holder_site = usage_at(run, c->holder)->site;
		row.holder_who = run_who(run, holder, each_vcpu);
		row.holder_role = holder->role;
	}
	return row;
}

/* The same string is the same pointer: run_who() and run_string() see to that. */
static bool same(const struct victim_row *a, const struct victim_row *b)
{
	return a->holder_site == b->holder_site && a->holder_who == b->holder_who &&
	       a->victim_site == b->victim_site && a->victim_who == b->victim_who;
}

static struct victim_row *find(GArray *rows, const struct victim_row *row)
{
	for (unsigned i = 0; i < rows->len; i++)
		if (same(&g_array_index(rows, struct victim_row, i), row))
			return &g_array_index(rows, struct victim_row, i);
	g_array_append_vals(rows, row, 1);
	return &g_array_index(rows, struct victim_row, rows->len - 1);
}

static gint by_time(gconstpointer a, gconstpointer b)
{
	const struct victim_row *x = a, *y = b;

	return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : 0;
}

GArray *run_victims(struct run *run, bool each_vcpu)
{
	GArray *rows = g_array_new(FALSE, TRUE, sizeof(struct victim_row));

	for (unsigned i = 0; i < run->charges->len; i++) {
		const struct charge *c = &g_array_index(run->charges, struct charge, i);
		struct victim_row new = row_of(run, c, each_vcpu), *row = find(rows, &new);
		/* What the probes add to a wait is nobody's share. */
		uint64_t bias = c->holder == HOLDER_NOBODY ? c->count * run->wait_bias_ns : 0;

		row->count += c->count;
		row->ns += c->ns > bias ? c->ns - bias : 0;
		row->max_ns = MAX(row->max_ns, c->max_ns);
	}
	g_array_sort(rows, by_time);
	return rows;
}
