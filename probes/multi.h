/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uprobe_multi links (Linux 6.6): many probes of one program in one process, put in and taken out
 * together. A uprobe of a perf event takes ~80 ms to take out, one after the other.
 */
#ifndef MULTI_H
#define MULTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* BPF_TRACE_UPROBE_MULTI: newer than the headers of Debian 12. A program must be loaded for it. */
#define MULTI_ATTACH_TYPE 48

/*
 * Whether this kernel has them and they see all threads of a process: until 6.10 the process filter
 * took a thread's number for the process's, so only the main thread was seen.
 */
bool multi_works(void);

/* Descriptor of a link, or a negative errno: then none of the probes is in. */
int multi_attach(int prog_fd, pid_t pid, const char *path, const uint64_t *offsets,
		 const uint64_t *cookies, size_t count);

#endif
