/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code before and after it was moved, held against each other by decoding.
 */
#ifndef RELOCATED_H
#define RELOCATED_H

#include <string.h>

#include <Zydis/Zydis.h>
#include <glib.h>

static ZydisDecoder decoder;

struct insn {
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t at;
};

static inline void decode(struct insn *insn, const uint8_t *code, size_t size, uint64_t at)
{
	g_assert_true(
		ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, size, &insn->i, insn->ops)));
	insn->at = at;
}

/* The address that a relative instruction speaks of, by Zydis' own arithmetic. */
static inline uint64_t refers_to(const struct insn *insn)
{
	ZyanU64 address;

	for (int k = 0; k < insn->i.operand_count; k++) {
		const ZydisDecodedOperand *op = &insn->ops[k];

		if ((op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->imm.is_relative) ||
		    (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.base == ZYDIS_REGISTER_RIP)) {
			g_assert_true(ZYAN_SUCCESS(
				ZydisCalcAbsoluteAddress(&insn->i, op, insn->at, &address)));
			return address;
		}
	}
	g_assert_not_reached();
}

/* Moved instructions do what they did, as a decoder reads both. */
static inline void compare(const uint8_t *code, uint32_t size, uint64_t from, const uint8_t *moved,
			   uint32_t moved_size, uint64_t to)
{
	uint32_t a = 0, b = 0;
	struct insn was, is;
	bool ends = false;

	while (a < size) {
		decode(&was, code + a, size - a, from + a);
		decode(&is, moved + b, moved_size - b, to + b);
		a += was.i.length;
		b += is.i.length;
		if (!(was.i.attributes & ZYDIS_ATTRIB_IS_RELATIVE)) {
			g_assert_cmpmem(code + a - was.i.length, was.i.length,
					moved + b - is.i.length, is.i.length);
		} else if (was.i.mnemonic == ZYDIS_MNEMONIC_CALL) {
			uint64_t back;

			g_assert_cmpint(is.i.mnemonic, ==, ZYDIS_MNEMONIC_PUSH);
			memcpy(&back, moved + (refers_to(&is) - to), sizeof(back));
			g_assert_cmphex(back, ==, from + a);
			decode(&is, moved + b, moved_size - b, to + b);
			b += is.i.length + 8;
			g_assert_cmpint(is.i.mnemonic, ==, ZYDIS_MNEMONIC_JMP);
			g_assert_cmphex(refers_to(&is), ==, refers_to(&was));
			ends = true;
		} else {
			g_assert_cmpint(is.i.mnemonic, ==, was.i.mnemonic);
			g_assert_cmphex(refers_to(&is), ==, refers_to(&was));
			for (int k = 0; k < was.i.operand_count; k++) {
				g_assert_cmpint(is.ops[k].type, ==, was.ops[k].type);
				if (was.ops[k].type == ZYDIS_OPERAND_TYPE_REGISTER)
					g_assert_cmpint(is.ops[k].reg.value, ==,
							was.ops[k].reg.value);
				if (was.ops[k].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
				    !was.ops[k].imm.is_relative)
					g_assert_cmphex(is.ops[k].imm.value.u, ==,
							was.ops[k].imm.value.u);
			}
			ends = was.i.mnemonic == ZYDIS_MNEMONIC_JMP;
		}
		/* iret and far jumps included */
		ends |= was.i.meta.category == ZYDIS_CATEGORY_RET ||
			was.i.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
	}
	if (!ends) {
		decode(&is, moved + b, moved_size - b, to + b);
		b += is.i.length;
		g_assert_cmpint(is.i.mnemonic, ==, ZYDIS_MNEMONIC_JMP);
		g_assert_cmphex(refers_to(&is), ==, from + size);
	}
	g_assert_cmpint(b, ==, moved_size);
}

#endif
