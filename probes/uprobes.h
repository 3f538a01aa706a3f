/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uprobes with programs on them, by bare system calls: libbpf learnt of uprobe_multi links after
 * Debian 12, and the keeper wants descriptors, no objects.
 */
#ifndef UPROBES_H
#define UPROBES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* BPF_TRACE_UPROBE_MULTI: newer than the headers of Debian 12. A program must be loaded for it. */
#define UPROBES_MULTI 48

/* Places in one file, all for one program, seen in one process only. */
struct uprobes {
	int prog_fd;
	pid_t pid;
	const char *path;
	const uint64_t *offsets, *cookies;
	size_t count;
};

/* The kernel's number for uprobes among perf's events, negative errno: it has none. */
int uprobes_type(void);

/*
 * Whether this kernel has uprobe_multi links (Linux 6.6: many probes put in and taken out together)
 * and they see all threads of a process: until 6.10 the process filter took a thread's number for
 * the process's, so only the main thread was seen.
 */
bool uprobes_multi_works(void);

/*
 * Both fill fds[0] and, for a single one, fds[1]: probes are in until all of them are closed. 0, or
 * a negative errno: then none is in and fds are -1. `type` is uprobes_type()'s, of `probes` the
 * first one counts.
 */
int uprobes_open_multi(const struct uprobes *probes, int fds[2]);
int uprobes_open_single(const struct uprobes *probes, int type, int fds[2]);

#endif
