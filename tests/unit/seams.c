/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam map: its two rules over every function of real QEMUs, and the points' exact places on
 * builds we know.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <glib.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"
#include "tests/unit/points.h"

#define BUILD_7_2  "d9541fd67c4ea37f9ca7fca0f5096f32b3b7e7e0"
#define BUILD_10_0 "0fbbd5ca8d2d0a32532049e20739f3e0d521c5ed"
#define BUILD_11_1 "19082c1198d23ae45c6960a77fdc889301dfb4de"

/* ---- a map of one version, or a skip ---- */

struct subject {
	const char *path;
	struct seam_map *map;
	GMappedFile *file;
	const uint8_t *bytes;
	size_t size;
};

static bool subject_open(struct subject *s, const char *version)
{
	struct seam_error err;
	const char *why;

	*s = (struct subject){.path = lab_qemu_binary(version, &why)};
	if (!s->path) {
		g_test_skip(why);
		return false;
	}
	if (seam_map_open(s->path, &s->map, &err))
		g_error("%s", err.text);
	s->file = g_mapped_file_new(s->path, FALSE, NULL);
	g_assert_nonnull(s->file);
	s->bytes = (const uint8_t *)g_mapped_file_get_contents(s->file);
	s->size = g_mapped_file_get_length(s->file);
	return true;
}

static void subject_close(struct subject *s)
{
	seam_map_free(s->map);
	if (s->file)
		g_mapped_file_unref(s->file);
}

static bool decode(const uint8_t *bytes, size_t size, ZydisDecodedInstruction *insn)
{
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, size, insn));
}

/* ---- the two rules, on every function ---- */

/*
 * Every address that some call, jump or branch anywhere in the program's code names directly, found
 * by decoding all of it from end to end: shares nothing with the map's own walk.
 */
static GHashTable *branch_targets(const struct subject *s)
{
	const Elf64_Ehdr *ehdr = (const void *)s->bytes;
	const Elf64_Shdr *shdr = (const void *)(s->bytes + ehdr->e_shoff);
	GHashTable *targets = g_hash_table_new(g_direct_hash, g_direct_equal);
	ZydisDecodedInstruction insn;
	size_t undecoded = 0;

	for (unsigned int i = 0; i < ehdr->e_shnum; i++) {
		const uint8_t *code = s->bytes + shdr[i].sh_offset;

		if (!(shdr[i].sh_flags & SHF_EXECINSTR))
			continue;
		for (size_t at = 0; at < shdr[i].sh_size;) {
			if (!decode(code + at, shdr[i].sh_size - at, &insn)) {
				undecoded++;
				at++;
				continue;
			}
			at += insn.length;
			if (insn.raw.imm[0].is_relative)
				g_hash_table_add(targets,
						 GSIZE_TO_POINTER(shdr[i].sh_addr + at +
								  insn.raw.imm[0].value.s));
		}
	}
	g_test_message("%u branch targets, %zu bytes that are no code", g_hash_table_size(targets),
		       undecoded);
	g_assert_cmpuint(g_hash_table_size(targets), >, 100000);
	return targets;
}

struct tally {
	const struct subject *subject;
	GHashTable *targets;
	GHashTable *refusals;
	unsigned int functions, detourable;
};

static bool check_extent(const struct seam_function *f, void *opaque)
{
	struct tally *tally = opaque;
	const uint8_t *code = tally->subject->bytes + f->offset;
	ZydisDecodedInstruction insn;
	uint32_t at = 0;

	tally->functions++;
	if (!f->extent) {
		g_assert_nonnull(f->refusal);
		g_hash_table_add(tally->refusals, (gpointer)f->refusal);
		return true;
	}
	tally->detourable++;
	g_assert_null(f->refusal);
	g_assert_cmpuint(f->extent, >=, 5);
	g_assert_cmpuint(f->extent, <=, 4 + 15); /* the last begins before a jump's length */
	g_assert_cmpuint(f->extent, <=, f->size);
	g_assert_cmpmem(f->code, f->extent, code, f->extent);
	while (at < f->extent) {
		bool last;

		g_assert_true(decode(code + at, f->size - at, &insn));
		at += insn.length;
		last = at == f->extent;
		switch (insn.meta.category) {
		case ZYDIS_CATEGORY_CALL:
			g_assert_true(last && insn.raw.imm[0].is_relative);
			break;
		case ZYDIS_CATEGORY_COND_BR:
			g_assert_true(last && insn.opcode != 0xe3 &&
				      insn.mnemonic != ZYDIS_MNEMONIC_XBEGIN &&
				      insn.mnemonic != ZYDIS_MNEMONIC_LOOP);
			break;
		case ZYDIS_CATEGORY_UNCOND_BR:
		case ZYDIS_CATEGORY_RET:
			g_assert_true(last);
			break;
		case ZYDIS_CATEGORY_INTERRUPT:
			g_assert_not_reached();
		default:
			break;
		}
	}
	g_assert_cmpuint(at, ==, f->extent);
	for (uint64_t inside = f->vaddr + 1; inside < f->vaddr + f->extent; inside++) {
		if (g_hash_table_contains(tally->targets, GSIZE_TO_POINTER(inside)))
			g_error("%s: something jumps to +%zu of %u", f->name,
				(size_t)(inside - f->vaddr), f->extent);
	}
	return true;
}

static void test_extents(const void *version)
{
	struct subject s;
	struct tally tally = {.subject = &s, .refusals = g_hash_table_new(g_str_hash, g_str_equal)};
	GHashTableIter iter;
	gpointer refusal;

	if (!subject_open(&s, version))
		return;
	tally.targets = branch_targets(&s);
	seam_map_each_function(s.map, check_extent, &tally);
	g_test_message("%u of %u functions may be detoured", tally.detourable, tally.functions);
	g_hash_table_iter_init(&iter, tally.refusals);
	while (g_hash_table_iter_next(&iter, &refusal, NULL))
		g_test_message("others: %s", (const char *)refusal);
	g_assert_cmpuint(tally.functions, >, 9000);
	/* The rest are stubs: `ret`, `xor %eax,%eax; ret`, and calls within the first bytes. */
	g_assert_cmpuint(tally.detourable, >, tally.functions * 9 / 10);
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(s.map, id);

		if (f->extent)
			check_extent(f, &tally);
	}
	g_hash_table_unref(tally.targets);
	g_hash_table_unref(tally.refusals);
	subject_close(&s);
}

/* The kernel's list (arch/x86/kernel/uprobes.c), from the opcode bytes alone. */
static bool emulates(const uint8_t *b, uint32_t length)
{
	if (length == 1)
		return b[0] == 0x90 || (b[0] & 0xf8) == 0x50;
	if (length == 2)
		return b[0] == 0xeb || (b[0] & 0xf0) == 0x70 ||
		       (b[0] == 0x41 && (b[1] & 0xf8) == 0x50);
	if (length == 5)
		return b[0] == 0xe8 || b[0] == 0xe9;
	return length == 6 && b[0] == 0x0f && (b[1] & 0xf0) == 0x80;
}

static void check_points(const struct subject *s)
{
	size_t n;
	const struct seam_point *points = seam_map_points(s->map, &n);

	g_assert_cmpuint(n, >, 0);
	for (size_t i = 0; i < n; i++) {
		const struct seam_point *p = &points[i];
		ZydisDecodedInstruction insn;

		if (g_test_verbose())
			g_test_message("%-17s %8" PRIx64 " %s %s", seam_point_kind_name(p->kind),
				       p->vaddr, p->emulated ? "emulated" : "stepped ", p->insn);
		g_assert_cmpuint(p->offset + p->code_len, <=, s->size);
		g_assert_cmpmem(p->code, p->code_len, s->bytes + p->offset, p->code_len);
		g_assert_true(decode(s->bytes + p->offset, 15, &insn));
		g_assert_cmpuint(insn.length, ==, p->code_len);
		g_assert_false(p->code_len == 5 && p->code[0] == 0x0f && p->code[1] == 0x1f);
		g_assert_cmpint(p->emulated, ==, emulates(p->code, p->code_len));
		g_assert_true(p->insn && p->insn[0]);
		for (int id = 0; id < SEAM_FUNCTIONS; id++) {
			const struct seam_function *f = seam_map_function(s->map, id);

			g_assert_false(f->extent && p->vaddr < f->vaddr + f->extent &&
				       p->vaddr + p->code_len > f->vaddr);
		}
	}
}

/* ---- what each version must show ---- */

/* mapped-ram's, and load threads. */
static bool since_9_0(enum seam_id id)
{
	return id == SEAM_FILE_READ_AT || id == SEAM_MULTIFD_RECV || id == SEAM_THREADS_WAIT;
}

static void check_kinds(const struct seam_map *map, bool status)
{
	for (unsigned int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		bool replaced =
			kind == SEAM_ACQUIRED || kind == SEAM_RELEASED || kind == SEAM_COND_WOKE;
		bool wanted = kind == SEAM_STATUS ? status : !(status && replaced);

		g_assert_cmpint(find_point(map, kind) != NULL, ==, wanted);
		g_assert_cmpstr(seam_map_missing(map, kind), ==,
				status && replaced ? "replaced by STATUS" : NULL);
	}
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(map, id);

		if (since_9_0(id) && g_str_has_prefix(seam_map_version(map), "7.2")) {
			g_assert_null(f->name);
			continue;
		}
		g_assert_cmpint(f->name != NULL, ==, id != SEAM_BQL_UPDATE_STATUS || status);
		g_assert_cmpint(f->exported, ==, f->name && id != SEAM_RAM_LOAD);
		g_assert_cmpint(f->found_by != NULL, ==, id == SEAM_RAM_LOAD);
		/* What the runtime calls or stands in for; of the lock's own, only the way out. */
		if (id != SEAM_ENUM_NAME)
			g_assert_cmpint(f->extent != 0, ==,
					id > SEAM_COND_TIMEDWAIT || id == SEAM_BQL_UNLOCK);
	}
}

static void test_map(const void *version)
{
	bool status = !strcmp(version, "11.1");
	struct subject s;

	if (!subject_open(&s, version))
		return;
	g_assert_true(g_str_has_prefix(seam_map_version(s.map), version));
	g_assert_nonnull(strstr(seam_map_version(s.map), "(Debian"));
	g_assert_cmpuint(strlen(seam_map_build_id(s.map)), ==, 40);
	g_assert_cmpstr(seam_map_path(s.map), ==, s.path);
	g_assert_cmpuint(seam_map_bql(s.map), !=, 0);
	check_kinds(s.map, status);
	check_points(&s);
	for (unsigned int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		const struct seam_point *p = find_point(s.map, kind);

		/* 11.1's section loader does nothing cheap between the VMSD and its return. */
		if (p)
			g_assert_true(p->emulated || (status && kind == SEAM_SECTION_END));
	}
	subject_close(&s);
}

/* Offsets in the function a point is said to stand in; or file addresses, for call sites. */
struct place {
	const char *build_id;
	enum seam_point_kind kind;
	uint64_t at;
	bool absolute;
};

static const struct place places[] = {
	{BUILD_7_2, SEAM_ASK, 0xb, false},
	{BUILD_7_2, SEAM_ACQUIRED, 0x4f, false},
	{BUILD_7_2, SEAM_RELEASED, 0x4e, false},
	{BUILD_7_2, SEAM_COND_SLEEP, 0, false},
	{BUILD_7_2, SEAM_COND_TIMED_SLEEP, 0, false},
	{BUILD_7_2, SEAM_COND_WOKE, 0x96dc65, true},
	{BUILD_7_2, SEAM_COND_WOKE, 0x96d2db, true},
	{BUILD_7_2, SEAM_LOAD_BEGIN, 6, false},
	{BUILD_7_2, SEAM_SECTION_BEGIN, 0x60a413, true},
	{BUILD_7_2, SEAM_SECTION_END, 0x60a6a7, true},
	{BUILD_7_2, SEAM_SECTION_END, 0x60dfb8, true},
	{BUILD_7_2, SEAM_RAM_BEGIN, 0x78a358, true},
	{BUILD_7_2, SEAM_START, 6, false},
	{BUILD_10_0, SEAM_ASK, 0xb, false},
	{BUILD_10_0, SEAM_ACQUIRED, 0x4f, false},
	{BUILD_10_0, SEAM_RELEASED, 0x58, false},
	{BUILD_10_0, SEAM_COND_SLEEP, 0, false},
	{BUILD_10_0, SEAM_COND_TIMED_SLEEP, 0, false},
	{BUILD_10_0, SEAM_COND_WOKE, 0xad9925, true},
	{BUILD_10_0, SEAM_COND_WOKE, 0xad8ebb, true},
	{BUILD_10_0, SEAM_LOAD_BEGIN, 6, false},
	{BUILD_10_0, SEAM_SECTION_BEGIN, 0x766083, true},
	{BUILD_10_0, SEAM_SECTION_END, 0x7662ac, true},
	{BUILD_10_0, SEAM_SECTION_END, 0x76638a, true},
	{BUILD_10_0, SEAM_SECTION_END, 0x76a1f1, true},
	{BUILD_10_0, SEAM_SECTION_END, 0x76a597, true},
	{BUILD_10_0, SEAM_RAM_BEGIN, 0x8d9755, true},
	{BUILD_11_1, SEAM_ASK, 0xf, false},
	{BUILD_11_1, SEAM_STATUS, 8, false},
	{BUILD_11_1, SEAM_COND_SLEEP, 4, false},
	{BUILD_11_1, SEAM_COND_TIMED_SLEEP, 4, false},
	{BUILD_11_1, SEAM_SECTION_BEGIN, 0x5bfc1c, true},
	{BUILD_11_1, SEAM_SECTION_END, 0x5bfc21, true},
};

/* The SaveVMHandlers slot of load_state, as bytes of the release's own layout. */
static const struct {
	const char *build_id;
	uint64_t bql, handlers, load_state;
} layouts[] = {
	{BUILD_7_2, 0x118db40, 0x10d3f00, 80},
	{BUILD_10_0, 0x1b5e2c0, 0x1a8ad00, 104},
};

static uint64_t relocated(const struct subject *s, uint64_t vaddr)
{
	const Elf64_Ehdr *ehdr = (const void *)s->bytes;
	const Elf64_Shdr *shdr = (const void *)(s->bytes + ehdr->e_shoff);

	for (unsigned int i = 0; i < ehdr->e_shnum; i++) {
		const Elf64_Rela *rela = (const void *)(s->bytes + shdr[i].sh_offset);

		if (shdr[i].sh_type != SHT_RELA)
			continue;
		for (size_t n = shdr[i].sh_size / sizeof(*rela); n; n--, rela++) {
			if (rela->r_offset == vaddr)
				return rela->r_addend;
		}
	}
	return 0;
}

static void test_known_build(const void *version)
{
	unsigned int known = 0, counts[SEAM_POINT_KINDS] = {0};
	struct subject s;
	const struct seam_point *points;
	size_t n;

	if (!subject_open(&s, version))
		return;
	points = seam_map_points(s.map, &n);
	for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
		bool found = false;

		if (strcmp(places[i].build_id, seam_map_build_id(s.map)))
			continue;
		known++;
		counts[places[i].kind]++;
		for (size_t j = 0; j < n; j++) {
			const struct seam_function *f =
				seam_map_function(s.map, points[j].function);
			uint64_t base = places[i].absolute ? 0 : f->vaddr;

			found |= points[j].kind == places[i].kind &&
				 points[j].vaddr == base + places[i].at;
		}
		if (!found)
			g_error("no %s at %" PRIx64, seam_point_kind_name(places[i].kind),
				places[i].at);
	}
	/* And no more of a kind than are expected. */
	for (size_t j = 0; known && j < n; j++) {
		if (counts[points[j].kind])
			g_assert_cmpuint(counts[points[j].kind]--, >, 0);
		else
			g_assert_true(points[j].kind > SEAM_COND_WOKE);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(layouts); i++) {
		if (strcmp(layouts[i].build_id, seam_map_build_id(s.map)))
			continue;
		g_assert_cmphex(seam_map_bql(s.map), ==, layouts[i].bql);
		g_assert_cmphex(relocated(&s, layouts[i].handlers + layouts[i].load_state), ==,
				seam_map_function(s.map, SEAM_RAM_LOAD)->vaddr);
	}
	if (!known) {
		char *why = g_strdup_printf("places are not known for build %s of %s",
					    seam_map_build_id(s.map), (const char *)version);

		g_test_skip(why);
		g_free(why);
	}
	subject_close(&s);
}

/* ---- the calls that a detour is for ---- */

static void test_reached(const void *version)
{
	static const enum seam_id wanted[] = {
		SEAM_LOADVM_STATE, SEAM_LOADVM_STATE_MAIN, SEAM_VMSTATE_LOAD,
		SEAM_CHANNEL_WAIT, SEAM_CHANNEL_READ,	   SEAM_MULTIFD_RECV_SYNC,
		SEAM_CLEANUP,	   SEAM_FD_READABLE_YIELD, SEAM_FILE_READ_AT,
		SEAM_MULTIFD_RECV, SEAM_THREADS_WAIT,
	};
	struct subject s;
	const char *how;
	uint64_t call;

	if (!subject_open(&s, version))
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
		const struct seam_function *f = seam_map_function(s.map, wanted[i]);
		const uint8_t *insn;
		int32_t rel;

		if (!f->name && since_9_0(wanted[i]) && !strcmp(version, "7.2"))
			continue;
		g_assert_true(seam_map_reached(s.map, wanted[i], &call, &how));
		g_test_message("%s: %s, at %#" PRIx64, f->name, how, call);
		g_assert_cmpuint(call, !=, 0);
		insn = s.bytes + (call - f->vaddr + f->offset);
		g_assert_cmpint(insn[0] & 0xfe, ==, 0xe8);
		memcpy(&rel, insn + 1, sizeof(rel));
		g_assert_cmphex(call + 5 + rel, ==, f->vaddr);
	}
	/* Through a pointer: the call instruction cannot tell. */
	g_assert_true(seam_map_reached(s.map, SEAM_RAM_LOAD, &call, &how));
	g_assert_cmpuint(call, !=, 0);
	g_assert_true(seam_map_reached(s.map, SEAM_THREAD_CREATE, &call, &how));
	g_assert_cmpuint(call, ==, 0);
	subject_close(&s);
}

static void test_string(void)
{
	struct subject s;
	const char *text;
	uint64_t at = 0;

	if (!subject_open(&s, "7.2"))
		return;
	/* Debian links it so that .rodata's address is its offset. */
	text = memmem(s.bytes, s.size, "QEMU emulator version ", 22);
	g_assert_nonnull(text);
	at = (const uint8_t *)text - s.bytes;
	g_assert_true(g_str_has_prefix(seam_map_string(s.map, at), "QEMU emulator version 7.2"));
	g_assert_null(seam_map_string(s.map, seam_map_bql(s.map)));
	g_assert_null(seam_map_string(s.map, UINT64_MAX));
	g_assert_null(seam_map_string(s.map, UINT64_MAX - 4096));
	g_assert_null(seam_map_string(s.map, 1ull << 47));
	subject_close(&s);
}

/* ---- the extent rule, by example ---- */

/* Maps of one file share its bytes: whichever goes first takes nothing from the others. */
static void test_shared(void)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		const char *why, *path = lab_qemu_binary(versions[i], &why);
		struct seam_map *maps[3];
		struct seam_error err;

		if (!path) {
			g_test_message("%s: %s", versions[i], why);
			continue;
		}
		for (unsigned j = 0; j < G_N_ELEMENTS(maps); j++)
			g_assert_cmpint(seam_map_open(path, &maps[j], &err), ==, 0);
		for (unsigned j = 0; j < G_N_ELEMENTS(maps); j++) {
			struct seam_map *again;
			size_t n = 0;

			seam_map_free(maps[(j + 1) % 3]);
			g_assert_cmpstr(seam_map_version(maps[j]), !=, "");
			seam_map_points(maps[j], &n);
			g_assert_cmpuint(n, >, 10);
			/* Found anew, from bytes that others had found before. */
			g_assert_cmpint(seam_map_open(path, &again, &err), ==, 0);
			g_assert_cmpuint(seam_map_bql(again), ==, seam_map_bql(maps[j]));
			maps[(j + 1) % 3] = again;
		}
		for (unsigned j = 0; j < G_N_ELEMENTS(maps); j++)
			seam_map_free(maps[j]);
	}
}

static void test_extent_examples(void)
{
	static const struct {
		const char *what;
		uint8_t code[24];
		size_t size;
		uint32_t need, extent;
	} examples[] = {
		{"pushes", "\x41\x57\x41\x56\x55\xc3", 6, 5, 5},
		{"a whole instruction more", "\x41\x57\x48\x83\xec\x08\xc3", 7, 5, 6},
		{"more than a near jump wanted", "\x41\x57\x48\x83\xec\x08\x41\x56\xc3", 9, 7, 8},
		{"rip-relative data", "\x48\x8b\x05\x00\x01\x00\x00\xc3", 8, 5, 7},
		{"rip-relative to its own code", "\x48\x8b\x05\xfb\xff\xff\xff\xc3", 8, 5, 0},
		{"a call at the end", "\x48\x83\xec\x08\xe8\x00\x01\x00\x00\xc3", 10, 5, 9},
		{"only a call", "\xe8\x00\x01\x00\x00\xc3", 6, 5, 5},
		{"a call, and more wanted", "\xe8\x00\x01\x00\x00\x90\xc3", 7, 6, 0},
		{"an indirect call", "\x48\x83\xec\x08\xff\xd0\xc3", 7, 5, 0},
		{"only a jump", "\xe9\x00\x01\x00\x00", 5, 5, 5},
		{"only an indirect jump", "\xff\x25\x00\x01\x00\x00", 6, 5, 6},
		{"a branch at the end", "\x48\x85\xff\x74\x10\x90\xc3", 7, 5, 5},
		{"a branch too early", "\x85\xff\x74\x10\x90\x90\x90\xc3", 8, 5, 0},
		{"jrcxz", "\x48\x85\xff\xe3\x10\x90\xc3", 7, 5, 0},
		{"loop", "\x48\x85\xff\xe2\x10\x90\xc3", 7, 5, 0},
		{"a 16-bit call", "\x90\x66\xe8\x00\x01\x00\x00\xc3", 8, 5, 0},
		{"a trap", "\x48\x85\xff\xcc\x90\x90\xc3", 7, 5, 0},
		{"undefined", "\x48\x85\xff\x0f\x0b", 5, 5, 0},
		{"no instruction", "\x48\x85\xff\x06\x06\x06\xc3", 7, 5, 0},
		{"no instruction further on", "\x41\x57\x41\x56\x55\x06\xc3", 7, 5, 0},
		{"too short", "\x31\xc0\xc3", 3, 5, 0},
		{"too short, padded", "\x31\xc0\xc3\x90\x90\x90\x90", 7, 5, 0},
		{"an end within a jump's length", "\x48\x89\xf8\xc3\x90\x90", 6, 5, 0},
		{"ends as the extent does", "\x48\x83\xc4\x08\xc3", 5, 5, 5},
		{"cut in an instruction", "\x41\x57\x48\x83\xec", 5, 5, 0},
		{"nothing", "", 0, 5, 0},
		{"a jump back inside", "\x41\x57\x41\x56\x55\xeb\xfa", 7, 5, 0},
		{"a far branch back inside", "\x41\x57\x41\x56\x55\x0f\x84\xf7\xff\xff\xff", 11, 5,
		 0},
		{"a call of its inside", "\x41\x57\x41\x56\x55\xe8\xf8\xff\xff\xff", 10, 5, 0},
		{"its own last branch inside", "\x48\x85\xff\x74\xfd\x90\xc3", 7, 5, 0},
		{"a jump to its start", "\x41\x57\x41\x56\x55\xeb\xf9", 7, 5, 5},
		{"a jump just behind", "\x41\x57\x41\x56\x55\x90\xeb\xfd", 8, 5, 5},
		{"a marked entry", "\xf3\x0f\x1e\xfa\x53\xc3", 6, 5, 5},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(examples); i++) {
		const char *refusal = "stale";
		uint32_t extent = seam_extent(examples[i].code, examples[i].size, 0x1000,
					      examples[i].need, &refusal);

		g_test_message("%s: %u %s", examples[i].what, extent, refusal ? refusal : "");
		g_assert_cmpuint(extent, ==, examples[i].extent);
		g_assert_cmpint(refusal == NULL, ==, extent != 0);
	}
	g_assert_cmpuint(seam_extent(examples[0].code, examples[0].size, 0, 5, NULL), ==, 5);
}

/* ---- lockdance: the lock functions of each generation and nothing else ---- */

static void test_lockdance(const void *name)
{
	const char *path = lab_program(name);
	bool status = g_str_has_suffix(name, "11.1");
	struct subject s = {.path = path};
	struct seam_error err;

	if (!path) {
		g_test_skip("lockdance is not built");
		return;
	}
	if (seam_map_open(path, &s.map, &err))
		g_error("%s", err.text);
	s.file = g_mapped_file_new(path, FALSE, NULL);
	g_assert_nonnull(s.file);
	s.bytes = (const uint8_t *)g_mapped_file_get_contents(s.file);
	s.size = g_mapped_file_get_length(s.file);
	g_assert_cmpstr(seam_map_version(s.map), ==, "unknown");
	for (unsigned int kind = 0; kind < SEAM_LOAD_BEGIN; kind++) {
		bool replaced =
			kind == SEAM_ACQUIRED || kind == SEAM_RELEASED || kind == SEAM_COND_WOKE;
		bool wanted = kind == SEAM_STATUS ? status : !(status && replaced);

		g_assert_cmpint(find_point(s.map, kind) != NULL, ==, wanted);
	}
	/* It migrates nothing, and the map says so. */
	for (unsigned int kind = SEAM_LOAD_BEGIN; kind < SEAM_POINT_KINDS; kind++) {
		g_assert_null(find_point(s.map, kind));
		g_assert_nonnull(seam_map_missing(s.map, kind));
	}
	for (int id = SEAM_LOADVM_STATE; id < SEAM_FUNCTIONS; id++) {
		const char *how;
		uint64_t call;

		g_assert_false(seam_map_reached(s.map, id, &call, &how));
		g_assert_cmpuint(call, ==, 0);
		g_assert_nonnull(how);
	}
	check_points(&s);
	subject_close(&s);
}

static void add(const char *version, const char *name, GTestDataFunc test)
{
	char *path = g_strdup_printf("/seams/%s/%s", version, name);

	g_test_add_data_func(path, version, test);
	g_free(path);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
		add(versions[i], "map", test_map);
		add(versions[i], "known-build", test_known_build);
		add(versions[i], "reached", test_reached);
		add(versions[i], "extents", test_extents);
	}
	g_test_add_func("/seams/string", test_string);
	g_test_add_func("/seams/shared", test_shared);
	g_test_add_func("/seams/extent-examples", test_extent_examples);
	g_test_add_data_func("/seams/lockdance/10.0", "lockdance", test_lockdance);
	g_test_add_data_func("/seams/lockdance/7.2", "lockdance-7.2", test_lockdance);
	g_test_add_data_func("/seams/lockdance/11.1", "lockdance-11.1", test_lockdance);
	return g_test_run();
}
