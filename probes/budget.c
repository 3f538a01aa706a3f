/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeping what tracing costs a QEMU below a share of one core.
 *
 * The cost is what the kernel side has counted, times what calibration found a lock and unlock to
 * take longer. The budget is an account: it is filled evenly up to a second's worth, and what
 * tracing costs is taken from it. So a guest that hammers a device is let go at the next look, and
 * one that is a little over the budget within seconds, but a moment's rush does not matter.
 */
#include <string.h>

#include "probes/budget.h"
#include "probes/private.h"

#define SECOND_NS 1000000000ULL

#define LOOK_NS	      150000000ULL     /* at least between two looks */
#define BURST_NS      20000000ULL      /* at least, of one burst */
#define TAKE_OUT_NS   5000000ULL       /* for which hits go on after it */
#define RARE_NS	      (10 * SECOND_NS) /* bursts further apart tell nothing about a load */
#define REST_NS	      200000000ULL     /* between two bursts, at least */
#define AWAY_NS	      (60 * SECOND_NS)
#define CALM_SHARE    0.7  /* of the budget */
#define HOLDS_SHARE   0.95 /* of the budget: then it is worth a try */
#define CALM_LOOKS    15   /* ~3 s */
#define CALM_BURSTS   3
#define ASK_SHARE     (1.0 / 3) /* of a pair's cost: one hit of three, and a look-up */
#define UNMEASURED_NS 2000	/* a pair, on the machines that we know */
#define STEPPED_NS    9000	/* a hit on an instruction that the kernel single-steps: more */

#define BIT(kind) (1U << (kind))
#define LOCK_KINDS                                                                                 \
	(BIT(SEAM_ASK) | BIT(SEAM_ACQUIRED) | BIT(SEAM_RELEASED) | BIT(SEAM_STATUS) |              \
	 BIT(SEAM_COND_SLEEP) | BIT(SEAM_COND_TIMED_SLEEP) | BIT(SEAM_COND_WOKE))

/* ---- what it costs ---- */

static void count(struct tracer *t, int slot, uint64_t *pairs, uint64_t *others)
{
	uint32_t used = sites_used(t);

	*pairs = 0;
	*others = t->slots[slot].others;
	for (uint32_t i = 0; i < used; i++) {
		const struct abi_thread *thread = &t->threads[t->sites[i].thread];

		if (thread->slot == (uint32_t)slot && thread->epoch == t->targets[slot].epoch)
			*pairs += t->sites[i].acquired;
	}
}

static double pair_ns(const struct tracer *t, int slot)
{
	const struct target *target = &t->targets[slot];
	double ns = t->cost.measured ? t->cost.pair_ns : UNMEASURED_NS;

	/* Calibration's own points are emulated ones. */
	for (size_t i = 0; i < target->nr_points; i++)
		if (BIT(target->points[i].kind) & LOCK_KINDS && target->probes[i].prog &&
		    !target->points[i].emulated)
			ns += STEPPED_NS;
	return ns;
}

/* What it would have taken since the last look had everything been traced, ns. */
static double spent_ns(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;
	uint64_t pairs, others;
	double ns;

	count(t, slot, &pairs, &others);
	/* A wait for something else than the lock passes one point. */
	ns = ((pairs - b->pairs) + (others - b->others) / 3.0) * pair_ns(t, slot);
	b->pairs = pairs;
	b->others = others;
	return ns;
}

/* ---- putting the lock's probes in and out ---- */

static void begin_stretch(struct tracer *t, int slot, uint64_t now)
{
	struct budget *b = &t->targets[slot].budget;
	uint64_t pairs, others;

	count(t, slot, &pairs, &others);
	b->pairs = pairs;
	b->others = others;
	b->in = true;
	b->in_ns = b->looked_ns = now;
	t->slots[slot].holds_only = b->level == TRACER_HOLDS;
	t->skel->bss->owners[slot] = 0;
	/* Whatever threads were in the middle of before belongs to another stretch. */
	__atomic_store_n(&t->slots[slot].stretch, ++b->stretches, __ATOMIC_RELEASE);
}

static void add_up(struct budget *b, uint64_t now)
{
	if (!b->in)
		return;
	b->in = false;
	b->covered_ns += now - b->in_ns;
	if (b->level != TRACER_HOLDS)
		b->waits_ns += now - b->in_ns;
}

static void end_stretch(struct tracer *t, int slot)
{
	__atomic_store_n(&t->slots[slot].stretch, 0, __ATOMIC_RELEASE);
	t->skel->bss->owners[slot] = 0;
	add_up(&t->targets[slot].budget, now_ns());
}

/* Whether all that the lock needs went in. Not so for a process that is gone, or just patched. */
static bool put_in(struct tracer *t, int slot, uint32_t kinds)
{
	struct target *target = &t->targets[slot];

	slot_attach(t, slot, kinds);
	for (size_t i = 0; i < target->nr_points; i++)
		if (BIT(target->points[i].kind) & kinds && target->probes[i].prog &&
		    target->probes[i].err)
			return false;
	return true;
}

static void set_level(struct tracer *t, int slot, enum tracer_level level, uint64_t now)
{
	struct budget *b = &t->targets[slot].budget;

	b->level = level;
	b->calm = 0;
	if (t->opts.sink.level)
		t->opts.sink.level(t->opts.sink.opaque, slot, level, now, b->cores);
}

static void go_full(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;

	end_stretch(t, slot);
	if (!put_in(t, slot, LOCK_KINDS)) {
		slot_detach(t, slot, LOCK_KINDS);
		b->due_ns = now_ns() + SECOND_NS;
		return;
	}
	b->credit_ns = t->opts.max_overhead * SECOND_NS;
	b->due_ns = 0;
	if (b->level != TRACER_FULL)
		set_level(t, slot, TRACER_FULL, now_ns());
	begin_stretch(t, slot, now_ns());
}

static void go_holds(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;

	end_stretch(t, slot);
	slot_detach(t, slot, BIT(SEAM_ASK));
	b->credit_ns = t->opts.max_overhead * SECOND_NS;
	set_level(t, slot, TRACER_HOLDS, now_ns());
	begin_stretch(t, slot, now_ns());
}

/* Out, until the account can bear another burst. */
static void take_out(struct tracer *t, int slot, double cost_ns)
{
	struct budget *b = &t->targets[slot].budget;
	enum tracer_level level;
	uint64_t now, wait;

	end_stretch(t, slot);
	slot_detach(t, slot, LOCK_KINDS);
	now = now_ns();
	wait = cost_ns / t->opts.max_overhead;
	if (wait < REST_NS)
		wait = REST_NS;
	level = wait > RARE_NS ? TRACER_AWAY : TRACER_BURSTS;
	if (level == TRACER_AWAY && wait < AWAY_NS)
		wait = AWAY_NS;
	b->due_ns = now + wait;
	if (b->level != level)
		set_level(t, slot, level, now);
}

/* ---- looking ---- */

/* Over about a second, unless it is far too much right now. */
static double settled(const struct budget *b, double cores, double budget)
{
	if (cores > 2 * budget || b->cores > 2 * budget || !b->cores)
		return cores;
	return 0.8 * b->cores + 0.2 * cores;
}

/* Everything is in, or all but the asks; or nothing, as putting it in did not succeed. */
static void look(struct tracer *t, int slot, uint64_t now)
{
	struct budget *b = &t->targets[slot].budget;
	double full = t->opts.max_overhead * SECOND_NS, share, spent;
	uint64_t window = now - b->looked_ns;

	if (!b->in && now >= b->due_ns)
		go_full(t, slot);
	if (!b->in || window < LOOK_NS)
		return;
	b->looked_ns = now;
	spent = spent_ns(t, slot);
	b->cores = settled(b, spent / window, t->opts.max_overhead);
	share = b->level == TRACER_HOLDS ? 1 - ASK_SHARE : 1;
	b->credit_ns += t->opts.max_overhead * window - spent * share;
	if (b->credit_ns > full)
		b->credit_ns = full;
	b->calm = b->cores < CALM_SHARE * t->opts.max_overhead ? b->calm + 1 : 0;
	if (b->level == TRACER_HOLDS && b->calm >= CALM_LOOKS) {
		go_full(t, slot);
	} else if (b->credit_ns < 0) {
		if (b->level == TRACER_FULL &&
		    b->cores * (1 - ASK_SHARE) < HOLDS_SHARE * t->opts.max_overhead)
			go_holds(t, slot);
		else
			take_out(t, slot, -b->credit_ns);
	}
}

static void begin_burst(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;
	uint64_t begin = now_ns();

	/* With many QEMUs the kernel takes its time to let go of the last burst. */
	if (!slot_settled(t, slot)) {
		b->due_ns = begin + LOOK_NS;
		return;
	}
	if (!put_in(t, slot, LOCK_KINDS)) {
		slot_detach(t, slot, LOCK_KINDS);
		b->due_ns = begin + SECOND_NS;
		return;
	}
	b->put_in_ns = begin;
	begin_stretch(t, slot, now_ns());
	b->due_ns = b->in_ns + BURST_NS;
}

/*
 * The whole time that probes were in is taken for lost, as it is for the thread of a guest that
 * does nothing but take the lock, unless much less was counted.
 */
static void end_burst(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;
	uint64_t now = now_ns(), window = now - b->in_ns;
	double cost;

	b->cores = spent_ns(t, slot) / window;
	b->calm = b->cores < CALM_SHARE * t->opts.max_overhead ? b->calm + 1 : 0;
	if (b->calm >= CALM_BURSTS) {
		go_full(t, slot);
		return;
	}
	cost = now + TAKE_OUT_NS - b->put_in_ns;
	take_out(t, slot, b->cores < 0.5 ? 2 * b->cores * cost : cost);
}

void budget_begin(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;

	memset(b, 0, sizeof(*b));
	b->credit_ns = t->opts.max_overhead * SECOND_NS;
	begin_stretch(t, slot, now_ns());
}

void budget_step(struct tracer *t, int slot)
{
	struct budget *b = &t->targets[slot].budget;
	uint64_t now = now_ns();

	if (t->opts.max_overhead <= 0)
		return;
	if (b->level == TRACER_FULL || b->level == TRACER_HOLDS)
		look(t, slot, now);
	else if (now >= b->due_ns && !b->in)
		begin_burst(t, slot);
	else if (now >= b->due_ns)
		end_burst(t, slot);
}

void budget_again(struct tracer *t, int slot)
{
	slot_attach(t, slot, ~LOCK_KINDS);
	go_full(t, slot);
}

void budget_end(struct tracer *t, int slot)
{
	add_up(&t->targets[slot].budget, now_ns());
}

/* ---- for tracer.h ---- */

unsigned tracer_due_ms(const struct tracer *t)
{
	uint64_t now = now_ns(), left = 200000000;

	for (int slot = 0; slot < ABI_SLOTS; slot++) {
		const struct target *target = &t->targets[slot];
		const struct budget *b = &target->budget;

		if (!target->attached || !b->due_ns)
			continue;
		if (b->due_ns <= now)
			return 0;
		if (b->due_ns - now < left)
			left = b->due_ns - now;
	}
	return (left + 999999) / 1000000;
}

void tracer_coverage(const struct tracer *t, int slot, struct tracer_coverage *c)
{
	const struct budget *b = &t->targets[slot].budget;
	uint64_t on = b->in ? now_ns() - b->in_ns : 0;

	c->level = b->level;
	c->cores = b->cores;
	c->covered_ns = b->covered_ns + on;
	c->waits_ns = b->waits_ns + (b->level == TRACER_HOLDS ? 0 : on);
}
