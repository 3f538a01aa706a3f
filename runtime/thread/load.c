/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mig/dst/main: what QEMU's incoming coroutine does, in a thread.
 *
 * The coroutine stays: it starts the thread, sleeps until it is done, and does stock's own tail
 * (error report, exit, disk activation, COLO). The thread holds the BQL wherever the coroutine did,
 * and drops it where the policy says that it is not needed. That way round, rather than taking it
 * where needed, every look-up in a list that the monitor may change, and every wait inside QEMU
 * that drops and retakes the lock on its own, finds the lock as it expects.
 *
 * Not in a coroutine (HMP loadvm, snapshot-load, COLO's and postcopy's own threads): untouched.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/thread/control.h"
#include "runtime/thread/core.h"
#include "runtime/thread/load.h"
#include "runtime/thread/policy.h"
#include "runtime/thread/receivers.h"
#include "runtime/thread/scope.h"
#include "runtime/trace/hooks.h"
#include "runtime/trace/trace.h"

/* How long `quit` waits for the thread to come to rest. Nothing is known to take 1/10 of it. */
#define STOP_LIMIT_NS 1000000000u

/* Each below what glibc maps on its own, 128 KiB. */
enum { HEAP_PIECES = 256, HEAP_PIECE_BYTES = 120 << 10 };

struct qemu qemu;
struct originals original;

/* There is one incoming migration in a process at a time, and it has one load. */
static struct {
	bool active;	    /* from the coroutine's entry to its return; under the BQL */
	bool woken;	    /* main thread's */
	unsigned int drops; /* POLICY_ bits of this load */
	Coroutine *co;
	QemuThread thread;
	QEMUFile *file;
	void *errp;
	int result;
	bool ram_begun;
	bool devices; /* not RAM: the guest stands still by now */
	/*
	 * RDMA's connection handler enters the coroutine by itself, to say that the peer is gone:
	 * what waits for a readable fd must then return. The handler can only say it to the
	 * coroutine.
	 */
	int kick_fd;
} load = {.kick_fd = -1};

static const struct policy *start_policy;

static __thread bool in_load_thread;
/* The thread is in what the RFC holds the lock for: device state, and RAM's START. */
static __thread bool inside;

uint32_t load_no_device = 1;
uint32_t load_no_read = 1;

int load_prepare(const struct policy *start)
{
	start_policy = start;
	load.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return load.kick_fd < 0 ? -errno : 0;
}

/* This is the incoming thread, and the policy lets go of the lock here. */
static bool lets_go(unsigned int drop)
{
	return in_load_thread && (load.drops & drop) && (!inside || (load.drops & POLICY_INSIDE));
}

static void ignore_reads(bool ignore)
{
	__atomic_store_n(&load_no_read, ignore && !trace_installed(), __ATOMIC_SEQ_CST);
}

/* What a wait has to do with the lock, for who traces it. */
static const char *held_or_free(void)
{
	return qemu.bql_locked() ? "held" : "free";
}

static const char *dropped_or_free(const struct scope *scope)
{
	return scope->held ? "dropped" : "free";
}

/* In the main loop. */
static void wake_coroutine(void *unused)
{
	(void)unused;
	load.woken = true;
	qemu.coroutine_enter(load.co);
}

/*
 * The iohandler's context, not the main one: a nested aio_poll(), somewhere in the block layer,
 * runs the latter's bottom halves, and the coroutine's tail must not run inside of one.
 */
static void schedule_wake(void)
{
	qemu.bh_oneshot(qemu.iohandler_context(), wake_coroutine, NULL, "mig/dst/main");
}

/*
 * A heap of the thread's own is what glibc gives it, and that grows by the page, with a system call
 * each: 500 in the state of a dozen devices, most of them for memory maps, while the guest stands
 * still. What has once been writable stays so; the memory goes back to the kernel at once.
 */
static void stretch_heap(void)
{
	void *volatile pieces[HEAP_PIECES];

	for (int i = 0; i < HEAP_PIECES; i++)
		pieces[i] = malloc(HEAP_PIECE_BYTES);
	for (int i = 0; i < HEAP_PIECES; i++)
		free(pieces[i]);
}

static void *load_thread(void *unused)
{
	(void)unused;
	stretch_heap();
	/* QEMU names its threads only with -name debug-threads=on. */
	pthread_setname_np(pthread_self(), "mig/dst/main");
	in_load_thread = true;
	qemu.rcu_register();
	trace_reads(load.file);
	scope_begin_thread(__FILE__, __LINE__);
	load_no_device = 0;
	load.result = original.loadvm_state(load.file, load.errp);
	load_no_device = 1;
	scope_end_thread(schedule_wake);
	qemu.rcu_unregister();
	return NULL;
}

/* QEMU's own way, which only tracing has an interest in. */
static int load_in_coroutine(QEMUFile *f, void *errp)
{
	int r;

	load_no_device = !trace_installed();
	ignore_reads(true);
	r = original.loadvm_state(f, errp);
	load_no_device = 1;
	return r;
}

static int load_in_thread(QEMUFile *f, void *errp, const struct policy *policy)
{
	uint64_t drained;

	load.active = true;
	load.drops = policy->drops;
	load.woken = false;
	load.ram_begun = load.devices = false;
	load.co = qemu.coroutine_self();
	load.file = f;
	load.errp = errp;
	if (read(load.kick_fd, &drained, sizeof(drained)) < 0)
		drained = 0; /* nothing was left from a load before: the usual case */
	scope_reset();
	ignore_reads(false);
	qemu.thread_create(&load.thread, "mig/dst/main", load_thread, NULL, QEMU_THREAD_JOINABLE);

	/* Only our own bottom half ends this: it must not find the coroutine gone. */
	for (;;) {
		qemu.coroutine_yield();
		if (load.woken)
			break;
		eventfd_write(load.kick_fd, 1);
	}

	/* It scheduled the bottom half with the lock held, which we hold: it is all but gone. */
	qemu.thread_join(&load.thread);
	ignore_reads(true);
	load.active = false;
	return load.result;
}

int load_loadvm_state(QEMUFile *f, void *errp)
{
	const struct policy *policy;
	bool thread;
	int r;

	if (load.active || !qemu.in_coroutine() || !qemu.bql_locked())
		return original.loadvm_state(f, errp);

	policy = control_policy(start_policy);
	core_load_begins(policy);
	TRACE(policy, policy->name, policy == start_policy ? "start" : "control");
	thread = policy->drops & POLICY_THREAD;
	trace_incoming_begin(f, policy->name, thread ? NULL : qemu.coroutine_self());
	r = thread ? load_in_thread(f, errp, policy) : load_in_coroutine(f, errp);
	trace_incoming_end(f, policy->name, r);
	return r;
}

/* The structs within a device come to us only if somebody wants to see them. */
static long load_vmsd(QEMUFile *f, const void *vmsd, void *opaque, long version, void *errp)
{
	uint32_t bypass = load_no_device;
	long r;

	if (!in_load_thread && !trace_follows(f))
		return original.vmstate_load(f, vmsd, opaque, version, errp);
	load_no_device = !TRACE_ON(nested_begin);
	trace_vmsd_begin(f, vmsd, (int)version);
	r = original.vmstate_load(f, vmsd, opaque, version, errp);
	trace_vmsd_end(f, vmsd, qemu.vmstate_bool ? (bool)r - 1 : (int)r);
	load_no_device = bypass;
	return r;
}

/*
 * One device. Between two of them the lock is dropped: the state of many fits into one read of the
 * stream, which is where it is offered otherwise. Not before a device, whose handler has just been
 * looked up, but after it, as stock may yield there: it reads the footer next.
 */
long load_vmstate_load(QEMUFile *f, const void *vmsd, void *opaque, long version, void *errp)
{
	struct scope scope;
	long r;

	if (!in_load_thread || inside)
		return load_vmsd(f, vmsd, opaque, version, errp);
	inside = load.devices = true;
	r = load_vmsd(f, vmsd, opaque, version, errp);
	inside = false;
	if (lets_go(POLICY_BREATHE)) {
		scope_drop(&scope, SCOPE_PASS);
		scope_retake(&scope, __FILE__, __LINE__);
	}
	return r;
}

static int load_ram(QEMUFile *f, void *opaque, int version)
{
	int r;

	trace_ram_begin(f);
	r = original.ram_load(f, opaque, version);
	trace_ram_end(f, r);
	return r;
}

int load_ram_load(QEMUFile *f, void *opaque, int version)
{
	struct scope scope;
	int r;

	if (!in_load_thread)
		return load_ram(f, opaque, version);
	load.devices = false;
	/*
	 * The first section is START: it may resize RAM blocks, which rewrites the memory map. It
	 * carries no pages, but for mapped-ram's.
	 */
	if (!load.ram_begun) {
		load.ram_begun = true;
		inside = true;
		r = load_ram(f, opaque, version);
		inside = false;
		return r;
	}
	if (!lets_go(POLICY_DROP_RAM))
		return load_ram(f, opaque, version);

	scope_drop(&scope, SCOPE_WORK);
	/* There is no lock to offer at the reads, which are where most of the calls are. */
	ignore_reads(true);
	if (scope_stopping())
		ignore_reads(false); /* but it is there that the thread parks */
	r = load_ram(f, opaque, version);
	ignore_reads(false);
	scope_retake(&scope, __FILE__, __LINE__);
	return r;
}

/*
 * A pipe whose writer is gone (fd:, exec:) is hung up, not readable. The coroutine's wait looks for
 * that; QEMU's wait for threads, so far only used to write, does not, and would spin for ever.
 * GLib's conditions are poll's.
 */
void load_channel_wait(QIOChannel *ioc, int condition)
{
	const char *what = condition & POLLIN ? "read" : "write";
	struct scope scope;

	if (in_load_thread && (condition & POLLIN))
		condition |= POLLHUP;
	if (!lets_go(POLICY_DROP_WAIT)) {
		if (trace_reading())
			TRACE(io_wait_begin, trace_channel_type(ioc), what, held_or_free());
		original.channel_wait(ioc, condition);
		if (trace_reading())
			TRACE(io_wait_end, trace_channel_type(ioc), what, held_or_free());
		return;
	}
	scope_drop(&scope, SCOPE_WAIT);
	TRACE(io_wait_begin, trace_channel_type(ioc), what, dropped_or_free(&scope));
	original.channel_wait(ioc, condition);
	TRACE(io_wait_end, trace_channel_type(ioc), what, dropped_or_free(&scope));
	scope_retake(&scope, __FILE__, __LINE__);
}

/* In device state it is RCU's thread and the vCPUs who want the lock: not each time. */
static enum scope_kind read_kind(void)
{
	return load.devices ? SCOPE_PASS : SCOPE_WORK;
}

/*
 * The coroutine lets the main loop run at every read that finds no bytes, and every 32768 pages; a
 * thread never does. So it offers the lock at every read: anywhere else might be inside of
 * something, here stock itself may pause. Or it reads without the lock: to copy 32 KiB is nothing,
 * but the kernel may take in what a fast source goes on sending before it lets the reader go.
 */
long load_channel_read(QIOChannel *ioc, long a, long b, long c, long d, long e, long f)
{
	bool drop = lets_go(POLICY_DROP_READ);
	struct scope scope;
	long r;

	if (drop)
		scope_drop(&scope, read_kind());
	else if (lets_go(POLICY_BREATHE))
		scope_breathe(read_kind(), __FILE__, __LINE__);
	trace_channel_read_begin();
	r = original.channel_read(ioc, a, b, c, d, e, f);
	trace_channel_read_end((const void *)a, r);
	if (drop)
		scope_retake(&scope, __FILE__, __LINE__);
	return r;
}

/* Waiting for the multifd channels, in one of two ways. */
static long wait_for_multifd(long (*wait)(void), const char *what)
{
	const char *lock = held_or_free();
	bool drop = lets_go(POLICY_DROP_WAIT);
	struct scope scope;
	long r;

	if (drop) {
		scope_drop(&scope, SCOPE_WAIT);
		lock = dropped_or_free(&scope);
	}
	TRACE(io_wait_begin, "multifd", what, lock);
	r = wait();
	TRACE(io_wait_end, "multifd", what, lock);
	if (drop)
		scope_retake(&scope, __FILE__, __LINE__);
	return r;
}

static long sync_receivers(void)
{
	return receivers_sync(load.file);
}

long load_multifd_recv_sync(void)
{
	return wait_for_multifd(in_load_thread ? sync_receivers : original.multifd_recv_sync,
				"sync");
}

/*
 * mapped-ram's pages, up to 1 MiB of them. They all come in RAM's START, but not before its block
 * has been resized; what else happens meanwhile concerns RAM alone, as in RAM's other sections.
 */
long load_file_read_at(QEMUFile *f, void *buffer, long size, long offset)
{
	struct scope scope;
	long r;

	if (!lets_go(POLICY_DROP_WAIT))
		return original.file_read_at(f, buffer, size, offset);
	scope_drop(&scope, SCOPE_WORK);
	r = original.file_read_at(f, buffer, size, offset);
	scope_retake(&scope, __FILE__, __LINE__);
	return r;
}

/* With multifd the channels read them: this waits for one that is free. */
long load_multifd_recv(void)
{
	return wait_for_multifd(original.multifd_recv, "free");
}

/*
 * Load threads (VFIO), joined by who has dropped the lock for them: nothing is left to drop, but
 * QEMU must be able to quit meanwhile.
 */
void load_threads_wait(void *pool)
{
	struct scope scope;

	if (!in_load_thread) {
		original.threads_wait(pool);
		return;
	}
	scope_drop(&scope, SCOPE_WAIT);
	original.threads_wait(pool);
	scope_retake(&scope, __FILE__, __LINE__);
}

static void poll_fd(int fd, const char *lock)
{
	struct pollfd fds[] = {
		{.fd = fd, .events = POLLIN},
		{.fd = load.kick_fd, .events = POLLIN},
	};
	eventfd_t kicks;

	TRACE(io_wait_begin, "rdma", "read", lock);
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	TRACE(io_wait_end, "rdma", "read", lock);
	if (fds[1].revents & POLLIN)
		eventfd_read(load.kick_fd, &kicks);
}

/* Stock's asserts that it runs in a coroutine: the thread needs this whatever it drops. */
void load_fd_readable_yield(int fd)
{
	struct scope scope;

	if (!in_load_thread) {
		original.fd_readable_yield(fd);
	} else if (!lets_go(POLICY_DROP_WAIT)) {
		poll_fd(fd, held_or_free());
	} else {
		scope_drop(&scope, SCOPE_WAIT);
		poll_fd(fd, dropped_or_free(&scope));
		scope_retake(&scope, __FILE__, __LINE__);
	}
}

/*
 * QEMU ends; migration_shutdown() is the first that matters of what this calls, but is inlined here
 * where the linker optimizes (Ubuntu).
 *
 * The stream is left as it is, as stock leaves it: postcopy's own thread may be reading it by now,
 * and ends QEMU with an error when it breaks. Who waits for it may do so until the process ends.
 */
void load_cleanup(int status)
{
	if (load.active && !load.woken) {
		scope_stop();
		ignore_reads(false);
		if (!scope_await_rest(STOP_LIMIT_NS, __FILE__, __LINE__))
			fprintf(stderr,
				"loadvm: the incoming load did not come to rest within 1 s\n");
	}
	original.cleanup(status);
}
