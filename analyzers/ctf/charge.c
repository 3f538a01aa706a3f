/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dividing waits among holders.
 */
#include "analyzers/ctf/charge.h"

#define HELD	  64	/* latest holds that are remembered */
#define UNSEEN_NS 10000 /* a wait this long counts even if nobody held */

struct held {
	unsigned usage;
	uint64_t begin_ns, end_ns;
};

struct charges {
	struct held held[HELD];
	uint64_t n;	  /* holds so far */
	GHashTable *sums; /* the pair of holder and victim -> struct charge */
};

struct charges *charges_new(void)
{
	struct charges *c = g_new0(struct charges, 1);

	c->sums = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	return c;
}

void charges_free(struct charges *c)
{
	if (!c)
		return;
	g_hash_table_unref(c->sums);
	g_free(c);
}

void charges_hold(struct charges *c, unsigned usage, uint64_t begin_ns, uint64_t end_ns)
{
	c->held[c->n++ % HELD] = (struct held){usage, begin_ns, end_ns};
}

static void add(struct charges *c, int holder, unsigned victim, uint64_t ns)
{
	gint64 pair = (gint64)((uint64_t)(unsigned)holder << 32 | victim);
	struct charge *sum = g_hash_table_lookup(c->sums, &pair);

	if (!sum) {
		sum = g_new0(struct charge, 1);
		sum->holder = holder;
		sum->victim = victim;
		g_hash_table_insert(c->sums, g_memdup2(&pair, sizeof(pair)), sum);
	}
	sum->count++;
	sum->ns += ns;
	sum->max_ns = MAX(sum->max_ns, ns);
}

void charges_wait(struct charges *c, unsigned victim, uint64_t now_ns, uint64_t wait_ns)
{
	uint64_t ask_ns = now_ns - wait_ns, left = wait_ns, known = MIN(c->n, HELD), i, ns;
	const struct held *h = c->n ? &c->held[(c->n - 1) % HELD] : NULL;

	if ((!h || h->end_ns <= ask_ns) && wait_ns < UNSEEN_NS)
		return;
	for (i = 1; i <= known; i++) {
		h = &c->held[(c->n - i) % HELD];
		if (h->end_ns <= ask_ns)
			break;
		ns = MIN(h->end_ns - MAX(h->begin_ns, ask_ns), left);
		left -= ns;
		add(c, (int)h->usage, victim, ns);
	}
	if (i > HELD && h->begin_ns > ask_ns) {
		ns = MIN(h->begin_ns - ask_ns, left);
		left -= ns;
		add(c, HOLDER_EARLIER, victim, ns);
	}
	add(c, HOLDER_NOBODY, victim, left);
}

void charges_put(const struct charges *c, struct run *run)
{
	GHashTableIter iter;
	void *sum;

	g_hash_table_iter_init(&iter, c->sums);
	while (g_hash_table_iter_next(&iter, NULL, &sum))
		g_array_append_vals(run->charges, sum, 1);
}
