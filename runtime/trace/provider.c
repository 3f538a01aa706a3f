/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading the LTTng provider, which needs liblttng-ust: only when it is asked for, so that no QEMU
 * needs that library, and a missing one stops none.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/trace/trace.h"

extern struct trace_sink trace_sink;

uint64_t trace_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* RTLD_LOCAL, as for the core: nothing of it may stand in for a symbol of QEMU's. */
int trace_load_lttng(const char *self, char *text, size_t size)
{
	const char *slash = strrchr(self, '/');
	const struct trace_provider *provider;
	char path[4096];
	void *library;

	snprintf(path, sizeof(path), "%.*slibloadvm-lttng.so", slash ? (int)(slash - self) + 1 : 0,
		 self);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(text, size, "%.300s", dlerror());
		return -ENOENT;
	}
	provider = dlsym(library, "loadvm_lttng_provider");
	if (!provider || provider->bytes != sizeof(*provider) || provider->events != TRACE_IDS) {
		snprintf(text, size, "%.300s is not of this release", path);
		return -EINVAL;
	}
	/* Before main(): nobody looks at either yet. */
	trace_sink = provider->sink;
	memcpy(trace_enabled, provider->enabled, sizeof(trace_enabled));
	return 0;
}
