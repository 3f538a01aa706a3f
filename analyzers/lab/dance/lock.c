/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands under the lock functions: mutex and condition variable, and the ledger's stamps right
 * at them. A stamp is one vDSO call, some 25 ns; it is taken inside the critical section so that it
 * lies between the tracer's points and the mutex itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "analyzers/lab/dance/dance.h"

QemuMutex bql = {PTHREAD_MUTEX_INITIALIZER};

void dance_lock_misused(void)
{
	fputs("lockdance: the lock is taken twice, or given back by who has not got it\n", stderr);
	abort();
}

bool mutex_is_bql(QemuMutex *mutex)
{
	return mutex == &bql;
}

void qemu_mutex_lock_impl(QemuMutex *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	if (pthread_mutex_lock(&mutex->lock))
		abort();
	if (ledger)
		ledger->hold.acquired_ns = now_ns();
	if (bql_update_status && mutex_is_bql(mutex))
		bql_update_status(true);
}

void qemu_mutex_unlock_impl(QemuMutex *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	if (bql_update_status && mutex_is_bql(mutex))
		bql_update_status(false);
	if (ledger)
		ledger->hold.released_ns = now_ns();
	if (pthread_mutex_unlock(&mutex->lock))
		abort();
}

static void sleeps(QemuMutex *mutex)
{
	if (bql_update_status && mutex_is_bql(mutex))
		bql_update_status(false);
	if (ledger)
		ledger->sleep_ns = now_ns();
}

static void woke(QemuMutex *mutex, const char *file, int line)
{
	if (ledger) {
		uint64_t now = now_ns();

		ledger->hold.slept_ns += now - ledger->sleep_ns;
		ledger_add_block(ledger, (struct site){file, line}, CAUSE_CONDVAR, ledger->sleep_ns,
				 now);
	}
	if (bql_update_status && mutex_is_bql(mutex))
		bql_update_status(true);
}

void qemu_cond_wait_impl(QemuCond *cond, QemuMutex *mutex, const char *file, int line)
{
	sleeps(mutex);
	if (pthread_cond_wait(&cond->cond, &mutex->lock))
		abort();
	woke(mutex, file, line);
}

bool qemu_cond_timedwait_impl(QemuCond *cond, QemuMutex *mutex, int ms, const char *file, int line)
{
	struct timespec end;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += ms % 1000 * 1000000L;
	end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	sleeps(mutex);
	ret = pthread_cond_clockwait(&cond->cond, &mutex->lock, CLOCK_MONOTONIC, &end);
	woke(mutex, file, line);
	if (ret && ret != ETIMEDOUT)
		abort();
	return !ret;
}
