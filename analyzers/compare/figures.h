/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a run to plain figures, each with a name that is the same in every run: what a comparison
 * compares. Names, one word and, in brackets, of what:
 *
 *	total, downtime.src, qmp.p99, hold.max         the run as a whole
 *	site[util/main-loop.c:318 main].hold.p99       one call site as used by one kind of thread
 *	phase[ram].hold.max                            one phase of the incoming migration
 *	blocked[futex]                                 time asleep while holding, by cause
 *	device[virtio-net].load                        loading one device's state
 */
#ifndef FIGURES_H
#define FIGURES_H

#include "analyzers/model/run.h"

enum figure_unit { FIGURE_NS, FIGURE_SHARE, FIGURE_BYTES, FIGURE_COUNT };

enum figure_group {
	FIGURE_HEADLINE,
	FIGURE_SITE,
	FIGURE_PHASE,
	FIGURE_CAUSE,
	FIGURE_DEVICE,
	FIGURE_CONTROL, /* of the machine: shown, and not judged */
	FIGURE_GROUPS
};

struct figure {
	char *name;    /* "site[util/main-loop.c:318 main].hold.p99" */
	char *subject; /* what stands in the brackets, or "" */
	enum figure_unit unit;
	enum figure_group group;
	/* In a run without it, it is 0: nobody was blocked on that. Else such a run says nothing.
	 */
	bool zero_if_absent;
	double value; /* the less, the better */
};

/*
 * All of a run, each name once: an array of struct figure. Free with g_array_unref(). `sites` maps
 * "FILE:LINE" to the name that the site bears in both builds (match.h), or is NULL.
 */
GArray *figures_of(struct run *run, GHashTable *sites);

/* Of the time in which the lock was recorded, the share in which it was held. */
double run_share_held(const struct run *run);

const char *figure_group_name(enum figure_group group);

/* "12.3 ms", "96.9%", "64 MiB", "7". g_free(). */
char *figure_text(enum figure_unit unit, double value);
/* A ratio to three digits, and none that need more room than that. g_free(). */
char *figure_ratio(double ratio);

/* What bench writes into a run's metrics, beside QEMU's own figures. */
#define METRIC_TOTAL	    "total_time_ns"
#define METRIC_SETUP	    "setup_time_ns"
#define METRIC_DOWNTIME_SRC "downtime_source_ns"
#define METRIC_DOWNTIME_DST "downtime_destination_ns"
#define METRIC_QMP	    "monitor_latency" /* then _p50_ns, _p99_ns, _max_ns */
#define METRIC_IDLE	    "idle_monitor_latency"
#define METRIC_LOAD_AVERAGE "load_average"
#define METRIC_OTHER_WORK   "other_work" /* processors that others kept busy */
#define METRIC_SCENARIO	    "scenario:"	 /* then its name; the value tells versions of it apart */
#define METRIC_SIDE	    "side"	 /* tells versions of a label's recipe apart */
#define METRIC_PAIR	    "pair"	 /* from 1: runs made next to each other */
#define METRIC_POSITION	    "position"	 /* from 1: as made */
#define METRIC_FAILED	    "failed"	 /* 1: the migration did not end well */

#endif
