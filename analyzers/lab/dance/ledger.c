/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dancers' own books: filled without allocation or locking, written out when all is over.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "analyzers/lab/dance/dance.h"

__thread struct ledger *ledger;

static const char *const cause_names[CAUSES] = {"sleep", "read",   "fault",   "condvar",
						"pipe",	 "socket", "eventfd", "futex"};

static void *reserve(size_t bytes)
{
	/* Populated: a page fault of ours inside the lock would be one that the script did not ask
	 * for. */
	void *p = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

bool ledger_reserve(struct ledger *l, size_t holds, size_t blocks)
{
	l->holds = reserve(holds * sizeof(*l->holds));
	l->blocks = reserve(blocks * sizeof(*l->blocks));
	l->max_holds = holds;
	l->max_blocks = blocks;
	return l->holds && l->blocks;
}

void ledger_add_hold(struct ledger *l)
{
	if (l->n_holds == l->max_holds)
		abort();
	l->holds[l->n_holds++] = l->hold;
}

void ledger_add_block(struct ledger *l, struct site site, enum cause cause, uint64_t begin_ns,
		      uint64_t end_ns)
{
	/* A condvar that wakes early waits again: rare, and more than the script could foresee. */
	if (l->n_blocks == l->max_blocks)
		abort();
	l->blocks[l->n_blocks++] = (struct block){site, cause, begin_ns, end_ns};
}

/* ---- totals ---- */

struct total {
	struct site site;
	uint64_t count, wait_ns, wait_max_ns, hold_ns, hold_max_ns;
};

struct totals {
	struct total *at;
	size_t n, room;
};

static struct total *total_of(struct totals *totals, struct site site)
{
	for (size_t i = 0; i < totals->n; i++)
		if (totals->at[i].site.file == site.file && totals->at[i].site.line == site.line)
			return &totals->at[i];
	if (totals->n == totals->room) {
		totals->room = totals->room ? 2 * totals->room : 16;
		totals->at = realloc(totals->at, totals->room * sizeof(*totals->at));
		if (!totals->at)
			abort();
	}
	totals->at[totals->n] = (struct total){.site = site};
	return &totals->at[totals->n++];
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void sum(struct totals *totals, const struct hold *h)
{
	struct total *t = total_of(totals, h->site);
	uint64_t wait = h->acquired_ns - h->ask_ns;
	uint64_t held = h->released_ns - h->acquired_ns - h->slept_ns;

	t->count++;
	t->wait_ns += wait;
	t->wait_max_ns = max(t->wait_max_ns, wait);
	t->hold_ns += held;
	t->hold_max_ns = max(t->hold_max_ns, held);
}

int ledger_write(const char *path, const struct ledger *ledgers, size_t n)
{
	struct totals totals = {0};
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	fputs("# hold\ttid\tthread\tsite\task\tacquired\treleased\tslept\n"
	      "# block\ttid\tthread\tsite\tcause\tbegin\tend\n"
	      "# total\tsite\tcount\twait\twait_max\thold\thold_max\n",
	      f);
	for (size_t i = 0; i < n; i++) {
		const struct ledger *l = &ledgers[i];

		for (size_t k = 0; k < l->n_holds; k++) {
			const struct hold *h = &l->holds[k];

			fprintf(f,
				"hold\t%d\t%s\t%s:%d\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
				"\t%" PRIu64 "\n",
				l->tid, l->thread, h->site.file, h->site.line, h->ask_ns,
				h->acquired_ns, h->released_ns, h->slept_ns);
			sum(&totals, h);
		}
		for (size_t k = 0; k < l->n_blocks; k++) {
			const struct block *b = &l->blocks[k];

			fprintf(f, "block\t%d\t%s\t%s:%d\t%s\t%" PRIu64 "\t%" PRIu64 "\n", l->tid,
				l->thread, b->site.file, b->site.line, cause_names[b->cause],
				b->begin_ns, b->end_ns);
		}
	}
	for (size_t i = 0; i < totals.n; i++) {
		const struct total *t = &totals.at[i];

		fprintf(f,
			"total\t%s:%d\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
			"\n",
			t->site.file, t->site.line, t->count, t->wait_ns, t->wait_max_ns,
			t->hold_ns, t->hold_max_ns);
	}
	free(totals.at);
	return fclose(f) ? -errno : 0;
}
