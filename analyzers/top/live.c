/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Differences between two states of a run. The longest hold of an interval is read off the
 * difference of the histograms: the run itself keeps only the longest of all.
 */
#include <string.h>

#include "analyzers/model/words.h"
#include "analyzers/top/live.h"

/* All that a site's threads of one kind have done so far. */
struct sum {
	char *site, *who;
	uint64_t acquired, blocked_ns;
	struct histogram hold, wait;
};

static void sum_free(gpointer data)
{
	struct sum *s = data;

	g_free(s->site);
	g_free(s->who);
	g_free(s);
}

struct live *live_new(void)
{
	struct live *live = g_new0(struct live, 1);

	live->rows = g_ptr_array_new_with_free_func(g_free);
	live->sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, sum_free);
	return live;
}

void live_free(struct live *live)
{
	if (!live)
		return;
	g_ptr_array_unref(live->rows);
	g_hash_table_unref(live->sums);
	g_free(live->holding_site);
	g_free(live->holding_who);
	g_free(live);
}

static struct sum *sum_of(GHashTable *sums, const char *site, const char *who)
{
	g_autofree char *key = g_strdup_printf("%s\t%s", site, who);
	struct sum *s = g_hash_table_lookup(sums, key);

	if (s)
		return s;
	s = g_new0(struct sum, 1);
	s->site = g_strdup(site);
	s->who = g_strdup(who);
	g_hash_table_insert(sums, g_steal_pointer(&key), s);
	return s;
}

static GHashTable *sum_up(struct run *run, bool each_vcpu)
{
	GHashTable *sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, sum_free);

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		const struct thread *t = &g_array_index(run->threads, struct thread, u->thread);
		g_autofree char *site = words_site(run, u->site);
		struct sum *s = sum_of(sums, site, run_who(run, t, each_vcpu));

		s->acquired += u->acquired;
		histogram_merge(&s->hold, &u->hold);
		histogram_merge(&s->wait, &u->wait);
		for (unsigned j = 0; j < u->blocking->len; j++)
			s->blocked_ns += g_array_index(u->blocking, struct blocking, j).ns;
	}
	return sums;
}

static uint64_t less(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

/* What is in `now` and was not in `before`; its maximum is the middle of its highest bucket. */
static void subtract(struct histogram *out, const struct histogram *now,
		     const struct histogram *before)
{
	memset(out, 0, sizeof(*out));
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		out->bucket[b] = less(now->bucket[b], before->bucket[b]);
		out->count += out->bucket[b];
		if (out->bucket[b])
			out->max_ns = abi_bucket_low(b) + abi_bucket_width(b) / 2;
	}
	out->sum_ns = less(now->sum_ns, before->sum_ns);
	/* It is known when it is the longest of all. */
	if (now->max_ns > before->max_ns || out->max_ns > now->max_ns)
		out->max_ns = now->max_ns;
}

static uint64_t without_bias(const struct histogram *h, uint64_t bias_ns)
{
	return less(h->sum_ns, h->count * bias_ns);
}

static void add_row(struct live *live, const struct run *run, const struct sum *now,
		    const struct sum *before)
{
	static const struct sum nothing;
	struct histogram hold, wait;
	struct live_row *r;

	if (!before)
		before = &nothing;
	if (now->acquired <= before->acquired && now->hold.count <= before->hold.count)
		return;
	subtract(&hold, &now->hold, &before->hold);
	subtract(&wait, &now->wait, &before->wait);
	r = g_new0(struct live_row, 1);
	r->site = now->site;
	r->who = now->who;
	r->acquired = less(now->acquired, before->acquired);
	r->hold_ns = without_bias(&hold, run->hold_bias_ns);
	r->hold_p99_ns = run_hold_ns(run, histogram_quantile(&hold, 0.99));
	r->hold_max_ns = run_hold_ns(run, hold.max_ns);
	r->waits = wait.count;
	r->wait_ns = without_bias(&wait, run->wait_bias_ns);
	r->wait_max_ns = run_wait_ns(run, wait.max_ns);
	r->blocked_ns = less(now->blocked_ns, before->blocked_ns);
	r->all_acquired = now->acquired;
	r->all_hold_ns = without_bias(&now->hold, run->hold_bias_ns);
	r->all_hold_max_ns = run_hold_ns(run, now->hold.max_ns);
	live->acquired += r->acquired;
	live->longest_ns = MAX(live->longest_ns, r->hold_max_ns);
	g_ptr_array_add(live->rows, r);
}

/* Part of the interval in which somebody held the lock and holds it still. */
static uint64_t still_held(struct live *live, struct run *run, uint64_t now_ns)
{
	uint64_t held = 0;

	g_clear_pointer(&live->holding_site, g_free);
	g_clear_pointer(&live->holding_who, g_free);
	live->holding_ns = 0;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (!h->unfinished)
			continue;
		if (live->holding_ns)
			continue; /* there is one holder at most */
		live->holding_ns = h->hold_ns;
		live->holding_site = words_site(run, h->site);
		live->holding_who = g_strdup(
			run_who(run, &g_array_index(run->threads, struct thread, h->thread), true));
		live->longest_ns = MAX(live->longest_ns, h->hold_ns);
		held = less(now_ns, MAX(h->begin_ns, live->last_ns));
	}
	return held;
}

static void add_point(struct live *live)
{
	const struct live_point point = {live->held, live->longest_ns};

	if (live->points == LIVE_HISTORY)
		memmove(live->history, live->history + 1,
			(LIVE_HISTORY - 1) * sizeof(*live->history));
	else
		live->points++;
	live->history[live->points - 1] = point;
}

void live_look(struct live *live, struct run *run, bool each_vcpu, uint64_t now_ns)
{
	GHashTable *sums = sum_up(run, each_vcpu);
	uint64_t covered = run_covered_ns(run), held = 0;
	GHashTableIter iter;
	gpointer key, value;

	if (!live->last_ns)
		live->last_ns = run->begin_ns;
	g_ptr_array_set_size(live->rows, 0);
	live->acquired = live->longest_ns = 0;
	g_hash_table_iter_init(&iter, sums);
	/* Others than before are told apart: the next look has something to compare with. */
	while (each_vcpu == live->each_vcpu && g_hash_table_iter_next(&iter, &key, &value))
		add_row(live, run, value, g_hash_table_lookup(live->sums, key));
	g_hash_table_unref(live->sums);
	live->sums = sums;
	live->interval_ns = less(now_ns, live->last_ns);
	live->covered_ns = less(covered, live->last_covered_ns);
	for (unsigned i = 0; i < live->rows->len; i++)
		held += ((struct live_row *)live->rows->pdata[i])->hold_ns;
	held += still_held(live, run, now_ns);
	/* A hold counts when it ends: one that began earlier may be longer than the interval. */
	live->held = live->covered_ns ? MIN(1.0, (double)held / live->covered_ns) : 0;
	live->lost = run_lost(run);
	live->each_vcpu = each_vcpu;
	live->last_ns = now_ns;
	live->last_covered_ns = covered;
	add_point(live);
}

/* ---- order ---- */

static const char *const sort_names[LIVE_SORTS] = {
	[LIVE_BY_HELD] = "held",
	[LIVE_BY_LONGEST] = "longest",
	[LIVE_BY_COUNT] = "count",
	[LIVE_BY_WAIT] = "wait",
};

const char *live_sort_name(enum live_sort sort)
{
	return sort_names[sort];
}

bool live_sort_from_name(const char *name, enum live_sort *sort)
{
	for (int i = 0; i < LIVE_SORTS; i++) {
		if (strcmp(name, sort_names[i]))
			continue;
		*sort = i;
		return true;
	}
	return false;
}

static uint64_t weight(const struct live_row *r, enum live_sort sort)
{
	switch (sort) {
	case LIVE_BY_LONGEST:
		return r->hold_max_ns;
	case LIVE_BY_COUNT:
		return r->acquired;
	case LIVE_BY_WAIT:
		return r->wait_ns;
	default:
		return r->hold_ns;
	}
}

static gint compare(gconstpointer a, gconstpointer b, gpointer sort)
{
	const struct live_row *x = *(struct live_row *const *)a, *y = *(struct live_row *const *)b;
	uint64_t wx = weight(x, GPOINTER_TO_INT(sort)), wy = weight(y, GPOINTER_TO_INT(sort));
	int order;

	if (wx != wy)
		return wx < wy ? 1 : -1;
	order = strcmp(x->site, y->site);
	return order ? order : strcmp(x->who, y->who);
}

void live_sort(struct live *live, enum live_sort sort)
{
	g_ptr_array_sort_with_data(live->rows, compare, GINT_TO_POINTER(sort));
}

bool live_matches(const struct live_row *row, const char *filter)
{
	return !*filter || strcasestr(row->site, filter) || strcasestr(row->who, filter);
}
