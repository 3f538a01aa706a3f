/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every metric of the exporter: the one table of their names, and what goes into them.
 * docs/metrics.md describes them; a test holds the two together.
 */
#ifndef EXPORT_METRICS_H
#define EXPORT_METRICS_H

#include <pthread.h>

#include "analyzers/export/exposition.h"
#include "analyzers/export/figures.h"

/* The exporter's own figures. */
struct metrics_self {
	uint64_t pair_ns, hold_bias_ns, wait_bias_ns;
	uint64_t attached, refused; /* attaches since the start */
	struct figures_histogram attach;
	uint64_t update_ns; /* that the last update took */
	uint64_t scrapes[EXPOSITION_FORMATS];
	uint64_t records_used, records_room;
	int64_t began_unix_ns;
};

/*
 * What is served. The lock guards all of it, each figure of each QEMU included. (POSIX's and not
 * GLib's, which a thread sanitizer does not see.)
 */
struct book {
	pthread_mutex_t lock;
	GPtrArray *vms; /* struct figures *, owned */
	struct metrics_self self;
	uint64_t tended_ns;	/* when the main loop last came by, CLOCK_MONOTONIC */
	uint64_t updated_ns;	/* how old the figures are */
	pthread_cond_t updated; /* they have just been brought up to date */
	int wanted_fd;		/* eventfd: a reader would like them to be */
};

/* Families in the order in which they are written. */
size_t metrics_count(void);
const struct metric_family *metrics_family(size_t index);
/* The book in a format. With its lock held. */
GString *metrics_write(struct book *book, enum exposition_format format);

#endif
