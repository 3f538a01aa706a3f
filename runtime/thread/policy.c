/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of policies. A new one is an entry here, and a bit where it lets go somewhere new.
 */
#include <stddef.h>
#include <string.h>

#include "runtime/thread/policy.h"

const struct policy policies[] = {
	{
		.name = "stock",
		.held = "all the time, by the main loop; QEMU's own coroutine",
		.dropped = "where the coroutine yields: when the stream has no bytes",
		.choose = "to compare with, or to be rid of the thread",
	},
	{
		.name = "wait",
		.drops = POLICY_THREAD | POLICY_DROP_WAIT | POLICY_BREATHE | POLICY_INSIDE,
		.held = "as by the coroutine: guest RAM, device state, CPU synchronisation",
		.dropped = "while it waits for bytes, multifd channels or RDMA; offered at each "
			   "read",
		.choose = "for the smallest change that cures a frozen monitor",
	},
	{
		.name = "section",
		.drops = POLICY_THREAD | POLICY_DROP_WAIT | POLICY_BREATHE | POLICY_DROP_READ |
			 POLICY_DROP_RAM,
		.held = "CPU synchronisation, device state and RAM's START, waits in them included",
		.dropped = "in RAM, and while it waits for bytes and reads them, between sections",
		.choose = "to measure the RFC's granularity: a stall in device state freezes QEMU",
	},
	{
		.name = "io-free",
		.drops = POLICY_THREAD | POLICY_DROP_WAIT | POLICY_BREATHE | POLICY_DROP_READ |
			 POLICY_DROP_RAM | POLICY_INSIDE,
		.held = "CPU synchronisation, device state and RAM's START, while they compute",
		.dropped = "in RAM, and while it waits for bytes and reads them, wherever that is",
		.choose = "unless you know better",
	},
	{0},
};

const struct policy *policy_find(const char *name)
{
	for (const struct policy *p = policies; p->name; p++)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}
