/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of policies. A new one is a line here, and a bit where it lets go somewhere new.
 */
#include <stddef.h>
#include <string.h>

#include "runtime/thread/policy.h"

const struct policy policies[] = {
	{
		.name = "stock",
		.summary = "nothing is changed",
	},
	{
		.name = "wait",
		.summary =
			"a thread that holds the lock as the coroutine did, and drops it while it "
			"waits",
		.drops = POLICY_THREAD | POLICY_DROP_WAIT | POLICY_BREATHE,
	},
	{
		.name = "io-free",
		.summary = "wait, and RAM is loaded without the lock (default)",
		.drops = POLICY_THREAD | POLICY_DROP_WAIT | POLICY_BREATHE | POLICY_DROP_RAM,
	},
	{NULL, NULL, 0},
};

const struct policy *policy_find(const char *name)
{
	for (const struct policy *p = policies; p->name; p++)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}
