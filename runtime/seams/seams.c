/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a map, by path, and answering from it.
 */
#include "runtime/seams/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kind_names[SEAM_POINT_KINDS] = {
	[SEAM_ASK] = "ASK",
	[SEAM_ACQUIRED] = "ACQUIRED",
	[SEAM_RELEASED] = "RELEASED",
	[SEAM_STATUS] = "STATUS",
	[SEAM_COND_SLEEP] = "COND_SLEEP",
	[SEAM_COND_TIMED_SLEEP] = "COND_TIMED_SLEEP",
	[SEAM_COND_WOKE] = "COND_WOKE",
	[SEAM_LOAD_BEGIN] = "LOAD_BEGIN",
	[SEAM_SECTION_BEGIN] = "SECTION_BEGIN",
	[SEAM_SECTION_END] = "SECTION_END",
	[SEAM_RAM_BEGIN] = "RAM_BEGIN",
	[SEAM_RAM_END] = "RAM_END",
	[SEAM_ACTIVATE] = "ACTIVATE",
	[SEAM_START] = "START",
	[SEAM_LOAD_END] = "LOAD_END",
	[SEAM_STOP] = "STOP",
	[SEAM_SAVE] = "SAVE",
	[SEAM_STATE] = "STATE",
};

bool version_find(const struct image *image, char version[MAP_VERSION])
{
	/* The first words of --version, one literal in every release (softmmu/vl.c, system/vl.c).
	 */
	static const char banner[] = "QEMU emulator version ";

	strcpy(version, "unknown");
	for (unsigned int i = 0; i < image->n_segments; i++) {
		const struct image_segment *s = &image->segments[i];
		struct image_slice data = image_at(image, s->vaddr);
		const char *text, *end;
		size_t n = 0;

		if (s->write || !data.bytes)
			continue;
		end = (const char *)data.bytes + data.size;
		text = memmem(data.bytes, data.size, banner, sizeof(banner) - 1);
		if (!text)
			continue;
		for (text += sizeof(banner) - 1; text < end && *text >= ' '; text++) {
			if (n < MAP_VERSION - 1)
				version[n++] = *text;
		}
		version[n] = '\0';
		return true;
	}
	return false;
}

static void find_extents(struct seam_map *map)
{
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		struct seam_function *f = &map->functions[id];

		if (!f->name)
			continue;
		f->code = image_at(&map->image, f->vaddr).bytes;
		if (names_detourable(id))
			f->extent =
				function_extent(&map->image, f->vaddr, DETOUR_BYTES, &f->refusal);
		else
			f->refusal = "probes stand on its first bytes";
	}
}

int seam_map_open(const char *path, struct seam_map **result, struct seam_error *err)
{
	struct seam_map *map;
	int ret;

	*result = NULL;
	map = calloc(1, sizeof(*map));
	if (map)
		map->fd = -1;
	if (!map || !(map->path = strdup(path))) {
		ret = seam_fail(err, -ENOMEM, "no memory for a map of %s", path);
		goto cleanup;
	}
	ret = image_open(path, &map->image, err);
	if (ret)
		goto cleanup;
	ret = names_resolve(map, err);
	if (ret)
		goto cleanup;
	ret = structure_find_bql(map, err);
	if (ret)
		goto cleanup;
	structure_find_loading(map);
	find_extents(map);
	points_place(map);
	version_find(&map->image, map->version);
	image_rest(&map->image);
	*result = map;
	map = NULL;
cleanup:
	seam_map_free(map);
	return ret;
}

void seam_map_free(struct seam_map *map)
{
	if (!map)
		return;
	image_close(&map->image);
	if (map->fd >= 0)
		close(map->fd);
	free(map->path);
	free(map);
}

const char *seam_map_path(const struct seam_map *map)
{
	return map->path;
}

const char *seam_map_version(const struct seam_map *map)
{
	return map->version;
}

const char *seam_map_build_id(const struct seam_map *map)
{
	return map->image.build_id;
}

const char *seam_map_generation(const struct seam_map *map)
{
	static const char *const names[GENERATIONS] = {"7.2-8.2", "9.0-10.0", "10.1-11.x"};

	return names[map->generation];
}

const struct seam_function *seam_map_function(const struct seam_map *map, enum seam_id id)
{
	static const struct seam_function none = {.refusal = "this build has no such function"};

	return (unsigned int)id < SEAM_FUNCTIONS && map->functions[id].name ? &map->functions[id]
									    : &none;
}

const struct seam_point *seam_map_points(const struct seam_map *map, size_t *count)
{
	*count = map->n_points;
	return map->points;
}

const char *seam_point_kind_name(enum seam_point_kind kind)
{
	return (unsigned int)kind < SEAM_POINT_KINDS ? kind_names[kind] : "?";
}

const char *seam_map_missing(const struct seam_map *map, enum seam_point_kind kind)
{
	return (unsigned int)kind < SEAM_POINT_KINDS ? map->missing[kind] : NULL;
}

uint64_t seam_map_bql(const struct seam_map *map)
{
	return map->bql;
}

const char *seam_map_string(const struct seam_map *map, uint64_t vaddr)
{
	return image_string(&map->image, vaddr);
}

void seam_map_each_function(const struct seam_map *map,
			    bool (*fn)(const struct seam_function *f, void *opaque), void *opaque)
{
	for (size_t i = 0; i < map->image.n_functions; i++) {
		const struct image_symbol *symbol = &map->image.functions[i];
		struct seam_function f = {
			.name = symbol->name,
			.vaddr = symbol->vaddr,
			.offset = image_offset(&map->image, symbol->vaddr),
			.size = symbol->size,
			.exported = symbol->exported,
			.code = image_at(&map->image, symbol->vaddr).bytes,
		};

		f.extent = function_extent(&map->image, f.vaddr, DETOUR_BYTES, &f.refusal);
		if (!fn(&f, opaque))
			return;
	}
}
