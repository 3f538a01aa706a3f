/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting the hooks and detours in that only tracing needs. They come in groups, each all or
 * nothing: what a build lacks costs its own events and no others.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/detour/detour.h"
#include "runtime/seams/seams.h"
#include "runtime/trace/internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct call {
	enum seam_id id;
	void *where;
};

static const struct call calls[] = {
	{SEAM_COROUTINE_SELF, &trace_qemu.coroutine_self},
	{SEAM_PEEK_BUFFER, &trace_qemu.peek_buffer},
	{SEAM_OBJECT_TYPE, &trace_qemu.object_type},
	{SEAM_ENUM_NAME, &trace_qemu.enum_name},
};

struct patch {
	enum seam_id id;
	void *replacement;
	void *original;
	unsigned int results;
	const uint32_t *bypass;
};

static const struct patch lock_patches[] = {
	{SEAM_BQL_UNLOCK, trace_bql_unlock, &trace_original.bql_unlock, 0, NULL},
};

static const struct patch section_patches[] = {
	{SEAM_GET_BYTE, trace_get_byte, &trace_original.get_byte, 1, &trace_stream_bypass},
	{SEAM_GET_BE16, trace_get_be16, &trace_original.get_be16, 1, &trace_stream_bypass},
	{SEAM_GET_BE32, trace_get_be32, &trace_original.get_be32, 1, &trace_stream_bypass},
	{SEAM_GET_COUNTED_STRING, trace_get_string, &trace_original.get_string, 1,
	 &trace_stream_bypass},
};

static const struct patch thread_patches[] = {
	{SEAM_THREAD_JOIN, trace_thread_join, &trace_original.thread_join, 1, NULL},
};

static const struct patch state_patches[] = {
	{SEAM_MIGRATE_SET_STATE, trace_set_state, &trace_original.set_state, 0, NULL},
};

static const struct patch end_patches[] = {
	{SEAM_BDRV_ACTIVATE_ALL, trace_activate, &trace_original.activate, 0, NULL},
	{SEAM_VM_START, trace_vm_start, &trace_original.vm_start, 0, NULL},
	{SEAM_INCOMING_DESTROY, trace_destroy, &trace_original.destroy, 0, NULL},
	{SEAM_CHANNEL_YIELD, trace_channel_yield, &trace_original.channel_yield, 0, NULL},
};

/* QEMU's own pointers to the functions that take the lock. */
static const struct hook {
	enum seam_variable variable;
	enum seam_id holds;
	void *replacement;
	void *original;
} hooks[] = {
	{SEAM_BQL_LOCK_HOOK, SEAM_MUTEX_LOCK, trace_bql_hook, &trace_original.bql_hook},
	{SEAM_COND_WAIT_HOOK, SEAM_COND_WAIT, trace_cond_hook, &trace_original.cond_hook},
	{SEAM_COND_TIMEDWAIT_HOOK, SEAM_COND_TIMEDWAIT, trace_cond_timed_hook,
	 &trace_original.cond_timed_hook},
};

struct installing {
	const struct seam_map *map;
	uint64_t bias;
	char *text;
	size_t size;
	unsigned int count;
};

static void fail(struct installing *in, const char *events, const char *why)
{
	size_t used = strlen(in->text);

	snprintf(in->text + used, in->size - used, "%sno %s events: %s", used ? "; " : "", events,
		 why);
}

static void patch(struct installing *in, const char *events, const struct patch *patches,
		  size_t count)
{
	struct detour_request requests[8];
	struct detour_error err;

	for (size_t i = 0; i < count; i++) {
		const struct seam_function *f = seam_map_function(in->map, patches[i].id);

		if (!f->extent) {
			fail(in, events, f->refusal);
			return;
		}
		requests[i] = (struct detour_request){
			.name = f->name,
			.target = (void *)(in->bias + f->vaddr),
			.code = f->code,
			.extent = f->extent,
			.replacement = patches[i].replacement,
			.original = patches[i].original,
			.results = patches[i].results,
			.bypass = patches[i].bypass,
		};
	}
	if (detour_install(requests, count, &err))
		fail(in, events, err.text);
	else
		in->count += (unsigned int)count;
}

static void **hook_at(const struct installing *in, const struct hook *hook)
{
	return (void **)(in->bias + seam_map_variable(in->map, hook->variable));
}

/* Not where somebody else has hooked it. */
static bool hooks_free(const struct installing *in)
{
	for (size_t i = 0; i < COUNT(hooks); i++) {
		uint64_t vaddr = seam_map_function(in->map, hooks[i].holds)->vaddr;

		if (!vaddr || !seam_map_variable(in->map, hooks[i].variable) ||
		    *hook_at(in, &hooks[i]) != (void *)(in->bias + vaddr))
			return false;
	}
	return true;
}

static void install_lock(struct installing *in)
{
	unsigned int before = in->count;

	if (!hooks_free(in)) {
		fail(in, "lock", "QEMU's pointers to its lock functions are not as known");
		return;
	}
	patch(in, "lock", lock_patches, COUNT(lock_patches));
	if (in->count == before)
		return;
	for (size_t i = 0; i < COUNT(hooks); i++) {
		void **at = hook_at(in, &hooks[i]);

		memcpy(hooks[i].original, at, sizeof(*at));
		__atomic_store_n(at, hooks[i].replacement, __ATOMIC_RELEASE);
	}
}

unsigned int trace_install(const struct seam_map *map, uint64_t bias, char *text, size_t size)
{
	struct installing in = {.map = map, .bias = bias, .text = text, .size = size};

	text[0] = '\0';
	for (size_t i = 0; i < COUNT(calls); i++) {
		const struct seam_function *f = seam_map_function(map, calls[i].id);
		void *address = (void *)(bias + f->vaddr);

		if (!f->name) {
			fail(&in, "further", "this build lacks functions they need");
			return 0;
		}
		memcpy(calls[i].where, &address, sizeof(address));
	}
	trace_qemu.bql = (void *)(bias + seam_map_bql(map));
	trace_qemu.states = (void *)(bias + seam_map_variable(map, SEAM_MIGRATION_STATUS));
	trace_is_installed = true;

	install_lock(&in);
	patch(&in, "section and command", section_patches, COUNT(section_patches));
	patch(&in, "thread", thread_patches, COUNT(thread_patches));
	patch(&in, "activation and start", end_patches, COUNT(end_patches));
	if (seam_map_variable(map, SEAM_MIGRATION_STATUS))
		patch(&in, "state", state_patches, COUNT(state_patches));
	else
		fail(&in, "state", "this build has no symbol of the states' names");
	return in.count;
}
