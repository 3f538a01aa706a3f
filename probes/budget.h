/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overhead budget: what tracing costs a QEMU is counted, and when it is too much less is
 * traced. Level by level:
 *
 *  TRACER_FULL    everything
 *  TRACER_HOLDS   not who asks, and since when: holds have no call site, waits are not known
 *  TRACER_BURSTS  everything, but only for some tens of milliseconds now and then
 *  TRACER_AWAY    the same, but so rarely that it is only a look whether the load has fallen
 *
 * Phases of a migration are followed at every level. Going back wants the load to stay well below
 * the budget for a while.
 */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum tracer_level { TRACER_FULL, TRACER_HOLDS, TRACER_BURSTS, TRACER_AWAY };

/* One QEMU's, in the hands of budget.c. Zero: full, no time passed. */
struct budget {
	enum tracer_level level;
	bool in;	  /* the lock's probes are in */
	double credit_ns; /* what may still be spent; grows with time */
	double cores;	  /* what full tracing costs, or would, as last measured */
	unsigned calm;	  /* looks in a row that found it well below the budget */
	uint32_t stretches;
	uint64_t looked_ns, pairs, others;
	uint64_t due_ns;	       /* when probes go in or out next; 0: never */
	uint64_t put_in_ns;	       /* when they began to go in */
	uint64_t in_ns;		       /* since when all are */
	uint64_t covered_ns, waits_ns; /* of the time before in_ns */
};

struct tracer;

/* Recording begins. */
void budget_begin(struct tracer *tracer, int slot);
/* Look at the cost, and do what is due. */
void budget_step(struct tracer *tracer, int slot);
/* Every probe is gone, though nobody here took one out: put in what goes in. */
void budget_again(struct tracer *tracer, int slot);
/* Recording ends. */
void budget_end(struct tracer *tracer, int slot);

#endif
