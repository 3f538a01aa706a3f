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

#include "probes/plan.h"
#include "probes/private.h"

#define ATTACH_TRIES 3 /* one that fails takes ~0.1 s, to detach */

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
	case SEAM_RAM_END:
	case SEAM_POINT_KINDS:
		return NULL;
	}
	return t->skel->progs.on_mark;
}

void target_clear(struct target *target)
{
	seam_map_free(target->map);
	free(target->devices);
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
	__atomic_store_n(&t->slots[slot].epoch, t->targets[slot].epoch, __ATOMIC_RELEASE);
}

static void *detach(void *link)
{
	bpf_link__destroy(link);
	return NULL;
}

void slot_release(struct tracer *t, int slot)
{
	struct target *target = &t->targets[slot];
	pthread_t threads[ABI_POINTS];
	bool started[ABI_POINTS];

	__atomic_store_n(&t->slots[slot].epoch, 0, __ATOMIC_RELEASE);
	target->disarmed_ns = now_ns();
	/* The kernel waits out a grace period for each, ~0.1 s: let them wait together. */
	for (size_t i = 0; i < target->nr_points; i++) {
		started[i] = !pthread_create(&threads[i], NULL, detach, target->links[i]);
		if (!started[i])
			detach(target->links[i]);
	}
	for (size_t i = 0; i < target->nr_points; i++) {
		if (started[i])
			pthread_join(threads[i], NULL);
		target->links[i] = NULL;
	}
	/* Only now: a program that had begun before may still have finished its hold. */
	target->last_owner = t->skel->bss->owners[slot];
	t->skel->bss->owners[slot] = 0;
	target->attached = false;
}

int slot_attach(struct tracer *t, int slot, struct bpf_program *prog, const char *path,
		uint64_t offset, enum abi_mark mark)
{
	struct target *target = &t->targets[slot];
	size_t point = target->nr_points;
	LIBBPF_OPTS(bpf_uprobe_opts, opts,
		    .bpf_cookie = ABI_COOKIE(target->epoch, mark, point, slot));
	struct bpf_link *link;

	if (point == ABI_POINTS)
		return -ENOSPC;
	link = bpf_program__attach_uprobe_opts(prog, target->pid, path, offset, &opts);
	if (!link)
		return -errno;
	target->links[point] = link;
	target->nr_points++;
	return 0;
}

static int attach_point(struct tracer *t, int slot, const struct seam_point *point,
			struct bpf_program *prog, enum abi_mark mark)
{
	struct target *target = &t->targets[slot];
	struct tracer_point *out = &target->points[target->nr_points];
	const struct plan_process process = {target->pid, target->bias, target->mem_fd};
	enum plan_text text;
	int err;

	out->kind = point->kind;
	out->vaddr = point->vaddr;
	out->insn = point->insn;
	out->emulated = point->emulated;
	text = plan_text(&process, point, out->refusal, sizeof(out->refusal));
	out->shared = text == PLAN_TEXT_SHARED;
	if (text == PLAN_TEXT_REFUSED) {
		target->nr_points++;
		return -ETXTBSY;
	}
	/*
	 * The kernel says yes to a probe on a page that is writable just then, as while a detour
	 * goes in, and leaves its breakpoint out for good (seen on 6.18).
	 */
	for (int i = 0; i < ATTACH_TRIES; i++) {
		err = slot_attach(t, slot, prog, seam_map_path(target->map), point->offset, mark);
		if (err)
			break;
		if (plan_breakpoint(&process, point)) {
			out->attached = true;
			return 0;
		}
		target->nr_points--;
		bpf_link__destroy(target->links[target->nr_points]);
		target->links[target->nr_points] = NULL;
	}
	if (!err) {
		snprintf(out->refusal, sizeof(out->refusal),
			 "its code is being patched: try again");
		target->nr_points++;
		return -EAGAIN;
	}
	snprintf(out->refusal, sizeof(out->refusal), "the kernel refused it: %s%s", strerror(-err),
		 err == -EACCES ? ": newer kernels want CAP_SYS_ADMIN" : "");
	target->nr_points++;
	return err;
}

int attach_plan(struct tracer *t, int slot, struct tracer_error *err)
{
	struct target *target = &t->targets[slot];
	const struct seam_point *points;
	bool status = plan_by_status(target->map), have[SEAM_POINT_KINDS] = {};
	size_t count;
	int ret;

	points = seam_map_points(target->map, &count);
	for (size_t i = 0; i < count; i++) {
		enum abi_mark mark;
		struct bpf_program *prog = program_for(t, points[i].kind, &mark);

		if (!prog || !plan_uses(points[i].kind, status))
			continue;
		if (target->nr_points == ABI_POINTS) {
			tracer_fail(err, "process %d needs more than %d probe points", target->pid,
				    ABI_POINTS);
			return -ENOSPC;
		}
		ret = attach_point(t, slot, &points[i], prog, mark);
		if (!ret) {
			have[points[i].kind] = true;
			continue;
		}
		if (!plan_needs(points[i].kind, status))
			continue;
		tracer_fail(err, "cannot trace process %d: the %s point at 0x%llx: %s", target->pid,
			    seam_point_kind_name(points[i].kind),
			    (unsigned long long)points[i].vaddr,
			    target->points[target->nr_points - 1].refusal);
		return ret == -ETXTBSY ? -ENOTSUP : ret;
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
	return 0;
}
