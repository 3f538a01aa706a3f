/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaching by the plan: which probe goes where in one QEMU. Only where the seam map says, by file
 * offset, for this process alone, and only where the bytes in memory are those of the file: a
 * uprobe runs the file's instruction, so on patched bytes it would kill the QEMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/plan.h"
#include "probes/private.h"

#define ATTACH_TRIES 3 /* one that fails takes ~0.1 s, to take out again */
#define GLANCE_US    1000

/* What serves each kind of point that the plan uses. */
static struct bpf_program *program_for(const struct tracer *t, enum seam_point_kind kind,
				       enum abi_mark *mark)
{
	*mark = 0;
	switch (kind) {
	case SEAM_ASK:
		return t->skel->progs.on_ask;
	case SEAM_ACQUIRED:
		return t->skel->progs.on_acquired;
	case SEAM_RELEASED:
		return t->skel->progs.on_released;
	case SEAM_STATUS:
		return t->skel->progs.on_status;
	case SEAM_COND_SLEEP:
		return t->skel->progs.on_cond_sleep;
	case SEAM_COND_TIMED_SLEEP:
		return t->skel->progs.on_cond_timed_sleep;
	case SEAM_COND_WOKE:
		return t->skel->progs.on_cond_woke;
	case SEAM_LOAD_BEGIN:
		*mark = ABI_MARK_LOAD_BEGIN;
		break;
	case SEAM_RAM_BEGIN:
		*mark = ABI_MARK_RAM;
		break;
	case SEAM_SECTION_BEGIN:
		*mark = ABI_MARK_SECTION_BEGIN;
		break;
	case SEAM_SECTION_END:
		*mark = ABI_MARK_SECTION_END;
		break;
	case SEAM_ACTIVATE:
		*mark = ABI_MARK_ACTIVATE;
		break;
	case SEAM_START:
		*mark = ABI_MARK_START;
		break;
	case SEAM_LOAD_END:
		*mark = ABI_MARK_LOAD_END;
		break;
	case SEAM_STOP:
		*mark = ABI_MARK_STOP;
		break;
	case SEAM_SAVE:
		*mark = ABI_MARK_SAVE;
		break;
	case SEAM_STATE:
		*mark = ABI_MARK_STATE;
		break;
	case SEAM_RAM_END:
	case SEAM_POINT_KINDS:
		return NULL;
	}
	return t->skel->progs.on_mark;
}

/* ---- putting probes in ---- */

/* A link's number, or a negative errno. */
static int open_link(struct tracer *t, struct target *target, const unsigned *which, size_t count)
{
	uint64_t offsets[ABI_POINTS], cookies[ABI_POINTS];
	const struct uprobes probes = {
		.prog_fd = bpf_program__fd(target->probes[which[0]].prog),
		.pid = target->pid,
		.path = target->path,
		.offsets = offsets,
		.cookies = cookies,
		.count = count,
	};

	for (size_t i = 0; i < count; i++) {
		offsets[i] = target->probes[which[i]].offset;
		cookies[i] = target->probes[which[i]].cookie;
	}
	return keeper_put_in(t->keeper, &probes, t->multi);
}

static void close_link(struct tracer *t, int slot, int link)
{
	struct target *target = &t->targets[slot];

	if (target->nr_leaving == ABI_POINTS)
		slot_settle(t, slot);
	keeper_take_out(t->keeper, link);
	target->leaving[target->nr_leaving++] = link;
}

/*
 * The kernel says yes to a probe on a page that is writable just then, as while a detour goes in,
 * and leaves its breakpoint out for good (seen on 6.18).
 */
static bool all_in(const struct target *target, const unsigned *which, size_t count)
{
	const struct plan_process process = {target->pid, target->bias, target->mem_fd};

	for (size_t i = 0; target->map && i < count; i++)
		if (!plan_breakpoint(&process, target->points[which[i]].vaddr))
			return false;
	return true;
}

static void refuse(struct target *target, unsigned which, int err)
{
	struct tracer_point *point = &target->points[which];

	target->probes[which].err = err;
	if (err == -EAGAIN)
		snprintf(point->refusal, sizeof(point->refusal),
			 "its code is being patched: try again");
	else
		snprintf(point->refusal, sizeof(point->refusal), "the kernel refused it: %s%s",
			 strerror(-err),
			 err == -EACCES ? ": newer kernels want CAP_SYS_ADMIN" : "");
}

/* Probes of one program. When they cannot go in together, each by itself: one may be to blame. */
static void attach_group(struct tracer *t, struct target *target, const unsigned *which,
			 size_t count)
{
	int link = -EAGAIN, slot = target - t->targets;

	for (int i = 0; i < ATTACH_TRIES && link == -EAGAIN; i++) {
		link = open_link(t, target, which, count);
		if (link >= 0 && !all_in(target, which, count)) {
			close_link(t, slot, link);
			slot_settle(t, slot);
			link = -EAGAIN;
		}
	}
	for (size_t i = 0; link < 0 && count > 1 && i < count; i++)
		attach_group(t, target, &which[i], 1);
	if (link < 0 && count == 1)
		refuse(target, which[0], link);
	for (size_t i = 0; link >= 0 && i < count; i++) {
		target->probes[which[i]].link = link;
		target->probes[which[i]].err = 0;
		target->points[which[i]].attached = true;
	}
}

/* Also when it goes in again: much may have happened since. */
static bool as_in_file(struct target *target, size_t i)
{
	const struct plan_process process = {target->pid, target->bias, target->mem_fd};
	struct tracer_point *point = &target->points[i];

	if (!target->probes[i].point || plan_text(&process, target->probes[i].point, point->refusal,
						  sizeof(point->refusal)) != PLAN_TEXT_REFUSED)
		return true;
	target->probes[i].err = -ENOTSUP;
	return false;
}

static bool wanted(const struct target *target, size_t i, uint32_t kinds)
{
	return target->probes[i].prog && kinds >> target->points[i].kind & 1;
}

void slot_attach(struct tracer *t, int slot, uint32_t kinds)
{
	struct target *target = &t->targets[slot];
	bool tried[ABI_POINTS] = {};

	for (size_t i = 0; i < target->nr_points; i++) {
		unsigned which[ABI_POINTS];
		size_t count = 0;

		for (size_t j = i; j < target->nr_points; j++) {
			if (tried[j] || target->probes[j].link >= 0 || !wanted(target, j, kinds) ||
			    target->probes[j].prog != target->probes[i].prog)
				continue;
			tried[j] = true;
			if (!as_in_file(target, j))
				continue;
			which[count++] = j;
			if (!t->multi)
				break;
		}
		if (count)
			attach_group(t, target, which, count);
	}
}

void slot_detach(struct tracer *t, int slot, uint32_t kinds)
{
	struct target *target = &t->targets[slot];

	for (size_t i = 0; i < target->nr_points; i++) {
		int link = target->probes[i].link;

		if (link < 0 || !wanted(target, i, kinds))
			continue;
		/* A link's probes are of kinds that come and go together. */
		for (size_t j = i; j < target->nr_points; j++)
			if (target->probes[j].link == link)
				target->probes[j].link = -1;
		close_link(t, slot, link);
	}
}

bool slot_settled(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	while (target->nr_leaving &&
	       keeper_is_out(t->keeper, target->leaving[target->nr_leaving - 1]))
		target->nr_leaving--;
	return !target->nr_leaving;
}

void slot_settle(struct tracer *t, int slot)
{
	while (!slot_settled(t, slot))
		usleep(GLANCE_US);
}

void slot_bereft(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	target->nr_leaving = 0;
	for (size_t i = 0; i < target->nr_points; i++)
		target->probes[i].link = -1;
}

/* ---- a slot's life ---- */

void target_clear(struct target *target)
{
	seam_map_free(target->map);
	free(target->devices);
	free(target->path);
	/* Open until now, since names are still read after detaching. */
	if (target->epoch && target->mem_fd >= 0)
		close(target->mem_fd);
	memset(target, 0, sizeof(*target));
}

int slot_take(struct tracer *t, pid_t pid)
{
	for (int slot = 0; slot < ABI_SLOTS; slot++) {
		struct target *target = &t->targets[slot];

		if (target->attached)
			continue;
		tracer_forget(t, slot);
		target->epoch = ++t->next_epoch;
		target->attached = true;
		target->pid = pid;
		target->mem_fd = -1;
		memset(&t->slots[slot], 0, sizeof(t->slots[slot]));
		return slot;
	}
	return -EBUSY;
}

void slot_arm(struct tracer *t, int slot, uint64_t bql)
{
	t->slots[slot].bql = bql;
	t->targets[slot].armed_ns = now_ns();
	budget_begin(t, slot);
	__atomic_store_n(&t->slots[slot].epoch, t->targets[slot].epoch, __ATOMIC_RELEASE);
}

int slot_add(struct tracer *t, int slot, struct bpf_program *prog, uint64_t offset,
	     enum abi_mark mark)
{
	struct target *target = &t->targets[slot];
	size_t point = target->nr_points;

	if (point == ABI_POINTS)
		return -ENOSPC;
	target->probes[point] = (struct probe){
		.prog = prog,
		.offset = offset,
		.cookie = ABI_COOKIE(target->epoch, mark, point, slot),
		.link = -1,
	};
	target->nr_points++;
	return 0;
}

void slot_disarm(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	if (t->slots[slot].epoch) {
		__atomic_store_n(&t->slots[slot].epoch, 0, __ATOMIC_RELEASE);
		target->disarmed_ns = now_ns();
		budget_end(t, slot);
	}
	slot_detach(t, slot, ALL_KINDS);
}

void slot_release(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	slot_disarm(t, slot);
	slot_settle(t, slot);
	/* Only now: a program that had begun before may still have finished its hold. */
	target->last_owner = t->skel->bss->owners[slot];
	t->skel->bss->owners[slot] = 0;
	target->attached = false;
}

/* ---- the plan ---- */

/* Its probe, unless its bytes in memory are not the file's. */
static int add_point(struct tracer *t, int slot, const struct seam_point *point,
		     struct bpf_program *prog, enum abi_mark mark)
{
	struct target *target = &t->targets[slot];
	struct tracer_point *out = &target->points[target->nr_points];
	const struct plan_process process = {target->pid, target->bias, target->mem_fd};
	enum plan_text text;
	int ret = slot_add(t, slot, prog, point->offset, mark);

	if (ret)
		return ret;
	target->probes[target->nr_points - 1].point = point;
	out->kind = point->kind;
	out->vaddr = point->vaddr;
	out->insn = point->insn;
	out->emulated = point->emulated;
	text = plan_text(&process, point, out->refusal, sizeof(out->refusal));
	out->shared = text == PLAN_TEXT_SHARED;
	if (text == PLAN_TEXT_REFUSED) {
		target->probes[target->nr_points - 1].prog = NULL;
		target->probes[target->nr_points - 1].err = -ENOTSUP;
	}
	return 0;
}

/* Whether every point that cannot be done without has come through so far. */
static int check_needed(const struct target *target, bool by_status, struct tracer_error *err)
{
	for (size_t i = 0; i < target->nr_points; i++) {
		const struct tracer_point *p = &target->points[i];

		if (!target->probes[i].err || !plan_needs(p->kind, by_status))
			continue;
		tracer_fail(err, "cannot trace process %d: the %s point at 0x%llx: %s", target->pid,
			    seam_point_kind_name(p->kind), (unsigned long long)p->vaddr,
			    p->refusal);
		return target->probes[i].err;
	}
	return 0;
}

int attach_plan(struct tracer *t, int slot, struct tracer_error *err)
{
	struct target *target = &t->targets[slot];
	const struct seam_point *points;
	bool status = plan_by_status(target->map), have[SEAM_POINT_KINDS] = {};
	size_t count;
	int ret;

	target->path = strdup(seam_map_path(target->map));
	if (!target->path) {
		tracer_fail(err, "out of memory");
		return -ENOMEM;
	}
	points = seam_map_points(target->map, &count);
	for (size_t i = 0; i < count; i++) {
		enum abi_mark mark;
		struct bpf_program *prog = program_for(t, points[i].kind, &mark);

		if (!prog || !plan_uses(points[i].kind, status))
			continue;
		ret = add_point(t, slot, &points[i], prog, mark);
		if (ret) {
			tracer_fail(err, "process %d needs more than %d probe points", target->pid,
				    ABI_POINTS);
			return ret;
		}
		have[points[i].kind] = true;
	}
	for (int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		const char *why;

		if (!plan_needs(kind, status) || have[kind])
			continue;
		why = seam_map_missing(target->map, kind);
		tracer_fail(err, "cannot trace process %d (QEMU %s): no %s point in this build: %s",
			    target->pid, seam_map_version(target->map), seam_point_kind_name(kind),
			    why ? why : "not found");
		return -ENOTSUP;
	}
	ret = check_needed(target, status, err);
	if (ret)
		return ret;
	slot_attach(t, slot, ALL_KINDS);
	return check_needed(target, status, err);
}
