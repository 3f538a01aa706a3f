/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the sums of a recording to counters that only grow: see figures.h.
 */
#include <stdio.h>
#include <string.h>

#include "analyzers/export/exposition.h"
#include "analyzers/export/figures.h"
#include "analyzers/export/monitor.h"
#include "analyzers/model/words.h"

#define EVENTS_KEPT	512
#define EXEMPLAR_OLD_NS 15000000000LL

const uint64_t figures_bounds_ns[FIGURES_BOUNDS] = {
	1000,	   5000,      10000,	  50000,      100000,	  250000,      500000,
	1000000,   2500000,   5000000,	  10000000,   25000000,	  50000000,    100000000,
	250000000, 500000000, 1000000000, 2500000000, 5000000000, 10000000000,
};

/* One record of the recording, as it was at the last update. */
struct seen {
	uint64_t acquired, holds_sum_ns, holds, waits_sum_ns, waits, runnable_ns;
	uint64_t hold[FIGURES_BUCKETS], wait[FIGURES_BUCKETS];
	GArray *blocking; /* struct blocking */
	struct figures_site *site;
	enum role role;
};

static void seen_free(gpointer opaque)
{
	struct seen *s = opaque;

	g_array_unref(s->blocking);
	g_free(s);
}

static char *site_labels(const char *name, enum role role)
{
	return exposition_labels("site", name, "role", role_name(role), NULL);
}

static void site_free(gpointer opaque)
{
	struct figures_site *s = opaque;

	g_free(s->labels);
	g_free(s);
}

struct figures *figures_new(void)
{
	struct figures *f = g_new0(struct figures, 1);

	f->sites = g_ptr_array_new_with_free_func(site_free);
	f->causes = g_array_new(FALSE, TRUE, sizeof(struct figures_cause));
	f->other_causes.name = "other";
	f->lost = g_array_new(FALSE, TRUE, sizeof(struct lost));
	f->incoming.devices = g_array_new(FALSE, TRUE, sizeof(struct figures_device));
	f->incoming.now.device = "";
	f->records = g_hash_table_new_full(NULL, NULL, NULL, seen_free);
	f->charges = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
	f->events = g_array_new(FALSE, TRUE, sizeof(struct figures_event));
	f->strings = g_string_chunk_new(1024);
	for (int role = 0; role < ROLES; role++) {
		f->others[role].name = "other";
		f->others[role].role = role;
		f->others[role].labels = site_labels("other", role);
	}
	return f;
}

void figures_free(struct figures *f)
{
	if (!f)
		return;
	g_ptr_array_unref(f->sites);
	g_array_unref(f->causes);
	g_array_unref(f->lost);
	g_array_unref(f->incoming.devices);
	g_array_unref(f->events);
	g_hash_table_unref(f->records);
	g_hash_table_unref(f->charges);
	g_string_chunk_free(f->strings);
	g_free(f->vm);
	g_free(f->uuid);
	g_free(f->version);
	g_free(f->generation);
	g_free(f->build_id);
	g_free(f->policy);
	g_free(f->refusal);
	g_free(f->labels);
	monitor_free(f->monitor);
	for (int role = 0; role < ROLES; role++)
		g_free(f->others[role].labels);
	g_free(f);
}

unsigned figures_bucket(uint64_t ns)
{
	unsigned i = 0;

	while (i < FIGURES_BOUNDS && ns > figures_bounds_ns[i])
		i++;
	return i;
}

void figures_histogram_add(struct figures_histogram *h, uint64_t ns)
{
	h->bucket[figures_bucket(ns)]++;
	h->count++;
	h->sum_ns += ns;
}

/*
 * Each fine bucket goes whole into the coarse one where its middle lies: none is split, so none is
 * counted twice, and a bound is met to within half a fine bucket, 3.1%.
 */
static void coarsen(const struct histogram *fine, uint64_t bias_ns, uint64_t out[FIGURES_BUCKETS])
{
	unsigned to = 0;

	memset(out, 0, FIGURES_BUCKETS * sizeof(*out));
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		uint64_t middle;

		if (!fine->bucket[b])
			continue;
		middle = abi_bucket_low(b) + abi_bucket_width(b) / 2;
		middle = middle > bias_ns ? middle - bias_ns : 0;
		while (to < FIGURES_BOUNDS && middle > figures_bounds_ns[to])
			to++;
		out[to] += fine->bucket[b];
	}
}

/* What came since the last time; a value that is read while it changes may seem to go back. */
static uint64_t growth(uint64_t now, uint64_t *before)
{
	uint64_t grown = now > *before ? now - *before : 0;

	*before = MAX(now, *before);
	return grown;
}

static uint64_t add_histogram(struct figures_histogram *h, const struct histogram *fine,
			      uint64_t bias_ns, uint64_t before[FIGURES_BUCKETS],
			      uint64_t *before_sum, uint64_t *before_count)
{
	uint64_t now[FIGURES_BUCKETS], sum, bias;

	coarsen(fine, bias_ns, now);
	for (int b = 0; b < FIGURES_BUCKETS; b++) {
		uint64_t grown = growth(now[b], &before[b]);

		h->bucket[b] += grown;
		h->count += grown;
	}
	sum = growth(fine->sum_ns, before_sum);
	bias = growth(fine->count, before_count) * bias_ns;
	sum = sum > bias ? sum - bias : 0;
	h->sum_ns += sum;
	return sum;
}

/* ---- sites ---- */

static struct figures_site *site_for(struct figures *f, const struct run *run,
				     const struct usage *u, enum role role)
{
	const struct site *s = &g_array_index(run->sites, struct site, u->site);
	struct figures_site *site;
	char name[300];

	if (!s->line && !*s->file)
		snprintf(name, sizeof(name), "unknown");
	else
		snprintf(name, sizeof(name), "%s:%u", *s->file ? words_file(s->file) : "?",
			 s->line);
	for (unsigned i = 0; i < f->sites->len; i++) {
		site = f->sites->pdata[i];
		if (site->role == role && !strcmp(site->name, name))
			return site;
	}
	site = g_new0(struct figures_site, 1);
	site->name = g_string_chunk_insert_const(f->strings, name);
	site->role = role;
	site->labels = site_labels(name, role);
	g_ptr_array_add(f->sites, site);
	return site;
}

/*
 * The heaviest sites get series of their own. A newcomer takes the place of the lightest when it is
 * twice as heavy; that one's series end, with what they had. From then on its growth goes to
 * "other", so every nanosecond is in exactly one series and none goes back.
 */
static void choose_top(struct figures *f)
{
	for (;;) {
		struct figures_site *heaviest = NULL, *lightest = NULL;
		unsigned top = 0;

		for (unsigned i = 0; i < f->sites->len; i++) {
			struct figures_site *s = f->sites->pdata[i];

			if (s->top) {
				top++;
				if (!lightest || s->weight_ns < lightest->weight_ns)
					lightest = s;
			} else if (!heaviest || s->weight_ns > heaviest->weight_ns) {
				heaviest = s;
			}
		}
		if (!heaviest)
			return;
		if (top >= FIGURES_SITES) {
			if (heaviest->weight_ns / 2 <= lightest->weight_ns)
				return;
			lightest->top = false;
		}
		heaviest->top = true;
	}
}

/* ---- causes ---- */

static struct figures_cause *cause_for(struct figures *f, int cause)
{
	const char *name = cause_name(cause);
	struct figures_cause new = {.name = name};

	for (unsigned i = 0; i < f->causes->len; i++) {
		struct figures_cause *c = &g_array_index(f->causes, struct figures_cause, i);

		if (!strcmp(c->name, name))
			return c;
	}
	if (cause == CAUSE_OTHERS || f->causes->len == FIGURES_CAUSES)
		return &f->other_causes;
	g_array_append_val(f->causes, new);
	return &g_array_index(f->causes, struct figures_cause, f->causes->len - 1);
}

static void add_blocking(struct figures *f, struct seen *seen, const struct usage *u)
{
	for (unsigned i = 0; i < u->blocking->len; i++) {
		const struct blocking *b = &g_array_index(u->blocking, struct blocking, i);
		struct figures_cause *c = cause_for(f, b->cause);
		struct blocking *before = NULL, none = {.cause = b->cause};

		for (unsigned j = 0; j < seen->blocking->len && !before; j++)
			if (g_array_index(seen->blocking, struct blocking, j).cause == b->cause)
				before = &g_array_index(seen->blocking, struct blocking, j);
		if (!before) {
			g_array_append_val(seen->blocking, none);
			before = &g_array_index(seen->blocking, struct blocking,
						seen->blocking->len - 1);
		}
		c->count += growth(b->count, &before->count);
		c->ns += growth(b->ns, &before->ns);
	}
}

/* ---- an update ---- */

static struct seen *seen_for(struct figures *f, const struct run *run, const struct usage *u)
{
	const struct thread *thread = &g_array_index(run->threads, struct thread, u->thread);
	struct seen *seen = g_hash_table_lookup(f->records, GUINT_TO_POINTER(u->record));

	if (!seen) {
		seen = g_new0(struct seen, 1);
		seen->blocking = g_array_new(FALSE, TRUE, sizeof(struct blocking));
		g_hash_table_insert(f->records, GUINT_TO_POINTER(u->record), seen);
	}
	if (!seen->site || seen->role != thread->role) {
		seen->role = thread->role;
		seen->site = site_for(f, run, u, thread->role);
	}
	return seen;
}

static void add_usage(struct figures *f, const struct run *run, const struct usage *u)
{
	struct seen *seen = seen_for(f, run, u);
	struct figures_role *role = &f->roles[seen->role];
	uint64_t acquired, held, waited;
	struct figures_site *into;

	acquired = growth(u->acquired, &seen->acquired);
	held = add_histogram(&role->hold, &u->hold, run->hold_bias_ns, seen->hold,
			     &seen->holds_sum_ns, &seen->holds);
	waited = add_histogram(&role->wait, &u->wait, run->wait_bias_ns, seen->wait,
			       &seen->waits_sum_ns, &seen->waits);
	into = seen->site->top ? seen->site : &f->others[seen->role];
	into->acquired += acquired;
	into->hold_ns += held;
	into->wait_ns += waited;
	f->acquired += acquired;
	f->finished_ns += held;
	f->runnable_ns += growth(u->runnable_ns, &seen->runnable_ns);
	add_blocking(f, seen, u);
}

/* First of all, so that a new site's first growth is its own while there is room. */
static void weigh_sites(struct figures *f, const struct run *run)
{
	for (unsigned i = 0; i < f->sites->len; i++)
		((struct figures_site *)f->sites->pdata[i])->weight_ns = 0;
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		seen_for(f, run, u)->site->weight_ns += u->hold.sum_ns;
	}
	choose_top(f);
}

static uint64_t *charge_seen(struct figures *f, uint32_t holder, uint32_t victim)
{
	const gint64 key = (gint64)holder << 32 | victim;
	uint64_t *seen = g_hash_table_lookup(f->charges, &key);

	if (seen)
		return seen;
	seen = g_new0(uint64_t, 1);
	g_hash_table_insert(f->charges, g_memdup2(&key, sizeof(key)), seen);
	return seen;
}

static void take_charges(struct figures *f, const struct run *run)
{
	for (unsigned i = 0; i < run->charges->len; i++) {
		const struct charge *c = &g_array_index(run->charges, struct charge, i);
		const struct usage *victim = &g_array_index(run->usages, struct usage, c->victim);
		const struct usage *holder =
			c->holder >= 0 ? &g_array_index(run->usages, struct usage, c->holder)
				       : NULL;
		unsigned who = c->holder == HOLDER_EARLIER ? FIGURES_EARLIER : FIGURES_NOBODY;
		/* The recorder's numbers are small: these two are nobody's. */
		uint32_t record = holder ? holder->record : UINT32_MAX - who;

		if (holder)
			who = seen_for(f, run, holder)->role;
		f->charged_ns[seen_for(f, run, victim)->role][who] +=
			growth(c->ns, charge_seen(f, record, victim->record));
	}
}

static void note_longest(struct figures *f, uint64_t now_ns, uint64_t hold_ns)
{
	uint64_t slot = now_ns / FIGURES_SLOT_NS;
	typeof(f->window[0]) *w = &f->window[slot % FIGURES_SLOTS];

	if (w->slot != slot) {
		w->slot = slot;
		w->longest_ns = 0;
	}
	w->longest_ns = MAX(w->longest_ns, hold_ns);
	f->longest_ns = MAX(f->longest_ns, hold_ns);
}

/*
 * The longest hold since the last update: the highest bucket that has grown says it to 3%, also for
 * holds that are too short to be reported one by one; one that was reported says it exactly.
 */
static uint64_t longest_new(struct figures *f, const struct run *run)
{
	uint64_t fine[HISTOGRAM_BUCKETS] = {};
	uint64_t longest = 0, exact = 0;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
			fine[b] += u->hold.bucket[b];
		if (u->hold.max_ns > f->longest_ns + run->hold_bias_ns)
			exact = MAX(exact, u->hold.max_ns);
	}
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		if (fine[b] > f->fine[b])
			longest = abi_bucket_low(b) + abi_bucket_width(b) / 2;
	memcpy(f->fine, fine, sizeof(fine));
	for (unsigned i = 0; i < f->events->len; i++)
		exact = MAX(exact, g_array_index(f->events, struct figures_event, i).hold_ns);
	return run_hold_ns(run, exact ? exact : longest);
}

static void take_events(struct figures *f, const struct run *run)
{
	for (unsigned i = 0; i < f->events->len; i++) {
		const struct figures_event *e = &g_array_index(f->events, struct figures_event, i);
		struct seen *seen = g_hash_table_lookup(f->records, GUINT_TO_POINTER(e->record));
		uint64_t hold_ns = run_hold_ns(run, e->hold_ns);
		struct figures_exemplar *x;

		if (!seen)
			continue;
		x = &f->roles[seen->role].exemplar[figures_bucket(hold_ns)];
		if (hold_ns < x->hold_ns && e->at_unix_ns - x->at_unix_ns < EXEMPLAR_OLD_NS)
			continue;
		x->hold_ns = hold_ns;
		x->at_unix_ns = e->at_unix_ns;
		g_strlcpy(x->site, seen->site->name, sizeof(x->site));
		g_strlcpy(x->phase, e->phase, sizeof(x->phase));
	}
	g_array_set_size(f->events, 0);
}

static void take_unfinished(struct figures *f, const struct run *run)
{
	f->current_ns = 0;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->unfinished)
			f->current_ns = run_hold_ns(run, h->hold_ns);
	}
}

static void take_points(struct figures *f, const struct run *run)
{
	f->points_attached = f->points_refused = f->points_unhit = 0;
	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		f->points_attached += p->attached;
		f->points_refused += !p->attached;
		f->points_unhit += p->attached && !p->hit;
	}
}

static void take_lost(struct figures *f, const struct run *run)
{
	for (unsigned i = 0; i < run->lost->len; i++) {
		const struct lost *l = &g_array_index(run->lost, struct lost, i);
		struct lost *mine = NULL;

		/* What the collector thins out of its lists is not listed here anyway. */
		if (g_str_has_suffix(l->what, "_thinned"))
			continue;
		for (unsigned j = 0; j < f->lost->len && !mine; j++)
			if (!strcmp(g_array_index(f->lost, struct lost, j).what, l->what))
				mine = &g_array_index(f->lost, struct lost, j);
		if (mine)
			mine->count = MAX(mine->count, l->count);
		else
			g_array_append_vals(f->lost, l, 1);
	}
}

void figures_update(struct figures *f, const struct run *run, uint64_t now_ns)
{
	uint64_t longest = longest_new(f, run);

	weigh_sites(f, run);
	for (unsigned i = 0; i < run->usages->len; i++)
		add_usage(f, run, &g_array_index(run->usages, struct usage, i));
	take_charges(f, run);
	take_events(f, run);
	take_unfinished(f, run);
	take_points(f, run);
	take_lost(f, run);
	/* A hold that has just ended may be in neither sum for a moment. */
	f->held_ns = MAX(f->held_ns, f->finished_ns + f->current_ns);
	note_longest(f, now_ns, MAX(longest, f->current_ns));
}

void figures_hold(struct figures *f, unsigned record, uint64_t hold_ns, int64_t at_unix_ns,
		  const char *phase)
{
	struct figures_event e = {.record = record, .hold_ns = hold_ns, .at_unix_ns = at_unix_ns};
	struct figures_event *shortest = NULL;

	g_strlcpy(e.phase, phase, sizeof(e.phase));
	if (f->events->len < EVENTS_KEPT) {
		g_array_append_val(f->events, e);
		return;
	}
	for (unsigned i = 0; i < f->events->len; i++) {
		struct figures_event *have = &g_array_index(f->events, struct figures_event, i);

		if (!shortest || have->hold_ns < shortest->hold_ns)
			shortest = have;
	}
	if (hold_ns > shortest->hold_ns)
		*shortest = e;
}

uint64_t figures_longest(const struct figures *f, uint64_t window_ns, uint64_t now_ns)
{
	uint64_t last = now_ns / FIGURES_SLOT_NS, slots = window_ns / FIGURES_SLOT_NS;
	uint64_t longest = f->current_ns;

	for (int i = 0; i < FIGURES_SLOTS; i++)
		if (f->window[i].slot + slots >= last)
			longest = MAX(longest, f->window[i].longest_ns);
	return longest;
}
