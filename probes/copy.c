/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies of the kernel's hash tables, taken whole. Going through one key by key is two system calls
 * an entry, and with fifty QEMUs fifty times: once for each of them.
 */
#include <errno.h>
#include <stdlib.h>

#include "probes/private.h"

void copy_read(struct copy *c, struct bpf_map *map)
{
	uint32_t room = bpf_map__max_entries(map), got = room;
	uint64_t cursor = 0;

	if (c->fresh)
		return;
	if (!c->keys)
		c->keys = calloc(room, bpf_map__key_size(map));
	if (!c->values)
		c->values = calloc(room, bpf_map__value_size(map));
	c->count = 0;
	if (!c->keys || !c->values)
		return;
	/* All of it fits, so one call is enough, and says so with ENOENT: there is no more. */
	if (!bpf_map_lookup_batch(bpf_map__fd(map), NULL, &cursor, c->keys, c->values, &got,
				  NULL) ||
	    errno == ENOENT)
		c->count = got;
	c->fresh = true;
}

void copy_free(struct copy *c)
{
	free(c->keys);
	free(c->values);
}
