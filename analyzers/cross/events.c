/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The books of the sources that tell event by event: an LTTng trace, and QEMU's own trace log.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/cross/book.h"
#include "analyzers/ctf/events.h"

#define ENOUGH 10 /* holds of a site, to tell how short they are */

struct actor {
	struct book_site *site; /* of what it holds, NULL: nothing */
	uint64_t since_ns;
	bool seen; /* it has had an event in the window */
};

/* One hold as the log has it. */
struct log_hold {
	struct book_site *site;
	uint64_t ns;
};

struct follower {
	struct book *book;
	const struct book_window *window;
	GHashTable *actors; /* tid -> struct actor */
	GHashTable *conds;  /* for the log, which does not say it */
	GArray *holds;	    /* struct log_hold, booked when all are known; NULL: at once */
};

static struct actor *actor_of(struct follower *f, unsigned tid)
{
	struct actor *a = g_hash_table_lookup(f->actors, GUINT_TO_POINTER(tid));

	if (a)
		return a;
	a = g_new0(struct actor, 1);
	g_hash_table_insert(f->actors, GUINT_TO_POINTER(tid), a);
	return a;
}

static void on_acquired(struct follower *f, struct actor *a, const char *file, unsigned line,
			uint64_t at_ns)
{
	a->site = book_site(f->book, file, line);
	a->since_ns = at_ns;
	book_acquired(f->book, a->site);
}

static void on_released(struct follower *f, struct actor *a, uint64_t at_ns)
{
	const struct log_hold hold = {a->site, at_ns - a->since_ns};

	if (a->site && f->holds)
		g_array_append_val(f->holds, hold);
	else if (a->site)
		book_held(f->book, a->site, hold.ns);
	a->site = NULL;
}

/* ---- LTTng ---- */

static void on_event(void *opaque, const struct ctf_event *e)
{
	struct follower *f = opaque;
	struct actor *a;
	bool first;

	if (e->pid != f->window->pid || e->at_ns < f->window->begin_ns ||
	    e->at_ns > f->window->end_ns)
		return;
	if (e->id != TRACE_ID_lock_ask && e->id != TRACE_ID_lock_acquired &&
	    e->id != TRACE_ID_lock_released)
		return;
	a = actor_of(f, e->tid);
	first = !a->seen;
	a->seen = true;
	if (e->id == TRACE_ID_lock_released)
		on_released(f, a, e->at_ns);
	else if (e->id == TRACE_ID_lock_acquired && !first)
		on_acquired(f, a, e->field[0].s, e->field[1].u, e->at_ns);
}

static void on_discarded(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t count)
{
	struct follower *f = opaque;

	if (end_ns >= f->window->begin_ns && begin_ns <= f->window->end_ns)
		f->book->lost += count ? count : 1;
}

int book_from_trace(const char *path, const struct book_window *window, uint64_t long_limit_ns,
		    struct book **book, struct store_error *err)
{
	struct follower f = {.window = window};
	const struct ctf_reader reader = {on_event, on_discarded, &f};
	struct ctf_tally tally;
	int ret;

	*book = f.book = book_new("LTTng", long_limit_ns);
	f.actors = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	ret = ctf_read_events(path, &reader, &tally, err);
	if (!ret && *tally.damage) {
		g_snprintf(err->text, sizeof(err->text), "%s: %s", path, tally.damage);
		ret = -EIO;
	}
	g_hash_table_unref(f.actors);
	if (ret)
		g_clear_pointer(book, book_free);
	return ret;
}

/* ---- QEMU's log ---- */

/* "1234@1700000000.123456:qemu_mutex_locked taken mutex 0x55d0 (../../util/main-loop.c:318)" */
struct log_line {
	unsigned tid;
	int64_t at_us; /* on the calendar */
	enum { LOG_ASK, LOG_TAKEN, LOG_RELEASED } what;
	unsigned long long mutex;
	char file[128];
	unsigned line;
};

static bool parse(const char *text, struct log_line *l)
{
	static const char *const events[] = {
		[LOG_ASK] = "qemu_mutex_lock ",
		[LOG_TAKEN] = "qemu_mutex_locked ",
		[LOG_RELEASED] = "qemu_mutex_unlock ",
	};
	const char *at = strstr(text, ":qemu_mutex_"), *mutex, *open, *colon;
	long long seconds, us;
	unsigned what;

	if (!at || sscanf(text, "%u@%lld.%lld:", &l->tid, &seconds, &us) != 3)
		return false;
	for (what = 0; what < G_N_ELEMENTS(events); what++)
		if (g_str_has_prefix(at + 1, events[what]))
			break;
	mutex = strstr(at, "0x");
	open = mutex ? strchr(mutex, '(') : NULL;
	colon = open ? strrchr(open, ':') : NULL;
	if (what == G_N_ELEMENTS(events) || !colon)
		return false;
	l->what = what;
	l->at_us = seconds * 1000000 + us;
	l->mutex = strtoull(mutex, NULL, 16);
	g_strlcpy(l->file, open + 1, MIN(sizeof(l->file), (size_t)(colon - open)));
	l->line = strtoul(colon + 1, NULL, 10);
	return true;
}

/* The one that the main loop takes. */
static unsigned long long find_bql(FILE *in)
{
	char text[512];
	struct log_line l;

	while (fgets(text, sizeof(text), in))
		if (strstr(text, "util/main-loop.c:") && parse(text, &l) && l.what == LOG_TAKEN)
			return l.mutex;
	return 0;
}

static gint by_site_and_length(gconstpointer a, gconstpointer b)
{
	const struct log_hold *x = a, *y = b;

	if (x->site != y->site)
		return x->site < y->site ? -1 : 1;
	return x->ns < y->ns ? -1 : x->ns > y->ns;
}

/*
 * The line about having the lock bears the time before it is written, so its writing is part of the
 * hold: the bias of this source. It is what the shortest critical sections read: of the site that
 * has them, the mean of the shorter half, for the log's clock is a coarse one.
 */
static uint64_t shortest_sections(GArray *holds)
{
	uint64_t least = UINT64_MAX;
	unsigned n;

	g_array_sort(holds, by_site_and_length);
	for (unsigned i = 0; i < holds->len; i += n) {
		const struct log_hold *h = &g_array_index(holds, struct log_hold, i);
		uint64_t sum = 0;

		for (n = 1; i + n < holds->len && h[n].site == h->site; n++)
			;
		for (unsigned k = 0; k < n / 2; k++)
			sum += h[k].ns;
		if (n >= ENOUGH)
			least = MIN(least, sum / (n / 2));
	}
	return least == UINT64_MAX ? 0 : least;
}

/* Asleep when the window began; it woke up. */
static bool is_waking(const struct follower *f, const struct log_line *l)
{
	g_autofree char *site = NULL;
	const char *file = l->file;

	while (g_str_has_prefix(file, "../"))
		file += 3;
	site = g_strdup_printf("%s:%u", file, l->line);
	return g_hash_table_contains(f->conds, site);
}

static void on_line(struct follower *f, const struct log_line *l)
{
	uint64_t at_ns = l->at_us * 1000 - f->window->epoch_ns;
	struct actor *a;
	bool first;

	/* The log's clock has microseconds: the process was stopped for longer at both ends. */
	if (at_ns + 1000 < f->window->begin_ns || at_ns > f->window->end_ns)
		return;
	a = actor_of(f, l->tid);
	first = !a->seen;
	a->seen = true;
	if (l->what == LOG_RELEASED)
		on_released(f, a, at_ns);
	else if (l->what == LOG_TAKEN && !(first && is_waking(f, l)))
		on_acquired(f, a, l->file, l->line, at_ns);
}

int book_from_log(const char *path, const struct book_window *window, uint64_t long_limit_ns,
		  GHashTable *conds, struct book **book, struct store_error *err)
{
	struct follower f = {.window = window, .conds = conds};
	FILE *in = fopen(path, "re");
	unsigned long long bql = 0;
	char text[512];
	struct log_line l;

	*book = NULL;
	if (in)
		bql = find_bql(in);
	if (!bql) {
		g_snprintf(err->text, sizeof(err->text),
			   "this QEMU's log does not say which thread took the lock when (10.1 and "
			   "later), or knows no trace events");
		if (in)
			fclose(in);
		return -ENOTSUP;
	}
	rewind(in);
	*book = f.book = book_new("QEMU's log", long_limit_ns);
	f.holds = g_array_new(FALSE, FALSE, sizeof(struct log_hold));
	f.actors = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	while (fgets(text, sizeof(text), in))
		if (parse(text, &l) && l.mutex == bql)
			on_line(&f, &l);
	f.book->bias_ns = shortest_sections(f.holds);
	for (unsigned i = 0; i < f.holds->len; i++) {
		const struct log_hold *h = &g_array_index(f.holds, struct log_hold, i);

		book_held(f.book, h->site, h->ns > f.book->bias_ns ? h->ns - f.book->bias_ns : 0);
	}
	g_array_unref(f.holds);
	g_hash_table_unref(f.actors);
	fclose(in);
	return 0;
}
