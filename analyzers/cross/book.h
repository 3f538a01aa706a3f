/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside `bqlstat crosscheck`: what one source says about one window of time, in a form in which
 * sources compare: acquisitions and long holds by call site.
 *
 * The window begins and ends with the process stopped, so all sources see the same of it but for
 * what threads were in the middle of. One rule for that: a thread's first event, when it is the end
 * of something (of a hold, or of a sleep), belongs to the time before.
 */
#ifndef CROSS_BOOK_H
#define CROSS_BOOK_H

#include "analyzers/model/run.h"
#include "analyzers/store/store.h"
#include "probes/usdt.h"

struct book_site {
	uint64_t acquired, holds; /* holds: finished ones */
	uint64_t long_holds, long_ns;
};

struct book {
	const char *name;  /* of the source; static */
	GHashTable *sites; /* "file:line" -> struct book_site */
	struct book_site sum;
	uint64_t long_limit_ns; /* what counts as long */
	uint64_t bias_ns;	/* taken off each hold */
	uint64_t lost;
};

/* Times are CLOCK_MONOTONIC. */
struct book_window {
	unsigned pid;
	uint64_t begin_ns, end_ns;
	int64_t epoch_ns; /* what to add for the calendar's time */
};

struct book *book_new(const char *name, uint64_t long_limit_ns);
void book_free(struct book *book);
/* The site of that name, of the book's; added when it is new. `file` without leading "../". */
struct book_site *book_site(struct book *book, const char *file, unsigned line);
/* NULL: the source has no such site. */
const struct book_site *book_find(const struct book *book, const char *site);

void book_acquired(struct book *book, struct book_site *site);
void book_held(struct book *book, struct book_site *site, uint64_t ns);

/*
 * Each source's. A run must have been recorded with the book's limit as its threshold. 0, or a
 * negative errno and a sentence.
 */
struct book *book_from_run(const struct run *run, uint64_t long_limit_ns);
struct book *book_from_usdt(struct usdt *usdt, uint64_t long_limit_ns);
int book_from_trace(const char *path, const struct book_window *window, uint64_t long_limit_ns,
		    struct book **book, struct store_error *err);
/* QEMU's log with the events qemu_mutex_lock, _locked and _unlock; `conds`: sites of sleeps. */
int book_from_log(const char *path, const struct book_window *window, uint64_t long_limit_ns,
		  GHashTable *conds, struct book **book, struct store_error *err);

#endif
