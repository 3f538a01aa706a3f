/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has no name is found by what the code does: the lock's mutex, the call that takes it, the
 * place where a stream's top-level sections are loaded, and RAM's static load function.
 */
#include "runtime/seams/map.h"

#include <errno.h>
#include <string.h>

/* A source file's code lies together: further from one of its functions is another's. */
#define SAME_FILE     (128 << 10)
#define SET_FUNCTIONS 256
#define HANDLER_SLOTS 32 /* more than SaveVMHandlers has had so far (20 in 10.0) */
#define SAVEVM_DEPTH  2
#define HANDLER_DEPTH 2

struct function_set {
	uint64_t start[SET_FUNCTIONS];
	unsigned int n;
};

static void list_add(struct site_list *list, struct call_site site)
{
	for (unsigned int i = 0; i < list->n; i++) {
		if (list->sites[i].vaddr == site.vaddr)
			return;
	}
	if (list->n == MAP_SITES)
		list->overflow = true;
	else
		list->sites[list->n++] = site;
}

static struct call_site site_of(const struct walk *walk, const struct insn *insn)
{
	return (struct call_site){
		.vaddr = insn->vaddr,
		.next = insn->vaddr + insn->length,
		.function = walk->ranges[0].start,
		.tail = insn->flow == FLOW_JUMP || insn->flow == FLOW_JUMP_INDIRECT,
	};
}

static bool is_direct(const struct insn *insn)
{
	return insn->flow == FLOW_CALL || insn->flow == FLOW_JUMP;
}

static bool is_indirect(const struct insn *insn)
{
	return insn->flow == FLOW_CALL_INDIRECT || insn->flow == FLOW_JUMP_INDIRECT;
}

/* --- calls by name -----------------------------------------------------------------------------
 */

/* The imported function behind `call *slot(%rip)`. */
static const char *got_import(const struct image *image, const struct insn *insn)
{
	uint64_t slot;

	if (insn->operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    insn->operands[0].mem.base != ZYDIS_REGISTER_RIP ||
	    !ZYAN_SUCCESS(
		    ZydisCalcAbsoluteAddress(&insn->z, &insn->operands[0], insn->vaddr, &slot)))
		return NULL;
	return image_import(image, slot);
}

/* The imported function behind a PLT entry: [endbr64] jmp *slot(%rip). */
static const char *plt_import(const struct image *image, uint64_t vaddr)
{
	struct image_slice code = image_at(image, vaddr);
	struct insn insn;

	if (!image_executable(image, vaddr) || !decode_full(code.bytes, code.size, vaddr, &insn))
		return NULL;
	if (insn.z.mnemonic == ZYDIS_MNEMONIC_ENDBR64 &&
	    !decode_full(code.bytes + insn.length, code.size - insn.length, vaddr + insn.length,
			 &insn))
		return NULL;
	return insn.flow == FLOW_JUMP_INDIRECT ? got_import(image, &insn) : NULL;
}

const char *structure_callee(const struct image *image, const struct insn *insn)
{
	const struct image_symbol *symbol;

	if (is_indirect(insn))
		return got_import(image, insn);
	if (!is_direct(insn))
		return NULL;
	symbol = image_symbol_at(image, insn->target);
	return symbol ? symbol->name : plt_import(image, insn->target);
}

/* --- static functions reached by direct calls ---------------------------------------------------
 */

static bool set_add(struct function_set *set, uint64_t start)
{
	for (unsigned int i = 0; i < set->n; i++) {
		if (set->start[i] == start)
			return true;
	}
	if (set->n == SET_FUNCTIONS)
		return false;
	set->start[set->n++] = start;
	return true;
}

static void add_callees(const struct image *image, uint64_t function, struct function_set *set)
{
	struct image_range range;
	struct walk walk;
	struct insn insn;

	if (!walk_begin(&walk, image, function, false))
		return;
	while (walk_next(&walk, &insn)) {
		if (is_direct(&insn) && !image_symbol_at(image, insn.target) &&
		    image_function(image, insn.target, &range) && range.start == insn.target)
			set_add(set, insn.target);
	}
}

/* `root` and the static functions it reaches within `depth` calls: one source file, in effect. */
static void reach(const struct image *image, uint64_t root, unsigned int depth,
		  struct function_set *set)
{
	unsigned int done = 0;

	set->n = 0;
	set_add(set, root);
	for (unsigned int level = 0; level < depth; level++) {
		unsigned int end = set->n;

		for (; done < end; done++)
			add_callees(image, set->start[done], set);
	}
}

void structure_find_calls(const struct seam_map *map, uint64_t function, unsigned int depth,
			  const char *const wanted[], struct site_list *list)
{
	struct function_set set;
	struct walk walk;
	struct insn insn;

	reach(&map->image, function, depth, &set);
	for (unsigned int i = 0; i < set.n; i++) {
		if (!walk_begin(&walk, &map->image, set.start[i], true))
			continue;
		while (walk_next(&walk, &insn)) {
			const char *name = structure_callee(&map->image, &insn);

			for (unsigned int w = 0; name && wanted[w]; w++) {
				if (!strcmp(name, wanted[w]))
					list_add(list, site_of(&walk, &insn));
			}
		}
	}
}

static void returns_of(const struct seam_map *map, const struct function_set *set,
		       const struct call_site *call, unsigned int depth, struct site_list *list)
{
	struct walk walk;
	struct insn insn;

	if (!call->tail) {
		list_add(list, (struct call_site){.vaddr = call->next, .function = call->function});
		return;
	}
	for (unsigned int i = 0; depth && i < set->n; i++) {
		if (!walk_begin(&walk, &map->image, set->start[i], false))
			continue;
		while (walk_next(&walk, &insn)) {
			if (is_direct(&insn) && insn.target == call->function) {
				struct call_site caller = site_of(&walk, &insn);

				returns_of(map, set, &caller, depth - 1, list);
			}
		}
	}
}

void structure_returns(const struct seam_map *map, const struct call_site *call,
		       struct site_list *list)
{
	struct function_set set;

	reach(&map->image, map->functions[SEAM_LOADVM_STATE_MAIN].vaddr, SAVEVM_DEPTH, &set);
	returns_of(map, &set, call, SAVEVM_DEPTH + 1, list);
}

/* --- the lock ----------------------------------------------------------------------------------
 */

/*
 * How many calls in `function` have the address of a variable as their first argument, and the last
 * one. `to` is the wanted direct callee; 0: an indirect call, as the lock function makes through
 * bql_mutex_lock_func. 0 also when not all of it can be decoded.
 */
static unsigned int mutex_calls(const struct seam_map *map, uint64_t function, uint64_t to,
				struct call_site *site, uint64_t *mutex)
{
	struct constants held = {0};
	unsigned int found = 0;
	struct walk walk;
	struct insn insn;

	if (!walk_begin(&walk, &map->image, function, true))
		return 0;
	while (walk_next(&walk, &insn)) {
		bool wanted = to ? is_direct(&insn) && insn.target == to
				 : is_indirect(&insn) && !got_import(&map->image, &insn);
		uint64_t first = constants_in(&held, ZYDIS_REGISTER_RDI);

		if (wanted && image_writable(&map->image, first)) {
			*site = site_of(&walk, &insn);
			*mutex = first;
			found++;
		}
		constants_step(&held, &insn);
	}
	return walk.broken ? 0 : found;
}

bool structure_lock_inlined(const struct seam_map *map)
{
	uint64_t lock = map->functions[SEAM_BQL_LOCK].vaddr, mutex = 0;
	uint64_t hook = seam_map_variable(map, SEAM_BQL_LOCK_HOOK);
	const struct image_segment *s = image_segment(&map->image, lock);
	uint64_t at = lock - s->vaddr > SAME_FILE ? lock - SAME_FILE : s->vaddr;
	struct image_slice code = image_at(&map->image, at);
	struct image_range range;
	struct call_site site;

	for (size_t i = 0; hook && i + 4 <= code.size && i < 2 * SAME_FILE; i++) {
		int32_t rel;

		memcpy(&rel, code.bytes + i, sizeof(rel));
		if (at + i + 4 + (int64_t)rel == hook &&
		    image_function(&map->image, at + i, &range) && range.start != lock &&
		    mutex_calls(map, range.start, 0, &site, &mutex) && mutex == map->bql)
			return true;
	}
	return false;
}

int structure_find_bql(struct seam_map *map, struct seam_error *err)
{
	const struct seam_function *unlock = &map->functions[SEAM_MUTEX_UNLOCK];
	uint64_t taken, given;

	if (mutex_calls(map, map->functions[SEAM_BQL_LOCK].vaddr, 0, &map->lock_call, &taken) != 1)
		return seam_fail(err, -ENOTSUP, "%s: cannot tell how %s takes the lock", map->path,
				 map->functions[SEAM_BQL_LOCK].name);
	if (!unlock->name || mutex_calls(map, map->functions[SEAM_BQL_UNLOCK].vaddr, unlock->vaddr,
					 &map->unlock_call, &given) != 1)
		return seam_fail(err, -ENOTSUP, "%s: cannot tell how %s gives the lock back",
				 map->path, map->functions[SEAM_BQL_UNLOCK].name);
	if (taken != given)
		return seam_fail(err, -ENOTSUP,
				 "%s: its lock and unlock functions use different mutexes",
				 map->path);
	map->bql = taken;
	return 0;
}

/* --- loading -----------------------------------------------------------------------------------
 */

struct dispatch {
	struct call_site site;
	int64_t offset; /* of the pointer called, in the object it is read from */
};

/* `call *off(reg)`, or a register that was loaded so. Returns how many, at most `max`. */
static unsigned int find_dispatches(const struct image *image, uint64_t function,
				    struct dispatch *found, unsigned int max)
{
	int64_t loaded[ZYDIS_REGISTER_MAX_VALUE + 1];
	unsigned int n = 0;
	struct walk walk;
	struct insn insn;

	memset(loaded, 0xff, sizeof(loaded));
	if (!walk_begin(&walk, image, function, true))
		return 0;
	while (n < max && walk_next(&walk, &insn)) {
		const ZydisDecodedOperand *op = insn.operands;
		ZydisRegister to, from;
		int64_t offset = -1, copied = -1;

		if (is_indirect(&insn)) {
			if (op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    op[0].mem.base != ZYDIS_REGISTER_RIP &&
			    op[0].mem.index == ZYDIS_REGISTER_NONE)
				offset = op[0].mem.disp.value;
			else if (op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
				offset = loaded[op[0].reg.value];
			if (offset >= 0)
				found[n++] = (struct dispatch){site_of(&walk, &insn), offset};
		}
		if (insn_copies(&insn, &to, &from))
			copied = loaded[from];
		else
			to = ZYDIS_REGISTER_NONE;
		for (int r = ZYDIS_REGISTER_RAX; r <= ZYDIS_REGISTER_R15; r++) {
			if (insn_writes(&insn, r))
				loaded[r] = r == (int)to ? copied : -1;
		}
		if (insn.z.mnemonic == ZYDIS_MNEMONIC_MOV &&
		    op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && op[0].size == 64 &&
		    op[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    op[1].mem.base != ZYDIS_REGISTER_RIP && op[1].mem.index == ZYDIS_REGISTER_NONE)
			loaded[op[0].reg.value] = op[1].mem.disp.value;
	}
	return n;
}

/* The SaveVMHandlers object that ram_mig_init() passes to register_savevm_live("ram", ...). */
static uint64_t find_ram_handlers(const struct seam_map *map)
{
	const struct image_symbol *init = image_symbol(&map->image, "ram_mig_init");
	const struct image_symbol *to = image_symbol(&map->image, "register_savevm_live");
	struct constants held = {0};
	struct walk walk;
	struct insn insn;

	if (!init || !to || !walk_begin(&walk, &map->image, init->vaddr, true))
		return 0;
	while (walk_next(&walk, &insn)) {
		if (is_direct(&insn) && insn.target == to->vaddr) {
			const char *name =
				image_string(&map->image, constants_in(&held, ZYDIS_REGISTER_RDI));

			if (name && !strcmp(name, "ram"))
				return constants_in(&held, ZYDIS_REGISTER_RCX);
		}
		constants_step(&held, &insn);
	}
	return 0;
}

/* Where vmstate_load() and its like hand a section to a VMSD, and the indirect calls beside it. */
static unsigned int find_sections(struct seam_map *map, struct dispatch *found, unsigned int max)
{
	static const char *const loaders[] = {"vmstate_load_state", "vmstate_load_vmsd", NULL};
	const struct seam_function *top = &map->functions[SEAM_LOADVM_STATE_MAIN];
	struct site_list *calls = &map->section_calls;
	unsigned int n = 0;

	structure_find_calls(map, top->vaddr, SAVEVM_DEPTH, loaders, calls);
	for (unsigned int i = 0; i < calls->n; i++) {
		structure_returns(map, &calls->sites[i], &map->section_ends);
		if (!i || calls->sites[i].function != calls->sites[i - 1].function)
			n += find_dispatches(&map->image, calls->sites[i].function, found + n,
					     max - n);
	}
	return n;
}

/*
 * RAM's load_state: the handler that reaches multifd_recv_sync_main() by direct calls, standing at
 * an offset through which the section loader calls. Each alone is a hint; both together are proof
 * enough, since a wrong function would have to satisfy them by chance.
 */
static void find_ram_load(struct seam_map *map, const struct dispatch *dispatches, unsigned int n)
{
	static const char *const sync[] = {"multifd_recv_sync_main", NULL};
	const struct image *image = &map->image;
	uint64_t handlers = find_ram_handlers(map), load = 0;

	if (!handlers) {
		map->no_ram = "ram_mig_init() does not show its handlers";
		return;
	}
	for (unsigned int slot = 0; slot < HANDLER_SLOTS; slot++) {
		uint64_t handler = 0;
		struct image_range range;
		struct site_list reached = {0};
		struct site_list calls = {0};

		for (unsigned int i = 0; i < n; i++) {
			if (dispatches[i].offset == 8 * (int64_t)slot)
				list_add(&calls, dispatches[i].site);
		}
		if (!calls.n)
			continue;
		handler = image_pointer(image, handlers + 8 * slot);
		if (!handler || !image_function(image, handler, &range) || range.start != handler)
			continue;
		structure_find_calls(map, handler, HANDLER_DEPTH, sync, &reached);
		if (!reached.n)
			continue;
		if (load) {
			map->no_ram = "two of RAM's handlers look like its load function";
			return;
		}
		load = handler;
		map->load_state_calls = calls;
		map->functions[SEAM_RAM_LOAD] = (struct seam_function){
			.name = "ram_load",
			.vaddr = handler,
			.offset = image_offset(image, handler),
			.size = range.end - range.start,
			.found_by = "the handler of \"ram\" that the section loader calls and that "
				    "reaches multifd_recv_sync_main",
		};
	}
	if (!load)
		map->no_ram = "no handler of \"ram\" is called by the section loader and reaches "
			      "multifd_recv_sync_main";
	else
		map->no_ram = NULL;
}

void structure_find_loading(struct seam_map *map)
{
	struct dispatch dispatches[MAP_SITES];
	unsigned int n;

	if (!map->functions[SEAM_LOADVM_STATE_MAIN].name) {
		map->no_ram = "this build has no qemu_loadvm_state_main";
		return;
	}
	n = find_sections(map, dispatches, MAP_SITES);
	find_ram_load(map, dispatches, n);
	/* Two candidates: neither is believed. */
	if (map->no_ram)
		map->functions[SEAM_RAM_LOAD] = (struct seam_function){0};
}
