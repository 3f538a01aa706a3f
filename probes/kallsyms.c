/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a function of the running kernel lies.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "probes/private.h"

int kernel_function(const char *name, uint64_t *begin, uint64_t *end)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	unsigned long long at, found = 0;
	char line[256], symbol[128];
	int ret = -ENOENT;

	if (!f)
		return -errno;
	/* Sorted by address, modules last. */
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx %*c %127s", &at, symbol) != 2)
			continue;
		if (found && at > found) {
			*begin = found;
			*end = at;
			ret = 0;
			break;
		}
		if (!found && !strcmp(symbol, name))
			found = at;
	}
	fclose(f);
	return ret;
}
