/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockdance: a program that looks to a tracer like a QEMU, whose threads take the lock as a script
 * says, and that writes down itself what happened: the truth that a tracer is held against.
 *
 * Times are CLOCK_MONOTONIC ns.
 */
#ifndef DANCE_H
#define DANCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* ---- the lock (lock.c, bql.S): names and shapes are QEMU's ---- */

typedef struct QemuMutex {
	pthread_mutex_t lock;
} QemuMutex;

typedef struct QemuCond {
	pthread_cond_t cond;
} QemuCond;

extern QemuMutex bql;

void qemu_mutex_lock_impl(QemuMutex *mutex, const char *file, int line);
void qemu_mutex_unlock_impl(QemuMutex *mutex, const char *file, int line);
void qemu_cond_wait_impl(QemuCond *cond, QemuMutex *mutex, const char *file, int line);
bool qemu_cond_timedwait_impl(QemuCond *cond, QemuMutex *mutex, int ms, const char *file, int line);
bool mutex_is_bql(QemuMutex *mutex);
/* Only the newest generation has it. */
__attribute__((weak)) void bql_update_status(bool locked);

void dance_lock(const char *file, int line);
void dance_unlock(void);
__attribute__((noreturn)) void dance_lock_misused(void);

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* ---- the ledger (ledger.c) ---- */

struct site {
	const char *file; /* in this program's .rodata, as a QEMU's are: see site_find() */
	int line;
};

enum cause {
	CAUSE_SLEEP,
	CAUSE_READ,
	CAUSE_FAULT,
	CAUSE_CONDVAR,
	CAUSE_PIPE,
	CAUSE_SOCKET,
	CAUSE_EVENTFD,
	CAUSE_FUTEX,
	CAUSES
};

struct hold {
	struct site site;
	uint64_t ask_ns, acquired_ns, released_ns;
	uint64_t slept_ns; /* of it, given back in condvar waits */
};

/* An interval in which the holder could not run; CONDVAR: in which it had given the lock back. */
struct block {
	struct site site; /* the hold's; CONDVAR: the wait's own */
	enum cause cause;
	uint64_t begin_ns, end_ns;
};

/* One thread's ledger: all memory is there and touched before the dance begins. */
struct ledger {
	const char *thread;
	pid_t tid;
	struct hold *holds;
	struct block *blocks;
	size_t n_holds, max_holds, n_blocks, max_blocks;
	/* The hold under way; lock.c stamps it. */
	struct hold hold;
	uint64_t sleep_ns;
};

/* The calling thread's, or NULL: then nothing is stamped. */
extern __thread struct ledger *ledger;

bool ledger_reserve(struct ledger *l, size_t holds, size_t blocks);
void ledger_add_hold(struct ledger *l);
void ledger_add_block(struct ledger *l, struct site site, enum cause cause, uint64_t begin_ns,
		      uint64_t end_ns);
/* 0 or a negative errno. */
int ledger_write(const char *path, const struct ledger *ledgers, size_t n);

/* ---- the script (script.c) ---- */

enum op {
	OP_LOCK,
	OP_UNLOCK,
	OP_HOLD,
	OP_SLEEP,
	OP_READ,
	OP_FAULT,
	OP_PIPE,
	OP_SOCKET,
	OP_EVENTFD,
	OP_FUTEX,
	OP_CONDWAIT,
	OP_TIMEDWAIT,
	OP_PAIRS,
	OP_BARRIER,
	OP_REPEAT,
	OP_END,
};

struct step {
	enum op op;
	struct site site;
	uint64_t value; /* ns, or a count */
};

#define MAX_DEPTH   8
#define MAX_THREADS 64

struct part {
	char name[16]; /* as the kernel keeps it */
	struct step *steps;
	size_t n_steps;
	size_t holds, blocks; /* that the whole part will make */
	bool faults, condwaits, wakes;
	size_t barriers;
};

struct script {
	struct part parts[MAX_THREADS];
	size_t n_parts;
};

/* NULL, or a sentence that says what is wrong where (static storage). */
const char *script_parse(struct script *script, const char *text);
void script_free(struct script *script);

/* ---- the dance (perform.c) ---- */

struct performance {
	uint64_t begin_ns, end_ns;
	struct ledger ledgers[MAX_THREADS];
};

/*
 * Run every part in a thread of its own; returns when all have ended. `ready` is called when all
 * threads stand at the start, and its return starts them. NULL, or a sentence.
 */
const char *perform(const struct script *script, bool keep_ledger, void (*ready)(void),
		    struct performance *result);

#endif
