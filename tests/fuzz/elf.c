/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binaries whose tables lie: lockdance's three, with ELF header, segments, dynamic section,
 * symbols, unwind table or code overwritten, or the end cut off. A map that opens all the same
 * keeps its promises.
 */
#include "runtime/seams/image.h"
#include "runtime/seams/map.h"
#include "tests/fuzz/binaries.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	binaries_read();
	return 0;
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
	/* As of a file that exports nothing. */
	image_read_symtab(&image, path);
	for (size_t i = 0; i < image.n_functions; i++)
		g_assert_true(image_symbol_at(&image, image.functions[i].vaddr));
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
		image_has_usdt(&image, vaddr, 16);
		if (image_function(&image, vaddr, &range))
			g_assert_true(range.start <= vaddr && vaddr < range.end);
	}
	image_close(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	struct seam_error err;
	struct seam_map *map;
	char path[32];
	size_t length;
	g_autofree uint8_t *bytes = binaries_changed(&f, &length);
	int fd = binaries_file(bytes, length);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_everywhere(&f, path);
	if (!seam_map_open(path, &map, &err)) {
		promises(map, bytes, length);
		seam_map_free(map);
	}
	close(fd);
	return 0;
}
