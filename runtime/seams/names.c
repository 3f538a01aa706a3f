/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's names: what each function is called in which generation, and whether the runtime may put a
 * detour on it.
 */
#include "runtime/seams/map.h"

#include <errno.h>
#include <string.h>

struct name {
	const char *id;
	bool detourable;
	/* A generation that did not rename it inherits the name from the one before. */
	const char *names[GENERATIONS];
};

static const struct name names[SEAM_FUNCTIONS] = {
	/* Not detourable: the tracer's points stand on their first bytes. */
	[SEAM_BQL_LOCK] = {"BQL_LOCK", false, {"qemu_mutex_lock_iothread_impl", "bql_lock_impl"}},
	[SEAM_BQL_UNLOCK] = {"BQL_UNLOCK", true, {"qemu_mutex_unlock_iothread", "bql_unlock"}},
	[SEAM_BQL_LOCKED] = {"BQL_LOCKED", false, {"qemu_mutex_iothread_locked", "bql_locked"}},
	[SEAM_BQL_UPDATE_STATUS] = {"BQL_UPDATE_STATUS", false, {NULL, NULL, "bql_update_status"}},
	[SEAM_MUTEX_LOCK] = {"MUTEX_LOCK", false, {"qemu_mutex_lock_impl"}},
	[SEAM_MUTEX_UNLOCK] = {"MUTEX_UNLOCK", false, {"qemu_mutex_unlock_impl"}},
	[SEAM_COND_WAIT] = {"COND_WAIT", false, {"qemu_cond_wait_impl"}},
	[SEAM_COND_TIMEDWAIT] = {"COND_TIMEDWAIT", false, {"qemu_cond_timedwait_impl"}},

	[SEAM_LOADVM_STATE] = {"LOADVM_STATE", true, {"qemu_loadvm_state"}},
	[SEAM_LOADVM_STATE_MAIN] = {"LOADVM_STATE_MAIN", true, {"qemu_loadvm_state_main"}},
	/* 11.x keeps vmstate_load_state as a wrapper that its own code does not use. */
	[SEAM_VMSTATE_LOAD] = {"VMSTATE_LOAD",
			       true,
			       {"vmstate_load_state", NULL, "vmstate_load_vmsd"}},
	[SEAM_RAM_LOAD] = {"RAM_LOAD", true, {NULL}}, /* static: structure.c */
	[SEAM_CPU_SYNC_PRE_LOADVM] = {"CPU_SYNC_PRE_LOADVM",
				      true,
				      {"cpu_synchronize_all_pre_loadvm"}},
	[SEAM_CPU_SYNC_POST_INIT] = {"CPU_SYNC_POST_INIT", true, {"cpu_synchronize_all_post_init"}},
	[SEAM_BDRV_ACTIVATE_ALL] = {"BDRV_ACTIVATE_ALL", true, {"bdrv_activate_all"}},
	[SEAM_VM_PREPARE_START] = {"VM_PREPARE_START", true, {"vm_prepare_start"}},
	[SEAM_VM_START] = {"VM_START", true, {"vm_start"}},
	[SEAM_MULTIFD_RECV_SYNC] = {"MULTIFD_RECV_SYNC", true, {"multifd_recv_sync_main"}},
	[SEAM_MIGRATE_SET_STATE] = {"MIGRATE_SET_STATE", true, {"migrate_set_state"}},
	[SEAM_INCOMING_DESTROY] = {"INCOMING_DESTROY", true, {"migration_incoming_state_destroy"}},
	[SEAM_CLEANUP] = {"CLEANUP", true, {"qemu_cleanup"}},
	[SEAM_VM_STOP_FORCE] = {"VM_STOP_FORCE", true, {"vm_stop_force_state"}},
	[SEAM_SAVE_COMPLETE] = {"SAVE_COMPLETE", true, {"qemu_savevm_state_complete_precopy"}},
	[SEAM_CHANNEL_WAIT] = {"CHANNEL_WAIT", true, {"qio_channel_wait"}},
	[SEAM_CHANNEL_READ] = {"CHANNEL_READ", true, {"qio_channel_readv_full"}},
	[SEAM_FILE_READ_AT] = {"FILE_READ_AT", true, {NULL, "qemu_get_buffer_at"}},
	[SEAM_MULTIFD_RECV] = {"MULTIFD_RECV", true, {NULL, "multifd_recv"}},
	[SEAM_THREADS_WAIT] = {"THREADS_WAIT", true, {NULL, "thread_pool_wait"}},
	[SEAM_FD_READABLE_YIELD] = {"FD_READABLE_YIELD", true, {"yield_until_fd_readable"}},
	[SEAM_CHANNEL_YIELD] = {"CHANNEL_YIELD", true, {"qio_channel_yield"}},
	[SEAM_GET_BYTE] = {"GET_BYTE", true, {"qemu_get_byte"}},
	[SEAM_GET_BE16] = {"GET_BE16", true, {"qemu_get_be16"}},
	[SEAM_GET_BE32] = {"GET_BE32", true, {"qemu_get_be32"}},
	[SEAM_GET_COUNTED_STRING] = {"GET_COUNTED_STRING", true, {"qemu_get_counted_string"}},

	[SEAM_IN_COROUTINE] = {"IN_COROUTINE", true, {"qemu_in_coroutine"}},
	[SEAM_COROUTINE_SELF] = {"COROUTINE_SELF", true, {"qemu_coroutine_self"}},
	[SEAM_COROUTINE_YIELD] = {"COROUTINE_YIELD", true, {"qemu_coroutine_yield"}},
	[SEAM_COROUTINE_ENTER] = {"COROUTINE_ENTER", true, {"qemu_coroutine_enter"}},
	[SEAM_BH_ONESHOT] = {"BH_ONESHOT", true, {"aio_bh_schedule_oneshot_full"}},
	[SEAM_IOHANDLER_CONTEXT] = {"IOHANDLER_CONTEXT", true, {"iohandler_get_aio_context"}},
	[SEAM_THREAD_CREATE] = {"THREAD_CREATE", true, {"qemu_thread_create"}},
	[SEAM_THREAD_JOIN] = {"THREAD_JOIN", true, {"qemu_thread_join"}},
	[SEAM_SEM_WAIT] = {"SEM_WAIT", true, {"qemu_sem_wait"}},
	[SEAM_SEM_TIMEDWAIT] = {"SEM_TIMEDWAIT", true, {"qemu_sem_timedwait"}},
	[SEAM_RCU_REGISTER] = {"RCU_REGISTER", true, {"rcu_register_thread"}},
	[SEAM_RCU_UNREGISTER] = {"RCU_UNREGISTER", true, {"rcu_unregister_thread"}},
	[SEAM_FILE_SHUTDOWN] = {"FILE_SHUTDOWN", true, {"qemu_file_shutdown"}},
	[SEAM_FILE_GET_ERROR] = {"FILE_GET_ERROR", true, {"qemu_file_get_error"}},
	[SEAM_FILE_SET_ERROR] = {"FILE_SET_ERROR", true, {"qemu_file_set_error"}},
	[SEAM_PEEK_BUFFER] = {"PEEK_BUFFER", true, {"qemu_peek_buffer"}},
	[SEAM_OBJECT_TYPE] = {"OBJECT_TYPE", true, {"object_get_typename"}},
	[SEAM_ENUM_NAME] = {"ENUM_NAME", true, {"qapi_enum_lookup"}},
};

static const char *const variables[SEAM_VARIABLES][GENERATIONS] = {
	[SEAM_BQL_LOCK_HOOK] = {"qemu_bql_mutex_lock_func", "bql_mutex_lock_func"},
	[SEAM_COND_WAIT_HOOK] = {"qemu_cond_wait_func"},
	[SEAM_COND_TIMEDWAIT_HOOK] = {"qemu_cond_timedwait_func"},
	[SEAM_MIGRATION_STATUS] = {"MigrationStatus_lookup"},
};

bool seam_is_receiver(const char *thread)
{
	/* Before and after 9.1. */
	return !strncmp(thread, "multifdrecv_", 12) || !strncmp(thread, "mig/dst/recv_", 13);
}

const char *seam_id_name(enum seam_id id)
{
	return (unsigned int)id < SEAM_FUNCTIONS ? names[id].id : "?";
}

const char *seam_map_wanted(const struct seam_map *map, enum seam_id id)
{
	for (int g = map->generation; (unsigned int)id < SEAM_FUNCTIONS && g >= 0; g--) {
		if (names[id].names[g])
			return names[id].names[g];
	}
	return NULL;
}

bool seam_map_static(const struct seam_map *map, enum seam_id id)
{
	const char *wanted = seam_map_wanted(map, id);

	return wanted && !seam_map_function(map, id)->name && image_has_static(&map->image, wanted);
}

bool seam_map_vmstate_bool(const struct seam_map *map)
{
	const char *name = map->functions[SEAM_VMSTATE_LOAD].name;

	return name && !strcmp(name, names[SEAM_VMSTATE_LOAD].names[GENERATION_STATUS]);
}

uint64_t seam_map_variable(const struct seam_map *map, enum seam_variable id)
{
	for (int g = map->generation; g >= 0; g--) {
		uint64_t vaddr =
			variables[id][g] ? image_variable(&map->image, variables[id][g]) : 0;

		if (vaddr)
			return vaddr;
	}
	return 0;
}

bool names_detourable(enum seam_id id)
{
	return names[id].detourable;
}

static const struct image_symbol *resolve(const struct seam_map *map, enum seam_id id)
{
	for (int g = map->generation; g >= 0; g--) {
		const struct image_symbol *symbol;

		if (!names[id].names[g])
			continue;
		symbol = image_symbol(&map->image, names[id].names[g]);
		if (symbol)
			return symbol;
	}
	return NULL;
}

static bool has_lock(const struct image *image, bool by_static_name)
{
	for (int g = 0; g < GENERATIONS; g++) {
		const char *name = names[SEAM_BQL_LOCK].names[g];

		if (name && (by_static_name ? image_has_static(image, name)
					    : image_symbol(image, name) != NULL))
			return true;
	}
	return false;
}

/*
 * A QEMU with modules exports its functions to them. One without exports next to nothing, but was
 * perhaps not stripped, or its debug file is here.
 */
static int find_names(struct seam_map *map, struct seam_error *err)
{
	char version[MAP_VERSION];
	int ret;

	if (has_lock(&map->image, false))
		return 0;
	ret = image_read_symtab(&map->image, map->path);
	if (ret == -ENOMEM)
		return seam_fail(err, ret, "no memory for the symbols of %s", map->path);
	/*
	 * Optimized as one program, any function may have copies within its callers, where no probe
	 * would see it called: a recording would miss what it cannot even count.
	 */
	if (!ret && !has_lock(&map->image, false) && has_lock(&map->image, true))
		return seam_fail(err, -ENOTSUP,
				 "%s is a QEMU whose functions were made local by link-time "
				 "optimization (LTO): build it without, or with modules",
				 map->path);
	/* Looking for its version means reading all of it: not for who asks of every program. */
	if (ret && err && version_find(&map->image, version))
		return seam_fail(err, -ENOTSUP,
				 "%.80s is QEMU %.40s without symbols: built without modules, it "
				 "exports none; do not strip it, or install its debug file",
				 map->path, version);
	return 0;
}

int names_resolve(struct seam_map *map, struct seam_error *err)
{
	const struct image *image = &map->image;
	int ret = find_names(map, err);

	if (ret)
		return ret;
	if (image_symbol(image, names[SEAM_BQL_UPDATE_STATUS].names[GENERATION_STATUS]))
		map->generation = GENERATION_STATUS;
	else if (image_symbol(image, names[SEAM_BQL_LOCK].names[GENERATION_BQL]))
		map->generation = GENERATION_BQL;
	else
		map->generation = GENERATION_IOTHREAD;

	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct image_symbol *symbol = resolve(map, id);
		struct image_range range;

		if (!symbol)
			continue;
		map->functions[id] = (struct seam_function){
			.name = symbol->name,
			.vaddr = symbol->vaddr,
			.offset = image_offset(image, symbol->vaddr),
			.size = image_function(image, symbol->vaddr, &range) &&
						range.start == symbol->vaddr
					? range.end - range.start
					: symbol->size,
			.exported = symbol->exported,
			.found_by = symbol->exported ? NULL : "the symbol table",
		};
	}
	for (int id = SEAM_BQL_LOCK; id <= SEAM_BQL_LOCKED; id++) {
		if (!map->functions[id].name)
			return seam_fail(err, -ENOTSUP,
					 "%s is not a QEMU system emulator: it has no %s",
					 map->path, names[id].names[GENERATION_BQL]);
	}
	return 0;
}
