/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaching to the runtime's USDT sites; libbpf reads the notes and counts the semaphores up.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probes/private.h"
#include "probes/usdt.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "probes/usdt.skel.h"
#pragma GCC diagnostic pop

#define LIBRARY	 "libloadvm-core.so"
#define PROVIDER "loadvm"

struct usdt {
	struct usdt_bpf *skel;
};

/* Where the process has the library mapped from; as it sees it. */
static bool find_library(pid_t pid, char *path, size_t size)
{
	char line[4352], maps[64];
	bool found = false;
	FILE *f;

	snprintf(maps, sizeof(maps), "/proc/%d/maps", pid);
	f = fopen(maps, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		char *file = strchr(line, '/');

		if (!file)
			continue;
		file[strcspn(file, "\n")] = 0;
		found = strlen(file) > strlen(LIBRARY) &&
			!strcmp(file + strlen(file) - strlen(LIBRARY) - 1, "/" LIBRARY);
		if (found)
			snprintf(path, size, "/proc/%d/root%s", pid, file);
	}
	if (f)
		fclose(f);
	return found;
}

int usdt_open(pid_t pid, uint64_t long_ns, struct usdt **usdt, struct tracer_error *err)
{
	struct usdt *u = calloc(1, sizeof(*u));
	struct usdt_bpf *skel = NULL;
	char path[4400];
	int ret = -ENOMEM;

	*usdt = NULL;
	if (u)
		skel = u->skel = usdt_bpf__open();
	if (!skel) {
		tracer_fail(err, "out of memory");
		goto cleanup;
	}
	if (!find_library(pid, path, sizeof(path))) {
		tracer_fail(err, "process %d has no USDT sites: start it with `loadvm --usdt`",
			    pid);
		ret = -ENOENT;
		goto cleanup;
	}
	skel->rodata->long_ns = long_ns;
	ret = usdt_bpf__load(skel);
	if (ret) {
		tracer_fail(err, "cannot load the kernel programs for USDT: %s", strerror(-ret));
		goto cleanup;
	}
	skel->links.on_lock_ask = bpf_program__attach_usdt(skel->progs.on_lock_ask, pid, path,
							   PROVIDER, "lock_ask", NULL);
	skel->links.on_lock_acquired = bpf_program__attach_usdt(
		skel->progs.on_lock_acquired, pid, path, PROVIDER, "lock_acquired", NULL);
	skel->links.on_lock_released = bpf_program__attach_usdt(
		skel->progs.on_lock_released, pid, path, PROVIDER, "lock_released", NULL);
	if (!skel->links.on_lock_ask || !skel->links.on_lock_acquired ||
	    !skel->links.on_lock_released) {
		ret = -errno;
		tracer_fail(err, "cannot attach to the USDT sites in %s: %s", path,
			    strerror(errno));
		goto cleanup;
	}
	*usdt = u;
	return 0;

cleanup:
	usdt_close(u);
	return ret;
}

void usdt_arm(struct usdt *u, bool on)
{
	u->skel->bss->armed = on;
}

uint64_t usdt_lost(const struct usdt *u)
{
	return u->skel->bss->sites_full;
}

void usdt_each(struct usdt *u, void (*fn)(void *opaque, const struct usdt_site *site), void *opaque)
{
	int fd = bpf_map__fd(u->skel->maps.sites);
	struct usdt_site site;
	char key[16], *before = NULL;

	while (!bpf_map_get_next_key(fd, before, key)) {
		before = key;
		if (!bpf_map_lookup_elem(fd, key, &site))
			fn(opaque, &site);
	}
}

void usdt_close(struct usdt *u)
{
	if (!u)
		return;
	usdt_bpf__destroy(u->skel);
	free(u);
}
