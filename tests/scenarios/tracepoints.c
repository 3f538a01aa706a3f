/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime's tracepoints as LTTng records them through `bqlstat lttng capture`, from real
 * migrations: that all is there, that it fits together, and that a capture leaves nothing behind
 * however it ends.
 */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "analyzers/ctf/events.h"
#include "analyzers/lab/journey.h"
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

static void count_open(struct seen *s, const struct ctf_event *e, const char *begin, int step)
{
	g_autofree char *key = g_strdup_printf(
		"%u %.*s", e->tid, (int)(begin - trace_table[e->id].name), trace_table[e->id].name);
	int depth = GPOINTER_TO_INT(g_hash_table_lookup(s->depth, key)) + step;

	if (depth < 0 || depth > 1)
		s->unbalanced++;
	g_hash_table_insert(s->depth, g_steal_pointer(&key), GINT_TO_POINTER(MAX(depth, 0)));
}

static bool is_open(struct seen *s, const struct ctf_event *e, const char *what)
{
	g_autofree char *key = g_strdup_printf("%u %s", e->tid, what);

	return g_hash_table_lookup(s->depth, key) != NULL;
}

static void see_lock(struct seen *s, const struct ctf_event *e)
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

static void see(void *opaque, const struct ctf_event *e)
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

static void see_discarded(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t count)
{
	(void)begin_ns;
	(void)end_ns;
	((struct seen *)opaque)->discarded += count ? count : 1;
}

static struct seen *read_trace(const char *folder)
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

static void seen_free(struct seen *s)
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

static bool any_with_prefix(GHashTable *set, const char *prefix)
{
	GHashTableIter iter;
	void *key;

	g_hash_table_iter_init(&iter, set);
	while (g_hash_table_iter_next(&iter, &key, NULL))
		if (g_str_has_prefix(key, prefix))
			return true;
	return false;
}

static void expect_whole(const struct seen *s)
{
	GHashTableIter iter;
	void *key, *depth;

	g_assert_cmpuint(s->discarded, ==, 0);
	g_assert_cmpuint(s->unbalanced, ==, 0);
	g_assert_cmpuint(s->overlaps, ==, 0);
	g_hash_table_iter_init(&iter, s->depth);
	while (g_hash_table_iter_next(&iter, &key, &depth)) {
		if (depth)
			g_test_message("never ended: %s", (char *)key);
		g_assert_null(depth);
	}
	/* What is acquired is released, but for what QEMU still holds when it exits. */
	g_assert_cmpuint(s->count[TRACE_ID_lock_acquired], >, 50);
	g_assert_cmpuint(s->count[TRACE_ID_lock_acquired] - s->count[TRACE_ID_lock_released], <=,
			 1);
	g_assert_cmpuint(s->count[TRACE_ID_lock_ask], <=, s->count[TRACE_ID_lock_acquired] + 4);
	g_assert_cmpuint(s->count[TRACE_ID_fallback], ==, 0);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
}

/* ---- capturing ---- */

/*
 * Whose a process is: everything that a test starts inherits this, session daemons and consumers
 * included. Others on this machine may be capturing as well.
 */
#define TRAIL "BQLSTAT_TRAIL"

static bool has_entry(const char *environment, size_t length, const char *entry, bool whole)
{
	for (const char *at = environment; at < environment + length; at += strlen(at) + 1)
		if (whole ? !strcmp(at, entry) : g_str_has_prefix(at, entry))
			return true;
	return false;
}

/* Processes with this test's trail that LTTng's private home was given to, and the home. */
static unsigned traced_processes(char **home)
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
static char *home_of_capture(void)
{
	char *home = NULL;

	for (int i = 0; i < 200 && !home; i++) {
		traced_processes(&home);
		g_usleep(20000);
	}
	g_assert_nonnull(home);
	g_assert_true(g_file_test(home, G_FILE_TEST_IS_DIR));
	return home;
}

static void expect_no_processes(void)
{
	for (int i = 0; traced_processes(NULL) && i < 200; i++)
		g_usleep(50000);
	g_assert_cmpuint(traced_processes(NULL), ==, 0);
}

static void expect_nothing_left(const char *home)
{
	expect_no_processes();
	g_assert_false(g_file_test(home, G_FILE_TEST_EXISTS));
}

static bool possible(void)
{
	g_autoptr(GError) error = NULL;

	if (lab_lttng(&error))
		return true;
	g_test_skip(error->message);
	return false;
}

struct arrival {
	const char *version, *policy;
	unsigned multifd;
	bool postcopy;
};

/* The destination is captured; the trace's folder, or NULL after g_test_skip(). */
static char *capture_arrival(const struct arrival *a, uint64_t *stream_bytes, char **home)
{
	g_autofree char *folder = fresh_path("trace");
	const char *launcher[] = {
		lab_program("bqlstat"), "lttng",   "capture",  "-q",	  "-o", folder, "--",
		lab_program("loadvm"),	"--lttng", "--policy", a->policy, "--", NULL};
	static const char *const sandbox[] = {"-sandbox",
					      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
					      "resourcecontrol=deny",
					      NULL};
	const struct lab_pair_options options = {
		.vm = {.version = a->version,
		       .guest = true,
		       .devices = LAB_DEVICES_DOZEN,
		       .fill_mib = 16,
		       .dirty_mib = 1,
		       .timeout_ms = 30000},
		.destination_launcher = launcher,
		.destination_args = sandbox,
		.multifd = a->multifd,
		.proxy = true,
	};
	const struct lab_journey journey = {.copy = a->postcopy ? LAB_COPY_POST : LAB_COPY_PRE};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = lab_journey_new(&journey, &options, &error);
	struct lab_connection connection;
	int status;

	if (lab_skip(error))
		return NULL;
	g_assert_no_error(error);
	*home = home_of_capture();
	lab_journey_arrive(&journey, pair, 2 * PATIENCE_MS, NULL, &error);
	g_assert_no_error(error);
	lab_vm_quit(lab_pair_destination(pair), PATIENCE_MS, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0);
	*stream_bytes = 0;
	for (unsigned i = 0; lab_proxy_connection(lab_pair_proxy(pair), i, &connection); i++)
		if (connection.channel == LAB_CHANNEL_MAIN)
			*stream_bytes = connection.forward_bytes;
	return g_steal_pointer(&folder);
}

static void test_arrival(const void *opaque)
{
	const struct arrival *a = opaque;
	bool thread = strcmp(a->policy, "stock") != 0;
	g_autofree char *folder = NULL, *home = NULL;
	g_autoptr(seen) s = NULL;
	uint64_t stream_bytes;

	if (!possible())
		return;
	folder = capture_arrival(a, &stream_bytes, &home);
	if (!folder)
		return;
	s = read_trace(folder);
	g_test_message("%d lock events, %d sections, %d of %d bytes",
		       (int)s->count[TRACE_ID_lock_acquired], (int)s->count[TRACE_ID_section_begin],
		       (int)s->section_bytes, (int)stream_bytes);
	expect_whole(s);
	g_assert_true(g_str_has_prefix(s->qemu, a->version));
	g_assert_cmpstr(s->policy, ==, a->policy);
	/* 1: another thread reads on. */
	g_assert_cmpint(s->result, ==, a->postcopy ? 1 : 0);
	g_assert_cmpuint(s->count[TRACE_ID_command], >=, a->postcopy ? 5 : 0);
	g_assert_cmpuint(s->count[TRACE_ID_incoming_begin], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_activate_begin], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_vm_start_begin], >=, 1);
	g_assert_cmpuint(s->count[TRACE_ID_incoming_destroyed], ==, 1);
	g_assert_nonnull(strstr(s->states->str, " active"));
	g_assert_true(g_hash_table_contains(s->threads, "mig/dst/main") == thread);

	g_assert_true(g_hash_table_contains(s->sections, "START ram"));
	g_assert_true(g_hash_table_contains(s->sections, "END ram"));
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_NET));
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_E1000));
	g_assert_true(s->devices_in_order);
	g_assert_cmpuint(s->count[TRACE_ID_nested_begin], ==, 0);
	g_assert_cmpuint(s->unknown, ==, 0);
	/* But for headers, footers and the description at the end, sections are the stream. */
	g_assert_cmpuint(s->section_bytes, <, stream_bytes);
	g_assert_cmpuint(s->section_bytes, >, stream_bytes - (128 << 10));
	/* The proxy counts what passes it, the load what it has read: all of RAM, by then. */
	g_assert_cmpuint(s->read_bytes, <=, stream_bytes);
	if (!a->multifd)
		g_assert_cmpuint(s->read_bytes, >, 16 << 20);

	if (!thread)
		g_assert_true(g_hash_table_contains(s->waits, "qio-channel-socket yielded"));
	else
		g_assert_true(any_with_prefix(s->waits, "qio-channel-socket "));
	if (a->multifd)
		g_assert_true(any_with_prefix(s->waits, "multifd "));
	/* io-free never waits under the lock. */
	if (!strcmp(a->policy, "io-free")) {
		g_assert_false(g_hash_table_contains(s->waits, "qio-channel-socket held"));
		g_assert_false(g_hash_table_contains(s->waits, "multifd held"));
	}
	expect_nothing_left(home);
}

/* ---- how a capture ends ---- */

static void remove_tree(const char *folder)
{
	const char *argv[] = {"rm", "-rf", folder, NULL};

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
				   NULL, NULL, NULL));
}

/* A QEMU with nothing in it, captured; extra arguments up to NULL. */
static struct lab_process *capture_idle(const char *folder, const char *const *options,
					const char *const *prefix, const char *const *env)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	static const char *const qemu_args[] = {"-accel",     "tcg", "-nodefaults", "-display",
						"none",	      "-m",  "32",	    "-machine",
						"pc-q35-7.2", NULL};

	for (; prefix && *prefix; prefix++)
		g_ptr_array_add(argv, (char *)*prefix);
	g_ptr_array_add(argv, (char *)lab_program("bqlstat"));
	g_ptr_array_add(argv, (char *)"lttng");
	g_ptr_array_add(argv, (char *)"capture");
	g_ptr_array_add(argv, (char *)"-o");
	g_ptr_array_add(argv, (char *)folder);
	for (; options && *options; options++)
		g_ptr_array_add(argv, (char *)*options);
	g_ptr_array_add(argv, (char *)"--");
	g_ptr_array_add(argv, (char *)lab_program("loadvm"));
	g_ptr_array_add(argv, (char *)"--lttng");
	g_ptr_array_add(argv, (char *)"--");
	g_ptr_array_add(argv, (char *)lab_qemu_path("7.2", NULL));
	for (const char *const *a = qemu_args; *a; a++)
		g_ptr_array_add(argv, (char *)*a);
	g_ptr_array_add(argv, NULL);
	return lab_process_new((const char *const *)argv->pdata, env, NULL);
}

static pid_t pid_after(struct lab_process *p, const char *words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *said = NULL;
	const char *at;

	lab_process_expect(p, words, PATIENCE_MS, &error);
	g_assert_no_error(error);
	/* The line is whole once the next one is there: loadvm's. */
	lab_process_expect(p, "loadvm: ", PATIENCE_MS, &error);
	g_assert_no_error(error);
	said = lab_process_stderr(p);
	at = strstr(said, words);
	return (pid_t)g_ascii_strtoull(at + strlen(words), NULL, 10);
}

enum ending { BY_TERM, BY_INT, QEMU_KILLED, BQLSTAT_KILLED, ENDINGS };

static const char *const ending_names[] = {"sigterm", "sigint", "qemu-killed", "bqlstat-killed"};

static void test_ending(const void *opaque)
{
	enum ending ending = GPOINTER_TO_INT(opaque);
	g_autofree char *folder = fresh_path("ending"), *said = NULL, *home = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autoptr(seen) s = NULL;
	unsigned patience = 200;
	pid_t qemu;
	int status;

	if (!possible() || !lab_qemu_path("7.2", NULL)) {
		if (!lab_qemu_path("7.2", NULL))
			g_test_skip("no QEMU 7.2");
		return;
	}
	p = capture_idle(folder, NULL, NULL, NULL);
	g_assert_nonnull(p);
	qemu = pid_after(p, "capturing process ");
	home = home_of_capture();
	g_usleep(700000);
	switch (ending) {
	case BY_TERM:
	case BY_INT:
		kill(lab_process_pid(p), ending == BY_TERM ? SIGTERM : SIGINT);
		break;
	case QEMU_KILLED:
		kill(qemu, SIGKILL);
		break;
	default:
		kill(lab_process_pid(p), SIGKILL);
	}
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	said = lab_process_stderr(p);
	g_test_message("%s", said);
	if (ending == BQLSTAT_KILLED) {
		/* QEMU goes on; LTTng's processes do not, though their folder stays. */
		g_assert_cmpint(kill(qemu, 0), ==, 0);
		kill(qemu, SIGKILL);
		expect_no_processes();
		remove_tree(home);
		return;
	}
	g_assert_cmpint(status, ==, 0);
	while (!kill(qemu, 0) && patience--)
		g_usleep(100000);
	g_assert_cmpint(kill(qemu, 0), ==, -1);
	g_assert_nonnull(strstr(said, "events discarded 0, packets lost 0"));
	g_assert_nonnull(
		strstr(said, ending == QEMU_KILLED ? "killed by signal 9" : "stopped by the user"));
	s = read_trace(folder);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_lock_released], >, 10);
	g_assert_cmpuint(s->overlaps, ==, 0);
	expect_nothing_left(home);
}

/* Somebody without any privilege, and with a home of his own. */
static void test_nobody(void)
{
	g_autofree char *folder = g_strdup("/tmp/bqlstat-nobody-XXXXXX"), *trace = NULL;
	const char *prefix[] = {"setpriv", "--reuid",	     "nobody", "--regid",
				"nogroup", "--clear-groups", NULL};
	const char *options[] = {"-d", "2", NULL};
	g_autofree char *home = NULL, *own = NULL, *said = NULL, *reach = NULL;
	const char *env[2] = {NULL};
	struct passwd *nobody = getpwnam("nobody");
	g_autoptr(lab_process) p = NULL;
	g_autoptr(seen) s = NULL;
	pid_t qemu;
	int status;

	if (!possible())
		return;
	reach = g_strdup_printf(
		"setpriv --reuid nobody --regid nogroup --clear-groups test -x '%s'",
		lab_program("bqlstat"));
	if (geteuid() || !nobody || system(reach)) {
		g_test_skip("needs root, and a build folder that user nobody can read");
		return;
	}
	g_assert_nonnull(g_mkdtemp(folder));
	g_assert_cmpint(chown(folder, nobody->pw_uid, nobody->pw_gid), ==, 0);
	own = g_strdup_printf("HOME=%s", folder);
	env[0] = own;
	trace = g_build_filename(folder, "trace", NULL);
	p = capture_idle(trace, options, prefix, env);
	qemu = pid_after(p, "capturing process ");
	home = home_of_capture();
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	kill(qemu, SIGKILL);
	said = lab_process_stderr(p);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	s = read_trace(trace);
	g_assert_cmpuint(s->discarded, ==, 0);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
	g_assert_cmpuint(s->overlaps, ==, 0);
	expect_nothing_left(home);
	remove_tree(folder);
}

/* ---- the flight recorder ---- */

/* The only folder in there that begins with "snapshot-". */
static char *only_snapshot(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;
	char *found = NULL;

	g_assert_nonnull(dir);
	while ((name = g_dir_read_name(dir))) {
		g_assert_true(g_str_has_prefix(name, "snapshot-"));
		g_assert_null(found);
		found = g_build_filename(folder, name, NULL);
	}
	return found;
}

/* The stream breaks within a device: the load fails, QEMU exits, and what led there is kept. */
static void test_failed(void)
{
	const struct lab_rule rule = {.channel = LAB_CHANNEL_MAIN,
				      .section = LAB_SECTION_NET,
				      .offset_bytes = 64,
				      .fault = LAB_FAULT_FIN};
	g_autofree char *folder = fresh_path("flight"), *snapshot = NULL, *said = NULL;
	g_autofree char *home = NULL;
	const char *launcher[] = {lab_program("bqlstat"),
				  "lttng",
				  "capture",
				  "-o",
				  folder,
				  "--snapshot",
				  "--trigger",
				  "failed",
				  "--",
				  lab_program("loadvm"),
				  "--lttng",
				  "--",
				  NULL};
	const struct lab_pair_options options = {
		.vm = {.guest = true, .devices = LAB_DEVICES_DOZEN, .timeout_ms = 30000},
		.destination_launcher = launcher,
		.rules = &rule,
		.n_rules = 1,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autoptr(seen) s = NULL;
	int status;

	if (!possible())
		return;
	pair = lab_pair_new(&options, &error);
	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	home = home_of_capture();
	lab_pair_migrate(pair, &error);
	g_assert_no_error(error);
	lab_vm_wait_exit(lab_pair_destination(pair), 60000, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0); /* bqlstat's: the recording is good */
	said = lab_vm_stderr(lab_pair_destination(pair));
	g_assert_nonnull(strstr(said, "exited with status 1"));
	snapshot = only_snapshot(folder);
	g_assert_nonnull(snapshot);
	s = read_trace(snapshot);
	g_assert_cmpint(s->result, <, 0);
	g_assert_cmpint(s->result, !=, NONE);
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_NET));
	expect_nothing_left(home);
}

/* Nothing happens: nothing is written, and that is said. SIGUSR1: something is. */
static void test_asked(void)
{
	const char *options[] = {"--snapshot", "--trigger", "hold>10m", NULL};
	g_autofree char *folder = fresh_path("asked"), *none = fresh_path("none");
	g_autofree char *said = NULL, *snapshot = NULL, *home = NULL;
	g_autoptr(lab_process) p = NULL, quiet = NULL;
	g_autoptr(seen) s = NULL;
	int status;

	if (!possible())
		return;
	p = capture_idle(folder, options, NULL, NULL);
	pid_after(p, "capturing process ");
	home = home_of_capture();
	g_usleep(300000);
	kill(lab_process_pid(p), SIGUSR1);
	g_assert_true(lab_process_expect(p, "snapshot taken", PATIENCE_MS, NULL));
	kill(lab_process_pid(p), SIGTERM);
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	g_assert_cmpint(status, ==, 0);
	snapshot = only_snapshot(folder);
	g_assert_nonnull(snapshot);
	s = read_trace(snapshot);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);

	quiet = capture_idle(none, options, NULL, NULL);
	pid_after(quiet, "capturing process ");
	kill(lab_process_pid(quiet), SIGTERM);
	said = outcome(quiet, &status);
	g_assert_cmpint(status, ==, 0);
	g_assert_nonnull(strstr(said, "no snapshot: no trigger fired"));
	g_assert_false(g_file_test(none, G_FILE_TEST_EXISTS));
	expect_nothing_left(home);
}

/* ---- what cannot be ---- */

static void expect_refusal(struct lab_process *p, int code, const char *words)
{
	g_autofree char *said = NULL;
	int status;

	g_assert_nonnull(p);
	said = outcome(p, &status);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, code);
	g_assert_nonnull(strstr(said, words));
	lab_process_free(p);
}

static void test_refusals(void)
{
	g_autofree char *folder = fresh_path("refused"), *full = fresh_path("full");
	g_autofree char *file = g_build_filename(full, "something", NULL);
	g_autofree char *own = g_strdup_printf("%d", getpid());
	const char *binary = lab_qemu_binary("7.2", NULL);
	const char *no_lttng[] = {"PATH=/nonexistent", NULL};
	const char *loadvm = lab_program("loadvm");
	const char *argv[] = {lab_program("bqlstat"),
			      "lttng",
			      "capture",
			      "-o",
			      folder,
			      "--",
			      loadvm,
			      "--",
			      "true",
			      NULL};

	if (!possible())
		return;
	expect_refusal(lab_process_new(argv, no_lttng, NULL), 3, "lttng-tools");
	expect_refusal(bqlstat("lttng", "capture", "-p", own, NULL), 2, "-o DIR");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, NULL), 2, "say what to record");
	expect_refusal(bqlstat("lttng", "-o", folder, "-p", own, NULL), 2, "`capture`");
	expect_refusal(
		bqlstat("lttng", "capture", "-o", folder, "-t", "hold>x", "-s", "-p", own, NULL), 2,
		"--trigger wants");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-t", "failed", "-p", own, NULL),
		       2, "needs --snapshot");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-b", "3", "-p", own, NULL), 2,
		       "--buffer wants");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-p", own, NULL), 3,
		       "loadvm --lttng");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", "/nonexistent/qemu", NULL),
		       3, "no such program");
	if (binary)
		expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", binary, NULL), 2,
			       "put `loadvm --lttng --` before it");
	g_assert_cmpint(g_mkdir(full, 0755), ==, 0);
	g_assert_true(g_file_set_contents(file, "x", 1, NULL));
	expect_refusal(bqlstat("lttng", "capture", "-o", full, "--", loadvm, "--", "true", NULL), 3,
		       "not an empty folder");
	/* A command that leads to no QEMU at all. */
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", loadvm, "--", "true", NULL),
		       3, "nothing was recorded");
	g_assert_false(g_file_test(folder, G_FILE_TEST_EXISTS));
}

int main(int argc, char **argv)
{
	static const struct arrival arrivals[] = {
		{"7.2", "io-free", 0, false},  {"10.0", "io-free", 0, false},
		{"11.1", "io-free", 0, false}, {"10.0", "io-free", 2, false},
		{"7.2", "stock", 0, false},    {"10.0", "stock", 0, false},
		{"10.0", "io-free", 0, true},  {"7.2", "stock", 0, true},
	};

	g_autofree char *uuid = g_uuid_string_random();

	g_setenv(TRAIL, uuid, TRUE);
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(arrivals); i++) {
		const struct arrival *a = &arrivals[i];
		g_autofree char *path = g_strdup_printf(
			"/tracepoints/arrival/%s/%s%s%s", a->version, a->policy,
			a->multifd ? "/multifd" : "", a->postcopy ? "/postcopy" : "");

		g_test_add_data_func(path, a, test_arrival);
	}
	for (int i = 0; i < ENDINGS; i++) {
		g_autofree char *path = g_strdup_printf("/tracepoints/end/%s", ending_names[i]);

		g_test_add_data_func(path, GINT_TO_POINTER(i), test_ending);
	}
	g_test_add_func("/tracepoints/nobody", test_nobody);
	g_test_add_func("/tracepoints/snapshot/failed", test_failed);
	g_test_add_func("/tracepoints/snapshot/asked", test_asked);
	g_test_add_func("/tracepoints/refusals", test_refusals);
	return g_test_run();
}
