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

struct actor {
	struct book_site *site; /* of what it holds, NULL: nothing */
	uint64_t since_ns;
	bool seen; /* it has had an event in the window */
};

struct follower {
	struct book *book;
	const struct book_window *window;
	GHashTable *actors; /* tid -> struct actor */
	GHashTable *conds;  /* for the log, which does not say it */
	uint64_t bias_ns;   /* of every hold */
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
	uint64_t ns = at_ns - a->since_ns;

	if (a->site)
		book_held(f->book, a->site, ns > f->bias_ns ? ns - f->bias_ns : 0);
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

static gint by_us(gconstpointer a, gconstpointer b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * What a line costs who writes it. The line about having the lock bears the time before it is
 * written, so its writing is part of the hold: the bias of this source. Asking and having are two
 * lines of one thread, mostly without a wait in between.
 */
static uint64_t line_cost_ns(FILE *in, unsigned long long bql)
{
	g_autoptr(GHashTable) asked = g_hash_table_new(NULL, NULL);
	g_autoptr(GArray) costs = g_array_new(FALSE, FALSE, sizeof(int64_t));
	char text[512];
	struct log_line l;

	while (fgets(text, sizeof(text), in)) {
		gpointer key, at;
		int64_t us;

		if (!parse(text, &l) || l.mutex != bql)
			continue;
		key = GUINT_TO_POINTER(l.tid);
		at = g_hash_table_lookup(asked, key);
		us = l.at_us - GPOINTER_TO_SIZE(at);
		if (l.what == LOG_TAKEN && at)
			g_array_append_val(costs, us);
		g_hash_table_insert(asked, key, GSIZE_TO_POINTER(l.what ? 0 : l.at_us));
	}
	rewind(in);
	g_array_sort(costs, by_us);
	return costs->len ? 1000 * g_array_index(costs, int64_t, costs->len / 2) : 0;
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
			   "this QEMU's trace log says nothing of its lock: it was built without "
			   "the log backend");
		if (in)
			fclose(in);
		return -ENOTSUP;
	}
	rewind(in);
	f.bias_ns = line_cost_ns(in, bql);
	*book = f.book = book_new("QEMU's log", long_limit_ns);
	f.book->bias_ns = f.bias_ns;
	f.actors = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	while (fgets(text, sizeof(text), in))
		if (parse(text, &l) && l.mutex == bql)
			on_line(&f, &l);
	g_hash_table_unref(f.actors);
	fclose(in);
	return 0;
}
