/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going in: resolve everything that the policy needs from the map of this very binary, then patch;
 * or say what is missing and leave QEMU as it is.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/detour/detour.h"
#include "runtime/seams/seams.h"
#include "runtime/thread/core.h"
#include "runtime/thread/load.h"
#include "runtime/thread/policy.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED struct loadvm_status loadvm_status = {
	.version = LOADVM_STATUS_VERSION,
	.policy = "stock",
	.release = BQLSTAT_VERSION,
};

/* What the thread calls: all of it must be there. */
static const struct {
	enum seam_id id;
	void *where;
} called[] = {
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
	{SEAM_RCU_REGISTER, &qemu.rcu_register},
	{SEAM_RCU_UNREGISTER, &qemu.rcu_unregister},
	{SEAM_FILE_SHUTDOWN, &qemu.file_shutdown},
};

/* What is detoured, when the policy has one of the bits. */
static const struct {
	enum seam_id id;
	unsigned int drops;
	void *replacement;
	void **original;
	unsigned int results;
} detoured[] = {
	{SEAM_LOADVM_STATE, POLICY_THREAD, load_loadvm_state, (void **)&original.loadvm_state, 1},
	{SEAM_MIGRATION_SHUTDOWN, POLICY_THREAD, load_migration_shutdown,
	 (void **)&original.migration_shutdown, 0},
	{SEAM_CHANNEL_WAIT, POLICY_DROP_WAIT, load_channel_wait, (void **)&original.channel_wait,
	 0},
	{SEAM_MULTIFD_RECV_SYNC, POLICY_DROP_WAIT, load_multifd_recv_sync,
	 (void **)&original.multifd_recv_sync, 1},
	/* Stock's asserts that it runs in a coroutine: a thread needs it whatever it drops. */
	{SEAM_FD_READABLE_YIELD, POLICY_THREAD, load_fd_readable_yield,
	 (void **)&original.fd_readable_yield, 0},
	{SEAM_CHANNEL_READ, POLICY_BREATHE, load_channel_read, (void **)&original.channel_read, 1},
	{SEAM_RAM_LOAD, POLICY_DROP_RAM, load_ram_load, (void **)&original.ram_load, 1},
};

enum {
	MAX_DETOURED = sizeof(detoured) / sizeof(detoured[0]),
};

__attribute__((format(printf, 4, 5))) static int say(char *text, size_t size, int code,
						     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, size, fmt, ap);
	va_end(ap);
	return code;
}

EXPORTED int loadvm_core_install(const char *policy_name, char *text, size_t size)
{
	const struct policy *policy = policy_find(policy_name);
	struct detour_request requests[MAX_DETOURED];
	struct detour_error detour_err;
	struct seam_error seam_err;
	struct seam_map *map = NULL;
	size_t count = 0;
	uint64_t bias;
	int r;

	if (!policy)
		return say(text, size, -EINVAL, "there is no policy '%s'; QEMU runs stock",
			   policy_name);
	if (!policy->drops)
		return say(text, size, 0, "%s: nothing is changed", policy->name);

	r = seam_map_open_pid(getpid(), &map, &bias, &seam_err);
	if (r)
		return say(text, size, r, "%s; QEMU runs stock", seam_err.text);

	for (size_t i = 0; i < sizeof(called) / sizeof(called[0]); i++) {
		const struct seam_function *f = seam_map_function(map, called[i].id);
		void *address = (void *)(bias + f->vaddr);

		if (!f->name) {
			r = say(text, size, -ENOTSUP, "QEMU %s has no %s; it runs stock",
				seam_map_version(map), seam_id_name(called[i].id));
			goto cleanup;
		}
		memcpy(called[i].where, &address, sizeof(address));
	}
	qemu.bql_word = (const int *)(bias + seam_map_bql(map));

	for (size_t i = 0; i < MAX_DETOURED; i++) {
		const struct seam_function *f = seam_map_function(map, detoured[i].id);

		if (!(policy->drops & detoured[i].drops))
			continue;
		if (!f->name || !f->extent) {
			r = say(text, size, -ENOTSUP, "QEMU %s: %s: %s; it runs stock",
				seam_map_version(map),
				f->name ? f->name : seam_id_name(detoured[i].id),
				f->refusal ? f->refusal : "not found");
			goto cleanup;
		}
		requests[count++] = (struct detour_request){
			.name = f->name,
			.target = (void *)(bias + f->vaddr),
			.code = f->code,
			.extent = f->extent,
			.replacement = detoured[i].replacement,
			.original = detoured[i].original,
			.results = detoured[i].results,
		};
	}

	r = load_prepare();
	if (r) {
		say(text, size, r, "%s; QEMU runs stock", strerror(-r));
		goto cleanup;
	}
	r = detour_install(requests, count, &detour_err);
	if (r) {
		say(text, size, r, "%s; QEMU runs stock", detour_err.text);
		goto cleanup;
	}
	snprintf(loadvm_status.policy, sizeof(loadvm_status.policy), "%s", policy->name);
	__atomic_store_n(&loadvm_status.detours, (uint32_t)count, __ATOMIC_RELEASE);
	say(text, size, 0, "%s on QEMU %s: %zu detours", policy->name, seam_map_version(map),
	    count);

cleanup:
	seam_map_free(map);
	return r;
}
