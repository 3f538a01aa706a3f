/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping and retaking the BQL, standing back for its waiters, and parking.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/thread/core.h"
#include "runtime/thread/qemu.h"
#include "runtime/thread/scope.h"
#include "runtime/trace/trace.h"

/*
 * A pthread mutex is not fair: who drops and retakes it at once wins against the waiter that is
 * still being woken, again and again (0.4-0.6 s without the lock were seen for the main thread). So
 * stand back until somebody has taken it and is done, within a limit that a woken thread keeps
 * unless the machine is overloaded.
 *
 * Not after each device: one that changes the memory map wakes the RCU thread and every vCPU of
 * TCG, and standing back for each of them made downtime longer by a third. There they get the lock
 * so often, and by chance in between.
 */
#define HANDOFF_LIMIT_NS      500000
#define HANDOFF_PASS_EVERY_NS 2000000

/* Guards all of `life`. Taken with or without the BQL, never the other way round. */
static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t life_changed = PTHREAD_COND_INITIALIZER;
static struct {
	bool stopping;
	bool waiting; /* in a SCOPE_WAIT */
	bool over;    /* parked or ended: runs no code of QEMU's any more */
} life;

/* The incoming thread's own: when others last had a fair chance of the lock. */
static uint64_t chance_ns;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int bql_word(void)
{
	return __atomic_load_n(qemu.bql_word, __ATOMIC_RELAXED);
}

/*
 * With the lock held. Its word says "perhaps" long after: a condition variable that took the lock
 * back leaves it so, as does whoever had to queue. The kernel knows: wake one of those asleep on
 * it. That is no more than a head start for whom the unlock would wake; glibc's lock looks again
 * and sleeps.
 */
static bool somebody_waits(void)
{
	return bql_word() == 2 &&
	       syscall(SYS_futex, qemu.bql_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) > 0;
}

static bool handoff_due(enum scope_kind kind)
{
	return kind != SCOPE_PASS || now_ns() - chance_ns >= HANDOFF_PASS_EVERY_NS;
}

/* Not held: neither the lock nor life_lock. */
static void park(void)
{
	pthread_mutex_lock(&life_lock);
	life.over = true;
	pthread_cond_broadcast(&life_changed);
	pthread_mutex_unlock(&life_lock);
	for (;;)
		pause();
}

bool scope_stopping(void)
{
	bool r;

	pthread_mutex_lock(&life_lock);
	r = life.stopping;
	pthread_mutex_unlock(&life_lock);
	return r;
}

/* With the lock or without. */
static void park_if_told(void)
{
	if (!scope_stopping())
		return;
	if (qemu.bql_locked())
		qemu.bql_unlock();
	park();
}

static void set_waiting(bool waiting)
{
	pthread_mutex_lock(&life_lock);
	life.waiting = waiting;
	pthread_cond_broadcast(&life_changed);
	pthread_mutex_unlock(&life_lock);
}

static void take(const char *file, int line)
{
	qemu.bql_lock(file, line);
	/* scope_stop() says so with the lock held: this stays right for as long as we hold it. */
	park_if_told();
}

/* How often this thread has lost its processor to another one. */
static long preemptions(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nivcsw;
}

/*
 * Sleeps on the mutex's own futex, as polling misses a waiter that is quick. Whoever releases a
 * mutex that was waited for wakes one sleeper; when that is us, it is passed on to the waiter that
 * we stood in front of. A waiter that is woken on our own processor may have come and gone before
 * we get here: without the look at that, 20 of 20 contended drops of a load cost 1 ms each. False
 * when the waiter was not there in time: on an overloaded machine it is to have another try soon.
 */
static bool stand_back(const struct scope *scope)
{
	uint64_t begin, stood;
	struct timespec left = {0};
	bool woken, taken;

	if (!scope->contended || scope->preemptions != preemptions())
		return true;
	begin = now_ns();
	if (begin - scope->since_ns >= HANDOFF_LIMIT_NS)
		return true;
	left.tv_nsec = (long)(HANDOFF_LIMIT_NS - (begin - scope->since_ns));
	woken = !syscall(SYS_futex, qemu.bql_word, FUTEX_WAIT_PRIVATE, 0, &left, NULL, 0);
	/* EAGAIN: the word was not 0 any more. */
	taken = woken || errno == EAGAIN;
	if (woken)
		syscall(SYS_futex, qemu.bql_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);

	stood = now_ns() - begin;
	TRACE(lock_handoff, taken, stood);
	loadvm_status.handoff_taken += taken;
	loadvm_status.handoff_missed += !taken;
	loadvm_status.handoff_ns += stood;
	if (stood > loadvm_status.handoff_max_ns)
		loadvm_status.handoff_max_ns = stood;
	return taken;
}

void scope_drop(struct scope *scope, enum scope_kind kind)
{
	park_if_told();
	*scope = (struct scope){.kind = kind, .held = qemu.bql_locked()};
	if (scope->held) {
		scope->contended = handoff_due(kind) && somebody_waits();
		if (scope->contended)
			scope->preemptions = preemptions();
		loadvm_status.drops++;
		loadvm_status.contended += scope->contended;
		qemu.bql_unlock();
		scope->since_ns = now_ns();
	}
	if (kind == SCOPE_WAIT)
		set_waiting(true);
}

void scope_retake(struct scope *scope, const char *file, int line)
{
	if (scope->kind == SCOPE_WAIT)
		set_waiting(false);
	park_if_told();
	if (scope->held) {
		bool missed = !stand_back(scope);

		take(file, line);
		if (!missed && (scope->contended || now_ns() - scope->since_ns >= HANDOFF_LIMIT_NS))
			chance_ns = now_ns();
	}
}

void scope_breathe(enum scope_kind kind, const char *file, int line)
{
	struct scope scope;

	park_if_told();
	if (!qemu.bql_locked() || bql_word() != 2 || !handoff_due(kind))
		return;
	scope_drop(&scope, kind);
	scope_retake(&scope, file, line);
}

void scope_begin_thread(const char *file, int line)
{
	take(file, line);
	chance_ns = now_ns();
}

void scope_end_thread(void (*last)(void))
{
	park_if_told();
	last();
	pthread_mutex_lock(&life_lock);
	life.over = true;
	pthread_cond_broadcast(&life_changed);
	pthread_mutex_unlock(&life_lock);
	qemu.bql_unlock();
}

void scope_reset(void)
{
	pthread_mutex_lock(&life_lock);
	life.stopping = life.waiting = life.over = false;
	pthread_mutex_unlock(&life_lock);
}

void scope_stop(void)
{
	pthread_mutex_lock(&life_lock);
	life.stopping = true;
	pthread_mutex_unlock(&life_lock);
}

bool scope_await_rest(uint64_t limit_ns, const char *file, int line)
{
	struct timespec until;
	uint64_t end = now_ns() + limit_ns;
	bool quiet;

	qemu.bql_unlock();
	until.tv_sec = (time_t)(end / 1000000000);
	until.tv_nsec = (long)(end % 1000000000);
	pthread_mutex_lock(&life_lock);
	do
		quiet = life.over || life.waiting;
	while (!quiet &&
	       !pthread_cond_clockwait(&life_changed, &life_lock, CLOCK_MONOTONIC, &until));
	pthread_mutex_unlock(&life_lock);
	qemu.bql_lock(file, line);
	return quiet;
}
