/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where probes stand. Every point passes through place(), the only function that makes one: it
 * refuses bytes that a detour may take, 5-byte nops, and QEMU's own USDT probes.
 */
#include "runtime/seams/map.h"

#include <string.h>

/* How far behind an event a cheaper spot may lie before the event's own place is the better one. */
#define NEAR_INSNS 8
#define FAR_INSNS  64

static bool decode_point(const struct seam_map *map, uint64_t vaddr, struct insn *insn)
{
	struct image_slice code = image_at(&map->image, vaddr);

	return image_executable(&map->image, vaddr) &&
	       decode_full(code.bytes, code.size, vaddr, insn);
}

static bool detour_owns(const struct seam_map *map, const struct insn *insn)
{
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = &map->functions[id];

		if (f->extent && insn->vaddr < f->vaddr + f->extent &&
		    insn->vaddr + insn->length > f->vaddr)
			return true;
	}
	return false;
}

/* Why no probe may stand there, or NULL. */
static const char *forbidden(const struct seam_map *map, const struct insn *insn)
{
	if (detour_owns(map, insn))
		return "a detour owns the bytes";
	if (insn_is_nop5(insn))
		return "the place is a 5-byte nop";
	if (image_has_usdt(&map->image, insn->vaddr, insn->length))
		return "a USDT probe of QEMU's own stands there";
	return NULL;
}

static void place(struct seam_map *map, enum seam_point_kind kind, enum seam_id function,
		  uint64_t vaddr)
{
	struct seam_point *point = &map->points[map->n_points];
	const char *why;
	struct insn insn;

	if (map->n_points == MAP_POINTS) {
		map->missing[kind] = "there are more such places than the map holds";
		return;
	}
	if (!decode_point(map, vaddr, &insn)) {
		map->missing[kind] = "the place cannot be decoded";
		return;
	}
	why = forbidden(map, &insn);
	if (why) {
		map->missing[kind] = why;
		return;
	}
	insn_text(&insn, map->texts[map->n_points], sizeof(map->texts[0]));
	*point = (struct seam_point){
		.kind = kind,
		.function = function,
		.vaddr = vaddr,
		.offset = image_offset(&map->image, vaddr),
		.emulated = insn_emulated(&insn),
		.insn = map->texts[map->n_points],
		.code = insn.bytes,
		.code_len = insn.length,
	};
	map->n_points++;
}

/* --- looking for a spot ------------------------------------------------------------------------
 */

/* Does the function at `start` jump to an address in [from, to]? */
static bool jumped_into(const struct seam_map *map, uint64_t start, uint64_t from, uint64_t to)
{
	struct walk walk;
	struct insn insn;

	if (!walk_begin(&walk, &map->image, start, false))
		return true;
	while (walk_next(&walk, &insn)) {
		if ((insn.flow == FLOW_JUMP || insn.flow == FLOW_BRANCH) && insn.target >= from &&
		    insn.target <= to)
			return true;
	}
	return walk.broken;
}

/*
 * The first emulated instruction on the straight line from `from`, at which the registers `intact`
 * are still unwritten; else the first that may hold a probe at all; else 0. Every branch is itself
 * emulated, so the line never needs to be followed past one: what is found lies on every path.
 */
static uint64_t find_spot(const struct seam_map *map, uint64_t from, unsigned int reach,
			  const ZydisRegister *intact)
{
	struct image_range range;
	uint64_t stepped = 0;
	struct insn insn;

	if (!image_function(&map->image, from, &range))
		return 0;
	for (uint64_t at = from; reach-- && at < range.end && decode_point(map, at, &insn);
	     at += insn.length) {
		if (!forbidden(map, &insn)) {
			if (insn_emulated(&insn))
				return at;
			if (!stepped)
				stepped = at;
		}
		if (insn.flow != FLOW_NEXT)
			break;
		for (unsigned int i = 0; intact && intact[i] != ZYDIS_REGISTER_NONE; i++) {
			if (insn_writes(&insn, intact[i]))
				return stepped;
		}
	}
	return stepped;
}

/*
 * A point that the function at `start` passes once for each time it passes `from`. A jump in
 * between would be counted as one more, so then the place nearest to `from` is tried.
 */
static void place_after(struct seam_map *map, enum seam_point_kind kind, enum seam_id function,
			uint64_t start, uint64_t from, const ZydisRegister *intact)
{
	const unsigned int reach[] = {FAR_INSNS, NEAR_INSNS, 1};

	for (size_t i = 0; i < sizeof(reach) / sizeof(reach[0]); i++) {
		uint64_t spot = find_spot(map, from, reach[i], intact);

		if (spot && !jumped_into(map, start, from == start ? from + 1 : from, spot)) {
			place(map, kind, function, spot);
			return;
		}
	}
	map->missing[kind] = "no instruction there is passed exactly once";
}

/* Does control that comes to `vaddr` end in a failed assertion, whatever happens? */
static bool only_fails(const struct seam_map *map, uint64_t vaddr)
{
	static const char *const failures[] = {"__assert_fail", "g_assertion_message_expr", "abort",
					       "__stack_chk_fail"};
	struct insn insn;

	for (int i = 0; i < NEAR_INSNS && decode_point(map, vaddr, &insn); i++) {
		const char *name;

		vaddr += insn.length;
		if (insn.flow == FLOW_NEXT)
			continue;
		name = structure_callee(&map->image, &insn);
		for (size_t f = 0; name && f < sizeof(failures) / sizeof(failures[0]); f++) {
			if (!strcmp(name, failures[f]))
				return true;
		}
		return false;
	}
	return false;
}

/* A point at the function's entry, but beyond what a detour would take of it. */
static void place_entry(struct seam_map *map, enum seam_point_kind kind, enum seam_id id,
			const ZydisRegister *intact)
{
	const struct seam_function *f = &map->functions[id];
	struct insn insn;

	if (!f->name) {
		map->missing[kind] = "this build has no symbol of the function";
		return;
	}
	for (uint64_t at = f->vaddr; at < f->vaddr + f->extent; at += insn.length) {
		if (!decode_point(map, at, &insn) || insn.flow == FLOW_JUMP ||
		    insn.flow == FLOW_JUMP_INDIRECT || insn.flow == FLOW_END ||
		    (insn.flow == FLOW_BRANCH && !only_fails(map, insn.target))) {
			map->missing[kind] = "the function branches within the bytes of a detour";
			return;
		}
	}
	place_after(map, kind, id, f->vaddr, f->vaddr + f->extent, intact);
}

/* --- the lock ----------------------------------------------------------------------------------
 */

static void place_lock(struct seam_map *map)
{
	static const ZydisRegister ask[] = {ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_RSI,
					    ZYDIS_REGISTER_NONE};
	static const ZydisRegister status[] = {ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_NONE};
	const struct call_site *lock = &map->lock_call;

	place_entry(map, SEAM_ASK, SEAM_BQL_LOCK, ask);
	if (structure_lock_inlined(map))
		map->missing[SEAM_ASK] = map->missing[SEAM_ACQUIRED] =
			"the compiler also inlined the lock function into others of its file, "
			"which are not seen to call it";
	if (map->generation == GENERATION_STATUS) {
		place_entry(map, SEAM_STATUS, SEAM_BQL_UPDATE_STATUS, status);
		map->missing[SEAM_ACQUIRED] = "replaced by STATUS";
		map->missing[SEAM_RELEASED] = "replaced by STATUS";
		return;
	}
	if (lock->tail)
		map->missing[SEAM_ACQUIRED] = "the lock function ends in the jump that takes the "
					      "lock, and there is no bql_update_status";
	else
		place_after(map, SEAM_ACQUIRED, SEAM_BQL_LOCK, lock->function, lock->next, NULL);
	place(map, SEAM_RELEASED, SEAM_BQL_UNLOCK, map->unlock_call.vaddr);
}

static void place_woke(struct seam_map *map, enum seam_id id)
{
	static const char *const waits[] = {"pthread_cond_wait", "pthread_cond_timedwait",
					    "pthread_cond_clockwait", NULL};
	struct site_list calls = {0};

	if (!map->functions[id].name)
		return;
	structure_find_calls(map, map->functions[id].vaddr, 1, waits, &calls);
	if (!calls.n)
		map->missing[SEAM_COND_WOKE] = "a condvar wait calls no known libc function";
	for (unsigned int i = 0; i < calls.n; i++) {
		if (calls.sites[i].tail)
			map->missing[SEAM_COND_WOKE] = "a condvar wait ends in the waiting jump";
		else
			place_after(map, SEAM_COND_WOKE, id, calls.sites[i].function,
				    calls.sites[i].next, NULL);
	}
}

static void place_condvars(struct seam_map *map)
{
	static const ZydisRegister wait[] = {ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_RDX,
					     ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_NONE};
	static const ZydisRegister timed[] = {ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_RCX,
					      ZYDIS_REGISTER_R8, ZYDIS_REGISTER_NONE};

	place_entry(map, SEAM_COND_SLEEP, SEAM_COND_WAIT, wait);
	place_entry(map, SEAM_COND_TIMED_SLEEP, SEAM_COND_TIMEDWAIT, timed);
	if (map->generation == GENERATION_STATUS) {
		map->missing[SEAM_COND_WOKE] = "replaced by STATUS";
		return;
	}
	place_woke(map, SEAM_COND_WAIT);
	place_woke(map, SEAM_COND_TIMEDWAIT);
}

/* --- phases ------------------------------------------------------------------------------------
 */

static void place_ends(struct seam_map *map, enum seam_point_kind kind, enum seam_id function,
		       const struct site_list *ends)
{
	for (unsigned int i = 0; i < ends->n; i++) {
		const struct call_site *end = &ends->sites[i];
		uint64_t spot = find_spot(map, end->vaddr, NEAR_INSNS, NULL);

		if (!spot || jumped_into(map, end->function, end->vaddr, spot))
			spot = end->vaddr;
		place(map, kind, function, spot);
	}
}

static void place_sections(struct seam_map *map)
{
	const struct site_list *calls = &map->section_calls;

	if (!calls->n || calls->overflow || map->section_ends.overflow) {
		map->missing[SEAM_SECTION_BEGIN] = map->missing[SEAM_SECTION_END] =
			"the stream reader's calls to the VMSD loader were not found";
		return;
	}
	for (unsigned int i = 0; i < calls->n; i++)
		place(map, SEAM_SECTION_BEGIN, SEAM_VMSTATE_LOAD, calls->sites[i].vaddr);
	place_ends(map, SEAM_SECTION_END, SEAM_VMSTATE_LOAD, &map->section_ends);
}

static void place_ram(struct seam_map *map)
{
	struct site_list ends = {0};

	if (!map->functions[SEAM_RAM_LOAD].name) {
		map->missing[SEAM_RAM_BEGIN] = map->missing[SEAM_RAM_END] = map->no_ram;
		return;
	}
	place_entry(map, SEAM_RAM_BEGIN, SEAM_RAM_LOAD, NULL);
	for (unsigned int i = 0; i < map->load_state_calls.n; i++)
		structure_returns(map, &map->load_state_calls.sites[i], &ends);
	place_ends(map, SEAM_RAM_END, SEAM_RAM_LOAD, &ends);
}

/* --- all ---------------------------------------------------------------------------------------
 */

void points_place(struct seam_map *map)
{
	place_lock(map);
	place_condvars(map);
	place_entry(map, SEAM_LOAD_BEGIN, SEAM_LOADVM_STATE, NULL);
	place_sections(map);
	place_ram(map);
	place_entry(map, SEAM_ACTIVATE, SEAM_BDRV_ACTIVATE_ALL, NULL);
	/* vm_prepare_start() may be inlined into vm_start(), which other files call. */
	place_entry(map, SEAM_START,
		    map->functions[SEAM_VM_START].name ? SEAM_VM_START : SEAM_VM_PREPARE_START,
		    NULL);
	place_entry(map, SEAM_LOAD_END, SEAM_INCOMING_DESTROY, NULL);
	place_entry(map, SEAM_STOP, SEAM_VM_STOP_FORCE, NULL);
	place_entry(map, SEAM_SAVE, SEAM_SAVE_COMPLETE, NULL);
	place_entry(map, SEAM_STATE, SEAM_MIGRATE_SET_STATE, NULL);

	/* One lost place of several is a gap worth its sentence; a kind that has all needs none. */
	for (unsigned int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		bool found = false;

		for (size_t i = 0; i < map->n_points; i++)
			found |= map->points[i].kind == kind;
		if (!found && !map->missing[kind] && kind != SEAM_STATUS)
			map->missing[kind] = "it was not found";
	}
}
