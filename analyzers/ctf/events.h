/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The events of provider `loadvm` in a folder of CTF traces, in the order of time, one at a time:
 * a trace of any length takes the same memory. Knows libbabeltrace2, and nothing of locks.
 */
#ifndef CTF_EVENTS_H
#define CTF_EVENTS_H

#include <stdint.h>

#include "analyzers/store/store.h"
#include "runtime/trace/table.h"

union ctf_value {
	uint64_t u;
	int64_t i;
	const char *s; /* never NULL */
};

/* Valid during the call that brings it. */
struct ctf_event {
	enum trace_id id;
	uint64_t at_ns;	  /* CLOCK_MONOTONIC of the machine that was traced */
	int64_t epoch_ns; /* what to add for the calendar's time */
	unsigned pid, tid;
	const char *comm; /* the thread's name, "" when it was not recorded */
	union ctf_value field[TRACE_FIELDS_MAX];
};

struct ctf_reader {
	void (*event)(void *opaque, const struct ctf_event *event);
	/* The tracer discarded `count` events (0: nobody knows how many) between the two. */
	void (*discarded)(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t count);
	void *opaque;
};

/* What there was besides: after a call that returned 0 or -EIO. */
struct ctf_tally {
	uint64_t events;  /* of ours */
	uint64_t foreign; /* other providers' */
	char damage[400]; /* why reading ended early; "" when it did not */
};

/* Whether a folder holds a trace, at any depth: nothing is read of it. */
bool ctf_is_trace(const char *path);

/*
 * Read all of it. 0, or a negative errno and a sentence: -ENOENT no trace in there, -ENODATA a
 * trace without events of ours, -EBADMSG one whose events are not what they should be, -EIO damaged
 * before the first event. Damage after it returns 0: what is before has been handed over.
 */
int ctf_read_events(const char *path, const struct ctf_reader *reader, struct ctf_tally *tally,
		    struct store_error *err);

#endif
