/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration/multifd.c: receiving threads, the load's wait for a word from each, and mapped-ram's
 * for a free one. What comes through a channel is one letter a packet.
 */
#include "tests/host/host.h"

#include <unistd.h>

static struct channel {
	QemuThread thread;
	int source, fd;
	QemuSemaphore sem_sync;
} channels[MULTIFD_CHANNELS];

static QemuSemaphore sem_sync, sem_free;

static void *multifd_recv_thread(void *opaque)
{
	struct channel *c = opaque;
	char packet;

	rcu_register_thread();
	while (read(c->fd, &packet, 1) == 1) {
		if (packet == MULTIFD_DEVICE_STATE) {
			vfio_load_buffer();
			continue;
		}
		g_assert_cmpint(packet, ==, MULTIFD_SYNC);
		qemu_sem_post(&sem_sync);
		qemu_sem_wait(&c->sem_sync);
	}
	rcu_unregister_thread();
	return NULL;
}

void multifd_recv_setup(void)
{
	qemu_sem_init(&sem_sync, 0);
	qemu_sem_init(&sem_free, 0);
	for (int i = 0; i < MULTIFD_CHANNELS; i++) {
		g_autofree char *name = g_strdup_printf("mig/dst/recv_%d", i);
		int fds[2];

		g_assert_cmpint(pipe(fds), ==, 0);
		channels[i].fd = fds[0];
		channels[i].source = fds[1];
		qemu_sem_init(&channels[i].sem_sync, 0);
		qemu_thread_create(&channels[i].thread, name, multifd_recv_thread, &channels[i], 0);
	}
}

void multifd_recv_cleanup(void)
{
	for (int i = 0; i < MULTIFD_CHANNELS; i++) {
		host_multifd_close(i);
		/* Some more than it can have been sent. */
		for (int n = 0; n < 4; n++)
			qemu_sem_post(&channels[i].sem_sync);
		qemu_thread_join(&channels[i].thread);
		close(channels[i].fd);
	}
}

EXPORTED void multifd_recv_sync_main(void)
{
	HOST_CAME(multifd_recv_sync_main);
	host_runs_at(host_place, true);
	host_count(IN_WAIT, 1);
	for (int i = 0; i < MULTIFD_CHANNELS; i++)
		qemu_sem_wait(&sem_sync);
	host_count(IN_WAIT, -1);
	for (int i = 0; i < MULTIFD_CHANNELS; i++)
		qemu_sem_post(&channels[i].sem_sync);
}

EXPORTED bool multifd_recv(void)
{
	HOST_CAME(multifd_recv);
	host_runs_at(host_place, true);
	host_count(IN_WAIT, 1);
	qemu_sem_wait(&sem_free);
	host_count(IN_WAIT, -1);
	return true;
}

void host_multifd_send(int channel, const char *packets)
{
	for (; *packets; packets++)
		g_assert_cmpint(write(channels[channel].source, packets, 1), ==, 1);
}

void host_multifd_close(int channel)
{
	if (channels[channel].source >= 0)
		close(channels[channel].source);
	channels[channel].source = -1;
}

void host_multifd_free_channel(void)
{
	qemu_sem_post(&sem_free);
}
