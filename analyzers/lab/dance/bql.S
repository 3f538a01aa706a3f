/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock functions with the names and the instruction shapes that Debian's QEMU has, in one of three
 * generations: GENERATION is 72, 100 or 111.
 *
 * In assembly, because what a seam map decodes must not depend on compiler, level or sanitizer. As in
 * QEMU the flag's accessors leave every argument register alone, and lock and unlock rely on that.
 */
#if GENERATION == 72
#define LOCK   qemu_mutex_lock_iothread_impl
#define UNLOCK qemu_mutex_unlock_iothread
#define LOCKED qemu_mutex_iothread_locked
#define LOCKER qemu_bql_mutex_lock_func
#else
#define LOCK   bql_lock_impl
#define UNLOCK bql_unlock
#define LOCKED bql_locked
#define LOCKER bql_mutex_lock_func
#endif

	.macro	function name
	.globl	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
#if GENERATION == 111
	endbr64
#endif
	.endm

	.macro	function_end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	.text
function get_locked
	.hidden	get_locked
	movq	locked@gottpoff(%rip), %rax
	movzbl	%fs:(%rax), %eax
	ret
function_end get_locked

function set_locked
	.hidden	set_locked
	movq	locked@gottpoff(%rip), %rax
	movb	%dil, %fs:(%rax)
	ret
function_end set_locked

function LOCKED
	jmp	get_locked
function_end LOCKED

function LOCK
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	movq	LOCKER(%rip), %rcx
	call	get_locked
	testb	%al, %al
	jne	1f
	movl	%esi, %edx
#if GENERATION == 111
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	movq	%rdi, %rsi
	leaq	bql(%rip), %rdi
	jmp	*%rcx
	.cfi_adjust_cfa_offset 8
#else
	movq	%rdi, %rsi
	leaq	bql(%rip), %rdi
	call	*%rcx
	movl	$1, %edi
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	jmp	set_locked
	.cfi_adjust_cfa_offset 8
#endif
1:	call	dance_lock_misused
function_end LOCK

function UNLOCK
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	get_locked
	testb	%al, %al
	je	1f
#if GENERATION != 111
	xorl	%edi, %edi
	call	set_locked
#endif
	movl	$0, %edx
	leaq	unlock_file(%rip), %rsi
	leaq	bql(%rip), %rdi
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	jmp	qemu_mutex_unlock_impl
	.cfi_adjust_cfa_offset 8
1:	call	dance_lock_misused
function_end UNLOCK

#if GENERATION == 111
function bql_update_status
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	get_locked
	cmpb	%al, %dil
	je	1f
	movzbl	%dil, %edi
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	jmp	set_locked
	.cfi_adjust_cfa_offset 8
1:	call	dance_lock_misused
function_end bql_update_status
#endif

	/* Under one name for the C side; hidden, so that no map sees them. */
	.globl	dance_lock, dance_unlock
	.hidden	dance_lock, dance_unlock
	.set	dance_lock, LOCK
	.set	dance_unlock, UNLOCK

	.section .rodata
unlock_file:
	.asciz	"../../cpus.c"

	.data
	.balign	8
	.globl	LOCKER
	.type	LOCKER, @object
	.size	LOCKER, 8
LOCKER:	.quad	qemu_mutex_lock_impl

	.section .tbss, "awT", @nobits
locked:	.zero	1

	.section .note.GNU-stack, "", @progbits
