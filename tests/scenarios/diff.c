/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat diff on recorded runs that ship: what it says, how its gates end, that nothing changed is
 * called nothing, that 20% more is found, and that its pages open in a browser.
 */
#include <math.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "analyzers/compare/fit.h"
#include "analyzers/input/sides.h"
#include "tests/scenarios/recording.h"

#define SAME  "tests/data/same.bql"
#define STALL "tests/data/stall.bql"

/* A file of the sources, which are above the programs. g_free(). */
static char *source_file(const char *name)
{
	g_autofree char *folder = g_path_get_dirname(lab_program("bqlstat"));

	for (char *up = g_steal_pointer(&folder), *next;; up = next) {
		char *path = g_build_filename(up, name, NULL);

		if (g_file_test(path, G_FILE_TEST_EXISTS)) {
			g_free(up);
			return path;
		}
		g_free(path);
		next = g_path_get_dirname(up);
		g_assert_cmpstr(next, !=, up);
		g_free(up);
	}
}

struct said {
	int code;
	char *out, *err;
};

static struct said run_diff(const char *const *arguments)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autoptr(lab_process) p = NULL;
	struct said said;

	g_ptr_array_add(argv, (char *)lab_program("bqlstat"));
	for (; *arguments; arguments++)
		g_ptr_array_add(argv, (char *)*arguments);
	g_ptr_array_add(argv, NULL);
	p = lab_process_new((const char *const *)argv->pdata, NULL, NULL);
	g_assert_nonnull(p);
	g_assert_true(lab_process_wait(p, 60000, &said.code, NULL));
	said.out = lab_process_stdout(p);
	said.err = lab_process_stderr(p);
	return said;
}

#define DIFF(...) run_diff((const char *const[]){"diff", __VA_ARGS__, NULL})

static void clear(struct said *said)
{
	g_free(said->out);
	g_free(said->err);
}

static void expect(struct said said, int code, const char *out, const char *err)
{
	g_test_message("%d %s", said.code, said.err);
	g_assert_cmpint(said.code, ==, code);
	if (!strstr(said.out, out))
		g_error("no \"%s\" in: %.300s...", out, said.out);
	if (!strstr(said.err, err))
		g_error("no \"%s\" in: %.300s", err, said.err);
	clear(&said);
}

/* ---- what it says ---- */

static void says(void)
{
	g_autofree char *stall = source_file(STALL), *same = source_file(SAME);

	/* A stalled channel: stock holds the lock meanwhile, io-free does not. */
	expect(DIFF(stall), 0, "io-free is better than stock in qmp.p50", "");
	expect(DIFF(stall, "--a", "io-free", "--b", "stock"), 0, "stock is worse than io-free", "");
	expect(DIFF(stall, "-m"), 0, "| hold.max | 1.0", "");
	expect(DIFF(stall, "-m"), 0, "\nScenario multifd-stall. QEMU 7.2", "");
	expect(DIFF(stall, "--a", "io-free", "--b", "stock"), 0, "hold.max and 1 more.\n", "");
	expect(DIFF(stall, "--all"), 0, "device[virtio-net].load", "");
	expect(DIFF(stall), 0, "scenario multifd-stall", "");
	/* Two labels, and which is which when only one is said. */
	expect(DIFF(stall, "--b", "stock"), 0, "stock is worse than io-free", "");
	expect(DIFF(same), 0, "whether two is worse than one", "");
	expect(DIFF(stall, same, "--a", "stock", "--b", "one", "--force"), 0,
	       "note: the scenarios differ: multifd-stall", "");
}

/* The same label in two files, such as a policy's before and after: by the files' names. */
static void told_apart(void)
{
	g_autofree char *stall = source_file(STALL), *copy = fresh_path("copy.bql"), *runs = NULL;
	g_autofree char *base = g_path_get_basename(copy);
	struct group *a, *b;
	gsize length;

	g_assert_true(g_file_get_contents(stall, &runs, &length, NULL));
	g_assert_true(g_file_set_contents(copy, runs, (gssize)length, NULL));
	g_assert_cmpint(sides_load(stall, copy, "stock", "stock", &a, &b), ==, 0);
	g_assert_cmpstr(a->label, ==, "stall.bql");
	g_assert_cmpstr(b->label, ==, base);
	group_free(a);
	group_free(b);
	/* Of one name: by their folders, too. */
	g_assert_cmpint(sides_load(stall, stall, "stock", "stock", &a, &b), ==, 0);
	g_assert_cmpstr(a->label, ==, stall);
	group_free(a);
	group_free(b);
	g_unlink(copy);
}

/* The first lines of a report answer who held the lock longest, and why. */
static void report_answers(void)
{
	g_autofree char *stall = source_file(STALL);
	struct said said = run_diff((const char *const[]){"report", "-r", "1", stall, NULL});
	const char *answer = strstr(said.out, "  longest     1.15 s by main at "
					      "util/main-loop.c:318, in ram, asleep in futex for ");
	const char *waited = strstr(said.out, "  waited      at most 1.04 ms: RCU at util/rcu.c:");

	g_assert_cmpint(said.code, ==, 0);
	g_assert_nonnull(answer);
	g_assert_nonnull(waited);
	g_assert_true(answer < waited && waited < strstr(said.out, "Who held the lock"));
	clear(&said);
}

static void gates(void)
{
	g_autofree char *stall = source_file(STALL), *same = source_file(SAME);

	expect(DIFF(stall, "--fail-on", "worse, hold.max > +20%, qmp.p99 > 50ms"), 0,
	       "16 of 16 checks kept", "");
	expect(DIFF(stall, "-a", "io-free", "-b", "stock", "--fail-on", "hold.max > +20%"), 1,
	       "broken", "gate 'hold.max > +20%' failed: hold.max went from");
	expect(DIFF(stall, "-a", "io-free", "-b", "stock", "-f", "qmp.p99 > 50ms", "-j"), 1,
	       "\"state\" : \"broken\"", "qmp.p99 is 1");
	expect(DIFF(stall, "-f", "hold.mxa > +20%"), 2, "", "no figure of these runs is called");
	expect(DIFF(stall, "-f", "hold.max > "), 2, "", "what is the rule");
	/* Chance alone makes medians of a noisy machine differ. */
	expect(DIFF(same, "-f", "hold.max > +20%"), 0, "undecided", "is undecided");
	expect(DIFF(same, "-f", "hold.max > +20%", "--strict"), 1, "undecided", "failed");
}

static void wrong_usage(void)
{
	g_autofree char *stall = source_file(STALL), *same = source_file(SAME);
	g_autofree char *page = source_file("tests/data/README.md");

	expect(DIFF("--json"), 2, "", "give two run files");
	expect(DIFF(stall, "--a", "nobody"), 2, "", "holds no run with the label \"nobody\"");
	expect(DIFF(stall, "--a", "stock", "--b", "stock"), 2, "", "the same label");
	expect(DIFF(stall, same), 2, "", "choose one with --a LABEL");
	expect(DIFF(stall, "--margin", "-3"), 2, "", "--margin wants");
	expect(DIFF(stall, "--least", "soon"), 2, "", "--least wants");
	expect(DIFF(stall, "--json", "--markdown"), 2, "", "not both");
	expect(DIFF(page), 3, "", "README.md");
	expect(DIFF("/nowhere.bql"), 3, "", "/nowhere.bql");
	expect(DIFF(stall, same, "-a", "stock", "-b", "one"), 3, "", "different scenarios");
	expect(DIFF(stall, stall, "-a", "stock", "-b", "stock"), 3, "", "same recording");
	expect(DIFF(stall, "--html", "/nowhere/page.html"), 3, "", "cannot write");
}

static void copy(const char *from, const char *to)
{
	g_autofree char *bytes = NULL;
	gsize size;

	g_assert_true(g_file_get_contents(from, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents(to, bytes, size, NULL));
}

/* A page goes over an older one, and over nothing else: not over a recording, nor a device. */
static void page_places(void)
{
	g_autofree char *stall = source_file(STALL), *mine = fresh_path("mine.bql");
	g_autofree char *page = fresh_path("page.html"), *link = fresh_path("link.html");
	g_autofree char *device = fresh_path("full");
	struct run *run;
	struct stat st;

	copy(stall, mine);
	expect(DIFF(stall, "--html", mine), 3, "", "is no page, and is left as it is");
	expect(run_diff((const char *const[]){"report", "-r", "1", "-H", mine, mine, NULL}), 3, "",
	       "is no page, and is left as it is");
	run = load(mine, 1);
	run_free(run);
	g_assert_cmpint(symlink(page, link), ==, 0);
	for (int i = 0; i < 2; i++)
		expect(DIFF(stall, "--html", page), 0, "", "");
	expect(DIFF(stall, "--html", link), 0, "", "");
	g_assert_cmpint(lstat(link, &st), ==, 0);
	g_assert_true(S_ISLNK(st.st_mode));
	/* As /dev/full is; not that one, which would be lost should this fail. */
	if (mknod(device, S_IFCHR | 0600, makedev(1, 7)))
		return;
	expect(DIFF(stall, "--html", device), 3, "", "No space left");
	g_assert_cmpint(stat(device, &st), ==, 0);
	g_assert_true(S_ISCHR(st.st_mode));
}

static void json(void)
{
	g_autofree char *stall = source_file(STALL);
	struct said said = DIFF(stall, "--json"), again = DIFF(stall, "--json");
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) root = json_from_string(said.out, &error);
	JsonArray *figures;
	bool found = false;

	g_assert_no_error(error);
	/* The resampling is seeded. */
	g_assert_cmpstr(said.out, ==, again.out);
	g_assert_cmpstr(lab_json_string(root, "verdict"), ==, "better");
	g_assert_cmpint(lab_json_int(root, "a.runs"), ==, 8);
	figures = json_object_get_array_member(json_node_get_object(root), "figures");
	for (unsigned i = 0; i < json_array_get_length(figures); i++) {
		JsonNode *f = json_array_get_element(figures, i);

		if (strcmp(lab_json_string(f, "name"), "hold.max"))
			continue;
		found = true;
		g_assert_cmpstr(lab_json_string(f, "verdict"), ==, "better");
		g_assert_cmpint(lab_json_int(f, "a.n"), ==, 8);
	}
	g_assert_true(found);
	clear(&said);
	clear(&again);
}

/* ---- what it finds ---- */

/* n of the runs for either side, drawn without putting back; false alarm when B is worse. */
static bool any_worse(const GPtrArray *runs, unsigned n, GRand *rand, const char *figure)
{
	struct compare_options options = COMPARE_DEFAULTS;
	struct group *a = group_new("a", "f"), *b = group_new("b", "f");
	g_autofree unsigned *order = g_new(unsigned, runs->len);
	struct compared *compared;
	bool worse = false;

	options.quick = true;
	/* These are the caller's runs. */
	g_ptr_array_set_free_func(a->runs, NULL);
	g_ptr_array_set_free_func(b->runs, NULL);
	for (unsigned i = 0; i < runs->len; i++)
		order[i] = i;
	for (unsigned i = 0; i < 2 * n; i++) {
		unsigned k = (unsigned)g_rand_int_range(rand, (gint32)i, (gint32)runs->len);
		unsigned swap = order[i];

		order[i] = order[k];
		order[k] = swap;
		g_ptr_array_add(i < n ? a->runs : b->runs, runs->pdata[order[i]]);
	}
	compared = compare(a, b, &options);
	for (unsigned i = 0; i < compared->all->len; i++) {
		const struct comparison *c = &g_array_index(compared->all, struct comparison, i);

		worse |= c->verdict == VERDICT_WORSE && c->group != FIGURE_CONTROL &&
			 (!figure || !strcmp(c->name, figure));
	}
	compared_free(compared);
	group_free(a);
	group_free(b);
	return worse;
}

/* So many or more of n by chance, each with probability p. */
static double binomial_tail(unsigned n, unsigned least, double p)
{
	double sum = 0;

	for (unsigned k = least; k <= n; k++)
		sum += exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) + k * log(p) +
			   (n - k) * log(1 - p));
	return sum;
}

/*
 * Stock against stock: two families at 5%, two-sided, so "worse" anywhere is nominally at most 5%.
 * The recorded runs were split in two at random 200 times.
 */
static void false_alarms(void)
{
	enum { TRIALS = 200, RUNS = 10 };
	g_autofree char *file = source_file(SAME);
	struct group *a, *b;
	g_autoptr(GRand) rand = g_rand_new_with_seed(20260101);
	unsigned alarms = 0;

	g_assert_cmpint(sides_load(file, NULL, "one", "two", &a, &b), ==, 0);
	for (unsigned i = 0; i < b->runs->len; i++)
		g_ptr_array_add(a->runs, b->runs->pdata[i]);
	g_assert_cmpuint(a->runs->len, >=, 3 * RUNS);
	for (unsigned i = 0; i < TRIALS; i++)
		alarms += any_worse(a->runs, RUNS, rand, NULL);
	g_test_message("worse in %u of %u, nominally at most %g", alarms, TRIALS, 0.05 * TRIALS);
	g_assert_cmpfloat(binomial_tail(TRIALS, alarms, 0.05), >, 0.01);
	g_ptr_array_set_free_func(b->runs, NULL);
	group_free(a);
	group_free(b);
}

/* A recording of lockdance that holds the lock for so long at a time. NULL: no right to record. */
static struct run *dance_run(const char *file, unsigned us)
{
	g_autofree char *script = g_strdup_printf("thread a; repeat 100; lock savevm.c:2; hold %u; "
						  "unlock; idle 100; end",
						  us);
	g_autoptr(lab_process) p = bqlstat("record", "-q", "-o", file, "--",
					   lab_program("lockdance"), "-e", script, NULL);
	g_autofree char *says = NULL;
	struct run *run;
	int code;

	says = outcome(p, &code);
	if (code == 3) {
		g_test_skip(says);
		return NULL;
	}
	if (code)
		g_error("bqlstat ended with %d: %s", code, says);
	run = load(file, 1);
	g_unlink(file);
	return run;
}

/*
 * 20% more hold time, 10 runs of each: found in at least 90% of the trials. Each trial draws 10 of
 * the 12 runs that were recorded of each; tests/bench/regression records afresh for each.
 */
static void finds_slowdown(void)
{
	enum { TRIALS = 20, RECORDED = 12, RUNS = 10, HOLD_US = 400 };
	g_autofree char *file = fresh_path("dance.bql");
	struct group *a = group_new("a", "f"), *b = group_new("b", "f");
	g_autoptr(GRand) rand = g_rand_new_with_seed(20260101);
	unsigned found = 0;

	for (unsigned i = 0; i < 2 * RECORDED; i++) {
		/* A B B A */
		bool of_b = (i % 4 == 1) || (i % 4 == 2);
		struct run *run = dance_run(file, of_b ? HOLD_US * 6 / 5 : HOLD_US);

		if (!run)
			goto cleanup;
		group_add(of_b ? b : a, run);
	}
	for (unsigned t = 0; t < TRIALS; t++) {
		struct compare_options options = COMPARE_DEFAULTS;
		struct group *x = group_new("a", "f"), *y = group_new("b", "f");
		unsigned without = (unsigned)g_rand_int_range(rand, 0, RECORDED);
		struct compared *compared;
		const struct comparison *c;

		options.quick = true;
		g_ptr_array_set_free_func(x->runs, NULL);
		g_ptr_array_set_free_func(y->runs, NULL);
		for (unsigned i = 0; i < RECORDED; i++) {
			if (i == without || i == (without + 1 + t % 7) % RECORDED)
				continue;
			g_ptr_array_add(x->runs, a->runs->pdata[i]);
			g_ptr_array_add(y->runs, b->runs->pdata[(i + t) % RECORDED]);
		}
		g_assert_cmpuint(x->runs->len, ==, RUNS);
		compared = compare(x, y, &options);
		c = compared_find(compared, "site[migration/savevm.c:2 migration].hold.p50");
		g_assert_nonnull(c);
		found += c->verdict == VERDICT_WORSE;
		compared_free(compared);
		group_free(x);
		group_free(y);
	}
	g_test_message("20%% more found in %u of %u trials", found, TRIALS);
	g_assert_cmpuint(found * 10, >=, TRIALS * 9);
cleanup:
	group_free(a);
	group_free(b);
}

/* ---- pages ---- */

/* A browser tells a page from a text by its name. g_free() */
static char *page_path(const char *name)
{
	g_autofree char *file = g_strconcat(name, ".html", NULL);

	return g_build_filename(lab_tmpdir(), file, NULL);
}

/* What a browser makes of a page: its DOM; what it complains about goes to *complaints. */
static char *open_page(const char *browser, const char *page, char **complaints)
{
	g_autofree char *profile = fresh_path("profile");
	g_autofree char *data = g_strdup_printf("--user-data-dir=%s", profile);
	g_autofree char *url = g_strdup_printf("file://%s", page);
	const char *argv[] = {browser,
			      "--headless",
			      "--no-sandbox",
			      "--disable-gpu",
			      "--disable-background-networking",
			      "--disable-dev-shm-usage",
			      "--enable-logging=stderr",
			      "--log-level=0",
			      data,
			      "--dump-dom",
			      url,
			      NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, &error);
	g_autofree char *says = NULL, *remove = g_strdup_printf("rm -rf '%s'", profile);
	g_auto(GStrv) lines = NULL;
	GString *console = g_string_new(NULL);
	int code;

	g_assert_no_error(error);
	if (!lab_process_wait(p, 60000, &code, &error))
		g_error("%s", error->message);
	g_assert_cmpint(code, ==, 0);
	says = lab_process_stderr(p);
	lines = g_strsplit(says, "\n", -1);
	for (char **line = lines; *line; line++)
		if (strstr(*line, "CONSOLE"))
			g_string_append_printf(console, "%s\n", *line);
	*complaints = g_string_free(console, FALSE);
	g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL);
	return lab_process_stdout(p);
}

/* A reader's eye: says what a chart's words hide, leave the page or are too small to read. */
static const char look[] =
	"<script>\n"
	"const say=(what,svg,t)=>console.log('LAYOUT '+what+' in '+svg.getAttribute('aria-label')+"
	"': '+t);\n"
	"if(document.documentElement.scrollWidth>innerWidth)console.log('LAYOUT page too wide');\n"
	"for(const w of document.querySelectorAll('.wide'))if(innerWidth>1100&&"
	"w.scrollWidth>w.clientWidth)console.log('LAYOUT table too wide');\n"
	"for(const svg of document.querySelectorAll('svg[role=img]')){\n"
	"const all=[...svg.querySelectorAll('text')].map(t=>[t.textContent,"
	"t.getBoundingClientRect()]).filter(([,r])=>r.width);\n"
	"all.forEach(([t,r],i)=>{if(r.left<0||r.right>innerWidth)say('outside',svg,t);\n"
	"if(r.height<9.5)say('small',svg,t);\n"
	"for(const [u,q] of all.slice(i+1))if(Math.min(r.right,q.right)-Math.max(r.left,q.left)>1&&"
	"Math.min(r.bottom,q.bottom)-Math.max(r.top,q.top)>3)say('overlap',svg,t+' / '+u)})}\n"
	"console.log('LOOKED')</script>\n";

/* What the eye finds at a page that is so many pixels wide. g_free() */
static char *look_at(const char *browser, const char *page, unsigned width)
{
	g_autofree char *copy = page_path("copy"), *frame = page_path("frame"), *text = NULL;
	g_autofree char *seen = NULL, *html = NULL, *complaints = NULL, *dom = NULL;

	g_assert_true(g_file_get_contents(page, &text, NULL, NULL));
	seen = g_strconcat(text, look, NULL);
	html = g_strdup_printf("<iframe width=\"%u\" height=\"900\" src=\"file://%s\"></iframe>",
			       width, copy);
	g_assert_true(g_file_set_contents(copy, seen, -1, NULL));
	g_assert_true(g_file_set_contents(frame, html, -1, NULL));
	dom = open_page(browser, frame, &complaints);
	g_assert_nonnull(strstr(complaints, "LOOKED"));
	g_unlink(copy);
	g_unlink(frame);
	return g_steal_pointer(&complaints);
}

static void expect_layout(const char *browser, const char *page)
{
	static const unsigned widths[] = {390, 760, 1280};

	for (unsigned i = 0; i < G_N_ELEMENTS(widths); i++) {
		g_autofree char *seen = look_at(browser, page, widths[i]);

		if (strstr(seen, "LAYOUT"))
			g_error("%s, %u pixels wide: %s", page, widths[i], seen);
	}
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		n++;
		text += strlen(what);
	}
	return n;
}

static void expect_page(const char *browser, const char *page, unsigned charts, const char *holds)
{
	g_autofree char *complaints = NULL, *text = NULL;
	g_autofree char *dom = open_page(browser, page, &complaints);

	g_assert_true(g_file_get_contents(page, &text, NULL, NULL));
	if (*complaints)
		g_error("%s: %s", page, complaints);
	if (!strstr(dom, holds))
		g_error("%s: no \"%s\"", page, holds);
	g_assert_cmpuint(count(dom, "role=\"img\""), ==, charts);
	/* The script ran: it is what makes the filter. */
	g_assert_nonnull(strstr(dom, "class=\"filter\""));
	g_assert_null(strstr(text, "class=\"filter\""));
	/* Nothing is fetched from anywhere, and no number went wrong. */
	g_assert_null(strstr(text, "http"));
	g_assert_null(strstr(text, "url("));
	g_assert_null(strstr(text, "nan"));
	g_assert_null(strstr(text, "\"inf"));
}

/* A test of the test: a page whose script fails is noticed. */
static void expect_noticed(const char *browser)
{
	g_autofree char *page = page_path("broken"), *complaints = NULL, *dom = NULL;

	g_assert_true(g_file_set_contents(page, "<script>no_such_thing()</script>", -1, NULL));
	dom = open_page(browser, page, &complaints);
	g_assert_nonnull(strstr(complaints, "no_such_thing"));
	g_free(complaints);
	g_assert_true(g_file_set_contents(page,
					  "<svg role=img aria-label=x><text y=20>one</text>"
					  "<text y=22>two</text><text x=290 y=60>far away</text>"
					  "<text y=90 font-size=5>tiny</text></svg>",
					  -1, NULL));
	complaints = look_at(browser, page, 300);
	g_assert_nonnull(strstr(complaints, "LAYOUT overlap in x: one / two"));
	g_assert_nonnull(strstr(complaints, "LAYOUT outside in x: far away"));
	g_assert_nonnull(strstr(complaints, "LAYOUT small in x: tiny"));
	g_unlink(page);
}

/* From `begin` to `end` of it. g_free() */
static char *part_of(const char *text, const char *begin, const char *end)
{
	const char *from = strstr(text, begin), *to = from ? strstr(from, end) : NULL;

	if (!to)
		g_error("no %s", begin);
	return g_strndup(from, to - from);
}

/* The pages that ship look as this renderer makes them: else `make reports`. */
static void shipped_pages(void)
{
	g_autofree char *stall = source_file(STALL), *page = page_path("now"), *now = NULL;
	g_autofree char *folder = source_file("docs/reports"), *style = NULL, *script = NULL;
	GDir *dir = g_dir_open(folder, 0, NULL);
	const char *name;
	unsigned n = 0;

	g_assert_nonnull(dir);
	expect(DIFF(stall, "--html", page), 0, "", "");
	g_assert_true(g_file_get_contents(page, &now, NULL, NULL));
	style = part_of(now, "<style>", "</style>");
	script = part_of(now, "<script>", "</script>");
	while ((name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(folder, name, NULL), *text = NULL;

		if (!g_str_has_suffix(name, ".html"))
			continue;
		n++;
		g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
		if (!strstr(text, style) || !strstr(text, script))
			g_error("%s: made by another renderer, see make reports", path);
	}
	g_assert_cmpuint(n, ==, 8);
	g_dir_close(dir);
	g_unlink(page);
}

static void pages(void)
{
	g_autofree char *browser = g_find_program_in_path("chromium");
	g_autofree char *stall = source_file(STALL), *diff_page = page_path("diff");
	g_autofree char *run_page = page_path("run");

	expect(DIFF(stall, "--html", diff_page), 0, "", "");
	expect(run_diff((const char *const[]){"report", "--run", "1", "--html", run_page, stall,
					      NULL}),
	       0, "", "");
	expect(run_diff((const char *const[]){"report", "--html", run_page, stall, NULL}), 2, "",
	       "choose one of the 16");
	if (!browser) {
		g_test_skip("no chromium: the pages were written, but not opened");
		return;
	}
	expect_noticed(browser);
	/* Ratios, a chart for each of 14 figures and 4 of the machine, holds, heat, two runs. */
	expect_page(browser, diff_page, 1 + 14 + 4 + 1 + 1 + 2, "io-free is better than stock in");
	expect_page(browser, run_page, 3, "The longest hold was");
	expect_layout(browser, diff_page);
	expect_layout(browser, run_page);
	g_unlink(diff_page);
	g_unlink(run_page);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/diff/says", says);
	g_test_add_func("/diff/told-apart", told_apart);
	g_test_add_func("/diff/report", report_answers);
	g_test_add_func("/diff/json", json);
	g_test_add_func("/diff/gates", gates);
	g_test_add_func("/diff/wrong-usage", wrong_usage);
	g_test_add_func("/diff/false-alarms", false_alarms);
	g_test_add_func("/diff/finds-slowdown", finds_slowdown);
	g_test_add_func("/diff/pages", pages);
	g_test_add_func("/diff/shipped-pages", shipped_pages);
	g_test_add_func("/diff/page-places", page_places);
	return g_test_run();
}
