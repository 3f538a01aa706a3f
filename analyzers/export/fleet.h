/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMUs of this host that are traced, as they come and go, and the book that is kept of them.
 *
 * One thread tends the fleet. Others may read the book at any time under its lock, which is never
 * held while a QEMU is attached or detached: a slow attach delays no reader, a slow reader no
 * attach.
 */
#ifndef EXPORT_FLEET_H
#define EXPORT_FLEET_H

#include "analyzers/export/metrics.h"
#include "probes/tracer.h"

struct fleet_options {
	const char *match;  /* as discover_new()'s; NULL: every QEMU */
	const GArray *pids; /* pid_t; NULL: whatever matches */
	char **qmp;	    /* "VM=PATH", NULL-terminated; NULL: none */
	bool qmp_discover;  /* use a QMP socket that the command line names */
	bool quiet;
	uint32_t records;      /* of the tracer: max_sites */
	double max_overhead;   /* as the tracer's */
	uint64_t threshold_ns; /* holds from here on are looked at one by one */
};

struct fleet;

/* Load the tracer. The options must outlive the fleet. As tracer_new(). */
int fleet_new(const struct fleet_options *options, struct book *book, struct fleet **fleet,
	      struct tracer_error *err);
/* Detaches from all. */
void fleet_free(struct fleet *f);

/* Readable when a QEMU has come or gone. */
int fleet_fd(const struct fleet *f);
/* Let go of those that ended, attach to one that waits. True: another one waits. */
bool fleet_tend(struct fleet *f);
/* Bring the book up to date. */
void fleet_update(struct fleet *f);
/* Every -p has ended. */
bool fleet_over(const struct fleet *f);

void book_init(struct book *book);
void book_clear(struct book *book);

#endif
