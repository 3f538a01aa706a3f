/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Doing without the BQL for a while: the incoming thread drops it, does something, takes it again.
 *
 * And the way out when QEMU quits meanwhile: from scope_stop() on, the thread runs no code of
 * QEMU's with or without the lock once it comes to a scope's edge; it parks there for good, so that
 * the main thread can tear everything down around it.
 */
#ifndef THREAD_SCOPE_H
#define THREAD_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

enum scope_kind {
	SCOPE_WORK, /* runs QEMU's code without the lock */
	SCOPE_WAIT, /* does nothing but wait for somebody else; may lie inside a SCOPE_WORK */
	SCOPE_PASS, /* does little or nothing; who waits may have the lock, but not each time */
};

struct scope {
	enum scope_kind kind;
	bool held;	  /* false: there was no lock to drop */
	bool contended;	  /* somebody seemed to wait for it */
	long preemptions; /* of the thread so far, if contended */
	uint64_t since_ns;
};

/*
 * Everything below is for the incoming thread only, where nothing else is said. The
 * lock's state at the end is that of the beginning; `file` and `line` are what a tracer of the lock
 * shows.
 */
void scope_drop(struct scope *scope, enum scope_kind kind);
void scope_retake(struct scope *scope, const char *file, int line);

/*
 * With the lock held: let those have it who wait for it, if any, SCOPE_WORK each time or
 * SCOPE_PASS. With or without it: park if told.
 */
void scope_breathe(enum scope_kind kind, const char *file, int line);

/* The thread's life. Begin takes the lock; end drops it, after calling `last` with it held. */
void scope_begin_thread(const char *file, int line);
void scope_end_thread(void (*last)(void));

/*
 * Called by another thread with the lock held, before the load's thread is created: a new load.
 */
void scope_reset(void);

/* Called by the main thread with the lock held: from now on the thread parks. */
void scope_stop(void);

/* It was told to. For any thread; what the main thread does after scope_stop() comes after this. */
bool scope_stopping(void);

/*
 * Called by the main thread after scope_stop(), with the lock held. Drops it until the thread has
 * parked, has ended, or waits for something other than the lock (it then parks when that ends, if
 * ever), at most `limit_ns`. Returns false when the limit came first.
 */
bool scope_await_rest(uint64_t limit_ns, const char *file, int line);

#endif
