/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving a function's first instructions to another address, meaning kept. detour.c's own; exposed
 * so that it can be tested on every function of a binary without patching any.
 */
#ifndef DETOUR_RELOCATE_H
#define DETOUR_RELOCATE_H

#include "runtime/detour/detour.h"

enum {
	RELOCATE_MAX = 192, /* bytes that the moved code of any extent fits into */
};

/*
 * Write into `out` (RELOCATE_MAX bytes) what the `size` bytes of whole instructions at `code` do,
 * for running at address `to` in place of `from`, followed by a jump to `from + size`. Returns the
 * bytes written, or -ENOTSUP (an instruction that cannot be moved), -ERANGE (`to` too far away).
 */
int relocate(const uint8_t *code, uint32_t size, uint64_t from, uint64_t to, uint8_t *out,
	     struct detour_error *err);

#endif
