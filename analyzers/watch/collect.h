/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the tracer to the model: keeps the events of a recording and makes runs of what the kernel
 * has added up.
 */
#ifndef COLLECT_H
#define COLLECT_H

#include "analyzers/model/run.h"
#include "probes/tracer.h"

struct collector;

/* `label` goes into every run. Free after the tracer. */
struct collector *collector_new(const char *label);
void collector_free(struct collector *c);
/* For tracer_opts.sink. */
struct tracer_sink collector_sink(struct collector *c);
/* Before the first tracer_add(). */
void collector_use(struct collector *c, struct tracer *tracer, uint64_t threshold_ns);

/* After tracer_add() returned that target. */
void collector_begin(struct collector *c, int target);
/* Bring the target's run up to date. It stays the collector's, and the same until collector_free().
 */
struct run *collector_update(struct collector *c, int target);
/* The same as it stands: marks are always up to date, the rest as of the last update. */
const struct run *collector_run(const struct collector *c, int target);
/* Detach, take what is left and say why it ended. A target that comes later may take its place. */
struct run *collector_end(struct collector *c, int target, const char *why);
/* The same, and its place is free: the run is the caller's, run_free(). */
struct run *collector_take(struct collector *c, int target, const char *why);
/* Detach and keep nothing: the target's run is gone, and what the tracer has of it. */
void collector_forget(struct collector *c, int target);

#endif
