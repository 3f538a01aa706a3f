/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going in: check this very binary against the table of needs, then patch; or say what is missing
 * and leave QEMU as it is.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "runtime/detour/detour.h"
#include "runtime/seams/seams.h"
#include "runtime/thread/control.h"
#include "runtime/thread/core.h"
#include "runtime/thread/load.h"
#include "runtime/thread/needs.h"
#include "runtime/thread/policy.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED struct loadvm_status loadvm_status = {
	.version = LOADVM_STATUS_VERSION,
	.policy = "stock",
	.release = BQLSTAT_VERSION,
};

void core_load_begins(const struct policy *policy)
{
	loadvm_status.loads++;
	snprintf(loadvm_status.load_policy, sizeof(loadvm_status.load_policy), "%s", policy->name);
}

__attribute__((format(printf, 4, 5))) static int say(char *text, size_t size, int code,
						     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, size, fmt, ap);
	va_end(ap);
	return code;
}

static void keep_first_failure(const struct need_finding *finding, void *opaque)
{
	struct need_finding *first = opaque;

	if (!finding->ok && first->ok)
		*first = *finding;
}

static void set_note(const struct seam_map *map, const struct detour_request *requests,
		     size_t count)
{
	char *note = loadvm_status.note;
	size_t size = sizeof(loadvm_status.note);
	int used = snprintf(note, size, "loadvm-note: loadvm %s, policy %s, QEMU %s, build %s;",
			    loadvm_status.release, loadvm_status.policy, seam_map_version(map),
			    seam_map_build_id(map));

	for (size_t i = 0; i < count; i++) {
		struct loadvm_detour *d = &loadvm_status.detour[i];

		snprintf(d->name, sizeof(d->name), "%s", requests[i].name);
		d->target = (uintptr_t)requests[i].target;
		d->original = (uintptr_t)*requests[i].original;
		d->replacement = (uintptr_t)requests[i].replacement;
		if (used >= 0 && (size_t)used < size)
			used += snprintf(note + used, size - used, " %s at %#llx moved to %#llx;",
					 d->name, (unsigned long long)d->target,
					 (unsigned long long)d->original);
	}
}

EXPORTED int loadvm_core_install(const struct loadvm_core_options *options, char *text, size_t size)
{
	const struct policy *policy = policy_find(options->policy);
	struct need_finding wrong = {.ok = true};
	struct detour_request requests[LOADVM_STATUS_DETOURS];
	struct detour_error detour_err;
	struct seam_error seam_err;
	struct seam_map *map = NULL;
	size_t count = 0;
	uint64_t bias;
	int r;

	if (!policy)
		return say(text, size, -EINVAL, "there is no policy '%s'; QEMU runs stock",
			   options->policy);
	if (!policy->drops)
		return say(text, size, 0, "%s: nothing is changed", policy->name);

	r = seam_map_open_pid(getpid(), &map, &bias, &seam_err);
	if (r)
		return say(text, size, r, "%s; QEMU runs stock", seam_err.text);
	if (!needs_check(map, keep_first_failure, &wrong)) {
		r = say(text, size, -ENOTSUP, "QEMU %s: %s: %s; it runs stock",
			seam_map_version(map), wrong.name, wrong.detail);
		goto cleanup;
	}

	for (size_t i = 0; i < needs_n_calls; i++) {
		void *address = (void *)(bias + seam_map_function(map, needs_calls[i].id)->vaddr);

		memcpy(needs_calls[i].where, &address, sizeof(address));
	}
	qemu.bql_word = (const int *)(bias + seam_map_bql(map));
	for (size_t i = 0; i < needs_n_detours; i++) {
		const struct need_detour *need = &needs_detours[i];
		const struct seam_function *f = seam_map_function(map, need->id);

		if (!f->name)
			continue;
		requests[count++] = (struct detour_request){
			.name = f->name,
			.target = (void *)(bias + f->vaddr),
			.code = f->code,
			.extent = f->extent,
			.replacement = need->replacement,
			.original = need->original,
			.results = need->results,
			.bypass = need->bypass,
		};
	}

	control_prepare(options->control, options->quiet);
	r = load_prepare(policy);
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
	set_note(map, requests, count);
	__atomic_store_n(&loadvm_status.detours, (uint32_t)count, __ATOMIC_RELEASE);
	say(text, size, 0, "%s on QEMU %s: %zu detours", policy->name, seam_map_version(map),
	    count);

cleanup:
	seam_map_free(map);
	return r;
}
