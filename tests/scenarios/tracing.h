/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of captures share: reading a trace, and finding what a capture has left behind.
 * Failures end the test at the caller's line.
 */
#ifndef TRACING_H
#define TRACING_H

#include <string.h>

#include "analyzers/ctf/events.h"
#include "tests/scenarios/recording.h"

#define NONE  (-1000)
#define HOMES "/tmp/bqlstat-lttng-"

/* ---- what a trace says ---- */

struct seen {
	uint64_t count[TRACE_IDS];
	uint64_t discarded;
	GHashTable *depth;    /* "tid begin-event" to how often it is open */
	GHashTable *sections; /* "TYPE name" */
	GHashTable *waits;    /* "channel lock" */
	GHashTable *threads;  /* names that began */
	GString *states;
	unsigned unbalanced, overlaps, unknown;
	unsigned holder;
	uint64_t section_bytes, read_bytes;
	int result; /* of the load; NONE: none ended */
	char *policy, *qemu, *why;
	bool devices_in_order; /* each VMSD of a device lies in a section */
};

static inline void count_open(struct seen *s, const struct ctf_event *e, const char *begin,
			      int step)
{
	g_autofree char *key = g_strdup_printf(
		"%u %.*s", e->tid, (int)(begin - trace_table[e->id].name), trace_table[e->id].name);
	int depth = GPOINTER_TO_INT(g_hash_table_lookup(s->depth, key)) + step;

	if (depth < 0 || depth > 1)
		s->unbalanced++;
	g_hash_table_insert(s->depth, g_steal_pointer(&key), GINT_TO_POINTER(MAX(depth, 0)));
}

static inline bool is_open(struct seen *s, const struct ctf_event *e, const char *what)
{
	g_autofree char *key = g_strdup_printf("%u %s", e->tid, what);

	return g_hash_table_lookup(s->depth, key) != NULL;
}

static inline void see_lock(struct seen *s, const struct ctf_event *e)
{
	/* Said with the lock held, both: so two holders at once never show. */
	if (e->id == TRACE_ID_lock_acquired) {
		s->overlaps += s->holder != 0;
		s->holder = e->tid;
	} else if (e->id == TRACE_ID_lock_released) {
		s->overlaps += s->holder != e->tid;
		s->holder = 0;
	}
}

static inline void see(void *opaque, const struct ctf_event *e)
{
	const char *name = trace_table[e->id].name, *begin = strstr(name, "_begin");
	const char *end = strstr(name, "_end");
	struct seen *s = opaque;

	s->count[e->id]++;
	/* Threads begin and end elsewhere, or not at all. */
	if (begin && e->id != TRACE_ID_thread_begin)
		count_open(s, e, begin, 1);
	else if (end && e->id != TRACE_ID_thread_end)
		count_open(s, e, end, -1);
	see_lock(s, e);
	switch (e->id) {
	case TRACE_ID_runtime:
		s->qemu = g_strdup(e->field[1].s);
		break;
	case TRACE_ID_fallback:
		s->why = g_strdup(e->field[0].s);
		break;
	case TRACE_ID_policy:
		s->policy = g_strdup(e->field[0].s);
		break;
	case TRACE_ID_incoming_end:
		s->result = (int)e->field[2].i;
		break;
	case TRACE_ID_state_change:
		g_string_append_printf(s->states, " %s", e->field[1].s);
		break;
	case TRACE_ID_section_begin:
		g_hash_table_add(s->sections,
				 g_strdup_printf("%s %s", e->field[0].s, e->field[1].s));
		break;
	case TRACE_ID_section_end:
		s->unknown += e->field[4].u == UINT64_MAX;
		s->section_bytes += e->field[4].u;
		break;
	case TRACE_ID_vmsd_begin:
		s->devices_in_order &=
			!strcmp(e->field[0].s, "configuration") || is_open(s, e, "section");
		break;
	case TRACE_ID_ram_end:
		s->read_bytes = e->field[1].u;
		break;
	case TRACE_ID_io_wait_begin:
		g_hash_table_add(s->waits, g_strdup_printf("%s %s", e->field[0].s, e->field[2].s));
		break;
	case TRACE_ID_thread_begin:
		g_hash_table_add(s->threads, g_strdup(e->field[0].s));
		break;
	default:
		break;
	}
}

static inline void see_discarded(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t count)
{
	(void)begin_ns;
	(void)end_ns;
	((struct seen *)opaque)->discarded += count ? count : 1;
}

static inline struct seen *read_trace(const char *folder)
{
	struct seen *s = g_new0(struct seen, 1);
	const struct ctf_reader reader = {.event = see, .discarded = see_discarded, .opaque = s};
	struct store_error err = {""};
	struct ctf_tally tally;

	s->depth = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->sections = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->waits = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->threads = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->states = g_string_new(NULL);
	s->result = NONE;
	s->devices_in_order = true;
	if (ctf_read_events(folder, &reader, &tally, &err))
		g_error("%s", err.text);
	g_assert_cmpstr(tally.damage, ==, "");
	return s;
}

static inline void seen_free(struct seen *s)
{
	g_hash_table_unref(s->depth);
	g_hash_table_unref(s->sections);
	g_hash_table_unref(s->waits);
	g_hash_table_unref(s->threads);
	g_string_free(s->states, TRUE);
	g_free(s->policy);
	g_free(s->qemu);
	g_free(s->why);
	g_free(s);
}

typedef struct seen seen;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(seen, seen_free)

static inline bool any_with_prefix(GHashTable *set, const char *prefix)
{
	GHashTableIter iter;
	void *key;

	g_hash_table_iter_init(&iter, set);
	while (g_hash_table_iter_next(&iter, &key, NULL))
		if (g_str_has_prefix(key, prefix))
			return true;
	return false;
}

/*
 * Whose a process is: everything that a test starts inherits this, session daemons and consumers
 * included. Others on this machine may be capturing as well.
 */
#define TRAIL "BQLSTAT_TRAIL"

static inline void begin_trail(void)
{
	g_autofree char *uuid = g_uuid_string_random();

	g_setenv(TRAIL, uuid, TRUE);
}

static inline bool has_entry(const char *environment, size_t length, const char *entry, bool whole)
{
	for (const char *at = environment; at < environment + length; at += strlen(at) + 1)
		if (whole ? !strcmp(at, entry) : g_str_has_prefix(at, entry))
			return true;
	return false;
}

/* Processes with this test's trail that LTTng's private home was given to, and the home. */
static inline unsigned traced_processes(char **home)
{
	g_autofree char *entry = g_strdup_printf(TRAIL "=%s", g_getenv(TRAIL));
	g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
	const char *pid;
	unsigned n = 0;

	while ((pid = g_dir_read_name(proc))) {
		g_autofree char *path = g_build_filename("/proc", pid, "environ", NULL);
		g_autofree char *environment = NULL;
		size_t length;

		if (!g_ascii_isdigit(*pid) ||
		    !g_file_get_contents(path, &environment, &length, NULL) ||
		    !has_entry(environment, length, entry, true) ||
		    !has_entry(environment, length, "LTTNG_HOME=" HOMES, false))
			continue;
		n++;
		for (char *at = environment; home && !*home && at < environment + length;
		     at += strlen(at) + 1)
			if (g_str_has_prefix(at, "LTTNG_HOME="))
				*home = g_strdup(at + strlen("LTTNG_HOME="));
	}
	return n;
}

/* LTTng's folder, while a capture runs. */
static inline char *home_of_capture(void)
{
	char *home = NULL;

	for (int i = 0; i < 1000 && !home; i++) {
		traced_processes(&home);
		g_usleep(20000);
	}
	g_assert_nonnull(home);
	g_assert_true(g_file_test(home, G_FILE_TEST_IS_DIR));
	return home;
}

static inline void expect_no_processes(void)
{
	for (int i = 0; traced_processes(NULL) && i < 200; i++)
		g_usleep(50000);
	g_assert_cmpuint(traced_processes(NULL), ==, 0);
}

static inline void expect_nothing_left(const char *home)
{
	expect_no_processes();
	g_assert_false(g_file_test(home, G_FILE_TEST_EXISTS));
}

static inline bool possible(void)
{
	g_autoptr(GError) error = NULL;

	if (lab_lttng(&error))
		return true;
	g_test_skip(error->message);
	return false;
}

#endif
