/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a running QEMU was started by loadvm, and what loadvm did in it.
 */
#ifndef UNDER_H
#define UNDER_H

#include <sys/types.h>

#include "runtime/thread/core.h"

enum under {
	UNDER_NOTHING, /* not started by loadvm */
	UNDER_GATE,    /* by loadvm, which was switched off or failed: QEMU runs stock */
	UNDER_LOADVM,  /* its status could be read: detours may still be 0 */
	UNDER_OTHER,   /* its runtime is there, but of a release with another layout */
	UNDER_UNSEEN,  /* we may not look */
};

/* Fills *status for UNDER_LOADVM; its strings are terminated. `mem_fd` is /proc/PID/mem. */
enum under under_loadvm(pid_t pid, int mem_fd, struct loadvm_status *status);

#endif
