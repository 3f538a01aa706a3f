/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU in small: what runtime/thread calls in a QEMU and what its detours stand in for, so that
 * the thread's logic runs under sanitizers, under which no packaged QEMU does. Lock, coroutine,
 * bottom halves and threads are real; what loads is a script.
 *
 * The thread that calls host_init() is the main thread. It holds the lock, but within host_loop().
 */
#ifndef HOST_H
#define HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <ucontext.h>

#include <glib.h>

#include "runtime/thread/control.h"
#include "runtime/thread/core.h"
#include "runtime/thread/load.h"
#include "runtime/thread/receivers.h"
#include "runtime/thread/policy.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/tsan_interface.h>
#endif

#define HOST_STACK_BYTES (256 << 10)
#define HOST_TURN_MS	 2

/* The core's part, which needs a real binary. */
struct loadvm_status loadvm_status;

void core_load_begins(const struct policy *policy)
{
	loadvm_status.loads++;
	g_strlcpy(loadvm_status.load_policy, policy->name, sizeof(loadvm_status.load_policy));
}

/* ---- the lock ---- */

static pthread_mutex_t host_bql = PTHREAD_MUTEX_INITIALIZER;
static __thread bool host_mine, host_is_main;

static void host_lock(const char *file, int line)
{
	(void)file;
	(void)line;
	g_assert_false(host_mine);
	pthread_mutex_lock(&host_bql);
	host_mine = true;
}

static void host_unlock(void)
{
	g_assert_true(host_mine);
	host_mine = false;
	pthread_mutex_unlock(&host_bql);
}

static bool host_locked(void)
{
	return host_mine;
}

/* ---- what all threads share; host_state guards it ---- */

static pthread_mutex_t host_state = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t host_changed = PTHREAD_COND_INITIALIZER;
static struct host {
	int created, joined, registered, unregistered, scheduled, shut_down;
	int fed;     /* bytes, channels, whatever is waited for */
	int waiting; /* threads in one of the waits below */
	int mark;    /* a script's, for others to see */
	bool torn_down;
	void (*bh)(void *);
	void *bh_opaque;
} host;

/* Its value at this moment, all of it. */
static struct host host_now(void)
{
	struct host now;

	pthread_mutex_lock(&host_state);
	now = host;
	pthread_mutex_unlock(&host_state);
	return now;
}

static void host_add(int *counter, int n)
{
	pthread_mutex_lock(&host_state);
	*counter += n;
	pthread_cond_broadcast(&host_changed);
	pthread_mutex_unlock(&host_state);
}

/* QEMU's code runs here and now: is that allowed, and is the lock held as it should be? */
static void host_step(bool held)
{
	pthread_mutex_lock(&host_state);
	if (host.torn_down && !host_is_main)
		g_error("QEMU's code runs in the thread while QEMU takes itself apart");
	pthread_mutex_unlock(&host_state);
	g_assert_cmpint(host_mine, ==, held);
}

static void host_wait(void)
{
	pthread_mutex_lock(&host_state);
	host.waiting++;
	while (!host.fed)
		pthread_cond_wait(&host_changed, &host_state);
	host.fed--;
	host.waiting--;
	pthread_mutex_unlock(&host_state);
}

/* ---- the coroutine: there is one at a time ---- */

struct host_side {
	ucontext_t context;
	void *fiber; /* TSAN's */
	void *fake;  /* ASAN's */
	const void *stack;
	size_t size;
};

static struct host_side host_loop_side, host_co_side;
static struct {
	bool inside, running;
	int (*script)(QEMUFile *f, void *errp);
	QEMUFile *file;
	void *errp;
	int result;
	int entered; /* before its script began the thread, or by the bottom half, or by a kick */
} host_co;

static void host_arrive(struct host_side *here, struct host_side *from)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(here->fake, &from->stack, &from->size);
#else
	(void)here;
	(void)from;
#endif
}

static void host_switch(struct host_side *from, struct host_side *to, bool last)
{
	host_co.inside = to == &host_co_side;
	(void)last;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(last ? NULL : &from->fake, to->stack, to->size);
#endif
#ifdef __SANITIZE_THREAD__
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	swapcontext(&from->context, &to->context);
	host_arrive(from, to);
}

static void host_co_main(void)
{
	host_arrive(&host_co_side, &host_loop_side);
	host_co.result = load_loadvm_state(host_co.file, host_co.errp);
	host_co.running = false;
	host_switch(&host_co_side, &host_loop_side, true);
}

static bool host_in_coroutine(void)
{
	return host_is_main && host_co.inside;
}

static Coroutine *host_coroutine_self(void)
{
	return (Coroutine *)&host_co_side;
}

static void host_coroutine_yield(void)
{
	g_assert_true(host_in_coroutine());
	g_assert_true(host_mine);
	host_switch(&host_co_side, &host_loop_side, false);
}

static void host_coroutine_enter(Coroutine *co)
{
	g_assert_true(host_is_main && host_mine);
	g_assert_true(co == (Coroutine *)&host_co_side && host_co.running);
	host_co.entered++;
	host_switch(&host_loop_side, &host_co_side, false);
}

/* ---- bottom halves, threads, RCU ---- */

static void host_bh_oneshot(AioContext *ctx, void (*cb)(void *), void *opaque, const char *name)
{
	(void)name;
	g_assert_true(ctx == (AioContext *)&host);
	pthread_mutex_lock(&host_state);
	g_assert_null(host.bh);
	host.scheduled++;
	host.bh = cb;
	host.bh_opaque = opaque;
	pthread_cond_broadcast(&host_changed);
	pthread_mutex_unlock(&host_state);
}

static AioContext *host_iohandler_context(void)
{
	return (AioContext *)&host;
}

static pthread_t host_last_thread;

static void host_thread_create(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			       int mode)
{
	g_assert_cmpstr(name, ==, "mig/dst/main");
	g_assert_cmpint(mode, ==, QEMU_THREAD_JOINABLE);
	g_assert_cmpint(pthread_create(&host_last_thread, NULL, fn, arg), ==, 0);
	memcpy(thread, &host_last_thread, sizeof(host_last_thread));
	host_add(&host.created, 1);
}

static void *host_thread_join(QemuThread *thread)
{
	pthread_t id;
	void *r;

	memcpy(&id, thread, sizeof(id));
	g_assert_cmpint(pthread_join(id, &r), ==, 0);
	host_add(&host.joined, 1);
	return r;
}

static __thread bool host_reader;

static void host_rcu_register(void)
{
	g_assert_false(host_reader);
	host_reader = true;
	host_add(&host.registered, 1);
}

static void host_rcu_unregister(void)
{
	g_assert_true(host_reader);
	host_reader = false;
	host_add(&host.unregistered, 1);
}

/* ---- what the detours stand in for ---- */

static int host_loadvm_state(QEMUFile *f, void *errp)
{
	host_step(true);
	return host_co.script(f, errp);
}

/* `vmsd` is a script's function. */
static long host_vmstate_load(QEMUFile *f, const void *vmsd, void *opaque, long version, void *errp)
{
	void (*load)(void *);

	(void)f;
	(void)errp;
	host_step(true);
	memcpy(&load, &vmsd, sizeof(load));
	load(opaque);
	return version;
}

/* So is `opaque`. */
static int host_ram_load(QEMUFile *f, void *opaque, int version)
{
	int (*load)(void);

	(void)f;
	(void)version;
	memcpy(&load, &opaque, sizeof(load));
	return load();
}

static void host_channel_wait(QIOChannel *ioc, int condition)
{
	(void)ioc;
	(void)condition;
	host_wait();
}

static long host_channel_read(QIOChannel *ioc, long a, long b, long c, long d, long e, long f)
{
	(void)ioc;
	host_step(host_mine);
	return a + b + c + d + e + f;
}

static long host_wait_long(void)
{
	host_wait();
	return 7;
}

static void host_threads_wait(void *pool)
{
	(void)pool;
	host_step(false);
	host_wait();
}

static long host_file_read_at(QEMUFile *f, void *buffer, long size, long offset)
{
	(void)f;
	(void)buffer;
	return size + offset;
}

static void host_fd_readable_yield(int fd)
{
	(void)fd;
	g_assert_true(host_in_coroutine());
}

static void host_cleanup(int status)
{
	g_assert_cmpint(status, ==, 3);
	g_assert_true(host_is_main && host_mine);
	host_add(&host.shut_down, 1);
}

/* ---- the main thread's ---- */

static void host_init(const char *policy)
{
	qemu = (struct qemu){
		.bql_lock = host_lock,
		.bql_unlock = host_unlock,
		.bql_locked = host_locked,
		.bql_word = (const int *)&host_bql,
		.in_coroutine = host_in_coroutine,
		.coroutine_self = host_coroutine_self,
		.coroutine_yield = host_coroutine_yield,
		.coroutine_enter = host_coroutine_enter,
		.bh_oneshot = host_bh_oneshot,
		.iohandler_context = host_iohandler_context,
		.thread_create = host_thread_create,
		.thread_join = host_thread_join,
		.rcu_register = host_rcu_register,
		.rcu_unregister = host_rcu_unregister,
	};
	original = (struct originals){
		.loadvm_state = host_loadvm_state,
		.vmstate_load = host_vmstate_load,
		.ram_load = host_ram_load,
		.channel_wait = host_channel_wait,
		.channel_read = host_channel_read,
		.multifd_recv_sync = host_wait_long,
		.file_read_at = host_file_read_at,
		.multifd_recv = host_wait_long,
		.threads_wait = host_threads_wait,
		.fd_readable_yield = host_fd_readable_yield,
		.cleanup = host_cleanup,
	};
	host = (struct host){0};
	host_is_main = true;
	control_prepare(NULL, true);
	g_assert_cmpint(load_prepare(policy_find(policy)), ==, 0);
#ifdef __SANITIZE_THREAD__
	host_loop_side.fiber = __tsan_get_current_fiber();
#endif
	if (!host_mine)
		host_lock(__FILE__, __LINE__);
}

/* A stream that `script` reads arrives: the coroutine begins to load it. */
static void host_incoming(int (*script)(QEMUFile *f, void *errp), QEMUFile *f, void *errp)
{
	static char *stack;

	if (!stack)
		stack = g_malloc(HOST_STACK_BYTES);
	host_co.script = script;
	host_co.file = f;
	host_co.errp = errp;
	host_co.running = true;
	host_co.entered = 0;
	getcontext(&host_co_side.context);
	host_co_side.context.uc_stack.ss_sp = stack;
	host_co_side.context.uc_stack.ss_size = HOST_STACK_BYTES;
	host_co_side.context.uc_link = NULL;
	host_co_side.stack = stack;
	host_co_side.size = HOST_STACK_BYTES;
	host_co_side.fake = NULL;
	makecontext(&host_co_side.context, host_co_main, 0);
#ifdef __SANITIZE_THREAD__
	if (host_co_side.fiber)
		__tsan_destroy_fiber(host_co_side.fiber);
	host_co_side.fiber = __tsan_create_fiber(0);
#endif
	host_coroutine_enter((Coroutine *)&host_co_side);
}

/* One turn of the main loop. What waits for it, waits without the lock. */
static void host_loop(void)
{
	void (*bh)(void *) = NULL;
	struct timespec until;
	void *opaque = NULL;

	host_unlock();
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += HOST_TURN_MS * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&host_state);
	if (!host.bh)
		pthread_cond_timedwait(&host_changed, &host_state, &until);
	pthread_mutex_unlock(&host_state);
	host_lock(__FILE__, __LINE__);
	pthread_mutex_lock(&host_state);
	bh = host.bh;
	opaque = host.bh_opaque;
	host.bh = NULL;
	pthread_mutex_unlock(&host_state);
	if (bh)
		bh(opaque);
}

#endif
