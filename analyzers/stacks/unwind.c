/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwinding with libdw: the process's files as it has them mapped, the memory that was copied.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/stacks/internal.h"

#define DWARF_REGS     16
#define LEARN_AGAIN_US 1000000

struct unwinder {
	pid_t pid;
	Dwfl *dwfl; /* NULL: no file of it could be read */
	int64_t learnt_us;
	const struct abi_stack *stack; /* the one being walked */
	bool missed;		       /* it goes on beyond what was copied */
	/* By address: what is known of a return address. Most come again and again. */
	GHashTable *known; /* struct place */
	GHashTable *symbols;
	GStringChunk *strings;
};

struct place {
	uint64_t address; /* the key */
	struct unwound frame;
	bool unwinds; /* there is unwind information for it */
	/*
	 * The function before it has ended, and with it one begins: no call returns here. Who made
	 * this stack put it there (makecontext() does): it is the last frame.
	 */
	bool made;
};

/* ---- the process's files ---- */

struct mapping {
	uint64_t begin, end, offset;
	unsigned major, minor;
	unsigned long inode;
	char path[4096];
};

static bool next_mapping(FILE *maps, struct mapping *m)
{
	char line[4300];
	unsigned long long begin, end, offset;
	int path = 0;

	while (fgets(line, sizeof(line), maps)) {
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%llx-%llx %*s %llx %x:%x %lu %n", &begin, &end, &offset,
			   &m->major, &m->minor, &m->inode, &path) < 6 ||
		    (line[path] != '/' && strcmp(line + path, "[vdso]")))
			continue;
		m->begin = begin;
		m->end = end;
		m->offset = offset;
		g_strlcpy(m->path, line + path, sizeof(m->path));
		return true;
	}
	return false;
}

/* The very file that is mapped, though its name may be another's by now, or in another root. */
static int open_mapped(pid_t pid, const struct mapping *m)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid,
		 (unsigned long long)m->begin, (unsigned long long)m->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/root%s", pid, m->path);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool report(Dwfl *dwfl, pid_t pid, const struct mapping *m)
{
	const char *name = strrchr(m->path, '/');
	char magic[4];
	int fd;

	if (!name) {
		/* The kernel's own: libdw takes it out of the process's memory by this name. */
		g_autofree char *vdso = g_strdup_printf("[vdso: %d]", pid);
		Dwfl_Module *module = dwfl_report_module(dwfl, vdso, m->begin, m->end);
		GElf_Addr bias;

		return module && dwfl_module_getelf(module, &bias);
	}
	/* The beginning of a file that is no ELF file is not worth a word. */
	if (m->offset || (fd = open_mapped(pid, m)) < 0)
		return false;
	if (pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "\177ELF", 4) &&
	    dwfl_report_elf(dwfl, name + 1, m->path, fd, m->begin, true))
		return true;
	close(fd);
	return false;
}

static bool report_files(Dwfl *dwfl, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	struct mapping m, last = {};
	bool any = false;

	dwfl_report_begin(dwfl);
	while (maps && next_mapping(maps, &m)) {
		if (m.inode != last.inode || m.major != last.major || m.minor != last.minor)
			any |= report(dwfl, pid, &m);
		last = m;
	}
	if (maps)
		fclose(maps);
	return !dwfl_report_end(dwfl, NULL, NULL) && any;
}

/* ---- what libdw asks ---- */

static pid_t next_thread(Dwfl *dwfl, void *opaque, void **thread)
{
	struct unwinder *u = opaque;

	(void)dwfl;
	/* One thread: first asked with NULL, then with what was answered. */
	if (*thread)
		return 0;
	*thread = u;
	return u->pid;
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *word, void *opaque)
{
	struct unwinder *u = opaque;
	const struct abi_stack *s = u->stack;
	uint64_t low = s->regs[ABI_REG_SP], at = address - low;

	(void)dwfl;
	if (address < low || s->size < sizeof(*word) || at > s->size - sizeof(*word)) {
		u->missed = true;
		return false;
	}
	memcpy(word, s->bytes + at, sizeof(*word));
	return true;
}

static bool set_registers(Dwfl_Thread *thread, void *opaque)
{
	/* By DWARF's numbers. */
	static const enum abi_reg order[DWARF_REGS] = {
		ABI_REG_AX,  ABI_REG_DX,  ABI_REG_CX,  ABI_REG_BX, ABI_REG_SI,	ABI_REG_DI,
		ABI_REG_BP,  ABI_REG_SP,  ABI_REG_R8,  ABI_REG_R9, ABI_REG_R10, ABI_REG_R11,
		ABI_REG_R12, ABI_REG_R13, ABI_REG_R14, ABI_REG_R15};
	const struct unwinder *u = opaque;
	Dwarf_Word regs[DWARF_REGS];

	for (int i = 0; i < DWARF_REGS; i++)
		regs[i] = u->stack->regs[order[i]];
	dwfl_thread_state_register_pc(thread, u->stack->regs[ABI_REG_IP]);
	return dwfl_thread_state_registers(thread, 0, DWARF_REGS, regs);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
	.next_thread = next_thread,
	.memory_read = read_memory,
	.set_initial_registers = set_registers,
};

/* No debug files beside the binary's place in the current folder: only the system's. */
static char *debug_path = (char *)"+:.debug:/usr/lib/debug";

static const Dwfl_Callbacks callbacks = {
	.find_elf = dwfl_linux_proc_find_elf, /* asked for the vDSO only */
	.find_debuginfo = symbols_find_debug_file,
	.section_address = dwfl_offline_section_address,
	.debuginfo_path = &debug_path,
};

/* ---- places ---- */

/* Without unwind information libdw would go on by guesses. */
static bool has_unwind_info(Dwfl_Module *module, uint64_t address)
{
	Dwarf_Frame *frame;
	Dwarf_Addr bias;
	Dwarf_CFI *cfi = dwfl_module_eh_cfi(module, &bias);

	if (!cfi || dwarf_cfi_addrframe(cfi, address - bias, &frame))
		return false;
	free(frame);
	return true;
}

/* Without its version, "@@GLIBC_2.34". */
static const char *symbol_name(struct unwinder *u, const char *symbol)
{
	g_autofree char *name = g_strndup(symbol, strcspn(symbol, "@"));

	return g_string_chunk_insert_const(u->strings, name);
}

static struct place *describe(struct unwinder *u, uint64_t address)
{
	Dwfl_Module *module = dwfl_addrmodule(u->dwfl, address);
	struct place *p = g_new0(struct place, 1);
	const char *name, *path = NULL, *symbol = NULL;
	struct symbols *symbols;
	Dwarf_Addr bias = 0;

	p->address = address;
	p->frame.module = p->frame.symbol = "";
	p->frame.address = address;
	g_hash_table_insert(u->known, &p->address, p);
	if (!module)
		return p;
	name = dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &path, NULL);
	symbols = g_hash_table_lookup(u->symbols, module);
	if (!symbols) {
		symbols = symbols_new(module);
		g_hash_table_insert(u->symbols, module, symbols);
	}
	/* After the symbols: until then the file may not have been opened. */
	dwfl_module_getelf(module, &bias);
	if (g_str_has_prefix(name, "[vdso"))
		path = "[vdso]";
	if (path)
		p->frame.module = g_string_chunk_insert_const(u->strings, path);
	p->frame.address = address - bias;
	symbol = symbols_find(symbols, address, &p->frame.offset, &p->frame.inside);
	if (symbol)
		p->frame.symbol = symbol_name(u, symbol);
	p->unwinds = has_unwind_info(module, address);
	p->made = !p->unwinds && has_unwind_info(module, address + 1);
	return p;
}

static struct place *place_at(struct unwinder *u, uint64_t address)
{
	struct place *p = g_hash_table_lookup(u->known, &address);

	return p ? p : describe(u, address);
}

/* ---- walking ---- */

struct walk {
	struct unwinder *u;
	struct unwound *frames;
	unsigned count;
	bool stopped, made;
};

static int take_frame(Dwfl_Frame *frame, void *opaque)
{
	struct walk *w = opaque;
	struct place *place;
	bool activation;
	Dwarf_Addr pc;

	if (!dwfl_frame_pc(frame, &pc, &activation)) {
		w->stopped = true;
		return DWARF_CB_ABORT;
	}
	/* A return address may be the first byte after a function that never returns. */
	pc -= !activation;
	place = place_at(w->u, pc);
	w->made = !activation && place->made;
	if (w->made)
		place = place_at(w->u, ++pc);
	w->frames[w->count] = place->frame;
	if (!activation && !w->made) {
		w->frames[w->count].address++;
		w->frames[w->count].offset++;
	}
	w->count++;
	w->stopped = w->made || !place->unwinds || w->count == STACKS_DEPTH;
	return w->stopped ? DWARF_CB_ABORT : DWARF_CB_OK;
}

/* Anew, unless the process has left: its files are still open here. */
static void learn_files(struct unwinder *u)
{
	Dwfl *dwfl = dwfl_begin(&callbacks);

	if (!dwfl)
		return;
	u->learnt_us = g_get_monotonic_time();
	if (!report_files(dwfl, u->pid) ||
	    !dwfl_attach_state(dwfl, NULL, u->pid, &thread_callbacks, u)) {
		dwfl_end(dwfl);
		return;
	}
	g_hash_table_remove_all(u->known);
	g_hash_table_remove_all(u->symbols);
	if (u->dwfl)
		dwfl_end(u->dwfl);
	u->dwfl = dwfl;
}

static bool walk_once(struct walk *w)
{
	int ret;

	w->count = 0;
	w->stopped = w->made = w->u->missed = false;
	ret = w->u->dwfl ? dwfl_getthread_frames(w->u->dwfl, w->u->pid, take_frame, w) : -1;
	/* libdw takes a return address that it cannot read for the end. */
	return w->made || (!ret && !w->stopped && !w->u->missed);
}

unsigned unwinder_walk(struct unwinder *u, const struct abi_stack *stack,
		       struct unwound frames[STACKS_DEPTH], bool *whole)
{
	struct walk w = {.u = u, .frames = frames};

	u->stack = stack;
	*whole = walk_once(&w);
	/* In no file: code made at run time, or a library that was loaded since. */
	if (!*whole && w.count && !*frames[w.count - 1].module &&
	    g_get_monotonic_time() - u->learnt_us > LEARN_AGAIN_US) {
		learn_files(u);
		*whole = walk_once(&w);
	}
	u->stack = NULL;
	return w.count;
}

static void free_symbols(gpointer symbols)
{
	symbols_free(symbols);
}

struct unwinder *unwinder_new(pid_t pid)
{
	struct unwinder *u = g_new0(struct unwinder, 1);

	u->pid = pid;
	u->known = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
	u->symbols = g_hash_table_new_full(NULL, NULL, NULL, free_symbols);
	u->strings = g_string_chunk_new(1024);
	learn_files(u);
	return u;
}

void unwinder_free(struct unwinder *u)
{
	if (!u)
		return;
	g_hash_table_unref(u->known);
	g_hash_table_unref(u->symbols);
	if (u->dwfl)
		dwfl_end(u->dwfl);
	g_string_chunk_free(u->strings);
	g_free(u);
}
