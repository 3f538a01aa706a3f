/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What detour.c and stubs.S agree on.
 */
#ifndef DETOUR_SLOTS_H
#define DETOUR_SLOTS_H

#include <stdint.h>

struct detour_slot {
	void *replacement;
	uint32_t results;
	const uint32_t *bypass; /* never NULL */
	void *original;
};

/* DETOUR_SLOTS stubs, one behind the other, all of one size. */
extern const uint8_t detour_stubs[], detour_stubs_end[];

/* Read by the stubs. Mask 0: this processor has no xsave, fxsave is used. */
extern struct detour_slot detour_slots[];
extern uint32_t detour_vector_mask;
extern uint64_t detour_vector_bytes;

#endif
