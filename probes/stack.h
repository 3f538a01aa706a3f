/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel side: the stack of a thread in a long hold. QEMU is built without frame pointers, so the
 * kernel cannot walk it: registers and raw stack go to user space, which unwinds by .eh_frame.
 *
 * When a block has turned out to be long, at the switch back, the memory that is mapped is still
 * the previous task's. So the stack is copied whenever a holder goes to sleep, and sent when it was
 * worth it.
 */
#ifndef PROBES_STACK_H
#define PROBES_STACK_H

#define STACK_PAGE 4096

/* At most so many in a window: 0.5% of a core for copies, and room for what user space is late. */
#define WINDOW_NS     100000000
#define WINDOW_COPIES 200
#define WINDOW_SENT   50
/* Shorter ones leave none: a copy takes 4-10 us, which must not be much of what is measured. */
#define WORTH_BLOCK_NS 100000
#define WORTH_HOLD_NS  1000000
/* These cannot be many: they are always sent. */
#define SURELY_SENT_NS 10000000

static __always_inline struct scratch *scratch_of(uint32_t slot)
{
	return bpf_map_lookup_elem(&scratches, &slot);
}

static __always_inline void fill_budget(struct scratch *s, uint64_t now)
{
	if (now - s->window_ns < WINDOW_NS)
		return;
	s->window_ns = now;
	s->copied = 0;
	s->sent = 0;
}

/* The user-mode registers and stack of the current thread. False: over the budget. */
static __noinline bool copy_stack(struct scratch *s, void *regs, uint64_t now)
{
	uint32_t size;
	uint64_t sp;

	if (!s)
		return false;
	fill_budget(s, now);
	if (s->copied >= WINDOW_COPIES)
		return false;
	s->copied++;
	if (bpf_probe_read_kernel(s->stack.regs, sizeof(s->stack.regs), regs))
		return false;
	sp = s->stack.regs[ABI_REG_SP];
	/* To the end of its page, then page by page: what is mapped ends with one. */
	size = STACK_PAGE - (sp & (STACK_PAGE - 1));
	if (bpf_probe_read_user(s->stack.bytes, size, (void *)sp))
		return false;
	for (uint32_t i = 1; i < ABI_STACK_BYTES / STACK_PAGE; i++) {
		if (bpf_probe_read_user(s->stack.bytes + size, STACK_PAGE, (void *)(sp + size)))
			break;
		size += STACK_PAGE;
	}
	s->stack.size = size;
	return true;
}

/* What was copied last, to user space: `ns` is how long the block or the hold took. */
static __noinline void send_stack(struct scratch *s, struct state *st, uint32_t taken, uint64_t ns)
{
	struct abi_slot *slot;
	uint32_t size;

	if (!s || !st)
		return;
	slot = slot_of(st->cur.slot);
	if (!slot)
		return;
	size = s->stack.size;
	if ((s->sent >= WINDOW_SENT && ns < SURELY_SENT_NS) || size > ABI_STACK_BYTES) {
		lose(slot, ABI_LOST_STACKS);
		return;
	}
	s->sent++;
	s->stack.epoch = st->epoch;
	s->stack.slot = st->cur.slot;
	s->stack.thread = st->thread;
	s->stack.taken = taken;
	s->stack.hold_begin_ns = st->cur.begin_ns;
	s->stack.ns = ns;
	st->has_stack = 1;
	if (bpf_ringbuf_output(&stacks, &s->stack,
			       __builtin_offsetof(struct abi_stack, bytes) + size,
			       BPF_RB_NO_WAKEUP))
		lose(slot, ABI_LOST_STACKS);
}

/* The holder goes to sleep. */
static __always_inline void stack_at_block(struct state *st, struct task_struct *task)
{
	st->copied = take_stacks && copy_stack(scratch_of(st->cur.slot),
					       (void *)bpf_task_pt_regs(task), st->off_ns);
}

static __noinline void lose_stack(struct state *st)
{
	struct abi_slot *slot = st ? slot_of(st->cur.slot) : NULL;

	if (slot)
		lose(slot, ABI_LOST_STACKS);
}

/* And wakes: only a hold's longest block is of interest. */
static __always_inline void stack_at_wake(struct state *st, uint64_t ns)
{
	if (!take_stacks || ns < threshold_ns || ns < WORTH_BLOCK_NS || ns < st->cur.longest_ns)
		return;
	if (st->copied)
		send_stack(scratch_of(st->cur.slot), st, ABI_TAKEN_BLOCKED, ns);
	else
		lose_stack(st);
}

/* The holder loses its CPU, in a hold that is long already. */
static __always_inline void stack_at_preemption(struct state *st, struct task_struct *task)
{
	uint64_t held_ns = st->off_ns - st->cur.begin_ns;
	struct scratch *s;

	if (!take_stacks || st->has_stack || held_ns < threshold_ns || held_ns < WORTH_HOLD_NS)
		return;
	s = scratch_of(st->cur.slot);
	if (copy_stack(s, (void *)bpf_task_pt_regs(task), st->off_ns))
		send_stack(s, st, ABI_TAKEN_PREEMPTED, held_ns);
}

/* A long hold ends of which no stack is known. */
static __always_inline void stack_at_release(struct state *st, void *ctx, uint64_t now)
{
	struct scratch *s;

	if (!take_stacks || st->has_stack || st->cur.hold_ns < threshold_ns ||
	    st->cur.hold_ns < WORTH_HOLD_NS)
		return;
	s = scratch_of(st->cur.slot);
	if (copy_stack(s, ctx, now))
		send_stack(s, st, ABI_TAKEN_RELEASED, st->cur.hold_ns);
	else
		lose_stack(st);
}

#endif
