/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model: threads told apart, sites put together into rows, the bias taken off, holds in order,
 * and what the two reports make of it.
 */
#include <string.h>

#include <glib.h>
#include <json-glib/json-glib.h>

#include "analyzers/command.h"
#include "analyzers/model/plain.h"
#include "analyzers/model/words.h"
#include "analyzers/render/render.h"

static void roles_by_name(void)
{
	static const struct {
		const char *comm;
		bool leader;
		enum role role;
		int number;
	} cases[] = {
		{"qemu-system-x86", true, ROLE_MAIN, -1},
		{"qemu-system-x86", false, ROLE_OTHER, -1},
		{"CPU 0/TCG", false, ROLE_VCPU, 0},
		{"CPU 17/KVM", false, ROLE_VCPU, 17},
		{"ALL CPUs/TCG", false, ROLE_VCPU, -1},
		{"mig/dst/main", false, ROLE_INCOMING, -1},
		{"mig/dst/recv_0", false, ROLE_MIGRATION, -1},
		{"mig/src/main", false, ROLE_MIGRATION, -1},
		{"multifdrecv_1", false, ROLE_MIGRATION, -1},
		{"postcopy/listen", false, ROLE_MIGRATION, -1},
		{"live_migration", false, ROLE_MIGRATION, -1},
		{"call_rcu", false, ROLE_RCU, -1},
		{"IO iothread0", false, ROLE_IOTHREAD, -1},
		{"worker", false, ROLE_WORKER, -1},
		{"vnc_worker", false, ROLE_OTHER, -1},
		{"", false, ROLE_OTHER, -1},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		int number;
		enum role role =
			role_of(cases[i].leader, cases[i].comm, "qemu-system-x86", &number);

		g_assert_cmpstr(role_name(role), ==, role_name(cases[i].role));
		g_assert_cmpint(number, ==, cases[i].number);
		g_assert_cmpint(role_from_name(role_name(role)), ==, role);
	}
}

static unsigned add_thread(struct run *run, unsigned tid, const char *comm, enum role role,
			   int number)
{
	struct thread t = {.tid = tid, .comm = comm, .role = role, .number = number};

	g_array_append_val(run->threads, t);
	return run->threads->len - 1;
}

static struct usage *use(struct run *run, const char *file, unsigned line, unsigned thread,
			 unsigned holds, uint64_t ns)
{
	struct usage *u = run_add_usage(run, run_site(run, file, line, false), thread);

	u->acquired = holds;
	for (unsigned i = 0; i < holds; i++) {
		histogram_add(&u->hold, ns);
		histogram_add(&u->wait, ns / 10);
	}
	return u;
}

/* 7.2 names no thread: where it takes the lock tells, and tids number the vCPUs. */
static void roles_by_site(void)
{
	struct run *run = run_new();
	unsigned late, early, rcu, other;

	late = add_thread(run, 130, "qemu-system-x86", ROLE_OTHER, -1);
	early = add_thread(run, 120, "qemu-system-x86", ROLE_OTHER, -1);
	rcu = add_thread(run, 110, "qemu-system-x86", ROLE_OTHER, -1);
	other = add_thread(run, 140, "qemu-system-x86", ROLE_OTHER, -1);
	use(run, "../../accel/tcg/cputlb.c", 1, late, 1, 1);
	use(run, "../../softmmu/cpus.c", 2, early, 1, 1);
	use(run, "../../util/rcu.c", 3, rcu, 1, 1);
	use(run, "../../block/io.c", 4, other, 1, 1);
	run_guess_roles(run);
#define THREAD(i) (&g_array_index(run->threads, struct thread, i))
	g_assert_cmpstr(run_who(run, THREAD(early), true), ==, "vCPU 0");
	g_assert_cmpstr(run_who(run, THREAD(late), true), ==, "vCPU 1");
	g_assert_cmpstr(run_who(run, THREAD(late), false), ==, "vCPU");
	g_assert_cmpint(THREAD(rcu)->role, ==, ROLE_RCU);
	g_assert_cmpint(THREAD(other)->role, ==, ROLE_OTHER);
#undef THREAD
	run_free(run);
}

static struct run *example(void)
{
	struct run *run = run_new();
	unsigned main = add_thread(run, 100, "qemu", ROLE_MAIN, -1);
	unsigned cpu0 = add_thread(run, 101, "CPU 0/TCG", ROLE_VCPU, 0);
	unsigned cpu1 = add_thread(run, 102, "CPU 1/TCG", ROLE_VCPU, 1);
	struct blocking futex = {.cause = 202, .count = 2, .ns = 5000, .max_ns = 4000};
	struct hold h = {.begin_ns = 2000,
			 .hold_ns = 10600,
			 .wait_ns = 1600,
			 .site = 0,
			 .at_begin = {PHASE_RAM, ""},
			 .at_end = {PHASE_DEVICE, "virtio\xff"},
			 .at_longest = {PHASE_RAM, ""},
			 .longest_ns = 4000,
			 .longest_cause = 202};

	run->begin_ns = 1000;
	run->duration_ns = 1000000;
	run->calibrated = true;
	run->hold_bias_ns = 600;
	run->wait_bias_ns = 500;
	use(run, "../../util/main-loop.c", 318, main, 10, 10600);
	g_array_append_val(g_array_index(run->usages, struct usage, 0).blocking, futex);
	use(run, "accel/tcg/cputlb.c", 1371, cpu0, 3, 2600);
	use(run, "accel/tcg/cputlb.c", 1371, cpu1, 4, 2600);
	h.blocked[0] = futex;
	g_array_append_val(run->holds, h);
	h.hold_ns = 20600;
	h.unfinished = true;
	h.wait_ns = UNKNOWN_NS;
	g_array_append_val(run->holds, h);
	return run;
}

static void rows(void)
{
	struct run *run = example();
	GArray *together = run_rows(run, false), *apart = run_rows(run, true);
	const struct row *first = &g_array_index(together, struct row, 0);
	const struct row *second = first + 1;
	GPtrArray *longest = run_longest(run, 1);

	g_assert_cmpuint(together->len, ==, 2);
	g_assert_cmpuint(apart->len, ==, 3);
	g_assert_cmpstr(first->who, ==, "main");
	g_assert_cmpuint(first->hold_total_ns, ==, 100000);
	g_assert_cmpuint(first->hold_max_ns, ==, 10000);
	g_assert_cmpuint(first->wait_max_ns, ==, 560);
	g_assert_cmpuint(first->blocked_ns, ==, 5000);
	g_assert_cmpstr(second->who, ==, "vCPU");
	g_assert_cmpuint(second->acquired, ==, 7);
	g_assert_cmpuint(second->hold_total_ns, ==, 14000);
	/* A wait shorter than the bias is none, never a huge one. */
	g_assert_cmpuint(second->wait_max_ns, ==, 0);
	g_assert_cmpuint(second->wait_total_ns, ==, 0);
	g_assert_cmpuint(run_acquired(run), ==, 17);
	g_assert_cmpuint(run_held_ns(run), ==, 100000 + 14000 + 20000);
	g_assert_cmpuint(longest->len, ==, 1);
	g_assert_true(((struct hold *)longest->pdata[0])->unfinished);
	g_ptr_array_unref(longest);
	g_array_unref(together);
	g_array_unref(apart);
	run_free(run);
}

static void losses(void)
{
	struct run *run = run_new();

	for (int i = 0; i < ABI_LOST_KINDS; i++) {
		struct lost l = {.what = lost_name(i), .count = 1};

		g_assert_cmpstr(lost_meaning(lost_name(i)), !=, "");
		g_array_append_val(run->lost, l);
	}
	/* What an attach in the middle of things, or a QEMU that quits, brings is no loss, nor is a
	 * stack too many. */
	g_assert_cmpuint(run_lost(run), ==, ABI_LOST_KINDS - 4);
	run_free(run);
}

static void durations(void)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{0, "0"},
		{1, "1 ns"},
		{999, "999 ns"},
		{1000, "1.00 us"},
		{9994, "9.99 us"},
		{9996, "10.0 us"},
		{99949, "99.9 us"},
		{99951, "100 us"},
		{999499, "999 us"},
		{999999, "1.00 ms"},
		{3000000000, "3.00 s"},
		{137000000000, "137 s"},
	};
	static const struct {
		const char *text;
		uint64_t ns;
	} inputs[] = {
		{"10", 10000000000}, {"500ms", 500000000}, {"2.5s", 2500000000},
		{"250us", 250000},   {"2m", 120000000000}, {"0", 0},
	};
	static const char *const wrong[] = {"", "ms", "1x", "-1", "nan", "1 ms", "1e30", "inf"};
	char text[WORDS_DURATION];
	uint64_t ns;

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
		g_assert_cmpstr(words_duration(text, cases[i].ns), ==, cases[i].text);
	for (unsigned i = 0; i < G_N_ELEMENTS(inputs); i++) {
		g_assert_true(command_duration(inputs[i].text, 1000000000, &ns));
		g_assert_cmpuint(ns, ==, inputs[i].ns);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++)
		g_assert_false(command_duration(wrong[i], 1000000000, &ns));
}

/* What comes from outside cannot move a cursor, end a line or turn one round. */
static void plain(void)
{
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{NULL, ""},
		{"", ""},
		{"web-1, of \"x\" & <b>", "web-1, of \"x\" & <b>"},
		{"b\303\274ro \346\235\261", "b\303\274ro \346\235\261"},
		{"a\033[31mb", "a\357\277\275[31mb"},
		{"a\nb\tc\177", "a\357\277\275b\357\277\275c\357\277\275"},
		{"a\302\233b", "a\357\277\275b"},
		{"a\342\200\256b\342\200\250c", "a\357\277\275b\357\277\275c"},
		{"a\377b\303", "a\357\277\275b\357\277\275"},
	};
	struct run *run = run_new();

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *shown = plain_text(cases[i].text);

		g_assert_cmpstr(shown, ==, cases[i].shown);
		g_assert_cmpstr(run_string(run, cases[i].text), ==, cases[i].shown);
	}
	run_free(run);
}

static void json(void)
{
	struct run *run = example();
	struct render_options all = {0};
	g_autofree char *text = render_json(run, &all);
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonObject *root, *hold;

	g_assert_true(g_utf8_validate(text, -1, NULL));
	g_assert_true(json_parser_load_from_data(parser, text, -1, NULL));
	root = json_node_get_object(json_parser_get_root(parser));
	g_assert_cmpint(json_object_get_int_member(root, "acquired"), ==, 17);
	g_assert_cmpuint(json_array_get_length(json_object_get_array_member(root, "sites")), ==, 2);
	hold = json_array_get_object_element(json_object_get_array_member(root, "holds"), 0);
	g_assert_cmpint(json_object_get_int_member(hold, "hold_ns"), ==, 20000);
	g_assert_true(json_object_get_null_member(hold, "wait_ns"));
	g_assert_cmpint(json_object_get_int_member(hold, "at_ns"), ==, 1000);
	g_assert_cmpstr(json_object_get_string_member(
				json_object_get_object_member(hold, "longest_block"), "cause"),
			==, "futex");
	run_free(run);
}

static void text_report(void)
{
	struct run *run = example();
	struct render_options one = {.top = 1};
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	render_text(f, run, &one);
	fclose(f);
	g_assert_nonnull(strstr(text, "util/main-loop.c:318"));
	g_assert_null(strstr(text, "cputlb.c"));
	g_assert_nonnull(strstr(text, "and 1 more"));
	g_assert_nonnull(strstr(text, "still held at the end"));
	g_assert_nonnull(strstr(text, "blocked 5.00 us in futex, 2 times, longest 4.00 us in ram"));
	g_assert_null(strchr(text, '\033'));
	free(text);
	run_free(run);
}

/* The table of a report for a terminal of so many columns; its widest line in *width. */
static char *table_for(unsigned columns, size_t *width)
{
	struct run *run = example();
	struct render_options o = {.columns = columns};
	char *text = NULL, *table, *end;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	render_text(f, run, &o);
	fclose(f);
	table = g_strdup(strstr(text, "\nWho held the lock\n") + 1);
	end = strstr(table, "\n\n");
	if (end)
		*end = 0;
	*width = 0;
	for (const char *at = table; *at; at += strcspn(at, "\n"), at += *at == '\n')
		*width = MAX(*width, strcspn(at, "\n"));
	free(text);
	run_free(run);
	return table;
}

/* What says least is left out first, and nothing without a terminal. */
static void narrow_report(void)
{
	size_t all, some, few, least;
	g_autofree char *wide = table_for(0, &all), *middle = table_for(110, &some);
	g_autofree char *narrow = table_for(85, &few), *last = table_for(20, &least);

	g_assert_cmpuint(all, >, 110);
	g_assert_cmpuint(some, <=, 110);
	g_assert_cmpuint(few, <=, 85);
	g_assert_nonnull(strstr(wide, "wait p50"));
	g_assert_null(strstr(middle, "wait p50"));
	g_assert_nonnull(strstr(middle, "hold p50"));
	g_assert_nonnull(strstr(middle, "wait max"));
	g_assert_null(strstr(narrow, "p50"));
	g_assert_nonnull(strstr(narrow, "wait max"));
	g_assert_nonnull(strstr(last, "held  share hold max  blocked"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/model/roles-by-name", roles_by_name);
	g_test_add_func("/model/roles-by-site", roles_by_site);
	g_test_add_func("/model/rows", rows);
	g_test_add_func("/model/losses", losses);
	g_test_add_func("/model/durations", durations);
	g_test_add_func("/model/plain", plain);
	g_test_add_func("/model/json", json);
	g_test_add_func("/model/text", text_report);
	g_test_add_func("/model/narrow-report", narrow_report);
	return g_test_run();
}
