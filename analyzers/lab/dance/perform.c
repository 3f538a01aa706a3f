/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dancers: one thread a part, and beside those that need them a helper that serves their page
 * faults late or wakes them from a condition variable.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "analyzers/lab/dance/dance.h"

struct dancer {
	const struct part *part;
	struct ledger *ledger; /* NULL: keep none */
	pthread_t thread;
	pthread_barrier_t *start, *meet;
	int timer; /* its read() blocks for a given time */
	/* fault: the page is missing again before each; the helper serves it late. */
	int uffd;
	char *page;
	size_t page_size;
	_Atomic uint64_t fault_ns;
	/* condwait: the helper's timer; which wait is under way (0: none), and the last one over.
	 */
	int alarm;
	QemuCond cond;
	_Atomic unsigned waiting, over;
	unsigned waits;
	/* pipe, socket, eventfd, futex: the helper's timer, what it is to do, and on what. */
	int bell;
	_Atomic enum op awaited;
	int pipe[2], socket[2], event;
	sem_t semaphore;
};

static void sleep_ns(uint64_t ns)
{
	struct timespec left = {ns / 1000000000, ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

static void arm(int timer, uint64_t ns)
{
	/* 0 would disarm it. */
	const struct itimerspec when = {
		.it_value = {ns / 1000000000, ns ? ns % 1000000000 : 1},
	};

	timerfd_settime(timer, 0, &when, NULL);
}

/* A timer, or what else gives eight bytes. */
static void wait_for(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

/* ---- helpers ---- */

static void *serve_faults(void *opaque)
{
	struct dancer *d = opaque;
	struct uffd_msg msg;

	pthread_setname_np(pthread_self(), "fault helper");
	while (read(d->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		struct uffdio_zeropage zero = {
			.range = {.start = (uintptr_t)d->page, .len = d->page_size},
		};

		sleep_ns(d->fault_ns);
		if (ioctl(d->uffd, UFFDIO_ZEROPAGE, &zero))
			abort();
	}
	return NULL;
}

static const char *prepare_faults(struct dancer *d)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	pthread_t helper;

	d->page_size = sysconf(_SC_PAGESIZE);
	d->page = mmap(NULL, d->page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	/* Faults from user mode are all that is needed, and that an ordinary user may serve. */
	d->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	range.range.start = (uintptr_t)d->page;
	range.range.len = d->page_size;
	if (d->page == MAP_FAILED || d->uffd < 0 || ioctl(d->uffd, UFFDIO_API, &api) ||
	    ioctl(d->uffd, UFFDIO_REGISTER, &range) ||
	    pthread_create(&helper, NULL, serve_faults, d))
		return "this kernel does not let us serve page faults (userfaultfd)";
	return NULL;
}

/* Signals again until the dancer has gone on: a signal sent before it sleeps is lost. */
static void *wake_dancer(void *opaque)
{
	struct dancer *d = opaque;

	pthread_setname_np(pthread_self(), "alarm helper");
	for (;;) {
		unsigned wait;

		wait_for(d->alarm);
		wait = d->waiting;
		d->over = wait;
		while (d->waiting == wait) {
			pthread_cond_signal(&d->cond.cond);
			sleep_ns(200000);
		}
	}
	return NULL;
}

static const char *prepare_alarm(struct dancer *d)
{
	pthread_t helper;

	pthread_cond_init(&d->cond.cond, NULL);
	d->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (d->alarm < 0 || pthread_create(&helper, NULL, wake_dancer, d))
		return "no thread or timer for a helper";
	return NULL;
}

static void *wake_from_outside(void *opaque)
{
	const uint64_t one = 1;
	struct dancer *d = opaque;

	pthread_setname_np(pthread_self(), "wake helper");
	for (;;) {
		ssize_t done = sizeof(one);

		wait_for(d->bell);
		if (d->awaited == OP_FUTEX)
			sem_post(&d->semaphore);
		else if (d->awaited == OP_PIPE)
			done = write(d->pipe[1], &one, sizeof(one));
		else if (d->awaited == OP_SOCKET)
			done = write(d->socket[1], &one, sizeof(one));
		else
			done = write(d->event, &one, sizeof(one));
		if (done != sizeof(one))
			abort();
	}
	return NULL;
}

static const char *prepare_wakes(struct dancer *d)
{
	pthread_t helper;

	d->bell = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	d->event = eventfd(0, EFD_CLOEXEC);
	if (d->bell < 0 || d->event < 0 || pipe2(d->pipe, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d->socket) ||
	    sem_init(&d->semaphore, 0, 0) || pthread_create(&helper, NULL, wake_from_outside, d))
		return "no thread or descriptors for a helper";
	return NULL;
}

/* ---- steps ---- */

static void take(struct site site)
{
	if (ledger)
		ledger->hold = (struct hold){.site = site, .ask_ns = now_ns()};
	dance_lock(site.file, site.line);
}

static void give(void)
{
	dance_unlock();
	if (ledger)
		ledger_add_hold(ledger);
}

static void spin(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		;
}

static void touch(struct dancer *d, uint64_t ns)
{
	madvise(d->page, d->page_size, MADV_DONTNEED);
	d->fault_ns = ns;
}

static void expect_wake(struct dancer *d, const struct step *s)
{
	d->awaited = s->op;
	arm(d->bell, s->value);
}

static void await_wake(struct dancer *d, enum op op)
{
	if (op == OP_FUTEX)
		while (sem_wait(&d->semaphore) && errno == EINTR)
			;
	else if (op == OP_PIPE)
		wait_for(d->pipe[0]);
	else if (op == OP_SOCKET)
		wait_for(d->socket[0]);
	else
		wait_for(d->event);
}

static void block(struct dancer *d, const struct step *s, bool held)
{
	static const enum cause causes[] = {
		[OP_SLEEP] = CAUSE_SLEEP, [OP_READ] = CAUSE_READ,     [OP_FAULT] = CAUSE_FAULT,
		[OP_PIPE] = CAUSE_PIPE,	  [OP_SOCKET] = CAUSE_SOCKET, [OP_EVENTFD] = CAUSE_EVENTFD,
		[OP_FUTEX] = CAUSE_FUTEX,
	};
	uint64_t begin;

	if (s->op == OP_READ)
		arm(d->timer, s->value);
	else if (s->op == OP_FAULT)
		touch(d, s->value);
	else if (s->op != OP_SLEEP)
		expect_wake(d, s);
	begin = now_ns();
	if (s->op == OP_READ)
		wait_for(d->timer);
	else if (s->op == OP_FAULT)
		*(volatile char *)d->page = 1;
	else if (s->op == OP_SLEEP)
		sleep_ns(s->value);
	else
		await_wake(d, s->op);
	if (ledger && held)
		ledger_add_block(ledger, ledger->hold.site, causes[s->op], begin, now_ns());
}

static void condwait(struct dancer *d, const struct step *s)
{
	if (s->op == OP_TIMEDWAIT) {
		QemuCond never = {PTHREAD_COND_INITIALIZER};

		qemu_cond_timedwait_impl(&never, &bql, s->value / 1000000, s->site.file,
					 s->site.line);
		return;
	}
	d->waiting = ++d->waits;
	arm(d->alarm, s->value);
	while (d->over != d->waits)
		qemu_cond_wait_impl(&d->cond, &bql, s->site.file, s->site.line);
	d->waiting = 0;
}

static void dance(struct dancer *d)
{
	struct {
		size_t first, left;
	} loops[MAX_DEPTH];
	unsigned depth = 0;
	bool held = false;

	for (size_t i = 0; i < d->part->n_steps; i++) {
		const struct step *s = &d->part->steps[i];

		switch (s->op) {
		case OP_LOCK:
			take(s->site);
			held = true;
			break;
		case OP_UNLOCK:
			give();
			held = false;
			break;
		case OP_HOLD:
			spin(s->value);
			break;
		case OP_SLEEP:
		case OP_READ:
		case OP_FAULT:
		case OP_PIPE:
		case OP_SOCKET:
		case OP_EVENTFD:
		case OP_FUTEX:
			block(d, s, held);
			break;
		case OP_CONDWAIT:
		case OP_TIMEDWAIT:
			condwait(d, s);
			break;
		case OP_PAIRS:
			for (uint64_t n = 0; n < s->value; n++) {
				take(s->site);
				give();
			}
			break;
		case OP_BARRIER:
			pthread_barrier_wait(d->meet);
			break;
		case OP_REPEAT:
			loops[depth].first = i;
			loops[depth++].left = s->value;
			break;
		case OP_END:
			if (--loops[depth - 1].left)
				i = loops[depth - 1].first;
			else
				depth--;
			break;
		}
	}
}

static void *run(void *opaque)
{
	struct dancer *d = opaque;

	pthread_setname_np(pthread_self(), d->part->name);
	if (d->ledger)
		d->ledger->tid = gettid();
	ledger = d->ledger;
	pthread_barrier_wait(d->start); /* all are ready */
	pthread_barrier_wait(d->start); /* go */
	dance(d);
	return NULL;
}

static const char *prepare(struct dancer *d)
{
	const struct part *part = d->part;
	const char *error = NULL;

	if (d->ledger) {
		d->ledger->thread = part->name;
		if (!ledger_reserve(d->ledger, part->holds, part->blocks))
			return "no memory for the ledger";
	}
	d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (d->timer < 0)
		return "no timer";
	if (part->faults)
		error = prepare_faults(d);
	if (!error && part->condwaits)
		error = prepare_alarm(d);
	if (!error && part->wakes)
		error = prepare_wakes(d);
	return error;
}

const char *perform(const struct script *script, bool keep_ledger, void (*ready)(void),
		    struct performance *result)
{
	static struct dancer dancers[MAX_THREADS];
	static pthread_barrier_t start, meet;
	size_t n = script->n_parts, meeting = 0;
	const char *error;

	for (size_t i = 0; i < n; i++) {
		meeting += !!script->parts[i].barriers;
		dancers[i] = (struct dancer){
			.part = &script->parts[i],
			.ledger = keep_ledger ? &result->ledgers[i] : NULL,
			.start = &start,
			.meet = &meet,
		};
		error = prepare(&dancers[i]);
		if (error)
			return error;
	}
	pthread_barrier_init(&start, NULL, n + 1);
	pthread_barrier_init(&meet, NULL, meeting ? meeting : 1);
	for (size_t i = 0; i < n; i++)
		if (pthread_create(&dancers[i].thread, NULL, run, &dancers[i]))
			return "cannot start a thread";
	pthread_barrier_wait(&start);
	ready();
	result->begin_ns = now_ns();
	pthread_barrier_wait(&start);
	for (size_t i = 0; i < n; i++)
		pthread_join(dancers[i].thread, NULL);
	result->end_ns = now_ns();
	return NULL;
}
