/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMUs as their developers build them: linked without modules they export nothing, and their names
 * are in the symbol table, or in a debug file; and with the trace backend dtrace they carry USDT
 * probes. Made here from Debian's, whose names and code are known to be right: .dynsym forgets its
 * functions, and sections are added.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"
#include "tests/unit/points.h"

/* ---- an ELF file to add sections to ---- */

struct added {
	const char *name;
	Elf64_Shdr header;
	GByteArray *bytes;
};

struct elf {
	GByteArray *file;
	GArray *sections; /* struct added */
};

static Elf64_Ehdr *elf_header(const struct elf *e)
{
	return (Elf64_Ehdr *)e->file->data;
}

static Elf64_Shdr *elf_section(const struct elf *e, unsigned int i)
{
	return (Elf64_Shdr *)(e->file->data + elf_header(e)->e_shoff) + i;
}

static unsigned int elf_find(const struct elf *e, uint32_t type, const char *name)
{
	const char *names =
		(const char *)e->file->data + elf_section(e, elf_header(e)->e_shstrndx)->sh_offset;

	for (unsigned int i = 0; i < elf_header(e)->e_shnum; i++) {
		const Elf64_Shdr *s = elf_section(e, i);

		if (s->sh_type == type && (!name || !strcmp(names + s->sh_name, name)))
			return i;
	}
	g_error("no such section");
}

static void elf_add(struct elf *e, const char *name, Elf64_Shdr header, GByteArray *bytes)
{
	g_array_append_vals(e->sections, &(struct added){name, header, bytes}, 1);
}

/* The old section headers, then the added ones, then a string table for all their names. */
static void elf_write(struct elf *e, const char *path)
{
	GByteArray *file = e->file, *headers = g_byte_array_new(), *names = g_byte_array_new();
	unsigned int count = elf_header(e)->e_shnum, strings = elf_header(e)->e_shstrndx;
	Elf64_Shdr *h;

	g_byte_array_append(headers, (const guint8 *)elf_section(e, 0), count * sizeof(*h));
	h = (Elf64_Shdr *)headers->data + strings;
	g_byte_array_append(names, file->data + h->sh_offset, h->sh_size);
	for (unsigned int i = 0; i < e->sections->len; i++) {
		struct added *a = &g_array_index(e->sections, struct added, i);

		a->header.sh_name = names->len;
		a->header.sh_offset = file->len;
		a->header.sh_size = a->bytes->len;
		g_byte_array_append(names, (const guint8 *)a->name, strlen(a->name) + 1);
		g_byte_array_append(file, a->bytes->data, a->bytes->len);
		g_byte_array_append(headers, (const guint8 *)&a->header, sizeof(a->header));
		g_byte_array_unref(a->bytes);
	}
	h = (Elf64_Shdr *)headers->data + strings;
	h->sh_offset = file->len;
	h->sh_size = names->len;
	g_byte_array_append(file, names->data, names->len);
	elf_header(e)->e_shoff = file->len;
	elf_header(e)->e_shnum = count + e->sections->len;
	g_byte_array_append(file, headers->data, headers->len);
	if (!g_file_set_contents_full(path, (const char *)file->data, file->len,
				      G_FILE_SET_CONTENTS_NONE, 0755, NULL))
		g_error("cannot write %s", path);
	g_byte_array_unref(headers);
	g_byte_array_unref(names);
	g_byte_array_unref(file);
	g_array_unref(e->sections);
}

static bool elf_read(struct elf *e, const char *version, struct seam_map **map)
{
	const char *why, *path = lab_qemu_binary(version, &why);
	struct seam_error err;
	char *bytes;
	gsize size;

	if (!path) {
		g_test_skip(why);
		return false;
	}
	if (seam_map_open(path, map, &err))
		g_error("%s", err.text);
	g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
	e->file = g_byte_array_new_take((guint8 *)bytes, size);
	e->sections = g_array_new(FALSE, FALSE, sizeof(struct added));
	return true;
}

/* ---- names moved ---- */

/* .dynsym as it was, for another table; the file's own forgets that these are functions. */
static GByteArray *take_names(struct elf *e)
{
	const Elf64_Shdr *s = elf_section(e, elf_find(e, SHT_DYNSYM, NULL));
	GByteArray *taken = g_byte_array_new();
	Elf64_Sym *sym = (Elf64_Sym *)(e->file->data + s->sh_offset);

	g_byte_array_append(taken, (const guint8 *)sym, s->sh_size);
	for (size_t n = s->sh_size / sizeof(*sym); n; n--, sym++) {
		if (sym->st_shndx != SHN_UNDEF)
			sym->st_info = ELF64_ST_INFO(ELF64_ST_BIND(sym->st_info), STT_NOTYPE);
	}
	return taken;
}

static bool take_first(const struct seam_function *f, void *opaque)
{
	*(uint64_t *)opaque = f->vaddr;
	return false;
}

/* A static function by the lock function's name, where a search by address comes first. */
static void add_decoy(GByteArray *symbols, const struct seam_map *map)
{
	uint64_t lock = seam_map_function(map, SEAM_BQL_LOCK)->vaddr;
	const Elf64_Sym *sym = (const Elf64_Sym *)symbols->data;
	Elf64_Sym decoy;

	while (sym->st_value != lock)
		sym++;
	decoy = *sym;
	decoy.st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
	seam_map_each_function(map, take_first, &decoy.st_value);
	g_assert_cmphex(decoy.st_value, <, lock);
	g_byte_array_prepend(symbols, (const guint8 *)&decoy, sizeof(decoy));
}

static Elf64_Shdr symtab_header(unsigned int strings)
{
	return (Elf64_Shdr){.sh_type = SHT_SYMTAB,
			    .sh_link = strings,
			    .sh_entsize = sizeof(Elf64_Sym),
			    .sh_addralign = 8};
}

static void check_same(const struct seam_map *was, const char *path)
{
	const struct seam_point *old, *new;
	struct seam_error err;
	struct seam_map *map;
	size_t n, m;

	if (seam_map_open(path, &map, &err))
		g_error("%s", err.text);
	g_assert_cmpstr(seam_map_generation(map), ==, seam_map_generation(was));
	g_assert_cmphex(seam_map_bql(map), ==, seam_map_bql(was));
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *a = seam_map_function(was, id);
		const struct seam_function *b = seam_map_function(map, id);
		const char *how_a, *how_b;
		uint64_t call_a, call_b;

		g_assert_cmpstr(a->name, ==, b->name);
		g_assert_cmphex(a->vaddr, ==, b->vaddr);
		g_assert_cmpuint(a->size, ==, b->size);
		g_assert_cmpuint(a->extent, ==, b->extent);
		g_assert_false(b->exported);
		g_assert_cmpint(b->found_by != NULL, ==, b->name != NULL);
		g_assert_cmpint(seam_map_reached(was, id, &call_a, &how_a), ==,
				seam_map_reached(map, id, &call_b, &how_b));
		g_assert_cmphex(call_a, ==, call_b);
		g_assert_cmpstr(how_a, ==, how_b);
	}
	for (int id = 0; id < SEAM_VARIABLES; id++)
		g_assert_cmphex(seam_map_variable(map, id), ==, seam_map_variable(was, id));
	old = seam_map_points(was, &n);
	new = seam_map_points(map, &m);
	g_assert_cmpuint(n, ==, m);
	for (size_t i = 0; i < n; i++) {
		g_assert_cmpint(old[i].kind, ==, new[i].kind);
		g_assert_cmphex(old[i].vaddr, ==, new[i].vaddr);
	}
	seam_map_free(map);
}

static char *scratch(const char *name)
{
	return g_build_filename(lab_tmpdir(), name, NULL);
}

static void test_symtab(const void *version)
{
	g_autofree char *path = scratch("symtab");
	struct seam_map *was;
	GByteArray *symbols;
	struct elf e;

	if (!elf_read(&e, version, &was))
		return;
	symbols = take_names(&e);
	add_decoy(symbols, was);
	elf_add(&e, ".symtab", symtab_header(elf_find(&e, SHT_STRTAB, ".dynstr")), symbols);
	elf_write(&e, path);
	check_same(was, path);
	unlink(path);
	seam_map_free(was);
}

/* As LTO leaves them: static, all of them, or all but those that other objects need. */
static void write_static(const char *path, bool lock_too)
{
	GByteArray *symbols;
	struct seam_map *was;
	struct elf e;

	g_assert_true(elf_read(&e, "10.0", &was));
	symbols = take_names(&e);
	for (size_t n = symbols->len / sizeof(Elf64_Sym); n--;) {
		Elf64_Sym *sym = (Elf64_Sym *)symbols->data + n;
		bool keep = false;

		for (int id = 0; id <= SEAM_COND_TIMEDWAIT && !lock_too; id++)
			keep |= sym->st_value == seam_map_function(was, id)->vaddr;
		if (!keep)
			sym->st_info = ELF64_ST_INFO(STB_LOCAL, ELF64_ST_TYPE(sym->st_info));
	}
	elf_add(&e, ".symtab", symtab_header(elf_find(&e, SHT_STRTAB, ".dynstr")), symbols);
	elf_write(&e, path);
	seam_map_free(was);
}

static void test_static(void)
{
	g_autofree char *path = scratch("static");
	struct seam_error err = {""};
	struct seam_map *map;
	const char *why;

	if (!lab_qemu_binary("10.0", &why)) {
		g_test_skip(why);
		return;
	}
	write_static(path, true);
	g_assert_cmpint(seam_map_open(path, &map, &err), ==, -ENOTSUP);
	g_assert_nonnull(strstr(err.text, "LTO"));
	write_static(path, false);
	if (seam_map_open(path, &map, &err))
		g_error("%s", err.text);
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(map, id);

		g_assert_cmpint(f->name != NULL, ==,
				id <= SEAM_COND_TIMEDWAIT && id != SEAM_BQL_UPDATE_STATUS);
		g_assert_cmpint(seam_map_static(map, id), ==, !f->name && seam_map_wanted(map, id));
	}
	seam_map_free(map);
	unlink(path);
}

/* ---- a debug file ---- */

/* What `objcopy --only-keep-debug` leaves, as far as anyone reads it here. */
static void write_debug_file(struct elf *e, GByteArray *symbols, const char *path)
{
	const Elf64_Shdr *dynstr = elf_section(e, elf_find(e, SHT_STRTAB, ".dynstr"));
	const Elf64_Shdr *note = elf_section(e, elf_find(e, SHT_NOTE, ".note.gnu.build-id"));
	struct elf debug = {g_byte_array_new(), g_array_new(FALSE, FALSE, sizeof(struct added))};
	GByteArray *strings = g_byte_array_new(), *id = g_byte_array_new();
	Elf64_Ehdr header = *elf_header(e);
	Elf64_Shdr sections[2] = {{.sh_type = SHT_NULL}, {.sh_type = SHT_STRTAB}};

	header.e_phnum = 0;
	header.e_phoff = 0;
	header.e_shoff = sizeof(header);
	header.e_shnum = 2;
	header.e_shstrndx = 1;
	sections[1].sh_offset = sizeof(header);
	g_byte_array_append(debug.file, (const guint8 *)&header, sizeof(header));
	g_byte_array_append(debug.file, (const guint8 *)sections, sizeof(sections));
	g_byte_array_append(strings, e->file->data + dynstr->sh_offset, dynstr->sh_size);
	g_byte_array_append(id, e->file->data + note->sh_offset, note->sh_size);
	elf_add(&debug, ".strtab", (Elf64_Shdr){.sh_type = SHT_STRTAB}, strings);
	elf_add(&debug, ".symtab", symtab_header(2), symbols);
	elf_add(&debug, ".note.gnu.build-id", (Elf64_Shdr){.sh_type = SHT_NOTE}, id);
	elf_write(&debug, path);
}

static void check_no_names(const char *path, const char *version)
{
	struct seam_error err = {""};
	struct seam_map *map;

	g_assert_cmpint(seam_map_open(path, &map, &err), ==, -ENOTSUP);
	g_test_message("%s", err.text);
	g_assert_nonnull(strstr(err.text, "without symbols"));
	g_assert_nonnull(strstr(err.text, version));
	g_assert_cmpuint(strlen(err.text), <, sizeof(err.text) - 1);
	g_assert_cmpint(seam_map_open(path, &map, NULL), ==, -ENOTSUP);
}

/* Changes the build id in a file that has it once. */
static void another_build(const char *path, const char *build_id)
{
	g_autofree char *bytes = NULL;
	uint8_t id[4];
	gsize size;
	char *at;

	g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
	for (size_t i = 0; i < sizeof(id); i++)
		id[i] = g_ascii_xdigit_value(build_id[2 * i]) << 4 |
			g_ascii_xdigit_value(build_id[2 * i + 1]);
	at = memmem(bytes, size, id, sizeof(id));
	g_assert_nonnull(at);
	*at ^= 1;
	g_assert_true(g_file_set_contents(path, bytes, size, NULL));
}

static void test_debug_file(const void *version)
{
	static const char link[] = "stripped.debug\0\0\0\0\0"; /* and a checksum */
	g_autofree char *path = scratch("stripped"), *debug = scratch("stripped.debug");
	g_autofree char *folder = scratch(".debug");
	g_autofree char *within = g_build_filename(folder, "stripped.debug", NULL);
	GByteArray *names, *text = g_byte_array_new();
	struct seam_map *was;
	struct elf e;

	if (!elf_read(&e, version, &was)) {
		g_byte_array_unref(text);
		return;
	}
	names = take_names(&e);
	write_debug_file(&e, names, debug);
	g_byte_array_append(text, (const guint8 *)link, sizeof(link));
	elf_add(&e, ".gnu_debuglink", (Elf64_Shdr){.sh_type = SHT_PROGBITS}, text);
	elf_write(&e, path);
	check_same(was, path);
	g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
	g_assert_cmpint(rename(debug, within), ==, 0);
	check_same(was, path);
	/* The debug file of another build would name the wrong places. */
	another_build(within, seam_map_build_id(was));
	check_no_names(path, version);
	unlink(within);
	rmdir(folder);
	check_no_names(path, version);
	unlink(path);
	seam_map_free(was);
}

/* ---- USDT probes ---- */

static void add_usdt(struct elf *e, const uint64_t *places, size_t n)
{
	static const char names[] = "qemu\0some_event\0"; /* without arguments */
	GByteArray *notes = g_byte_array_new();

	for (size_t i = 0; i < n; i++) {
		const uint64_t addresses[] = {places[i], 0, 0};
		const Elf64_Nhdr head = {8, sizeof(addresses) + sizeof(names), 3};
		static const uint8_t padding[4];

		g_byte_array_append(notes, (const guint8 *)&head, sizeof(head));
		g_byte_array_append(notes, (const guint8 *)"stapsdt", 8);
		g_byte_array_append(notes, (const guint8 *)addresses, sizeof(addresses));
		g_byte_array_append(notes, (const guint8 *)names, sizeof(names));
		g_byte_array_append(notes, padding, -head.n_descsz & 3);
	}
	elf_add(e, ".note.stapsdt", (Elf64_Shdr){.sh_type = SHT_NOTE, .sh_addralign = 4}, notes);
}

/* No detour takes its bytes, and no probe shares its place: the kernel would refuse one of the two.
 */
static void test_usdt(const void *version)
{
	g_autofree char *path = scratch("usdt");
	const struct seam_function *load, *cleanup;
	const struct seam_point *ask, *points;
	struct seam_map *was, *map;
	struct seam_error err;
	uint64_t places[4];
	struct elf e;
	size_t n;

	if (!elf_read(&e, version, &was))
		return;
	load = seam_map_function(was, SEAM_LOADVM_STATE);
	cleanup = seam_map_function(was, SEAM_CLEANUP);
	ask = find_point(was, SEAM_ASK);
	places[0] = load->vaddr + load->extent - 1;
	places[1] = cleanup->vaddr + cleanup->extent; /* right behind is no harm */
	places[2] = ask->vaddr;
	places[3] = 16; /* they need not come in order */
	add_usdt(&e, places, G_N_ELEMENTS(places));
	elf_write(&e, path);
	if (seam_map_open(path, &map, &err))
		g_error("%s", err.text);
	g_assert_cmpuint(seam_map_function(map, SEAM_LOADVM_STATE)->extent, ==, 0);
	g_assert_nonnull(strstr(seam_map_function(map, SEAM_LOADVM_STATE)->refusal, "USDT"));
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		if (id != SEAM_LOADVM_STATE)
			g_assert_cmpuint(seam_map_function(map, id)->extent, ==,
					 seam_map_function(was, id)->extent);
	}
	g_assert_nonnull(find_point(map, SEAM_ASK));
	points = seam_map_points(map, &n);
	for (size_t i = 0; i < n; i++) {
		for (size_t p = 0; p < G_N_ELEMENTS(places); p++)
			g_assert_false(places[p] - points[i].vaddr < points[i].code_len);
	}
	seam_map_free(map);
	unlink(path);
	seam_map_free(was);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/seam-names/symtab/7.2", "7.2", test_symtab);
	g_test_add_data_func("/seam-names/symtab/10.0", "10.0", test_symtab);
	g_test_add_data_func("/seam-names/symtab/11.1", "11.1", test_symtab);
	g_test_add_func("/seam-names/static", test_static);
	g_test_add_data_func("/seam-names/debug-file/7.2", "7.2", test_debug_file);
	g_test_add_data_func("/seam-names/debug-file/11.1", "11.1", test_debug_file);
	g_test_add_data_func("/seam-names/usdt/7.2", "7.2", test_usdt);
	g_test_add_data_func("/seam-names/usdt/10.0", "10.0", test_usdt);
	g_test_add_data_func("/seam-names/usdt/11.1", "11.1", test_usdt);
	return g_test_run();
}
