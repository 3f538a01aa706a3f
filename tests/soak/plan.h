/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One migration of the soak: everything about it follows from seed, version and number, so that any
 * one can be repeated alone.
 */
#ifndef SOAK_PLAN_H
#define SOAK_PLAN_H

#include "analyzers/lab/journey.h"

enum soak_fault {
	SOAK_NO_FAULT,
	SOAK_STALL,	/* the stream stands still for a while, then goes on */
	SOAK_RESET,	/* both sides get RST */
	SOAK_FIN,	/* both sides see an orderly end */
	SOAK_HALF_OPEN, /* silence for ever */
	SOAK_QUIT,	/* the destination is told to end */
	SOAK_SIGTERM,
	SOAK_KILL_SOURCE,
	SOAK_CANCEL,
	SOAK_YANK,
	SOAK_FAULTS
};

struct soak_plan {
	const char *version;
	struct lab_journey journey;
	struct lab_pair_options options; /* without rules */
	bool flood;			 /* a client of the destination's monitor asks all along */
	enum soak_fault fault;
	bool has_rule; /* the fault, or what it waits for, is a place in the stream */
	struct lab_rule rule;
	unsigned delay_ms; /* without a rule: when */
};

/* Strings belong to the table of choices. */
void soak_plan(struct soak_plan *plan, const char *version, guint32 seed, unsigned number);

/* One line; g_free(). */
char *soak_plan_text(const struct soak_plan *plan);

/* What plans have in common that end in the same ways: the key of what stock was seen to do. */
char *soak_plan_kind(const struct soak_plan *plan);

#endif
