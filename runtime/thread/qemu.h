/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMU we are inside of: the functions that the incoming thread calls, and what the detours
 * replaced. Filled in once, before the first detour goes live; read-only afterwards.
 */
#ifndef THREAD_QEMU_H
#define THREAD_QEMU_H

#include <stdbool.h>

/* Opaque: no private structure of QEMU's is known here. */
typedef struct QEMUFile QEMUFile;
typedef struct QIOChannel QIOChannel;
typedef struct Coroutine Coroutine;
typedef struct AioContext AioContext;
typedef struct QemuSemaphore QemuSemaphore;

/* QEMU's is a pthread_t on every version; the room is for what a later one might add. */
typedef struct QemuThread {
	unsigned long room[32];
} QemuThread;

enum {
	QEMU_THREAD_JOINABLE = 0,
};

struct qemu {
	void (*bql_lock)(const char *file, int line);
	void (*bql_unlock)(void);
	bool (*bql_locked)(void);
	/*
	 * The BQL's first word. glibc's plain mutex: 0 free, 1 taken, 2 taken and perhaps waited
	 * for, by sleeping on it as a futex. A hint only, nothing relies on it for being right.
	 */
	const int *bql_word;

	bool (*in_coroutine)(void);
	Coroutine *(*coroutine_self)(void);
	void (*coroutine_yield)(void);
	void (*coroutine_enter)(Coroutine *co);
	void (*bh_oneshot)(AioContext *ctx, void (*cb)(void *), void *opaque, const char *name);
	AioContext *(*iohandler_context)(void);
	void (*thread_create)(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			      int mode);
	void *(*thread_join)(QemuThread *thread);
	int (*sem_timedwait)(QemuSemaphore *sem, int ms); /* 0, or -1: the time is over */
	void (*file_set_error)(QEMUFile *f, int error);
	bool vmstate_bool; /* vmstate_load returns true for success; else 0 */
	void (*rcu_register)(void);
	void (*rcu_unregister)(void);
};

/* What runs where the detours are; the same arguments. */
struct originals {
	int (*loadvm_state)(QEMUFile *f, void *errp); /* errp: from 11.0 on, else garbage */
	/* int, and 4 arguments; from 11.0 on a bool, and an Error ** more. */
	long (*vmstate_load)(QEMUFile *f, const void *vmsd, void *opaque, long version, void *errp);
	int (*ram_load)(QEMUFile *f, void *opaque, int version);
	void (*channel_wait)(QIOChannel *ioc, int condition);
	/* What follows `ioc` differs by version; garbage beyond the last. */
	long (*channel_read)(QIOChannel *ioc, long a, long b, long c, long d, long e, long f);
	long (*multifd_recv_sync)(void); /* void so far: whatever it returns is passed on */
	void (*sem_wait)(QemuSemaphore *sem);
	void (*thread_create)(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			      int mode);
	long (*file_read_at)(QEMUFile *f, void *buffer, long size, long offset); /* size_t */
	long (*multifd_recv)(void);						 /* bool */
	void (*threads_wait)(void *pool);
	void (*fd_readable_yield)(int fd);
	void (*cleanup)(int status); /* status: from 8.1 on, else garbage */
};

extern struct qemu qemu;
extern struct originals original;

#endif
