/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map's inside, shared by the files that fill it: names.c finds functions by name, structure.c
 * by what the code does, points.c places probes.
 */
#ifndef SEAMS_MAP_H
#define SEAMS_MAP_H

#include "runtime/seams/decode.h"

#define MAP_POINTS  64
#define MAP_VERSION 128

/* What a detour needs: jmp rel32. */
#define DETOUR_BYTES 5

/* By the names of the lock functions; the order is the releases'. */
enum generation {
	GENERATION_IOTHREAD, /* 7.2-8.2: qemu_mutex_lock_iothread_impl */
	GENERATION_BQL,	     /* 9.0-10.0: bql_lock_impl */
	GENERATION_STATUS,   /* 10.1-11.x: and bql_update_status */
	GENERATIONS
};

/* A call that does something we watch for, and the function whose bytes it stands in. */
struct call_site {
	uint64_t vaddr;
	uint64_t next;	   /* behind it */
	uint64_t function; /* start of the function that makes the call */
	bool tail;	   /* a jump: control comes back to the function's callers */
};

#define MAP_SITES 16

struct site_list {
	struct call_site sites[MAP_SITES];
	unsigned int n;
	bool overflow;
};

struct seam_map {
	struct image image;
	char *path;
	int fd; /* what `path` names, when that is a descriptor of ours; else -1 */
	char version[MAP_VERSION];
	enum generation generation;
	uint64_t bql;
	struct seam_function functions[SEAM_FUNCTIONS];

	/* Found by structure. */
	struct call_site lock_call;   /* takes the mutex, in BQL_LOCK */
	struct call_site unlock_call; /* gives it back, in BQL_UNLOCK */
	struct site_list section_calls;
	struct site_list section_ends;
	struct site_list load_state_calls; /* vmstate_load()'s ops->load_state() */
	const char *no_ram;

	struct seam_point points[MAP_POINTS];
	char texts[MAP_POINTS][64];
	size_t n_points;
	const char *missing[SEAM_POINT_KINDS];
};

/* seams.c: what QEMU says of itself, else "unknown" and false. */
bool version_find(const struct image *image, char version[MAP_VERSION]);

/* names.c: fills functions[]. -ENOTSUP when the lock functions are not there. */
int names_resolve(struct seam_map *map, struct seam_error *err);
/* May the runtime put a detour on it? Never on what the tracer probes at its first bytes. */
bool names_detourable(enum seam_id id);

/* structure.c */
int structure_find_bql(struct seam_map *map, struct seam_error *err);
/* Is BQL_LOCK copied into other functions of its source file as well? */
bool structure_lock_inlined(const struct seam_map *map);
void structure_find_loading(struct seam_map *map);
/* Calls from `function` (and the static functions it calls, to `depth`) to an import or export. */
void structure_find_calls(const struct seam_map *map, uint64_t function, unsigned int depth,
			  const char *const names[], struct site_list *list);
/* The name of the function that `insn` calls or jumps to, exported or imported; NULL: it has none.
 */
const char *structure_callee(const struct image *image, const struct insn *insn);
/* Where control goes on after a call: behind it, or behind the calls of a function it ends. */
void structure_returns(const struct seam_map *map, const struct call_site *call,
		       struct site_list *list);

/* points.c: after every function's extent is known. */
void points_place(struct seam_map *map);

#endif
