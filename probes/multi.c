/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uprobe_multi links by the bare system call: libbpf learnt of them after Debian 12.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probes/multi.h"
#include "probes/private.h"

/* union bpf_attr's part for BPF_LINK_CREATE, of the kernel's include/uapi/linux/bpf.h. */
struct link_create {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, multi_flags, pid, pad;
};

int multi_attach(int prog_fd, pid_t pid, const char *path, const uint64_t *offsets,
		 const uint64_t *cookies, size_t count)
{
	struct link_create attr = {
		.prog_fd = prog_fd,
		.attach_type = MULTI_ATTACH_TYPE,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)offsets,
		.cookies = (uintptr_t)cookies,
		.cnt = count,
		.pid = pid,
	};
	int fd = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));

	return fd < 0 ? -errno : fd;
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
		    .expected_attach_type = (enum bpf_attach_type)MULTI_ATTACH_TYPE);

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

bool multi_works(void)
{
	int map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, sizeof(uint32_t), sizeof(uint64_t), 1,
				    NULL);
	int prog_fd = -1, link_fd = -1;
	uint64_t offset, cookie = 0, count = 0;
	uint32_t key = 0;
	pthread_t thread;

	if (map_fd >= 0)
		prog_fd = load_counter(map_fd);
	if (prog_fd >= 0 && own_offset(bqlstat_emulated, &offset))
		link_fd = multi_attach(prog_fd, getpid(), "/proc/self/exe", &offset, &cookie, 1);
	if (link_fd >= 0 && !pthread_create(&thread, NULL, pass, bqlstat_emulated)) {
		pthread_join(thread, NULL);
		bpf_map_lookup_elem(map_fd, &key, &count);
	}
	/* Which waits out the kernel's grace periods, and nobody waits for it. */
	if (link_fd >= 0 && !pthread_create(&thread, NULL, let_go, (void *)(intptr_t)link_fd))
		pthread_detach(thread);
	else if (link_fd >= 0)
		close(link_fd);
	if (prog_fd >= 0)
		close(prog_fd);
	if (map_fd >= 0)
		close(map_fd);
	return count == 1;
}
