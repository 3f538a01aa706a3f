/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration/ram.c and the one wait of migration/rdma.c: guest RAM, a letter a piece.
 */
#include "tests/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int host_rdma_fds[2] = {-1, -1};
int host_mapped_fd = -1;

static char ram_state;

/* The connection's completion channel; here whatever was read from it is done. */
static void qemu_rdma_wait_comp_channel(void)
{
	char byte;

	yield_until_fd_readable(host_rdma_fds[0]);
	host_runs_at(host_place, false);
	host_count(read(host_rdma_fds[0], &byte, 1) == 1 ? PAGES : KICKED, 1);
}

void rdma_start_incoming_migration(void)
{
	g_assert_cmpint(pipe2(host_rdma_fds, O_NONBLOCK), ==, 0);
}

static void read_mapped_page(QEMUFile *f)
{
	uint8_t page[64];

	host_count(PAGES,
		   qemu_get_buffer_at(f, page, sizeof(page), 64) == sizeof(page) && page[0] == 'p');
}

/* Not exported, but called through a pointer only. */
static int ram_load(QEMUFile *f, void *opaque, int version_id)
{
	HOST_CAME(ram_load);
	g_assert_true(opaque == &ram_state);
	g_assert_cmpint(version_id, ==, 4);
	for (;;) {
		int flag = qemu_get_byte(f);

		host_runs_at(host_place, false);
		if (qemu_file_get_error(f))
			return qemu_file_get_error(f);
		switch (flag) {
		case 'z': /* a page, of one byte */
			qemu_get_byte(f);
			host_count(PAGES, 1);
			break;
		case 's':
			multifd_recv_sync_main();
			host_runs_at(host_place, false);
			break;
		case 'm':
			read_mapped_page(f);
			host_runs_at(host_place, false);
			break;
		case 'v':
			host_count(PAGES, multifd_recv());
			host_runs_at(host_place, false);
			break;
		case 'w':
			qemu_rdma_wait_comp_channel();
			break;
		case 'e':
			return 7; /* QEMU's is 0; whatever it is, it is to pass through */
		default:
			return -EINVAL;
		}
	}
}

const SaveVMHandlers host_ram_handlers = {
	.load_state = ram_load,
};

void ram_mig_init(void)
{
	register_savevm_live("ram", 0, 4, &host_ram_handlers, &ram_state);
}
