/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparisons of runs: sites found again in another build, verdicts, corrections, gates, and what
 * does not fit together. The runs are made up, so that the right answer is known.
 */
#include <math.h>
#include <string.h>

#include <glib.h>
#include <json-glib/json-glib.h>

#include "analyzers/compare/fit.h"
#include "analyzers/compare/gate.h"
#include "analyzers/compare/match.h"
#include "analyzers/render/figure.h"
#include "analyzers/render/render.h"

enum { N = 10 };

static unsigned serial;

/* One main thread, nothing recorded yet; each run of its own moment. */
static struct run *plain_run(const char *build)
{
	struct run *run = run_new();
	struct thread main_thread = {.tid = 1, .comm = "qemu", .role = ROLE_MAIN, .number = -1};
	struct thread vcpu = {.tid = 2, .comm = "CPU 0/TCG", .role = ROLE_VCPU, .number = 0};

	run->begin_ns = ++serial;
	run->duration_ns = 1000000000;
	run->source = "ebpf";
	run->cpu = "a CPU";
	run->cpus = 2;
	run->kernel = "Linux";
	run->qemu_build_id = build;
	g_array_append_val(run->threads, main_thread);
	g_array_append_val(run->threads, vcpu);
	return run;
}

static void add_holds(struct run *run, const char *file, unsigned line, unsigned thread,
		      uint64_t ns, unsigned times)
{
	struct usage *u = run_add_usage(run, run_site(run, file, line, false), thread);

	for (unsigned i = 0; i < times; i++)
		histogram_add(&u->hold, ns);
	u->acquired = times;
}

/* Values about `value`, none twice: 100% to 109% of it. */
static struct group *group_of(const char *label, double value, unsigned n)
{
	struct group *g = group_new(label, "a file");

	for (unsigned i = 0; i < n; i++) {
		struct run *run = plain_run("one");

		run_set_metric(run, METRIC_TOTAL, value * (1 + 0.01 * ((i * 7) % 10)));
		add_holds(run, "../../util/main-loop.c", 318, 0, 1000000, 5);
		group_add(g, run);
	}
	return g;
}

struct pair {
	struct group *a, *b;
	struct compared *compared;
};

static struct pair pair_with(struct group *a, struct group *b, bool quick)
{
	struct compare_options options = COMPARE_DEFAULTS;

	options.quick = quick;
	return (struct pair){a, b, compare(a, b, &options)};
}

static struct pair pair_of(struct group *a, struct group *b)
{
	return pair_with(a, b, false);
}

static void pair_clear(struct pair *p)
{
	compared_free(p->compared);
	group_free(p->a);
	group_free(p->b);
}

static const struct comparison *find(const struct pair *p, const char *name)
{
	const struct comparison *c = compared_find(p->compared, name);

	if (!c)
		g_error("no figure %s", name);
	return c;
}

/* ---- verdicts ---- */

static void expect_gate(const struct pair *p, const char *rules, enum gate_state state,
			const char *says)
{
	g_autofree char *wrong = NULL;
	GPtrArray *parsed = gate_parse(rules, &wrong);
	GArray *results;
	bool said = false;

	if (!parsed)
		g_error("%s: %s", rules, wrong);
	results = gate_check(parsed, p->compared);
	for (unsigned i = 0; i < results->len; i++)
		said |= strstr(g_array_index(results, struct gate_result, i).reason, says) != NULL;
	g_test_message("%s: %s", rules, gate_state_name(gate_worst(results)));
	g_assert_cmpint(gate_worst(results), ==, state);
	g_assert_true(said);
	g_array_unref(results);
	g_ptr_array_unref(parsed);
}

static void verdicts(void)
{
	static const struct {
		double times;
		unsigned n;
		enum verdict verdict;
	} cases[] = {
		{1.3, N, VERDICT_WORSE},    {0.7, N, VERDICT_BETTER},  {1.001, N, VERDICT_SAME},
		{1.08, N, VERDICT_UNKNOWN}, {1.3, 2, VERDICT_UNKNOWN}, {1, 3, VERDICT_UNKNOWN},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct pair p = pair_of(group_of("a", 1e9, cases[i].n),
					group_of("b", 1e9 * cases[i].times, cases[i].n));
		const struct comparison *c = find(&p, "total");

		g_assert_cmpstr(verdict_name(c->verdict), ==, verdict_name(cases[i].verdict));
		g_assert_cmpuint(c->a.n, ==, cases[i].n);
		g_assert_cmpfloat_with_epsilon(c->ratio.estimate, cases[i].times, 1e-9);
		g_assert_cmpstr(verdict_name(find(&p, "hold.max")->verdict), ==,
				cases[i].n < 5 ? "not enough data" : "same");
		/* As many as are asked for must be able to tell. */
		if (c->verdict == VERDICT_UNKNOWN)
			g_assert_cmpuint(c->more, >, 0);
		pair_clear(&p);
	}
}

/* With that many more the same effect is found. */
static void more_runs_tell(void)
{
	struct pair few = pair_of(group_of("a", 1e9, 4), group_of("b", 1.3e9, 4));
	unsigned more = find(&few, "total")->more;
	struct pair enough;

	g_assert_cmpint(find(&few, "total")->verdict, ==, VERDICT_UNKNOWN);
	g_assert_cmpuint(more, <, 20);
	enough = pair_of(group_of("a", 1e9, 4 + more), group_of("b", 1.3e9, 4 + more));
	g_assert_cmpint(find(&enough, "total")->verdict, ==, VERDICT_WORSE);
	pair_clear(&few);
	pair_clear(&enough);
}

/* Total times that differ by 7% for certain: too few to prove that this is within the margin. */
static struct pair within_margin(unsigned n)
{
	return pair_of(group_of("a", 1e9, n), group_of("b", 1.07e9, n));
}

/* A few microseconds against fewer, for certain; but some runs of B took longer. */
static struct pair unfelt(unsigned n)
{
	struct group *b = group_of("b", 3000, n);

	for (unsigned i = 0; i < n; i += 5)
		run_set_metric(b->runs->pdata[i], METRIC_TOTAL, 30000);
	return pair_of(group_of("a", 4000, n), b);
}

/*
 * What is too small to be called a change is found to be none, which takes longer than to find that
 * there is one: both are sure of the difference already.
 */
static void more_runs_tell_of_no_change(void)
{
	static const struct {
		struct pair (*make)(unsigned n);
		unsigned n;
	} cases[] = {{within_margin, 10}, {unfelt, 6}};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		unsigned n = cases[i].n;
		struct pair few = cases[i].make(n), enough;
		unsigned more = find(&few, "total")->more;

		g_test_message("%u more", more);
		g_assert_cmpint(find(&few, "total")->verdict, ==, VERDICT_UNKNOWN);
		g_assert_cmpuint(more, <, 1000);
		enough = cases[i].make(n + more);
		g_assert_cmpint(find(&enough, "total")->verdict, ==, VERDICT_SAME);
		pair_clear(&few);
		pair_clear(&enough);
	}
}

/* What is certain but too short to be felt. */
static void small_change(void)
{
	struct pair p = pair_of(group_of("a", 20000, N), group_of("b", 26000, N));

	g_assert_cmpfloat(find(&p, "total")->p_corrected, <, 0.05);
	g_assert_cmpint(find(&p, "total")->verdict, ==, VERDICT_SAME);
	pair_clear(&p);
}

static void nothing_to_something(void)
{
	struct group *a = group_of("a", 1e9, N), *b = group_of("b", 1e9, N);
	struct pair p;

	for (unsigned i = 0; i < N; i++) {
		struct run *run = b->runs->pdata[i];
		struct blocking x = {.cause = CAUSE_FAULT, .count = 1, .ns = 5000000 + i};
		struct usage *u = &g_array_index(run->usages, struct usage, 0);

		g_array_append_val(u->blocking, x);
		add_holds(run, "../../util/rcu.c", 7, 0, 2000000, 1);
	}
	p = pair_of(a, b);
	/* Nobody was blocked on that: a zero. But a site that is not there is not a fast one. */
	g_assert_cmpint(find(&p, "blocked[page fault]")->verdict, ==, VERDICT_WORSE);
	g_assert_true(isinf(find(&p, "blocked[page fault]")->ratio.estimate));
	expect_gate(&p, "blocked[*] > +20%", GATE_BROKEN, "went from 0 to 5.00 ms (corrected p");
	g_assert_cmpint(find(&p, "site[util/rcu.c:7 main].hold.max")->verdict, ==, VERDICT_ONLY_B);
	pair_clear(&p);
}

/* Of many figures that differ by chance only one in 20 says so; corrected, none does. */
static void corrected(void)
{
	struct group *a = group_new("a", "f"), *b = group_new("b", "f");
	g_autoptr(GRand) rand = g_rand_new_with_seed(5);
	unsigned significant = 0, called = 0;
	struct pair p;

	for (unsigned i = 0; i < 2 * N; i++) {
		struct run *run = plain_run("one");

		for (unsigned s = 1; s <= 200; s++)
			add_holds(run, "x.c", s, 0,
				  (uint64_t)(1e6 * g_rand_double_range(rand, 1, 20)), 1);
		group_add(i % 2 ? a : b, run);
	}
	p = pair_with(a, b, true);
	for (unsigned i = 0; i < p.compared->all->len; i++) {
		const struct comparison *c = &g_array_index(p.compared->all, struct comparison, i);

		significant += c->ranks.p <= 0.05;
		called += c->verdict == VERDICT_WORSE || c->verdict == VERDICT_BETTER;
		g_assert_cmpfloat(c->p_corrected, >=, c->ranks.p);
	}
	g_assert_cmpuint(significant, >, 5);
	g_assert_cmpuint(called, ==, 0);
	pair_clear(&p);
}

static void failed_runs(void)
{
	struct group *a = group_of("a", 1e9, N), *b = group_of("b", 1e9, N);
	struct run *run = plain_run("one");
	struct pair p;

	run_set_metric(run, METRIC_FAILED, 1);
	run_set_metric(run, METRIC_TOTAL, 9e9);
	group_add(b, run);
	p = pair_of(a, b);
	g_assert_cmpuint(find(&p, "total")->b.n, ==, N);
	g_assert_nonnull(strstr(p.compared->notes->pdata[0], "1 of 11 migrations of b failed"));
	pair_clear(&p);
}

/* ---- sites of two builds ---- */

static const char *named(GHashTable *names, const char *site)
{
	return g_hash_table_lookup(names, site);
}

/* The first hold at that site, long enough for its stack: given back within `function`. */
static void add_stack(struct run *run, const char *name, unsigned line, const char *function)
{
	struct frame unlock = {"qemu", 1, "unlock", 0, true};
	/* A frame is known by its address. */
	struct frame caller = {"qemu", g_str_hash(function), function, 9, true};
	unsigned frames[] = {run_frame(run, &unlock), run_frame(run, &caller)};
	struct hold h = {.hold_ns = 1000000, .stack = run_stack(run, frames, 2, true) + 1};

	h.taken = TAKEN_RELEASED;
	for (h.site = 0; h.site < run->sites->len; h.site++) {
		const struct site *s = &g_array_index(run->sites, struct site, h.site);

		if (s->line == line && g_str_has_suffix(s->file, name))
			break;
	}
	g_array_append_val(run->holds, h);
}

static void sites_match(void)
{
	g_autoptr(GPtrArray) a = g_ptr_array_new(), b = g_ptr_array_new();
	struct run *old = plain_run("old"), *new = plain_run("new");
	struct match m;

	add_holds(old, "../../util/main-loop.c", 299, 0, 1, 1);
	add_holds(old, "../../util/main-loop.c", 318, 0, 1, 1);
	add_holds(old, "../../softmmu/cpus.c", 423, 1, 1, 1);
	add_holds(old, "../../util/rcu.c", 269, 0, 1, 1);
	add_holds(old, "gone.c", 5, 0, 1, 1);
	add_holds(new, "../../util/main-loop.c", 308, 0, 1, 1);
	add_holds(new, "../../util/main-loop.c", 318, 1, 1, 1);
	add_holds(new, "../../util/main-loop.c", 330, 0, 1, 1);
	add_holds(new, "../../system/cpus.c", 463, 1, 1, 1);
	add_holds(new, "../../util/rcu.c", 269, 0, 1, 1);
	add_holds(new, "came.c", 5, 0, 1, 1);
	g_ptr_array_add(a, old);
	g_ptr_array_add(b, new);

	m = match_sites(a, b);
	/* In order, and never with a site that another kind of thread uses. */
	g_assert_cmpstr(named(m.a, "util/main-loop.c:299"), ==, "util/main-loop.c:299->308");
	g_assert_cmpstr(named(m.b, "util/main-loop.c:308"), ==, "util/main-loop.c:299->308");
	g_assert_cmpstr(named(m.a, "util/main-loop.c:318"), ==, "util/main-loop.c:318->330");
	g_assert_cmpstr(named(m.b, "util/main-loop.c:318"), ==, "util/main-loop.c:318");
	g_assert_cmpstr(named(m.a, "softmmu/cpus.c:423"), ==,
			"softmmu/cpus.c:423->system/cpus.c:463");
	g_assert_cmpstr(named(m.a, "util/rcu.c:269"), ==, "util/rcu.c:269");
	g_assert_cmpstr(named(m.a, "gone.c:5"), ==, "gone.c:5");
	g_assert_cmpstr(named(m.b, "came.c:5"), ==, "came.c:5");
	match_clear(&m);

	/* By functions that are known, against the nearer line. */
	add_stack(old, "main-loop.c", 299, "first_of_old");
	add_stack(new, "main-loop.c", 330, "last_of_new");
	add_stack(old, "main-loop.c", 318, "main_loop_wait");
	add_stack(new, "main-loop.c", 308, "main_loop_wait");
	m = match_sites(a, b);
	g_assert_cmpstr(named(m.a, "util/main-loop.c:318"), ==, "util/main-loop.c:318->308");
	g_assert_cmpstr(named(m.b, "util/main-loop.c:330"), ==, "util/main-loop.c:330");
	match_clear(&m);

	/* One build: a line is a line. */
	new->qemu_build_id = "old";
	m = match_sites(a, b);
	g_assert_cmpstr(named(m.a, "util/main-loop.c:299"), ==, "util/main-loop.c:299");
	g_assert_cmpstr(named(m.b, "util/main-loop.c:308"), ==, "util/main-loop.c:308");
	match_clear(&m);
	run_free(old);
	run_free(new);
}

/* ---- gates ---- */

static void gates(void)
{
	struct pair p = pair_of(group_of("a", 1e9, N), group_of("b", 1.3e9, N));
	struct pair few = pair_of(group_of("a", 1e9, 2), group_of("b", 1.3e9, 2));

	expect_gate(&p, "total > +20%", GATE_BROKEN, "total went from 1.0");
	expect_gate(&p, "total>+20 %", GATE_BROKEN, "x 1.30");
	expect_gate(&p, "total > +40%", GATE_KEPT, "");
	expect_gate(&p, "total > +100ms", GATE_BROKEN, "total");
	expect_gate(&p, "total > +400ms", GATE_KEPT, "");
	expect_gate(&p, "total > 1.3s", GATE_BROKEN, "total is 1.3");
	expect_gate(&p, "total > 1400 ms", GATE_KEPT, "");
	expect_gate(&p, "tot*", GATE_BROKEN, "total is worse");
	expect_gate(&p, "total worse", GATE_BROKEN, "total is worse");
	expect_gate(&p, "worse", GATE_BROKEN, "total is worse");
	expect_gate(&p, "hold.max worse", GATE_KEPT, "");
	expect_gate(&p, "held > 1%", GATE_KEPT, "");
	expect_gate(&p, "held > 0.1%", GATE_BROKEN, "held is 0.5%");
	expect_gate(&p, "site[util/main-loop.c:318 main].hold.max > 1ms, failed > 0", GATE_KEPT,
		    "");
	expect_gate(&p, "site[*].hold.* > +5%", GATE_KEPT, "");
	/* The worst of several; one that guards nothing is worse than one that is broken. */
	expect_gate(&p, "hold.max > 1s, total > +20%", GATE_BROKEN, "total");
	expect_gate(&p, "total > +20%, hold.mxa > +20%", GATE_NO_FIGURE, "called hold.mxa");
	expect_gate(&p, "total > 5%", GATE_NO_FIGURE, "not measured in that unit");
	expect_gate(&few, "total > +20%", GATE_UNDECIDED, "may be chance");
	pair_clear(&p);
	pair_clear(&few);
}

/* A limit is not kept by a side of which nobody has measured that. */
static void gates_of_the_unknown(void)
{
	struct group *a = group_of("a", 1e9, N);
	struct pair p;

	for (unsigned i = 0; i < N; i++)
		run_set_metric(a->runs->pdata[i], METRIC_DOWNTIME_SRC, 5e6);
	p = pair_of(a, group_of("b", 1e9, N));
	expect_gate(&p, "downtime.src > 50ms", GATE_UNDECIDED, "is not known of b");
	expect_gate(&p, "downtime.src > +20%", GATE_UNDECIDED, "known of one side only");
	pair_clear(&p);
}

static void gates_not_understood(void)
{
	static const char *const rules[] = {
		"",
		" ",
		"total >",
		"total > +",
		"total > -5%",
		"> 5ms",
		"total > 5 bananas",
		"total > inf",
		"total > ++5%",
		"total > 1e999s",
		"total > 5%, ",
		",",
		"total > +5%%",
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
		g_autofree char *wrong = NULL;

		g_test_message("\"%s\"", rules[i]);
		g_assert_null(gate_parse(rules[i], &wrong));
		g_assert_nonnull(wrong);
	}
}

/* ---- what fits together ---- */

static void expect_refusal(struct group *a, struct group *b, bool force, const char *says)
{
	g_autofree char *refusal = compare_refusal(a, b, force);

	g_test_message("%s", refusal ? refusal : "accepted");
	if (says)
		g_assert_nonnull(strstr(refusal ? refusal : "", says));
	else
		g_assert_null(refusal);
	group_free(a);
	group_free(b);
}

static struct group *alone(struct run *run)
{
	struct group *g = group_new("b", "f");

	group_add(g, run);
	return g;
}

static void refusals(void)
{
	struct group *a;
	struct run *run;

	expect_refusal(group_of("a", 1, 3), group_of("b", 1, 3), false, NULL);
	expect_refusal(group_of("a", 1, 3), group_new("b", "f"), false, "no run of b");

	run = plain_run("one");
	run_set_metric(run, METRIC_FAILED, 1);
	expect_refusal(group_of("a", 1, 3), alone(run), false, "all its migrations failed");

	run = plain_run("one");
	run_set_metric(run, METRIC_SCENARIO "other", 7);
	expect_refusal(group_of("a", 1, 3), alone(run), false, "different scenarios");

	run = plain_run("one");
	run->cpus = 96;
	expect_refusal(group_of("a", 1, 3), alone(run), false, "different machines");
	run = plain_run("one");
	run->cpus = 96;
	run_set_metric(run, METRIC_TOTAL, 1);
	expect_refusal(group_of("a", 1, 3), alone(run), true, NULL);

	run = plain_run("one");
	run->source = "lttng";
	expect_refusal(group_of("a", 1, 3), alone(run), false, "different means");

	/* Nothing was recorded in it, and nobody measured a thing. */
	expect_refusal(group_of("a", 1, 3), alone(plain_run("one")), false, "no figure in common");

	a = group_of("a", 1, 1);
	run = plain_run("one");
	run->begin_ns = ((struct run *)a->runs->pdata[0])->begin_ns;
	expect_refusal(a, alone(run), true, "same recording");
}

/* ---- what is shown of little ---- */

static void expect_sane(const char *text)
{
	g_assert_null(strstr(text, "nan"));
	g_assert_null(strstr(text, "inf"));
	g_assert_true(g_utf8_validate(text, -1, NULL));
}

/* Nothing recorded but one figure of one run; and names that would break a page or a table. */
static void shown_of_little(void)
{
	const struct render_diff_options how = {.all = true};
	struct group *a = group_new("<a & b> | c", "f\xff"), *b = group_new("b", "f");
	struct run *x = plain_run("one"), *y = plain_run("two");
	g_autofree char *html = NULL, *json = NULL, *page = NULL, *text = NULL;
	g_autoptr(JsonNode) root = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct pair p;

	run_set_metric(x, METRIC_TOTAL, 0);
	run_set_metric(y, METRIC_TOTAL, 5e6);
	y->label = "<script>";
	group_add(a, x);
	group_add(b, y);
	p = pair_of(a, b);
	html = render_diff_html(p.compared, &how);
	json = render_diff_json(p.compared, &how);
	/* One run of each: their ratio, and no interval. */
	g_assert_cmpfloat(find(&p, "total")->difference.estimate, ==, 5e6);
	g_assert_true(isnan(find(&p, "total")->difference.low));
	g_assert_cmpuint(find(&p, "total")->more, ==, 4);
	page = render_html(y);
	render_diff_text(out, p.compared, &how);
	render_diff_markdown(out, p.compared, &how);
	fclose(out);
	expect_sane(html);
	expect_sane(page);
	expect_sane(json);
	g_assert_nonnull(strstr(html, "&lt;a &amp; b&gt; | c"));
	g_assert_null(strstr(html, "<a & b>"));
	g_assert_null(strstr(page, "<script>\""));
	g_assert_nonnull(strstr(text, "\\<a & b\\> \\| c"));
	root = json_from_string(json, NULL);
	g_assert_nonnull(root);
	pair_clear(&p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/compare/verdicts", verdicts);
	g_test_add_func("/compare/more-runs-tell", more_runs_tell);
	g_test_add_func("/compare/more-runs-tell-of-no-change", more_runs_tell_of_no_change);
	g_test_add_func("/compare/small-change", small_change);
	g_test_add_func("/compare/nothing-to-something", nothing_to_something);
	g_test_add_func("/compare/corrected", corrected);
	g_test_add_func("/compare/failed-runs", failed_runs);
	g_test_add_func("/compare/sites", sites_match);
	g_test_add_func("/compare/gates", gates);
	g_test_add_func("/compare/gates/of-the-unknown", gates_of_the_unknown);
	g_test_add_func("/compare/gates/not-understood", gates_not_understood);
	g_test_add_func("/compare/refusals", refusals);
	g_test_add_func("/compare/shown-of-little", shown_of_little);
	return g_test_run();
}
