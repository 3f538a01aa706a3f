/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding, walking, and the two rules about single instructions: what the kernel emulates under a
 * uprobe, and which bytes a detour may take.
 */
#include "runtime/seams/decode.h"

#include <string.h>

static void read_flow(struct insn *insn)
{
	const ZydisDecodedInstruction *z = &insn->z;
	bool relative = z->raw.imm[0].is_relative;

	insn->flow = FLOW_NEXT;
	insn->target = 0;
	if (relative)
		insn->target = insn->vaddr + insn->length + z->raw.imm[0].value.s;
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_CALL:
		insn->flow = relative ? FLOW_CALL : FLOW_CALL_INDIRECT;
		break;
	case ZYDIS_CATEGORY_UNCOND_BR:
		insn->flow = relative ? FLOW_JUMP : FLOW_JUMP_INDIRECT;
		break;
	case ZYDIS_CATEGORY_COND_BR:
		insn->flow = FLOW_BRANCH;
		break;
	case ZYDIS_CATEGORY_RET:
		insn->flow = FLOW_END;
		break;
	default:
		switch (z->mnemonic) {
		case ZYDIS_MNEMONIC_HLT:
		case ZYDIS_MNEMONIC_INT3:
		case ZYDIS_MNEMONIC_UD0:
		case ZYDIS_MNEMONIC_UD1:
		case ZYDIS_MNEMONIC_UD2:
			insn->flow = FLOW_END;
			break;
		default:
			break;
		}
	}
}

static bool decode(const uint8_t *bytes, size_t size, uint64_t vaddr, struct insn *insn, bool full)
{
	ZydisDecoder decoder;
	ZyanStatus status;

	if (!bytes || !size)
		return false;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (full)
		status = ZydisDecoderDecodeFull(&decoder, bytes, size, &insn->z, insn->operands);
	else
		status = ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, size, &insn->z);
	if (!ZYAN_SUCCESS(status))
		return false;
	insn->vaddr = vaddr;
	insn->bytes = bytes;
	insn->length = insn->z.length;
	read_flow(insn);
	return true;
}

bool decode_flow(const uint8_t *bytes, size_t size, uint64_t vaddr, struct insn *insn)
{
	return decode(bytes, size, vaddr, insn, false);
}

bool decode_full(const uint8_t *bytes, size_t size, uint64_t vaddr, struct insn *insn)
{
	return decode(bytes, size, vaddr, insn, true);
}

/*
 * arch/x86/kernel/uprobes.c, branch_setup_xol_ops() and push_setup_xol_ops(). Some prefixed forms
 * are emulated too, but which ones differs between kernels: only the bare encodings count here.
 */
bool insn_emulated(const struct insn *insn)
{
	const uint8_t *b = insn->bytes;

	switch (insn->length) {
	case 1:
		return b[0] == 0x90 || (b[0] >= 0x50 && b[0] <= 0x57);
	case 2:
		return (b[0] == 0x41 && b[1] >= 0x50 && b[1] <= 0x57) || b[0] == 0xeb ||
		       (b[0] >= 0x70 && b[0] <= 0x7f);
	case 5:
		return b[0] == 0xe8 || b[0] == 0xe9;
	case 6:
		return b[0] == 0x0f && b[1] >= 0x80 && b[1] <= 0x8f;
	default:
		return false;
	}
}

bool seam_emulated(const uint8_t *code, size_t size)
{
	struct insn insn;

	return decode_flow(code, size, 0, &insn) && insn_emulated(&insn);
}

bool insn_is_nop5(const struct insn *insn)
{
	return insn->length == 5 && insn->z.meta.category == ZYDIS_CATEGORY_WIDENOP;
}

bool insn_writes(const struct insn *insn, ZydisRegister reg)
{
	for (int i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->operands[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->reg.value) ==
			    reg)
			return true;
	}
	return false;
}

bool insn_loads_address(const struct insn *insn, ZydisRegister *reg, uint64_t *address)
{
	const ZydisDecodedOperand *to = &insn->operands[0], *from = &insn->operands[1];

	if (insn->z.operand_count_visible != 2 || to->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	*reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, to->reg.value);
	if (insn->z.mnemonic == ZYDIS_MNEMONIC_LEA && from->mem.base == ZYDIS_REGISTER_RIP)
		return ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn->z, from, insn->vaddr, address));
	if (insn->z.mnemonic == ZYDIS_MNEMONIC_MOV && from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		*address = from->imm.value.u;
		return true;
	}
	return false;
}

bool insn_copies(const struct insn *insn, ZydisRegister *to, ZydisRegister *from)
{
	const ZydisDecodedOperand *op = insn->operands;

	if (insn->z.mnemonic != ZYDIS_MNEMONIC_MOV || op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    op[1].type != ZYDIS_OPERAND_TYPE_REGISTER || op[0].size != 64)
		return false;
	*to = op[0].reg.value;
	*from = op[1].reg.value;
	return *to >= ZYDIS_REGISTER_RAX && *to <= ZYDIS_REGISTER_R15 &&
	       *from >= ZYDIS_REGISTER_RAX && *from <= ZYDIS_REGISTER_R15;
}

void constants_step(struct constants *c, const struct insn *insn)
{
	ZydisRegister to, from;
	uint64_t value = 0;

	if (insn->flow != FLOW_NEXT) {
		*c = (struct constants){0};
		return;
	}
	if (insn_copies(insn, &to, &from))
		value = constants_in(c, from);
	else if (!insn_loads_address(insn, &to, &value))
		to = ZYDIS_REGISTER_NONE;
	for (int r = ZYDIS_REGISTER_RAX; r <= ZYDIS_REGISTER_R15; r++) {
		if (insn_writes(insn, r))
			c->values[r - ZYDIS_REGISTER_RAX] = r == (int)to ? value : 0;
	}
}

uint64_t constants_in(const struct constants *c, ZydisRegister reg)
{
	return c->values[reg - ZYDIS_REGISTER_RAX];
}

void insn_text(const struct insn *insn, char *text, size_t size)
{
	ZydisFormatter formatter;

	if (!ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &insn->z, insn->operands,
							  insn->z.operand_count_visible, text, size,
							  insn->vaddr, NULL)))
		text[0] = '\0';
}

/* --- walking -----------------------------------------------------------------------------------
 */

static bool walk_add(struct walk *walk, uint64_t vaddr)
{
	struct image_range range;

	for (unsigned int i = 0; i < walk->n_ranges; i++) {
		if (vaddr >= walk->ranges[i].start && vaddr < walk->ranges[i].end)
			return true;
	}
	if (!image_function(walk->image, vaddr, &range))
		return false;
	if (walk->n_ranges == WALK_RANGES) {
		walk->broken = true;
		return false;
	}
	walk->ranges[walk->n_ranges++] = range;
	return true;
}

bool walk_begin(struct walk *walk, const struct image *image, uint64_t start, bool full)
{
	*walk = (struct walk){.image = image, .full = full};
	if (!walk_add(walk, start) || walk->ranges[0].start != start)
		return false;
	walk->at = start;
	return true;
}

/* A linker's stub: [endbr64] [bnd] jmp *slot(%rip). One unwind entry covers a whole table of them.
 */
static bool is_stub(const struct image *image, uint64_t vaddr)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	struct image_slice code = image_at(image, vaddr);
	size_t at = 0;

	if (code.size < 16)
		return false;
	if (!memcmp(code.bytes, endbr64, sizeof(endbr64)))
		at = sizeof(endbr64);
	at += code.bytes[at] == 0xf2;
	return code.bytes[at] == 0xff && code.bytes[at + 1] == 0x25;
}

/*
 * A jump out of the function is a tail call when it goes to the start of another one. Conditional
 * jumps, and jumps into the middle of something, lead to the function's own cold part.
 */
static void follow_fragment(struct walk *walk, const struct insn *insn)
{
	struct image_range range;

	if (insn->flow != FLOW_BRANCH && insn->flow != FLOW_JUMP)
		return;
	if (is_stub(walk->image, insn->target) ||
	    !image_function(walk->image, insn->target, &range))
		return;
	if (range.start == insn->target &&
	    (insn->flow == FLOW_JUMP || image_symbol_at(walk->image, insn->target)))
		return;
	if (!image_symbol_at(walk->image, range.start))
		walk_add(walk, insn->target);
}

bool walk_next(struct walk *walk, struct insn *insn)
{
	while (walk->current < walk->n_ranges) {
		const struct image_range *range = &walk->ranges[walk->current];
		const uint8_t *bytes = image_at(walk->image, walk->at).bytes;

		if (walk->at < range->end &&
		    decode(bytes, range->end - walk->at, walk->at, insn, walk->full)) {
			walk->at += insn->length;
			follow_fragment(walk, insn);
			return true;
		}
		walk->broken |= walk->at < range->end;
		if (++walk->current < walk->n_ranges)
			walk->at = walk->ranges[walk->current].start;
	}
	return false;
}

/* --- the extent rule ---------------------------------------------------------------------------
 */

/*
 * May this instruction be moved elsewhere, and must it then be the last one of the extent? A moved
 * relative call pushes the address behind the original, which stands only if the call is the last;
 * a moved jump leaves the copy, so only the last may be one.
 */
static const char *may_move(const struct insn *insn, bool *last)
{
	bool relative = insn->z.raw.imm[0].is_relative;

	*last = insn->flow != FLOW_NEXT;
	if (relative && insn->z.raw.prefix_count)
		return "it begins with a prefixed branch";
	switch (insn->flow) {
	case FLOW_NEXT:
	case FLOW_CALL:
	case FLOW_JUMP:
	case FLOW_JUMP_INDIRECT:
		return NULL;
	case FLOW_BRANCH:
		/* loop, jrcxz and xbegin have no form that reaches far. */
		return insn_emulated(insn) ? NULL : "it begins with a short-range branch";
	case FLOW_CALL_INDIRECT:
		return "it begins with an indirect call";
	case FLOW_END:
		return insn->z.meta.category == ZYDIS_CATEGORY_RET ? NULL : "it begins with a trap";
	}
	return "it cannot be decoded";
}

/* x(%rip), as the encoding says it: operands are not decoded here. */
static bool refers_to(const struct insn *insn, uint64_t from, uint64_t to)
{
	uint64_t address = insn->vaddr + insn->length + insn->z.raw.disp.value;

	return (insn->z.attributes & ZYDIS_ATTRIB_HAS_MODRM) && insn->z.raw.modrm.mod == 0 &&
	       insn->z.raw.modrm.rm == 5 && address >= from && address < to;
}

static uint32_t take_bytes(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t need,
			   const char **refusal)
{
	uint32_t extent = 0;
	struct insn insn;
	bool last = false;

	while (extent < need) {
		if (extent == size) {
			*refusal = "it is shorter than a jump";
			return 0;
		}
		if (last) {
			*refusal = "it calls, branches or ends before a jump's length";
			return 0;
		}
		if (!decode_flow(code + extent, size - extent, vaddr + extent, &insn)) {
			*refusal = "it cannot be decoded";
			return 0;
		}
		*refusal = may_move(&insn, &last);
		if (!*refusal && refers_to(&insn, vaddr, vaddr + need))
			*refusal = "it refers to its own first bytes";
		if (*refusal)
			return 0;
		extent += insn.length;
	}
	return extent;
}

static bool enters(const struct insn *insn, uint64_t vaddr, uint32_t extent)
{
	return (insn->flow == FLOW_JUMP || insn->flow == FLOW_BRANCH || insn->flow == FLOW_CALL) &&
	       insn->target > vaddr && insn->target < vaddr + extent;
}

uint32_t seam_extent(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t need,
		     const char **refusal)
{
	const char *why = NULL;
	uint32_t extent = take_bytes(code, size, vaddr, need, &why);
	struct insn insn;

	for (size_t at = 0; extent && at < size;) {
		if (!decode_flow(code + at, size - at, vaddr + at, &insn)) {
			why = "it cannot be decoded";
			extent = 0;
			break;
		}
		if (enters(&insn, vaddr, extent)) {
			why = "it jumps back into its first bytes";
			extent = 0;
		}
		at += insn.length;
	}
	if (refusal)
		*refusal = why;
	return extent;
}

uint32_t function_extent(const struct image *image, uint64_t vaddr, uint32_t need,
			 const char **refusal)
{
	uint32_t extent = 0;
	struct walk walk;
	struct insn insn;

	*refusal = "the unwind table does not know it";
	if (!walk_begin(&walk, image, vaddr, false))
		return 0;
	extent = take_bytes(image_at(image, vaddr).bytes, walk.ranges[0].end - walk.ranges[0].start,
			    vaddr, need, refusal);
	while (extent && walk_next(&walk, &insn)) {
		if (enters(&insn, vaddr, extent)) {
			*refusal = "it jumps back into its first bytes";
			extent = 0;
		}
	}
	if (extent && walk.broken) {
		*refusal = "it cannot be decoded";
		extent = 0;
	}
	/* Whoever attaches to it later would write its trap into our jump. */
	if (extent && image_has_usdt(image, vaddr, extent)) {
		*refusal = "a USDT probe of QEMU's own stands in its first bytes";
		extent = 0;
	}
	return extent;
}
