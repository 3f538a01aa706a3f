// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tells user space of each process that begins to run another program.
 */
#include "probes/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "probes/execs_abi.h"

char LICENSE[] SEC("license") = "GPL";

/* Events that found no room. */
uint32_t missed;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} execs SEC(".maps");

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	struct execs_event event = {.at_ns = bpf_ktime_get_ns(), .tgid = task->tgid};

	if (bpf_ringbuf_output(&execs, &event, sizeof(event), 0))
		__sync_fetch_and_add(&missed, 1);
	return 0;
}
