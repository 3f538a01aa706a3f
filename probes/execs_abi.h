/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What exec.bpf.c tells user space.
 */
#ifndef EXECS_ABI_H
#define EXECS_ABI_H

#ifndef __bpf__
#include <stdint.h>
#endif

struct execs_event {
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	uint32_t tgid;
	uint32_t unused;
};

#endif
