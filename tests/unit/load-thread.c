/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The incoming thread in a QEMU in small (host.h), to be run under TSAN and ASAN: what it registers
 * it unregisters, results pass through, load threads may need the lock while they are joined,
 * waiters get their turn, and from any phase QEMU can quit.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/host.h"

enum {
	LOADS = 20,
	TURNS = 1000, /* at which a script lets go of the lock */
	WAITERS = 3,
	TIMEOUT_S = 60,
};

static const char *const threaded[] = {"wait", "section", "io-free"};

/* Does a policy hold the lock at this place? */
static bool held_in(const char *policy, unsigned int drop, bool inside)
{
	unsigned int drops = policy_find(policy)->drops;

	return !(drops & drop) || (inside && !(drops & POLICY_INSIDE));
}

static const char *policy_of_load(void)
{
	return loadvm_status.load_policy;
}

static int run_load(int (*script)(QEMUFile *f, void *errp), QEMUFile *f, void *errp)
{
	host_incoming(script, f, errp);
	while (host_co.running)
		host_loop();
	return host_co.result;
}

/* ---- scripts, and pieces of them ---- */

static int ram_start(void)
{
	host_step(true);
	return 0;
}

static int ram_part(void)
{
	bool held = held_in(policy_of_load(), POLICY_DROP_RAM, false);

	host_step(held);
	g_assert_cmpint(load_channel_read(NULL, 1, 2, 3, 4, 5, 6), ==, 21);
	host_step(held);
	return 5;
}

static void device(void *opaque)
{
	int *loaded = opaque;

	host_step(true);
	load_channel_read(NULL, 0, 0, 0, 0, 0, 0);
	host_step(true);
	++*loaded;
}

static int load_ram(int (*piece)(void))
{
	void *opaque;

	memcpy(&opaque, &piece, sizeof(opaque));
	return load_ram_load(NULL, opaque, 4);
}

static long load_device(void (*piece)(void *), void *opaque)
{
	void *vmsd;

	memcpy(&vmsd, &piece, sizeof(vmsd));
	return load_vmstate_load(NULL, vmsd, opaque, 3, NULL);
}

static int whole(QEMUFile *f, void *errp)
{
	char name[16] = "";
	int loaded = 0;

	(void)f;
	pthread_getname_np(pthread_self(), name, sizeof(name));
	g_assert_cmpstr(name, ==, "mig/dst/main");
	g_assert_false(host_is_main);
	g_assert_true(host_reader);
	load_ram(ram_start);
	g_assert_cmpint(load_ram(ram_part), ==, 5);
	host_step(true);
	host_add(&host.fed, 1);
	g_assert_cmpint(load_multifd_recv_sync(), ==, 7);
	host_step(true);
	for (int i = 0; i < 10; i++)
		g_assert_cmpint(load_device(device, &loaded), ==, 3);
	g_assert_cmpint(loaded, ==, 10);
	host_step(true);
	return *(int *)errp;
}

/* ---- that it is all done, and undone ---- */

static void balanced(gconstpointer policy)
{
	static const int results[] = {0, -5, -EINVAL, 1};
	struct host now;

	host_init(policy);
	for (int i = 0; i < LOADS; i++) {
		int result = results[i % G_N_ELEMENTS(results)];

		g_assert_cmpint(run_load(whole, (QEMUFile *)&result, &result), ==, result);
		/* Entered at the beginning, and once more when it was done. */
		g_assert_cmpint(host_co.entered, ==, 2);
		g_assert_true(host_mine);
	}
	now = host_now();
	g_assert_cmpint(now.created, ==, LOADS);
	g_assert_cmpint(now.joined, ==, LOADS);
	g_assert_cmpint(now.registered, ==, LOADS);
	g_assert_cmpint(now.unregistered, ==, LOADS);
	g_assert_cmpint(now.scheduled, ==, LOADS);
	/* After the load, quitting is stock's own affair. */
	load_cleanup(3);
	g_assert_cmpint(host_now().shut_down, ==, 1);
}

static int on_main(QEMUFile *f, void *errp)
{
	g_assert_true(host_is_main);
	g_assert_true(f == errp);
	g_assert_cmpint(load_channel_read(NULL, 1, 2, 3, 4, 5, 6), ==, 21);
	g_assert_cmpint(load_ram(ram_start), ==, 0);
	return -17;
}

/* HMP loadvm is not in a coroutine; policy stock is, and changes nothing. */
static void untouched(void)
{
	int here;

	host_init("io-free");
	host_co.script = on_main;
	g_assert_cmpint(load_loadvm_state((QEMUFile *)&here, &here), ==, -17);
	host_init("stock");
	g_assert_cmpint(run_load(on_main, (QEMUFile *)&here, &here), ==, -17);
	g_assert_cmpint(host_now().created, ==, 0);
	g_assert_cmpint(host_now().registered, ==, 0);
}

/* ---- multifd's receivers ---- */

static struct {
	pthread_t threads[2];
	int created;
	int words;  /* the semaphore that they post */
	int let_go; /* they end */
	int error;  /* that the stream was given */
} receivers;

static void create_receiver(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			    int mode)
{
	(void)thread;
	(void)name;
	(void)mode;
	g_assert_cmpint(pthread_create(&receivers.threads[receivers.created++], NULL, fn, arg), ==,
			0);
}

static int word_wait(QemuSemaphore *sem, int ms)
{
	gint64 end = g_get_monotonic_time() + ms * 1000;
	int *words = (int *)sem, r;

	for (;;) {
		pthread_mutex_lock(&host_state);
		r = *words ? 0 : -1;
		*words -= !r;
		pthread_mutex_unlock(&host_state);
		if (!r || g_get_monotonic_time() >= end)
			return r;
		g_usleep(1000);
	}
}

static void give_error(QEMUFile *f, int error)
{
	g_assert_true(f == (QEMUFile *)&receivers);
	receivers.error = error;
}

static void *speaks(void *unused)
{
	host_add(&receivers.words, 1);
	while (word_wait((QemuSemaphore *)&receivers.let_go, 10))
		;
	return unused;
}

static void *says_nothing(void *unused)
{
	return unused;
}

static long wait_for_words(void)
{
	for (int i = 0; i < 2; i++)
		receivers_sem_wait((QemuSemaphore *)&receivers.words);
	host_add(&receivers.let_go, 2);
	return 7;
}

static int syncs(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	load_ram(ram_start);
	g_assert_cmpint(load_multifd_recv_sync(), ==, 7);
	host_step(true);
	return receivers.error;
}

/* One that ends without its word must not keep the load for ever; all others are waited for. */
static void receivers_end(gconstpointer policy)
{
	static const struct {
		void *(*second)(void *);
		int result;
	} cases[] = {{speaks, 0}, {says_nothing, -EIO}, {speaks, 0}};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		host_init(policy);
		memset(&receivers, 0, sizeof(receivers));
		qemu.sem_timedwait = word_wait;
		qemu.file_set_error = give_error;
		original.multifd_recv_sync = wait_for_words;
		original.thread_create = create_receiver;
		receivers_thread_create(NULL, "multifdrecv_0", speaks, NULL, QEMU_THREAD_JOINABLE);
		receivers_thread_create(NULL, "mig/dst/recv_1", cases[i].second, NULL,
					QEMU_THREAD_JOINABLE);
		g_assert_cmpint(run_load(syncs, (QEMUFile *)&receivers, NULL), ==, cases[i].result);
		for (int t = 0; t < 2; t++)
			pthread_join(receivers.threads[t], NULL);
	}
}

/* ---- load threads ---- */

static void *needs_lock(void *unused)
{
	host_lock(__FILE__, __LINE__);
	host_add(&host.mark, 1);
	host_unlock();
	return unused;
}

/* As 10.0's qemu_loadvm_thread_pool_wait() does: it drops the lock that it expects to hold. */
static int joins_pool(QEMUFile *f, void *errp)
{
	pthread_t pool[WAITERS];

	(void)f;
	(void)errp;
	load_ram(ram_start);
	for (int i = 0; i < WAITERS; i++)
		pthread_create(&pool[i], NULL, needs_lock, NULL);
	load_ram(ram_part);
	host_step(true);
	host_unlock();
	for (int i = 0; i < WAITERS; i++)
		pthread_join(pool[i], NULL);
	host_lock(__FILE__, __LINE__);
	host_step(true);
	return host_now().mark;
}

static void *feeds_with_lock(void *unused)
{
	needs_lock(NULL);
	host_add(&host.fed, 1);
	return unused;
}

/* A channel that must have the lock before it can say that it is done (VFIO's device state). */
static int waits_for_channel(QEMUFile *f, void *errp)
{
	pthread_t channel;

	(void)f;
	(void)errp;
	for (int i = 0; i < WAITERS; i++) {
		pthread_create(&channel, NULL, feeds_with_lock, NULL);
		if (i % 2)
			load_multifd_recv_sync();
		else
			load_channel_wait(NULL, 1);
		host_step(true);
		pthread_join(channel, NULL);
	}
	return host_now().mark;
}

/*
 * VFIO's, whose lock order is bufs -> BQL: its receiver queues what has come, its load thread takes
 * it off and sets the device up, and switchover_start(), entered with the lock, lets go of it.
 */
static struct {
	pthread_mutex_t bufs;
	pthread_cond_t come;
	int queued;
	bool running;
	pthread_t loader;
} vfio = {.bufs = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};

static void *vfio_loads(void *unused)
{
	pthread_mutex_lock(&vfio.bufs);
	for (int i = 0; i < WAITERS; i++) {
		while (!vfio.queued)
			pthread_cond_wait(&vfio.come, &vfio.bufs);
		vfio.queued--;
		needs_lock(NULL);
	}
	pthread_mutex_unlock(&vfio.bufs);
	return unused;
}

static void *vfio_receives(void *unused)
{
	for (int i = 0; i < WAITERS; i++) {
		pthread_mutex_lock(&vfio.bufs);
		needs_lock(NULL);
		vfio.queued++;
		pthread_cond_signal(&vfio.come);
		pthread_mutex_unlock(&vfio.bufs);
		host_add(&host.fed, 1);
	}
	host_add(&host.fed, 1); /* for the wait for load threads */
	return unused;
}

static void switchover_start(void)
{
	host_step(true);
	host_unlock();
	pthread_mutex_lock(&vfio.bufs);
	g_assert_false(vfio.running);
	vfio.running = true;
	pthread_mutex_unlock(&vfio.bufs);
	host_lock(__FILE__, __LINE__);
	g_assert_cmpint(pthread_create(&vfio.loader, NULL, vfio_loads, NULL), ==, 0);
}

static int loads_vfio(QEMUFile *f, void *errp)
{
	pthread_t receiver;
	int loaded = 0;

	(void)f;
	(void)errp;
	load_ram(ram_start);
	g_assert_cmpint(pthread_create(&receiver, NULL, vfio_receives, NULL), ==, 0);
	load_ram(ram_part);
	switchover_start();
	for (int i = 0; i < WAITERS; i++) {
		load_multifd_recv_sync();
		load_device(device, &loaded);
		host_step(true);
	}
	/* qemu_loadvm_thread_pool_wait() */
	host_unlock();
	load_threads_wait(NULL);
	pthread_join(vfio.loader, NULL);
	host_lock(__FILE__, __LINE__);
	pthread_join(receiver, NULL);
	vfio.running = false;
	host_step(true);
	return host_now().mark;
}

static void load_threads(gconstpointer policy)
{
	host_init(policy);
	g_assert_cmpint(run_load(joins_pool, NULL, NULL), ==, WAITERS);
	host_init(policy);
	g_assert_cmpint(run_load(waits_for_channel, NULL, NULL), ==, WAITERS);
	for (int i = 0; i < LOADS; i++) {
		host_init(policy);
		g_assert_cmpint(run_load(loads_vfio, NULL, NULL), ==, 2 * WAITERS);
	}
}

/* ---- RDMA: a kick ends the wait for an fd, and nothing else ---- */

static int pipe_ends[2];

static int reads_fd(QEMUFile *f, void *errp)
{
	char byte;

	(void)f;
	(void)errp;
	host_add(&host.mark, 1);
	load_fd_readable_yield(pipe_ends[0]); /* ended by the kick */
	host_add(&host.mark, 1);
	load_fd_readable_yield(pipe_ends[0]); /* ended by the byte */
	return (int)read(pipe_ends[0], &byte, 1);
}

static void kicked(gconstpointer policy)
{
	host_init(policy);
	g_assert_cmpint(pipe(pipe_ends), ==, 0);
	host_incoming(reads_fd, NULL, NULL);
	while (host_now().mark != 1)
		host_loop();
	host_coroutine_enter((Coroutine *)&host_co_side);
	g_assert_true(host_co.running);
	while (host_now().mark != 2)
		host_loop();
	g_assert_cmpint(write(pipe_ends[1], "x", 1), ==, 1);
	while (host_co.running)
		host_loop();
	g_assert_cmpint(host_co.result, ==, 1);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
}

/* ---- fairness ---- */

static struct waiter {
	pthread_t thread;
	unsigned int missed[TURNS * 4]; /* turns of the loading thread's while it waited */
	unsigned int n;
} waiters[WAITERS];
static int turn; /* of the loading thread; under host_state */

static int now_turn(int add)
{
	int r;

	pthread_mutex_lock(&host_state);
	r = turn += add;
	pthread_mutex_unlock(&host_state);
	return r;
}

static void *waiter_thread(void *opaque)
{
	struct waiter *w = opaque;

	while (w->n < G_N_ELEMENTS(w->missed)) {
		int asked = now_turn(0), got;

		if (asked >= TURNS)
			break;
		host_lock(__FILE__, __LINE__);
		got = now_turn(0);
		host_unlock();
		w->missed[w->n++] = got - asked;
		g_usleep(200);
	}
	return NULL;
}

/* Some work, longer than it takes to be woken. */
static void compute(void)
{
	uint64_t until = g_get_monotonic_time() + 200;

	while ((uint64_t)g_get_monotonic_time() < until)
		;
}

/* One device after the other: the lock is offered at each read, or between them. */
static void busy_device(void *unused)
{
	(void)unused;
	compute();
	load_channel_read(NULL, 0, 0, 0, 0, 0, 0);
	now_turn(1);
}

static int many_devices(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	for (int i = 0; i < TURNS; i++)
		load_device(busy_device, NULL);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

static void fair(gconstpointer policy)
{
	host_init(policy);
	turn = 0;
	for (int i = 0; i < WAITERS; i++) {
		waiters[i].n = 0;
		pthread_create(&waiters[i].thread, NULL, waiter_thread, &waiters[i]);
	}
	g_assert_cmpint(run_load(many_devices, NULL, NULL), ==, 0);
	for (int i = 0; i < WAITERS; i++) {
		struct waiter *w = &waiters[i];

		/* So that it comes to its end whatever it last asked for. */
		host_unlock();
		pthread_join(w->thread, NULL);
		host_lock(__FILE__, __LINE__);
		g_assert_cmpuint(w->n, >, 0);
		qsort(w->missed, w->n, sizeof(w->missed[0]), by_value);
		g_test_message("waiter %d: %u times, missed turns: median %u, p90 %u, most %u", i,
			       w->n, w->missed[w->n / 2], w->missed[w->n * 9 / 10],
			       w->missed[w->n - 1]);
		/*
		 * Ten turns or so are between two hand-offs, and there are other waiters. An unfair
		 * mutex: half of the waits last for hundreds of turns, or all of them.
		 */
		g_assert_cmpuint(w->n, >=, TURNS / 50);
		g_assert_cmpuint(w->missed[w->n / 2], <=, 30);
		g_assert_cmpuint(w->missed[w->n * 9 / 10], <=, 60);
	}
}

static void quick_device(void *opaque)
{
	++*(int *)opaque;
}

/* A condition variable that takes the lock back marks it as waited for. Nobody waits. */
static int marks_lock(QEMUFile *f, void *errp)
{
	static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
	uint64_t contended = loadvm_status.contended;
	int loaded = 0;

	(void)f;
	(void)errp;
	for (int i = 0; i < 10; i++) {
		struct timespec until;

		/* Longer than from one hand-off to the next. */
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += (until.tv_nsec + 3000000) / 1000000000;
		until.tv_nsec = (until.tv_nsec + 3000000) % 1000000000;
		pthread_cond_timedwait(&never, &host_bql, &until);
		g_assert_cmpint(*qemu.bql_word, ==, 2);
		load_device(quick_device, &loaded);
	}
	g_assert_cmpuint(loadvm_status.contended, ==, contended);
	host_add(&host.mark, 1);
	return loaded;
}

static void nobody(gconstpointer policy)
{
	host_init(policy);
	host_incoming(marks_lock, NULL, NULL);
	host_unlock();
	while (!host_now().mark)
		g_usleep(1000);
	host_lock(__FILE__, __LINE__);
	while (host_co.running)
		host_loop();
	g_assert_cmpint(host_co.result, ==, 10);
}

/* ---- quit ---- */

/* Each waits or works in its phase until the process ends; mark 1: it is there. */

static int never(void)
{
	g_error("the thread has left the phase in which QEMU quit");
	return -1;
}

static int in_begin(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	return never();
}

static int ram_for_ever(void)
{
	host_add(&host.mark, 1);
	while (host_now().mark)
		load_channel_read(NULL, 0, 0, 0, 0, 0, 0);
	return never();
}

static int in_ram(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	load_ram(ram_start);
	load_ram(ram_for_ever);
	return never();
}

static int ram_waits(void)
{
	host_add(&host.mark, 1);
	load_channel_wait(NULL, 1);
	return never();
}

static int in_ram_wait(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	load_ram(ram_start);
	load_ram(ram_waits);
	return never();
}

static int in_multifd(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	host_add(&host.mark, 1);
	load_multifd_recv_sync();
	return never();
}

static int in_fd(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	host_add(&host.mark, 1);
	load_fd_readable_yield(pipe_ends[0]);
	return never();
}

static void device_waits(void *unused)
{
	(void)unused;
	host_add(&host.mark, 1);
	load_channel_wait(NULL, 1);
	never();
}

static int in_device_wait(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	load_device(device_waits, NULL);
	return never();
}

static int between_devices(QEMUFile *f, void *errp)
{
	int loaded = 0;

	(void)f;
	(void)errp;
	host_add(&host.mark, 1);
	while (host_now().mark)
		load_device(device, &loaded);
	return never();
}

/* QEMU's own wait drops the lock behind the thread's back, and takes it again. */
static int in_pool(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	host_unlock();
	host_add(&host.mark, 1);
	g_usleep(50000);
	host_lock(__FILE__, __LINE__);
	load_channel_read(NULL, 0, 0, 0, 0, 0, 0);
	load_channel_wait(NULL, 1);
	return never();
}

static int in_load_threads(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	host_unlock();
	host_add(&host.mark, 1);
	load_threads_wait(NULL);
	return never();
}

static int at_end(QEMUFile *f, void *errp)
{
	(void)f;
	(void)errp;
	host_add(&host.mark, 1);
	return 0;
}

static const struct phase {
	const char *name;
	int (*script)(QEMUFile *f, void *errp);
	bool inside;  /* waits in device state: `section` then holds the lock, and quit waits too */
	bool at_once; /* nothing else would end the wait: is it seen as one? */
} phases[] = {
	{.name = "begin", .script = in_begin},
	{.name = "ram", .script = in_ram},
	{.name = "ram-wait", .script = in_ram_wait},
	{.name = "multifd", .script = in_multifd},
	{.name = "fd", .script = in_fd},
	{.name = "device-wait", .script = in_device_wait, .inside = true},
	{.name = "between-devices", .script = between_devices},
	{.name = "pool", .script = in_pool},
	{.name = "load-threads", .script = in_load_threads, .at_once = true},
	{.name = "end", .script = at_end},
};

struct quit {
	const struct phase *phase;
	const char *policy;
};

static void quit_now(const struct quit *q)
{
	uint64_t asked, answered;
	bool at_begin = q->phase->script == in_begin;

	host_init(q->policy);
	g_assert_cmpint(pipe(pipe_ends), ==, 0);
	host_incoming(q->phase->script, NULL, NULL);
	if (!at_begin) {
		/* Not through host_loop(): the bottom half at the end is not to run. */
		do {
			host_unlock();
			g_usleep(1000);
			host_lock(__FILE__, __LINE__);
		} while (host_now().mark != 1);
		/* It has the time to come to its wait, and for the phase `end` to its end. */
		host_unlock();
		g_usleep(20000);
		host_lock(__FILE__, __LINE__);
	}
	asked = g_get_monotonic_time();
	load_cleanup(3);
	answered = g_get_monotonic_time();
	g_test_message("quit took %" G_GUINT64_FORMAT " us", answered - asked);
	/* Half of what it waits for a thread that works. */
	g_assert_true(!q->phase->at_once || answered - asked < 500000);
	g_assert_true(host_mine);
	g_assert_cmpint(host_now().shut_down, ==, 1);

	/* QEMU takes itself apart, with the lock and without; whoever waited may be woken by it. */
	pthread_mutex_lock(&host_state);
	host.torn_down = true;
	pthread_mutex_unlock(&host_state);
	host_add(&host.fed, 10);
	g_assert_cmpint(write(pipe_ends[1], "x", 1), ==, 1);
	host_unlock();
	g_usleep(50000);
	host_lock(__FILE__, __LINE__);
	/* Its coroutine would have joined it; TSAN wants somebody to. */
	if (q->phase->script == at_end)
		g_assert_cmpint(pthread_join(host_last_thread, NULL), ==, 0);
	/* Else with the thread parked, as QEMU does. */
	exit(0);
}

static void quit(gconstpointer opaque)
{
	const struct quit *q = opaque;

	if (g_test_subprocess()) {
		quit_now(q);
		return;
	}
	g_test_trap_subprocess(NULL, TIMEOUT_S * G_USEC_PER_SEC, 0);
	g_test_trap_assert_passed();
	g_test_trap_assert_stderr_unmatched("*did not come to rest*");
}

static void add_quits(const char *policy)
{
	for (size_t i = 0; i < G_N_ELEMENTS(phases); i++) {
		g_autofree char *path =
			g_strdup_printf("/load-thread/quit/%s/%s", policy, phases[i].name);
		struct quit *q;

		if (phases[i].inside && held_in(policy, POLICY_DROP_WAIT, true))
			continue;
		q = g_new(struct quit, 1);
		*q = (struct quit){&phases[i], policy};
		g_test_add_data_func_full(path, q, quit, g_free);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*test)(gconstpointer policy);
	} each[] = {
		{"balanced", balanced}, {"load-threads", load_threads},
		{"kicked", kicked},	{"fair", fair},
		{"nobody", nobody},	{"receivers", receivers_end},
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/load-thread/untouched", untouched);
	for (size_t p = 0; p < G_N_ELEMENTS(threaded); p++) {
		for (size_t i = 0; i < G_N_ELEMENTS(each); i++) {
			g_autofree char *path =
				g_strdup_printf("/load-thread/%s/%s", each[i].name, threaded[p]);

			g_test_add_data_func(path, threaded[p], each[i].test);
		}
		add_quits(threaded[p]);
	}
	return g_test_run();
}
