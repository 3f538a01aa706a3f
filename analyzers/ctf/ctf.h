/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs out of LTTng traces of the runtime's tracepoints (docs/tracepoints.md): one run for each
 * process in the trace. Reading takes memory for threads, call sites and the long holds that a run
 * keeps, however long the trace is.
 */
#ifndef CTF_H
#define CTF_H

#include "analyzers/ctf/events.h"
#include "analyzers/model/run.h"

struct ctf_sink {
	/* Every finished hold, in the order in which they ended, and those unfinished at the end.
	 */
	void (*hold)(void *opaque, const struct hold *hold);
	void (*gap)(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t events);
	void *opaque;
};

/*
 * Read a folder: `runs` gets its struct run *, each freed with it, their ids from 1 on. 0 or a
 * negative errno and a sentence, see ctf_read_events(); a trace that is damaged further on gives
 * what stands before and its sentence in tally->damage.
 */
int ctf_load(const char *path, GPtrArray **runs, struct ctf_tally *tally, struct store_error *err);

/*
 * Read it again, for the holds of one run one by one. Their indices of threads and sites are those
 * of the run of that id that ctf_load() made.
 */
int ctf_holds(const char *path, int64_t id, const struct ctf_sink *sink, struct store_error *err);

#endif
