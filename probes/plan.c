/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which probe points are wanted, and whether a probe may go on one in a given process.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probes/plan.h"
#include "probes/private.h"

#define INT3 0xcc

bool plan_by_status(const struct seam_map *map)
{
	size_t count;
	const struct seam_point *points = seam_map_points(map, &count);

	for (size_t i = 0; i < count; i++)
		if (points[i].kind == SEAM_STATUS)
			return true;
	return false;
}

/*
 * COND_WOKE is needless where STATUS tells of every transition, and a RAM section's end changes no
 * phase: the next section begins at once.
 */
bool plan_uses(enum seam_point_kind kind, bool by_status)
{
	return kind != SEAM_RAM_END && !(by_status && kind == SEAM_COND_WOKE);
}

bool plan_needs(enum seam_point_kind kind, bool by_status)
{
	if (by_status)
		return kind == SEAM_ASK || kind == SEAM_STATUS;
	return kind == SEAM_ASK || kind == SEAM_ACQUIRED || kind == SEAM_RELEASED;
}

/*
 * A lone int3 over the first byte is a breakpoint: another tracer's uprobe, which the kernel shares
 * with ours, unless a debugger is attached, whose own breakpoint we would take away from it.
 */
enum plan_text plan_text(const struct plan_process *process, const struct seam_point *point,
			 char *why, size_t size)
{
	uint8_t live[16];
	size_t len = point->code_len < sizeof(live) ? point->code_len : sizeof(live);
	pid_t debugger;

	if (!process_read(process->mem_fd, process->bias + point->vaddr, live, len)) {
		snprintf(why, size, "its memory cannot be read");
		return PLAN_TEXT_REFUSED;
	}
	if (!memcmp(live, point->code, len))
		return PLAN_TEXT_ORIGINAL;
	if (live[0] == INT3 && !memcmp(live + 1, point->code + 1, len - 1)) {
		debugger = process_debugger(process->pid);
		if (!debugger || debugger == getpid())
			return PLAN_TEXT_SHARED;
		snprintf(why, size, "a breakpoint of debugger %d is on it", debugger);
		return PLAN_TEXT_REFUSED;
	}
	snprintf(why, size, "memory differs from the file: something has patched it");
	return PLAN_TEXT_REFUSED;
}

bool plan_breakpoint(const struct plan_process *process, uint64_t vaddr)
{
	uint8_t live;

	return process_read(process->mem_fd, process->bias + vaddr, &live, 1) && live == INT3;
}
