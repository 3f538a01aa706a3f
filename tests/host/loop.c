/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The coroutine, bottom halves, the main loop, and QEMU's end.
 */
#include "tests/host/host.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef HOST_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef HOST_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_BYTES (256 << 10)
#define TURN_MS	    2

/* ---- the coroutine ---- */

struct side {
	ucontext_t context;
	void *fiber; /* TSAN's */
	void *fake;  /* ASAN's */
	const void *stack;
	size_t size;
};

struct Coroutine {
	struct side side;
	bool running;
	void (*entry)(void *);
	void *opaque;
};

static struct side loop_side;
static Coroutine the_coroutine;
static bool inside;
static int watched = -1; /* the fd that the coroutine yielded on */

static void arrive(struct side *here, struct side *from)
{
#ifdef HOST_ASAN
	__sanitizer_finish_switch_fiber(here->fake, &from->stack, &from->size);
#else
	(void)here;
	(void)from;
#endif
}

/*
 * To TSAN each side is a thread of its own, and who has a mutex must be who gives it back. In QEMU
 * the coroutine gives back what the main loop took: so they hand it over.
 */
static void hand_over_bql(bool take)
{
#ifdef HOST_TSAN
	if (take) {
		__tsan_mutex_pre_lock(host_bql, 0);
		__tsan_mutex_post_lock(host_bql, 0, 0);
	} else {
		__tsan_mutex_pre_unlock(host_bql, 0);
		__tsan_mutex_post_unlock(host_bql, 0);
	}
#else
	(void)take;
#endif
}

/* With the lock held. */
static void switch_to(struct side *from, struct side *to, bool last)
{
	hand_over_bql(false);
	inside = to == &the_coroutine.side;
	(void)last;
#ifdef HOST_ASAN
	__sanitizer_start_switch_fiber(last ? NULL : &from->fake, to->stack, to->size);
#endif
#ifdef HOST_TSAN
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	swapcontext(&from->context, &to->context);
	arrive(from, to);
	hand_over_bql(true);
}

static void coroutine_main(void)
{
	arrive(&the_coroutine.side, &loop_side);
	hand_over_bql(true);
	the_coroutine.entry(the_coroutine.opaque);
	the_coroutine.running = false;
	switch_to(&the_coroutine.side, &loop_side, true);
}

EXPORTED Coroutine *qemu_coroutine_create(void (*entry)(void *), void *opaque)
{
	static char *stack;
	Coroutine *co = &the_coroutine;

	g_assert_false(co->running);
	if (!stack)
		stack = g_malloc(STACK_BYTES);
	co->running = true;
	co->entry = entry;
	co->opaque = opaque;
	getcontext(&co->side.context);
	co->side.context.uc_stack.ss_sp = stack;
	co->side.context.uc_stack.ss_size = STACK_BYTES;
	co->side.context.uc_link = NULL;
	co->side.stack = stack;
	co->side.size = STACK_BYTES;
	co->side.fake = NULL;
	makecontext(&co->side.context, coroutine_main, 0);
#ifdef HOST_TSAN
	loop_side.fiber = __tsan_get_current_fiber();
	if (co->side.fiber)
		__tsan_destroy_fiber(co->side.fiber);
	co->side.fiber = __tsan_create_fiber(0);
#endif
	return co;
}

EXPORTED bool qemu_in_coroutine(void)
{
	return host_is_main && inside;
}

EXPORTED Coroutine *qemu_coroutine_self(void)
{
	return &the_coroutine;
}

EXPORTED void qemu_coroutine_yield(void)
{
	g_assert_true(qemu_in_coroutine() && bql_locked());
	switch_to(&the_coroutine.side, &loop_side, false);
}

EXPORTED void qemu_coroutine_enter(Coroutine *co)
{
	g_assert_true(host_is_main && !inside && bql_locked());
	g_assert_true(co->running);
	host_count(COROUTINE_ENTERED, 1);
	switch_to(&loop_side, &co->side, false);
}

void host_yield_on(int fd)
{
	g_assert_cmpint(watched, ==, -1);
	watched = fd;
	host_count(IN_WAIT, 1);
	qemu_coroutine_yield();
	host_count(IN_WAIT, -1);
	watched = -1;
}

/* ---- bottom halves: more than one is never there ---- */

static pthread_mutex_t bh_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	void (*cb)(void *);
	void *opaque;
} bh;
static int bh_event = -1;

EXPORTED AioContext *iohandler_get_aio_context(void)
{
	return (AioContext *)&bh;
}

EXPORTED void aio_bh_schedule_oneshot_full(AioContext *ctx, void (*cb)(void *), void *opaque,
					   const char *name)
{
	g_assert_true(ctx == iohandler_get_aio_context());
	g_assert_nonnull(name);
	host_runs();
	pthread_mutex_lock(&bh_lock);
	g_assert_null(bh.cb);
	bh.cb = cb;
	bh.opaque = opaque;
	pthread_mutex_unlock(&bh_lock);
	host_count(BHS_SCHEDULED, 1);
	eventfd_write(bh_event, 1);
}

static void run_bh(void)
{
	void (*cb)(void *);
	eventfd_t drained;
	void *opaque;

	eventfd_read(bh_event, &drained);
	pthread_mutex_lock(&bh_lock);
	cb = bh.cb;
	opaque = bh.opaque;
	bh.cb = NULL;
	pthread_mutex_unlock(&bh_lock);
	if (cb)
		cb(opaque);
}

/* ---- the loop ---- */

void host_loop_init(void)
{
	host_is_main = true;
	bh_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g_assert_cmpint(bh_event, >=, 0);
}

void main_loop_wait(void)
{
	struct pollfd fds[] = {{bh_event, POLLIN, 0}, {watched, POLLIN, 0}};

	bql_unlock();
	poll(fds, 2, TURN_MS);
	bql_lock();
	if (fds[0].revents)
		run_bh();
	if (fds[1].revents && watched == fds[1].fd)
		qemu_coroutine_enter(&the_coroutine);
}

/* ---- the end ---- */

EXPORTED void qemu_cleanup(int status)
{
	HOST_CAME(qemu_cleanup);
	g_assert_cmpint(status, ==, 3);
	g_assert_true(host_is_main && bql_locked());
	host_count(SHUT_DOWN, 1);
}
