/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking for a probe point in a seam map.
 */
#ifndef POINTS_H
#define POINTS_H

#include "runtime/seams/seams.h"

/* The first of that kind, or NULL. */
static inline const struct seam_point *find_point(const struct seam_map *map,
						  enum seam_point_kind kind)
{
	size_t n;
	const struct seam_point *points = seam_map_points(map, &n);

	for (size_t i = 0; i < n; i++) {
		if (points[i].kind == kind)
			return &points[i];
	}
	return NULL;
}

#endif
