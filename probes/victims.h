/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel side: who made whom wait. Each holder leaves its hold in the lock's log, and a thread that
 * waited goes through the log, when its own hold is over and while nobody can write to it.
 */
#ifndef PROBES_VICTIMS_H
#define PROBES_VICTIMS_H

/* A wait this long counts even if nobody held; shorter ones are the probes' own cost. */
#define UNSEEN_WAIT_NS 10000

static __always_inline struct held_log *log_of(uint32_t slot)
{
	return bpf_map_lookup_elem(&held_logs, &slot);
}

static __always_inline struct held *entry_of(struct held_log *log, uint32_t index)
{
	asm volatile("%0 &= %1" : "+r"(index) : "i"(HELD_LOG - 1));
	return &log->at[index];
}

/*
 * Somebody holds the lock that is asked for: the hold that goes on must not be put together with
 * earlier ones, nor later ones with it, or its share of the wait would be a guess.
 */
static __always_inline void log_asked(uint32_t slot)
{
	struct held_log *log = log_of(slot);

	if (log)
		log->apart = 2;
}

/* Whether anybody held the lock since. */
static __always_inline bool log_held_since(uint32_t slot, uint64_t ask_ns)
{
	struct held_log *log = log_of(slot);

	return log && log->next && entry_of(log, log->next - 1)->end_ns > ask_ns;
}

static __always_inline void log_hold(uint32_t slot, uint32_t site, uint64_t begin, uint64_t end)
{
	struct held_log *log = log_of(slot);
	struct held *e;

	if (!log)
		return;
	e = entry_of(log, log->next - 1);
	if (log->apart) {
		log->apart--;
	} else if (e->site == site && e->end_ns) {
		e->end_ns = end;
		e->held_ns += end - begin;
		return;
	}
	e = entry_of(log, log->next);
	e->begin_ns = begin;
	e->end_ns = end;
	e->held_ns = end - begin;
	e->site = site;
	log->next++;
}

/* How much of an entry's time held lies after the ask. */
static __always_inline uint64_t overlap(const struct held *e, uint64_t ask_ns)
{
	uint64_t since = e->begin_ns > ask_ns ? e->begin_ns : ask_ns, ns;

	if (e->end_ns <= since)
		return 0;
	ns = e->end_ns - since;
	return ns < e->held_ns ? ns : e->held_ns;
}

static __always_inline void charge(uint32_t slot_index, uint32_t holder, uint32_t victim,
				   uint64_t ns)
{
	struct abi_charge_key key = {.holder = holder, .victim = victim};
	struct abi_charge *sum = bpf_map_lookup_elem(&charges, &key), zero = {};
	struct abi_slot *slot;

	if (!sum) {
		bpf_map_update_elem(&charges, &key, &zero, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&charges, &key);
	}
	if (!sum) {
		slot = slot_of(slot_index);
		if (slot)
			lose(slot, ABI_LOST_VICTIMS);
		return;
	}
	sum->count++;
	sum->ns += ns;
	if (ns > sum->max_ns)
		sum->max_ns = ns;
}

/*
 * Charge one entry of the log with its share of a wait, which is returned; ABI_UNKNOWN: it was over
 * before the ask. A function of the program's own interface, which the verifier looks at once and
 * not 64 times.
 */
__noinline uint64_t charge_entry(uint32_t slot, uint32_t index, uint64_t ask_ns, uint64_t left_ns,
				 uint32_t victim)
{
	struct held_log *log = log_of(slot);
	struct held *e;
	uint64_t ns;

	if (!log)
		return ABI_UNKNOWN;
	e = entry_of(log, index);
	if (e->end_ns <= ask_ns)
		return ABI_UNKNOWN;
	ns = overlap(e, ask_ns);
	ns = ns < left_ns ? ns : left_ns;
	charge(slot, e->site, victim, ns);
	return ns;
}

/* Divide the wait of the hold that ends among the holders in the log. */
static __noinline int charge_wait(struct state *st)
{
	struct held_log *log = st ? log_of(st->cur.slot) : NULL;
	uint64_t ask_ns, left, oldest, ns;
	uint32_t victim, next, i;

	if (!log)
		return 0;
	left = st->cur.wait_ns;
	ask_ns = st->cur.begin_ns - left;
	victim = st->cur.site;
	next = log->next;
	for (i = 1; i <= HELD_LOG; i++) {
		ns = charge_entry(st->cur.slot, next - i, ask_ns, left, victim);
		if (ns == ABI_UNKNOWN)
			break;
		left -= ns;
	}
	oldest = entry_of(log, next)->begin_ns;
	if (i > HELD_LOG && oldest > ask_ns) {
		ns = oldest - ask_ns < left ? oldest - ask_ns : left;
		left -= ns;
		charge(st->cur.slot, ABI_HOLDER_EARLIER, victim, ns);
	}
	charge(st->cur.slot, ABI_HOLDER_NOBODY, victim, left);
	return 0;
}

#endif
