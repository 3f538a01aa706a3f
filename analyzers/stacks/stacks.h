/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a copied stack to frames with names: unwinds by the .eh_frame of the files that a process
 * has mapped, which distributions' builds have where they have no frame pointers and no symbols.
 *
 * Whatever the files or the stack hold, walking ends and touches no memory but the copy. One thread
 * at a time may use an unwinder.
 */
#ifndef STACKS_H
#define STACKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "probes/abi.h"

#define STACKS_DEPTH 64 /* frames of a stack that are kept */

struct unwinder;

/* One function on a stack. Strings are the unwinder's. */
struct unwound {
	const char *module; /* the file's path as the process sees it; "" in none */
	uint64_t address;   /* in the file: where it goes on, or for the innermost is */
	const char *symbol; /* the nearest one at or before the address; "" when there is none */
	uint64_t offset;    /* from it */
	bool inside;	    /* the address is within the symbol's size, so it is that function */
};

/* Of a process, that lives: its files are opened now. Never NULL. */
struct unwinder *unwinder_new(pid_t pid);
void unwinder_free(struct unwinder *u);

/*
 * Innermost first; how many. `whole` tells whether the last is where the thread or the coroutine
 * began: else the copy ended before, or code without unwind tables is on the way.
 */
unsigned unwinder_walk(struct unwinder *u, const struct abi_stack *stack,
		       struct unwound frames[STACKS_DEPTH], bool *whole);

#endif
