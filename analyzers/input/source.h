/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where runs come from: a run file that bqlstat wrote, or a folder with an LTTng trace. Reports and
 * timelines read either.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include "analyzers/store/store.h"

struct source;

/* 0, or a negative errno and a sentence. A folder is read from beginning to end. */
int source_open(const char *path, struct source **source, struct store_error *err);
void source_close(struct source *source);

/* The runs in it, oldest first: at least one. Owned by the source: struct store_entry. */
const GArray *source_list(const struct source *source);
/* The source's, until the next one is loaded. -ENOENT: no such run. */
int source_load(struct source *source, int64_t id, struct run **run, struct store_error *err);
/* The same, but the caller's from here on: run_free(). Of a trace each run can be taken once. */
int source_take(struct source *source, int64_t id, struct run **run, struct store_error *err);
/* Why a trace could be read only up to a point; "": all of it was. */
const char *source_damage(const struct source *source);

typedef void (*source_hold_fn)(void *opaque, const struct hold *hold);
typedef void (*source_gap_fn)(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t events);

/* Whether source_holds() gives every hold, and not only those that the run has too. */
bool source_has_every_hold(const struct source *source);
/*
 * Holds in the order in which they ended, and gaps as they come. A trace is read again for it;
 * `run` is what source_load() gave.
 */
int source_holds(struct source *source, const struct run *run, source_hold_fn hold,
		 source_gap_fn gap, void *opaque, struct store_error *err);

#endif
