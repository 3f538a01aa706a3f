/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockdance's three binaries, with ELF header, segments, sections, dynamic section, symbols, notes,
 * unwind table or code overwritten, or the end cut off.
 */
#ifndef FUZZ_BINARIES_H
#define FUZZ_BINARIES_H

#include <elf.h>
#include <sys/mman.h>

#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"lockdance", "lockdance-7.2", "lockdance-11.1"};

static struct {
	uint8_t *bytes;
	gsize size;
	/* Where a change does most: whole tables. */
	struct {
		uint64_t offset, size;
	} regions[64];
	unsigned nr_regions;
} sound[G_N_ELEMENTS(names)];

static inline void add_region(unsigned which, uint64_t offset, uint64_t size)
{
	if (!size || sound[which].nr_regions == G_N_ELEMENTS(sound[which].regions) ||
	    offset + size > sound[which].size)
		return;
	sound[which].regions[sound[which].nr_regions].offset = offset;
	sound[which].regions[sound[which].nr_regions++].size = size;
}

/* Beside this program's build folder: build/fuzz/tests/fuzz/elf -> build/lockdance. */
static inline void read_sound(unsigned which)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL), *folder = NULL;
	g_autofree char *path = NULL;
	const Elf64_Shdr *sections;
	const Elf64_Ehdr *header;

	folder = g_path_get_dirname(self);
	path = g_strdup_printf("%s/../../../%s", folder, names[which]);
	if (!g_file_get_contents(path, (char **)&sound[which].bytes, &sound[which].size, NULL)) {
		fprintf(stderr, "there is no %s: run `make` first\n", path);
		exit(3);
	}
	header = (const Elf64_Ehdr *)sound[which].bytes;
	add_region(which, 0, sizeof(*header));
	add_region(which, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
	sections = (const Elf64_Shdr *)(sound[which].bytes + header->e_shoff);
	add_region(which, header->e_shoff, header->e_shnum * sizeof(*sections));
	for (unsigned i = 1; i < header->e_shnum; i++)
		if (sections[i].sh_type != SHT_NOBITS &&
		    (sections[i].sh_flags & SHF_ALLOC || sections[i].sh_type == SHT_SYMTAB ||
		     sections[i].sh_type == SHT_STRTAB || sections[i].sh_type == SHT_NOTE))
			add_region(which, sections[i].sh_offset, sections[i].sh_size);
}

static inline void binaries_read(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		read_sound(i);
}

static inline void change(struct fuzz *f, unsigned which, uint8_t *bytes)
{
	static const uint8_t widths[] = {1, 2, 4, 8};
	unsigned region = fuzz_u8(f) % sound[which].nr_regions;
	unsigned width = widths[fuzz_u8(f) % G_N_ELEMENTS(widths)];
	uint64_t value, begin = sound[which].regions[region].offset;
	uint64_t end = begin + sound[which].regions[region].size;
	uint64_t at = begin + fuzz_u32(f) % (end - begin);

	value = fuzz_number(f);
	at -= at % width;
	if (at + width <= sound[which].size)
		memcpy(bytes + at, &value, width);
}

/* One of them, changed as the input says; g_free() */
static inline uint8_t *binaries_changed(struct fuzz *f, size_t *length)
{
	unsigned which = fuzz_u8(f) % G_N_ELEMENTS(names), changes = fuzz_u8(f) % 7;
	uint8_t *bytes = g_memdup2(sound[which].bytes, sound[which].size);

	*length = sound[which].size;
	if (fuzz_u8(f) > 240)
		*length = fuzz_u32(f) % *length;
	while (changes--)
		change(f, which, bytes);
	return bytes;
}

/* A file without a name; close() */
static inline int binaries_file(const uint8_t *bytes, size_t length)
{
	int fd = memfd_create("binary", MFD_CLOEXEC);

	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
		abort();
	return fd;
}

#endif
