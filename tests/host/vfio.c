/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hw/vfio/migration-multifd.c: a device whose state comes through multifd's channels. They queue
 * it, a load thread takes it off and gives it to the device, under the lock. Its lock order is
 * load_bufs_mutex -> BQL, so who has the BQL lets go of it to take the other.
 */
#include "tests/host/host.h"

static struct {
	QemuMutex load_bufs_mutex;
	QemuCond load_bufs_buffer_ready_cond, load_bufs_thread_finished_cond;
	/* Under the former. */
	int queued, expected;
	bool running, want_exit, fails;
	/* Under the BQL. */
	int loaded;
} vfio = {
	.load_bufs_mutex = {PTHREAD_MUTEX_INITIALIZER},
	.load_bufs_buffer_ready_cond = {PTHREAD_COND_INITIALIZER},
	.load_bufs_thread_finished_cond = {PTHREAD_COND_INITIALIZER},
};

void vfio_load_buffer(void)
{
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	vfio.queued++;
	pthread_cond_signal(&vfio.load_bufs_buffer_ready_cond.cond);
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
}

static bool vfio_load_bufs_thread(void *opaque, bool *should_quit)
{
	bool ok = true;

	g_assert_null(opaque);
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	while (vfio.expected) {
		if (vfio.want_exit || __atomic_load_n(should_quit, __ATOMIC_RELAXED)) {
			ok = false;
			break;
		}
		if (!vfio.queued) {
			qemu_cond_wait(&vfio.load_bufs_buffer_ready_cond, &vfio.load_bufs_mutex);
			continue;
		}
		vfio.queued--;
		vfio.expected--;
		bql_lock();
		vfio.loaded++;
		bql_unlock();
	}
	ok &= !vfio.fails;
	vfio.running = false;
	pthread_cond_signal(&vfio.load_bufs_thread_finished_cond.cond);
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
	return ok;
}

static int vfio_switchover_start(void *opaque)
{
	host_runs_at(BETWEEN, false);
	bql_unlock();
	host_count(IN_SWITCH, 1);
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	g_assert_false(vfio.running);
	vfio.running = true;
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
	host_count(IN_SWITCH, -1);
	bql_lock();
	qemu_loadvm_start_load_thread(vfio_load_bufs_thread, opaque);
	host_runs_at(BETWEEN, false);
	return 0;
}

void vfio_load_cleanup(void)
{
	bql_unlock();
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	while (vfio.running) {
		vfio.want_exit = true;
		pthread_cond_signal(&vfio.load_bufs_buffer_ready_cond.cond);
		qemu_cond_wait(&vfio.load_bufs_thread_finished_cond, &vfio.load_bufs_mutex);
	}
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
	bql_lock();
}

void vfio_init(void)
{
	static const SaveVMHandlers savevm_vfio_handlers = {
		.switchover_start = vfio_switchover_start,
	};

	register_savevm_live("vfio", 0, 1, &savevm_vfio_handlers, NULL);
}

/* ---- what a test does ---- */

void host_vfio_reset(int buffers, bool fails)
{
	bql_unlock();
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	vfio.queued = 0;
	vfio.expected = buffers;
	vfio.want_exit = false;
	vfio.fails = fails;
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
	bql_lock();
	vfio.loaded = 0;
}

int host_vfio_loaded(void)
{
	g_assert_true(bql_locked());
	return vfio.loaded;
}

/* Somebody like a load thread: has the inner lock, and then wants the BQL. */
static QemuSemaphore holds, lets_go;

static void *hold_bufs(void *unused)
{
	qemu_mutex_lock(&vfio.load_bufs_mutex);
	qemu_sem_post(&holds);
	while (qemu_sem_timedwait(&lets_go, 1000))
		;
	bql_lock();
	vfio.loaded++;
	bql_unlock();
	qemu_mutex_unlock(&vfio.load_bufs_mutex);
	return unused;
}

void host_vfio_hold(void)
{
	static QemuThread thread;

	qemu_sem_init(&holds, 0);
	qemu_sem_init(&lets_go, 0);
	qemu_thread_create(&thread, "holds", hold_bufs, NULL, 0);
	while (qemu_sem_timedwait(&holds, 1000))
		;
}

void host_vfio_let_go(void)
{
	qemu_sem_post(&lets_go);
}
