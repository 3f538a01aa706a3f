/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration/migration.c: an incoming migration's beginning and end.
 */
#include "tests/host/host.h"

static struct {
	QEMUFile *from_src_file;
	bool done;
	int result;
} mis;

static void process_incoming_migration_co(void *opaque)
{
	g_assert_null(opaque);
	g_assert_true(qemu_in_coroutine() && bql_locked());
	mis.result = qemu_loadvm_state(mis.from_src_file);
	/* Stock's own tail. */
	g_assert_true(host_is_main && qemu_in_coroutine() && bql_locked());
	mis.done = true;
}

EXPORTED void migration_incoming_process(void)
{
	qemu_coroutine_enter(qemu_coroutine_create(process_incoming_migration_co, NULL));
}

void host_incoming(QEMUFile *f)
{
	mis.from_src_file = f;
	mis.done = false;
	qemu_loadvm_thread_pool_create();
	migration_incoming_process();
}

bool host_incoming_done(int *result)
{
	if (mis.done)
		*result = mis.result;
	return mis.done;
}

EXPORTED void migration_incoming_state_destroy(void)
{
	vfio_load_cleanup();
	qemu_loadvm_thread_pool_destroy();
	multifd_recv_cleanup();
	qemu_fclose(mis.from_src_file);
	mis.from_src_file = NULL;
}
