/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the two coexistence scenarios share: what must stand in a QEMU's code, and a bqlstat that
 * comes and goes. Each failure ends the test.
 */
#ifndef TESTS_COEXIST_H
#define TESTS_COEXIST_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "analyzers/model/run.h"
#include "analyzers/store/store.h"
#include "runtime/seams/seams.h"

#define MS 1000000ull

enum {
	DONE_MS = 60000,
	ALIVE_MS = 15000,
	BQLSTAT_MS = 30000, /* bqlstat's own start or end, on a busy machine */
	INT3 = 0xcc,
	JMP = 0xe9,
};

/* GLib begins each test with the same random numbers: let each have its own, from the one seed. */
static inline void own_moments(void)
{
	for (unsigned n = g_str_hash(g_test_get_path()) % 97; n; n--)
		g_test_rand_int();
}

/* ---- code ---- */

/* What stood where a probe or a detour may stand, when it was opened. */
struct text {
	struct seam_map *map;
	uint64_t bias;
	int mem;
	uint8_t entry[SEAM_FUNCTIONS][64];
};

static inline void text_read(const struct text *t, uint64_t vaddr, void *buf, size_t size)
{
	g_assert_cmpint(pread(t->mem, buf, size, t->bias + vaddr), ==, size);
}

/* Bytes at the entry of a function that a detour would take; 0: it takes none. */
static inline size_t text_extent(const struct text *t, int id)
{
	const struct seam_function *f = seam_map_function(t->map, id);

	g_assert_cmpuint(f->extent, <=, sizeof(t->entry[id]));
	return f->name ? f->extent : 0;
}

static inline void text_free(struct text *t)
{
	close(t->mem);
	seam_map_free(t->map);
	g_free(t);
}

/* How many functions begin with a jump that the file has not. */
static inline unsigned text_detours(const struct text *t)
{
	unsigned n = 0;

	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(t->map, id);
		uint8_t live;

		if (!text_extent(t, id))
			continue;
		text_read(t, f->vaddr, &live, 1);
		n += live == JMP && f->code[0] != JMP;
	}
	return n;
}

/* As many detours as loadvm said; none without it. */
static inline void expect_detours(const struct text *t, const char *said, bool detoured)
{
	const char *end = strstr(said, " detours"), *digits = end;
	int n = 0;

	while (digits && digits > said && g_ascii_isdigit(digits[-1]))
		digits--;
	if (digits)
		n = atoi(digits);
	if ((n > 0) != detoured)
		g_test_message("it said: %s", said);
	g_assert_cmpint(n > 0, ==, detoured);
	g_assert_cmpuint(text_detours(t), ==, n);
}

/* How many points have a breakpoint on them; all others are as in the file. */
static inline size_t text_breakpoints(const struct text *t, size_t *points)
{
	const struct seam_point *point = seam_map_points(t->map, points);
	size_t n = 0;

	for (size_t i = 0; i < *points; i++) {
		uint8_t live[16];

		text_read(t, point[i].vaddr, live, point[i].code_len);
		if (live[0] == INT3 && point[i].code[0] != INT3) {
			n++;
			live[0] = point[i].code[0];
		}
		g_assert_cmpmem(live, point[i].code_len, point[i].code, point[i].code_len);
	}
	return n;
}

static inline struct text *text_open(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", pid);
	struct text *t = g_new0(struct text, 1);
	struct seam_error err = {""};

	if (seam_map_open_pid(pid, &t->map, &t->bias, &err))
		g_error("%s", err.text);
	t->mem = open(path, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(t->mem, >=, 0);
	for (int id = 0; id < SEAM_FUNCTIONS; id++)
		text_read(t, seam_map_function(t->map, id)->vaddr, t->entry[id],
			  text_extent(t, id));
	return t;
}

/* Until nothing is left of a bqlstat that was killed: what held its probes outlives it. */
static inline void text_await_rid(const struct text *t)
{
	size_t points;

	for (int i = 0; i < 500 && text_breakpoints(t, &points); i++)
		g_usleep(20000);
}

/* No breakpoint is left, and what a detour has written is still the detour's. */
static inline void text_unchanged(const struct text *t)
{
	size_t points;

	g_assert_cmpuint(text_breakpoints(t, &points), ==, 0);
	g_assert_cmpuint(points, >, 8);
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		uint8_t live[sizeof(t->entry[id])];
		size_t extent = text_extent(t, id);

		text_read(t, seam_map_function(t->map, id)->vaddr, live, extent);
		g_assert_cmpmem(live, extent, t->entry[id], extent);
	}
}

/* ---- bqlstat ---- */

/* `second` may be 0. */
static inline struct lab_process *start_bqlstat(const char *file, pid_t first, pid_t second)
{
	g_autofree char *one = g_strdup_printf("%d", first);
	g_autofree char *pids = second ? g_strdup_printf("%s,%d", one, second) : g_strdup(one);
	const char *argv[] = {lab_program("bqlstat"), "record", "-p", pids, "-o", file, NULL};
	g_autoptr(GError) error = NULL;
	struct lab_process *bqlstat = lab_process_new(argv, NULL, &error);

	g_assert_no_error(error);
	return bqlstat;
}

/*
 * Signal it, wait until nothing of it is left (its own children included), free it. Returns its
 * exit status.
 */
static inline int end_bqlstat(struct lab_process *bqlstat, int signal, char **said)
{
	pid_t pid = lab_process_pid(bqlstat);
	g_autoptr(GError) error = NULL;
	int status;

	/* Not its group: nobody but bqlstat itself looks after what it has started. */
	kill(pid, signal);
	g_assert_true(lab_process_wait(bqlstat, BQLSTAT_MS, &status, &error));
	g_assert_no_error(error);
	for (int i = 0; !kill(-pid, 0); i++) {
		g_assert_cmpint(i, <, 1000);
		g_usleep(5000);
	}
	*said = lab_process_stderr(bqlstat);
	lab_process_free(bqlstat);
	return status;
}

static inline void expect_status(int status, int expected, const char *said)
{
	if (status != expected)
		g_test_message("it said: %s", said);
	g_assert_cmpint(status, ==, expected);
}

static inline struct run *load_run(struct store *store, int64_t id)
{
	struct store_error err = {""};
	struct run *run = NULL;

	if (store_load(store, id, &run, &err))
		g_error("%s", err.text);
	return run;
}

/* Every point was attached, and nothing was lost. */
static inline void check_run(const struct run *run)
{
	g_assert_cmpuint(run->points->len, >, 8);
	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		if (!p->attached)
			g_test_message("%s at 0x%" G_GINT64_MODIFIER "x: %s", p->kind, p->vaddr,
				       p->refusal);
		g_assert_true(p->attached);
	}
	for (unsigned i = 0; i < run->lost->len; i++) {
		const struct lost *l = &g_array_index(run->lost, struct lost, i);

		if (l->count && !lost_at_edge(l->what))
			g_test_message("lost: %" G_GUINT64_FORMAT " %s", l->count, l->what);
	}
	g_assert_cmpuint(run_lost(run), ==, 0);
}

#endif
