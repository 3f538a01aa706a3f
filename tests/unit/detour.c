/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The detour engine: every export of two QEMU binaries relocated and compared by decoding; real
 * detours on functions of this program; registers, unwinding, refusals, all or nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <unwind.h>

#include <Zydis/Zydis.h>
#include <glib.h>

#include "analyzers/lab/lab.h"
#include "runtime/detour/detour.h"
#include "runtime/detour/relocate.h"
#include "runtime/seams/seams.h"
#include "tests/unit/relocated.h"

#ifndef PR_SET_MDWE /* Linux 6.3 */
#define PR_SET_MDWE		 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#define PR_GET_MDWE		 66
#endif

/* ---- targets, on pages of their own: the engine takes execution from a page while it patches ----
 */

/*
 * Each begins with one of the forms that relocation knows and says in its name how many bytes a
 * detour takes of it. clang-format off: a listing.
 */
/* clang-format off */
__asm__("	.section .targets, \"ax\", @progbits\n"
	"	.balign 4096\n"
	"	.globl target_plain, target_rip, target_call, target_short, target_near, target_jmp\n"
	"	.globl target_wide, target_void, target_ibt, target_cold, callee\n"
	"target_plain:\n"	/* 6 */
	"	push %rbx\n"
	"	mov %edi, %ebx\n"
	"	lea 1(%rbx), %eax\n"
	"	pop %rbx\n"
	"	ret\n"
	"	.balign 16\n"
	"target_rip:\n"		/* 7: an immediate behind the displacement */
	"	cmpl $7, seven(%rip)\n"
	"	sete %al\n"
	"	movzbl %al, %eax\n"
	"	add %edi, %eax\n"
	"	ret\n"
	"	.balign 16\n"
	"target_call:\n"	/* 9 */
	"	sub $8, %rsp\n"
	"	call callee\n"
	"	add $8, %rsp\n"
	"	ret\n"
	"	.balign 16\n"
	"callee:\n"
	"	mov (%rsp), %rax\n"
	"	mov %rax, returns_to(%rip)\n"
	"	lea 1(%rdi), %eax\n"
	"	ret\n"
	"	.balign 16\n"
	"target_short:\n"	/* 6 */
	"	test %edi, %edi\n"
	"	js 1f\n"
	"	mov %edi, %eax\n"
	"	inc %eax\n"
	"	ret\n"
	"1:	mov $-1, %eax\n"
	"	ret\n"
	"	.balign 16\n"
	"target_near:\n"	/* 8 */
	"	test %edi, %edi\n"
	"	{disp32} js target_cold\n"
	"	lea 1(%rdi), %eax\n"
	"	ret\n"
	"	.balign 16\n"
	"target_jmp:\n"		/* 5 */
	"	{disp32} jmp callee\n"
	"	.balign 16\n"
	"target_wide:\n"	/* 6: two result registers */
	"	lea 1(%rdi), %eax\n"
	"	lea 2(%rdi), %edx\n"
	"	ret\n"
	"	.balign 16\n"
	"target_void:\n"	/* 6: touches nothing */
	"	movl $1, (%rdi)\n"
	"	ret\n"
	"	.balign 16\n"
	"target_ibt:\n"		/* 7 */
	"	endbr64\n"
	"	lea 1(%rdi), %eax\n"
	"	ret\n"
	"	.skip 256\n"
	"target_cold:\n"
	"	mov $-1, %eax\n"
	"	ret\n"
	"	.balign 4096\n"
	"	.text\n");
/* clang-format on */

extern int target_plain(int), target_rip(int), target_call(int), target_short(int),
	target_near(int), target_jmp(int), target_ibt(int);
extern void target_void(int *);
extern unsigned __int128 target_wide(int);
extern int callee(int);
int seven = 7;
uintptr_t returns_to;

/* Every vector and every caller-saved register gets another value. */
static void clobber(void)
{
	__asm__ volatile("mov $0xdead, %%eax; mov %%rax, %%rcx; mov %%rax, %%rdx; mov %%rax, %%rsi;"
			 "mov %%rax, %%rdi; mov %%rax, %%r8; mov %%rax, %%r9; mov %%rax, %%r10;"
			 "mov %%rax, %%r11; pcmpeqd %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1;"
			 "movaps %%xmm0, %%xmm2; movaps %%xmm0, %%xmm3; movaps %%xmm0, %%xmm4;"
			 "movaps %%xmm0, %%xmm5; movaps %%xmm0, %%xmm6; movaps %%xmm0, %%xmm7;"
			 "movaps %%xmm0, %%xmm8; movaps %%xmm0, %%xmm9; movaps %%xmm0, %%xmm10;"
			 "movaps %%xmm0, %%xmm11; movaps %%xmm0, %%xmm12; movaps %%xmm0, %%xmm13;"
			 "movaps %%xmm0, %%xmm14; movaps %%xmm0, %%xmm15" ::
				 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
				   "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
				   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
				   "xmm15");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroall");
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile("vpxord %%zmm16, %%zmm16, %%zmm16; vmovdqa64 %%zmm16, %%zmm17;"
				 "vmovdqa64 %%zmm16, %%zmm31; kxorw %%k1, %%k1, %%k1;"
				 "kxorw %%k7, %%k7, %%k7" ::
					 : "memory");
}

/* ---- real detours ---- */

static struct {
	long arg[8];
	unsigned int calls;
	bool aligned;
	bool unwound;
	void *caller;
} seen;

static _Unwind_Reason_Code look_for_caller(struct _Unwind_Context *context, void *unused)
{
	(void)unused;
	if (_Unwind_FindEnclosingFunction((void *)(_Unwind_GetIP(context) - 1)) == seen.caller)
		seen.unwound = true;
	return _URC_NO_REASON;
}

static int (*original_int)(int);
static unsigned __int128 (*original_wide)(int);
static void (*original_void)(int *);

__attribute__((noinline)) static int replacement_int(long a, long b, long c, long d, long e, long f,
						     long g, long h)
{
	int r;

	memcpy(seen.arg, (long[]){a, b, c, d, e, f, g, h}, sizeof(seen.arg));
	seen.calls++;
	seen.aligned = !((uintptr_t)__builtin_frame_address(0) & 15);
	_Unwind_Backtrace(look_for_caller, NULL);
	r = original_int((int)a);
	clobber();
	return r + 100;
}

static unsigned __int128 replacement_wide(int a)
{
	unsigned __int128 r = original_wide(a);

	clobber();
	return r;
}

static void replacement_void(int *a)
{
	original_void(a);
	clobber();
}

static void detour(void *target, uint32_t extent, void *replacement, void *original,
		   unsigned int results)
{
	uint8_t code[64];
	struct detour_error err = {""};
	struct detour_request req = {
		.name = "target",
		.target = target,
		.code = code,
		.extent = extent,
		.replacement = replacement,
		.original = original,
		.results = results,
	};

	memcpy(code, target, sizeof(code));
	g_assert_cmpint(detour_install(&req, 1, &err), ==, 0);
	g_assert_cmpstr(err.text, ==, "");
	g_assert_cmpint(*(uint8_t *)target, ==, 0xe9);
	g_assert_cmpmem((uint8_t *)target + 5, 59, code + 5, 59);
}

struct call {
	const char *name;
	int (*target)(int);
	uint32_t extent;
	int for_41, for_minus_1;
};

static const struct call calls[] = {
	{"plain", target_plain, 6, 42, 0},     {"rip", target_rip, 7, 42, 0},
	{"call", target_call, 9, 42, 0},       {"jcc-rel8", target_short, 6, 42, -1},
	{"jcc-rel32", target_near, 8, 42, -1}, {"jmp-rel32", target_jmp, 5, 42, 0},
	{"endbr", target_ibt, 7, 42, 0},
};

__attribute__((noinline)) static void test_call(const void *data)
{
	const struct call *call = data;
	int (*volatile target)(int) = call->target;
	int (*volatile eight)(long, long, long, long, long, long, long, long) =
		(void *)call->target;

	g_assert_cmpint(target(41), ==, call->for_41);
	g_assert_cmpint(target(-1), ==, call->for_minus_1);

	memset(&seen, 0, sizeof(seen));
	seen.caller = test_call;
	detour((void *)call->target, call->extent, replacement_int, &original_int, 1);
	g_assert_cmpint(target(-1), ==, call->for_minus_1 + 100);
	g_assert_cmpint(eight(41, 42, 43, 44, 45, 46, 47, 48), ==, call->for_41 + 100);
	g_assert_cmpint(seen.calls, ==, 2);
	g_assert_cmpmem(seen.arg, sizeof(seen.arg), ((long[]){41, 42, 43, 44, 45, 46, 47, 48}), 64);
	g_assert_true(seen.aligned);
	g_assert_true(seen.unwound);
	if (call->target == target_call)
		g_assert_cmphex(returns_to, ==, (uintptr_t)target_call + call->extent);
}

/* ---- registers ---- */

struct registers {
	uint64_t general[9]; /* rax rdx rcx rsi rdi r8 r9 r10 r11 */
	uint64_t mask[8];
	uint8_t vector[32][64];
};

/*
 * Load everything, call, store everything; at file level, so that no compiler is in between.
 * `width`: 0 xmm, 1 ymm, 2 zmm and the masks.
 */
void call_with(struct registers *regs, void *target, long width);

/* clang-format off */
#define LOW(X)	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define SSE(X)	LOW(X) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define ALL(X)	SSE(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) \
		X(28) X(29) X(30) X(31)
#define VECTOR(n)	"136+64*" #n "(%rbx)"
#define XMM_LOAD(n)	"movups " VECTOR(n) ", %xmm" #n "\n"
#define XMM_STORE(n)	"movups %xmm" #n ", " VECTOR(n) "\n"
#define YMM_LOAD(n)	"vmovups " VECTOR(n) ", %ymm" #n "\n"
#define YMM_STORE(n)	"vmovups %ymm" #n ", " VECTOR(n) "\n"
#define ZMM_LOAD(n)	"vmovups " VECTOR(n) ", %zmm" #n "\n"
#define ZMM_STORE(n)	"vmovups %zmm" #n ", " VECTOR(n) "\n"
#define MASK_LOAD(n)	"kmovw 72+8*" #n "(%rbx), %k" #n "\n"
#define MASK_STORE(n)	"kmovw %k" #n ", 72+8*" #n "(%rbx)\n"

__asm__("	.text\n"
	"	.globl call_with\n"
	"call_with:\n"
	"	push %rbx; push %r12; push %r13\n"
	"	mov %rdi, %rbx; mov %rsi, %r12; mov %rdx, %r13\n"
	"	cmp $1, %r13; ja 2f; je 1f\n"
	SSE(XMM_LOAD) "	jmp 3f\n"
	"1:" SSE(YMM_LOAD) "	jmp 3f\n"
	"2:" ALL(ZMM_LOAD) LOW(MASK_LOAD)
	"3:	mov (%rbx), %rax; mov 8(%rbx), %rdx; mov 16(%rbx), %rcx; mov 24(%rbx), %rsi\n"
	"	mov 32(%rbx), %rdi; mov 40(%rbx), %r8; mov 48(%rbx), %r9; mov 56(%rbx), %r10\n"
	"	mov 64(%rbx), %r11\n"
	"	call *%r12\n"
	"	mov %rax, (%rbx); mov %rdx, 8(%rbx); mov %rcx, 16(%rbx); mov %rsi, 24(%rbx)\n"
	"	mov %rdi, 32(%rbx); mov %r8, 40(%rbx); mov %r9, 48(%rbx); mov %r10, 56(%rbx)\n"
	"	mov %r11, 64(%rbx)\n"
	"	cmp $1, %r13; ja 2f; je 1f\n"
	SSE(XMM_STORE) "	jmp 3f\n"
	"1:" SSE(YMM_STORE) "	jmp 3f\n"
	"2:" ALL(ZMM_STORE) LOW(MASK_STORE)
	"	vzeroupper\n"
	"3:	pop %r13; pop %r12; pop %rbx\n"
	"	ret\n");
/* clang-format on */

enum {
	RAX,
	RDX,
	RDI = 4,
};

static void expect_preserved(void *target, uint64_t rdi, const struct registers *results,
			     unsigned int n_results)
{
	long width = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
	struct registers before = {0}, after;
	uint8_t *bytes = (uint8_t *)&before;

	for (size_t i = 0; i < sizeof(before); i++)
		bytes[i] = (uint8_t)(i * 7 + 3);
	for (int k = 0; k < 8; k++)
		before.mask[k] &= 0xffff; /* what every AVX-512 has */
	before.general[RDI] = rdi;
	after = before;
	call_with(&after, target, width);
	for (unsigned int i = 0; i < n_results; i++)
		before.general[i] = results->general[i];
	g_assert_cmpmem(after.general, sizeof(after.general), before.general,
			sizeof(before.general));
	g_assert_cmpmem(after.mask, sizeof(after.mask), before.mask, sizeof(before.mask));
	g_assert_cmpmem(after.vector, sizeof(after.vector), before.vector, sizeof(before.vector));
	g_test_message("compared %s", width == 2 ? "zmm and masks" : width ? "ymm" : "xmm");
}

static void test_registers(void)
{
	struct registers results = {.general = {42, 43}};
	int touched = 0;

	/* Undetoured, each leaves alone all but its own results: what -fipa-ra lets callers assume.
	 */
	expect_preserved(target_void, (uintptr_t)&touched, &results, 0);
	expect_preserved(target_wide, 41, &results, 2);

	detour(target_void, 6, replacement_void, &original_void, 0);
	detour(target_wide, 6, replacement_wide, &original_wide, 2);
	touched = 0;
	expect_preserved(target_void, (uintptr_t)&touched, &results, 0);
	g_assert_cmpint(touched, ==, 1);
	expect_preserved(target_wide, 41, &results, 2);
}

/* ---- refusals ---- */

/* Four pages of code, each with an endless supply of `lea 1(%rdi), %eax; ret`. */
static uint8_t *fresh_code(void)
{
	static const uint8_t function[8] = {0x8d, 0x87, 1, 0, 0, 0, 0xc3, 0x90};
	uint8_t *code =
		mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	g_assert_true(code != MAP_FAILED);
	for (size_t i = 0; i < 4 * 4096; i += sizeof(function))
		memcpy(code + i, function, sizeof(function));
	g_assert_cmpint(mprotect(code, 4 * 4096, PROT_READ | PROT_EXEC), ==, 0);
	return code;
}

/* Five requests, all of them good. The code is the target's own bytes as they are now. */
static void five(struct detour_request reqs[5], uint8_t *code, uint8_t *copy, void *originals[5])
{
	static const char *const names[] = {"first", "second", "third", "fourth", "fifth"};

	memcpy(copy, code, 4 * 4096);
	for (int i = 0; i < 5; i++)
		reqs[i] = (struct detour_request){
			.name = names[i],
			.target = code + i * 3 * 1024,
			.code = copy + i * 3 * 1024,
			.extent = 6,
			.replacement = replacement_int,
			.original = &originals[i],
			.results = 1,
		};
}

/* Which mappings there are: what an engine that gave up may not have changed. */
static char *mappings(void)
{
	char *maps = NULL;
	GString *kept = g_string_new("");
	char **lines;

	g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (char **line = lines; *line; line++)
		if (strstr(*line, "r-xp") || strstr(*line, "rwxp"))
			g_string_append_printf(kept, "%s\n", *line);
	g_strfreev(lines);
	g_free(maps);
	return g_string_free(kept, FALSE);
}

enum spoil {
	SPOIL_MEMORY,
	SPOIL_CODE,
	SPOIL_EXTENT,
	SPOIL_OVERLAP,
	SPOIL_NOT_CODE,
};

static void test_all_or_nothing(const void *data)
{
	static const int codes[] = {
		[SPOIL_MEMORY] = -EBUSY,   [SPOIL_CODE] = -ENOTSUP,    [SPOIL_EXTENT] = -EINVAL,
		[SPOIL_OVERLAP] = -EINVAL, [SPOIL_NOT_CODE] = -EFAULT,
	};
	enum spoil spoil = GPOINTER_TO_INT(data);
	g_autofree uint8_t *copy = g_malloc(4 * 4096);
	g_autofree uint8_t *before = g_malloc(4 * 4096);
	g_autofree char *maps_before = NULL, *maps_after = NULL;
	struct detour_error err = {""};
	struct detour_request reqs[5];
	void *originals[5] = {0};
	uint8_t *code = fresh_code();
	static int not_code;

	five(reqs, code, copy, originals);
	switch (spoil) {
	case SPOIL_MEMORY: /* a foreign int3: the kernel's uprobe, a debugger's breakpoint */
		g_assert_cmpint(mprotect(code, 4 * 4096, PROT_READ | PROT_WRITE), ==, 0);
		((uint8_t *)reqs[2].target)[3] = 0xcc;
		g_assert_cmpint(mprotect(code, 4 * 4096, PROT_READ | PROT_EXEC), ==, 0);
		break;
	case SPOIL_CODE: /* loop, nops */
		g_assert_cmpint(mprotect(code, 4 * 4096, PROT_READ | PROT_WRITE), ==, 0);
		memcpy(reqs[2].target, (uint8_t[]){0xe2, 0x10, 0x90, 0x90, 0x90, 0x90}, 6);
		memcpy((void *)reqs[2].code, (uint8_t[]){0xe2, 0x10, 0x90, 0x90, 0x90, 0x90}, 6);
		g_assert_cmpint(mprotect(code, 4 * 4096, PROT_READ | PROT_EXEC), ==, 0);
		break;
	case SPOIL_EXTENT:
		reqs[2].extent = 4;
		break;
	case SPOIL_OVERLAP:
		reqs[2].target = (uint8_t *)reqs[1].target + 5;
		reqs[2].code = reqs[1].code + 5;
		break;
	case SPOIL_NOT_CODE:
		reqs[2].target = &not_code;
		break;
	}
	memcpy(before, code, 4 * 4096);
	maps_before = mappings();
	g_assert_cmpint(detour_install(reqs, 5, &err), ==, codes[spoil]);
	maps_after = mappings();
	g_test_message("%s", err.text);
	g_assert_nonnull(strstr(err.text, "third"));
	g_assert_cmpmem(code, 4 * 4096, before, 4 * 4096);
	g_assert_cmpstr(maps_after, ==, maps_before);
	munmap(code, 4 * 4096);
}

/*
 * The same five unspoilt: what the test above refuses for is the one spoilt thing. In a process of
 * its own, as the next: slots are never given back.
 */
static void test_five(void)
{
	g_autofree uint8_t *copy = g_malloc(4 * 4096);
	g_autofree char *maps = NULL;
	struct detour_error err = {""};
	struct detour_request reqs[5];
	void *originals[5] = {0};
	uint8_t *code;

	if (!g_test_subprocess()) {
		g_test_trap_subprocess(NULL, 0, 0);
		g_test_trap_assert_passed();
		return;
	}
	code = fresh_code();
	five(reqs, code, copy, originals);
	g_assert_cmpint(detour_install(reqs, 5, &err), ==, 0);
	for (int i = 0; i < 5; i++) {
		g_assert_cmpint(*(uint8_t *)reqs[i].target, ==, 0xe9);
		original_int = originals[i];
		g_assert_cmpint(((int (*)(int))reqs[i].target)(41), ==, 142);
	}
	maps = mappings();
	g_assert_null(strstr(maps, "rwx"));
}

/* While its word is set a call goes to the target, in every register as if there were no detour. */
static void test_bypass(void)
{
	g_autofree uint8_t *copy = g_malloc(4 * 4096);
	const struct registers results = {.general = {42}};
	struct detour_error err = {""};
	struct detour_request reqs[5];
	void *originals[5] = {0};
	uint32_t bypass = 1;
	uint8_t *code;

	if (!g_test_subprocess()) {
		g_test_trap_subprocess(NULL, 0, 0);
		g_test_trap_assert_passed();
		return;
	}
	code = fresh_code();
	five(reqs, code, copy, originals);
	reqs[3].bypass = &bypass;
	g_assert_cmpint(detour_install(reqs, 5, &err), ==, 0);
	for (int round = 0; round < 4; round++) {
		bypass = round % 2;
		for (int i = 0; i < 5; i++) {
			original_int = originals[i];
			g_assert_cmpint(((int (*)(int))reqs[i].target)(41), ==,
					i == 3 && bypass ? 42 : 142);
		}
	}
	expect_preserved(reqs[3].target, 41, &results, 1);
}

static void test_slots(void)
{
	g_autofree uint8_t *copy = g_malloc(4 * 4096);
	struct detour_error err = {""};
	struct detour_request reqs[5];
	void *originals[5] = {0};
	uint8_t *code;

	if (!g_test_subprocess()) {
		g_test_trap_subprocess(NULL, 0, 0);
		g_test_trap_assert_passed();
		return;
	}
	for (int i = 0; i < DETOUR_SLOTS / 5; i++) {
		five(reqs, fresh_code(), copy, originals);
		g_assert_cmpint(detour_install(reqs, 5, &err), ==, 0);
	}
	code = fresh_code();
	five(reqs, code, copy, originals);
	g_assert_cmpint(detour_install(reqs, 5, &err), ==, -ENOSPC);
	g_assert_cmpmem(code, 4 * 4096, copy, 4 * 4096);
	g_assert_cmpint(detour_install(reqs, DETOUR_SLOTS % 5, &err), ==, 0);
	g_assert_cmpint(detour_install(reqs + DETOUR_SLOTS % 5, 1, &err), ==, -ENOSPC);
}

/* Where the system forbids new code (systemd's MemoryDenyWriteExecute and the like): nothing. */
static void test_no_new_code(void)
{
	g_autofree uint8_t *copy = g_malloc(4 * 4096);
	struct detour_error err = {""};
	struct detour_request reqs[5];
	void *originals[5] = {0};
	uint8_t *code;

	if (g_test_subprocess()) {
		code = fresh_code();
		five(reqs, code, copy, originals);
		g_assert_cmpint(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0), ==, 0);
		g_assert_cmpint(detour_install(reqs, 5, &err), ==, -EACCES);
		g_assert_cmpmem(code, 4 * 4096, copy, 4 * 4096);
		return;
	}
	if (prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0) {
		g_test_skip("this kernel (before 6.3) has no PR_SET_MDWE");
		return;
	}
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_passed();
}

/* ---- relocation, by decoding ---- */

struct tally {
	unsigned int moved, refused, no_extent;
	GHashTable *reasons;
};

static bool relocate_export(const struct seam_function *f, void *opaque)
{
	/* Where near memory would typically lie: a little below the module. */
	const uint64_t bias = 0x555555554000, to = bias - 0x100000;
	struct tally *tally = opaque;
	uint8_t moved[RELOCATE_MAX];
	struct detour_error err;
	int n;

	if (!f->extent) {
		tally->no_extent++;
		return true;
	}
	n = relocate(f->code, f->extent, bias + f->vaddr, to, moved, &err);
	if (n < 0) {
		const char *why = strrchr(err.text, ':');

		tally->refused++;
		g_hash_table_insert(tally->reasons, g_strdup(why ? why : err.text),
				    g_strdup(f->name));
		return true;
	}
	tally->moved++;
	compare(f->code, f->extent, bias + f->vaddr, moved, (uint32_t)n, to);
	return true;
}

static void test_exports(const void *version)
{
	const char *why, *binary = lab_qemu_binary(version, &why);
	struct tally tally = {.reasons = g_hash_table_new(g_str_hash, g_str_equal)};
	struct seam_error err;
	struct seam_map *map;
	GHashTableIter iter;
	gpointer reason, name;

	if (!binary) {
		g_test_skip(why);
		return;
	}
	g_assert_cmpint(seam_map_open(binary, &map, &err), ==, 0);
	seam_map_each_function(map, relocate_export, &tally);
	g_test_message("%s: %u moved and compared, %u refused, %u without an extent",
		       (const char *)version, tally.moved, tally.refused, tally.no_extent);
	g_hash_table_iter_init(&iter, tally.reasons);
	while (g_hash_table_iter_next(&iter, &reason, &name))
		g_test_message("refused%s (%s)", (char *)reason, (char *)name);
	/* 7.2 exports about 9500 functions; refusals are the odd indirect call. */
	g_assert_cmpuint(tally.moved, >, 8000);
	g_assert_cmpuint(tally.refused, <, tally.moved / 100);
	seam_map_free(map);
}

struct refusal {
	const char *name;
	uint8_t code[16];
	uint32_t size;
	int result;
	uint64_t to;
};

static const struct refusal refusals[] = {
	{"loop", {0xe2, 0x10, 0x90, 0x90, 0x90}, 5, -ENOTSUP, 0x10000},
	{"jrcxz", {0xe3, 0x10, 0x90, 0x90, 0x90}, 5, -ENOTSUP, 0x10000},
	{"call-register", {0x55, 0x55, 0x55, 0xff, 0xd0}, 5, -ENOTSUP, 0x10000},
	{"call-memory", {0xff, 0x15, 0, 1, 0, 0}, 6, -ENOTSUP, 0x10000},
	{"call-midway", {0xe8, 0, 1, 0, 0, 0x90}, 6, -ENOTSUP, 0x10000},
	{"jump-into-itself", {0x90, 0x90, 0x90, 0x75, 0xfb}, 5, -ENOTSUP, 0x10000},
	{"data-in-itself", {0x8b, 0x05, 0xfb, 0xff, 0xff, 0xff}, 6, -ENOTSUP, 0x10000},
	{"after-return", {0xc3, 0x90, 0x90, 0x90, 0x90}, 5, -ENOTSUP, 0x10000},
	{"cut-short", {0x90, 0x90, 0x90, 0x90, 0xe8}, 5, -ENOTSUP, 0x10000},
	{"xbegin", {0xc7, 0xf8, 0, 1, 0, 0}, 6, -ENOTSUP, 0x10000},
	{"eip-relative", {0x67, 0x8b, 0x05, 0, 1, 0, 0}, 7, -ENOTSUP, 0x10000},
	{"too-far", {0x8b, 0x05, 0, 1, 0, 0}, 6, -ERANGE, 0x200000000},
	/* The control: what is refused above is refused for what it is. */
	{"nothing-wrong", {0x90, 0x90, 0x90, 0x75, 0x10}, 5, 1, 0x10000},
};

static void test_refusal(const void *data)
{
	const struct refusal *refusal = data;
	uint8_t moved[RELOCATE_MAX];
	struct detour_error err = {""};
	int r = relocate(refusal->code, refusal->size, 0x40000, refusal->to, moved, &err);

	g_assert_cmpint(r > 0 ? 1 : r, ==, refusal->result);
	g_test_message("%s", err.text);
}

/* ---- gdb ---- */

__attribute__((noinline)) static int called_from_main(void)
{
	int (*volatile target)(int) = target_plain;

	detour(target_plain, 6, replacement_int, &original_int, 1);
	return target(41) + 1; /* not a tail call: this frame is looked for */
}

static void test_gdb(void)
{
	g_autofree char *gdb = g_find_program_in_path("gdb");
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *out = NULL;
	const char *argv[] = {gdb,
			      "-nx",
			      "-batch",
			      "-ex",
			      "set debuginfod enabled off",
			      "-ex",
			      "break replacement_int",
			      "-ex",
			      "run",
			      "-ex",
			      "bt",
			      "--args",
			      self,
			      "--under-gdb",
			      NULL};
	g_autoptr(GError) error = NULL;

	if (!gdb) {
		g_test_skip("gdb is not installed");
		return;
	}
	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL,
				   NULL, &out, NULL, NULL, &error));
	g_test_message("%s", out);
	g_assert_nonnull(strstr(out, "in detour_enter"));
	g_assert_nonnull(strstr(out, "in called_from_main"));
	g_assert_nonnull(strstr(out, "in main"));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		enum spoil spoil;
	} spoils[] = {
		{"/detour/refuse/foreign-patch", SPOIL_MEMORY},
		{"/detour/refuse/code", SPOIL_CODE},
		{"/detour/refuse/extent", SPOIL_EXTENT},
		{"/detour/refuse/overlap", SPOIL_OVERLAP},
		{"/detour/refuse/not-code", SPOIL_NOT_CODE},
	};

	if (argc == 2 && !strcmp(argv[1], "--under-gdb"))
		return called_from_main() != 143;

	g_test_init(&argc, &argv, NULL);
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		g_autofree char *path = g_strdup_printf("/detour/call/%s", calls[i].name);

		g_test_add_data_func(path, &calls[i], test_call);
	}
	g_test_add_func("/detour/registers", test_registers);
	for (size_t i = 0; i < G_N_ELEMENTS(spoils); i++)
		g_test_add_data_func(spoils[i].path, GINT_TO_POINTER(spoils[i].spoil),
				     test_all_or_nothing);
	g_test_add_func("/detour/five", test_five);
	g_test_add_func("/detour/bypass", test_bypass);
	g_test_add_func("/detour/slots", test_slots);
	g_test_add_func("/detour/no-new-code", test_no_new_code);
	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		g_autofree char *path = g_strdup_printf("/detour/relocate/%s", refusals[i].name);

		g_test_add_data_func(path, &refusals[i], test_refusal);
	}
	g_test_add_data_func("/detour/relocate/exports-7.2", "7.2", test_exports);
	g_test_add_data_func("/detour/relocate/exports-10.0", "10.0", test_exports);
	g_test_add_func("/detour/gdb", test_gdb);
	return g_test_run();
}
