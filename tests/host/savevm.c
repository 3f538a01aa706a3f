/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration/savevm.c: reading the stream's sections, and load threads.
 */
#include "tests/host/host.h"

#include <errno.h>

#define SECTIONS 128

typedef struct SaveStateEntry {
	const char *idstr;
	int load_version_id;
	const SaveVMHandlers *ops;
	const VMStateDescription *vmsd;
	void *opaque;
} SaveStateEntry;

/* By the character that stands for it in the stream. */
static SaveStateEntry entries[SECTIONS];

static struct {
	ThreadPool *pool;
	bool abort; /* atomic */
	bool failed;
} load_threads;

int register_savevm_live(const char *idstr, uint32_t instance_id, int version_id,
			 const SaveVMHandlers *ops, void *opaque)
{
	entries[(int)idstr[0]] = (SaveStateEntry){
		.idstr = idstr,
		.load_version_id = version_id + (int)instance_id,
		.ops = ops,
		.opaque = opaque,
	};
	return 0;
}

int vmstate_register(char section, const VMStateDescription *vmsd, void *opaque)
{
	entries[(int)section] = (SaveStateEntry){
		.idstr = vmsd->name,
		.load_version_id = vmsd->version_id,
		.vmsd = vmsd,
		.opaque = opaque,
	};
	return 0;
}

/* ---- sections ---- */

/*
 * With clang's ASAN the address of load_state is worked out, checked, and called through: no longer
 * an offset in an object, by which the handler is known. So this one function stays as it is.
 */
__attribute__((noinline, no_sanitize("address"))) static int vmstate_load(QEMUFile *f,
									  SaveStateEntry *se)
{
	if (!se->vmsd)
		return se->ops->load_state(f, se->opaque, se->load_version_id);
	return vmstate_load_state(f, se->vmsd, se->opaque, se->load_version_id);
}

static SaveStateEntry *find_se(QEMUFile *f)
{
	SaveStateEntry *se = &entries[qemu_get_byte(f) % SECTIONS];

	/* A list that the monitor may change: by the lock alone. */
	host_runs_at(BETWEEN, false);
	return se->idstr ? se : NULL;
}

static int qemu_loadvm_section(QEMUFile *f, int type)
{
	SaveStateEntry *se = find_se(f);
	int ret;

	if (!se)
		return qemu_file_get_error(f) ? qemu_file_get_error(f) : -EINVAL;
	host_place = se->vmsd ? DEVICE : type == QEMU_VM_SECTION_START ? RAM_START : RAM_PART;
	ret = vmstate_load(f, se);
	host_place = BETWEEN;
	host_runs_at(BETWEEN, false);
	return ret < 0 ? ret : 0;
}

static int loadvm_switchover_start(void)
{
	int ret = 0;

	for (int i = 0; i < SECTIONS && !ret; i++)
		if (entries[i].ops && entries[i].ops->switchover_start)
			ret = entries[i].ops->switchover_start(entries[i].opaque);
	return ret;
}

EXPORTED int qemu_loadvm_state_main(QEMUFile *f, void *mis)
{
	int ret = 0;

	g_assert_null(mis);
	while (!ret) {
		int type = qemu_get_byte(f);

		host_runs_at(BETWEEN, false);
		if (qemu_file_get_error(f))
			break;
		switch (type) {
		case QEMU_VM_SECTION_START:
		case QEMU_VM_SECTION_PART:
		case QEMU_VM_SECTION_FULL:
			ret = qemu_loadvm_section(f, type);
			break;
		case QEMU_VM_COMMAND:
			ret = loadvm_switchover_start();
			break;
		case QEMU_VM_EOF:
			return 0;
		default:
			ret = -EINVAL;
		}
	}
	return qemu_file_get_error(f) ? qemu_file_get_error(f) : ret;
}

/* ---- load threads ---- */

struct load_thread {
	bool (*fn)(void *opaque, bool *should_quit);
	void *opaque;
};

static int qemu_loadvm_load_thread(void *opaque)
{
	struct load_thread *thread = opaque;

	/* It starts without the lock, whoever had it when it was started. */
	g_assert_false(bql_locked());
	if (!thread->fn(thread->opaque, &load_threads.abort))
		__atomic_store_n(&load_threads.failed, true, __ATOMIC_RELAXED);
	g_free(thread);
	return 0;
}

void qemu_loadvm_start_load_thread(bool (*fn)(void *opaque, bool *should_quit), void *opaque)
{
	struct load_thread *thread = g_new(struct load_thread, 1);

	host_runs_at(BETWEEN, false);
	*thread = (struct load_thread){fn, opaque};
	thread_pool_submit_immediate(load_threads.pool, qemu_loadvm_load_thread, thread);
}

/* As 10.0's: they may need the lock, which this is entered with. */
static bool qemu_loadvm_thread_pool_wait(void)
{
	bql_unlock();
	thread_pool_wait(load_threads.pool);
	host_runs();
	bql_lock();
	return !__atomic_load_n(&load_threads.failed, __ATOMIC_RELAXED);
}

void qemu_loadvm_thread_pool_create(void)
{
	load_threads.pool = thread_pool_new();
	load_threads.abort = load_threads.failed = false;
}

void qemu_loadvm_thread_pool_destroy(void)
{
	__atomic_store_n(&load_threads.abort, true, __ATOMIC_RELAXED);
	bql_unlock();
	thread_pool_free(load_threads.pool);
	bql_lock();
}

/* ---- all ---- */

EXPORTED int qemu_loadvm_state(QEMUFile *f)
{
	int ret;

	host_loads = true;
	host_place = BETWEEN;
	HOST_CAME(qemu_loadvm_state);
	host_runs_at(BETWEEN, false);
	ret = qemu_loadvm_state_main(f, NULL);
	if (!ret && !qemu_loadvm_thread_pool_wait())
		ret = -EINVAL;
	host_runs_at(BETWEEN, false);
	host_loads = false;
	return ret;
}
