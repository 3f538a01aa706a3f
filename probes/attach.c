/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaching by the plan: which probe goes where in one QEMU. Only where the seam map says, by file
 * offset, for this process alone, and only where the bytes in memory are those of the file: a
 * uprobe runs the file's instruction, so on patched bytes it would kill the QEMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/multi.h"
#include "probes/plan.h"
#include "probes/private.h"

#define ATTACH_TRIES 3 /* one that fails takes ~0.1 s, to take out again */

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

static int open_link(struct tracer *t, struct target *target, const unsigned *which, size_t count,
		     struct probe_link *link)
{
	uint64_t offsets[ABI_POINTS], cookies[ABI_POINTS];
	struct probe *first = &target->probes[which[0]];
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = first->cookie);

	*link = (struct probe_link){.multi_fd = -1};
	if (!t->multi) {
		link->single = bpf_program__attach_uprobe_opts(first->prog, target->pid,
							       target->path, first->offset, &opts);
		return link->single ? 0 : -errno;
	}
	for (size_t i = 0; i < count; i++) {
		offsets[i] = target->probes[which[i]].offset;
		cookies[i] = target->probes[which[i]].cookie;
	}
	link->multi_fd = multi_attach(bpf_program__fd(first->prog), target->pid, target->path,
				      offsets, cookies, count);
	return link->multi_fd < 0 ? link->multi_fd : 0;
}

static void *close_single(void *link)
{
	bpf_link__destroy(link);
	return NULL;
}

static void *close_multi(void *fd)
{
	close((intptr_t)fd);
	return NULL;
}

/* The kernel waits out grace periods, ~50 ms: not our caller, and all links together. */
static void close_link(struct target *target, struct probe_link *link)
{
	void *(*closer)(void *) = link->single ? close_single : close_multi;
	void *what = link->single ? (void *)link->single : (void *)(intptr_t)link->multi_fd;

	if (target->nr_closers < ABI_POINTS &&
	    !pthread_create(&target->closers[target->nr_closers], NULL, closer, what))
		target->nr_closers++;
	else
		closer(what);
	*link = (struct probe_link){.multi_fd = -1};
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
	struct probe_link link;
	int err = -EAGAIN;

	for (int i = 0; i < ATTACH_TRIES && err == -EAGAIN; i++) {
		err = open_link(t, target, which, count, &link);
		if (!err && !all_in(target, which, count)) {
			err = -EAGAIN;
			close_link(target, &link);
			slot_settle(t, target - t->targets);
		}
	}
	for (size_t i = 0; err && count > 1 && i < count; i++)
		attach_group(t, target, &which[i], 1);
	if (err && count == 1)
		refuse(target, which[0], err);
	if (err)
		return;
	for (unsigned l = 0; l < ABI_POINTS; l++) {
		if (target->links[l].single || target->links[l].multi_fd >= 0)
			continue;
		target->links[l] = link;
		for (size_t i = 0; i < count; i++) {
			target->probes[which[i]].link = l + 1;
			target->probes[which[i]].err = 0;
			target->points[which[i]].attached = true;
		}
		return;
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
			if (tried[j] || target->probes[j].link || !wanted(target, j, kinds) ||
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

	for (unsigned l = 0; l < ABI_POINTS; l++) {
		bool out = false;

		/* A link's probes are of kinds that come and go together. */
		for (size_t i = 0; i < target->nr_points; i++) {
			if (target->probes[i].link != l + 1 || !wanted(target, i, kinds))
				continue;
			target->probes[i].link = 0;
			out = true;
		}
		if (out)
			close_link(target, &target->links[l]);
	}
}

void slot_settle(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	while (target->nr_closers)
		pthread_join(target->closers[--target->nr_closers], NULL);
}

bool slot_settled(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];

	while (target->nr_closers &&
	       !pthread_tryjoin_np(target->closers[target->nr_closers - 1], NULL))
		target->nr_closers--;
	return !target->nr_closers;
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
		for (size_t i = 0; i < ABI_POINTS; i++)
			target->links[i].multi_fd = -1;
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
