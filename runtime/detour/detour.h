/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Function entry patching: make calls of a function in this process arrive at a replacement.
 *
 *	target:  jmp near ---> near:  jmp *stub ---> stub: save every register, call replacement,
 *		 (5 bytes)	     (+-2 GiB)		   restore, return to target's caller
 *
 *	original: the target's first instructions, moved, then a jump behind them
 *
 * Knows no QEMU. x86-64 only. Nothing is ever removed again: a thread may be anywhere in it.
 */
#ifndef DETOUR_H
#define DETOUR_H

#include <stddef.h>
#include <stdint.h>

enum {
	DETOUR_SLOTS = 32, /* detours a process can hold */
};

struct detour_request {
	const char *name; /* for messages */
	void *target;
	/*
	 * The first `extent` bytes of the target as its file has them: whole instructions, 5 bytes
	 * at least, 64 at most, none of them jumped to from inside the function. A detour goes in
	 * only where memory equals them.
	 */
	const uint8_t *code;
	uint32_t extent;
	/*
	 * Called in the target's place, on the caller's stack, with its first eight integer
	 * arguments. Further ones, and any in vector registers, do not arrive.
	 */
	void *replacement;
	/* Filled in before the detour goes live: call this to run the target itself. */
	void **original;
	/*
	 * How many registers the target returns its result in: 0 void, 1 rax, 2 rax and rdx. Every
	 * other register, vector state included, is as the caller left it when the replacement
	 * returns: inside one translation unit gcc (-fipa-ra) lets callers count on registers that
	 * the target itself happens not to touch.
	 */
	unsigned int results;
	/*
	 * While this is not 0, calls go to the target itself, which costs 2 ns instead of 150.
	 * NULL: they never do.
	 */
	const uint32_t *bypass;
};

/* One clear sentence, without a trailing newline. */
struct detour_error {
	char text[256];
};

/*
 * All or nothing: 0, or a negative errno and a sentence, and not one byte of any target is changed.
 * Must be called while no other thread runs code of the targets (a constructor). -EBUSY: memory is
 * not what the file has, somebody else patches here. -ENOTSUP: an instruction that cannot be moved.
 * -ENOSPC: no room left for more detours, or no memory within reach of a target. -EACCES: this
 * process may not change code.
 */
int detour_install(const struct detour_request *requests, size_t count, struct detour_error *err);

/*
 * Could these `extent` bytes of code, linked at `address`, be moved elsewhere? Changes nothing. 0,
 * or a negative errno and the sentence that detour_install() would fail with.
 */
int detour_can_move(const uint8_t *code, uint32_t extent, uint64_t address,
		    struct detour_error *err);

#endif
