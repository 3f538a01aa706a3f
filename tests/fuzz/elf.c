/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binaries whose tables lie: lockdance's three, with ELF header, segments, dynamic section,
 * symbols, unwind table or code overwritten, or the end cut off. A map that opens all the same
 * keeps its promises.
 */
#include <elf.h>
#include <sys/mman.h>

#include "runtime/seams/image.h"
#include "runtime/seams/map.h"
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

static void add_region(unsigned which, uint64_t offset, uint64_t size)
{
	if (!size || sound[which].nr_regions == G_N_ELEMENTS(sound[which].regions) ||
	    offset + size > sound[which].size)
		return;
	sound[which].regions[sound[which].nr_regions].offset = offset;
	sound[which].regions[sound[which].nr_regions++].size = size;
}

/* Beside this program's build folder: build/fuzz/tests/fuzz/elf -> build/lockdance. */
static void read_sound(unsigned which)
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
	for (unsigned i = 1; i < header->e_shnum; i++)
		if (sections[i].sh_flags & SHF_ALLOC && sections[i].sh_type != SHT_NOBITS)
			add_region(which, sections[i].sh_offset, sections[i].sh_size);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		read_sound(i);
	return 0;
}

static void change(struct fuzz *f, unsigned which, uint8_t *bytes)
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

/* Every point lies in the file, its bytes are the file's; nothing that was found is outside. */
static void promises(const struct seam_map *map, const uint8_t *bytes, size_t size)
{
	const struct seam_point *points;
	size_t count;

	points = seam_map_points(map, &count);
	for (size_t i = 0; i < count; i++) {
		const struct seam_point *p = &points[i];

		g_assert_cmpuint(p->code_len, <=, 16);
		g_assert_cmpuint(p->offset, <=, size - p->code_len);
		g_assert_cmpint(memcmp(p->code, bytes + p->offset, p->code_len), ==, 0);
		g_assert_nonnull(p->insn);
		/* The one rule that keeps QEMUs alive. */
		for (int id = 0; id < SEAM_FUNCTIONS; id++) {
			const struct seam_function *fn = seam_map_function(map, id);

			if (fn->name && fn->extent)
				g_assert_true(p->vaddr + p->code_len <= fn->vaddr ||
					      p->vaddr >= fn->vaddr + fn->extent);
		}
	}
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *fn = seam_map_function(map, id);

		if (!fn->name || !fn->extent)
			continue;
		g_assert_cmpuint(fn->offset + fn->extent, <=, size);
		g_assert_cmpint(memcmp(fn->code, bytes + fn->offset, fn->extent), ==, 0);
	}
	for (int kind = 0; kind < SEAM_POINT_KINDS; kind++)
		seam_map_missing(map, kind);
}

static void read_everywhere(struct fuzz *f, const char *path)
{
	struct seam_error err;
	struct image image;

	if (image_open(path, &image, &err))
		return;
	for (int i = 0; i < 16; i++) {
		uint64_t vaddr = fuzz_number(f);
		struct image_range range;
		struct image_slice slice = image_at(&image, vaddr);
		const char *text = image_string(&image, vaddr);

		if (slice.size)
			g_assert_true(slice.bytes >= image.bytes &&
				      slice.bytes + slice.size <= image.bytes + image.size);
		if (text)
			g_assert_cmpuint(strlen(text), <, image.size);
		image_pointer(&image, vaddr);
		image_import(&image, vaddr);
		if (image_function(&image, vaddr, &range))
			g_assert_true(range.start <= vaddr && vaddr < range.end);
	}
	image_close(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	unsigned which = fuzz_u8(&f) % G_N_ELEMENTS(names), changes = 1 + fuzz_u8(&f) % 6;
	g_autofree uint8_t *bytes = g_memdup2(sound[which].bytes, sound[which].size);
	size_t length = sound[which].size;
	struct seam_error err;
	struct seam_map *map;
	char path[32];
	int fd = memfd_create("elf", MFD_CLOEXEC);

	if (fuzz_u8(&f) > 240)
		length = fuzz_u32(&f) % length;
	while (changes--)
		change(&f, which, bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, bytes, length) != (ssize_t)length)
		abort();
	read_everywhere(&f, path);
	if (!seam_map_open(path, &map, &err)) {
		promises(map, bytes, length);
		seam_map_free(map);
	}
	close(fd);
	return 0;
}
