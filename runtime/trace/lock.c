/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The BQL's events, for every thread that takes it. Taking it and waiting on condition variables go
 * through pointers that QEMU keeps for its own lock profiler; only giving it back needs a detour.
 */
#include "runtime/trace/internal.h"

/* What this thread holds, or held last. */
static __thread struct {
	const char *file;
	uint32_t line, cond;
	uint64_t since_ns; /* 0: nobody listened when it was acquired */
} hold;

static void acquired(const char *file, int line, uint32_t cond, uint64_t asked_ns)
{
	uint64_t now = 0;

	if (TRACE_ON(lock_acquired) || TRACE_ON(lock_released))
		now = trace_now_ns();
	hold.file = file;
	hold.line = (uint32_t)line;
	hold.cond = cond;
	hold.since_ns = now;
	TRACE(lock_acquired, file, (uint32_t)line, cond,
	      asked_ns && now ? (int64_t)(now - asked_ns) : -1);
}

static void released(void)
{
	TRACE(lock_released, hold.file ? hold.file : "", hold.line, hold.cond,
	      hold.since_ns ? (int64_t)(trace_now_ns() - hold.since_ns) : -1);
	hold.since_ns = 0;
}

void trace_bql_hook(void *mutex, const char *file, int line)
{
	uint64_t asked_ns = TRACE_ON(lock_acquired) ? trace_now_ns() : 0;

	TRACE(lock_ask, file, (uint32_t)line);
	trace_original.bql_hook(mutex, file, line);
	acquired(file, line, 0, asked_ns);
}

void trace_cond_hook(void *cond, void *mutex, const char *file, int line)
{
	if (mutex == trace_qemu.bql)
		released();
	trace_original.cond_hook(cond, mutex, file, line);
	if (mutex == trace_qemu.bql)
		acquired(file, line, 1, 0);
}

bool trace_cond_timed_hook(void *cond, void *mutex, int ms, const char *file, int line)
{
	bool r;

	if (mutex == trace_qemu.bql)
		released();
	r = trace_original.cond_timed_hook(cond, mutex, ms, file, line);
	if (mutex == trace_qemu.bql)
		acquired(file, line, 1, 0);
	return r;
}

void trace_bql_unlock(void)
{
	released();
	trace_original.bql_unlock();
}
