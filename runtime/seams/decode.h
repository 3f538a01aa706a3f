/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions: decoding, where control goes next, what the kernel's uprobes emulate, and walking
 * over all the bytes of one function, its cold part included. Knows x86-64, not QEMU.
 */
#ifndef SEAMS_DECODE_H
#define SEAMS_DECODE_H

#include <Zydis/Zydis.h>

#include "runtime/seams/image.h"

#define WALK_RANGES 8

enum flow {
	FLOW_NEXT,	    /* falls through */
	FLOW_CALL,	    /* call rel32 */
	FLOW_CALL_INDIRECT, /* call *x */
	FLOW_JUMP,	    /* jmp rel */
	FLOW_JUMP_INDIRECT, /* jmp *x */
	FLOW_BRANCH,	    /* jcc rel, and the odd ones: loop, jrcxz, xbegin */
	FLOW_END,	    /* ret, ud2, hlt, int3: nothing follows */
};

struct insn {
	uint64_t vaddr;
	const uint8_t *bytes;
	uint32_t length;
	enum flow flow;
	uint64_t target; /* of FLOW_CALL, FLOW_JUMP, FLOW_BRANCH */
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT]; /* by decode_full() only */
};

/* Length and flow only: three times faster. */
bool decode_flow(const uint8_t *bytes, size_t size, uint64_t vaddr, struct insn *insn);
bool decode_full(const uint8_t *bytes, size_t size, uint64_t vaddr, struct insn *insn);

/* Would the kernel's uprobes emulate it, rather than single-step a copy? */
bool insn_emulated(const struct insn *insn);
bool insn_is_nop5(const struct insn *insn);
/* Does it write any part of the 64-bit register (as an explicit or hidden operand)? */
bool insn_writes(const struct insn *insn, ZydisRegister reg);
/* Loads an address constant into a 64-bit register: lea x(%rip),%reg or mov $x,%reg32. */
bool insn_loads_address(const struct insn *insn, ZydisRegister *reg, uint64_t *address);
/* Copies a whole 64-bit register: what code that was not optimized does between any two uses. */
bool insn_copies(const struct insn *insn, ZydisRegister *to, ZydisRegister *from);
void insn_text(const struct insn *insn, char *text, size_t size);

/*
 * The address constants that registers hold, on one straight run of instructions: whatever is not
 * the next instruction forgets them all.
 */
struct constants {
	uint64_t values[16]; /* 0: not known */
};

void constants_step(struct constants *c, const struct insn *insn);
uint64_t constants_in(const struct constants *c, ZydisRegister reg);

/*
 * All instructions of the function at `start`, in file order, then those of the fragments it jumps
 * into (gcc puts cold paths elsewhere). `broken` is set when some bytes did not decode, or there
 * are more fragments than fit.
 */
struct walk {
	const struct image *image;
	struct image_range ranges[WALK_RANGES];
	unsigned int n_ranges;
	unsigned int current;
	uint64_t at;
	bool full;
	bool broken;
};

bool walk_begin(struct walk *walk, const struct image *image, uint64_t start, bool full);
bool walk_next(struct walk *walk, struct insn *insn);

/* seam_extent() with the whole function in view, as the unwind table bounds it, cold part included.
 */
uint32_t function_extent(const struct image *image, uint64_t vaddr, uint32_t need,
			 const char **refusal);

#endif
