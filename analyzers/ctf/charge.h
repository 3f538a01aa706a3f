/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who made whom wait, from a trace: each wait is divided among the latest holds of the lock, as the
 * kernel side does it (probes/victims.h).
 */
#ifndef CTF_CHARGE_H
#define CTF_CHARGE_H

#include "analyzers/model/run.h"

struct charges;

struct charges *charges_new(void);
void charges_free(struct charges *charges);

/* A usage held the lock; in the order in which holds end. */
void charges_hold(struct charges *charges, unsigned usage, uint64_t begin_ns, uint64_t end_ns);
/* A usage has got the lock now, after that wait. */
void charges_wait(struct charges *charges, unsigned victim, uint64_t now_ns, uint64_t wait_ns);
/* Into run->charges. */
void charges_put(const struct charges *charges, struct run *run);

#endif
