/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole loads, good and bad, one after the other.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/host/scenario.h"

enum {
	LOADS = 20,
	BUFFERS = 3,
};

/*
 * RAM with a mapped page and one through multifd, RAM with a sync and one by RDMA, VFIO's
 * switchover start, devices. Another sync behind the switchover, not in stock: there it waits with
 * the lock for receivers that wait for VFIO's load thread, which wants the lock.
 */
#define HEAD                                                                                       \
	"Srz1mve"                                                                                  \
	"Prz2z3se"                                                                                 \
	"Prz4we"
#define DEVICES3                                                                                   \
	"F1abc"                                                                                    \
	"F1def"                                                                                    \
	"F1ghi"

static const struct load outcomes[] = {
	{.stream = HEAD "C" DEVICES3 "E", .channels = {"svv", "sv"}, .buffers = BUFFERS},
	{.stream = HEAD "Prx", .channels = {"s", "s"}, .buffers = BUFFERS, .result = -EINVAL},
	{.stream = HEAD "C"
			"F1abc"
			"F3",
	 .channels = {"sv", "s"},
	 .buffers = BUFFERS,
	 .result = -EDOM},
	{.stream = HEAD "C"
			"F1a",
	 .channels = {"sv", "s"},
	 .source_dies = true,
	 .buffers = BUFFERS,
	 .result = -EIO},
	{.stream = HEAD "C" DEVICES3 "E",
	 .channels = {"svv", "sv"},
	 .buffers = BUFFERS,
	 .vfio_fails = true,
	 .result = -EINVAL},
};

static const struct load with_second_sync = {
	.stream = HEAD "C"
		       "F1abc"
		       "Prse"
		       "F1def"
		       "F1ghi"
		       "E",
	.channels = {"svsv", "svs"},
	.buffers = BUFFERS,
};

static void load_and_check(const struct load *load, enum host_policy policy)
{
	uint64_t loads = runtime_is_in ? host_status()->loads : 0;
	bool threaded = policy != STOCK;
	bool second_sync = load == &with_second_sync;
	struct came reads;
	int devices;

	use_policy(policy);
	host_forget_counts();
	devices = host_devices_loaded();
	source_completes();
	run_load(load);
	check_balance();
	g_assert_cmpint(host_counted(PAGES), ==, 7);
	if (runtime_is_in) {
		g_assert_cmpuint(host_status()->loads, ==, loads + 1);
		g_assert_cmpstr(host_status()->load_policy, ==, policy_names[policy]);
	}
	if (threaded) {
		/* At the beginning, and once more when it was done; by one bottom half. */
		g_assert_cmpint(host_counted(COROUTINE_ENTERED), ==, 2);
		g_assert_cmpint(host_counted(BHS_SCHEDULED), ==, 1);
	} else {
		g_assert_cmpint(host_counted(BHS_SCHEDULED), ==, 0);
	}

	check_all_came(CAME_qemu_loadvm_state, 1, runtime_is_in);
	check_all_came(CAME_ram_load, strstr(load->stream, "Prx") ? 4 : 3 + second_sync,
		       runtime_is_in);
	check_all_came(CAME_qemu_get_buffer_at, 1, runtime_is_in);
	check_all_came(CAME_multifd_recv, 1, runtime_is_in);
	check_all_came(CAME_multifd_recv_sync_main, 1 + second_sync, runtime_is_in);
	/* Stock's way would not do in a thread. */
	check_all_came(CAME_yield_until_fd_readable, threaded ? 0 : 1, runtime_is_in);
	g_assert_cmpint(host_counted(TIMED_WAITS) > 0, ==, threaded);
	reads = host_calls(CAME_qio_channel_readv_full);
	g_assert_cmpint(reads.through > 0, ==, threaded);
	g_assert_cmpint(reads.direct > 0, ==, policy != WAIT);
	g_assert_cmpint(!runtime_is_in ? host_calls(CAME_qemu_thread_create).through
				       : host_calls(CAME_qemu_thread_create).direct,
			==, 0);
	if (!load->result || load->vfio_fails) {
		check_all_came(CAME_thread_pool_wait, 1, runtime_is_in);
		g_assert_cmpint(host_vfio_loaded(), ==, BUFFERS);
		g_assert_cmpint(host_devices_loaded(), ==, devices + 3);
		check_came(CAME_vmstate_load_state, threaded ? 3 : 6, threaded ? 3 : 0);
	}
	if (!threaded)
		g_assert_cmpint(host_calls(CAME_qemu_sem_wait).through, ==, 0);
	check_bypassed();
}

static void loads_under(enum host_policy policy, int n)
{
	host_read_bytes = 3; /* some reads in each section of RAM */
	for (int i = 0; i < n; i++) {
		load_and_check(&outcomes[i % G_N_ELEMENTS(outcomes)], policy);
		if (policy != STOCK)
			load_and_check(&with_second_sync, policy);
	}
}

void scenario_balanced(void)
{
	loads_under(start_policy, LOADS);
	/* After the loads, quitting is stock's own affair. */
	qemu_cleanup(3);
	g_assert_cmpint(host_counted(SHUT_DOWN), ==, 1);
	check_all_came(CAME_qemu_cleanup, 1, runtime_is_in);
}

/* The control file has the word, load by load. */
void scenario_mixed(void)
{
	for (int i = 0; i < 3; i++)
		for (int p = IO_FREE; p >= STOCK; p--)
			loads_under((enum host_policy)p, G_N_ELEMENTS(outcomes));
	use_policy(STOCK);
	g_assert_true(!unlink(control));
	host_expect(start_policy);
	host_forget_counts();
	source_completes();
	run_load(&outcomes[0]);
	check_balance();
	g_assert_cmpstr(host_status()->load_policy, ==, policy_names[start_policy]);
}

/* HMP loadvm is not in a coroutine: no thread, and no lock is let go of. */
void scenario_untouched(void)
{
	const struct load load = {.stream = "Srz1e"
					    "Prz2e" DEVICES3 "E",
				  .buffers = BUFFERS};
	QEMUFile *f = connect_source(&load);

	host_expect(STOCK);
	qemu_loadvm_thread_pool_create();
	g_assert_cmpint(qemu_loadvm_state(f), ==, 0);
	qemu_loadvm_thread_pool_destroy();
	multifd_recv_cleanup();
	qemu_fclose(f);
	disconnect_source();
	check_balance();
	check_all_came(CAME_qemu_loadvm_state, 1, runtime_is_in);
	check_came(CAME_vmstate_load_state, 6, 0);
	g_assert_cmpint(host_counted(PAGES), ==, 2);
	g_assert_cmpint(host_counted(COROUTINE_ENTERED) + host_counted(BHS_SCHEDULED), ==, 0);
	if (runtime_is_in)
		g_assert_cmpuint(host_status()->loads, ==, 0);
	check_bypassed();
}

/* A receiver that ends without its word must not keep the load for ever. */
void scenario_receivers(void)
{
	const struct load syncs = {.stream = "Sre"
					     "Prse"
					     "E",
				   .channels = {"s", "s"}};
	const struct load dies = {.stream = "Sre"
					    "Prse"
					    "E",
				  .channels = {"s"},
				  .result = -EIO};

	use_policy(start_policy);
	run_load(&syncs);
	host_incoming(connect_source(&dies));
	while (!host_counted(IN_WAIT))
		main_loop_wait();
	host_multifd_close(1);
	end_load(dies.result);
	run_load(&syncs);
	check_balance();
	check_bypassed();
}

/* RDMA: who enters the coroutine ends its wait for an fd; in the thread, too, and nothing else. */
void scenario_kicked(void)
{
	const struct load load = {.stream = "Sre"
					    "Prwwe"
					    "E",
				  .result = 0};
	int result;

	use_policy(start_policy);
	host_incoming(connect_source(&load));
	while (!host_counted(IN_WAIT) && start_policy == STOCK)
		main_loop_wait();
	for (int i = 0; i < 20; i++)
		main_loop_wait();
	g_assert_cmpint(host_counted(PAGES), ==, 0);
	qemu_coroutine_enter(qemu_coroutine_self());
	while (!host_counted(KICKED))
		main_loop_wait();
	g_assert_false(host_incoming_done(&result));
	source_completes();
	end_load(0);
	g_assert_cmpint(host_counted(PAGES), ==, 1);
	check_balance();
}
