/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter's figures and formats: counters that never go back, buckets that count once, and a
 * page that tells the same metrics as the code.
 */
#include <stdlib.h>
#include <string.h>

#include "analyzers/export/metrics.h"
#include "analyzers/lab/lab.h"

/* ---- the page ---- */

static char *read_page(void)
{
	g_autofree char *here = g_canonicalize_filename(lab_program("bqlstat"), NULL);
	char *text = NULL;

	while (!text && strlen(here) > 1) {
		char *up = g_path_get_dirname(here);
		g_autofree char *path = g_build_filename(up, "docs", "metrics.md", NULL);

		g_file_get_contents(path, &text, NULL, NULL);
		g_free(here);
		here = up;
	}
	g_assert_nonnull(text);
	return text;
}

static void page(void)
{
	g_autofree char *text = read_page();
	g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GRegex) row = g_regex_new("^\\| `([a-z_]+)` \\| (gauge|counter|histogram|info) "
					    "\\| ([^|]*) \\| ",
					    G_REGEX_MULTILINE, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;
	unsigned rows = 0;

	for (size_t i = 0; i < metrics_count(); i++)
		g_hash_table_insert(known, (void *)metrics_family(i)->name,
				    (void *)metrics_family(i));
	g_assert_cmpuint(g_hash_table_size(known), ==, metrics_count());
	for (g_regex_match(row, text, 0, &match); g_match_info_matches(match);
	     g_match_info_next(match, NULL)) {
		g_autofree char *name = g_match_info_fetch(match, 1);
		g_autofree char *type = g_match_info_fetch(match, 2);
		g_autofree char *labels = g_match_info_fetch(match, 3);
		const struct metric_family *f = g_hash_table_lookup(known, name);
		g_auto(GStrv) ticked = g_strsplit(labels, "`", -1);
		g_autofree char *plain = g_strjoinv("", ticked);

		if (!f)
			g_error("%s is on the page, but not in the code", name);
		g_assert_cmpstr(type, ==, metric_type_name(f->type));
		g_assert_cmpstr(g_strstrip(plain), ==, f->labels);
		rows++;
	}
	g_assert_cmpuint(rows, ==, metrics_count());
}

/* Names as the standards want them. */
static void names(void)
{
	for (size_t i = 0; i < metrics_count(); i++) {
		const struct metric_family *f = metrics_family(i);
		g_autofree char *total = g_strdup_printf("_%s%s", f->unit,
							 f->type == METRIC_COUNTER ? "_total" : "");

		g_assert_true(g_str_has_prefix(f->name, "bqlstat_") ||
			      g_str_has_prefix(f->name, "process_"));
		g_assert_cmpint(g_str_has_suffix(f->name, "_total"), ==, f->type == METRIC_COUNTER);
		g_assert_cmpint(g_str_has_suffix(f->name, "_info"), ==, f->type == METRIC_INFO);
		if (*f->unit)
			g_assert_true(g_str_has_suffix(f->name, total));
		g_assert_true(g_str_has_suffix(f->help, "."));
	}
}

/* ---- figures ---- */

static struct usage *add_usage(struct run *run, unsigned record, const char *file, unsigned line,
			       unsigned thread)
{
	struct usage *u = run_add_usage(run, run_site(run, file, line, false), thread);

	u->record = record;
	return u;
}

static void hold(struct usage *u, uint64_t ns)
{
	u->acquired++;
	histogram_add(&u->hold, ns);
	histogram_add(&u->wait, 100);
}

static struct run *new_run(void)
{
	struct run *run = run_new();
	const struct thread main = {.tid = 1, .comm = "qemu", .role = ROLE_MAIN};

	g_array_append_val(run->threads, main);
	run->hold_bias_ns = 50;
	return run;
}

static uint64_t sum_of(const struct figures *f, bool holds)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < f->sites->len; i++) {
		const struct figures_site *s = f->sites->pdata[i];

		sum += holds ? s->hold_ns : s->acquired;
	}
	for (int role = 0; role < ROLES; role++)
		sum += holds ? f->others[role].hold_ns : f->others[role].acquired;
	return sum;
}

/* Each bucket against counting the values themselves. */
static void buckets(void)
{
	struct run *run = new_run();
	struct figures *f = figures_new();
	struct usage *u = add_usage(run, 1, "a.c", 1, 0);
	uint64_t expect[FIGURES_BUCKETS] = {}, sum = 0;

	/* Far enough from each bound to be beyond the doubt about it. */
	for (unsigned i = 0; i < FIGURES_BOUNDS; i++) {
		for (unsigned n = 0; n <= i; n++) {
			hold(u, figures_bounds_ns[i] * 9 / 10 + 50);
			expect[i]++;
			sum += figures_bounds_ns[i] * 9 / 10;
		}
	}
	hold(u, 60000000000);
	expect[FIGURES_BOUNDS]++;
	sum += 60000000000 - 50;
	figures_update(f, run, 1000000000);
	for (unsigned i = 0; i < FIGURES_BUCKETS; i++)
		g_assert_cmpuint(f->roles[ROLE_MAIN].hold.bucket[i], ==, expect[i]);
	g_assert_cmpuint(f->roles[ROLE_MAIN].hold.count, ==, u->hold.count);
	g_assert_cmpuint(f->roles[ROLE_MAIN].hold.sum_ns, ==, sum);
	g_assert_cmpuint(f->held_ns, ==, sum);
	/* Again: nothing has come. */
	figures_update(f, run, 2000000000);
	g_assert_cmpuint(f->roles[ROLE_MAIN].hold.count, ==, u->hold.count);
	g_assert_cmpuint(f->held_ns, ==, sum);
	figures_free(f);
	run_free(run);
}

/* A thread turns out to be a vCPU: nothing moves, nothing is counted twice. */
static void role_changes(void)
{
	struct run *run = new_run();
	struct figures *f = figures_new();
	struct usage *u = add_usage(run, 1, "a.c", 1, 0);
	struct thread *t = &g_array_index(run->threads, struct thread, 0);

	t->role = ROLE_OTHER;
	hold(u, 1050);
	figures_update(f, run, 1000000000);
	t->role = ROLE_VCPU;
	hold(u, 2050);
	hold(u, 2050);
	figures_update(f, run, 2000000000);
	g_assert_cmpuint(f->roles[ROLE_OTHER].hold.count, ==, 1);
	g_assert_cmpuint(f->roles[ROLE_VCPU].hold.count, ==, 2);
	g_assert_cmpuint(f->roles[ROLE_VCPU].hold.sum_ns, ==, 4000);
	g_assert_cmpuint(f->acquired, ==, 3);
	figures_free(f);
	run_free(run);
}

/*
 * Sites come, grow and overtake each other at random: at most so many have series, each series only
 * grows, and together they are all there is.
 */
static void top_sites(void)
{
	enum { SITES = 60, ROUNDS = 200 };
	struct run *run = new_run();
	struct figures *f = figures_new();
	g_autoptr(GHashTable) before = g_hash_table_new(NULL, NULL);
	uint64_t others_before = 0;
	unsigned present = 0, changes = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned top = 0;

		while (present < SITES && present <= round / 2) {
			add_usage(run, present, "site.c", present + 1, 0);
			present++;
		}
		for (unsigned i = 0; i < 20; i++) {
			unsigned site = g_test_rand_int_range(0, present);

			/* The later, the heavier: newcomers have to get in. */
			hold(&g_array_index(run->usages, struct usage, site),
			     50 + 1000 * (site + 1) * g_test_rand_int_range(1, 20));
		}
		figures_update(f, run, round * 1000000000ULL);
		for (unsigned i = 0; i < f->sites->len; i++) {
			struct figures_site *s = f->sites->pdata[i];
			uint64_t was = GPOINTER_TO_SIZE(g_hash_table_lookup(before, s));

			g_assert_cmpuint(s->hold_ns, >=, was);
			changes += !s->top && was;
			g_hash_table_insert(before, s, GSIZE_TO_POINTER(s->hold_ns));
			top += s->top;
		}
		g_assert_cmpuint(top, <=, FIGURES_SITES);
		g_assert_cmpuint(f->others[ROLE_MAIN].hold_ns, >=, others_before);
		others_before = f->others[ROLE_MAIN].hold_ns;
		g_assert_cmpuint(sum_of(f, false), ==, (round + 1) * 20);
		g_assert_cmpuint(sum_of(f, true), ==, f->held_ns);
		g_assert_cmpuint(f->held_ns, ==, run_held_ns(run));
	}
	/* Else this test has not seen what it is for. */
	g_assert_cmpuint(changes, >, 0);
	g_assert_cmpuint(others_before, >, 0);
	figures_free(f);
	run_free(run);
}

static void windows(void)
{
	const uint64_t second = 1000000000;
	struct run *run = new_run();
	struct figures *f = figures_new();
	struct usage *u = add_usage(run, 1, "a.c", 1, 0);
	const struct hold open = {.unfinished = true, .hold_ns = 3 * second};
	uint64_t now = 1000 * second, got;

	hold(u, 80000050);
	figures_update(f, run, now);
	/* Too short to be reported one by one: known to 3%. */
	got = figures_longest(f, 60 * second, now);
	g_assert_cmpuint(got, >, 77000000);
	g_assert_cmpuint(got, <, 83000000);
	for (unsigned i = 0; i < 80; i++) {
		now += second;
		hold(u, 1050);
		figures_update(f, run, now);
	}
	g_assert_cmpuint(figures_longest(f, 60 * second, now), <, 2000);
	g_assert_cmpuint(figures_longest(f, 300 * second, now), ==, got);
	/* One that goes on counts now, and time held grows with it, not at its end. */
	g_array_append_val(run->holds, open);
	got = f->held_ns;
	figures_update(f, run, now);
	g_assert_cmpuint(figures_longest(f, 60 * second, now), ==, 3 * second - 50);
	g_assert_cmpuint(f->held_ns, ==, got + 3 * second - 50);
	g_array_set_size(run->holds, 0);
	hold(u, 3 * second);
	figures_update(f, run, now + second);
	g_assert_cmpuint(f->held_ns, ==, got + 3 * second - 50);
	g_assert_cmpuint(f->current_ns, ==, 0);
	figures_free(f);
	run_free(run);
}

static void phases(void)
{
	struct figures *f = figures_new();
	static const struct {
		uint64_t at;
		enum phase phase;
		const char *device;
	} marks[] = {
		{1000, PHASE_SETUP, ""},
		{1500, PHASE_RAM, ""},
		{5000, PHASE_DEVICE, "virtio-net"},
		{5300, PHASE_RAM, ""},
		{5310, PHASE_DEVICE, "e1000"},
		{5320, PHASE_RAM, ""},
		{5330, PHASE_DEVICE, "virtio-net"},
		{5400, PHASE_RAM, ""},
		{5500, PHASE_ACTIVATE, ""},
		{5600, PHASE_START, ""},
		{5700, PHASE_NONE, ""},
	};
	const struct figures_incoming *in = &f->incoming;

	for (unsigned i = 0; i < G_N_ELEMENTS(marks); i++)
		figures_phase(f, marks[i].at, 1000000 + marks[i].at, marks[i].phase,
			      marks[i].device);
	g_assert_cmpuint(in->loads, ==, 1);
	g_assert_false(in->active);
	g_assert_cmpuint(in->end_ns - in->begin_ns, ==, 4700);
	g_assert_cmpuint(in->nr_devices, ==, 3);
	g_assert_cmpuint(in->devices->len, ==, 2);
	g_assert_cmpuint(g_array_index(in->devices, struct figures_device, 0).ns, ==, 370);
	g_assert_cmpuint(in->phase_ns[PHASE_DEVICE], ==, 380);
	g_assert_cmpuint(in->phase_ns[PHASE_RAM], ==, 3500 + 10 + 10 + 100);
	g_assert_cmpint(in->phase_unix_ns[PHASE_RAM], ==, 1001500);
	figures_phase(f, 9000, 1009000, PHASE_SETUP, "");
	g_assert_cmpuint(in->loads, ==, 2);
	g_assert_cmpuint(in->devices->len, ==, 0);
	figures_free(f);
}

/* ---- formats ---- */

/* What a guest may be called does not break a line. */
static void escapes(void)
{
	g_autofree char *labels = exposition_labels("vm", "a\"b\\c\nd\xff", "uuid", "", NULL);

	g_assert_cmpstr(labels, ==, "vm=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\",uuid=\"\"");
}

static void seconds(void)
{
	static const struct metric_family family = {"x_seconds", METRIC_GAUGE, "seconds", "", "X."};
	struct exposition e = {.out = g_string_new(NULL), .family = &family, .prefix = ""};

	exposition_ns(&e, "", 0);
	exposition_ns(&e, "", 1);
	exposition_ns(&e, "a=\"b\"", 1500000000);
	exposition_ns(&e, "", UINT64_MAX);
	g_assert_cmpstr(e.out->str, ==,
			"x_seconds 0\nx_seconds 0.000000001\nx_seconds{a=\"b\"} 1.5\n"
			"x_seconds 18446744073.709551615\n");
	g_string_free(e.out, TRUE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/metrics/page", page);
	g_test_add_func("/metrics/names", names);
	g_test_add_func("/metrics/buckets", buckets);
	g_test_add_func("/metrics/role-changes", role_changes);
	g_test_add_func("/metrics/top-sites", top_sites);
	g_test_add_func("/metrics/windows", windows);
	g_test_add_func("/metrics/phases", phases);
	g_test_add_func("/metrics/escapes", escapes);
	g_test_add_func("/metrics/seconds", seconds);
	return g_test_run();
}
