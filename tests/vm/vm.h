/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the two sides of a test VM share, and the making of its initial RAM disk.
 */
#ifndef VM_H
#define VM_H

#include <stdbool.h>

/* What its root is made of: so a program knows by /proc/mounts that it may write anywhere. */
#define VM_ROOT "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work"

/* The ports' numbers on the only virtio-serial controller. */
enum { VM_PORT_STDOUT = 1, VM_PORT_STDERR, VM_PORT_STATUS };

/*
 * On the host's side only. Writes an initial RAM disk: `init`, the modules of that kernel (a folder
 * as fetch-kernel.sh leaves it) with what they depend on, the command with this process's
 * environment and working directory. `*why`, on failure: a sentence, to be freed with g_free().
 */
bool initramfs_write(int fd, const char *init, const char *kernel, const char *const *modules,
		     char *const *command, char **why);

#endif
