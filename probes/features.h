/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this kernel offers to the tracer, asked one thing at a time: so that it can be said which
 * one is missing. By trying each, not by the version: distributions bring features to older ones.
 */
#ifndef FEATURES_H
#define FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum feature {
	FEATURE_BTF,	 /* the kernel describes its own types */
	FEATURE_UPROBE,	 /* a uprobe on ourselves that counts right, of perf's or by uprobe_multi */
	FEATURE_PROGRAM, /* a program for it */
	FEATURE_COOKIE,	 /* which is told at which point it runs: 5.15 */
	FEATURE_SWITCH,	 /* a program at sched_switch, by BTF */
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
/* What a reader calls it: "attach cookies". */
const char *feature_name(enum feature feature);

/* What the kernel does when a uprobe stands on an instruction. */
enum feature_way {
	WAY_UNKNOWN,  /* no probe may go there, or this user may put none */
	WAY_EMULATED, /* does itself what it would have done */
	WAY_STEPPED,  /* runs a copy of it, and traps again behind it */
	WAY_CALLED,   /* has turned it into a call, and traps no more: long nops since 6.18 */
};

struct features_insn {
	const char *name;
	const uint8_t *code; /* at least 16 bytes from the instruction on */
	enum feature_way way;
	uint64_t hit_ns; /* of a hit without a program, median */
};

/*
 * Every kind of instruction that a probe may have to stand on, tried in a process of its own each:
 * about 0.5 s together. Not thread-safe; the list is ours, and each call measures anew.
 */
const struct features_insn *features_instructions(size_t *count);

#endif
