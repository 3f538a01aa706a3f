/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start a command and stop it at the moment when the QEMU that it leads to is mapped and has not
 * yet run: through wrapper scripts, launchers and an explicit ld.so. Uses ptrace until then and no
 * longer.
 */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

struct launch;

/*
 * Asked at each exec, and after each mapping that an explicit ld.so makes, of a stopped process: 1
 * it is the one (stop looking), 0 it is not, or not yet.
 */
typedef int (*launch_is_it)(void *opaque, pid_t pid);

/* One clear sentence, without a trailing newline. */
struct launch_error {
	char text[512];
};

/*
 * Run argv, found in PATH. Returns 0 with the process in *pid, running; or a negative errno:
 * -ENOENT and such it could not be started, -ECHILD it ended first, -EINTR `signal_fd` had a signal
 * other than SIGCHLD. `signal_fd` is a signalfd that covers SIGCHLD, whose signals the caller has
 * blocked; the command starts with `mask`.
 */
int launch(char **argv, int signal_fd, const void *mask, launch_is_it is_it, void *opaque,
	   pid_t *pid, pid_t *child, struct launch_error *err);

/* Whether a command asks QEMU to leave the process that was started. */
bool launch_daemonizes(char **command);

#endif
