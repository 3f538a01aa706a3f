/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Books, and those of the two sources that add up by themselves.
 */
#include "analyzers/cross/book.h"
#include "analyzers/model/words.h"

struct book *book_new(const char *name, uint64_t long_limit_ns)
{
	struct book *b = g_new0(struct book, 1);

	b->name = name;
	b->long_limit_ns = long_limit_ns;
	b->sites = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return b;
}

void book_free(struct book *b)
{
	if (!b)
		return;
	g_hash_table_unref(b->sites);
	g_free(b);
}

struct book_site *book_site(struct book *b, const char *file, unsigned line)
{
	g_autofree char *name = g_strdup_printf("%s:%u", words_file(file), line);
	struct book_site *site = g_hash_table_lookup(b->sites, name);

	if (site)
		return site;
	site = g_new0(struct book_site, 1);
	g_hash_table_insert(b->sites, g_steal_pointer(&name), site);
	return site;
}

const struct book_site *book_find(const struct book *b, const char *site)
{
	return g_hash_table_lookup(b->sites, site);
}

void book_acquired(struct book *b, struct book_site *site)
{
	site->acquired++;
	b->sum.acquired++;
}

void book_held(struct book *b, struct book_site *site, uint64_t ns)
{
	site->holds++;
	b->sum.holds++;
	if (ns < b->long_limit_ns)
		return;
	site->long_holds++;
	site->long_ns += ns;
	b->sum.long_holds++;
	b->sum.long_ns += ns;
}

/* Asked before the attach, and where is not known. */
static bool at_edge(const struct site *s)
{
	return !*s->file && !s->line;
}

struct book *book_from_run(const struct run *run, uint64_t long_limit_ns)
{
	struct book *b = book_new("uprobes", long_limit_ns);

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		const struct site *s = &g_array_index(run->sites, struct site, u->site);
		struct book_site *site;

		if (at_edge(s))
			continue;
		site = book_site(b, s->file, s->line);
		site->acquired += u->acquired;
		site->holds += u->hold.count;
		b->sum.acquired += u->acquired;
		b->sum.holds += u->hold.count;
	}
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		const struct site *s = &g_array_index(run->sites, struct site, h->site);
		uint64_t ns = run_hold_ns(run, h->hold_ns);
		struct book_site *site;

		if (h->unfinished || ns < long_limit_ns || at_edge(s))
			continue;
		site = book_site(b, s->file, s->line);
		site->long_holds++;
		site->long_ns += ns;
		b->sum.long_holds++;
		b->sum.long_ns += ns;
	}
	b->lost = run_lost(run);
	b->bias_ns = run->hold_bias_ns;
	return b;
}

static void add_usdt(void *opaque, const struct usdt_site *from)
{
	struct book *b = opaque;
	struct book_site *site = book_site(b, from->file, from->line);

	site->acquired += from->acquired;
	site->holds += from->holds;
	site->long_holds += from->long_holds;
	site->long_ns += from->long_ns;
	b->sum.acquired += from->acquired;
	b->sum.holds += from->holds;
	b->sum.long_holds += from->long_holds;
	b->sum.long_ns += from->long_ns;
}

struct book *book_from_usdt(struct usdt *usdt, uint64_t long_limit_ns)
{
	struct book *b = book_new("USDT", long_limit_ns);

	usdt_each(usdt, add_usdt, b);
	b->lost = usdt_lost(usdt);
	return b;
}
