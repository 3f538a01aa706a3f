/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which call site of one build is which of another: a line of QEMU's source moves from release to
 * release, and a file from folder to folder.
 */
#ifndef MATCH_H
#define MATCH_H

#include "analyzers/model/run.h"

struct match {
	/* "FILE:LINE" of that side to the name for both: "util/main-loop.c:318" where it stayed,
	 * "util/main-loop.c:318->311" where it moved. Owns both strings. */
	GHashTable *a, *b;
};

/*
 * Sites of the same file's name are paired in the order of their lines, sooner where the same
 * function gives the lock back (known from stacks of long holds), and only where a thread of the
 * same kind uses both; a site without a partner keeps its own name. Runs of one and the same binary
 * are not paired beyond the line itself. Elements are struct run *.
 */
struct match match_sites(const GPtrArray *a, const GPtrArray *b);
void match_clear(struct match *match);

#endif
