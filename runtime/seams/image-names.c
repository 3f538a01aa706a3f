/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of functions and variables: of .dynsym, of .symtab, and of a stripped file's debug file.
 */
#include <errno.h>
#include <gelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/seams/image-private.h"

/* What distributions compile into their debuggers. */
#define DEBUG_FOLDER "/usr/lib/debug"

const struct image_symbol *image_symbol(const struct image *image, const char *name)
{
	for (size_t i = 0; i < image->n_functions; i++) {
		if (!strcmp(image->functions[i].name, name))
			return &image->functions[i];
	}
	return NULL;
}

bool image_has_static(const struct image *image, const char *name)
{
	const struct image_table *table = &image->full;
	Elf64_Sym sym;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *found = slice_string(table->strings, sym.st_name);

		if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC &&
		    ELF64_ST_BIND(sym.st_info) == STB_LOCAL && found && !strcmp(found, name))
			return true;
	}
	return false;
}

static uint64_t find_variable(const struct image *image, const struct image_table *table,
			      const char *name)
{
	Elf64_Sym sym;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *found = slice_string(table->strings, sym.st_name);

		if (ELF64_ST_TYPE(sym.st_info) == STT_OBJECT &&
		    ELF64_ST_BIND(sym.st_info) != STB_LOCAL && sym.st_shndx != SHN_UNDEF &&
		    image_writable(image, sym.st_value) && found && !strcmp(found, name))
			return sym.st_value;
	}
	return 0;
}

uint64_t image_variable(const struct image *image, const char *name)
{
	uint64_t vaddr = find_variable(image, &image->dynamic, name);

	return vaddr ? vaddr : find_variable(image, &image->full, name);
}

static int compare_vaddr(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;

	return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

/* Of one address and name, what .dynsym says comes first. */
static int compare_symbol(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;
	int order = compare_vaddr(a, b);

	if (!order)
		order = strcmp(x->name, y->name);
	return order ? order : y->exported - x->exported;
}

const struct image_symbol *image_symbol_at(const struct image *image, uint64_t vaddr)
{
	const struct image_symbol key = {.vaddr = vaddr};

	return bsearch(&key, image->functions, image->n_functions, sizeof(key), compare_vaddr);
}

static size_t take_functions(const struct image *image, const struct image_table *table,
			     bool exported, struct image_symbol *to)
{
	Elf64_Sym sym;
	size_t n = 0;

	for (size_t at = 0; slice_read(table->symbols, at, &sym, sizeof(sym)); at += sizeof(sym)) {
		const char *name;

		if (ELF64_ST_TYPE(sym.st_info) != STT_FUNC ||
		    ELF64_ST_BIND(sym.st_info) == STB_LOCAL || sym.st_shndx == SHN_UNDEF ||
		    !image_executable(image, sym.st_value))
			continue;
		name = slice_string(table->strings, sym.st_name);
		if (name)
			to[n++] = (struct image_symbol){name, sym.st_value, sym.st_size, exported};
	}
	return n;
}

/* One symbol for each name of an address. */
static size_t sort_functions(struct image_symbol *functions, size_t n)
{
	size_t kept = 0;

	qsort(functions, n, sizeof(*functions), compare_symbol);
	for (size_t i = 0; i < n; i++) {
		if (!kept || functions[i].vaddr != functions[kept - 1].vaddr ||
		    strcmp(functions[i].name, functions[kept - 1].name) != 0)
			functions[kept++] = functions[i];
	}
	return kept;
}

int image_index_functions(struct image *image, enum image_index which)
{
	size_t most = image->dynamic.symbols.size / sizeof(Elf64_Sym) + 1, n;
	struct image_file *file = image->file;
	struct image_symbol *functions;

	if (which == INDEX_FULL)
		most += image->full.symbols.size / sizeof(Elf64_Sym);
	pthread_mutex_lock(&image_files_lock);
	functions = file->functions[which];
	if (!functions && (functions = calloc(most, sizeof(*functions)))) {
		n = take_functions(image, &image->dynamic, true, functions);
		if (which == INDEX_FULL)
			n += take_functions(image, &image->full, false, functions + n);
		file->n_functions[which] = sort_functions(functions, n);
		file->functions[which] = functions;
	}
	pthread_mutex_unlock(&image_files_lock);
	image->functions = functions;
	image->n_functions = functions ? file->n_functions[which] : 0;
	return functions ? 0 : -ENOMEM;
}

/* --- the debug file of a stripped one ----------------------------------------------------------
 */

static bool take_debug_file(struct image *image, const char *path)
{
	struct image_file *file = image->file;
	struct image debug;
	bool right;

	if (image_read(path, &debug, NULL))
		return false;
	right = !strcmp(debug.build_id, image->build_id) && debug.full.symbols.bytes &&
		debug.file != file;
	pthread_mutex_lock(&image_files_lock);
	if (right && !file->debug) {
		file->debug = debug.file;
		file->debug_symtab = debug.full;
		debug.file = NULL;
	}
	pthread_mutex_unlock(&image_files_lock);
	image_close(&debug);
	return right;
}

/* Where debuggers look, but for servers. What bears the build id is the right one. */
static bool find_debug_file(struct image *image, const char *path)
{
	const char *link = slice_string(image->debug_link, 0);
	char real[PATH_MAX], try[2 * PATH_MAX];
	const char *slash;
	ssize_t length;
	int folder;

	if (!image->build_id[0])
		return false;
	snprintf(try, sizeof(try), DEBUG_FOLDER "/.build-id/%.2s/%s.debug", image->build_id,
		 image->build_id + 2);
	if (take_debug_file(image, try))
		return true;
	/* /proc/PID/exe and the like are links to it. */
	length = readlink(path, real, sizeof(real) - 1);
	if (length > 0)
		real[length] = '\0';
	else
		snprintf(real, sizeof(real), "%s", path);
	slash = strrchr(real, '/');
	if (!link || !slash)
		return false;
	folder = (int)(slash - real);
	snprintf(try, sizeof(try), "%.*s/%s", folder, real, link);
	if (take_debug_file(image, try))
		return true;
	snprintf(try, sizeof(try), "%.*s/.debug/%s", folder, real, link);
	if (take_debug_file(image, try))
		return true;
	snprintf(try, sizeof(try), DEBUG_FOLDER "%.*s/%s", folder, real, link);
	return take_debug_file(image, try);
}

int image_read_symtab(struct image *image, const char *path)
{
	struct image_file *file = image->file;

	if (!image->full.symbols.bytes) {
		pthread_mutex_lock(&image_files_lock);
		image->full = file->debug_symtab;
		pthread_mutex_unlock(&image_files_lock);
	}
	if (!image->full.symbols.bytes) {
		if (!find_debug_file(image, path))
			return -ENOENT;
		image->full = file->debug_symtab;
	}
	return image_index_functions(image, INDEX_FULL);
}
