/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel side and user space share: the records that the probes fill, and the shape of the
 * histograms. All times are nanoseconds of CLOCK_MONOTONIC, raw: the probes' own bias is still in
 * them.
 *
 * Every site record belongs to one thread, so it has one writer and needs neither atomics nor
 * per-CPU copies; user space reads it through mmap while it grows and merges threads into roles.
 */
#ifndef PROBES_ABI_H
#define PROBES_ABI_H

#ifndef __bpf__
#include <stdint.h>
#endif

#define ABI_SLOTS   64	  /* QEMUs at once; a power of two, 256 at most */
#define ABI_THREADS 2048  /* threads that took a lock, over the tracer's life */
#define ABI_SITES   2048  /* default; pairs of call site and thread */
#define ABI_POINTS  64	  /* probe points a QEMU */
#define ABI_CAUSES  4	  /* distinct reasons for blocking kept for one hold */
#define ABI_VICTIMS 4096  /* pairs of a holder's and a waiter's site record */
#define ABI_NONE    (~0U) /* an index: nothing there */
#define ABI_NAME    48
#define ABI_COMM    16
#define ABI_PATH    64	    /* a source file's name as QEMU's build wrote it */
#define ABI_UNKNOWN (~0ULL) /* a duration that nobody measured */

/*
 * Histograms are log-linear: exact below 16 ns, then 16 buckets an octave up to 2^37 ns (137 s);
 * what is longer counts in the last bucket. A bucket's middle is at most 1/32 = 3.125% off any
 * value in it.
 */
#define ABI_BUCKETS 544
#define ABI_TOP_BIT 36

static inline __attribute__((always_inline)) uint32_t abi_log2(uint64_t v)
{
	uint32_t bit = 0;

	if (v >= 1ULL << 32)
		v >>= 32, bit += 32;
	if (v >= 1ULL << 16)
		v >>= 16, bit += 16;
	if (v >= 1ULL << 8)
		v >>= 8, bit += 8;
	if (v >= 1ULL << 4)
		v >>= 4, bit += 4;
	if (v >= 1ULL << 2)
		v >>= 2, bit += 2;
	return bit + (v >= 2);
}

static inline __attribute__((always_inline)) uint32_t abi_bucket(uint64_t ns)
{
	uint32_t bit;

	if (ns < 16)
		return ns;
	if (ns >> (ABI_TOP_BIT + 1))
		return ABI_BUCKETS - 1;
	bit = abi_log2(ns);
	return ((bit - 3) << 4) + ((ns >> (bit - 4)) & 15);
}

/* A bucket's lowest value and how many values it holds. */
static inline uint64_t abi_bucket_low(uint32_t bucket)
{
	if (bucket < 16)
		return bucket;
	return (16ULL + (bucket & 15)) << ((bucket >> 4) - 1);
}

static inline uint64_t abi_bucket_width(uint32_t bucket)
{
	return bucket < 16 ? 1 : 1ULL << ((bucket >> 4) - 1);
}

/*
 * Where a QEMU is in its incoming migration. The order is that of a precopy; ABI_PHASE_POSTCOPY is
 * RAM that still arrives after the vCPUs were started.
 */
enum abi_phase_kind {
	ABI_PHASE_NONE,
	ABI_PHASE_SETUP,
	ABI_PHASE_RAM,
	ABI_PHASE_DEVICE, /* a device section: `device` says which */
	ABI_PHASE_ACTIVATE,
	ABI_PHASE_START,
	ABI_PHASE_POSTCOPY,
	ABI_PHASES
};

struct abi_phase {
	uint32_t kind;
	uint32_t pad;
	/* Address of the VMSD's name in the QEMU; 0 outside device sections, ABI_UNKNOWN
	 * unreadable. */
	uint64_t device;
};

/*
 * Why a holder was off-CPU: a syscall's number with the kind of file that it was called for, or one
 * of these.
 */
#define ABI_CAUSE_FAULT	  (-1) /* a page fault */
#define ABI_CAUSE_STOPPED (-2) /* SIGSTOP or a debugger */
#define ABI_CAUSE_OTHERS  (-3) /* causes beyond the first ABI_CAUSES - 1 of one hold */
#define ABI_CAUSE_USERFAULT                                                                        \
	(-4) /* a page that userfaultfd's reader brings, in user mode or not                       \
	      */

#define ABI_CAUSE(syscall, file) ((int32_t)((syscall) | (file) << 16))
#define ABI_CAUSE_SYSCALL(cause) ((cause)&0xffff)
#define ABI_CAUSE_FILE(cause)	 ((cause) >> 16)

/* Kept in files: append only. */
enum abi_file {
	ABI_FILE_UNKNOWN, /* or the syscall has none */
	ABI_FILE_SOCKET,
	ABI_FILE_PIPE,
	ABI_FILE_REGULAR,
	ABI_FILE_BLOCK,
	ABI_FILE_CHAR,
	ABI_FILE_DIRECTORY,
	ABI_FILE_EVENTFD,
	ABI_FILE_TIMERFD,
	ABI_FILE_SIGNALFD,
	ABI_FILE_EPOLL,
	ABI_FILE_USERFAULTFD,
	ABI_FILE_IO_URING,
	ABI_FILE_KVM,	  /* /dev/kvm, a VM or a vCPU */
	ABI_FILE_OTHER,	  /* another one without a name */
	ABI_FILE_SEVERAL, /* a poll of different kinds */
	ABI_FILES
};

struct abi_block {
	int32_t cause;
	uint32_t count; /* 0: entry unused */
	uint64_t ns;
	uint32_t waker; /* tid of the thread that ended a futex wait; 0: none, or not known */
	uint32_t pad;
};

/* One hold, from acquire to release. */
struct abi_hold {
	uint64_t begin_ns;
	uint64_t hold_ns;
	uint64_t wait_ns;     /* ask to acquire; ABI_UNKNOWN after a condvar wait */
	uint64_t runnable_ns; /* preempted, or waiting for a CPU after a yield or a wake-up */
	struct abi_block blocked[ABI_CAUSES]; /* off-CPU and not runnable */
	uint64_t longest_ns;		      /* the longest single block, 0: none */
	int32_t longest_cause;
	uint32_t longest_waker;
	uint32_t slot;
	uint32_t site;	 /* index of its abi_site */
	uint32_t thread; /* index of its abi_thread */
	uint32_t pad;
	struct abi_phase at_begin, at_end, at_longest;
};

/* One call site as used by one thread. */
struct abi_site {
	uint64_t file; /* address of the name in the QEMU; 0: it asked before we were attached */
	uint32_t line;
	uint32_t thread; /* index of its abi_thread */
	uint32_t cond;	 /* 1: retaken by a condvar wait at file:line, its wait is unknown */
	uint32_t pad;
	char name[ABI_PATH]; /* what is at `file`; "" when its page was not resident */
	uint64_t acquired;   /* times it got the lock */
	uint64_t waits, wait_sum_ns, wait_max_ns, wait_max_at_ns; /* of those whose wait is known */
	uint64_t holds, hold_sum_ns;				  /* finished ones */
	uint64_t blocked_ns, fault_ns, runnable_ns; /* blocked_ns: in syscalls or stopped */
	struct abi_hold worst;			    /* the longest hold; hold_ns 0: none yet */
	uint64_t wait[ABI_BUCKETS];
	uint64_t hold[ABI_BUCKETS];
};

struct abi_thread {
	uint32_t epoch; /* which tracer_add() it belongs to */
	uint32_t slot;
	uint32_t tid, tgid; /* in the initial PID namespace */
	char comm[ABI_COMM];
};

/* What could not be recorded, or not in full. Each is a count of occasions. */
enum abi_lost {
	ABI_LOST_SITES_FULL,   /* acquisitions not recorded: no free site record */
	ABI_LOST_THREADS_FULL, /* points passed by threads that got no record */
	ABI_LOST_STATE,	       /* no per-thread storage to be had */
	ABI_LOST_RING_FULL,    /* events dropped; the longest hold of each site is kept anyway */
	ABI_LOST_BLOCKS,       /* blocking not split by cause: table full */
	ABI_LOST_NO_ASK,     /* acquired without having asked: attached in between; wait unknown */
	ABI_LOST_NO_ACQUIRE, /* released by a thread not known to hold: attached in mid-hold */
	ABI_LOST_NO_RELEASE, /* asked again without a release: a release was missed */
	ABI_LOST_EXIT_HOLDING, /* a thread exited while holding */
	ABI_LOST_VICTIMS,      /* waits not charged to a holder: table full */
	ABI_LOST_STACKS,       /* long holds without a stack: too many at once */
	ABI_LOST_KINDS
};

struct abi_slot {
	uint32_t epoch;
	/* What began in another stretch of recording is not known; 0: the lock is not recorded now.
	 */
	uint32_t stretch;
	uint32_t holds_only; /* nobody tells who asks */
	uint32_t device_tid; /* the thread that loads the device */
	/*
	 * Of an outgoing migration, the latest: when its guest was told to stop, when the last part
	 * of the stream was begun, when the migration entered its next state after that. 0: not
	 * yet.
	 */
	uint64_t stop_ns, save_ns, saved_ns;
	uint64_t others; /* condvar waits on other mutexes; about, since nobody is kept from writing
			  */
	uint64_t bql;	 /* run-time address of the BQL's QemuMutex */
	struct abi_phase base;	 /* setup, RAM, ... */
	uint64_t device;	 /* the device section inside it; 0: none */
	uint64_t owner_since_ns; /* valid while the owner's tid is not 0 */
	uint32_t owner_site;
	uint32_t owner_thread;
	uint64_t lost[ABI_LOST_KINDS];
	uint8_t hit[ABI_POINTS]; /* 1: the point was reached */
};

/* Blocking under the lock by site record and cause, beyond what one hold keeps. */
struct abi_blocked_key {
	uint32_t site;
	int32_t cause;
	uint32_t waker;
};

struct abi_blocked {
	uint64_t count, ns, max_ns;
};

/* A thread that woke a holder, by tid in the initial PID namespace. */
struct abi_waker_key {
	uint32_t epoch;
	uint32_t tid;
};

struct abi_waker {
	uint32_t tgid;
	char comm[ABI_COMM];
};

/* Who made whom wait. Each holder of the lock during a wait is charged with what it held of it. */
struct abi_charge_key {
	uint32_t holder; /* index of its abi_site, or one of these */
	uint32_t victim;
};

#define ABI_HOLDER_NOBODY                                                                          \
	(~0U)			 /* handing over, waiting for a CPU, or a holder that was not seen \
				  */
#define ABI_HOLDER_EARLIER (~1U) /* before the latest 64 holds of the lock */

struct abi_charge {
	uint64_t count, ns, max_ns; /* waits with a share of it; shares */
};

/* What a phase mark says; one program serves them all, the cookie tells it which. */
enum abi_mark {
	ABI_MARK_LOAD_BEGIN = 1,
	ABI_MARK_RAM,
	ABI_MARK_SECTION_BEGIN, /* rsi: VMStateDescription *, whose first field is the name */
	ABI_MARK_SECTION_END,
	ABI_MARK_ACTIVATE,
	ABI_MARK_START,
	ABI_MARK_LOAD_END,
	ABI_MARK_STOP,
	ABI_MARK_SAVE,
	ABI_MARK_STATE,
};

/* Cookie of an attachment: which QEMU (and which attach to it), which of its points, which mark. */
#define ABI_COOKIE(epoch, mark, point, slot)                                                       \
	((uint64_t)(epoch) << 32 | (uint64_t)(mark) << 16 | (uint64_t)(point) << 8 | (slot))
#define ABI_COOKIE_SLOT(c)  ((uint32_t)(c)&0xff)
#define ABI_COOKIE_POINT(c) ((uint32_t)(c) >> 8 & 0xff)
#define ABI_COOKIE_MARK(c)  ((uint32_t)(c) >> 16 & 0xff)
#define ABI_COOKIE_EPOCH(c) ((uint32_t)((c) >> 32))

enum abi_event_type {
	ABI_EVENT_HOLD = 1, /* struct abi_event_hold: hold or wait at or above the threshold */
	ABI_EVENT_PHASE,    /* struct abi_event_phase */
};

struct abi_event_hold {
	uint32_t type;
	uint32_t epoch;
	struct abi_hold hold;
};

struct abi_event_phase {
	uint32_t type;
	uint32_t epoch;
	uint64_t at_ns;
	struct abi_phase now;
	uint32_t slot;
	uint32_t tid;
	char name[ABI_NAME]; /* the device's; "" when its page was not resident: resolve `device` */
};

/*
 * The stack of a thread in a long hold, in a ring of its own. `bytes` is what stood from the stack
 * pointer upwards, `size` of it; then the record ends.
 */
#define ABI_STACK_BYTES 16384

enum abi_taken {
	ABI_TAKEN_RELEASED,  /* at the end: what it did before is not known */
	ABI_TAKEN_PREEMPTED, /* somewhere in it */
	ABI_TAKEN_BLOCKED,   /* when its longest block began */
};

/* Indices into abi_stack.regs: x86-64's struct pt_regs. */
enum abi_reg {
	ABI_REG_R15,
	ABI_REG_R14,
	ABI_REG_R13,
	ABI_REG_R12,
	ABI_REG_BP,
	ABI_REG_BX,
	ABI_REG_R11,
	ABI_REG_R10,
	ABI_REG_R9,
	ABI_REG_R8,
	ABI_REG_AX,
	ABI_REG_CX,
	ABI_REG_DX,
	ABI_REG_SI,
	ABI_REG_DI,
	ABI_REG_IP = 16,
	ABI_REG_SP = 19,
	ABI_REGS = 21
};

struct abi_stack {
	uint32_t epoch, slot;
	uint32_t thread;
	uint32_t taken;
	uint64_t hold_begin_ns; /* with `thread`: the abi_hold that it belongs to */
	uint64_t ns;		/* the block's, or the hold's so far */
	uint64_t regs[ABI_REGS];
	uint32_t size;
	uint32_t pad;
	uint8_t bytes[ABI_STACK_BYTES];
};

#endif
