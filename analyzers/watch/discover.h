/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding QEMUs as they come and go: those that run, and new ones within some tens of milliseconds
 * of their execve() (or within a second, where the kernel does not tell of those).
 *
 * A process counts as a QEMU when the program that it runs is one that can be traced, whatever it
 * is called. One that executes another program is gone, and appears again if that is a QEMU: so
 * wrapper scripts and launchers do not mislead. One thread at a time may use a discover.
 */
#ifndef DISCOVER_H
#define DISCOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct discover;

struct discovered {
	pid_t pid;
	int pid_fd;	  /* the discover's; readable once the process has exited */
	uint64_t started; /* ticks from boot to its start: tells it from a later one of its pid */
	const char *name; /* the VM's, of -name; "" when it was given none */
	const char *uuid; /* of -uuid or -smbios type=1, or "" */
	const char *program; /* file name of the binary */
};

/* The strings and the struct are the same, and valid, from `appeared` until `gone` returns. */
struct discover_sink {
	void (*appeared)(void *opaque, const struct discovered *qemu);
	void (*gone)(void *opaque, const struct discovered *qemu);
	void *opaque;
};

/*
 * `pattern`: a shell pattern (fnmatch) that the program's file name, the process's name, the VM's
 * name or its uuid must match; NULL: every QEMU. Calls nothing yet. Never fails: without the
 * privilege to be told of new processes it searches /proc once a second.
 */
struct discover *discover_new(const char *pattern, const struct discover_sink *sink);
/* Calls nothing. */
void discover_free(struct discover *d);

/* Becomes readable when discover_poll() has something to do: for poll() or a main loop. */
int discover_fd(const struct discover *d);
/* Does what there is to do, and calls the sink; never waits. The first call finds all that run. */
void discover_poll(struct discover *d);

/* Whether the kernel tells of new processes, or else why it does not. */
bool discover_prompt(const struct discover *d, const char **why);

#endif
