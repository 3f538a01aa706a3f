/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uprobes by bare system calls.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probes/private.h"
#include "probes/uprobes.h"

/* union bpf_attr's part for BPF_LINK_CREATE, of the kernel's include/uapi/linux/bpf.h. */
struct link_create {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, multi_flags, pid, pad;
};

int uprobes_open_multi(const struct uprobes *p, int fds[2])
{
	struct link_create attr = {
		.prog_fd = p->prog_fd,
		.attach_type = UPROBES_MULTI,
		.path = (uintptr_t)p->path,
		.offsets = (uintptr_t)p->offsets,
		.cookies = (uintptr_t)p->cookies,
		.cnt = p->count,
		.pid = p->pid,
	};

	fds[0] = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	fds[1] = -1;
	return fds[0] < 0 ? -errno : 0;
}

int uprobes_type(void)
{
	FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type, ret = -errno;

	if (!f)
		return ret;
	ret = fscanf(f, "%d", &type) == 1 ? type : -EINVAL;
	fclose(f);
	return ret;
}

int uprobes_open_single(const struct uprobes *p, int type, int fds[2])
{
	struct perf_event_attr attr = {
		.type = type,
		.size = sizeof(attr),
		.uprobe_path = (uintptr_t)p->path,
		.probe_offset = p->offsets[0],
	};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = p->cookies[0]);
	int ret;

	fds[1] = -1;
	fds[0] = syscall(SYS_perf_event_open, &attr, p->pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fds[0] < 0)
		return -errno;
	fds[1] = bpf_link_create(p->prog_fd, fds[0], BPF_PERF_EVENT, &opts);
	if (fds[1] >= 0)
		return 0;
	ret = fds[1];
	close(fds[0]);
	fds[0] = fds[1] = -1;
	return ret;
}

/* A program that adds one to the map's only value. */
static int load_counter(int map_fd)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4},
		{.code = BPF_LD | BPF_DW | BPF_IMM,
		 .dst_reg = 1,
		 .src_reg = BPF_PSEUDO_MAP_FD,
		 .imm = map_fd},
		{},
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10},
		{.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem},
		{.code = BPF_JMP | BPF_JEQ | BPF_K, .off = 2},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1},
		{.code = BPF_STX | BPF_ATOMIC | BPF_DW, .src_reg = 1, .imm = BPF_ADD},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = (enum bpf_attach_type)UPROBES_MULTI);

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, NULL, "GPL", insns,
			     sizeof(insns) / sizeof(*insns), &opts);
}

static void *pass(void *point)
{
	((void (*)(void))point)();
	return NULL;
}

static void *let_go(void *fd)
{
	close((intptr_t)fd);
	return NULL;
}

bool uprobes_multi_works(void)
{
	int map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, sizeof(uint32_t), sizeof(uint64_t), 1,
				    NULL);
	int prog_fd = -1, fds[2] = {-1, -1};
	uint64_t offset, cookie = 0, count = 0;
	uint32_t key = 0;
	pthread_t thread;

	if (map_fd >= 0)
		prog_fd = load_counter(map_fd);
	if (prog_fd >= 0 && own_offset(bqlstat_emulated, &offset)) {
		const struct uprobes probe = {
			.prog_fd = prog_fd,
			.pid = getpid(),
			.path = "/proc/self/exe",
			.offsets = &offset,
			.cookies = &cookie,
			.count = 1,
		};

		uprobes_open_multi(&probe, fds);
	}
	if (fds[0] >= 0 && !pthread_create(&thread, NULL, pass, bqlstat_emulated)) {
		pthread_join(thread, NULL);
		bpf_map_lookup_elem(map_fd, &key, &count);
	}
	/* Which waits out the kernel's grace periods, and nobody waits for it. */
	if (fds[0] >= 0 && !pthread_create(&thread, NULL, let_go, (void *)(intptr_t)fds[0]))
		pthread_detach(thread);
	else if (fds[0] >= 0)
		close(fds[0]);
	if (prog_fd >= 0)
		close(prog_fd);
	if (map_fd >= 0)
		close(map_fd);
	return count == 1;
}
