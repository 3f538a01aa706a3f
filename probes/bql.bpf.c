// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel side: follow each thread through ask, acquire and release of the Big QEMU Lock, and
 * add what it did to the record of its call site. Runs at probe points that the seam map chose;
 * every attachment's cookie says which QEMU and which point it is.
 *
 * What is inside a hold is kept short, since it lengthens the hold for everyone who waits: the site
 * is looked up at the ask, before the lock is taken.
 */
#include "probes/kernel.h"
#include "probes/abi.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "probes/tables.h"
#include "probes/blocked.h"
#include "probes/stack.h"
#include "probes/victims.h"

char LICENSE[] SEC("license") = "GPL";

/* Inline assembly: clang 14 drops a mask that it can prove needless and the verifier cannot. */
static __always_inline void set_owner(uint32_t slot, uint32_t tid)
{
	asm volatile("%0 &= %1" : "+r"(slot) : "i"(ABI_SLOTS - 1));
	*(volatile uint32_t *)&owners[slot] = tid;
}

static __always_inline bool owned(uint32_t slot)
{
	asm volatile("%0 &= %1" : "+r"(slot) : "i"(ABI_SLOTS - 1));
	return *(volatile uint32_t *)&owners[slot] != 0;
}

static __always_inline struct abi_slot *slot_at(uint64_t cookie)
{
	uint32_t index = ABI_COOKIE_SLOT(cookie), point = ABI_COOKIE_POINT(cookie);
	struct abi_slot *slot = bpf_map_lookup_elem(&slots, &index);

	/* Until the last probe stands nothing counts: half a plan would lie. */
	if (!slot || slot->epoch != ABI_COOKIE_EPOCH(cookie))
		return NULL;
	asm volatile("%0 &= %1" : "+r"(point) : "i"(ABI_POINTS - 1));
	/* Read first: a store each time would bounce the line between CPUs. */
	if (!slot->hit[point])
		slot->hit[point] = 1;
	return slot;
}

/* For the points of the lock itself, which do not always record. */
static __always_inline struct abi_slot *lock_at(uint64_t cookie)
{
	struct abi_slot *slot = slot_at(cookie);

	return slot && slot->stretch ? slot : NULL;
}

/* A thread seen for the first time, or for the first time since this attach. */
static __noinline uint32_t new_thread(uint32_t epoch, uint32_t slot)
{
	uint64_t id = bpf_get_current_pid_tgid();
	struct abi_thread *t;
	uint32_t index;

	if (bpf_map_pop_elem(&free_threads, &index)) {
		if (nr_threads >= ABI_THREADS)
			return ABI_NONE;
		index = __sync_fetch_and_add(&nr_threads, 1);
	}
	t = bpf_map_lookup_elem(&threads, &index);
	if (!t)
		return ABI_NONE;
	t->slot = slot;
	t->tid = id;
	t->tgid = id >> 32;
	bpf_get_current_comm(t->comm, sizeof(t->comm));
	t->epoch = epoch;
	has_state[(uint32_t)id & (STATE_HINTS - 1)] = 1;
	return index;
}

static __always_inline struct abi_phase phase_of(struct abi_slot *slot)
{
	struct abi_phase p = slot->base;

	p.device = slot->device;
	if (p.device)
		p.kind = ABI_PHASE_DEVICE;
	return p;
}

static __always_inline struct state *state_of(struct task_struct *task)
{
	if (!has_state[task->pid & (STATE_HINTS - 1)])
		return NULL;
	return bpf_task_storage_get(&states, task, NULL, 0);
}

/*
 * Whether it holds a lock that is being recorded. A thread whose probes went in the middle of its
 * hold stays what it was, maybe for ever: it must not be taken for the holder in the next stretch,
 * or write where another QEMU's holder does that has got the slot.
 */
static __always_inline bool holds(const struct state *st)
{
	struct abi_slot *slot;

	if (st->does != HOLDS)
		return false;
	slot = slot_of(st->cur.slot);
	return slot && slot->epoch == st->epoch && slot->stretch == st->stretch;
}

static __always_inline bool goes_with(const struct abi_block *b, int32_t cause, uint32_t waker)
{
	return !b->count || (b->cause == cause && b->waker == waker);
}

/*
 * Put a block with those of the same cause and waker in this hold. No loop: clang 14 lays it out in
 * a way that verifiers up to 6.1 take for endless.
 */
static __always_inline void add_block(struct abi_hold *h, int32_t cause, uint32_t waker,
				      uint64_t ns)
{
	struct abi_block *b = &h->blocked[0];

	_Static_assert(ABI_CAUSES == 4, "one step for each");
	b += !goes_with(b, cause, waker);
	b += !goes_with(b, cause, waker);
	b += !goes_with(b, cause, waker);
	if (!goes_with(b, cause, waker)) {
		cause = ABI_CAUSE_OTHERS;
		waker = 0;
	}
	b->cause = cause;
	b->waker = waker;
	b->count++;
	b->ns += ns;
}

/*
 * A holder that was off its CPU goes on. `seen` false: that was some time before now. There are
 * kernels that switch away from some threads, and take interrupts in them, without a word to the
 * tracepoints (0.1% of the switches, on one 6.18). What then lies between waking up and now is not
 * told apart: it counts as asleep, or as running when the waking was seen.
 */
static __noinline int goes_on(struct state *st, uint64_t now, bool seen)
{
	uint64_t off_ns, ns;
	struct abi_slot *slot;
	struct abi_hold *h;

	if (!st)
		return 0;
	h = &st->cur;
	off_ns = st->off_ns;
	st->off_ns = 0;
	if (!st->off_runnable)
		__sync_fetch_and_add(&nr_sleepers, -1);
	if (!holds(st))
		return 0;
	if (st->off_runnable) {
		h->runnable_ns += seen ? now - off_ns : 0;
		return 0;
	}
	if (st->woken_ns > off_ns && st->woken_ns < now) {
		h->runnable_ns += seen ? now - st->woken_ns : 0;
		now = st->woken_ns;
	}
	ns = now - off_ns;
	st->nr_blocks++;
	add_block(h, st->off_cause, st->off_waker, ns);
	stack_at_wake(st, ns);
	if (ns <= h->longest_ns)
		return 0;
	h->longest_ns = ns;
	h->longest_cause = st->off_cause;
	h->longest_waker = st->off_waker;
	slot = slot_of(h->slot);
	if (slot)
		h->at_longest = phase_of(slot);
	return 0;
}

static __always_inline struct state *current_state(uint64_t cookie, struct abi_slot *slot)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct state *st =
		bpf_task_storage_get(&states, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!st) {
		lose(slot, ABI_LOST_STATE);
		return NULL;
	}
	/* Of another attach or stretch: all there is to do is that it sleeps no longer. */
	if (st->off_ns && (st->epoch != ABI_COOKIE_EPOCH(cookie) || st->stretch != slot->stretch))
		goes_on(st, 0, false);
	if (st->epoch != ABI_COOKIE_EPOCH(cookie)) {
		st->epoch = ABI_COOKIE_EPOCH(cookie);
		st->stretch = 0;
		st->thread = new_thread(st->epoch, ABI_COOKIE_SLOT(cookie));
	}
	if (st->stretch != slot->stretch) {
		st->stretch = slot->stretch;
		st->does = IDLE;
	}
	if (st->thread == ABI_NONE) {
		lose(slot, ABI_LOST_THREADS_FULL);
		return NULL;
	}
	return st;
}

static __noinline uint32_t new_site(struct site_key *key)
{
	struct abi_thread *t;
	struct abi_site *site;
	uint32_t index;

	if (!key)
		return ABI_NONE;
	if (bpf_map_pop_elem(&free_sites, &index)) {
		/* Checked first, so that the counter stays near the limit however long the table is
		 * full. */
		if (nr_sites >= max_sites)
			return ABI_NONE;
		index = __sync_fetch_and_add(&nr_sites, 1);
	}
	site = bpf_map_lookup_elem(&sites, &index);
	if (!site || bpf_map_update_elem(&site_index, key, &index, BPF_NOEXIST))
		return ABI_NONE;
	site->file = key->file;
	site->line = key->line;
	site->thread = key->thread;
	site->cond = key->cond;
	/* The name may lie in a module of a QEMU that is gone before user space looks. */
	bpf_probe_read_user_str(site->name, sizeof(site->name), (void *)key->file);
	/* A thread may have been named since it was first seen. */
	t = bpf_map_lookup_elem(&threads, &key->thread);
	if (t)
		bpf_get_current_comm(t->comm, sizeof(t->comm));
	return index;
}

static __always_inline uint32_t find_site(struct state *st, uint64_t file, uint32_t line, bool cond)
{
	struct site_key key = {.file = file, .line = line, .thread = st->thread, .cond = cond};
	uint32_t *index = bpf_map_lookup_elem(&site_index, &key);

	return index ? *index : new_site(&key);
}

static __always_inline void hold_begins(struct state *st, struct abi_slot *slot, uint64_t cookie,
					uint64_t now, uint64_t wait)
{
	struct abi_hold *h = &st->cur;
	struct abi_site *site;

	site = bpf_map_lookup_elem(&sites, &h->site);
	if (!site) {
		lose(slot, ABI_LOST_SITES_FULL);
		st->does = UNRECORDED;
		return;
	}
	site->acquired++;
	h->begin_ns = now;
	h->wait_ns = wait;
	h->runnable_ns = 0;
	h->slot = ABI_COOKIE_SLOT(cookie);
	h->thread = st->thread;
	h->at_begin = phase_of(slot);
	if (st->nr_blocks) {
		__builtin_memset(h->blocked, 0, sizeof(h->blocked));
		h->longest_ns = 0;
		st->nr_blocks = 0;
	}
	st->does = HOLDS;
	st->has_stack = 0;
	st->waited = 0;
	if (wait != ABI_UNKNOWN) {
		uint32_t b = abi_bucket(wait);

		st->waited = wait >= UNSEEN_WAIT_NS || log_held_since(h->slot, now - wait);

		site->waits++;
		site->wait_sum_ns += wait;
		if (wait > site->wait_max_ns) {
			site->wait_max_ns = wait;
			site->wait_max_at_ns = now - wait;
		}
		asm volatile("" : "+r"(b));
		if (b < ABI_BUCKETS)
			site->wait[b]++;
	}
	slot->owner_since_ns = now;
	slot->owner_site = h->site;
	slot->owner_thread = st->thread;
	set_owner(h->slot, bpf_get_current_pid_tgid());
}

/* Apart, because few holds block: adds the finished hold's blocking to its site, by cause. */
static __noinline int account_blocks(struct abi_hold *h, struct abi_site *site)
{
	struct abi_blocked_key key = {};
	int lost = 0;

	if (!h || !site)
		return 0;
	key.site = h->site;
	for (int i = 0; i < ABI_CAUSES; i++) {
		struct abi_block *block = &h->blocked[i];
		struct abi_blocked *sum, zero = {};

		if (!block->count)
			continue;
		if (block->cause == ABI_CAUSE_FAULT || block->cause == ABI_CAUSE_USERFAULT)
			site->fault_ns += block->ns;
		else
			site->blocked_ns += block->ns;
		key.cause = block->cause;
		key.waker = block->waker;
		sum = bpf_map_lookup_elem(&blocked, &key);
		if (!sum) {
			bpf_map_update_elem(&blocked, &key, &zero, BPF_NOEXIST);
			sum = bpf_map_lookup_elem(&blocked, &key);
		}
		if (!sum) {
			lost++;
			continue;
		}
		sum->count += block->count;
		sum->ns += block->ns;
		if (block->ns > sum->max_ns)
			sum->max_ns = block->ns;
	}
	return lost;
}

static __always_inline void hold_ends(struct state *st, struct abi_slot *slot, void *ctx,
				      uint64_t now)
{
	struct abi_hold *h = &st->cur;
	struct abi_event_hold *event;
	struct abi_site *site;
	uint32_t b;

	if (st->off_ns)
		goes_on(st, now, false);
	/* Before all else: what it loses its CPU for from here on is not part of the hold. */
	*(volatile uint32_t *)&st->does = IDLE;
	if (st->waited)
		charge_wait(st);
	log_hold(h->slot, h->site, h->begin_ns, now);
	set_owner(h->slot, 0);
	site = bpf_map_lookup_elem(&sites, &h->site);
	if (!site)
		return;
	h->hold_ns = now - h->begin_ns;
	site->holds++;
	site->hold_sum_ns += h->hold_ns;
	site->runnable_ns += h->runnable_ns;
	b = abi_bucket(h->hold_ns);
	asm volatile("" : "+r"(b));
	if (b < ABI_BUCKETS)
		site->hold[b]++;
	if (st->nr_blocks) {
		int lost = account_blocks(h, site);

		if (lost)
			__sync_fetch_and_add(&slot->lost[ABI_LOST_BLOCKS], lost);
	}
	if (h->hold_ns > site->worst.hold_ns) {
		h->at_end = phase_of(slot);
		site->worst = *h;
	}
	if (h->hold_ns < threshold_ns && (h->wait_ns < threshold_ns || h->wait_ns == ABI_UNKNOWN))
		return;
	h->at_end = phase_of(slot);
	stack_at_release(st, ctx, now);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lose(slot, ABI_LOST_RING_FULL);
		return;
	}
	event->type = ABI_EVENT_HOLD;
	event->epoch = st->epoch;
	event->hold = *h;
	/* Waking the reader would cost the holder; it looks by itself several times a second. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __always_inline void acquired(struct state *st, struct abi_slot *slot, uint64_t cookie,
				     uint64_t now)
{
	uint64_t wait = ABI_UNKNOWN;

	if (st->does == ASKED) {
		wait = now - st->ask_ns;
	} else if (st->does != ASLEEP) {
		if (st->does == HOLDS)
			lose(slot, ABI_LOST_NO_RELEASE);
		if (!slot->holds_only)
			lose(slot, ABI_LOST_NO_ASK);
		st->cur.site = find_site(st, 0, 0, false);
	}
	hold_begins(st, slot, cookie, now, wait);
}

static __always_inline void released(struct state *st, struct abi_slot *slot, void *ctx,
				     uint64_t now)
{
	switch (st->does) {
	case HOLDS:
		hold_ends(st, slot, ctx, now);
		break;
	case ASLEEP: /* 11.1 enters the condvar wait first and then says that it gave the lock back
		      */
		break;
	case UNRECORDED:
		st->does = IDLE;
		break;
	default:
		lose(slot, ABI_LOST_NO_ACQUIRE);
	}
}

/* rdi = file, esi = line */
SEC("uprobe")
int on_ask(struct pt_regs *ctx)
{
	uint64_t cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = lock_at(cookie);
	struct state *st = slot ? current_state(cookie, slot) : NULL;

	if (!st)
		return 0;
	if (st->does == HOLDS) {
		lose(slot, ABI_LOST_NO_RELEASE);
		set_owner(ABI_COOKIE_SLOT(cookie), 0);
	}
	st->cur.site = find_site(st, ctx->di, ctx->si, false);
	st->does = ASKED;
	if (owned(ABI_COOKIE_SLOT(cookie)))
		log_asked(ABI_COOKIE_SLOT(cookie));
	st->ask_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("uprobe")
int on_acquired(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = lock_at(cookie);
	struct state *st = slot ? current_state(cookie, slot) : NULL;

	if (st)
		acquired(st, slot, cookie, now);
	return 0;
}

SEC("uprobe")
int on_released(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = lock_at(cookie);
	struct state *st = slot ? current_state(cookie, slot) : NULL;

	if (!st)
		return 0;
	released(st, slot, ctx, now);
	return 0;
}

/* dil: 1 has it, 0 is about to have given it back; condvar waits come through here too. */
SEC("uprobe")
int on_status(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = lock_at(cookie);
	struct state *st = slot ? current_state(cookie, slot) : NULL;

	if (!st)
		return 0;
	if (ctx->di & 0xff)
		acquired(st, slot, cookie, now);
	else
		released(st, slot, ctx, now);
	return 0;
}

/* A condvar wait on the BQL gives it back until it returns; on any other mutex it is no concern. */
static __always_inline int sleeps(struct pt_regs *ctx, uint64_t file, uint32_t line)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = lock_at(cookie);
	struct state *st;

	if (!slot)
		return 0;
	if (ctx->si != slot->bql) {
		slot->others++;
		return 0;
	}
	st = current_state(cookie, slot);
	if (!st)
		return 0;
	if (st->does == HOLDS)
		hold_ends(st, slot, ctx, now);
	st->cur.site = find_site(st, file, line, true);
	st->does = ASLEEP;
	return 0;
}

/* rsi = the mutex, rdx = file, ecx = line */
SEC("uprobe")
int on_cond_sleep(struct pt_regs *ctx)
{
	return sleeps(ctx, ctx->dx, ctx->cx);
}

/* rsi = the mutex, rcx = file, r8d = line */
SEC("uprobe")
int on_cond_timed_sleep(struct pt_regs *ctx)
{
	return sleeps(ctx, ctx->cx, ctx->r8);
}

SEC("uprobe")
int on_cond_woke(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct abi_slot *slot = lock_at(cookie);
	struct state *st;

	if (!slot)
		return 0;
	st = bpf_task_storage_get(&states, task, NULL, 0);
	if (st && st->epoch == ABI_COOKIE_EPOCH(cookie) && st->stretch == slot->stretch &&
	    st->does == ASLEEP)
		hold_begins(st, slot, cookie, now, ABI_UNKNOWN);
	return 0;
}

/* What it takes the source to hand its guest over. */
static __always_inline void source_mark(struct abi_slot *slot, uint32_t mark, uint64_t now)
{
	if (mark == ABI_MARK_STOP) {
		slot->stop_ns = now;
		slot->save_ns = slot->saved_ns = 0;
	} else if (mark == ABI_MARK_SAVE) {
		slot->save_ns = now;
		slot->saved_ns = 0;
	} else if (slot->save_ns && !slot->saved_ns) {
		slot->saved_ns = now;
	}
}

/* Where the incoming migration is. Marks that change nothing leave no event. */
SEC("uprobe")
int on_mark(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx);
	struct abi_slot *slot = slot_at(cookie);
	struct abi_event_phase *event;
	struct abi_phase before;
	uint32_t base;
	uint64_t name;

	if (!slot)
		return 0;
	if (ABI_COOKIE_MARK(cookie) >= ABI_MARK_STOP) {
		source_mark(slot, ABI_COOKIE_MARK(cookie), now);
		return 0;
	}
	before = phase_of(slot);
	base = slot->base.kind;
	switch (ABI_COOKIE_MARK(cookie)) {
	case ABI_MARK_LOAD_BEGIN:
		base = ABI_PHASE_SETUP;
		slot->device = 0;
		break;
	case ABI_MARK_RAM:
		/* Postcopy loads RAM while devices load, disks activate and after the start. */
		if (base == ABI_PHASE_START)
			base = ABI_PHASE_POSTCOPY;
		else if (base <= ABI_PHASE_SETUP)
			base = ABI_PHASE_RAM;
		break;
	case ABI_MARK_SECTION_BEGIN:
		if (bpf_probe_read_user(&name, sizeof(name), (void *)ctx->si))
			name = ABI_UNKNOWN;
		slot->device = name;
		slot->device_tid = bpf_get_current_pid_tgid();
		break;
	case ABI_MARK_SECTION_END:
		/* In postcopy the thread that receives pages passes here too, meanwhile. */
		if (slot->device_tid == (uint32_t)bpf_get_current_pid_tgid())
			slot->device = 0;
		break;
	case ABI_MARK_ACTIVATE:
		if (base != ABI_PHASE_NONE)
			base = ABI_PHASE_ACTIVATE;
		break;
	case ABI_MARK_START:
		if (base != ABI_PHASE_NONE)
			base = ABI_PHASE_START;
		break;
	case ABI_MARK_LOAD_END:
		base = ABI_PHASE_NONE;
		slot->device = 0;
		break;
	}
	slot->base.kind = base;
	if (before.device == slot->device && before.kind == phase_of(slot).kind)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lose(slot, ABI_LOST_RING_FULL);
		return 0;
	}
	event->type = ABI_EVENT_PHASE;
	event->epoch = ABI_COOKIE_EPOCH(cookie);
	event->at_ns = now;
	event->now = phase_of(slot);
	event->slot = ABI_COOKIE_SLOT(cookie);
	event->tid = bpf_get_current_pid_tgid();
	event->name[0] = 0;
	if (slot->device)
		bpf_probe_read_user_str(event->name, sizeof(event->name), (void *)slot->device);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline void switched_out(struct state *st, void *ctx, struct task_struct *prev,
					 bool preempted)
{
	uint64_t now = bpf_ktime_get_ns();
	unsigned int sleep = prev->__state;

	st->off_runnable = preempted || !sleep;
	if (st->off_runnable) {
		st->off_ns = now;
		stack_at_preemption(st, prev);
		return;
	}
	st->off_cause = cause_of(ctx, prev, sleep);
	st->off_waker = 0;
	st->woken_ns = 0;
	/* The last: from here on another CPU may say that it wakes it. */
	*(volatile uint64_t *)&st->off_ns = now;
	__sync_fetch_and_add(&nr_sleepers, 1);
	stack_at_block(st, prev);
}

/* Runs at every context switch of the machine, and costs the same however many QEMUs are traced. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *prev, struct task_struct *next)
{
	struct state *st;

	st = state_of(prev);
	if (st && st->off_ns)
		goes_on(st, bpf_ktime_get_ns(), false);
	if (st && holds(st))
		switched_out(st, ctx, prev, preempted);
	st = state_of(next);
	if (st && st->off_ns)
		goes_on(st, bpf_ktime_get_ns(), true);
	return 0;
}

/* Runs at every wake-up of the machine. */
SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	struct state *st;

	if (!nr_sleepers)
		return 0;
	st = state_of(task);
	if (!st || !st->off_ns || st->off_runnable)
		return 0;
	if (!st->woken_ns)
		st->woken_ns = bpf_ktime_get_ns();
	if (st->off_cause == __NR_futex)
		woken(st);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct state *st = state_of(task);
	struct abi_slot *slot;

	if (st && st->off_ns)
		goes_on(st, bpf_ktime_get_ns(), false);
	if (!st || !holds(st))
		return 0;
	st->does = IDLE;
	slot = slot_of(st->cur.slot);
	if (!slot)
		return 0;
	set_owner(st->cur.slot, 0);
	lose(slot, ABI_LOST_EXIT_HOLDING);
	return 0;
}
