/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which processes have just begun to run another program, told by the kernel: so that nobody has to
 * search /proc for them again and again.
 */
#ifndef EXECS_H
#define EXECS_H

#include <stdint.h>
#include <sys/types.h>

#include "probes/tracer.h"

struct execs;

/* 0, or a negative errno and a sentence. -EXDEV: we are in a PID namespace of our own. */
int execs_new(struct execs **execs, struct tracer_error *err);
void execs_free(struct execs *execs);

/* Becomes readable when execs_poll() has something to tell. */
int execs_fd(const struct execs *execs);

/* `at_ns`: when, CLOCK_MONOTONIC. It may be a while ago. */
typedef void (*execs_fn)(void *opaque, pid_t pid, uint64_t at_ns);
/* Never waits. 0, or -ENOBUFS: some were missed. */
int execs_poll(struct execs *execs, execs_fn fn, void *opaque);

#endif
