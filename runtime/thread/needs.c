/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of needs, and checking a binary against it. Everything is decided from the file's
 * bytes: a release number only ever says no.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/detour/detour.h"
#include "runtime/thread/load.h"
#include "runtime/thread/needs.h"
#include "runtime/thread/receivers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const struct need_call needs_calls[] = {
	{SEAM_BQL_LOCK, &qemu.bql_lock},
	{SEAM_BQL_UNLOCK, &qemu.bql_unlock},
	{SEAM_BQL_LOCKED, &qemu.bql_locked},
	{SEAM_IN_COROUTINE, &qemu.in_coroutine},
	{SEAM_COROUTINE_SELF, &qemu.coroutine_self},
	{SEAM_COROUTINE_YIELD, &qemu.coroutine_yield},
	{SEAM_COROUTINE_ENTER, &qemu.coroutine_enter},
	{SEAM_BH_ONESHOT, &qemu.bh_oneshot},
	{SEAM_IOHANDLER_CONTEXT, &qemu.iohandler_context},
	{SEAM_THREAD_CREATE, &qemu.thread_create},
	{SEAM_THREAD_JOIN, &qemu.thread_join},
	{SEAM_SEM_TIMEDWAIT, &qemu.sem_timedwait},
	{SEAM_FILE_SET_ERROR, &qemu.file_set_error},
	{SEAM_RCU_REGISTER, &qemu.rcu_register},
	{SEAM_RCU_UNREGISTER, &qemu.rcu_unregister},
};

#define STANDS_FOR(function) .replacement = load_##function, .original = (void **)&original.function

const struct need_detour needs_detours[] = {
	{SEAM_LOADVM_STATE, STANDS_FOR(loadvm_state), .results = 1},
	{SEAM_CLEANUP, STANDS_FOR(cleanup)},
	{SEAM_CHANNEL_WAIT, STANDS_FOR(channel_wait)},
	{SEAM_CHANNEL_READ, STANDS_FOR(channel_read), .results = 1, .bypass = &load_no_read},
	{SEAM_MULTIFD_RECV_SYNC, STANDS_FOR(multifd_recv_sync), .results = 1},
	{SEAM_SEM_WAIT, .replacement = receivers_sem_wait, .original = (void **)&original.sem_wait,
	 .bypass = &receivers_not_awaited},
	{SEAM_THREAD_CREATE, .replacement = receivers_thread_create,
	 .original = (void **)&original.thread_create},
	{SEAM_FILE_READ_AT, STANDS_FOR(file_read_at), .results = 1, .without = "mapped-ram"},
	{SEAM_MULTIFD_RECV, STANDS_FOR(multifd_recv), .results = 1, .without = "mapped-ram"},
	{SEAM_THREADS_WAIT, STANDS_FOR(threads_wait), .without = "load threads"},
	{SEAM_FD_READABLE_YIELD, STANDS_FOR(fd_readable_yield), .without = "RDMA"},
	{SEAM_RAM_LOAD, STANDS_FOR(ram_load), .results = 1},
	{SEAM_VMSTATE_LOAD, STANDS_FOR(vmstate_load), .results = 1, .bypass = &load_no_device},
};

const size_t needs_n_calls = COUNT(needs_calls);
const size_t needs_n_detours = COUNT(needs_detours);

/* By build id: what the tests have run on. Others may be right as well, and are checked as well. */
static const struct {
	const char *build_id;
	const char *package;
} validated[] = {
	{"d9541fd67c4ea37f9ca7fca0f5096f32b3b7e7e0", "Debian 12, qemu-system-x86 7.2.22"},
	{"0fbbd5ca8d2d0a32532049e20739f3e0d521c5ed", "Debian 12 backports, qemu-system-x86 10.0.2"},
	{"19082c1198d23ae45c6960a77fdc889301dfb4de", "Debian sid, qemu-system-x86 11.1.3"},
};

struct checking {
	void (*tell)(const struct need_finding *finding, void *opaque);
	void *opaque;
	bool passed;
};

__attribute__((format(printf, 5, 6))) static void
found(struct checking *c, const char *kind, const char *name, bool ok, const char *fmt, ...)
{
	struct need_finding finding = {.kind = kind, .name = name, .ok = ok};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(finding.detail, sizeof(finding.detail), fmt, ap);
	va_end(ap);
	c->passed &= ok;
	if (c->tell)
		c->tell(&finding, c->opaque);
}

/* A release beyond those that were looked at may mean something else by the same names. */
static void check_release(struct checking *c, const struct seam_map *map)
{
	const char *version = seam_map_version(map);
	unsigned int major = 0, minor = 0;
	bool known = sscanf(version, "%u.%u", &major, &minor) == 2;

	found(c, "release", version,
	      known && (major > 7 || (major == 7 && minor >= 2)) && major < 12,
	      known ? "7.2 to 11.x are supported; names as of %s"
		    : "not a release number; names as of %s",
	      seam_map_generation(map));
}

static void check_symbol(struct checking *c, const struct seam_map *map, enum seam_id id)
{
	const struct seam_function *f = seam_map_function(map, id);
	const char *wanted = seam_map_wanted(map, id);

	if (!f->name && id == SEAM_RAM_LOAD)
		found(c, "structure", "ram_load", false, "%s",
		      seam_map_missing(map, SEAM_RAM_BEGIN));
	else if (!f->name)
		found(c, "symbol", wanted ? wanted : seam_id_name(id), false,
		      seam_map_static(map, id) ? "link-time optimization made it static"
					       : "this build has no symbol by that name");
	else if (f->found_by)
		found(c, id == SEAM_RAM_LOAD ? "structure" : "symbol", f->name, true,
		      "%s; at %#llx", f->found_by, (unsigned long long)f->vaddr);
	else
		found(c, "symbol", f->name, true, "at %#llx", (unsigned long long)f->vaddr);
}

static void check_detour(struct checking *c, const struct seam_function *f)
{
	struct detour_error err;

	if (!f->extent)
		found(c, "detour", f->name, false, "%s", f->refusal);
	else if (detour_can_move(f->code, f->extent, f->vaddr, &err))
		found(c, "detour", f->name, false, "%s", err.text);
	else
		found(c, "detour", f->name, true, "takes its first %u bytes", f->extent);
}

static void check_reached(struct checking *c, const struct seam_map *map, enum seam_id id)
{
	const struct seam_function *f = seam_map_function(map, id);
	uint64_t call;
	const char *how;
	bool reached = seam_map_reached(map, id, &call, &how);

	if (call)
		found(c, "reached", f->name, true, "%s, at %#llx", how, (unsigned long long)call);
	else
		found(c, "reached", f->name ? f->name : seam_id_name(id), reached,
		      reached ? "%s" : "it is not %s, or not in a way that can be followed", how);
}

bool needs_check(const struct seam_map *map,
		 void (*tell)(const struct need_finding *finding, void *opaque), void *opaque)
{
	struct checking c = {.tell = tell, .opaque = opaque, .passed = true};

	check_release(&c, map);
	found(&c, "structure", "the lock's mutex", true, "at %#llx, as lock and unlock use it",
	      (unsigned long long)seam_map_bql(map));
	for (size_t i = 0; i < needs_n_calls; i++)
		check_symbol(&c, map, needs_calls[i].id);
	for (size_t i = 0; i < needs_n_detours; i++) {
		const struct need_detour *need = &needs_detours[i];

		if (need->without && !seam_map_function(map, need->id)->name &&
		    seam_map_needless(map, need->id))
			found(&c, "symbol", seam_id_name(need->id), true,
			      "not needed: this build has no %s", need->without);
		else
			check_symbol(&c, map, need->id);
	}
	/* Not detoured, but on the way from one detour to others. */
	check_symbol(&c, map, SEAM_LOADVM_STATE_MAIN);
	if (!c.passed)
		return false;
	for (size_t i = 0; i < needs_n_detours; i++) {
		if (!seam_map_function(map, needs_detours[i].id)->name)
			continue;
		check_detour(&c, seam_map_function(map, needs_detours[i].id));
		check_reached(&c, map, needs_detours[i].id);
	}
	check_reached(&c, map, SEAM_LOADVM_STATE_MAIN);
	return c.passed;
}

const char *needs_validated(const struct seam_map *map)
{
	for (size_t i = 0; i < COUNT(validated); i++)
		if (!strcmp(validated[i].build_id, seam_map_build_id(map)))
			return validated[i].package;
	return NULL;
}
