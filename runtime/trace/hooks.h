/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where events come from. What the thread's own functions know they say through the functions
 * below; the rest needs hooks and detours of its own, which go in only when tracing is asked for.
 *
 * A stream is a QEMUFile that an incoming migration reads; here it is only an address.
 */
#ifndef TRACE_HOOKS_H
#define TRACE_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seam_map;
struct QemuThread;

/*
 * Put in what only tracing needs: after the policy's own detours, before main(). Returns the number
 * of detours. `text` says which events will be missing, and why; "" when all are there.
 */
unsigned int trace_install(const struct seam_map *map, uint64_t bias, char *text, size_t size);
/* It was done, in full or in part. */
bool trace_installed(void);

/* Create a thread by `create`, which is QEMU's own; other arguments as for that. */
void trace_thread_create(void (*create)(struct QemuThread *thread, const char *name,
					void *(*fn)(void *), void *arg, int mode),
			 struct QemuThread *thread, const char *name, void *(*fn)(void *),
			 void *arg, int mode);

/* The main thread: a load begins and ends. `co`: the coroutine that reads it, NULL: a thread. */
void trace_incoming_begin(const void *stream, const char *policy, const void *co);
void trace_incoming_end(const void *stream, const char *policy, int result);
/* The thread that will read it, first of all. */
void trace_reads(const void *stream);
/* Whether the calling thread or coroutine reads an incoming stream. */
bool trace_reading(void);

/* Whether it is one that an incoming migration reads. */
bool trace_follows(const void *stream);

/* Around a VMSD's loader, nested ones too. `result` is 0 or negative. */
void trace_vmsd_begin(const void *stream, const void *vmsd, int version);
void trace_vmsd_end(const void *stream, const void *vmsd, int result);
void trace_ram_begin(const void *stream);
void trace_ram_end(const void *stream, int result);

/* Around a read of an I/O channel: `iov` is its struct iovec *, `result` what it returned. */
void trace_channel_read_begin(void);
void trace_channel_read_end(const void *iov, long result);
/* The type of a QIOChannel: "qio-channel-socket". */
const char *trace_channel_type(const void *ioc);

#endif
