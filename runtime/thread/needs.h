/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the incoming thread needs of a QEMU binary, in one place, and the check of it: the same for
 * `loadvm --check` and before the first byte is patched.
 */
#ifndef THREAD_NEEDS_H
#define THREAD_NEEDS_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/seams/seams.h"

/* A function that the thread calls, and where its address goes. */
struct need_call {
	enum seam_id id;
	void *where;
};

/* A function that something of ours stands in for: see struct detour_request. */
struct need_detour {
	enum seam_id id;
	void *replacement;
	void **original;
	unsigned int results;
	const uint32_t *bypass;
	const char
		*without; /* what a build that has no such function does without; NULL: all have */
};

extern const struct need_call needs_calls[];
extern const size_t needs_n_calls;
extern const struct need_detour needs_detours[];
extern const size_t needs_n_detours;

struct need_finding {
	const char *kind; /* "release", "symbol", "structure", "detour", "reached" */
	const char *name; /* of a function of this QEMU, or what is looked at */
	bool ok;
	char detail[200];
};

/*
 * Calls `tell` for each check. True when all of them passed. `tell` may be NULL.
 */
bool needs_check(const struct seam_map *map,
		 void (*tell)(const struct need_finding *finding, void *opaque), void *opaque);

/* The package whose binary this is, if it is one that the tests run on ("Debian 12, ..."). */
const char *needs_validated(const struct seam_map *map);

#endif
