/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock of a QEMU under `loadvm --usdt` or `--lttng`, recorded through the runtime's own USDT
 * sites instead of uprobes on QEMU's code. Made for comparing the two: it adds up, and no more.
 */
#ifndef PROBES_USDT_H
#define PROBES_USDT_H

#include <sys/types.h>

#include "probes/tracer.h"
#include "probes/usdt_abi.h"

struct usdt;

/*
 * Attach to the sites of the process, before counting. Holds of at least `long_ns` are summed. 0,
 * or a negative errno and a sentence: -ENOENT it has none.
 */
int usdt_open(pid_t pid, uint64_t long_ns, struct usdt **usdt, struct tracer_error *err);
/* Count from now on; then: no more. */
void usdt_arm(struct usdt *usdt, bool on);
/* Acquisitions that were not recorded. */
uint64_t usdt_lost(const struct usdt *usdt);
void usdt_each(struct usdt *usdt, void (*fn)(void *opaque, const struct usdt_site *site),
	       void *opaque);
void usdt_close(struct usdt *usdt);

#endif
