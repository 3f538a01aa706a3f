/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events around the load: threads, the migration's state, disks, vCPUs, the coroutine's waits.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/trace/internal.h"

struct trace_qemu trace_qemu;
struct trace_originals trace_original;
bool trace_is_installed;

bool trace_installed(void)
{
	return trace_is_installed;
}

/* Lost races are no changes: the function is a compare-and-swap. */
void trace_set_state(int *state, int from, int to)
{
	bool was = __atomic_load_n(state, __ATOMIC_RELAXED) == from;

	trace_original.set_state(state, from, to);
	if (was && from != to && __atomic_load_n(state, __ATOMIC_RELAXED) == to)
		TRACE(state_change, trace_qemu.enum_name(trace_qemu.states, from),
		      trace_qemu.enum_name(trace_qemu.states, to));
}

struct start {
	void *(*fn)(void *);
	void *arg;
	char name[64];
};

static void *begin_thread(void *opaque)
{
	struct start start = *(struct start *)opaque;
	void *r;

	free(opaque);
	TRACE(thread_begin, start.name, pthread_self());
	r = start.fn(start.arg);
	TRACE(thread_end, start.name, pthread_self());
	return r;
}

void trace_thread_create(void (*create)(struct QemuThread *thread, const char *name,
					void *(*fn)(void *), void *arg, int mode),
			 struct QemuThread *thread, const char *name, void *(*fn)(void *),
			 void *arg, int mode)
{
	struct start *start = trace_is_installed ? malloc(sizeof(*start)) : NULL;

	if (start) {
		start->fn = fn;
		start->arg = arg;
		snprintf(start->name, sizeof(start->name), "%s", name ? name : "");
		fn = begin_thread;
		arg = start;
	}
	create(thread, name, fn, arg, mode);
	/* A QemuThread begins with its pthread_t. */
	if (trace_is_installed)
		TRACE(thread_create, name ? name : "", *(unsigned long *)thread);
}

void *trace_thread_join(void *thread)
{
	unsigned long id = *(unsigned long *)thread;
	void *r;

	TRACE(thread_join_begin, id);
	r = trace_original.thread_join(thread);
	TRACE(thread_join_end, id);
	return r;
}

void trace_activate(void *errp)
{
	TRACE(activate_begin, trace_loads());
	trace_original.activate(errp);
	TRACE(activate_end, trace_loads());
}

void trace_vm_start(void)
{
	TRACE(vm_start_begin, trace_loads());
	trace_original.vm_start();
	TRACE(vm_start_end, trace_loads());
}

void trace_destroy(void)
{
	trace_original.destroy();
	trace_stream_forget();
	TRACE(incoming_destroyed, trace_loads());
}

void trace_channel_yield(void *ioc, int condition)
{
	const char *what = condition & POLLIN ? "read" : "write";

	if (!trace_reading()) {
		trace_original.channel_yield(ioc, condition);
		return;
	}
	TRACE(io_wait_begin, trace_channel_type(ioc), what, "yielded");
	trace_original.channel_yield(ioc, condition);
	TRACE(io_wait_end, trace_channel_type(ioc), what, "yielded");
}
