/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * multifd's receiving threads, and a wait for them that ends when one is gone.
 *
 * QEMU's waits for a word from each. A receiver that meets the end of its channel, or is yanked,
 * ends without one, and the load would wait for ever: in stock with the lock held, so that nothing
 * can be told to it any more; here a yank comes through even then, and the load has to fail.
 */
#ifndef THREAD_RECEIVERS_H
#define THREAD_RECEIVERS_H

#include <stdint.h>

#include "runtime/thread/qemu.h"

/*
 * The incoming thread: what original.multifd_recv_sync() does, and returns. When a receiver is
 * gone without a word, `f` is given an error, so that its reader fails as if the stream had ended.
 */
long receivers_sync(QEMUFile *f);

/* 0 while the incoming thread is in receivers_sync(). */
extern uint32_t receivers_not_awaited;

/* In the place of QEMU's. */
void receivers_sem_wait(QemuSemaphore *sem);
void receivers_thread_create(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			     int mode);

#endif
