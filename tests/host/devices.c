/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration/vmstate.c and devices of the kinds that the tests need.
 */
#include "tests/host/host.h"

#include <errno.h>
#include <time.h>

#include "runtime/thread/core.h"

#define BUSY_US 200
#define SLOW_US 2000000

/* Nothing but the BQL protects them: TSAN sees who does without. */
static int devices_loaded;

static int vmstate_subsection_load(QEMUFile *f, const VMStateDescription *vmsd, void *opaque)
{
	return vmstate_load_state(f, vmsd, opaque, vmsd->version_id);
}

EXPORTED int vmstate_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
				int version_id)
{
	int ret;

	HOST_CAME(vmstate_load_state);
	host_runs_at(DEVICE, false);
	g_assert_cmpint(version_id, ==, vmsd->version_id);
	ret = vmsd->load(f, opaque, version_id);
	if (ret >= 0 && vmsd->sub)
		ret = vmstate_subsection_load(f, vmsd->sub, opaque);
	host_runs_at(DEVICE, false);
	return ret;
}

static int load_byte(QEMUFile *f, void *opaque, int version_id)
{
	(void)opaque;
	(void)version_id;
	qemu_get_byte(f);
	host_runs_at(DEVICE, false);
	return qemu_file_get_error(f);
}

static int load_plain(QEMUFile *f, void *opaque, int version_id)
{
	int ret = load_byte(f, opaque, version_id);

	++*(int *)opaque;
	host_count(DEVICES, 1);
	return ret ? ret : load_byte(f, opaque, version_id);
}

static int load_not(QEMUFile *f, void *opaque, int version_id)
{
	(void)f;
	(void)opaque;
	(void)version_id;
	return -EDOM;
}

/* Some work, longer than it takes to be woken. */
static int load_busy(QEMUFile *f, void *opaque, int version_id)
{
	gint64 until = g_get_monotonic_time() + BUSY_US;

	while (g_get_monotonic_time() < until)
		;
	host_count(TURNS_TAKEN, 1);
	return load_byte(f, opaque, version_id);
}

/* Longer than a quit waits for anything. */
static int load_slow(QEMUFile *f, void *opaque, int version_id)
{
	(void)f;
	(void)opaque;
	(void)version_id;
	g_usleep(SLOW_US);
	return 0;
}

/*
 * A condition variable that takes the lock back marks it as waited for. Nobody waits. Longer than
 * from one hand-off to the next.
 */
static int load_marks_lock(QEMUFile *f, void *opaque, int version_id)
{
	static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
	struct timespec until;

	(void)f;
	(void)opaque;
	(void)version_id;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (until.tv_nsec + 3000000) / 1000000000;
	until.tv_nsec = (until.tv_nsec + 3000000) % 1000000000;
	pthread_cond_timedwait(&never, &host_bql->lock, &until);
	g_assert_cmpint(__atomic_load_n((int *)host_bql, __ATOMIC_RELAXED), ==, 2);
	host_count(DEVICES, 1);
	return 0;
}

/* How often somebody seemed to wait for the lock: the same the second time. */
static int load_contended(QEMUFile *f, void *opaque, int version_id)
{
	static uint64_t before;
	static bool second;

	(void)f;
	(void)opaque;
	(void)version_id;
	if (second)
		g_assert_cmpuint(host_status()->contended, ==, before);
	before = host_status()->contended;
	second = true;
	return 0;
}

void devices_init(void)
{
	static const VMStateDescription
		sub = {.name = "plain/sub", .version_id = 2, .load = load_byte},
		plain = {.name = "plain", .version_id = 3, .load = load_plain, .sub = &sub},
		fails = {.name = "fails", .version_id = 1, .load = load_not},
		busy = {.name = "busy", .version_id = 1, .load = load_busy},
		marks = {.name = "marks", .version_id = 1, .load = load_marks_lock},
		contended = {.name = "contended", .version_id = 1, .load = load_contended},
		slow = {.name = "slow", .version_id = 1, .load = load_slow};

	vmstate_register('1', &plain, &devices_loaded);
	vmstate_register('3', &fails, NULL);
	vmstate_register('4', &busy, NULL);
	vmstate_register('5', &marks, NULL);
	vmstate_register('6', &contended, NULL);
	vmstate_register('7', &slow, NULL);
}

int host_devices_loaded(void)
{
	g_assert_true(bql_locked());
	return devices_loaded;
}
