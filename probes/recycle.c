/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of QEMUs that are gone: cleared and given back to the kernel side, so that a tracer that
 * runs for months has room for those that come.
 */
#include <stdlib.h>
#include <string.h>

#include "probes/private.h"

/* ---- names of source files ---- */

const char *keep_name(struct tracer *t, const char *name)
{
	char **names;

	for (size_t i = 0; i < t->nr_names; i++)
		if (!strcmp(t->names[i], name))
			return t->names[i];
	names = realloc(t->names, (t->nr_names + 1) * sizeof(*names));
	if (!names)
		return NULL;
	t->names = names;
	names[t->nr_names] = strdup(name);
	return names[t->nr_names] ? names[t->nr_names++] : NULL;
}

void names_free(struct tracer *t)
{
	for (size_t i = 0; i < t->nr_names; i++)
		free(t->names[i]);
	free(t->names);
}

/* ---- records ---- */

static bool is_of(const struct tracer *t, const struct abi_thread *thread, int slot)
{
	return thread->epoch && thread->epoch == t->targets[slot].epoch &&
	       thread->slot == (uint32_t)slot;
}

static bool is_site_of(struct tracer *t, uint32_t site, int slot)
{
	const struct abi_site *s = tracer_site(t, site);

	return s && is_of(t, &t->threads[s->thread], slot);
}

/* Before the sites, by which these tell whose they are. */
static void forget_blocked(struct tracer *t, int slot)
{
	int fd = bpf_map__fd(t->skel->maps.blocked);
	struct abi_blocked_key key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (is_site_of(t, key.site, slot))
			bpf_map_delete_elem(fd, &key);
	}
}

static void forget_charges(struct tracer *t, int slot)
{
	int fd = bpf_map__fd(t->skel->maps.charges);
	struct abi_charge_key key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (is_site_of(t, key.victim, slot))
			bpf_map_delete_elem(fd, &key);
	}
}

static void forget_wakers(struct tracer *t, int slot)
{
	int fd = bpf_map__fd(t->skel->maps.wakers);
	struct abi_waker_key key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (key.epoch == t->targets[slot].epoch)
			bpf_map_delete_elem(fd, &key);
	}
}

/* Its entries name sites that will be others'. */
static void forget_log(struct tracer *t, int slot)
{
	void *zero = calloc(1, bpf_map__value_size(t->skel->maps.held_logs));

	if (zero)
		bpf_map_update_elem(bpf_map__fd(t->skel->maps.held_logs), &slot, zero, BPF_ANY);
	free(zero);
}

static void forget_sites(struct tracer *t, int slot)
{
	uint32_t used = sites_used(t);

	for (uint32_t i = 0; i < used; i++) {
		struct abi_site *site = &t->sites[i];
		/* As the kernel side writes it: struct site_key. */
		struct {
			uint64_t file;
			uint32_t line, thread, cond, pad;
		} key = {site->file, site->line, site->thread, site->cond, 0};

		if (!site->acquired && !site->line && !site->file)
			continue;
		if (!is_of(t, &t->threads[site->thread], slot))
			continue;
		bpf_map_delete_elem(bpf_map__fd(t->skel->maps.site_index), &key);
		memset(site, 0, sizeof(*site));
		t->files[i] = NULL;
		if (i < t->nr_files_known)
			t->nr_files_known = i;
		bpf_map_update_elem(bpf_map__fd(t->skel->maps.free_sites), NULL, &i, BPF_ANY);
	}
}

static void forget_threads(struct tracer *t, int slot)
{
	for (uint32_t i = 0; i < ABI_THREADS; i++) {
		if (!is_of(t, &t->threads[i], slot))
			continue;
		memset(&t->threads[i], 0, sizeof(t->threads[i]));
		bpf_map_update_elem(bpf_map__fd(t->skel->maps.free_threads), NULL, &i, BPF_ANY);
	}
}

void tracer_forget(struct tracer *t, int slot)
{
	if (slot < 0 || slot >= ABI_SLOTS || !t->targets[slot].epoch)
		return;
	tracer_remove(t, slot);
	t->blocked.fresh = t->charges.fresh = false;
	forget_blocked(t, slot);
	forget_charges(t, slot);
	forget_wakers(t, slot);
	forget_log(t, slot);
	forget_sites(t, slot);
	forget_threads(t, slot);
	target_clear(&t->targets[slot]);
}

void tracer_room(struct tracer *t, uint64_t *used, uint64_t *room)
{
	uint32_t top = sites_used(t);

	*room = t->max_sites;
	*used = 0;
	for (uint32_t i = 0; i < top; i++)
		*used += t->sites[i].acquired > 0;
}
