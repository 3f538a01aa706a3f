/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The attach plan: what the tracer does with each probe point of a QEMU, and why not. Deciding is
 * apart from attaching, so that `bqlstat probes` can show it and nothing else.
 */
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/seams/seams.h"

/* A running QEMU, to compare its memory with the file. */
struct plan_process {
	pid_t pid;
	uint64_t bias;
	int mem_fd; /* /proc/PID/mem */
};

enum plan_text {
	PLAN_TEXT_ORIGINAL, /* memory holds what the file holds */
	PLAN_TEXT_SHARED,   /* but for another tracer's uprobe, which the kernel shares with ours */
	PLAN_TEXT_REFUSED,  /* no probe may go there */
};

/* Whether this build's STATUS points tell of every transition of the lock. */
bool plan_by_status(const struct seam_map *map);
/* Whether the tracer has a use for points of this kind. */
bool plan_uses(enum seam_point_kind kind, bool by_status);
/* Whether a QEMU without one that can be probed is not traced at all. */
bool plan_needs(enum seam_point_kind kind, bool by_status);
/* Compare a point's bytes in memory with the file's. PLAN_TEXT_REFUSED: `why` gets the reason. */
enum plan_text plan_text(const struct plan_process *process, const struct seam_point *point,
			 char *why, size_t size);
/* Whether a breakpoint stands there. */
bool plan_breakpoint(const struct plan_process *process, uint64_t vaddr);

#endif
