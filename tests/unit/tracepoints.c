/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of events, what was built from it, and docs/tracepoints.md tell the same.
 */
#include <string.h>

#include <gelf.h>

#include "analyzers/lab/lab.h"
#include "runtime/trace/table.h"

static const char *const types[] = {
	[TRACE_TYPE_string] = "string", [TRACE_TYPE_u32] = "u32", [TRACE_TYPE_i32] = "i32",
	[TRACE_TYPE_u64] = "u64",	[TRACE_TYPE_i64] = "i64",
};

/* How SystemTap's notes give their sizes. */
static const char *const sizes[] = {
	[TRACE_TYPE_string] = "8@%", [TRACE_TYPE_u32] = "4@%",	[TRACE_TYPE_i32] = "-4@%",
	[TRACE_TYPE_u64] = "8@%",    [TRACE_TYPE_i64] = "-8@%",
};

static void test_table(void)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

	for (int i = 0; i < TRACE_IDS; i++) {
		const struct trace_description *e = &trace_table[i];
		unsigned fields = 0;

		g_assert_true(g_hash_table_add(seen, (char *)e->name));
		for (const struct trace_field *f = e->fields; f->type; f++)
			fields++;
		g_assert_cmpuint(fields, >=, 1);
		g_assert_cmpuint(fields, <=, TRACE_FIELDS_MAX);
		g_assert_cmpuint(strlen(e->name), <, 32);
	}
	g_assert_cmpstr(trace_table[TRACE_ID_lock_ask].name, ==, "lock_ask");
	/* What begins also ends, and the end can be told to belong to it. */
	for (int i = 0; i < TRACE_IDS; i++) {
		g_autofree char *end = NULL;
		const char *begin = strstr(trace_table[i].name, "_begin");

		if (!begin)
			continue;
		end = g_strdup_printf("%.*s_end", (int)(begin - trace_table[i].name),
				      trace_table[i].name);
		g_assert_true(g_hash_table_contains(seen, end));
	}
}

/* A row may tell of two events at once: "`a`, `b` | fields | when". */
static char *row_of(char **lines, const char *event)
{
	g_autofree char *quoted = g_strdup_printf("`%s`", event);

	for (char **line = lines; *line; line++) {
		g_auto(GStrv) cells = g_strsplit(*line, "|", -1);

		if (g_strv_length(cells) == 5 && strstr(cells[1], quoted))
			return g_strstrip(g_strdup(cells[2]));
	}
	return NULL;
}

static void test_docs(void)
{
	g_autofree char *build = g_path_get_dirname(lab_program("bqlstat")), *text = NULL;
	g_autofree char *folder = g_strdup(build);
	g_auto(GStrv) lines = NULL;

	/* A build with a sanitizer lies one folder deeper. */
	for (int up = 0; up < 3 && !text; up++) {
		g_autofree char *path = g_build_filename(folder, "docs", "tracepoints.md", NULL);
		char *parent = g_path_get_dirname(folder);

		if (!g_file_get_contents(path, &text, NULL, NULL)) {
			g_free(folder);
			folder = parent;
		} else {
			g_free(parent);
		}
	}
	g_assert_nonnull(text);
	lines = g_strsplit(text, "\n", -1);
	for (int i = 0; i < TRACE_IDS; i++) {
		const struct trace_description *e = &trace_table[i];
		g_autoptr(GString) want = g_string_new(NULL);
		g_autofree char *row = row_of(lines, e->name);

		for (const struct trace_field *f = e->fields; f->type; f++)
			g_string_append_printf(want, "%s%s %s", want->len ? ", " : "",
					       types[f->type], f->name);
		g_test_message("%s", e->name);
		g_assert_cmpstr(row, ==, want->str);
	}
}

/* ---- what was built ---- */

struct file {
	char *bytes;
	size_t size;
	Elf *elf;
};

static void file_open(struct file *file, const char *program)
{
	elf_version(EV_CURRENT);
	g_assert_true(g_file_get_contents(lab_program(program), &file->bytes, &file->size, NULL));
	file->elf = elf_memory(file->bytes, file->size);
	g_assert_nonnull(file->elf);
}

static void file_close(struct file *file)
{
	elf_end(file->elf);
	g_free(file->bytes);
}

static const uint8_t *code_at(const struct file *file, uint64_t vaddr)
{
	GElf_Phdr phdr;
	size_t n;

	g_assert_cmpint(elf_getphdrnum(file->elf, &n), ==, 0);
	for (size_t i = 0; i < n; i++)
		if (gelf_getphdr(file->elf, i, &phdr) && phdr.p_type == PT_LOAD &&
		    vaddr >= phdr.p_vaddr && vaddr < phdr.p_vaddr + phdr.p_filesz)
			return (uint8_t *)file->bytes + (vaddr - phdr.p_vaddr + phdr.p_offset);
	return NULL;
}

static Elf_Data *section(const struct file *file, const char *name, GElf_Shdr *header)
{
	Elf_Scn *scn = NULL;
	size_t names;

	elf_getshdrstrndx(file->elf, &names);
	while ((scn = elf_nextscn(file->elf, scn)))
		if (gelf_getshdr(scn, header) &&
		    !strcmp(elf_strptr(file->elf, names, header->sh_name), name))
			return elf_getdata(scn, NULL);
	return NULL;
}

struct site {
	unsigned nop1, nop5;
	uint64_t semaphore;
};

static void see_note(const struct file *file, const char *desc, const GElf_Shdr *semaphores,
		     struct site *sites)
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	const char *provider = desc + 24, *name = provider + strlen(provider) + 1;
	const char *arguments = name + strlen(name) + 1;
	g_auto(GStrv) each = g_strsplit(arguments, " ", -1);
	const struct trace_field *field = NULL;
	uint64_t at, semaphore;
	const uint8_t *code;
	unsigned i = 0;

	memcpy(&at, desc, 8);
	memcpy(&semaphore, desc + 16, 8);
	g_assert_cmpstr(provider, ==, G_STRINGIFY(TRACE_PROVIDER));
	while (i < TRACE_IDS && strcmp(trace_table[i].name, name))
		i++;
	g_assert_cmpuint(i, <, TRACE_IDS);
	field = trace_table[i].fields;
	for (char **argument = each; *argument; argument++, field++) {
		g_assert_cmpint(field->type, !=, 0);
		g_assert_true(g_str_has_prefix(*argument, sizes[field->type]));
	}
	g_assert_cmpint(field->type, ==, 0);

	code = code_at(file, at);
	g_assert_nonnull(code);
	sites[i].nop1 += code[0] == 0x90;
	sites[i].nop5 += !memcmp(code, nop5, sizeof(nop5));
	g_assert_cmpuint(semaphore, >=, semaphores->sh_addr);
	g_assert_cmpuint(semaphore, <, semaphores->sh_addr + semaphores->sh_size);
	g_assert_true(!sites[i].semaphore || sites[i].semaphore == semaphore);
	sites[i].semaphore = semaphore;
}

/* Each event has one site of each kind of nop, and a semaphore of its own. */
static void test_sites(void)
{
	g_autoptr(GHashTable) semaphores = g_hash_table_new(NULL, NULL);
	struct site sites[TRACE_IDS] = {0};
	GElf_Shdr probes, header;
	size_t at = 0, next, name, desc;
	struct file file;
	Elf_Data *notes;
	GElf_Nhdr note;

	file_open(&file, "libloadvm-core.so");
	g_assert_nonnull(section(&file, ".probes", &probes));
	g_assert_cmpuint(probes.sh_size, ==, 2 * TRACE_IDS);
	notes = section(&file, ".note.stapsdt", &header);
	g_assert_nonnull(notes);
	while (at < notes->d_size && (next = gelf_getnote(notes, at, &note, &name, &desc))) {
		see_note(&file, (char *)notes->d_buf + desc, &probes, sites);
		at = next;
	}
	for (unsigned i = 0; i < TRACE_IDS; i++) {
		g_test_message("%s", trace_table[i].name);
		g_assert_cmpuint(sites[i].nop1, ==, 1);
		g_assert_cmpuint(sites[i].nop5, ==, 1);
		g_assert_true(g_hash_table_add(semaphores, GSIZE_TO_POINTER(sites[i].semaphore)));
	}
	file_close(&file);
}

static bool needs_lttng(const char *program)
{
	const char *argv[] = {"readelf", "-d", lab_program(program), NULL};
	g_autofree char *out = NULL;

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
				   NULL, NULL, NULL));
	g_assert_nonnull(strstr(out, "libc.so"));
	return strstr(out, "lttng");
}

/* A QEMU must start where LTTng is not installed. */
static void test_needs(void)
{
	g_assert_false(needs_lttng("libloadvm.so"));
	g_assert_false(needs_lttng("libloadvm-core.so"));
	g_assert_true(needs_lttng("libloadvm-lttng.so"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tracepoints/table", test_table);
	g_test_add_func("/tracepoints/docs", test_docs);
	g_test_add_func("/tracepoints/sites", test_sites);
	g_test_add_func("/tracepoints/needs", test_needs);
	return g_test_run();
}
