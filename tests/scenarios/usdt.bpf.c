/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the USDT sites pass, copied out: a ring of records, and a count of the lock's. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "tests/scenarios/usdt.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} records SEC(".maps");

__u64 counts[USDT_KINDS], lost;

static int keep(struct pt_regs *ctx, enum usdt_kind kind, int text, int number)
{
	struct usdt_record *r;
	long at, value = 0;

	__sync_fetch_and_add(&counts[kind], 1);
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	r->kind = kind;
	r->text[0] = 0;
	if (!bpf_usdt_arg(ctx, text, &at))
		bpf_probe_read_user_str(r->text, sizeof(r->text), (void *)at);
	bpf_usdt_arg(ctx, number, &value);
	r->number = value;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

SEC("usdt")
int incoming_end(struct pt_regs *ctx)
{
	return keep(ctx, USDT_INCOMING_END, 1, 2);
}

SEC("usdt")
int section_end(struct pt_regs *ctx)
{
	return keep(ctx, USDT_SECTION_END, 1, 4);
}

SEC("usdt")
int vmsd_begin(struct pt_regs *ctx)
{
	return keep(ctx, USDT_VMSD_BEGIN, 0, 1);
}

SEC("usdt")
int lock_acquired(struct pt_regs *ctx)
{
	return keep(ctx, USDT_LOCK_ACQUIRED, 0, 3);
}

SEC("usdt")
int lock_released(struct pt_regs *ctx)
{
	return keep(ctx, USDT_LOCK_RELEASED, 0, 3);
}
