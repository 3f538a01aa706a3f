/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model: one run is one recording of one QEMU, whatever recorded it. Plain data and arithmetic
 * on it, no input or output. The store saves and loads it, every report reads nothing else.
 *
 * Times (`_at_ns`, `begin_ns`) are CLOCK_MONOTONIC. Durations are as measured: the probes' bias is
 * still in them. run_hold_ns() and run_wait_ns() take it off; reports show nothing else.
 *
 * A run owns everything in it. Strings are in run->strings: put them there with run_string().
 */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "analyzers/model/histogram.h"

#define UNKNOWN_NS UINT64_MAX /* a wait that nobody measured */

enum role {
	ROLE_MAIN,	/* the main loop */
	ROLE_VCPU,	/* thread.number says which, -1: the thread does not say */
	ROLE_INCOMING,	/* mig/dst/main: a threaded incoming migration */
	ROLE_MIGRATION, /* any other migration thread */
	ROLE_IOTHREAD,
	ROLE_RCU,
	ROLE_WORKER,
	ROLE_OTHER,
	ROLES
};

struct thread {
	unsigned tid; /* in the initial PID namespace */
	const char *comm;
	enum role role;
	int number;
};

/* A place that takes the lock. `file` is as QEMU's build named it, "" when it asked before we came.
 */
struct site {
	const char *file;
	unsigned line;
	bool cond; /* a condvar wait there took it back; how long it waited is not known */
};

/*
 * Why a holder was off-CPU: a syscall and the kind of file that it was called for, or a CAUSE_: see
 * cause_name() and cause_file(). Blocked time runs until the holder is
 * on a CPU again, so it holds the time to wake up.
 */
#define CAUSE_FAULT	ABI_CAUSE_FAULT
#define CAUSE_STOPPED	ABI_CAUSE_STOPPED
#define CAUSE_OTHERS	ABI_CAUSE_OTHERS
#define CAUSE_USERFAULT ABI_CAUSE_USERFAULT

struct blocking {
	int cause;
	uint64_t count, ns;
	uint64_t max_ns; /* most in one hold */
};

/* One site as used by one thread. */
struct usage {
	unsigned site, thread; /* indices */
	unsigned record;   /* the recorder's own number: the same at each update of a recording */
	uint64_t acquired; /* holds counts the finished ones, waits those whose wait is known */
	struct histogram wait, hold;
	uint64_t wait_max_at_ns, hold_max_at_ns; /* when those began */
	uint64_t runnable_ns;			 /* preempted, or waiting for a CPU */
	GArray *blocking;			 /* struct blocking, one a cause */
};

enum phase {
	PHASE_NONE = ABI_PHASE_NONE,
	PHASE_SETUP = ABI_PHASE_SETUP,
	PHASE_RAM = ABI_PHASE_RAM,
	PHASE_DEVICE = ABI_PHASE_DEVICE,
	PHASE_ACTIVATE = ABI_PHASE_ACTIVATE,
	PHASE_START = ABI_PHASE_START,
	PHASE_POSTCOPY = ABI_PHASE_POSTCOPY,
	PHASES = ABI_PHASES
};

struct phase_at {
	enum phase phase;
	const char *device; /* the VMSD's name in PHASE_DEVICE, else "" */
};

/* The incoming migration enters a phase. */
struct mark {
	uint64_t at_ns;
	struct phase_at in;
};

/* Where in a hold its stack was taken. Kept in files by name. */
enum taken {
	TAKEN_RELEASED = ABI_TAKEN_RELEASED,
	TAKEN_PREEMPTED = ABI_TAKEN_PREEMPTED,
	TAKEN_BLOCKED = ABI_TAKEN_BLOCKED,
	TAKENS
};

/* One hold that was long, or waited long, or was the longest of its usage. */
struct hold {
	uint64_t begin_ns, hold_ns;
	uint64_t wait_ns; /* UNKNOWN_NS when not measured */
	unsigned site, thread;
	bool unfinished; /* still held when the recording ended: hold_ns is until then */
	uint64_t runnable_ns;
	struct blocking blocked[ABI_CAUSES]; /* most time first; count 0: unused */
	uint64_t longest_ns;		     /* its longest single block, 0: none */
	int longest_cause;
	unsigned longest_waker; /* index of the thread that ended it, plus one; 0: not known */
	struct phase_at at_begin, at_end, at_longest;
	unsigned stack; /* index of its stack, plus one; 0: none */
	enum taken taken;
};

/* Holders of a usage slept on a futex until a thread ended it. */
struct waking {
	unsigned usage;
	unsigned waker; /* index of its thread */
	uint64_t count, ns, max_ns;
};

/*
 * Who made whom wait: each holder of the lock during a wait is charged with what it held of it,
 * what is left is nobody's.
 */
#define HOLDER_NOBODY  (-1) /* handing over, waiting for a CPU, or a holder that was not seen */
#define HOLDER_EARLIER (-2) /* holders before the latest 64 holds of the lock */

struct charge {
	int holder; /* index of its usage, or HOLDER_ */
	unsigned victim;
	uint64_t count, ns, max_ns; /* waits, shares of them, the greatest share */
};

/* A function on a stack: see struct unwound. */
struct frame {
	const char *module;
	uint64_t address;
	const char *symbol;
	uint64_t offset;
	bool inside;
};

struct stack {
	GArray *frames; /* unsigned: indices in run->frames, innermost first */
	bool whole;	/* up to where the thread or coroutine began */
};

/* A place where a probe was to go. */
struct point {
	const char *kind;
	uint64_t vaddr;
	const char *insn;
	bool emulated; /* by the kernel: cheap; else single-stepped, about 9 us a hit */
	bool attached, shared, hit;
	const char *refusal; /* why not attached, else "" */
};

/*
 * Occasions on which something was not recorded, or not in full. `what` is a lost_name(), or
 * "holds_thinned" or "marks_thinned".
 */
struct lost {
	const char *what;
	uint64_t count;
};

/*
 * The overhead budget was exceeded, or no longer is: from here on more or less was recorded. A run
 * that has any has the metrics "covered_ns", the time in which the lock was recorded, and
 * "covered_waits_ns", the part of it in which waits and call sites were too.
 */
struct thinning {
	uint64_t at_ns;
	const char *level; /* "full", "holds", "bursts", "away": see probes/budget.h */
	double cores;	   /* what recording everything costs, or would */
};

/*
 * A figure of the run as a whole, from another source than the probes: QMP's query-migrate, a
 * monitor that was polled, the scenario that was played. `name` ends in its unit: "downtime_ns",
 * "ram_bytes"; a name without unit is a plain count.
 */
struct metric {
	const char *name;
	double value;
};

/* A request of a client that polled the monitor meanwhile. */
struct answer {
	uint64_t sent_at_ns;
	uint64_t latency_ns; /* until the answer came, or the polling ended */
};

struct run {
	int64_t id; /* in its file; 0: not saved yet */
	const char *label;
	const char *source; /* what recorded it: "ebpf" */
	const char *tool;   /* bqlstat's version */
	uint64_t begin_ns, duration_ns;
	int64_t begin_unix_ns;
	const char *ended; /* why it ended; "" while it goes on, or when bqlstat was killed */

	unsigned pid;
	const char *qemu_version, *qemu_generation, *qemu_build_id, *qemu_path, *qemu_cmdline;
	const char *kernel, *cpu;
	unsigned cpus;

	uint64_t threshold_ns; /* holds and waits this long are in `holds` */
	bool calibrated;
	uint64_t hold_bias_ns, wait_bias_ns, pair_ns;

	GArray *threads;   /* struct thread */
	GArray *sites;	   /* struct site, each (file, line, cond) once */
	GArray *usages;	   /* struct usage */
	GArray *holds;	   /* struct hold */
	GArray *wakings;   /* struct waking */
	GArray *charges;   /* struct charge */
	GArray *frames;	   /* struct frame, each once */
	GArray *stacks;	   /* struct stack, each once */
	GArray *marks;	   /* struct mark, by time */
	GArray *points;	   /* struct point */
	GArray *lost;	   /* struct lost, every kind, also those that are 0 */
	GArray *metrics;   /* struct metric, each name once */
	GArray *thinnings; /* struct thinning, by time */
	GArray *answers;   /* struct answer, in the order they were sent */
	GStringChunk *strings;
};

struct run *run_new(void);
void run_free(struct run *run);

/* A copy that lives as long as the run, made fit to be shown (plain.h); "" for NULL. */
const char *run_string(struct run *run, const char *s);
/* Index of a site, added when it is new. */
unsigned run_site(struct run *run, const char *file, unsigned line, bool cond);
/* A new usage with an empty list of causes; valid until the next one is added. */
struct usage *run_add_usage(struct run *run, unsigned site, unsigned thread);

/* Index of a frame or of a stack, added when it is new. */
unsigned run_frame(struct run *run, const struct frame *frame);
unsigned run_stack(struct run *run, const unsigned *frames, unsigned count, bool whole);

/* Set a metric, or replace it. */
void run_set_metric(struct run *run, const char *name, double value);
/* False: the run has none of that name. */
bool run_metric(const struct run *run, const char *name, double *value);

static inline uint64_t run_hold_ns(const struct run *run, uint64_t ns)
{
	return ns > run->hold_bias_ns ? ns - run->hold_bias_ns : 0;
}

static inline uint64_t run_wait_ns(const struct run *run, uint64_t ns)
{
	return ns > run->wait_bias_ns ? ns - run->wait_bias_ns : 0;
}

/* Everything lost, without what an attach in mid-hold or mid-wait cannot know. */
uint64_t run_lost(const struct run *run);
uint64_t run_acquired(const struct run *run);
/* How long the lock was recorded: shares and rates are of this time. */
uint64_t run_covered_ns(const struct run *run);
/* And with waits and call sites. */
uint64_t run_covered_waits_ns(const struct run *run);
/* All time held, bias taken off, with what was still held at the end. */
uint64_t run_held_ns(const struct run *run);

/*
 * What reports show: usages of one site by threads of one kind put together, bias taken off. vCPUs
 * are one kind unless `each_vcpu`. Longest total hold first.
 */
struct row {
	unsigned site;
	enum role role;
	const char *who; /* "main", "vCPU 3", "vCPU"; other threads' own name */
	uint64_t acquired, holds, waits;
	uint64_t hold_total_ns, hold_p50_ns, hold_p99_ns, hold_max_ns;
	uint64_t wait_total_ns, wait_p50_ns, wait_p99_ns, wait_max_ns;
	uint64_t runnable_ns, blocked_ns; /* blocked_ns: for any cause */
	GArray *blocking;		  /* struct blocking, most time first */
};

/* Free with g_array_unref(). The strings are the run's. */
GArray *run_rows(struct run *run, bool each_vcpu);
/* Holds, longest first, at most `top` (0: all). Elements are const struct hold *, the run's. */
GPtrArray *run_longest(const struct run *run, unsigned top);

/* victims.c */

/* Charges of one site's threads of one kind to another's, put together. Most time first. */
struct victim_row {
	int holder_site; /* index, or HOLDER_ */
	const char *holder_who;
	unsigned victim_site;
	const char *victim_who;
	enum role holder_role, victim_role;
	uint64_t count, ns, max_ns;
};

/* Free with g_array_unref(). The strings are the run's. */
GArray *run_victims(struct run *run, bool each_vcpu);

/* role.c */

/* From the thread's name alone. `leader_comm` is what an unnamed thread of that QEMU is called. */
enum role role_of(bool leader, const char *comm, const char *leader_comm, int *number);
/*
 * QEMU before 8.0 names no thread unless told to (-name debug-threads=on): tell unnamed ones by the
 * sites they used. vCPUs are numbered in the order of their tids, as QEMU creates them.
 */
void run_guess_roles(struct run *run);
const char *role_name(enum role role);
enum role role_from_name(const char *name);
const char *run_who(struct run *run, const struct thread *thread, bool each_vcpu);

/* names.c: for the eye and for JSON; never NULL. */
const char *phase_name(enum phase phase);
enum phase phase_from_name(const char *name);
const char *lost_name(enum abi_lost lost);
/* What a name in struct lost means, in a few words. */
const char *lost_meaning(const char *name);
/* The recording began, or the QEMU ended, in the middle of things: expected, and not a loss. */
bool lost_at_edge(const char *name);
/* A syscall's name, "page fault", "userfault", "stopped", "other causes", "syscall 999". */
const char *cause_name(int cause);
/* The kind of file that a syscall waited for: "socket", "eventfd"; "" when it has none. */
const char *cause_file(int cause);
/* Both: "read (timerfd)". */
const char *cause_text(int cause);
const char *taken_name(enum taken taken);
enum taken taken_from_name(const char *name);

#endif
