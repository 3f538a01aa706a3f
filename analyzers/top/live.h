/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happened since the last look at a recording that goes on: differences between a run as it is
 * and as it was. Durations have the probes' bias taken off.
 */
#ifndef TOP_LIVE_H
#define TOP_LIVE_H

#include "analyzers/model/run.h"

#define LIVE_HISTORY 240

/* A call site as used by threads of one kind, in the last interval. */
struct live_row {
	const char *site; /* "util/main-loop.c:318" */
	const char *who;
	uint64_t acquired;
	uint64_t hold_ns, hold_p99_ns, hold_max_ns; /* the longest within 3% */
	uint64_t waits, wait_ns, wait_max_ns;
	uint64_t blocked_ns;
	/* Since the recording began. */
	uint64_t all_acquired, all_hold_ns, all_hold_max_ns;
};

/* One interval of a QEMU. */
struct live_point {
	double held;	     /* share of the time recorded */
	uint64_t longest_ns; /* hold that ended in it, or goes on */
};

struct live {
	GPtrArray *rows; /* struct live_row; those that did anything, in no order */
	uint64_t interval_ns, covered_ns;
	uint64_t acquired;
	double held;
	uint64_t longest_ns;
	/* Who holds it still, and for how long by now; NULL: nobody. No row tells of it yet. */
	char *holding_site, *holding_who;
	uint64_t holding_ns;
	uint64_t lost;				 /* since the recording began */
	struct live_point history[LIVE_HISTORY]; /* oldest first */
	unsigned points;
	bool each_vcpu;
	GHashTable *sums; /* private: by site and who, as of the last look */
	uint64_t last_ns, last_covered_ns;
};

struct live *live_new(void);
void live_free(struct live *live);
/* `now_ns`: CLOCK_MONOTONIC, when the run was brought up to date. Rows of before are gone. */
void live_look(struct live *live, struct run *run, bool each_vcpu, uint64_t now_ns);

enum live_sort { LIVE_BY_HELD, LIVE_BY_LONGEST, LIVE_BY_COUNT, LIVE_BY_WAIT, LIVE_SORTS };
const char *live_sort_name(enum live_sort sort);
/* False: no such key. */
bool live_sort_from_name(const char *name, enum live_sort *sort);
/* Greatest first; rows that did the same keep to the alphabet. */
void live_sort(struct live *live, enum live_sort sort);
/* Whether a row is to be shown: part of its site or thread, in any case; "" matches all. */
bool live_matches(const struct live_row *row, const char *filter);

#endif
