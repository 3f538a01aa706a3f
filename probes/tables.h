/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel side's memory: settings, the tables that user space reads, and each thread's state.
 */
#ifndef PROBES_TABLES_H
#define PROBES_TABLES_H

const volatile uint64_t threshold_ns = 1000000;
const volatile uint32_t max_sites = ABI_SITES;
/* Where the kernel's handle_userfault() lies; 0: not known. */
const volatile uint64_t userfault_begin, userfault_end;
/* Whether long holds leave a stack. User space may change it at any time. */
uint32_t take_stacks;

/* Read by user space through the skeleton. */
uint32_t nr_sites;
uint32_t nr_threads;
/*
 * By the lowest bits of a tid: 0, no such thread ever took a lock. A context switch looks no
 * further then, which saves the look-up of a state (30 ns here). Only ever set: nothing to race.
 */
#define STATE_HINTS 16384
uint8_t has_state[STATE_HINTS];
/* Holders asleep: with none, a wake-up looks no further. */
uint32_t nr_sleepers;
/*
 * The tid that holds each QEMU's lock, or 0, for user space. Set after the acquire and cleared
 * before the release, so that a thread found here does hold it.
 */
uint32_t owners[ABI_SLOTS];

enum thread_does {
	IDLE,
	ASKED,
	ASLEEP, /* in a condvar wait that gave the lock back and will retake it */
	HOLDS,
	UNRECORDED, /* holds, but there was no room to record it */
};

/* One thread, between two points. */
struct state {
	uint32_t epoch;
	uint32_t stretch;
	uint32_t thread;
	uint32_t does;
	uint32_t nr_blocks;
	uint64_t ask_ns;
	uint64_t off_ns;   /* since when off-CPU while holding; 0: on-CPU */
	uint64_t woken_ns; /* since when it only lacks a CPU; 0: asleep, or that was not seen */
	int32_t off_cause;
	uint32_t off_runnable;
	uint32_t off_waker;
	uint32_t waited;    /* others held the lock while it waited for this hold */
	uint32_t has_stack; /* one of this hold is on its way to user space */
	uint32_t copied;    /* the slot's scratch holds this thread's stack */
	struct abi_hold cur;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ABI_SLOTS);
	__type(key, uint32_t);
	__type(value, struct abi_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ABI_THREADS);
	__type(key, uint32_t);
	__type(value, struct abi_thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ABI_SITES);
	__type(key, uint32_t);
	__type(value, struct abi_site);
} sites SEC(".maps");

/* Records of QEMUs that are gone, to be used again before new ones are. Filled by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ABI_SITES);
	__type(value, uint32_t);
} free_sites SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ABI_THREADS);
	__type(value, uint32_t);
} free_threads SEC(".maps");

struct site_key {
	uint64_t file;
	uint32_t line;
	uint32_t thread;
	uint32_t cond;
	uint32_t pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ABI_SITES);
	__type(key, struct site_key);
	__type(value, uint32_t);
} site_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * ABI_SITES);
	__type(key, struct abi_blocked_key);
	__type(value, struct abi_blocked);
} blocked SEC(".maps");

/* Threads that ended a holder's futex wait; their names, since they may never take the lock. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ABI_THREADS);
	__type(key, struct abi_waker_key);
	__type(value, struct abi_waker);
} wakers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ABI_VICTIMS);
	__type(key, struct abi_charge_key);
	__type(value, struct abi_charge);
} charges SEC(".maps");

/*
 * The latest holds of a QEMU's lock. Written at each release by the holder, so by one thread at a
 * time; read by a holder about its own wait, when nobody can write.
 */
#define HELD_LOG 64

struct held {
	uint64_t begin_ns, end_ns;
	uint64_t held_ns; /* of that time: successive holds of one site are one entry */
	uint32_t site;
	uint32_t pad;
};

struct held_log {
	uint32_t next;
	uint32_t apart; /* so many of the next holds are entries of their own */
	struct held at[HELD_LOG];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_SLOTS);
	__type(key, uint32_t);
	__type(value, struct held_log);
} held_logs SEC(".maps");

/* A QEMU has one holder at a time, so one place for its stack. */
struct scratch {
	uint64_t window_ns; /* when the budget was last filled */
	uint32_t copied, sent;
	struct abi_stack stack;
	uint8_t slack[4096]; /* verifiers think that a copy may end a page later than it can */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_SLOTS);
	__type(key, uint32_t);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
} stacks SEC(".maps");

static __always_inline struct abi_slot *slot_of(uint32_t index)
{
	return bpf_map_lookup_elem(&slots, &index);
}

#define lose(slot, what) __sync_fetch_and_add(&(slot)->lost[what], 1)

#endif
