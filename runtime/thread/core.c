/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going in: check this very binary against the table of needs, then patch; or say what is missing
 * and leave QEMU as it is.
 */
#include <dlfcn.h>
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
#include "runtime/trace/hooks.h"
#include "runtime/trace/trace.h"

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

static size_t make_requests(const struct seam_map *map, uint64_t bias,
			    struct detour_request requests[LOADVM_STATUS_DETOURS])
{
	size_t count = 0;

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
	return count;
}

static void fill_qemu(const struct seam_map *map, uint64_t bias)
{
	for (size_t i = 0; i < needs_n_calls; i++) {
		void *address = (void *)(bias + seam_map_function(map, needs_calls[i].id)->vaddr);

		memcpy(needs_calls[i].where, &address, sizeof(address));
	}
	qemu.bql_word = (const int *)(bias + seam_map_bql(map));
	qemu.vmstate_bool = seam_map_vmstate_bool(map);
}

/* Tracing that was asked for and is not to be had costs nothing but a word about it. */
static void begin_trace(const struct loadvm_core_options *options, const char **kind, char *text,
			size_t size)
{
	char why[400];
	Dl_info self;

	*kind = options->trace ? options->trace : "";
	if (!strcmp(*kind, "lttng") &&
	    (!dladdr(&loadvm_status, &self) || trace_load_lttng(self.dli_fname, why, sizeof(why))))
		say(text, size, 0, "no LTTng: %s", why);
	else if (**kind && strcmp(*kind, "usdt") && strcmp(*kind, "lttng"))
		say(text, size, 0, "there is no way to trace named '%.16s'", *kind);
}

EXPORTED int loadvm_core_install(const struct loadvm_core_options *options, char *text, size_t size)
{
	const struct policy *policy = policy_find(options->policy);
	struct need_finding wrong = {.ok = true};
	struct detour_request requests[LOADVM_STATUS_DETOURS];
	struct detour_error detour_err;
	struct seam_error seam_err;
	struct seam_map *map = NULL;
	char trace_text[512] = "";
	const char *trace;
	uint64_t bias;
	unsigned int traced = 0;
	size_t count;
	int r;

	if (!policy)
		return say(text, size, -EINVAL, "there is no policy '%s'; QEMU runs stock",
			   options->policy);
	begin_trace(options, &trace, trace_text, sizeof(trace_text));
	if (!policy->drops && !*trace)
		return say(text, size, 0, "%s: nothing is changed", policy->name);

	r = seam_map_open_pid(getpid(), &map, &bias, &seam_err);
	if (r) {
		say(text, size, r, "%s; QEMU runs stock", seam_err.text);
		goto cleanup;
	}
	if (!needs_check(map, keep_first_failure, &wrong)) {
		r = say(text, size, -ENOTSUP, "QEMU %s: %s: %s; it runs stock",
			seam_map_version(map), wrong.name, wrong.detail);
		goto cleanup;
	}

	fill_qemu(map, bias);
	count = make_requests(map, bias, requests);
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
	if (*trace && !*trace_text)
		traced = trace_install(map, bias, trace_text, sizeof(trace_text));
	TRACE(runtime, BQLSTAT_VERSION, seam_map_version(map), seam_map_build_id(map), policy->name,
	      (uint32_t)count + traced);
	say(text, size, 0, "%s on QEMU %s: %zu detours", policy->name, seam_map_version(map),
	    count);
	if (traced)
		say(text + strlen(text), size - strlen(text), 0, ", %u more to trace", traced);
	if (*trace_text)
		r = say(text + strlen(text), size - strlen(text), 1, "; %s", trace_text);

cleanup:
	if (r < 0)
		TRACE(fallback, text);
	seam_map_free(map);
	return r;
}
