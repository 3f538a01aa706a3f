/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libloadvm-core.so exports: one function for the gate, one object for tracers.
 */
#ifndef THREAD_CORE_H
#define THREAD_CORE_H

#include <stddef.h>
#include <stdint.h>

#define LOADVM_STATUS_VERSION 1

/*
 * Readable from outside through the symbol `loadvm_status`: a tracer sees what runs in this QEMU.
 * The first four are written once, before main(), `detours` last. The figures are the incoming
 * thread's, each right by itself.
 */
struct loadvm_status {
	uint32_t version; /* LOADVM_STATUS_VERSION: the layout */
	uint32_t detours; /* installed; 0: QEMU runs stock */
	char policy[16];
	char release[16];	 /* ours, e.g. "0.1" */
	uint64_t drops;		 /* how often it did without the lock */
	uint64_t contended;	 /* of them with somebody seeming to wait for it */
	uint64_t handoff_max_ns; /* longest that it stood back for a waiter to take the lock */
};

extern struct loadvm_status loadvm_status;

/*
 * Change this process as `policy` says, or not at all. 0, or a negative errno; either way `text`
 * (size bytes) is the sentence to tell the user. Before main(), from a constructor.
 */
int loadvm_core_install(const char *policy, char *text, size_t size);
typedef int loadvm_core_install_fn(const char *policy, char *text, size_t size);

#endif
