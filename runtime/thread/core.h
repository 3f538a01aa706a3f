/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libloadvm-core.so exports: one function for the gate, one for the launcher, one object for
 * tracers and for who reads a core dump.
 */
#ifndef THREAD_CORE_H
#define THREAD_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LOADVM_STATUS_VERSION 2
#define LOADVM_STATUS_DETOURS 16

struct policy;

/* Addresses are the process's. */
struct loadvm_detour {
	char name[32];
	uint64_t target;   /* where QEMU's function begins, and now jumps away */
	uint64_t original; /* where its first instructions went */
	uint64_t replacement;
};

/*
 * Readable from outside through the symbol `loadvm_status`: a tracer sees what runs in this QEMU.
 * `version` to `release`, `detour` and `note` are written once, before main(), `detours` last. The
 * rest is the loads', each figure right by itself, all of them sums over the loads so far.
 */
struct loadvm_status {
	uint32_t version; /* LOADVM_STATUS_VERSION: the layout */
	uint32_t detours; /* installed; 0: QEMU runs stock */
	char policy[16];  /* at the start */
	char release[16]; /* ours, e.g. "0.1" */

	uint64_t loads;		 /* begun; HMP loadvm and the like are none */
	char load_policy[16];	 /* of the last one; "" before the first */
	uint64_t drops;		 /* how often the thread did without the lock */
	uint64_t contended;	 /* of them with somebody seeming to wait for it */
	uint64_t handoff_taken;	 /* it stood back, and somebody took the lock */
	uint64_t handoff_missed; /* it stood back, and nobody did within the limit */
	uint64_t handoff_ns;	 /* that it stood back, all in all */
	uint64_t handoff_max_ns; /* and at most */

	struct loadvm_detour detour[LOADVM_STATUS_DETOURS]; /* the first `detours` */
	/* All of this in words, "loadvm-note: ...": `strings core | grep ^loadvm-note` finds it. */
	char note[2048];
};

extern struct loadvm_status loadvm_status;

/* Main thread, lock held: a load begins under `policy`. */
void core_load_begins(const struct policy *policy);

struct loadvm_core_options {
	const char *policy;  /* name */
	const char *control; /* path of the control file, or NULL */
	const char *trace;   /* "": nothing more than the policy needs, "usdt", "lttng" */
	bool quiet;
};

/*
 * Change this process as the options say, or not at all. 0, or a negative errno, or 1: but something
 * of tracing is missing. In any case `text` (size bytes) is the sentence to tell the user. Before main(), from a constructor.
 */
int loadvm_core_install(const struct loadvm_core_options *options, char *text, size_t size);
typedef int loadvm_core_install_fn(const struct loadvm_core_options *options, char *text,
				   size_t size);

/*
 * `loadvm --check`: report on the binary at a path, or on that of a process id, as text or JSON.
 * 0: every check passed, what loadvm_core_install() would do is possible; 1: it is not; negative
 * errno: the target cannot be read.
 */
int loadvm_core_check(const char *target, bool json, FILE *out);
typedef int loadvm_core_check_fn(const char *target, bool json, FILE *out);

#endif
