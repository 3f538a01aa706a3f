/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Big QEMU Lock by the runtime's own USDT sites (provider loadvm): who took it where, how often
 * and how long. A second way to the same figures, to hold the first against; see usdt.h.
 *
 * Only who holds the lock writes a site's record, so the records need no atomics.
 */
#include "probes/kernel.h"

/* libbpf's headers: registers have the kernel's own names. */
#define __VMLINUX_H__
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "probes/usdt_abi.h"

char LICENSE[] SEC("license") = "GPL";

const volatile uint64_t long_ns = 50000;

uint64_t sites_full;
/* Nothing counts before this is set; set when all sites are attached. */
bool armed;

struct key {
	uint64_t file;
	uint32_t line, pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USDT_SITES);
	__type(key, struct key);
	__type(value, struct usdt_site);
} sites SEC(".maps");

/* What a thread holds; one that has no entry has done nothing yet. */
struct holder {
	struct key key;
	uint64_t since_ns; /* 0: it holds nothing */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, USDT_THREADS);
	__type(key, uint32_t);
	__type(value, struct holder);
} holders SEC(".maps");

static struct usdt_site *site_at(const struct key *key)
{
	struct usdt_site *site = bpf_map_lookup_elem(&sites, key), new = {};

	if (site)
		return site;
	new.line = key->line;
	bpf_probe_read_user_str(new.file, sizeof(new.file), (void *)key->file);
	bpf_map_update_elem(&sites, key, &new, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sites, key);
}

static struct holder *me(bool *first)
{
	uint32_t tid = bpf_get_current_pid_tgid();
	struct holder *h = bpf_map_lookup_elem(&holders, &tid), none = {};

	*first = !h;
	if (h)
		return h;
	bpf_map_update_elem(&holders, &tid, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&holders, &tid);
}

SEC("usdt")
int on_lock_ask(struct pt_regs *ctx)
{
	bool first;

	(void)ctx;
	if (armed)
		me(&first);
	return 0;
}

SEC("usdt")
int on_lock_acquired(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns();
	struct usdt_site *site;
	struct key key = {};
	struct holder *h;
	long file, line;
	bool first;

	if (!armed)
		return 0;
	h = me(&first);
	/* Its asking, or its falling asleep, was before us. */
	if (!h || first)
		return 0;
	if (bpf_usdt_arg(ctx, 0, &file) || bpf_usdt_arg(ctx, 1, &line))
		return 0;
	key.file = file;
	key.line = line;
	site = site_at(&key);
	if (!site) {
		__sync_fetch_and_add(&sites_full, 1);
		return 0;
	}
	site->acquired++;
	h->key = key;
	h->since_ns = now;
	return 0;
}

SEC("usdt")
int on_lock_released(struct pt_regs *ctx)
{
	uint64_t now = bpf_ktime_get_ns(), held;
	struct usdt_site *site;
	struct holder *h;
	bool first;

	(void)ctx;
	if (!armed)
		return 0;
	h = me(&first);
	if (!h || !h->since_ns)
		return 0;
	held = now - h->since_ns;
	h->since_ns = 0;
	site = bpf_map_lookup_elem(&sites, &h->key);
	if (!site)
		return 0;
	site->holds++;
	if (held < long_ns)
		return 0;
	site->long_holds++;
	site->long_ns += held;
	return 0;
}
