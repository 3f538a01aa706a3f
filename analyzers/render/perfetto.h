/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A timeline for Perfetto: a process for each run, a track for each of its threads with waits and
 * holds, tracks for the phases and the device sections of an incoming migration, marks of what was
 * lost, and what was recorded and how as arguments of a slice that spans the recording.
 *
 * Holds are handed over one by one, in the order in which they ended, so that a trace of any length
 * needs no more memory than its threads and call sites do.
 */
#ifndef PERFETTO_H
#define PERFETTO_H

#include "analyzers/model/run.h"

struct perfetto;

/* One clear sentence, without a trailing newline. */
struct perfetto_error {
	char text[512];
};

struct perfetto_options {
	uint64_t shortest_ns; /* holds and waits below that are left out, and counted */
	bool replace;	      /* an existing file */
};

struct perfetto_counts {
	uint64_t holds, waits, flows, marks; /* drawn */
	uint64_t omitted;		     /* holds and waits that were too short */
};

/*
 * Make the file; it is compressed when its name ends in ".gz". 0, or a negative errno and a
 * sentence: -EEXIST it exists.
 */
int perfetto_create(const char *path, const struct perfetto_options *options,
		    struct perfetto **perfetto, struct perfetto_error *err);
/*
 * Finish the file. A file that could not be written in full is removed: -ENOSPC the disk is full,
 * others as the system said. Also frees.
 */
int perfetto_close(struct perfetto *p, struct perfetto_error *err);
/* Remove the file, and free. */
void perfetto_abandon(struct perfetto *p);

/*
 * The next run: what follows belongs to it. Its threads, sites, marks and sums must be complete and
 * stay as they are until perfetto_end(). `name` (may be NULL) stands before the QEMU's version, as
 * in "destination". `shift_ns` is added to its times. `every_hold`: not only outliers follow.
 */
void perfetto_run(struct perfetto *p, struct run *run, const char *name, int64_t shift_ns,
		  bool every_hold);
void perfetto_hold(struct perfetto *p, const struct hold *hold);
void perfetto_end(struct perfetto *p);
/* A time within which events of this run were lost. */
void perfetto_gap(struct perfetto *p, uint64_t begin_ns, uint64_t end_ns, uint64_t events);

/* So far. */
const struct perfetto_counts *perfetto_counts(const struct perfetto *p);

#endif
