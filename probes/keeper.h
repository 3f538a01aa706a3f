/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: a child process that puts probes in, holds them, and takes them out.
 *
 * The kernel gives up taking a uprobe out when the thread that asks for it has SIGKILL pending
 * ("failed to unregister, leaking uprobe", kernel/events/uprobes.c: the page cannot be had then).
 * The breakpoint stays in the traced process for good, and costs it about a microsecond a hit. So
 * none of this is done by a process that somebody may want to kill: bqlstat asks its keeper, which
 * sees the connection end, however bqlstat ends, takes everything out in its own time, and ends.
 *
 * A keeper that is killed itself leaves nothing either, unless it is killed during the
 * milliseconds in which it puts something in or takes it out.
 *
 * For one thread at a time.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <stdbool.h>
#include <stddef.h>

#include "probes/uprobes.h"

struct keeper;

/*
 * Fork it. Of the caller's descriptors it keeps `fds`, those of programs that it will be asked to
 * attach, and the caller keeps them open, too. 0 or a negative errno.
 */
int keeper_new(const int *fds, size_t count, struct keeper **keeper);
/* Returns when everything is out. */
void keeper_free(struct keeper *keeper);

/* False: it was killed, so everything is out. Whatever is asked of it fails with -EPIPE. */
bool keeper_lives(const struct keeper *keeper);

/*
 * Put in at most ABI_POINTS probes by one uprobe_multi link, or a single one. Returns a link's
 * number, or a negative errno: none is in.
 */
int keeper_put_in(struct keeper *keeper, const struct uprobes *probes, bool multi);
/*
 * Begin to take a link's probes out. They are gone at once or soon; it is over when keeper_is_out()
 * has said so, once: the number may be another link's from then on. The kernel waits out grace
 * periods meanwhile, ~50 ms, of all links together.
 */
void keeper_take_out(struct keeper *keeper, int link);
bool keeper_is_out(struct keeper *keeper, int link);

#endif
