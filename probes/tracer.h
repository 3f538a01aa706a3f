/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracer: one set of kernel programs, attached to any number of QEMUs (ABI_SLOTS at once), that
 * adds up who holds each one's BQL. bqlstat records with it; anything else that wants live figures
 * can read it the same way.
 *
 * One thread at a time may use a tracer. It leaves nothing behind: a child process, the keeper, holds
 * the attachments, and removes them when this process ends, however it ends.
 */
#ifndef TRACER_H
#define TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probes/abi.h"
#include "probes/budget.h"
#include "runtime/seams/seams.h"

struct tracer;

/* One clear sentence, without a trailing newline. */
struct tracer_error {
	char text[512];
};

/*
 * What arrives while tracer_poll() runs. Pointers are valid during the call only. `target` is what
 * tracer_add() returned.
 */
struct tracer_sink {
	void (*hold)(void *opaque, int target, const struct abi_hold *hold);
	/* `device`: the VMSD's name in ABI_PHASE_DEVICE, else "" */
	void (*phase)(void *opaque, int target, const struct abi_event_phase *mark,
		      const char *device);
	/* Raw, with opts.stacks; it comes before its hold, which may have several. */
	void (*stack)(void *opaque, int target, const struct abi_stack *stack);
	/* More or less is traced from now on; full tracing costs so many cores, or would. */
	void (*level)(void *opaque, int target, enum tracer_level level, uint64_t at_ns,
		      double cores);
	void *opaque;
};

struct tracer_opts {
	uint64_t threshold_ns; /* holds and waits at least this long become events */
	uint32_t max_sites;    /* 0: ABI_SITES; about 9 KB of kernel memory each */
	uint32_t ring_bytes;   /* 0: 1 MB; a power of two */
	bool stacks;	       /* holds and blocks at the threshold leave a stack */
	double max_overhead;   /* a QEMU may cost so many cores, 0.05: 5% of one; 0: no limit */
	bool calibrate;	       /* measure the probes' cost and bias on this machine: ~0.2 s */
	struct tracer_sink sink;
};

/*
 * What the probes themselves cost, measured on a process of our own whose critical section is
 * empty. `hold_bias_ns` and `wait_bias_ns` are what such a section reads: subtract them from what
 * is recorded.
 */
struct tracer_cost {
	bool measured;
	uint64_t hold_bias_ns, wait_bias_ns;
	uint64_t pair_ns; /* what one lock and unlock takes longer because of the probes */
	uint64_t pairs;
};

/* A place where a probe was to go. */
struct tracer_point {
	enum seam_point_kind kind;
	uint64_t vaddr;
	const char *insn; /* owned by the tracer */
	bool emulated;
	bool attached;
	bool shared; /* another tracer's breakpoint was there already */
	bool hit;
	char refusal[96]; /* why it is not attached */
};

/*
 * Load the programs. 0, or a negative errno and a sentence: -EPERM lacks CAP_BPF and CAP_PERFMON;
 * -ENOTSUP the kernel lacks something (named).
 */
int tracer_new(const struct tracer_opts *opts, struct tracer **tracer, struct tracer_error *err);
void tracer_free(struct tracer *tracer);

/*
 * Attach to a running QEMU. Returns a target (>= 0), or a negative errno and a sentence: -ESRCH no
 * such process, -ENOTSUP not a QEMU system emulator or one whose lock cannot be traced, -EACCES may
 * not read it, -EBUSY it is traced already or no slot is free.
 *
 * No point is attached whose bytes in memory differ from the file: those are in the plan with a
 * refusal. Without the lock's own points the whole target is refused.
 */
int tracer_add(struct tracer *tracer, pid_t pid, struct tracer_error *err);

/* Detach. What was recorded can be read until the target's slot is used again by tracer_add(). */
void tracer_remove(struct tracer *tracer, int target);

/*
 * Detach, and give the target's records back for others to use: for who traces QEMUs as they come
 * and go. Nothing of the target can be read any more.
 */
void tracer_forget(struct tracer *tracer, int target);
/* Site records in use, of how many there are. */
void tracer_room(struct tracer *tracer, uint64_t *used, uint64_t *room);

/*
 * Hand over events and learn the names of new call sites, from the process while it lives. Never
 * waits: call it about five times a second. 0 or a negative errno.
 */
int tracer_poll(struct tracer *tracer);
/* When it wants to be called next, at the latest in 200 ms: bursts last as long as it is late. */
unsigned tracer_due_ms(const struct tracer *tracer);

/* What opts.calibrate does, later: first attach, then measure. */
void tracer_calibrate(struct tracer *tracer);
const struct tracer_cost *tracer_cost(const struct tracer *tracer);

/* What is known of a target; the map is the tracer's. */
const struct seam_map *tracer_map(const struct tracer *tracer, int target);
pid_t tracer_pid(const struct tracer *tracer, int target);
size_t tracer_points(struct tracer *tracer, int target, const struct tracer_point **points);
/* Occasions on which something was not recorded, by enum abi_lost. */
void tracer_lost(const struct tracer *tracer, int target, uint64_t lost[ABI_LOST_KINDS]);

/* Between these a target was recorded; until now while it is attached. */
void tracer_span(const struct tracer *tracer, int target, uint64_t *begin_ns, uint64_t *end_ns);

/*
 * How much of the span was recorded: all of it unless the overhead budget was exceeded. What is
 * counted and added up is of this time only. A hold that is longer than a burst is in none.
 */
struct tracer_coverage {
	enum tracer_level level; /* now */
	double cores;		 /* of full tracing, as last measured */
	uint64_t covered_ns;	 /* the lock was recorded */
	uint64_t waits_ns;	 /* of it: with waits and call sites */
};
void tracer_coverage(const struct tracer *tracer, int target, struct tracer_coverage *coverage);

/*
 * The thread that holds the lock now, or that held it when the target was detached. False: nobody,
 * or the holder is not known.
 */
struct tracer_owner {
	uint64_t since_ns;
	uint32_t site_index;
	const struct abi_site *site;
	const struct abi_thread *thread;
};
bool tracer_owner(struct tracer *tracer, int target, struct tracer_owner *owner);
/*
 * The latest outgoing migration: from its guest's stop, and from the beginning of the last part of
 * the stream, to its next state, which is the end. False: none has come so far. A guest that was
 * stopped before has no stop.
 */
bool tracer_source(const struct tracer *tracer, int target, uint64_t *downtime_ns,
		   uint64_t *save_ns);
void tracer_phase(const struct tracer *tracer, int target, struct abi_phase *phase);

/*
 * Go through a target's site records as they stand now; they go on growing meanwhile. `file` is the
 * call site's source file as QEMU names it, "" while unknown. Records are the tracer's and live as
 * long as it does. `blocked` calls give each record's blocking by cause.
 */
typedef void (*tracer_site_fn)(void *opaque, const struct abi_site *site, const char *file,
			       const struct abi_thread *thread);
void tracer_snapshot(struct tracer *tracer, int target, tracer_site_fn fn, void *opaque);

/*
 * Blocking and charges are told as they were at the last tracer_poll() or tracer_remove().
 * Once for each cause, and for each thread that ended futex waits: key->waker, 0 not
 * known.
 */
typedef void (*tracer_blocked_fn)(void *opaque, const struct abi_site *site,
				  const struct abi_blocked_key *key,
				  const struct abi_blocked *blocked);
void tracer_blocked(struct tracer *tracer, int target, tracer_blocked_fn fn, void *opaque);
/* The thread of that tid that woke a holder. False: not known. */
bool tracer_waker(struct tracer *tracer, int target, uint32_t tid, struct abi_waker *waker);

/* Who made whom wait: `holder` is an index for tracer_site(), or one of ABI_HOLDER_. */
typedef void (*tracer_charge_fn)(void *opaque, uint32_t holder, const struct abi_site *victim,
				 const struct abi_charge *charge);
void tracer_charges(struct tracer *tracer, int target, tracer_charge_fn fn, void *opaque);

/* Stop, or begin again, to copy stacks: about 3 us whenever a holder goes to sleep. */
void tracer_take_stacks(struct tracer *tracer, bool take);
bool tracer_takes_stacks(const struct tracer *tracer);

/* The record and names behind an abi_hold. NULL when its index is out of range. */
const struct abi_site *tracer_site(struct tracer *tracer, uint32_t site);
const char *tracer_site_file(struct tracer *tracer, uint32_t site);
const struct abi_thread *tracer_thread(const struct tracer *tracer, uint32_t thread);
/* The name of a phase's device: "" when it has none, "?" when it could not be read. */
const char *tracer_device(struct tracer *tracer, int target, const struct abi_phase *phase);

#endif
