/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LTTng traces as runs: what a program passed is what the reports say; a source and a destination
 * on one clock; and traces that are damaged, empty, or of something else.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "analyzers/ctf/ctf.h"
#include "tests/scenarios/perfetto.h"
#include "tests/scenarios/recording.h"

#define MS 1000000ULL

/* ---- captures ---- */

static bool possible(void)
{
	static int can = -1;
	g_autoptr(GError) error = NULL;

	if (can < 0)
		can = lab_lttng(&error);
	if (!can)
		g_test_skip("LTTng cannot be had here");
	return can;
}

/* `traced` with these arguments, recorded; its folder, g_free(). *out: what it printed. */
static char *capture(const char *first, const char *second, char **out)
{
	char *folder = fresh_path("capture");
	struct lab_process *p = bqlstat("lttng", "capture", "-o", folder, "--",
					lab_program("tests/subjects/traced"), first, second, NULL);
	g_autofree char *says = NULL;
	int code;

	says = outcome(p, &code);
	if (code)
		g_error("bqlstat lttng capture ended with %d: %s", code, says);
	*out = lab_process_stdout(p);
	lab_process_free(p);
	return folder;
}

/* Of the one process in it; run_free() */
static struct run *load_trace(const char *folder)
{
	struct ctf_tally tally;
	struct store_error err;
	GPtrArray *runs;
	struct run *run;

	if (ctf_load(folder, &runs, &tally, &err))
		g_error("%s", err.text);
	g_assert_cmpstr(tally.damage, ==, "");
	g_assert_cmpuint(runs->len, ==, 1);
	run = g_steal_pointer(&runs->pdata[0]);
	g_ptr_array_unref(runs);
	return run;
}

/* Between which its first hold lies, ns. */
struct bounds {
	uint64_t least, most;
};

/* The story's, made once. `hold` may be NULL. */
static const char *story(struct bounds *hold)
{
	static struct bounds told;
	static char *folder;
	g_autofree char *out = NULL;

	if (!folder) {
		folder = capture("story", NULL, &out);
		g_assert_cmpint(sscanf(out,
				       "hold migration/savevm.c:5 %" G_GUINT64_FORMAT
				       " %" G_GUINT64_FORMAT,
				       &told.least, &told.most),
				==, 2);
	}
	if (hold)
		*hold = told;
	return folder;
}

/* ---- the story ---- */

static const struct thread *thread_of(const struct run *run, unsigned index)
{
	return &g_array_index(run->threads, struct thread, index);
}

/* Of what a usage waited: in all, and for the holder with that index. */
static uint64_t charged(const struct run *run, unsigned victim, int holder)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < run->charges->len; i++) {
		const struct charge *c = &g_array_index(run->charges, struct charge, i);

		if (c->victim == victim && (holder == INT_MAX || c->holder == holder))
			ns += c->ns;
	}
	return ns;
}

static unsigned index_of(const struct run *run, const struct usage *u)
{
	return u - &g_array_index(run->usages, struct usage, 0);
}

/* The only usage of a site. */
static const struct usage *usage_at(const struct run *run, const char *file, unsigned line)
{
	const struct usage *found = NULL;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		const struct site *s = &g_array_index(run->sites, struct site, u->site);

		if (strcmp(s->file, file) || s->line != line)
			continue;
		g_assert_null(found);
		found = u;
	}
	g_assert_nonnull(found);
	return found;
}

static void about(uint64_t ns, uint64_t want_ns)
{
	g_assert_cmpuint(ns, >=, want_ns);
	/* It slept that long at least; how much longer is the machine's matter. */
	g_assert_cmpuint(ns, <, want_ns + 1000 * MS);
}

static void expect_phases(const struct run *run)
{
	static const struct {
		enum phase phase;
		const char *device;
		uint64_t at_least_ns;
	} want[] = {
		{PHASE_SETUP, "", 0},
		{PHASE_RAM, "", 50 * MS},
		{PHASE_DEVICE, "timer", 5 * MS},
		{PHASE_RAM, "", 0},
		{PHASE_DEVICE, "virtio-net", 10 * MS},
		{PHASE_RAM, "", 5 * MS},
		{PHASE_ACTIVATE, "", 0},
		{PHASE_START, "", 0},
		{PHASE_NONE, "", 3 * MS},
	};

	g_assert_cmpuint(run->marks->len, ==, G_N_ELEMENTS(want));
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);
		uint64_t end =
			i + 1 < run->marks->len ? m[1].at_ns : run->begin_ns + run->duration_ns;

		g_assert_cmpstr(phase_name(m->in.phase), ==, phase_name(want[i].phase));
		g_assert_cmpstr(m->in.device, ==, want[i].device);
		about(end - m->at_ns, want[i].at_least_ns);
	}
}

static void expect_main_hold(const struct run *run, const struct bounds *hold)
{
	const struct usage *u = usage_at(run, "migration/savevm.c", 5);
	g_autoptr(GPtrArray) longest = run_longest(run, 0);
	const struct hold *h = longest->pdata[0];
	const struct blocking *b = &g_array_index(u->blocking, struct blocking, 0);

	/* The second one is not finished. */
	g_assert_cmpuint(u->acquired, ==, 2);
	g_assert_cmpuint(u->hold.count, ==, 1);
	g_assert_cmpuint(u->wait.count, ==, 2);
	about(u->hold.max_ns, 65 * MS);
	/* By the program's own clock, without the two events themselves and with them. */
	g_assert_cmpuint(u->hold.max_ns, >=, hold->least);
	g_assert_cmpuint(u->hold.max_ns, <=, hold->most);
	g_assert_cmpuint(u->blocking->len, ==, 1);
	g_assert_cmpint(b->cause, ==, SYS_poll);
	g_assert_cmpuint(b->count, ==, 1);
	about(b->ns, 30 * MS);

	g_assert_cmpuint(h->hold_ns, ==, u->hold.max_ns);
	g_assert_cmpuint(h->begin_ns, ==, u->hold_max_at_ns);
	g_assert_cmpstr(phase_name(h->at_begin.phase), ==, "setup");
	g_assert_cmpstr(phase_name(h->at_end.phase), ==, "ram");
	g_assert_cmpstr(phase_name(h->at_longest.phase), ==, "ram");
	g_assert_cmpuint(h->longest_ns, ==, b->ns);
	g_assert_false(h->unfinished);
	g_assert_cmpint(thread_of(run, h->thread)->role, ==, ROLE_MAIN);
}

static void test_story(void)
{
	const struct usage *u;
	const struct hold *h;
	unsigned unfinished = 0;
	struct bounds hold;
	struct run *run;

	if (!possible())
		return;
	run = load_trace(story(&hold));
	g_assert_cmpstr(run->source, ==, "lttng");
	g_assert_cmpstr(run->label, ==, "wait");
	g_assert_cmpstr(run->qemu_version, ==, "10.0.2 (Story)");
	g_assert_cmpstr(run->qemu_build_id, ==, "0123abcd");
	g_assert_cmpstr(run->ended, ==, "to the end of the trace");
	g_assert_cmpuint(run_lost(run), ==, 0);
	about(run->duration_ns, 73 * MS);
	/* CLOCK_MONOTONIC, and where it is on the calendar. */
	g_assert_cmpuint(run->begin_ns + run->duration_ns, <, lab_now_ns());
	g_assert_cmpint(llabs(g_get_real_time() * 1000 - (int64_t)lab_now_ns() -
			      (run->begin_unix_ns - (int64_t)run->begin_ns)),
			<, 1000 * (int64_t)MS);
	expect_phases(run);
	expect_main_hold(run, &hold);
	u = usage_at(run, "migration/savevm.c", 6);
	g_assert_true(g_array_index(run->sites, struct site, u->site).cond);
	g_assert_cmpuint(u->acquired, ==, 1);
	g_assert_cmpuint(u->wait.count, ==, 0);
	u = usage_at(run, "monitor/qmp.c", 9);
	g_assert_cmpint(thread_of(run, u->thread)->role, ==, ROLE_IOTHREAD);
	about(u->wait.max_ns, 45 * MS);
	/* For whom it waited: all but the handing over. */
	g_assert_cmpuint(charged(run, index_of(run, u), INT_MAX), ==, u->wait.sum_ns);
	about(charged(run, index_of(run, u), index_of(run, usage_at(run, "migration/savevm.c", 5))),
	      45 * MS);
	for (unsigned i = 0; i < run->holds->len; i++) {
		h = &g_array_index(run->holds, struct hold, i);
		unfinished += h->unfinished;
		if (h->unfinished)
			about(h->hold_ns, 3 * MS);
	}
	g_assert_cmpuint(unfinished, ==, 1);
	run_free(run);
}

static struct drawing *draw(const char *one, const char *two)
{
	g_autofree char *trace = fresh_path("trace.pftrace"), *says = NULL;
	struct lab_process *p = bqlstat("timeline", "--shortest", "0", "-o", trace, one, two, NULL);
	int code;

	says = outcome(p, &code);
	if (code)
		g_error("bqlstat timeline ended with %d: %s", code, says);
	lab_process_free(p);
	return drawing_read(trace);
}

/* Every hold is drawn, and the arrow from who held to who waited. */
static void test_story_drawn(void)
{
	g_autoptr(GPtrArray) holds = NULL, waits = NULL, devices = NULL;
	const struct drawn *wait, *from;
	struct drawing *d;

	if (!possible())
		return;
	d = draw(story(NULL), NULL);
	holds = drawn_of(d, "hold", NULL);
	waits = drawn_of(d, "wait", "IO mon_iothread");
	devices = drawn_of(d, "device", NULL);
	g_assert_cmpuint(holds->len, ==, 4);
	g_assert_cmpuint(waits->len, ==, 1);
	g_assert_cmpuint(devices->len, ==, 2);
	wait = waits->pdata[0];
	g_assert_cmpuint(wait->ended_flows->len, ==, 1);
	from = flow_origin(d, g_array_index(wait->ended_flows, uint64_t, 0));
	g_assert_cmpstr(from->name, ==, "migration/savevm.c:5");
	g_assert_cmpstr(from->track->name, ==, "main");
	g_assert_nonnull(strstr(drawn_arg(from, "blocked_in"), "poll"));
	drawing_free(d);
}

/* ---- many events ---- */

static void test_counts(void)
{
	g_autofree char *out = NULL, *folder = NULL;
	g_autoptr(GPtrArray) holds = NULL;
	uint64_t common = 0, rare = 0;
	struct drawing *d;
	struct run *run;

	if (!possible())
		return;
	folder = capture("20000", "3", &out);
	g_assert_cmpint(sscanf(out,
			       "site ../../util/main-loop.c:318 %" G_GUINT64_FORMAT
			       "\nsite system/cpus.c:77 %" G_GUINT64_FORMAT,
			       &common, &rare),
			==, 2);
	g_assert_cmpuint(common + rare, ==, 60000);
	run = load_trace(folder);
	g_assert_cmpuint(run_lost(run), ==, 0);
	g_assert_cmpuint(run->threads->len, ==, 3);
	g_assert_cmpuint(acquired_at(run, "util/main-loop.c", 318, false, 0), ==, common);
	g_assert_cmpuint(acquired_at(run, "system/cpus.c", 77, false, 0), ==, rare);
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		g_assert_cmpuint(u->acquired, ==, u->hold.count);
		g_assert_cmpuint(u->acquired, ==, u->wait.count);
		g_assert_cmpint(thread_of(run, u->thread)->role, ==, ROLE_VCPU);
	}
	d = draw(folder, NULL);
	holds = drawn_of(d, "hold", NULL);
	g_assert_cmpuint(holds->len, ==, 60000);
	drawing_free(d);
	run_free(run);
}

/*
 * Buffers that are too small: what was recorded and what is told to be missing are together what
 * happened, to the event; the recorder and the reports tell the same.
 */
static void test_discarded(void)
{
	enum { ROUNDS = 100000, THREADS = 4, ALL = THREADS * (3 * ROUNDS + 1), TRIES = 5 };
	uint64_t told = 0;

	if (!possible())
		return;
	for (unsigned i = 0; i < TRIES && !told; i++) {
		g_autofree char *folder = fresh_path("capture"), *said = NULL;
		g_autofree char *rounds = g_strdup_printf("%d", ROUNDS);
		g_autofree char *threads = g_strdup_printf("%d", THREADS);
		g_autoptr(lab_process) p =
			bqlstat("lttng", "capture", "-b", "1", "-o", folder, "--",
				lab_program("tests/subjects/traced"), rounds, threads, NULL);
		const char *words = "events discarded ", *at;
		struct ctf_tally tally;
		struct store_error err;
		GPtrArray *runs;
		uint64_t lost = 0;
		int code;

		said = outcome(p, &code);
		g_test_message("%s", said);
		g_assert_cmpint(code, ==, 0);
		at = strstr(said, words);
		g_assert_nonnull(at);
		told = g_ascii_strtoull(at + strlen(words), NULL, 10);
		g_assert_cmpint(!!strstr(said, "buffers were too small"), ==, !!told);
		if (ctf_load(folder, &runs, &tally, &err))
			g_error("%s", err.text);
		g_assert_cmpuint(runs->len, ==, 1);
		for (unsigned k = 0; k < ((struct run *)runs->pdata[0])->lost->len; k++) {
			const struct lost *l = &g_array_index(((struct run *)runs->pdata[0])->lost,
							      struct lost, k);

			if (!strcmp(l->what, "events_discarded"))
				lost = l->count;
		}
		g_assert_cmpuint(lost, ==, told);
		g_assert_cmpuint(tally.events + lost, ==, ALL);
		g_ptr_array_unref(runs);
	}
	g_assert_cmpuint(told, >, 0);
}

/* ---- both ends of a migration ---- */

/* A launcher that records a VM; `folder` must not be there yet. */
static void set_launcher(const char *launcher[12], const char *folder)
{
	const char *const words[] = {
		lab_program("bqlstat"), "lttng", "capture", "-q", "-o", folder, "--",
		lab_program("loadvm"),	"-q",	 "--lttng", "--", NULL};

	memcpy(launcher, words, sizeof(words));
}

static const struct drawn *first_of(const GPtrArray *slices, const char *name)
{
	for (unsigned i = 0; i < slices->len; i++)
		if (!strcmp(((struct drawn *)slices->pdata[i])->name, name))
			return slices->pdata[i];
	return NULL;
}

static void test_both_ends(void)
{
	g_autofree char *from = fresh_path("source"), *to = fresh_path("destination");
	const char *source[12], *destination[12];
	const struct lab_pair_options options = {
		.vm = {.guest = true, .launcher = source, .timeout_ms = 30000},
		.destination_launcher = destination};
	g_autoptr(GPtrArray) recordings = NULL, phases = NULL;
	g_autoptr(GError) error = NULL;
	const struct drawn *a, *b, *start;
	struct lab_migration result = {0};
	struct lab_pair *pair;
	uint64_t begin_ns, end_ns;
	struct drawing *d;

	if (!possible())
		return;
	set_launcher(source, from);
	set_launcher(destination, to);
	pair = lab_pair_new(&options, &error);
	g_assert_no_error(error);
	begin_ns = lab_now_ns();
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_pair_wait(pair, 60000, &result, &error));
	g_assert_cmpstr(result.status, ==, "completed");
	lab_migration_clear(&result);
	end_ns = lab_now_ns();
	g_assert_true(lab_vm_quit(lab_pair_source(pair), PATIENCE_MS, NULL, &error));
	g_assert_true(lab_vm_quit(lab_pair_destination(pair), PATIENCE_MS, NULL, &error));
	lab_pair_free(pair);

	d = draw(from, to);
	recordings = drawn_of(d, "recording", NULL);
	g_assert_cmpuint(recordings->len, ==, 2);
	a = recordings->pdata[0];
	b = recordings->pdata[1];
	/* On one clock, this machine's: both span the migration. */
	g_assert_cmpuint(a->begin_ns, <, begin_ns);
	g_assert_cmpuint(b->begin_ns, <, begin_ns);
	g_assert_cmpuint(a->end_ns, >, end_ns);
	g_assert_cmpuint(b->end_ns, >, end_ns);
	g_assert_cmpstr(drawn_arg(a, "moved_by_ns_to_meet_the_first_run"), ==, "");
	g_assert_cmpstr(drawn_arg(b, "moved_by_ns_to_meet_the_first_run"), ==, "");
	phases = drawn_of(d, "phase", NULL);
	start = first_of(phases, "start");
	g_assert_nonnull(start);
	g_assert_cmpuint(start->track->parent, ==, b->track->parent);
	g_assert_cmpuint(start->begin_ns, >, begin_ns);
	g_assert_cmpuint(start->begin_ns, <, end_ns);
	drawing_free(d);
}

/* ---- what is not whole ---- */

static void copy_folder(const char *from, const char *to)
{
	const char *argv[] = {"cp", "-r", from, to, NULL};
	g_autoptr(GError) error = NULL;
	struct lab_process *p = lab_process_new(argv, NULL, &error);
	int status;

	g_assert_no_error(error);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &status, &error));
	g_assert_cmpint(status, ==, 0);
	lab_process_free(p);
}

/* Where in it the files are; g_free(). */
static char *inner(const char *folder)
{
	g_autofree char *metadata = g_build_filename(folder, "metadata", NULL);
	g_autoptr(GDir) dir = NULL;
	const char *name;
	char *found = NULL;

	if (g_file_test(metadata, G_FILE_TEST_EXISTS))
		return g_strdup(folder);
	dir = g_dir_open(folder, 0, NULL);
	while (dir && !found && (name = g_dir_read_name(dir))) {
		g_autofree char *child = g_build_filename(folder, name, NULL);

		found = inner(child);
	}
	return found;
}

/* A copy of the story, and a path in it: a file's, or the first stream's that holds events. */
static char *copy_of_story(const char *file, char **path)
{
	char *folder = fresh_path("damaged");
	g_autofree char *in = NULL;
	g_autoptr(GDir) dir = NULL;
	const char *name;

	copy_folder(story(NULL), folder);
	in = inner(folder);
	g_assert_nonnull(in);
	*path = file ? g_build_filename(in, file, NULL) : NULL;
	dir = g_dir_open(in, 0, NULL);
	while (!*path && (name = g_dir_read_name(dir))) {
		g_autofree char *at = g_build_filename(in, name, NULL);

		if (strcmp(name, "metadata") && g_file_test(at, G_FILE_TEST_IS_REGULAR))
			*path = g_steal_pointer(&at);
	}
	g_assert_nonnull(*path);
	return folder;
}

/* Exit code 3, one sentence that says it; what was shown nevertheless, g_free(). */
static char *refused(const char *folder, const char *what)
{
	struct lab_process *p = bqlstat("report", folder, NULL);
	g_autofree char *says = NULL;
	int code;

	says = outcome(p, &code);
	g_test_message("%s", says);
	g_assert_cmpint(code, ==, 3);
	g_assert_nonnull(strstr(says, what));
	g_assert_true(g_str_has_prefix(says, "bqlstat: "));
	g_assert_true(strchr(says, '\n') == says + strlen(says) - 1);
	says = (g_free(says), lab_process_stdout(p));
	lab_process_free(p);
	return g_steal_pointer(&says);
}

static void test_cut_metadata(void)
{
	g_autofree char *folder = NULL, *path = NULL, *shown = NULL;

	if (!possible())
		return;
	folder = copy_of_story("metadata", &path);
	g_assert_cmpint(truncate(path, 1000), ==, 0);
	shown = refused(folder, "ends in the middle of a packet");
	g_assert_cmpstr(shown, ==, "");
}

/* A stream that is cut short is shown up to there. */
static void test_cut_stream(void)
{
	g_autofree char *out = NULL, *folder = NULL, *in = NULL, *shown = NULL, *largest = NULL;
	g_autoptr(GDir) dir = NULL;
	const char *name;
	struct stat st;
	off_t size = 0;

	if (!possible())
		return;
	folder = capture("100000", "2", &out);
	in = inner(folder);
	dir = g_dir_open(in, 0, NULL);
	while ((name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(in, name, NULL);

		if (!stat(path, &st) && S_ISREG(st.st_mode) && st.st_size > size) {
			size = st.st_size;
			g_free(largest);
			largest = g_steal_pointer(&path);
		}
	}
	g_assert_cmpint(truncate(largest, size - 1000), ==, 0);
	shown = refused(folder, "the last ");
	g_assert_nonnull(strstr(shown, "util/main-loop.c:318"));
	g_assert_nonnull(strstr(shown, "as far as the trace can be read"));
}

static void test_empty(void)
{
	g_autofree char *folder = NULL, *path = NULL, *none = fresh_path("no-trace");
	g_autofree char *in = NULL;
	g_autoptr(GDir) dir = NULL;
	const char *name;

	if (!possible())
		return;
	folder = copy_of_story("index", &path);
	in = inner(folder);
	dir = g_dir_open(in, 0, NULL);
	while ((name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(in, name, NULL);

		if (strcmp(name, "metadata") && g_file_test(file, G_FILE_TEST_IS_REGULAR))
			g_assert_cmpint(unlink(file), ==, 0);
	}
	g_free(refused(folder, "a trace without events"));
	g_assert_cmpint(mkdir(none, 0700), ==, 0);
	g_free(refused(none, "holds no trace"));
}

/* Words in the metadata are replaced by others of the same length. */
static void rename_in_story(const char *from, const char *to, const char *what)
{
	g_autofree char *folder = NULL, *path = NULL, *text = NULL;
	gsize size, n = strlen(from);
	unsigned renamed = 0;

	g_assert_cmpuint(strlen(to), ==, n);
	folder = copy_of_story("metadata", &path);
	g_assert_true(g_file_get_contents(path, &text, &size, NULL));
	for (gsize at = 0; at + n <= size; at++)
		if (!memcmp(text + at, from, n)) {
			memcpy(text + at, to, n);
			renamed++;
		}
	g_assert_cmpuint(renamed, >, 0);
	g_assert_true(g_file_set_contents(path, text, size, NULL));
	g_free(refused(folder, what));
}

static void test_foreign(void)
{
	if (!possible())
		return;
	rename_in_story("\"loadvm:", "\"somevm:", "none of the provider loadvm");
	rename_in_story("_hold_ns", "_held_ns", "has no field hold_ns");
	rename_in_story("_vtid", "_vtix", "does not say which thread");
}

/*
 * Whatever the bytes are: an answer or one sentence, and never a signal. What babeltrace2 says of
 * its own assertions comes before our sentence.
 */
static void test_any_bytes(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	unsigned read = 0, refusals = 0;

	if (!possible())
		return;
	/* babeltrace2 leaks what it had of a trace that it refuses. */
	g_setenv("ASAN_OPTIONS", "detect_leaks=0", TRUE);
	for (unsigned i = 0; i < 60; i++) {
		g_autofree char *folder = NULL, *path = NULL, *bytes = NULL, *says = NULL;
		struct lab_process *p;
		gsize size, within;
		int code;

		folder = copy_of_story(i % 3 ? NULL : "metadata", &path);
		g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
		within = i % 2 ? MIN(size, 300) : size;
		for (int n = g_rand_int_range(rand, 1, 17); n > 0; n--)
			bytes[g_rand_int_range(rand, 0, within)] = g_rand_int(rand);
		g_assert_true(g_file_set_contents(path, bytes, size, NULL));
		p = bqlstat("report", folder, NULL);
		says = outcome(p, &code);
		lab_process_free(p);
		if (code && code != 3)
			g_error("%s: exit code %d: %s", folder, code, says);
		if (code)
			g_assert_nonnull(strstr(says, "bqlstat: "));
		read += !code;
		refusals += !!code;
	}
	g_test_message("%u read, %u refused", read, refusals);
	g_assert_cmpuint(read, >, 0);
	g_assert_cmpuint(refusals, >, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ctf/story", test_story);
	g_test_add_func("/ctf/story-drawn", test_story_drawn);
	g_test_add_func("/ctf/counts", test_counts);
	g_test_add_func("/ctf/discarded", test_discarded);
	g_test_add_func("/ctf/both-ends", test_both_ends);
	g_test_add_func("/ctf/cut-metadata", test_cut_metadata);
	g_test_add_func("/ctf/cut-stream", test_cut_stream);
	g_test_add_func("/ctf/empty", test_empty);
	g_test_add_func("/ctf/foreign", test_foreign);
	g_test_add_func("/ctf/any-bytes", test_any_bytes);
	return g_test_run();
}
