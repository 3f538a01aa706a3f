/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving instructions: whatever speaks of an address relative to itself is written anew, everything
 * else is copied, and what is neither is refused.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "runtime/detour/relocate.h"

struct writer {
	uint8_t *out;
	uint64_t to;
	uint32_t used;
	bool far; /* something lies outside the reach of a 32-bit displacement */
};

static uint64_t writer_at(const struct writer *w)
{
	return w->to + w->used;
}

static void put(struct writer *w, const void *bytes, size_t size)
{
	memcpy(w->out + w->used, bytes, size);
	w->used += size;
}

/* A 32-bit displacement to `address`, counted from `tail` bytes behind itself. */
static void put_rel32(struct writer *w, uint64_t address, uint32_t tail)
{
	int64_t rel = (int64_t)(address - (writer_at(w) + 4 + tail));
	int32_t rel32 = (int32_t)rel;

	w->far |= rel != rel32;
	put(w, &rel32, sizeof(rel32));
}

static void put_jmp(struct writer *w, uint64_t address)
{
	put(w, (uint8_t[]){0xe9}, 1);
	put_rel32(w, address, 0);
}

/*
 * The callee must return into the function itself, never here: no unwinder knows this place, and a
 * return address may stay on a stack for as long as a coroutine sleeps. Pushing it and jumping does
 * that. `back` is where execution continues after the moved code anyway, see relocate().
 *
 *	push *literal(%rip); jmp callee; literal: .quad back
 */
static void put_call(struct writer *w, uint64_t callee, uint64_t back)
{
	put(w, (uint8_t[]){0xff, 0x35, 5, 0, 0, 0}, 6);
	put_jmp(w, callee);
	put(w, &back, sizeof(back));
}

static int refuse(struct detour_error *err, uint64_t at, const char *why)
{
	snprintf(err->text, sizeof(err->text), "the instruction at %#llx cannot be moved: %s",
		 (unsigned long long)at, why);
	return -ENOTSUP;
}

int relocate(const uint8_t *code, uint32_t size, uint64_t from, uint64_t to, uint8_t *out,
	     struct detour_error *err)
{
	struct writer w = {.out = out, .to = to};
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t target;
	bool ends = false;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);

	for (uint32_t at = 0; at < size; at += insn.length) {
		uint64_t here = from + at;

		/* The longest thing written for one instruction is a call, the last one is a jump.
		 */
		if (w.used + 19 + 5 > RELOCATE_MAX)
			return refuse(err, here, "too many before it");
		if (ends)
			return refuse(err, here, "the function goes elsewhere before it");
		if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code + at, size - at, &insn, ops)))
			return refuse(err, here, "it does not decode within the extent");

		if (!(insn.attributes & ZYDIS_ATTRIB_IS_RELATIVE)) {
			if (insn.meta.category == ZYDIS_CATEGORY_CALL)
				return refuse(err, here, "an indirect call");
			ends = insn.meta.category == ZYDIS_CATEGORY_RET ||
			       insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
			put(&w, code + at, insn.length);
			continue;
		}

		if (insn.raw.imm[0].is_relative)
			target = here + insn.length + (uint64_t)insn.raw.imm[0].value.s;
		else
			target = here + insn.length + (uint64_t)insn.raw.disp.value;
		if (target >= from && target < from + size)
			return refuse(err, here, "it refers to the bytes that the detour takes");

		if (!insn.raw.imm[0].is_relative) {
			uint32_t tail = insn.length - insn.raw.disp.offset - 4;

			if (insn.raw.disp.size != 32 || insn.address_width != 64)
				return refuse(err, here, "a relative operand of an unusual size");
			/* push, jmp and the like through memory relocate well; a call would return
			 * here. */
			if (insn.meta.category == ZYDIS_CATEGORY_CALL)
				return refuse(err, here, "an indirect call");
			ends = insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
			put(&w, code + at, insn.raw.disp.offset);
			put_rel32(&w, target, tail);
			put(&w, code + at + insn.raw.disp.offset + 4, tail);
		} else if (insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && insn.opcode == 0xe8) {
			/* What follows would have to run at the return address, in bytes now
			 * patched. */
			if (at + insn.length != size)
				return refuse(err, here, "a call that is not the extent's last");
			put_call(&w, target, from + size);
			ends = true;
		} else if (insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
			   (insn.opcode == 0xe9 || insn.opcode == 0xeb)) {
			put_jmp(&w, target);
			ends = true;
		} else if ((insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
			    (insn.opcode & 0xf0) == 0x70) ||
			   (insn.opcode_map == ZYDIS_OPCODE_MAP_0F &&
			    (insn.opcode & 0xf0) == 0x80)) {
			put(&w, (uint8_t[]){0x0f, 0x80 | (insn.opcode & 0x0f)}, 2);
			put_rel32(&w, target, 0);
		} else {
			return refuse(err, here, ZydisMnemonicGetString(insn.mnemonic));
		}
	}

	if (!ends)
		put_jmp(&w, from + size);
	if (w.far) {
		snprintf(err->text, sizeof(err->text), "%#llx is out of reach of %#llx",
			 (unsigned long long)from, (unsigned long long)to);
		return -ERANGE;
	}
	return (int)w.used;
}
