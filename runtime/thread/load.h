/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The incoming load in a thread of its own. Each function stands in the place of one of QEMU's,
 * with its arguments, and is entered with the lock held exactly when QEMU's would be.
 */
#ifndef THREAD_LOAD_H
#define THREAD_LOAD_H

#include <stdint.h>

#include "runtime/thread/qemu.h"

struct policy;

/* Before the first detour goes live. 0 or a negative errno. */
int load_prepare(const struct policy *start);

/*
 * 0 while the incoming thread reads the stream between devices: the next VMSD to be loaded is one's
 * whole state. The structs in it, some 1000 for each virtio device, are nothing to us.
 */
extern uint32_t load_no_device;

/*
 * 0 while a channel's reads are something to us: the incoming thread offers the lock there, or is
 * to park; or they are traced.
 */
extern uint32_t load_no_read;

int load_loadvm_state(QEMUFile *f, void *errp);
long load_vmstate_load(QEMUFile *f, const void *vmsd, void *opaque, long version, void *errp);
int load_ram_load(QEMUFile *f, void *opaque, int version);
void load_channel_wait(QIOChannel *ioc, int condition);
long load_channel_read(QIOChannel *ioc, long a, long b, long c, long d, long e, long f);
long load_multifd_recv_sync(void);
long load_file_read_at(QEMUFile *f, void *buffer, long size, long offset);
long load_multifd_recv(void);
void load_threads_wait(void *pool);
void load_fd_readable_yield(int fd);
void load_cleanup(int status);

#endif
