/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control file: an operator's word on which policy the next load runs under, without a restart.
 */
#ifndef THREAD_CONTROL_H
#define THREAD_CONTROL_H

#include <stdbool.h>

struct policy;

/*
 * Before main(). `path` is copied; NULL or "": there is no control file. `quiet`: no line when the
 * file was read and understood.
 */
void control_prepare(const char *path, bool quiet);

/*
 * What the file says now; `start` where it is not there, cannot be read, or names no policy, with
 * a line on stderr. Never waits: what is not a regular file is not read. Any thread.
 */
const struct policy *control_policy(const struct policy *start);

#endif
