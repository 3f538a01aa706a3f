/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The site records, mapped as they come into use. The kernel makes every page of a mapping of its
 * array resident at once: 18 MB for 2048 records, of which most recordings use a tenth.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "probes/private.h"

#define STEP_BYTES (1UL << 20)

static size_t record_bytes(const struct tracer *t)
{
	return (bpf_map__value_size(t->skel->maps.sites) + 7) & ~7UL;
}

static size_t pages(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) & ~(page - 1);
}

bool sites_reserve(struct tracer *t)
{
	void *at = mmap(NULL, pages(record_bytes(t) * t->max_sites), PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	t->sites = at == MAP_FAILED ? NULL : at;
	return t->sites;
}

void sites_unmap(struct tracer *t)
{
	if (t->sites)
		munmap(t->sites, pages(record_bytes(t) * t->max_sites));
}

static bool map_up_to(struct tracer *t, uint32_t records)
{
	size_t all = pages(record_bytes(t) * t->max_sites);
	size_t want = pages(record_bytes(t) * records + STEP_BYTES);

	if (record_bytes(t) * records <= t->sites_mapped)
		return true;
	if (want > all)
		want = all;
	if (mmap((char *)t->sites + t->sites_mapped, want - t->sites_mapped, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, bpf_map__fd(t->skel->maps.sites),
		 t->sites_mapped) == MAP_FAILED)
		return false;
	t->sites_mapped = want;
	return true;
}

uint32_t sites_used(struct tracer *t)
{
	uint32_t used = __atomic_load_n(&t->skel->bss->nr_sites, __ATOMIC_ACQUIRE);

	if (used > t->max_sites)
		used = t->max_sites;
	/* Without memory for more, those before are still right. */
	return map_up_to(t, used) ? used : t->sites_mapped / record_bytes(t);
}

const struct abi_site *tracer_site(struct tracer *t, uint32_t site)
{
	return site < t->max_sites && map_up_to(t, site + 1) ? &t->sites[site] : NULL;
}
