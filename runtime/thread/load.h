/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The incoming load in a thread of its own. Each function stands in the place of one of QEMU's,
 * with its arguments, and is entered with the lock held exactly when QEMU's would be.
 */
#ifndef THREAD_LOAD_H
#define THREAD_LOAD_H

#include "runtime/thread/qemu.h"

/* Before the first detour goes live. 0 or a negative errno. */
int load_prepare(void);

int load_loadvm_state(QEMUFile *f, void *errp);
int load_ram_load(QEMUFile *f, void *opaque, int version);
void load_channel_wait(QIOChannel *ioc, int condition);
long load_channel_read(QIOChannel *ioc, long a, long b, long c, long d, long e, long f);
long load_multifd_recv_sync(void);
void load_fd_readable_yield(int fd);
void load_migration_shutdown(void);

#endif
