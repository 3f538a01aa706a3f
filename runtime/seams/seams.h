/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libseams: what we know of *this* QEMU binary, as one map.
 *
 * A seam is a place in the binary where a detour or a probe may go. This is the only place in the
 * project that knows QEMU's names. It reads the ELF file, never the process, and it never guesses:
 * what it cannot prove from the bytes is absent from the map, with a reason.
 *
 * Three rules hold for every map, so that no user of it can break a QEMU:
 *  - No probe point lies in the bytes that a detour would overwrite, whether or not a detour is
 *    installed: a uprobe runs the instruction that stands in the file, a detour changes memory, and
 *    where both meet QEMU dies. So tracer and runtime need not know of each other.
 *  - No probe point is a 5-byte nop: Linux 6.18 rewrites a probed one into a call, which pushes
 * into the red zone of QEMU's code.
 *  - Neither a probe point nor a detour's bytes hold a USDT probe of QEMU's own (trace backend
 * dtrace): the kernel refuses a second uprobe there that does not name the same semaphore, so
 * whichever tool comes last would fail; and a trap in a detour's jump kills QEMU.
 *
 * Addresses ("vaddr") are the file's own; in a process add the load bias. Offsets are bytes from
 * the start of the file. Sizes are bytes. All strings are owned by the map. The map is immutable
 * after opening and may be shared by threads. x86-64 only.
 */
#ifndef SEAMS_H
#define SEAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct seam_map;

/* One clear sentence, without a trailing newline. */
struct seam_error {
	char text[256];
};

/* Functions, under our own name; names.c holds each generation's. */
enum seam_id {
	/* The Big QEMU Lock. */
	SEAM_BQL_LOCK,		/* (const char *file, int line) */
	SEAM_BQL_UNLOCK,	/* (void) */
	SEAM_BQL_LOCKED,	/* bool (void): does this thread hold it */
	SEAM_BQL_UPDATE_STATUS, /* (bool locked): 10.1 and later, every transition */
	SEAM_MUTEX_LOCK,	/* (QemuMutex *, file, line) */
	SEAM_MUTEX_UNLOCK,	/* (QemuMutex *, file, line) */
	SEAM_COND_WAIT,		/* (QemuCond *, QemuMutex *, file, line) */
	SEAM_COND_TIMEDWAIT,	/* (QemuCond *, QemuMutex *, int ms, file, line) */

	/* Incoming migration. */
	SEAM_LOADVM_STATE,	/* int (QEMUFile * [, Error **]) */
	SEAM_LOADVM_STATE_MAIN, /* int (QEMUFile *, MigrationIncomingState * [, Error **]) */
	SEAM_VMSTATE_LOAD,	/* int (QEMUFile *, const VMStateDescription *, void *, int) */
	SEAM_RAM_LOAD,		/* static; int (QEMUFile *, void *opaque, int version) */
	SEAM_CPU_SYNC_PRE_LOADVM,
	SEAM_CPU_SYNC_POST_INIT,
	SEAM_BDRV_ACTIVATE_ALL,
	SEAM_VM_PREPARE_START,	/* int (bool step_pending [, ...]) */
	SEAM_VM_START,		/* calls it, then lets the vCPUs run */
	SEAM_MULTIFD_RECV_SYNC, /* waits for every multifd channel */
	SEAM_MIGRATE_SET_STATE, /* (int *state, int old, int new) */
	SEAM_INCOMING_DESTROY,	/* migration_incoming_state_destroy: the load is over */
	SEAM_CLEANUP,		/* (int status); 7.2: (void). QEMU takes itself apart */
	SEAM_VM_STOP_FORCE,	/* int (RunState): the source's guest stops to be switched over */
	SEAM_SAVE_COMPLETE,	/* the source begins to save what is left, device state above all */
	SEAM_CHANNEL_WAIT,	/* (QIOChannel *, GIOCondition) */
	SEAM_CHANNEL_READ,	/* (QIOChannel *, iov, niov, ...): 6 or 7 arguments */
	SEAM_FILE_READ_AT, /* size_t (QEMUFile *, buffer, size, offset): mapped-ram; 9.0 and later
			    */
	SEAM_MULTIFD_RECV, /* bool (void): hands the channels work; 9.0 and later */
	SEAM_THREADS_WAIT, /* (ThreadPool *): joins the load threads; 10.0 and later */
	SEAM_FD_READABLE_YIELD, /* yield_until_fd_readable(int fd): RDMA's wait */
	SEAM_CHANNEL_YIELD,	/* (QIOChannel *, GIOCondition): the coroutine's CHANNEL_WAIT */
	/* Reading the stream, as far as its sections' headers are read with them. */
	SEAM_GET_BYTE,		 /* int (QEMUFile *) */
	SEAM_GET_BE16,		 /* unsigned int (QEMUFile *) */
	SEAM_GET_BE32,		 /* unsigned int (QEMUFile *) */
	SEAM_GET_COUNTED_STRING, /* size_t (QEMUFile *, char[256]) */

	/* What the runtime calls. */
	SEAM_IN_COROUTINE,
	SEAM_COROUTINE_SELF,
	SEAM_COROUTINE_YIELD,
	SEAM_COROUTINE_ENTER,
	SEAM_BH_ONESHOT,	/* aio_bh_schedule_oneshot_full(AioContext *, cb, opaque, name) */
	SEAM_IOHANDLER_CONTEXT, /* AioContext * (void) */
	SEAM_THREAD_CREATE,	/* (QemuThread *, name, fn, arg, mode) */
	SEAM_THREAD_JOIN,	/* void * (QemuThread *) */
	SEAM_SEM_WAIT,		/* (QemuSemaphore *) */
	SEAM_SEM_TIMEDWAIT,	/* int (QemuSemaphore *, int ms): 0, or -1 when the time is over */
	SEAM_RCU_REGISTER,
	SEAM_RCU_UNREGISTER,
	SEAM_FILE_SHUTDOWN,  /* int (QEMUFile *) */
	SEAM_FILE_GET_ERROR, /* int (QEMUFile *) */
	SEAM_FILE_SET_ERROR, /* (QEMUFile *, int negative errno): its reader fails */
	SEAM_PEEK_BUFFER,    /* size_t (QEMUFile *, uint8_t **, size_t size, size_t offset) */
	SEAM_OBJECT_TYPE,    /* const char * (Object *): its type's name */
	SEAM_ENUM_NAME,	     /* const char * (const QEnumLookup *, int) */

	SEAM_FUNCTIONS
};

struct seam_function {
	const char *name; /* in this build; NULL: this build has no such function */
	uint64_t vaddr;
	uint64_t offset;
	uint64_t size; /* from the symbol, or the unwind table for static functions; 0 unknown */
	bool exported; /* in .dynsym; else `found_by` says how: by .symtab, or by structure */
	const char *found_by;
	/*
	 * A detour takes `extent` bytes: whole instructions, at least 5, none of them a jump target
	 * from inside the function. 0: no detour is safe, `refusal` says why. `code` are the
	 * extent's bytes as they stand in the file; memory must equal them before a detour goes in.
	 *
	 * The extent lies inside the function (padding behind it does not count). Only its last
	 * instruction may call, branch or return, and then only in a form that can be moved: call
	 * rel32, jmp, jcc, ret; never an indirect call, loop, jrcxz, a trap or a prefixed branch.
	 * x(%rip) operands are fine, other than of the extent itself. The function may jump to its
	 * very first byte: under a detour that is one more call of the replacement.
	 */
	uint32_t extent;
	const uint8_t *code;
	const char *refusal;
};

/*
 * Where a probe may stand. Several points of one kind are all needed (every call site).
 *
 * Each is passed once per event, but both ENDs stand where the loader of any one section returns to
 * the stream's reader: where its last act is a tail call (7.2, 10.0) there is no nearer place. So a
 * SECTION_END or RAM_END without its BEGIN is normal (another kind of section has ended) and to be
 * ignored, and the same address may carry both kinds. Sections do not nest.
 */
enum seam_point_kind {
	SEAM_ASK,	 /* about to take the BQL; rdi = file, esi = line */
	SEAM_ACQUIRED,	 /* has it */
	SEAM_RELEASED,	 /* about to give it back, still holding */
	SEAM_STATUS,	 /* dil: 1 has it, 0 about to have given it back; replaces the two above */
	SEAM_COND_SLEEP, /* entering a condvar wait; rsi = the mutex, rdx = file, ecx = line */
	SEAM_COND_TIMED_SLEEP, /* the same with a time-out; rsi = the mutex, rcx = file, r8d = line
				*/
	SEAM_COND_WOKE,	       /* returned from either condvar wait, holding the mutex again */
	SEAM_LOAD_BEGIN,       /* the incoming stream is about to be read */
	SEAM_SECTION_BEGIN,    /* a device section's top-level VMSD; rsi = VMStateDescription * */
	SEAM_SECTION_END,
	SEAM_RAM_BEGIN, /* one RAM section's load */
	SEAM_RAM_END,
	SEAM_ACTIVATE, /* disk activation begins */
	SEAM_START,    /* the vCPUs are about to be started */
	SEAM_LOAD_END, /* incoming state is torn down */
	SEAM_STOP,     /* on the source: the guest is about to be stopped */
	SEAM_SAVE,     /* on the source: the last part of the stream is about to be written */
	SEAM_STATE,    /* a migration, outgoing or incoming, enters another state */

	SEAM_POINT_KINDS
};

struct seam_point {
	enum seam_point_kind kind;
	enum seam_id function; /* the function whose bytes or calls it stands on */
	uint64_t vaddr;
	uint64_t offset;
	bool emulated; /* the kernel emulates this instruction (~0.5 us); else it single-steps (~9.5
			  us) */
	const char *insn; /* its text, for `bqlstat probes` */
	const uint8_t
		*code; /* its bytes in the file: the tracer compares live text before attaching */
	uint32_t code_len;
};

/*
 * Open a binary by path; its names come from .dynsym, and where that lacks them from .symtab, or
 * from a debug file (by build id, or .gnu_debuglink) with the same build id. Returns 0 and a map to
 * free, or a negative errno and a sentence in `err`: -ENOENT/-EACCES (cannot read it), -ENOEXEC
 * (not an x86-64 ELF executable), -ENOTSUP (no BQL functions in it: not a QEMU system emulator, or
 * one without symbols). A QEMU whose lock functions are known but whose migration functions are not
 * opens well: look at each function and at seam_map_missing().
 */
int seam_map_open(const char *path, struct seam_map **map, struct seam_error *err);

/*
 * The QEMU that runs as `pid`, through /proc: right also in containers, for a binary replaced on
 * disk, and for one started through an explicit ld.so (then /proc/PID/exe is the loader's: the
 * executable mapping that holds the lock functions counts). Fills *bias (may be NULL) with the load
 * bias. -ESRCH: no such process.
 */
int seam_map_open_pid(pid_t pid, struct seam_map **map, uint64_t *bias, struct seam_error *err);
void seam_map_free(struct seam_map *map);

/*
 * A path that opens this very file while the process and this map live (/proc/PID/...), else the
 * path given.
 */
const char *seam_map_path(const struct seam_map *map);
const char *seam_map_version(const struct seam_map *map);  /* "7.2.22 (Debian ...)", or "unknown" */
const char *seam_map_build_id(const struct seam_map *map); /* hex, "" when absent */
const char *
seam_map_generation(const struct seam_map *map); /* "7.2-8.2", "9.0-10.0", "10.1-11.x" */

/*
 * Global variables. The hooks are pointers to functions, through which QEMU itself lets its lock
 * profiler (sync-profile) see the calls: (QemuMutex *, file, line) and so on.
 */
enum seam_variable {
	SEAM_BQL_LOCK_HOOK,	  /* holds MUTEX_LOCK's address, and takes the BQL only */
	SEAM_COND_WAIT_HOOK,	  /* COND_WAIT's */
	SEAM_COND_TIMEDWAIT_HOOK, /* COND_TIMEDWAIT's; bool */
	SEAM_MIGRATION_STATUS,	  /* QEnumLookup: the migration states' names, for ENUM_NAME */

	SEAM_VARIABLES
};

/* Its vaddr; 0: this build has no such variable. */
uint64_t seam_map_variable(const struct seam_map *map, enum seam_variable id);

/* From 11.0 on VMSTATE_LOAD returns a bool, true for success; before, 0 or a negative errno. */
bool seam_map_vmstate_bool(const struct seam_map *map);

/* Never NULL; check ->name. */
const struct seam_function *seam_map_function(const struct seam_map *map, enum seam_id id);
/* Our own name for it, e.g. "BQL_LOCK": for messages about builds that lack it. */
const char *seam_id_name(enum seam_id id);
/* Whether a thread's name, as QEMU gives it, is that of a multifd channel of an incoming load. */
bool seam_is_receiver(const char *thread);
/* Is it only there as a static function, as link-time optimization leaves it? */
bool seam_map_static(const struct seam_map *map, enum seam_id id);
/* What a build of this generation ought to call it; NULL: it has no name, or did not exist. */
const char *seam_map_wanted(const struct seam_map *map, enum seam_id id);

/*
 * Is it no loss that this build lacks `id`: its generation has no such function, or what would call
 * it was not built (a static library's unused function is not linked)?
 */
bool seam_map_needless(const struct seam_map *map, enum seam_id id);

/*
 * Do the calls that a detour on `id` is meant for arrive at its entry? Not if the compiler inlined
 * or cloned the function into its caller: a detour would be in place and never be hit. `how` says
 * by whom it is, or ought to be, called ("called by the incoming coroutine"); `call` is the vaddr
 * of one such call, 0 when none was found or none is needed.
 */
bool seam_map_reached(const struct seam_map *map, enum seam_id id, uint64_t *call,
		      const char **how);

const struct seam_point *seam_map_points(const struct seam_map *map, size_t *count);
const char *seam_point_kind_name(enum seam_point_kind kind);
/*
 * Why a kind has no point in this build, or not all it should have; NULL when nothing is missing.
 * "replaced by STATUS" for the kinds that a build with STATUS points does without.
 */
const char *seam_map_missing(const struct seam_map *map, enum seam_point_kind kind);

uint64_t seam_map_bql(const struct seam_map *map); /* vaddr of the BQL's QemuMutex; never 0 */

/*
 * Read-only data of the file at a vaddr: a NUL-terminated string there, or NULL when the address is
 * not in a loaded section of the file. For names in .rodata whose page is not resident.
 */
const char *seam_map_string(const struct seam_map *map, uint64_t vaddr);

/* Every global function that has a name, for tests and tools: calls `fn` until it returns false. */
void seam_map_each_function(const struct seam_map *map,
			    bool (*fn)(const struct seam_function *f, void *opaque), void *opaque);

/* Would the kernel's uprobes emulate the instruction at `code`: the rule behind every point's
 * place. */
bool seam_emulated(const uint8_t *code, size_t size);

/*
 * How many bytes at `code` (which stands at `vaddr`, at most `size` bytes of one function) a detour
 * of at least `need` bytes would take. 0 and a reason when none is safe. The rule behind
 * seam_function.extent, exposed so that the detour engine can be tested on any function.
 */
uint32_t seam_extent(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t need,
		     const char **refusal);

#endif
