/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live view on a terminal. It keeps what the user chose; what is shown is handed to it.
 */
#ifndef TOP_SCREEN_H
#define TOP_SCREEN_H

#include "analyzers/top/live.h"
#include "probes/tracer.h"

struct screen;

/* A QEMU to be shown. Everything is the caller's. */
struct screen_qemu {
	const char *name; /* the VM's, or the program's */
	pid_t pid;
	const char *phase;
	bool gone;
	struct tracer_coverage coverage;
	struct run *run;
	struct live *live;
};

/* What the user begins with; `filter` may be NULL. NULL and a sentence: this terminal cannot. */
struct screen *screen_new(enum live_sort sort, bool each_vcpu, const char *filter,
			  const char **why);
/* Gives the terminal back as it was. */
void screen_free(struct screen *s);

/* `n` may be 0. `interval_ns`: between two looks. `trouble`: a sentence for the foot, or NULL. */
void screen_show(struct screen *s, struct screen_qemu *qemus, unsigned n, uint64_t interval_ns,
		 const char *trouble);
/* Take the keys that were pressed. False: the user wants to leave. */
bool screen_keys(struct screen *s, unsigned n);
/* The terminal has another size. */
void screen_resized(struct screen *s);
/* Ctrl-Z: give the terminal back, sleep until continued, take it again. */
void screen_suspend(struct screen *s);
bool screen_paused(const struct screen *s);
/* The user looks into one call site. */
bool screen_in_detail(const struct screen *s);
bool screen_each_vcpu(const struct screen *s);

/* The cost of tracing in words: "0.4% of a core", "in bursts: all of it would cost 36% of a core"
 */
char *screen_cost(const struct tracer_coverage *coverage);

#endif
