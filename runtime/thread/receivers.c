/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * multifd's receiving threads, counted as they begin and end.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "runtime/seams/seams.h"
#include "runtime/thread/receivers.h"
#include "runtime/trace/hooks.h"

/* How often a wait looks whether somebody has ended. */
#define LOOK_EVERY_MS 50

uint32_t receivers_not_awaited = 1;

static atomic_uint running, ended; /* of the present load */

/* Not NULL: this thread waits for the receivers on this file's behalf. */
static __thread QEMUFile *awaiting;

struct start {
	void *(*fn)(void *);
	void *arg;
};

static void *receive(void *opaque)
{
	struct start start = *(struct start *)opaque;
	void *r;

	free(opaque);
	r = start.fn(start.arg);
	ended++;
	running--;
	return r;
}

/* Counted where it is created: the load begins when all of them have been. */
void receivers_thread_create(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			     int mode)
{
	if (name && seam_is_receiver(name)) {
		struct start *start = malloc(sizeof(*start));

		/* Without, its end is never seen: the wait is as long as QEMU's own. */
		if (start) {
			*start = (struct start){.fn = fn, .arg = arg};
			fn = receive;
			arg = start;
		}
		if (!running)
			ended = 0;
		running++;
	}
	trace_thread_create(original.thread_create, thread, name, fn, arg, mode);
}

/*
 * After its word each receiver sleeps until QEMU has had everyone's. So one that has ended while
 * somebody waits here was not through with the load, and some word will be missing.
 */
void receivers_sem_wait(QemuSemaphore *sem)
{
	if (!awaiting) {
		original.sem_wait(sem);
		return;
	}
	while (qemu.sem_timedwait(sem, LOOK_EVERY_MS)) {
		/* What it had to say before it ended is in the semaphore: look once more. */
		if (!ended || !qemu.sem_timedwait(sem, 0))
			continue;
		qemu.file_set_error(awaiting, -EIO);
		return;
	}
}

long receivers_sync(QEMUFile *f)
{
	long r;

	awaiting = f;
	receivers_not_awaited = 0;
	r = original.multifd_recv_sync();
	receivers_not_awaited = 1;
	awaiting = NULL;
	return r;
}
