/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the exporter knows of one QEMU, ready to be written down: plain data, no input or output.
 *
 * Everything that is a counter here only grows while the QEMU is traced. The model's sums need not:
 * a thread may turn out to be a vCPU, a site may be given a series of its own, the bias of a probe
 * is taken off. So each update adds what has come since the last one to where it belongs now.
 */
#ifndef EXPORT_FIGURES_H
#define EXPORT_FIGURES_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <glib.h>

#include "analyzers/model/run.h"
#include "probes/budget.h"

/* Upper bounds, ns; what is above the last is in one more bucket. */
#define FIGURES_BOUNDS	20
#define FIGURES_BUCKETS (FIGURES_BOUNDS + 1)
extern const uint64_t figures_bounds_ns[FIGURES_BOUNDS];

#define FIGURES_SITES	16    /* of one QEMU with series of their own; the heaviest */
#define FIGURES_CAUSES	16    /* likewise, then "other" */
#define FIGURES_NOBODY	ROLES /* as HOLDER_NOBODY, HOLDER_EARLIER */
#define FIGURES_EARLIER (ROLES + 1)
#define FIGURES_HOLDERS (ROLES + 2)
#define FIGURES_DEVICES 40 /* likewise, the slowest */

/* Sliding windows of the longest hold: a ring of slots, the longest window is all of them. */
#define FIGURES_SLOT_NS 5000000000ULL
#define FIGURES_SLOTS	61 /* 5 minutes, and the one being filled */

struct figures_histogram {
	uint64_t bucket[FIGURES_BUCKETS]; /* not cumulative */
	uint64_t count, sum_ns;
};

/* OpenMetrics allows an exemplar 128 characters, its labels' names included: "site" and "phase". */
#define FIGURES_SITE  64
#define FIGURES_PHASE 57
static_assert(4 + FIGURES_SITE - 1 + 5 + FIGURES_PHASE - 1 <= 128, "exemplars would be refused");

/* The longest hold that fell into a bucket lately. */
struct figures_exemplar {
	uint64_t hold_ns;
	int64_t at_unix_ns; /* 0: none */
	char site[FIGURES_SITE], phase[FIGURES_PHASE];
};

struct figures_role {
	struct figures_histogram hold, wait;
	struct figures_exemplar exemplar[FIGURES_BUCKETS];
};

struct figures_site {
	const char *name; /* "util/main-loop.c:318"; "other" */
	char *labels;	  /* as they are written */
	enum role role;
	bool top; /* has series of its own now */
	uint64_t acquired, hold_ns, wait_ns;
	uint64_t weight_ns; /* held since the attach, bias and all */
};

struct figures_cause {
	const char *name; /* "other" for the last one */
	uint64_t count, ns;
};

/* Of loadvm_status (runtime/thread/core.h). */
struct figures_loadvm {
	bool present;
	uint64_t loads, drops, contended, taken, missed, handoff_ns;
};

struct figures_device {
	const char *name;
	uint64_t count, ns;
};

/* The last incoming migration, or the one that is under way. */
struct figures_incoming {
	uint64_t loads; /* begun since the attach */
	bool active;
	struct phase_at now;
	uint64_t begin_ns, end_ns, entered_ns; /* end_ns 0: not yet */
	uint64_t phase_ns[PHASES];
	int64_t phase_unix_ns[PHASES]; /* first entered; 0: not */
	GArray *devices;	       /* struct figures_device */
	uint64_t nr_devices;	       /* device sections loaded */
};

struct figures {
	/* Who it is; set by the caller, strings owned. */
	char *vm, *uuid;
	pid_t pid;
	char *version, *generation, *build_id, *policy;
	char *refusal; /* why it is not traced; NULL: it is */
	char *labels;  /* of all its samples, as they are written */
	struct figures_loadvm loadvm;
	struct monitor *monitor; /* owned; NULL: none */

	/* Of the overhead budget, also set by the caller. */
	enum tracer_level level;
	uint64_t recorded_ns, recorded_waits_ns; /* of the time since the attach */

	uint64_t attach_ns; /* CLOCK_MONOTONIC */
	int64_t attach_unix_ns;
	struct figures_role roles[ROLES];
	GPtrArray *sites;		   /* struct figures_site *, top or not */
	struct figures_site others[ROLES]; /* what sites added while they were not top */
	GArray *causes;			   /* struct figures_cause */
	struct figures_cause other_causes;
	/* Who waited for whom: holders are roles, then FIGURES_NOBODY and FIGURES_EARLIER. */
	uint64_t charged_ns[ROLES][FIGURES_HOLDERS];
	uint64_t acquired, runnable_ns;
	uint64_t held_ns;    /* with what the present holder has so far */
	uint64_t current_ns; /* how long the present holder holds, 0: nobody does */
	uint64_t longest_ns; /* since the attach */
	struct {
		uint64_t slot; /* number of the slot since the epoch of CLOCK_MONOTONIC */
		uint64_t longest_ns;
	} window[FIGURES_SLOTS];
	GArray *lost; /* struct lost: its last value */
	unsigned points_attached, points_refused, points_unhit;
	struct figures_incoming incoming;

	/* Between updates. */
	GHashTable *records; /* struct usage.record -> struct seen * */
	GHashTable *charges; /* holder's and victim's record -> uint64_t *, ns */
	uint64_t fine[HISTOGRAM_BUCKETS];
	uint64_t finished_ns; /* held_ns without the present holder */
	GArray *events;	      /* struct figures_event: holds since the last update */
	GStringChunk *strings;
};

struct figures_event {
	unsigned record;
	uint64_t hold_ns;
	int64_t at_unix_ns;
	char phase[FIGURES_PHASE];
};

struct figures *figures_new(void);
void figures_free(struct figures *f);

/*
 * What has been recorded up to now; everything below is taken over then. Holds and phases are told
 * as they are reported, before the update that tells what they belong to.
 */
void figures_update(struct figures *f, const struct run *run, uint64_t now_ns);
/* One long hold: which record, and "ram" or "device e1000". */
void figures_hold(struct figures *f, unsigned record, uint64_t hold_ns, int64_t at_unix_ns,
		  const char *phase);
/* The incoming migration enters a phase. */
void figures_phase(struct figures *f, uint64_t at_ns, int64_t at_unix_ns, enum phase phase,
		   const char *device);

/* Longest hold that ended, or still went on, within the last `window_ns` (at most 5 minutes). */
uint64_t figures_longest(const struct figures *f, uint64_t window_ns, uint64_t now_ns);
/* Which of figures_bounds_ns it falls under, FIGURES_BOUNDS: none. */
unsigned figures_bucket(uint64_t ns);
void figures_histogram_add(struct figures_histogram *h, uint64_t ns);

#endif
