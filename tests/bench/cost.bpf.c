/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two smallest tracers of a lock pair: one that does nothing, one that keeps a histogram. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} histogram SEC(".maps");

__u64 owner_since;

SEC("uprobe")
int empty(void *ctx)
{
	return 0;
}

/* One listener, no argument read. */
SEC("usdt")
int site(void *ctx)
{
	return 0;
}

SEC("uprobe")
int acquired(void *ctx)
{
	owner_since = bpf_ktime_get_ns();
	return 0;
}

SEC("uprobe")
int released(void *ctx)
{
	__u64 held = bpf_ktime_get_ns() - owner_since;
	__u32 slot = 0;
	__u64 *count;

	for (int shift = 32; shift; shift >>= 1)
		if (held >> shift) {
			held >>= shift;
			slot += shift;
		}
	count = bpf_map_lookup_elem(&histogram, &slot);
	if (count)
		++*count;
	return 0;
}
