/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's own count of BQL acquisitions (HMP sync-profile), for recordings to be held against:
 * "file:line" to count, the path without leading "../".
 */
#ifndef TESTS_PROFILE_H
#define TESTS_PROFILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/lab/lab.h"
#include "analyzers/model/run.h"

static inline GHashTable *counts_new(void)
{
	return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static inline uint64_t count_at(GHashTable *counts, const char *site)
{
	return GPOINTER_TO_SIZE(g_hash_table_lookup(counts, site));
}

static inline void count(GHashTable *counts, const char *file, unsigned line, uint64_t n)
{
	char *site;

	while (g_str_has_prefix(file, "../"))
		file += 3;
	site = g_strdup_printf("%s:%u", file, line);
	n += count_at(counts, site);
	g_hash_table_insert(counts, site, GSIZE_TO_POINTER(n));
}

/* A run's. QEMU counts what a condvar wait takes back elsewhere. */
static inline GHashTable *counted(const struct run *run, bool condvars)
{
	GHashTable *counts = counts_new();

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		const struct site *s = &g_array_index(run->sites, struct site, u->site);

		if (!s->cond || condvars)
			count(counts, s->file, s->line, u->acquired);
	}
	return counts;
}

/*
 * What the profiler has counted so far: "BQL mutex  0x55...  util/main-loop.c:318  0.0123
 * 45  2.67". Asked in the main loop, with the lock held: nobody else is in the middle of being
 * counted.
 */
static inline GHashTable *profiled(struct lab_vm *vm)
{
	GHashTable *counts = counts_new();
	g_autoptr(GError) error = NULL;
	g_autofree char *table = lab_hmp(vm, &error, "info sync-profile 100000");
	g_auto(GStrv) lines = NULL;

	g_assert_no_error(error);
	lines = g_strsplit(table, "\n", -1);
	for (char **line = lines; *line; line++) {
		char site[128], *colon;
		unsigned long long n;

		if (sscanf(*line, "BQL mutex %*s %127s %*s %llu", site, &n) != 2)
			continue;
		colon = strrchr(site, ':');
		g_assert_nonnull(colon);
		*colon = 0;
		count(counts, site, atoi(colon + 1), n);
	}
	return counts;
}

/* Readings of the profiler around recordings, and within all of them. */
enum { BEFORE, BEGUN, TO_END, AFTER, READINGS };

static inline void readings_clear(GHashTable *readings[READINGS])
{
	for (int i = 0; i < READINGS; i++)
		g_clear_pointer(&readings[i], g_hash_table_unref);
}

/* Every site's count: no less than within the recording, and no more than around it. */
static inline void lie_between(const char *who, GHashTable *ours, GHashTable *readings[READINGS],
			       uint64_t more_than)
{
	uint64_t total = 0, apart = 0;
	GHashTableIter iter;
	gpointer site;

	g_hash_table_iter_init(&iter, readings[AFTER]);
	while (g_hash_table_iter_next(&iter, &site, NULL)) {
		uint64_t least = count_at(readings[TO_END], site) - count_at(readings[BEGUN], site);
		uint64_t most = count_at(readings[AFTER], site) - count_at(readings[BEFORE], site);
		uint64_t got = count_at(ours, site);

		total += least;
		apart += most - least;
		if (got < least || got > most)
			g_test_message("%s: %s: %" G_GUINT64_FORMAT ", QEMU says %" G_GUINT64_FORMAT
				       " to %" G_GUINT64_FORMAT,
				       who, (char *)site, got, least, most);
		g_assert_cmpuint(got, >=, least);
		g_assert_cmpuint(got, <=, most);
	}
	g_test_message("%s: %u sites, %" G_GUINT64_FORMAT " acquisitions, %" G_GUINT64_FORMAT
		       " more around them",
		       who, g_hash_table_size(readings[AFTER]), total, apart);
	g_assert_cmpuint(total, >, more_than);
	/* Else the bounds say nothing. */
	g_assert_cmpuint(apart, <, total / 10);
}

#endif
