/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a stack is one that the program's code makes. The unwinder went by unwind tables; this
 * goes by the instructions: in front of each return address there must be a call, and where it says
 * whom it calls, that must be the function of the frame within.
 */
#ifndef EXACT_H
#define EXACT_H

#include "analyzers/model/run.h"
#include "runtime/seams/decode.h"

struct exactness {
	unsigned calls;	  /* frames with a call in front of their return address */
	unsigned certain; /* of them: the call leads to the function of the frame within */
	unsigned wrong;	  /* no call, or one to somewhere else */
};

/* The call that returns to `vaddr`. */
static inline bool call_before(const struct image *image, uint64_t vaddr, struct insn *call)
{
	static const unsigned lengths[] = {5, 2, 3, 4, 6, 7, 8}; /* call rel32 first */

	for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
		struct image_slice code = image_at(image, vaddr - lengths[i]);

		if (code.bytes && decode_flow(code.bytes, code.size, vaddr - lengths[i], call) &&
		    call->length == lengths[i] &&
		    (call->flow == FLOW_CALL || call->flow == FLOW_CALL_INDIRECT))
			return true;
	}
	return false;
}

enum leads { LEADS_ELSEWHERE, LEADS_MAYBE, LEADS_THERE };

/*
 * Whether who calls `target` gets to the code at `within`: it is there, or it jumps there, or it
 * jumps to where a register says, as aio_bh_call() does.
 */
static inline enum leads leads_to(const struct image *image, uint64_t target, uint64_t within)
{
	enum leads leads = LEADS_ELSEWHERE;
	struct image_range function;
	struct walk walk;
	struct insn insn;

	if (!image_function(image, within, &function) || !walk_begin(&walk, image, target, false))
		return LEADS_ELSEWHERE;
	if (target == function.start)
		return LEADS_THERE;
	while (walk_next(&walk, &insn)) {
		if ((insn.flow == FLOW_JUMP && insn.target == function.start) ||
		    (insn.vaddr >= function.start && insn.vaddr < function.end))
			return LEADS_THERE;
		if (insn.flow == FLOW_JUMP_INDIRECT)
			leads = LEADS_MAYBE;
	}
	return leads;
}

static inline struct exactness exactness_of(const struct run *run, const struct stack *stack)
{
	struct exactness e = {0};
	const struct frame *within = NULL;

	for (unsigned i = 0; i < stack->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame,
						       g_array_index(stack->frames, unsigned, i));
		const struct frame *callee = within;
		struct image_range function;
		struct image image;
		struct seam_error err;
		struct insn call;

		within = f;
		if (!callee || *f->module != '/')
			continue;
		if (image_open(f->module, &image, &err))
			g_error("%s", err.text);
		/* A coroutine's first frame was made, not called: it stands at a function's start.
		 */
		if (image_function(&image, f->address, &function) && function.start == f->address &&
		    i + 1 == stack->frames->len) {
			image_close(&image);
			continue;
		}
		if (!call_before(&image, f->address, &call)) {
			g_test_message("no call returns to %s+0x%x", f->symbol,
				       (unsigned)f->offset);
			e.wrong++;
		} else {
			e.calls++;
			/*
			 * Into another file it goes through tables. A frame's address is where it
			 * goes on, so the byte before is its own; not of the innermost.
			 */
			if (call.flow == FLOW_CALL && !strcmp(f->module, callee->module)) {
				enum leads leads =
					leads_to(&image, call.target, callee->address - (i > 1));

				if (leads == LEADS_ELSEWHERE)
					g_test_message("%s+0x%x calls 0x%llx, not %s", f->symbol,
						       (unsigned)f->offset,
						       (unsigned long long)call.target,
						       callee->symbol);
				e.certain += leads == LEADS_THERE;
				e.wrong += leads == LEADS_ELSEWHERE;
			}
		}
		image_close(&image);
	}
	return e;
}

#endif
