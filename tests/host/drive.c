/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A load, from its source to its end.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/host/scenario.h"

const char *const policy_names[] = {"stock", "wait", "section", "io-free"};
enum host_policy start_policy;
bool runtime_is_in;
const char *control;

static int source = -1; /* the stream's other end */

bool source_write(const char *bytes, size_t n)
{
	return write(source, bytes, n) == (ssize_t)n;
}

void source_send(const char *bytes)
{
	g_assert_true(source_write(bytes, strlen(bytes)));
}

void source_completes(void)
{
	g_assert_cmpint(write(host_rdma_fds[1], "x", 1), ==, 1);
}

QEMUFile *connect_source(const struct load *load)
{
	QIOChannel *ioc = g_new0(QIOChannel, 1);
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	g_assert_cmpint(fcntl(fds[0], F_SETFL, O_NONBLOCK), ==, 0);
	ioc->fd = fds[0];
	source = fds[1];
	multifd_recv_setup();
	host_multifd_free_channel();
	host_vfio_reset(load->buffers, load->vfio_fails);
	for (int i = 0; i < MULTIFD_CHANNELS; i++)
		if (load->channels[i])
			host_multifd_send(i, load->channels[i]);
	if (load->stream)
		source_send(load->stream);
	if (load->source_dies) {
		close(source);
		source = -1;
	}
	return qemu_file_new_input(ioc);
}

void disconnect_source(void)
{
	if (source >= 0)
		close(source);
	source = -1;
}

void use_policy(enum host_policy policy)
{
	host_expect(policy);
	if (control)
		g_assert_true(g_file_set_contents(control, policy_names[policy], -1, NULL));
	else
		g_assert_cmpint(policy, ==, start_policy);
}

void end_load(int expected)
{
	int result;

	while (!host_incoming_done(&result))
		main_loop_wait();
	migration_incoming_state_destroy();
	disconnect_source();
	g_assert_true(bql_locked());
	g_assert_cmpint(result, ==, expected);
}

void run_load(const struct load *load)
{
	host_incoming(connect_source(load));
	end_load(load->result);
}

void check_balance(void)
{
	g_assert_cmpint(host_counted(THREADS_CREATED), >, 0);
	g_assert_cmpint(host_counted(THREADS_CREATED), ==, host_counted(THREADS_JOINED));
	g_assert_cmpint(host_counted(RCU_REGISTERED), ==, host_counted(RCU_UNREGISTERED));
	g_assert_cmpint(host_counted(IN_WAIT) + host_counted(IN_JOIN) + host_counted(IN_SWITCH), ==,
			0);
}

void check_came(enum host_function function, int direct, int through)
{
	struct came came = host_calls(function);

	if (came.direct != direct || came.through != through)
		g_error("function %d: %d calls direct and %d through the runtime, not %d and %d",
			function, came.direct, came.through, direct, through);
}

void check_all_came(enum host_function function, int calls, bool through)
{
	check_came(function, through ? 0 : calls, through ? calls : 0);
}

static int load_nothing(QEMUFile *f, void *opaque, int version_id)
{
	g_assert_true(!f && !opaque);
	return 8 + version_id;
}

void check_bypassed(void)
{
	struct came loads = host_calls(CAME_vmstate_load_state),
		    waits = host_calls(CAME_qemu_sem_wait),
		    reads = host_calls(CAME_qio_channel_readv_full);
	QIOChannel zero = {open("/dev/zero", O_RDONLY | O_CLOEXEC)};
	const char *error = NULL;
	char byte;
	static const VMStateDescription none = {"none", 1, load_nothing, NULL};
	QemuSemaphore sem;

	g_assert_cmpint(vmstate_load_state(NULL, &none, NULL, 1), ==, 9);
	qemu_sem_init(&sem, 1);
	qemu_sem_wait(&sem);
	g_assert_cmpint(
		qio_channel_readv_full(&zero, &(struct iovec){&byte, 1}, 1, NULL, NULL, 0, &error),
		==, 1);
	close(zero.fd);
	check_came(CAME_qio_channel_readv_full, reads.direct + 1, reads.through);
	check_came(CAME_vmstate_load_state, loads.direct + 1, loads.through);
	check_came(CAME_qemu_sem_wait, waits.direct + 1, waits.through);
}
