/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lab's guest: one boot sector that keeps RAM busy and proves on the serial port that it lives.
 *
 * It makes the first `fill` pages from 1 MiB up non-zero and distinct, then for ever: checks that
 * each of the first `dirty` pages holds what it wrote there last, writes the next value, writes
 * `hammer` times to an address that nothing answers at (each takes the BQL), sends one letter to COM1, and sleeps until the next timer tick. A page that holds anything else (a page lost
 * or stale after a migration) makes it send '!' from then on.
 *
 * Every address is computed against 0x7c00, where the firmware loads the sector, so the assembler
 * resolves all of them and this needs no link step: it is plain data of liblab.
 */
#include "analyzers/lab/guest.h"

#define AT(label) ((label) - lab_guest_sector + 0x7c00)
#define FIRST	  0x100000
#define PAGE	  4096
#define NOWHERE	  0xa0000000		/* in the hole for PCI, where no device is */
#define COM1	  0x3f8
#define PIT	  0x40
#define PIC1	  0x20
#define PIC2	  0xa0

	.section .rodata
	.globl	lab_guest_sector
	.balign	16
	.code16
lab_guest_sector:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	inb	$0x92, %al		/* A20 on, and not the reset bit */
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
	lgdtl	AT(gdtr)
	lidtl	AT(idtr)
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$8, $AT(protected)

	.code32
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x7000, %esp

	movb	$0xfe, %al		/* the timer interrupt only */
	outb	%al, $PIC1 + 1
	movb	$0xff, %al
	outb	%al, $PIC2 + 1
	movb	$0x34, %al		/* channel 0, both bytes, rate generator */
	outb	%al, $PIT + 3
	movw	AT(divisor), %ax
	outb	%al, $PIT
	movb	%ah, %al
	outb	%al, $PIT

	movl	$1, %ebx		/* round: a page holds its address + round */
	movl	$FIRST, %edi
	movl	AT(fill), %ecx
1:	leal	(%edi, %ebx), %eax
	movl	%eax, (%edi)
	addl	$PAGE, %edi
	decl	%ecx
	jnz	1b

round:
	movl	$FIRST, %edi
	movl	AT(dirty), %ecx
1:	leal	(%edi, %ebx), %eax
	cmpl	%eax, (%edi)
	jne	lost
	incl	(%edi)
	addl	$PAGE, %edi
	decl	%ecx
	jnz	1b
	incl	%ebx

	movl	AT(hammer), %ecx
	jecxz	2f
1:	movb	%al, NOWHERE
	decl	%ecx
	jnz	1b
2:
	movb	%bl, %al
	andb	$15, %al
	addb	$'A', %al
	call	say
	jmp	round

lost:
	movb	$'!', %al
	call	say
	jmp	lost

/*
 * Send %al, then sleep. Interrupts are open only in hlt itself (sti takes effect one instruction
 * late), so a tick that came during the round ends the sleep at once and none is missed.
 */
say:
	movw	$COM1, %dx
	outb	%al, %dx
	cmpw	$0, AT(divisor)
	je	1f
	sti
	hlt
	cli
1:	ret

tick:
	pushl	%eax
	movb	$0x20, %al
	outb	%al, $PIC1
	popl	%eax
	iretl

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9a000000ffff	/* 8: code, flat */
	.quad	0x00cf92000000ffff	/* 16: data, flat */
gdtr:
	.word	gdtr - gdt - 1
	.long	AT(gdt)
/* The firmware leaves the timer at vector 8; its gate is the only one, so the table starts 8 before. */
gate:
	.word	AT(tick), 8, 0x8e00, 0
idtr:
	.word	9 * 8 - 1
	.long	AT(gate) - 8 * 8

	.fill	LAB_GUEST_HAMMER - (. - lab_guest_sector), 1, 0
hammer:	.long	0
fill:	.long	256
dirty:	.long	256
divisor:
	.word	0
	.fill	510 - (. - lab_guest_sector), 1, 0
	.word	0xaa55

	.section .note.GNU-stack, "", @progbits
