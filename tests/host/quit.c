/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU ends while a load is in one phase or another.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/scenario.h"

enum {
	BUFFERS = 3,
};

/* Stream bytes for ever, faster than they are read: the load is never through with them. */
static void *endless(void *bytes)
{
	g_autoptr(GString) chunk = g_string_new(NULL);

	for (int i = 0; i < 1000; i++)
		g_string_append(chunk, bytes);
	while (source_write(chunk->str, chunk->len))
		;
	return NULL;
}

/* VFIO state for ever: its load thread takes the lock again and again. */
static void *endless_buffers(void *unused)
{
	for (;;) {
		host_multifd_send(0, "v");
		g_usleep(20);
	}
	return unused;
}

static void wants_bql_inside(void)
{
	host_vfio_hold();
}

enum {
	NEVER_STOCK = 1 << STOCK,     /* the main thread would wait: stock cannot quit there */
	NEVER_SECTION = 1 << SECTION, /* in device state and START: `section` keeps the lock */
};

static const struct phase {
	const char *name;
	const char *stream, *endless;
	enum counter until; /* it is there when this is as high as `count` */
	int count;
	unsigned int without; /* policies */
	bool at_once;	      /* the thread does nothing but wait, and that is seen */
	void (*prepare)(void);
	int buffers;
	const char *late; /* arrives while the main thread has the lock, and asks to quit */
} phases[] = {
	{.name = "begin", .stream = ""},
	{.name = "between", .stream = "SrePre", .until = IN_WAIT, .count = 1, .at_once = true},
	{.name = "ram",
	 .stream = "SrePr",
	 .endless = "z.z.z.z.",
	 .until = PAGES,
	 .count = 100,
	 .without = NEVER_STOCK},
	{.name = "ram-wait", .stream = "SrePrz", .until = IN_WAIT, .count = 1, .at_once = true},
	/* The thread has to queue for the lock, and what it wants it for takes long. */
	{.name = "retake",
	 .stream = "SrePr",
	 .until = IN_WAIT,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .at_once = true,
	 .late = "eF7"},
	{.name = "start-wait",
	 .stream = "Srz",
	 .until = IN_WAIT,
	 .count = 1,
	 .without = NEVER_SECTION,
	 .at_once = true},
	{.name = "multifd-sync",
	 .stream = "SrePrs",
	 .until = IN_WAIT,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .at_once = true},
	{.name = "mapped-ram",
	 .stream = "Sr",
	 .endless = "mmmmmmmm",
	 .until = PAGES,
	 .count = 100,
	 .without = NEVER_STOCK | NEVER_SECTION},
	{.name = "multifd-free",
	 .stream = "Srvv",
	 .until = IN_WAIT,
	 .count = 1,
	 .without = NEVER_STOCK | NEVER_SECTION,
	 .at_once = true},
	{.name = "rdma", .stream = "SrePrw"},
	{.name = "device-wait",
	 .stream = "F1a",
	 .until = IN_WAIT,
	 .count = 1,
	 .without = NEVER_SECTION,
	 .at_once = true},
	{.name = "between-devices",
	 .endless = "F1abcF1abc",
	 .until = DEVICES,
	 .count = 20,
	 .without = NEVER_STOCK},
	{.name = "switchover-start",
	 .stream = "C",
	 .until = IN_SWITCH,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .prepare = wants_bql_inside,
	 .buffers = BUFFERS},
	/* From there straight to the end: nothing more is read. */
	{.name = "switchover-error",
	 .stream = "Cx",
	 .until = IN_SWITCH,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .prepare = wants_bql_inside,
	 .buffers = BUFFERS},
	{.name = "vfio-join",
	 .stream = "CE",
	 .until = IN_JOIN,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .at_once = true,
	 .buffers = BUFFERS},
	{.name = "vfio-join-busy",
	 .stream = "CE",
	 .until = IN_JOIN,
	 .count = 1,
	 .without = NEVER_STOCK,
	 .at_once = true,
	 .buffers = G_MAXINT},
	{.name = "end",
	 .stream = "SreE",
	 .until = BHS_SCHEDULED,
	 .count = 1,
	 .without = NEVER_STOCK},
	{.name = "end-with-error",
	 .stream = "SrePrx",
	 .until = BHS_SCHEDULED,
	 .count = 1,
	 .without = NEVER_STOCK},
};

/* Not through the main loop: the bottom half at the end is not to run. */
static void turn(void)
{
	if (start_policy == STOCK) {
		main_loop_wait();
		return;
	}
	bql_unlock();
	g_usleep(1000);
	bql_lock();
}

/* Everybody who waits for something gets it. */
static void wake_all(const struct phase *phase)
{
	host_tear_down();
	if (!phase->endless)
		source_send("zzzzzzzzzzzzzzzz");
	source_completes();
	for (int i = 0; i < MULTIFD_CHANNELS; i++)
		host_multifd_send(i, "vvs");
	host_multifd_free_channel();
	host_multifd_free_channel();
}

__attribute__((noreturn)) static void quit_in(const struct phase *phase)
{
	const struct load load = {.stream = phase->stream, .buffers = phase->buffers};
	const struct load before = {.stream = "SreE"};
	gint64 asked, answered;
	bool began = phase->count || phase->stream[0];
	QemuThread thread;
	QEMUFile *f;

	use_policy(start_policy);
	/* What the first load leaves behind must not be taken for the second one's. */
	run_load(&before);
	host_forget_counts();
	f = connect_source(&load);
	if (phase->prepare)
		phase->prepare();
	host_incoming(f);
	if (phase->endless)
		qemu_thread_create(&thread, "source", endless, (void *)phase->endless, 0);
	if (phase->buffers == G_MAXINT)
		qemu_thread_create(&thread, "buffers", endless_buffers, NULL, 0);
	while (host_counted(phase->until) < phase->count)
		turn();
	/* It has the time to come to its wait, and at the end to its end. */
	for (int i = 0; began && i < 20; i++)
		turn();
	g_assert_cmpint(host_counted(phase->until), >=, phase->count);
	host_vfio_let_go();
	if (phase->late) {
		source_send(phase->late);
		g_usleep(20000);
	}

	asked = g_get_monotonic_time();
	qemu_cleanup(3);
	answered = g_get_monotonic_time();
	printf("quit took %d us\n", (int)(answered - asked));
	fflush(stdout);
	/* Half of what it waits for a thread that works. */
	g_assert_true(!phase->at_once || answered - asked < 500000);
	g_assert_true(bql_locked());
	g_assert_cmpint(host_counted(SHUT_DOWN), ==, 1);
	check_all_came(CAME_qemu_cleanup, 1, runtime_is_in);

	/* QEMU takes itself apart, with the lock and without; who waited may be woken by it. */
	wake_all(phase);
	bql_unlock();
	g_usleep(100000);
	bql_lock();
	/* Nothing was left for a main loop that is gone. */
	g_assert_cmpint(host_counted(BHS_SCHEDULED), ==,
			phase->until == BHS_SCHEDULED ? phase->count : 0);
	/* With the thread parked, or waiting. */
	exit(0);
}

bool scenario_quit(const char *phase)
{
	for (size_t i = 0; i < G_N_ELEMENTS(phases); i++)
		if (!strcmp(phases[i].name, phase) && !(phases[i].without & 1u << start_policy))
			quit_in(&phases[i]);
	return false;
}

void scenario_list_quits(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(phases); i++)
		for (int p = STOCK; p <= IO_FREE; p++)
			if (!(phases[i].without & 1u << p))
				printf("%s %s\n", phases[i].name, policy_names[p]);
}
