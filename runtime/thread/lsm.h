/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What AppArmor and SELinux would say to a QEMU under loadvm: asked of the kernel where it answers,
 * in general words where it does not.
 */
#ifndef THREAD_LSM_H
#define THREAD_LSM_H

#include <sys/types.h>

/*
 * One call of `say`, with one sentence, for each module that is on. `pid`: the QEMU whose profile
 * or domain is asked, or 0; `binary`: its ELF file.
 */
void lsm_ask(pid_t pid, const char *binary, void (*say)(const char *text, void *opaque),
	     void *opaque);

#endif
