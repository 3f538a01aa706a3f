/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who calls what: whether the calls that a detour is meant for arrive at the function's entry. A
 * compiler may inline or clone a function into its caller (7.2's migration_incoming_process() never
 * runs by its name), and then a detour on it is in place, correct, and never hit.
 */
#include "runtime/seams/map.h"

#include <string.h>

enum by {
	BY_CALLS,     /* direct calls, from `from` or the static functions that it reaches */
	BY_COROUTINE, /* direct calls, from the coroutine that `from` starts */
	BY_DISPATCH,  /* through a pointer: structure.c found it that way or not at all */
	BY_ANYONE,    /* a direct call anywhere; not needed by a build that has no `from` */
};

#define CALLER_NAMES 2
/* ram_load, then one function within the other, if none was inlined. */
#define MAPPED_DEPTH 6

static const struct caller {
	enum seam_id to;
	enum by by;
	unsigned int depth;
	const char *from[CALLER_NAMES]; /* any one of them */
	enum seam_id from_static;	/* instead of a name */
	const char *via;		/* an exported function that some builds put in between */
	const char *only_with;		/* a function without which nobody needs it */
	const char *how;
} callers[] = {
	{
		.to = SEAM_LOADVM_STATE,
		.by = BY_COROUTINE,
		.depth = 1,
		/* The former from 11.0 on. */
		.from = {"migration_start_incoming", "migration_incoming_process"},
		.how = "called by the incoming coroutine",
	},
	{
		.to = SEAM_LOADVM_STATE_MAIN,
		.depth = 1,
		.from = {"qemu_loadvm_state"},
		.how = "called by qemu_loadvm_state",
	},
	{
		.to = SEAM_VMSTATE_LOAD,
		.depth = 2,
		.from = {"qemu_loadvm_state_main"},
		.how = "called by the reader of sections",
	},
	{
		.to = SEAM_RAM_LOAD,
		.by = BY_DISPATCH,
		.how = "called by the reader of sections",
	},
	{
		.to = SEAM_MULTIFD_RECV_SYNC,
		.depth = 2,
		.from_static = SEAM_RAM_LOAD,
		.how = "called where RAM is loaded",
	},
	{
		.to = SEAM_FILE_READ_AT,
		.depth = MAPPED_DEPTH,
		.from_static = SEAM_RAM_LOAD,
		.how = "called where mapped-ram's pages are loaded",
	},
	{
		.to = SEAM_MULTIFD_RECV,
		.depth = MAPPED_DEPTH,
		.from_static = SEAM_RAM_LOAD,
		.how = "called where mapped-ram's pages are loaded",
	},
	{
		.to = SEAM_THREADS_WAIT,
		.depth = 2,
		.from = {"qemu_loadvm_state"},
		.only_with = "qemu_loadvm_start_load_thread", /* 9.x is of this generation, too */
		.how = "called by qemu_loadvm_state",
	},
	{
		.to = SEAM_CHANNEL_WAIT,
		.depth = 1,
		.from = {"qemu_peek_byte"},
		.via = "qio_channel_wait_cond", /* 11.1 */
		.how = "called where the stream has no bytes",
	},
	{
		.to = SEAM_CHANNEL_READ,
		.depth = 1,
		.from = {"qemu_peek_byte"},
		.via = "qio_channel_read", /* 7.2 */
		.how = "called where the stream's buffer is filled",
	},
	{
		.to = SEAM_FD_READABLE_YIELD,
		.by = BY_ANYONE,
		.from = {"rdma_start_incoming_migration", "rdma_connect_incoming"},
		.how = "called where RDMA waits",
	},
	{
		.to = SEAM_CLEANUP,
		.by = BY_ANYONE,
		.from = {"qemu_cleanup"},
		.how = "called where QEMU ends",
	},
};

static uint64_t calls_to(const struct seam_map *map, uint64_t from, unsigned int depth,
			 const char *name)
{
	const char *const names[] = {name, NULL};
	struct site_list list = {0};

	structure_find_calls(map, from, depth, names, &list);
	return list.n ? list.sites[0].vaddr : 0;
}

/* The function whose address `from` gives to qemu_coroutine_create(). */
static uint64_t coroutine_of(const struct seam_map *map, uint64_t from)
{
	static const char *const create[] = {"qemu_coroutine_create", NULL};
	struct site_list list = {0};
	struct constants held = {0};
	struct walk walk;
	struct insn insn;

	structure_find_calls(map, from, 0, create, &list);
	if (list.n != 1 || !walk_begin(&walk, &map->image, from, true))
		return 0;
	while (walk_next(&walk, &insn)) {
		uint64_t first = constants_in(&held, ZYDIS_REGISTER_RDI);

		if (insn.vaddr == list.sites[0].vaddr)
			return image_executable(&map->image, first) ? first : 0;
		constants_step(&held, &insn);
	}
	return 0;
}

/* call rel32 or jmp rel32 to `to`, by its bytes: five that match by chance are not a worry. */
static uint64_t call_anywhere(const struct seam_map *map, uint64_t to)
{
	for (unsigned int i = 0; i < map->image.n_segments; i++) {
		const struct image_segment *s = &map->image.segments[i];
		struct image_slice code = image_at(&map->image, s->vaddr);

		if (!s->exec || !code.bytes)
			continue;
		for (size_t at = 0; at + 5 <= code.size; at++) {
			int32_t rel;

			if ((code.bytes[at] & 0xfe) != 0xe8)
				continue;
			memcpy(&rel, code.bytes + at + 1, sizeof(rel));
			if (s->vaddr + at + 5 + (int64_t)rel == to)
				return s->vaddr + at;
		}
	}
	return 0;
}

static uint64_t call_from(const struct seam_map *map, const struct caller *c, uint64_t from)
{
	const char *to = map->functions[c->to].name;
	const struct image_symbol *via;
	uint64_t call;

	if (c->by == BY_COROUTINE)
		from = coroutine_of(map, from);
	if (!from)
		return 0;
	call = calls_to(map, from, c->depth, to);
	via = c->via && !call ? image_symbol(&map->image, c->via) : NULL;
	if (via && calls_to(map, from, c->depth, c->via))
		call = calls_to(map, via->vaddr, 0, to);
	return call;
}

static uint64_t find_call(const struct seam_map *map, const struct caller *c)
{
	const struct seam_function *within = &map->functions[c->from_static];
	uint64_t call = 0;

	if (c->by == BY_DISPATCH)
		return map->load_state_calls.n ? map->load_state_calls.sites[0].vaddr : 0;
	if (c->by == BY_ANYONE)
		return call_anywhere(map, map->functions[c->to].vaddr);
	if (c->from_static)
		return within->name ? call_from(map, c, within->vaddr) : 0;
	for (size_t n = 0; n < CALLER_NAMES && c->from[n] && !call; n++) {
		const struct image_symbol *from = image_symbol(&map->image, c->from[n]);

		call = from ? call_from(map, c, from->vaddr) : 0;
	}
	return call;
}

static bool has_one(const struct seam_map *map, const struct caller *c)
{
	for (size_t n = 0; n < CALLER_NAMES && c->from[n]; n++) {
		if (image_symbol(&map->image, c->from[n]))
			return true;
	}
	return false;
}

bool seam_map_needless(const struct seam_map *map, enum seam_id id)
{
	if (!seam_map_wanted(map, id))
		return true;
	for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
		const struct caller *c = &callers[i];

		if (c->to == id)
			return (c->by == BY_ANYONE && !has_one(map, c)) ||
			       (c->only_with && !image_symbol(&map->image, c->only_with));
	}
	return false;
}

bool seam_map_reached(const struct seam_map *map, enum seam_id id, uint64_t *call, const char **how)
{
	*call = 0;
	*how = "this build has no such function";
	if (!seam_map_function(map, id)->name)
		return false;
	for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
		const struct caller *c = &callers[i];

		if (c->to != id)
			continue;
		*how = c->how;
		if (c->by == BY_ANYONE && !has_one(map, c)) {
			*how = "not needed: this build has no RDMA";
			return true;
		}
		*call = find_call(map, c);
		return *call;
	}
	*how = "nobody in particular has to call it";
	return true;
}
