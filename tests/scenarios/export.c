/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat export as Prometheus sees it: the real program on real processes, read over HTTP.
 */
#include <stdlib.h>
#include <zlib.h>

#include "tests/scenarios/export.h"

/* ---- usage ---- */

static void usage(void)
{
	static const struct {
		const char *argv[5];
		int code;
		const char *says;
	} cases[] = {
		{{"--listen", "nonsense"}, 2, "ADDRESS:PORT"},
		{{"--listen", "127.0.0.1:99999"}, 2, "65535"},
		{{"--listen", "example:1"}, 2, "no number"},
		{{"-p", "x"}, 2, "-p wants"},
		{{"-p", "1", "-m", "x"}, 2, "exclude"},
		{{"--qmp", "x"}, 2, "VM=PATH"},
		{{"--threshold", "x"}, 2, "--threshold"},
		{{"--records", "1"}, 2, "--records"},
		{{"--uid", "x"}, 2, "grafana"},
		{{"prometheus"}, 2, "what is prometheus"},
		{{"grafana", "--uid", "x"}, 2, "no dashboard x"},
		{{"grafana", "-o", "/proc/x"}, 3, "/proc/x"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *const *a = cases[i].argv;
		struct lab_process *p = bqlstat("export", a[0], a[1], a[2], a[3], NULL);
		g_autofree char *says = NULL;
		int code;

		says = outcome(p, &code);
		lab_process_free(p);
		if (code != cases[i].code || !strstr(says, cases[i].says) ||
		    strchr(says, '\n') != strrchr(says, '\n'))
			g_error("%s %s: %d: %s", a[0], a[1], code, says);
	}
}

/* A process that is none, and a port that is taken. */
static void cannot(void)
{
	g_autofree char *self = g_strdup_printf("%d", getpid()), *says = NULL;
	struct exporter x;
	struct lab_process *p;
	int code;

	if (!start_exporter(&x, "--match", fresh))
		return;
	p = bqlstat("export", "--listen", x.at, NULL);
	says = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 3);
	g_assert_nonnull(strstr(says, "cannot listen at"));
	g_free(says);
	p = bqlstat("export", "--listen", "127.0.0.1:0", "-p", self, NULL);
	says = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 3);
	g_assert_nonnull(strstr(says, "can be traced"));
	stop_exporter(&x);
}

/* ---- what is served ---- */

static void promtool_check(const char *text)
{
	const char *why, *promtool = lab_prometheus_program("promtool", &why);
	g_autofree char *file = fresh_path("metrics"), *command = NULL;
	g_autofree char *says = NULL;
	struct lab_process *p;
	int code;

	if (!promtool) {
		g_test_skip(why);
		return;
	}
	g_assert_true(g_file_set_contents(file, text, -1, NULL));
	command = g_strdup_printf("'%s' check metrics < '%s'", promtool, file);
	p = lab_process_new((const char *[]){"sh", "-c", command, NULL}, NULL, NULL);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &code, NULL));
	says = lab_process_stderr(p);
	lab_process_free(p);
	if (code || *says)
		g_error("promtool check metrics: %d: %s", code, says);
}

/* OpenMetrics' rules that promtool does not look at. */
static void check_open_metrics(const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	g_autofree char *family = g_strdup("");
	unsigned units = 0;

	g_assert_true(g_str_has_suffix(text, "\n# EOF\n"));
	for (char **line = lines; *line && **line; line++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", 5);

		if (!strcmp(*line, "# EOF"))
			break;
		if (**line != '#') {
			if (!g_str_has_prefix(*line, family))
				g_error("%s is not of the family %s", *line, family);
			continue;
		}
		if (!strcmp(words[1], "HELP")) {
			g_free(family);
			family = g_strdup(words[2]);
			g_assert_false(g_str_has_suffix(family, "_total"));
			g_assert_false(g_str_has_suffix(family, "_info"));
		}
		g_assert_cmpstr(words[2], ==, family);
		if (!strcmp(words[1], "UNIT")) {
			g_autofree char *suffix = g_strdup_printf("_%s", words[3]);

			g_assert_true(g_str_has_suffix(family, suffix));
			units++;
		}
	}
	g_assert_cmpuint(units, >, 10);
}

/* What the reference parser of the standard makes of it: it finds series that are there twice, too.
 */
static void parse_open_metrics(const char *text)
{
	g_autofree char *tool = source("tests/openmetrics.py"), *file = fresh_path("open");
	g_autofree char *command = NULL, *says = NULL;
	struct lab_process *p;
	int code;

	g_assert_true(g_file_set_contents(file, text, -1, NULL));
	command = g_strdup_printf("/usr/bin/python3 '%s' < '%s'", tool, file);
	p = lab_process_new((const char *[]){"sh", "-c", command, NULL}, NULL, NULL);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &code, NULL));
	says = lab_process_stderr(p);
	lab_process_free(p);
	if (code == 3)
		g_test_message("%s", says);
	else if (code)
		g_error("%s", says);
}

/* Each exemplar lies in its bucket and says where. */
static void check_exemplars(const char *text)
{
	g_autoptr(GRegex) line = g_regex_new("^bqlstat_hold_seconds_bucket\\{.*le=\"([0-9.]+)\"\\} "
					     "\\d+ # \\{site=\"(\\S+)\",phase=\"([a-z ]+)\"\\} "
					     "([0-9.]+) (\\d+)",
					     G_REGEX_MULTILINE, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;
	unsigned seen = 0;

	for (g_regex_match(line, text, 0, &match); g_match_info_matches(match);
	     g_match_info_next(match, NULL)) {
		g_autofree char *bound = g_match_info_fetch(match, 1);
		g_autofree char *site = g_match_info_fetch(match, 2);
		g_autofree char *value = g_match_info_fetch(match, 4);
		g_autofree char *when = g_match_info_fetch(match, 5);
		double ago = g_get_real_time() / 1e6 - g_ascii_strtod(when, NULL);

		g_assert_cmpfloat(g_ascii_strtod(value, NULL), <=, g_ascii_strtod(bound, NULL));
		g_assert_cmpfloat(ago, >=, -1);
		g_assert_cmpfloat(ago, <, 120);
		/* Another one may have been preempted for longer than the threshold. */
		seen += g_str_has_suffix(site, "savevm.c:7");
	}
	g_assert_cmpuint(seen, >, 0);
}

static void check_gzip(const struct exporter *x)
{
	struct lab_answer answer;
	char text[256] = "";
	z_stream z = {};

	g_assert_true(
		lab_web_ask(x->at, "GET", "/metrics", "Accept-Encoding: gzip\r\n", &answer, NULL));
	g_assert_nonnull(strstr(answer.head, "Content-Encoding: gzip"));
	z.next_in = (Bytef *)answer.body;
	z.avail_in = answer.size;
	z.next_out = (Bytef *)text;
	z.avail_out = sizeof(text) - 1;
	g_assert_cmpint(inflateInit2(&z, 15 + 16), ==, Z_OK);
	inflate(&z, Z_SYNC_FLUSH);
	inflateEnd(&z);
	g_assert_true(g_str_has_prefix(text, "# HELP bqlstat_build_info "));
	lab_answer_clear(&answer);
	g_assert_true(lab_web_ask(x->at, "GET", "/metrics", "Accept-Encoding: gzip;q=0\r\n",
				  &answer, NULL));
	g_assert_null(strstr(answer.head, "Content-Encoding"));
	lab_answer_clear(&answer);
}

static void check_http(const struct exporter *x)
{
	static const struct {
		const char *method, *path, *headers;
		unsigned status;
		const char *head;
		bool body;
	} cases[] = {
		{"GET", "/metrics", NULL, 200, "Content-Type: text/plain; version=0.0.4", true},
		{"GET", "/metrics?x=1", NULL, 200, "", true},
		{"GET", "/metrics", OPEN_METRICS, 200,
		 "Content-Type: application/openmetrics-text; version=1.0.0", true},
		{"GET", "/metrics",
		 "Accept: text/plain;q=0.9,application/openmetrics-text;q=0.1\r\n", 200,
		 "Content-Type: text/plain", true},
		{"GET", "/metrics", "Accept: */*\r\n", 200, "Content-Type: text/plain", true},
		{"HEAD", "/metrics", NULL, 200, "Content-Length: ", false},
		{"GET", "/healthz", NULL, 200, "", true},
		{"GET", "/", NULL, 200, "Content-Type: text/html", true},
		{"GET", "/nothing", NULL, 404, "", true},
		{"POST", "/metrics", "Content-Length: 0\r\n", 405, "Allow: GET, HEAD", true},
		{"DELETE", "/", NULL, 405, "Allow: GET, HEAD", true},
		{"GET", "/metrics", "Accept: APPLICATION/OPENMETRICS-TEXT;Q=0.5,*/*;Q=0.1\r\n", 200,
		 "Content-Type: application/openmetrics-text", true},
		{"GET", "/metrics", "Accept: application/openmetrics-text;q=0\r\n", 200,
		 "Content-Type: text/plain", true},
		{"GET", "/", NULL, 200, "Content-Security-Policy: default-src 'none'", true},
		{"GET", "/../../etc/passwd", NULL, 404, "X-Content-Type-Options: nosniff", true},
		{"GET", "/healthz", "Content-Length: 5\r\n\r\nhello", 413, "", true},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct lab_answer answer;
		GError *error = NULL;

		lab_web_ask(x->at, cases[i].method, cases[i].path, cases[i].headers, &answer,
			    &error);
		g_assert_no_error(error);
		if (answer.status != cases[i].status || !strstr(answer.head, cases[i].head) ||
		    !answer.size == cases[i].body)
			g_error("%s %s: %s", cases[i].method, cases[i].path, answer.head);
		lab_answer_clear(&answer);
	}
}

/* Every figure of a dance whose every step is known, in both formats. */
static void figures(void)
{
	static const char script[] =
		"thread IO one\nrepeat 200; lock main-loop.c:5; unlock; end\n"
		"repeat 5; lock savevm.c:7; sleep 20000; unlock; end\n"
		"thread CPU 0/TCG\nrepeat 100; lock cpus.c:6; hold 200; unlock; "
		"idle 300; end";
	g_autofree char *vm = g_strdup_printf("%s-<\"b>\\", fresh), *all = named("*");
	g_autofree char *escaped = g_strdup_printf("%s-<\\\"b>\\\\", fresh);
	g_autofree char *text = NULL, *open = NULL, *page = NULL;
	struct lab_process *p;
	struct exporter x;
	double held, total;

	if (!start_exporter(&x, "--match", all))
		return;
	p = dance(vm, script);
	wait_traced(&x, escaped, true);
	g_assert_true(lab_process_write(p, "x", NULL));
	g_assert_true(lab_process_expect(p, "done", PATIENCE_MS, NULL));
	text = scrape_settled(&x, escaped, 305);
	open = scrape(&x, OPEN_METRICS);
	page = lab_web_get(x.at, "/", NULL, NULL);

	promtool_check(text);
	check_open_metrics(open);
	parse_open_metrics(open);
	check_exemplars(open);
	check_gzip(&x);
	check_http(&x);
	g_assert_nonnull(strstr(page, "-&lt;&quot;b&gt;\\"));

	g_assert_cmpfloat(figure(text, "bqlstat_acquisitions_total", escaped, NULL), ==, 305);
	g_assert_cmpfloat(figure(text, "bqlstat_hold_seconds_count", escaped, "role=\"vCPU\""), ==,
			  100);
	g_assert_cmpfloat(figure(text, "bqlstat_hold_seconds_count", escaped, "role=\"iothread\""),
			  ==, 205);
	/* Five of 20 ms and a little more; a busy machine makes none shorter. */
	g_assert_cmpfloat(figure(text, "bqlstat_hold_seconds_bucket", escaped,
				 "role=\"iothread\",le=\"0.01\""),
			  >=, 190);
	g_assert_cmpfloat(figure(text, "bqlstat_hold_seconds_bucket", escaped,
				 "role=\"iothread\",le=\"0.01\""),
			  <=, 200);
	g_assert_cmpfloat(figure(text, "bqlstat_hold_seconds_bucket", escaped,
				 "role=\"iothread\",le=\"+Inf\""),
			  ==, 205);
	total = figure(text, "bqlstat_held_seconds_total", escaped, NULL);
	held = figure(text, "bqlstat_hold_seconds_sum", escaped, "role=\"iothread\"") +
	       figure(text, "bqlstat_hold_seconds_sum", escaped, "role=\"vCPU\"");
	g_assert_cmpfloat(held, >=, 5 * 0.02 + 100 * 0.0002);
	g_assert_cmpfloat(ABS(held - total), <, 1e-6);
	g_assert_cmpfloat(
		figure(text, "bqlstat_blocked_seconds_total", escaped, "cause=\"clock_nanosleep\""),
		>=, 0.1);
	g_assert_cmpfloat(figure(text, "bqlstat_longest_hold_seconds", escaped, "window=\"1m\""),
			  >=, 0.02);
	g_assert_cmpfloat(figure(text, "bqlstat_current_hold_seconds", escaped, NULL), ==, 0);
	g_assert_cmpfloat(value_of(text, "bqlstat_vms{state=\"traced\"}"), ==, 1);
	lab_process_free(p);
	wait_traced(&x, escaped, false);
	g_free(text);
	text = scrape(&x, NULL);
	g_assert_null(strstr(text, escaped));
	stop_exporter(&x);
}

/* A hold is told while it lasts. */
static void unfinished(void)
{
	g_autofree char *vm = named("long");
	struct lab_process *p;
	struct exporter x;
	double before = 0;

	if (!start_exporter(&x, "--match", vm))
		return;
	p = dance(vm, "thread main; lock main-loop.c:1; sleep 30000000; unlock");
	wait_traced(&x, vm, true);
	g_assert_true(lab_process_write(p, "x", NULL));
	/* An exporter that has no processor just then serves what it has. */
	for (int i = 0, grown = 0; grown < 3; i++) {
		g_autofree char *text = NULL;
		double now;

		g_assert_cmpint(i, <, 100);
		g_usleep(200000);
		text = scrape(&x, NULL);
		now = figure(text, "bqlstat_current_hold_seconds", vm, NULL);
		g_assert_cmpfloat(figure(text, "bqlstat_held_seconds_total", vm, NULL), >=, now);
		g_assert_cmpfloat(figure(text, "bqlstat_longest_hold_seconds", vm, "window=\"1m\""),
				  >=, now);
		grown += now > before;
		before = MAX(before, now);
	}
	lab_process_free(p);
	stop_exporter(&x);
}

/* ---- where it listens ---- */

static void addresses(void)
{
	static const struct {
		const char *host, *at; /* to listen, to ask */
		bool warns;
	} cases[] = {
		{"127.0.0.1", "127.0.0.1", false},
		{"127.0.0.2", "127.0.0.2", false},
		{"0.0.0.0", "127.0.0.1", true},
		{"", "127.0.0.1", true},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		unsigned port = lab_free_port();
		g_autofree char *listen = g_strdup_printf("%s:%u", cases[i].host, port);
		g_autofree char *says = NULL;
		struct exporter x;
		int code;

		g_snprintf(x.at, sizeof(x.at), "%s:%u", cases[i].at, port);
		x.process = bqlstat("export", "--listen", listen, "--match", fresh, NULL);
		if (!lab_process_expect(x.process, "serving", PATIENCE_MS, NULL)) {
			g_test_skip("no tracing here");
			lab_process_free(x.process);
			return;
		}
		g_free(scrape(&x, NULL));
		lab_process_kill(x.process, SIGTERM);
		says = outcome(x.process, &code);
		lab_process_free(x.process);
		g_assert_cmpint(code, ==, 0);
		g_assert_cmpint(!!strstr(says, "without a password"), ==, cases[i].warns);
	}
}

/* ---- names ---- */

static unsigned times_in(const char *text, const char *part)
{
	unsigned n = 0;

	for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
		n++;
	return n;
}

/*
 * Names that are made to collide, to write lines of their own into the log, or to fill the disk of
 * whoever scrapes.
 */
static void hostile_names(void)
{
	g_autofree char *all = named("*"), *twice = named("twice"), *third = NULL, *last = NULL;
	g_autofree char *log = named("x\nbqlstat: forged\033[2J\xff"), *endless = NULL;
	g_autofree char *longest = g_strnfill(100000, 'n'), *begin = NULL, *text = NULL;
	g_autofree char *open = NULL, *says = NULL;
	struct lab_process *p[5];
	struct exporter x;
	int code;

	if (!start_exporter(&x, "--match", all))
		return;
	/* A process that will be a QEMU, after the one that is called as it would have to be. */
	p[0] = lab_process_new((const char *[]){"sh", "-c", "read x; exec \"$@\"", "sh",
						lab_program("lockdance"), "--wait-start", "--pairs",
						"1", "--", "-name", twice, NULL},
			       NULL, NULL);
	third = g_strdup_printf("%s:%d", twice, lab_process_pid(p[0]));
	last = g_strdup_printf("%s:2", third);
	endless = g_strdup_printf("%s-%s", fresh, longest);
	begin = g_strdup_printf("bqlstat_vm_traced{vm=\"%.255s...\"", endless);
	p[1] = dance(twice, "thread main; lock main-loop.c:1; unlock");
	wait_traced(&x, twice, true);
	p[2] = dance(third, "thread main; lock main-loop.c:1; unlock");
	wait_traced(&x, third, true);
	g_assert_true(lab_process_write(p[0], "\n", NULL));
	wait_traced(&x, last, true);
	p[3] = dance(log, "thread main; lock main-loop.c:1; unlock");
	p[4] = dance(endless, "thread main; lock main-loop.c:1; unlock");
	for (int i = 0; i < PATIENCE_MS / 20; i++) {
		g_free(text);
		text = scrape(&x, NULL);
		if (value_of(text, "bqlstat_vms{state=\"traced\"}") == 5)
			break;
		g_usleep(20000);
	}
	g_assert_cmpuint(times_in(text, "\nbqlstat_vm_traced{vm="), ==, 5);
	g_assert_nonnull(strstr(text, begin));
	g_assert_null(strstr(text, "forged\033"));
	g_assert_cmpuint(strlen(text), <, 200000);
	open = scrape(&x, OPEN_METRICS);
	parse_open_metrics(open);
	for (unsigned i = 0; i < G_N_ELEMENTS(p); i++)
		lab_process_free(p[i]);
	lab_process_kill(x.process, SIGTERM);
	says = outcome(x.process, &code);
	lab_process_free(x.process);
	g_assert_cmpint(code, ==, 0);
	g_assert_null(strstr(says, "\nbqlstat: forged"));
	g_assert_null(strchr(says, '\033'));
}

/* ---- one VM's process number, and the end of it ---- */

static void by_pid(void)
{
	g_autofree char *vm = named("one"), *pid = NULL, *says = NULL;
	struct lab_process *p = dance(vm, "thread main; lock main-loop.c:1; unlock");
	struct exporter x;
	int code;

	g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
	pid = g_strdup_printf("%d", lab_process_pid(p));
	if (start_exporter(&x, "--pid", pid)) {
		wait_traced(&x, vm, true);
		lab_process_free(p);
		says = outcome(x.process, &code);
		g_assert_cmpint(code, ==, 0);
		g_assert_nonnull(strstr(says, "has ended"));
		lab_process_free(x.process);
	} else {
		lab_process_free(p);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_snprintf(fresh, sizeof(fresh), "export-%d", getpid());
	g_test_add_func("/export/usage", usage);
	g_test_add_func("/export/cannot", cannot);
	g_test_add_func("/export/figures", figures);
	g_test_add_func("/export/unfinished", unfinished);
	g_test_add_func("/export/addresses", addresses);
	g_test_add_func("/export/hostile-names", hostile_names);
	g_test_add_func("/export/by-pid", by_pid);
	return g_test_run();
}
