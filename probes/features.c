/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trying what the tracer needs of a kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probes/features.h"
#include "probes/private.h"
#include "probes/uprobes.h"

#define CHUNKS 21
#define HITS   50 /* a chunk: short enough that most chunks see no interrupt */

/*
 * One function for each kind of instruction, which is its first. No nop5 in a function with a red
 * zone: the kernel may turn a probed one into a call.
 */
#define KIND(name, code)                                                                           \
	void bqlstat_##name(void);                                                                 \
	asm(".text\n.globl bqlstat_" #name "\n.type bqlstat_" #name ", @function\n.balign 16\n"    \
	    "bqlstat_" #name ":\n"                                                                 \
	    "\t" code "\n.size bqlstat_" #name ", . - bqlstat_" #name "\n")

KIND(emulated, "nop; ret");
KIND(push, "push %rbx; pop %rbx; ret");
KIND(push_high, "push %r12; pop %r12; ret");
KIND(call, "call 1f; 1: add $8, %rsp; ret");
KIND(jmp_short, ".byte 0xeb, 0; ret");
KIND(jmp, ".byte 0xe9; .long 0; ret");
KIND(jcc_short, ".byte 0x74, 0; ret");
KIND(jcc, ".byte 0x0f, 0x84; .long 0; ret");
KIND(nop5, ".byte 0x0f, 0x1f, 0x44, 0, 0; ret");
KIND(nop10, ".byte 0x66, 0x2e, 0x0f, 0x1f, 0x84; .long 0; .byte 0; ret");
KIND(mov, "mov %rdi, %rax; ret");
KIND(sub, "sub $8, %rsp; add $8, %rsp; ret");
KIND(test, "test %edi, %edi; ret");
KIND(lea, "lea 8(%rdi), %rax; ret");
KIND(endbr64, "endbr64; ret");
#undef KIND

#define KIND(text, name)                                                                           \
	{                                                                                          \
		text, (const uint8_t *)bqlstat_##name, WAY_UNKNOWN, 0                              \
	}
static struct features_insn kinds[] = {
	KIND("nop", emulated),
	KIND("push", push),
	KIND("push %r8-15", push_high),
	KIND("call", call),
	KIND("jmp", jmp),
	KIND("short jmp", jmp_short),
	KIND("jcc", jcc),
	KIND("short jcc", jcc_short),
	KIND("nop5", nop5),
	KIND("nop10", nop10),
	KIND("mov", mov),
	KIND("sub", sub),
	KIND("test", test),
	KIND("lea", lea),
	KIND("endbr64", endbr64),
};
#undef KIND

/* ---- uprobes, without BPF ---- */

static int open_uprobe(void (*at)(void), enum feature_state *state)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.uprobe_path = (uintptr_t) "/proc/self/exe",
	};
	int type = uprobes_type(), fd;
	uint64_t offset;

	*state = FEATURE_NO;
	if (type < 0 || !own_offset(at, &offset))
		return -1;
	attr.type = type;
	attr.probe_offset = offset;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 && (errno == EPERM || errno == EACCES))
		*state = FEATURE_UNSEEN;
	return fd;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Of one hit; every hit must have been counted. */
static enum feature_state time_uprobe(void (*at)(void), uint64_t *hit_ns)
{
	enum feature_state state;
	int fd = open_uprobe(at, &state);
	uint64_t chunk_ns[CHUNKS], counted = 0;

	if (fd < 0)
		return state;
	for (int i = 0; i < CHUNKS; i++) {
		uint64_t begin = now_ns();

		for (int j = 0; j < HITS; j++)
			at();
		chunk_ns[i] = now_ns() - begin;
	}
	if (read(fd, &counted, sizeof(counted)) == sizeof(counted) && counted == CHUNKS * HITS) {
		qsort(chunk_ns, CHUNKS, sizeof(*chunk_ns), compare);
		*hit_ns = chunk_ns[CHUNKS / 2] / HITS;
		state = FEATURE_YES;
	}
	close(fd);
	return state;
}

/* ---- instructions ---- */

/*
 * Timing would be a guess. For stepping the kernel maps a page of copies into the process, for its
 * calls one that they go to (kernel/events/uprobes.c, arch/x86/kernel/uprobes.c); emulation needs
 * neither.
 */
static enum feature_way way_here(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	enum feature_way way = f ? WAY_EMULATED : WAY_UNKNOWN;
	char line[4352];

	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, "[uprobes-trampoline]"))
			way = WAY_CALLED;
		else if (strstr(line, "[uprobes]") && way == WAY_EMULATED)
			way = WAY_STEPPED;
	}
	if (f)
		fclose(f);
	return way;
}

/* In a child: what one kind has brought about must not be taken for what the next has. */
static void try_instruction(struct features_insn *insn)
{
	struct {
		enum feature_way way;
		uint64_t hit_ns;
	} answer = {};
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return;
	pid = fork();
	if (!pid) {
		void (*at)(void) = (void (*)(void))insn->code;

		if (time_uprobe(at, &answer.hit_ns) == FEATURE_YES)
			answer.way = way_here();
		_exit(write(ends[1], &answer, sizeof(answer)) != sizeof(answer));
	}
	close(ends[1]);
	if (pid > 0 && read(ends[0], &answer, sizeof(answer)) == sizeof(answer)) {
		insn->way = answer.way;
		insn->hit_ns = answer.hit_ns;
	}
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

const struct features_insn *features_instructions(size_t *count)
{
	*count = sizeof(kinds) / sizeof(*kinds);
	for (size_t i = 0; i < *count; i++) {
		kinds[i].way = WAY_UNKNOWN;
		try_instruction(&kinds[i]);
	}
	return kinds;
}

/* ---- programs and maps ---- */

#define CALL(helper)                                                                               \
	{                                                                                          \
		.code = BPF_JMP | BPF_CALL, .imm = (helper)                                        \
	}
#define RETURN_NOTHING                                                                             \
	{.code = BPF_ALU64 | BPF_MOV | BPF_K},                                                     \
	{                                                                                          \
		.code = BPF_JMP | BPF_EXIT                                                         \
	}

static enum feature_state state_of(int fd)
{
	if (fd >= 0) {
		close(fd);
		return FEATURE_YES;
	}
	return fd == -EPERM ? FEATURE_UNSEEN : FEATURE_NO;
}

static enum feature_state try_program(enum bpf_prog_type type, int btf_id,
				      const struct bpf_insn *insns, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .attach_btf_id = btf_id,
		    .expected_attach_type = btf_id ? BPF_TRACE_RAW_TP : 0);

	return state_of(bpf_prog_load(type, NULL, "GPL", insns, count, &opts));
}

static void try_programs(enum feature_state has[FEATURES])
{
	static const struct bpf_insn nothing[] = {RETURN_NOTHING};
	static const struct bpf_insn cookie[] = {CALL(BPF_FUNC_get_attach_cookie), RETURN_NOTHING};
	/* sched_switch's second argument is the task that leaves. */
	static const struct bpf_insn registers[] = {
		{.code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 1, .src_reg = 1, .off = 8},
		CALL(BPF_FUNC_task_pt_regs),
		RETURN_NOTHING,
	};
	int id = has[FEATURE_BTF] == FEATURE_YES
			 ? libbpf_find_vmlinux_btf_id("sched_switch", BPF_TRACE_RAW_TP)
			 : -ENOENT;

	has[FEATURE_PROGRAM] = try_program(BPF_PROG_TYPE_KPROBE, 0, nothing, 2);
	has[FEATURE_COOKIE] = try_program(BPF_PROG_TYPE_KPROBE, 0, cookie, 3);
	has[FEATURE_SWITCH] =
		id > 0 ? try_program(BPF_PROG_TYPE_TRACING, id, nothing, 2) : FEATURE_NO;
	has[FEATURE_REGISTERS] =
		id > 0 ? try_program(BPF_PROG_TYPE_TRACING, id, registers, 4) : FEATURE_NO;
}

static enum feature_state map_type(enum bpf_map_type type)
{
	int ret = libbpf_probe_bpf_map_type(type, NULL);

	return ret > 0 ? FEATURE_YES : FEATURE_NO;
}

const char *feature_name(enum feature feature)
{
	static const char *const names[FEATURES] = {
		[FEATURE_BTF] = "BTF",
		[FEATURE_UPROBE] = "uprobes",
		[FEATURE_PROGRAM] = "uprobe programs",
		[FEATURE_COOKIE] = "attach cookies",
		[FEATURE_SWITCH] = "sched_switch",
		[FEATURE_REGISTERS] = "task registers",
		[FEATURE_RING_BUFFER] = "ring buffer",
		[FEATURE_TASK_STORAGE] = "task storage",
	};

	return names[feature];
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

void features_probe(struct features *f)
{
	libbpf_print_fn_t print = libbpf_set_print(silent);

	*f = (struct features){};
	f->has[FEATURE_BTF] = access("/sys/kernel/btf/vmlinux", R_OK) ? FEATURE_NO : FEATURE_YES;
	f->has[FEATURE_UPROBE] = time_uprobe(bqlstat_emulated, &f->emulated_ns);
	if (f->has[FEATURE_UPROBE] == FEATURE_YES)
		time_uprobe(bqlstat_mov, &f->stepped_ns);
	else if (uprobes_multi_works()) /* which newer kernels allow to who may not have perf's */
		f->has[FEATURE_UPROBE] = FEATURE_YES;
	try_programs(f->has);
	/* libbpf's own probes do not tell "not allowed" from "not there". */
	if (f->has[FEATURE_PROGRAM] == FEATURE_UNSEEN) {
		f->has[FEATURE_RING_BUFFER] = f->has[FEATURE_TASK_STORAGE] = FEATURE_UNSEEN;
	} else {
		f->has[FEATURE_RING_BUFFER] = map_type(BPF_MAP_TYPE_RINGBUF);
		f->has[FEATURE_TASK_STORAGE] = map_type(BPF_MAP_TYPE_TASK_STORAGE);
	}
	libbpf_set_print(print);
}
