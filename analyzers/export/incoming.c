/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The incoming migration, from the phases that it enters.
 */
#include <string.h>

#include "analyzers/export/figures.h"

static void add_device(struct figures *f, const char *name, uint64_t ns)
{
	struct figures_incoming *in = &f->incoming;
	struct figures_device new = {.count = 1, .ns = ns};

	in->nr_devices++;
	for (unsigned i = 0; i < in->devices->len; i++) {
		struct figures_device *d = &g_array_index(in->devices, struct figures_device, i);

		if (!strcmp(d->name, name)) {
			d->count++;
			d->ns += ns;
			return;
		}
	}
	new.name = g_string_chunk_insert_const(f->strings, name);
	g_array_append_val(in->devices, new);
}

static void begin_load(struct figures_incoming *in, uint64_t at_ns)
{
	in->loads++;
	in->active = true;
	in->begin_ns = at_ns;
	in->end_ns = 0;
	in->nr_devices = 0;
	memset(in->phase_ns, 0, sizeof(in->phase_ns));
	memset(in->phase_unix_ns, 0, sizeof(in->phase_unix_ns));
	g_array_set_size(in->devices, 0);
}

void figures_phase(struct figures *f, uint64_t at_ns, int64_t at_unix_ns, enum phase phase,
		   const char *device)
{
	struct figures_incoming *in = &f->incoming;
	uint64_t passed = at_ns > in->entered_ns ? at_ns - in->entered_ns : 0;

	/* Attached in the middle of one: it counts, from here on. */
	if (phase == PHASE_SETUP || (phase != PHASE_NONE && !in->active))
		begin_load(in, at_ns);
	else if (in->active) {
		in->phase_ns[in->now.phase] += passed;
		if (in->now.phase == PHASE_DEVICE)
			add_device(f, in->now.device, passed);
	}
	if (!in->phase_unix_ns[phase])
		in->phase_unix_ns[phase] = at_unix_ns;
	in->entered_ns = at_ns;
	in->now.phase = phase;
	in->now.device = g_string_chunk_insert_const(f->strings, device);
	if (phase == PHASE_NONE && in->active) {
		in->active = false;
		in->end_ns = at_ns;
	}
}
