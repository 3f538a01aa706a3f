/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this kernel offers to the tracer, asked one thing at a time: so that it can be said which
 * one is missing. By trying each, not by the version: distributions bring features to older ones.
 */
#ifndef FEATURES_H
#define FEATURES_H

#include <stdint.h>

enum feature {
	FEATURE_BTF,	      /* the kernel describes its own types */
	FEATURE_UPROBE,	      /* a uprobe through perf_event, on ourselves, that counts right */
	FEATURE_PROGRAM,      /* a program for it */
	FEATURE_COOKIE,	      /* which is told at which point it runs: 5.15 */
	FEATURE_SWITCH,	      /* a program at sched_switch, by BTF */
	FEATURE_REGISTERS,    /* which reads a task's registers: 5.15 */
	FEATURE_RING_BUFFER,  /* 5.8 */
	FEATURE_TASK_STORAGE, /* 5.11 */
	FEATURES
};

enum feature_state {
	FEATURE_YES,
	FEATURE_NO,
	FEATURE_UNSEEN, /* we are not allowed to ask */
};

struct features {
	enum feature_state has[FEATURES];
	/* Of one hit of a uprobe without a program, median; 0: not measured. */
	uint64_t emulated_ns, stepped_ns;
};

/* Takes about 50 ms. Leaves nothing behind. */
void features_probe(struct features *features);

#endif
