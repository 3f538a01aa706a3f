/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where detours enter our code: one stub a slot, in .text of a library with an unwind table, so that
 * every debugger and every unwinder crosses it (generated code would need registering with each).
 *
 * A stub is entered with everything as at the target's first instruction and calls the slot's
 * replacement. Callee-saved registers are the replacement's own duty; all others, and the vector
 * state, are put back afterwards but for the registers that carry the target's result.
 */

/* struct detour_slot in slots.h */
#define SLOT_SHIFT	5
#define SLOT_RESULTS	8
#define SLOT_BYPASS	16
#define SLOT_ORIGINAL	24

#define SAVED_RAX	-8
#define SAVED_RDX	-16

	.text

	/* Flags carry nothing across a call: they are all that a bypassed call changes. */
	.macro stub index
	.p2align 6
	.cfi_startproc
	endbr64
	pushq	%r11
	.cfi_adjust_cfa_offset 8
	movq	detour_slots + (\index << SLOT_SHIFT) + SLOT_BYPASS(%rip), %r11
	cmpl	$0, (%r11)
	popq	%r11
	.cfi_adjust_cfa_offset -8
	je	9f
	jmpq	*detour_slots + (\index << SLOT_SHIFT) + SLOT_ORIGINAL(%rip)
9:	pushq	$\index
	.cfi_adjust_cfa_offset 8
	jmp	detour_enter
	.cfi_endproc
	.endm

	.p2align 6
	.globl	detour_stubs
	.hidden	detour_stubs
	.type	detour_stubs, @function
detour_stubs:
	/* DETOUR_SLOTS */
	.irp	index, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, \
		16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	stub	\index
	.endr
	.p2align 6
	.size	detour_stubs, . - detour_stubs
	.globl	detour_stubs_end
	.hidden	detour_stubs_end
detour_stubs_end:

	.p2align 4
	.type	detour_enter, @function
detour_enter:
	.cfi_startproc
	.cfi_def_cfa_offset 16
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	pushq	%rax
	pushq	%rdx
	pushq	%rcx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11

	subq	detour_vector_bytes(%rip), %rsp
	andq	$-64, %rsp
	cmpl	$0, detour_vector_mask(%rip)
	je	1f
	/* xsave leaves most of the area's header as it finds it, xrstor wants it zero. */
	xorl	%eax, %eax
	movq	%rax, 512(%rsp)
	movq	%rax, 520(%rsp)
	movq	%rax, 528(%rsp)
	movq	%rax, 536(%rsp)
	movq	%rax, 544(%rsp)
	movq	%rax, 552(%rsp)
	movq	%rax, 560(%rsp)
	movq	%rax, 568(%rsp)
	movl	detour_vector_mask(%rip), %eax
	xorl	%edx, %edx
	xsave64	(%rsp)
	jmp	2f
1:	fxsave64 (%rsp)
2:
	/* The seventh and eighth argument, or whatever stands there. */
	pushq	32(%rbp)
	pushq	24(%rbp)
	movq	SAVED_RDX(%rbp), %rdx
	movq	SAVED_RAX(%rbp), %rax
	movq	8(%rbp), %r11
	shlq	$SLOT_SHIFT, %r11
	leaq	detour_slots(%rip), %r10
	callq	*(%r10,%r11)
	addq	$16, %rsp

	movq	8(%rbp), %r11
	shlq	$SLOT_SHIFT, %r11
	leaq	detour_slots(%rip), %r10
	movl	SLOT_RESULTS(%r10,%r11), %r11d
	cmpl	$1, %r11d
	jb	3f
	movq	%rax, SAVED_RAX(%rbp)
	je	3f
	movq	%rdx, SAVED_RDX(%rbp)
3:
	movl	detour_vector_mask(%rip), %eax
	testl	%eax, %eax
	je	4f
	xorl	%edx, %edx
	xrstor64 (%rsp)
	jmp	5f
4:	fxrstor64 (%rsp)
5:
	leaq	-72(%rbp), %rsp
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rcx
	popq	%rdx
	popq	%rax
	popq	%rbp
	.cfi_restore %rbp
	.cfi_def_cfa %rsp, 16
	leaq	8(%rsp), %rsp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	detour_enter, . - detour_enter

	.section .note.GNU-stack, "", @progbits
