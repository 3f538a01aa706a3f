/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat export as Prometheus sees it: the real program on real processes, read over HTTP.
 *
 * EXPORT_CYCLES=200 starts and kills that many QEMUs (make soak); else a dozen.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <zlib.h>

#include "analyzers/lab/web.h"
#include "tests/scenarios/recording.h"

#define OPEN_METRICS "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"

/* A sanitizer keeps what was freed, and takes its time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool lean = false;
#else
static const bool lean = true;
#endif

/* An exporter of our own, that sees only this test's processes. */
struct exporter {
	struct lab_process *process;
	char at[32];
};

static char fresh[32]; /* a name that no other process here has */

/* NULL after g_test_skip() where there is no tracing. */
static bool start_exporter(struct exporter *x, const char *option, const char *value)
{
	g_autofree char *says = NULL;
	int code;

	g_snprintf(x->at, sizeof(x->at), "127.0.0.1:%u", lab_free_port());
	x->process = bqlstat("export", "--listen", x->at, option, value, NULL);
	for (int i = 0; i < PATIENCE_MS / 20; i++) {
		g_free(says);
		says = lab_process_stderr(x->process);
		if (strstr(says, "serving"))
			return true;
		if (!lab_process_running(x->process))
			break;
		g_usleep(20000);
	}
	lab_process_wait(x->process, 1000, &code, NULL);
	if (!strstr(says, "CAP_BPF") && !strstr(says, "no BTF"))
		g_error("the exporter does not serve: %s", says);
	g_test_skip(says);
	lab_process_free(x->process);
	return false;
}

static void stop_exporter(struct exporter *x)
{
	g_autofree char *says = NULL;
	int code;

	lab_process_kill(x->process, SIGTERM);
	says = outcome(x->process, &code);
	if (code)
		g_error("the exporter ended with %d: %s", code, says);
	lab_process_free(x->process);
}

static char *scrape(const struct exporter *x, const char *headers)
{
	GError *error = NULL;
	char *text = lab_web_get(x->at, "/metrics", headers, &error);

	g_assert_no_error(error);
	return text;
}

/* The value of a sample whose line begins so; below 0: there is none. */
static double value_of(const char *text, const char *sample)
{
	size_t length = strlen(sample);

	for (const char *at = strstr(text, sample); at; at = strstr(at + 1, sample))
		if ((at == text || at[-1] == '\n') && at[length] == ' ')
			return g_ascii_strtod(at + length, NULL);
	return -1;
}

/* The same of a sample of one dance: NAME{vm="...",uuid="..."[,LABELS]}. */
static double figure(const char *text, const char *name, const char *vm, const char *labels)
{
	g_autofree char *sample = g_strdup_printf("%s{vm=\"%s\",uuid=\"\"%s%s}", name, vm,
						  labels ? "," : "", labels ? labels : "");

	return value_of(text, sample);
}

static struct lab_process *dance(const char *name, const char *script)
{
	const char *argv[] = {lab_program("lockdance"),
			      "--wait-start",
			      "--wait-end",
			      "-e",
			      script,
			      "--",
			      "-name",
			      name,
			      NULL};
	GError *error = NULL;
	struct lab_process *p = lab_process_new(argv, NULL, &error);

	g_assert_no_error(error);
	return p;
}

static char *named(const char *suffix)
{
	return g_strdup_printf("%s-%s", fresh, suffix);
}

/* Until the VM has, or has not, a series; how long that took. */
static uint64_t wait_traced(const struct exporter *x, const char *vm, bool traced)
{
	uint64_t begin = lab_now_ns();

	while (lab_now_ns() - begin < PATIENCE_MS * 1000000ULL) {
		g_autofree char *text = scrape(x, NULL);

		if ((figure(text, "bqlstat_vm_traced", vm, NULL) == 1) == traced)
			return lab_now_ns() - begin;
		g_usleep(20000);
	}
	g_error("%s is %s after %d s", vm, traced ? "not traced" : "still there",
		PATIENCE_MS / 1000);
}

/* ---- usage ---- */

static void usage(void)
{
	static const struct {
		const char *argv[5];
		int code;
		const char *says;
	} cases[] = {
		{{"--listen", "nonsense"}, 3, "ADDRESS:PORT"},
		{{"--listen", "127.0.0.1:99999"}, 3, "65535"},
		{{"--listen", "example:1"}, 3, "no number"},
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
	text = scrape(&x, NULL);
	open = scrape(&x, OPEN_METRICS);
	page = lab_web_get(x.at, "/", NULL, NULL);

	promtool_check(text);
	check_open_metrics(open);
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
	p = dance(vm, "thread main; lock main-loop.c:1; sleep 3000000; unlock");
	wait_traced(&x, vm, true);
	g_assert_true(lab_process_write(p, "x", NULL));
	/* An exporter that has no processor just then serves what it has. */
	for (int i = 0, grown = 0; grown < 3; i++) {
		g_autofree char *text = NULL;
		double now;

		g_assert_cmpint(i, <, 12);
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

/* ---- for months ---- */

struct resources {
	unsigned fds, maps, links;
	double records, memory;
};

static void count_resources(const struct exporter *x, struct resources *r)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/fdinfo", lab_process_pid(x->process));
	g_autofree char *text = scrape(x, NULL);
	GDir *dir = g_dir_open(folder, 0, NULL);
	const char *name;

	memset(r, 0, sizeof(*r));
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(folder, name, NULL), *info = NULL;

		r->fds++;
		if (!g_file_get_contents(path, &info, NULL, NULL))
			continue;
		r->maps += !!strstr(info, "map_id:");
		r->links += !!strstr(info, "link_id:");
	}
	g_assert_nonnull(dir);
	g_dir_close(dir);
	r->records = value_of(text, "bqlstat_records{state=\"used\"}");
	r->memory = value_of(text, "process_resident_memory_bytes");
	/* The scrape's own connection may or may not be closed. */
	r->fds -= r->fds > 0;
}

/* QEMUs come and go: what is left behind after many is what was after a few. */
static void cycles(void)
{
	const char *wanted = g_getenv("EXPORT_CYCLES");
	unsigned n = wanted ? atoi(wanted) : 12, warm = n < 40 ? 4 : 20;
	g_autofree char *all = named("*"), *text = NULL;
	struct resources before, after;
	uint64_t slowest = 0;
	struct exporter x;

	if (!start_exporter(&x, "--match", all))
		return;
	for (unsigned i = 0; i < n + warm; i++) {
		g_autofree char *vm = g_strdup_printf("%s-%u", fresh, i);
		struct lab_process *p =
			dance(vm, "thread main; repeat 20; lock main-loop.c:1; unlock; end");
		uint64_t took = wait_traced(&x, vm, true);

		slowest = MAX(slowest, took);
		g_assert_true(lab_process_write(p, "x", NULL));
		g_assert_true(lab_process_expect(p, "done", PATIENCE_MS, NULL));
		lab_process_free(p);
		wait_traced(&x, vm, false);
		if (i + 1 == warm) {
			/* What was to be detached is. */
			g_usleep(1500000);
			count_resources(&x, &before);
		}
	}
	g_usleep(1500000);
	count_resources(&x, &after);
	text = scrape(&x, NULL);
	g_test_message("%u QEMUs: fds %u -> %u, maps %u -> %u, links %u -> %u, records %.0f -> "
		       "%.0f, memory %.1f -> %.1f MB; slowest to be traced %.0f ms",
		       n, before.fds, after.fds, before.maps, after.maps, before.links, after.links,
		       before.records, after.records, before.memory / 1e6, after.memory / 1e6,
		       slowest / 1e6);
	g_assert_cmpuint(after.fds, <=, before.fds + 1);
	g_assert_cmpuint(after.maps, ==, before.maps);
	g_assert_cmpuint(after.links, ==, before.links);
	g_assert_cmpfloat(after.records, <=, before.records);
	if (lean)
		g_assert_cmpfloat(after.memory, <, before.memory + 4e6);
	g_assert_null(strstr(text, fresh));
	/* One may have been taken for two: found, lost and found again. */
	g_assert_cmpfloat(value_of(text, "bqlstat_attaches_total{result=\"attached\"}"), >=,
			  n + warm);
	/* "Within a second" on a quiet machine; this one may have other work. */
	g_assert_cmpuint(slowest, <, 5000000000);
	stop_exporter(&x);
}

/* The exporter's processor time, s. */
static double cpu_of(const char *text)
{
	return value_of(text, "process_cpu_seconds_total");
}

/* ns to say "ok": what the machine itself makes of a request just now. */
static uint64_t health_ns(const struct exporter *x)
{
	uint64_t begin = lab_now_ns();

	g_free(lab_web_get(x->at, "/healthz", NULL, NULL));
	return lab_now_ns() - begin;
}

/* Fifty at once: each is there, a scrape is quick, and the exporter is small and idle. */
static void fifty(void)
{
	enum { N = 50, SCRAPES = 10 };
	struct lab_process *p[N];
	g_autofree char *all = named("*"), *text = NULL;
	uint64_t best = UINT64_MAX, control = UINT64_MAX, began;
	double cpu, memory, calm = 1, traced = 0;
	struct exporter x;

	if (!start_exporter(&x, "--match", all))
		return;
	for (unsigned i = 0; i < N; i++) {
		g_autofree char *vm = g_strdup_printf("%s-%u", fresh, i);

		p[i] = dance(vm,
			     "thread main; repeat 400; lock main-loop.c:1; unlock; idle 100000; "
			     "end; thread CPU 0/TCG; repeat 400; lock cpus.c:1; unlock; idle "
			     "100000; end");
	}
	for (int i = 0; i < 600 && traced < N; i++) {
		g_usleep(100000);
		g_free(text);
		text = scrape(&x, NULL);
		traced = value_of(text, "bqlstat_vms{state=\"traced\"}");
	}
	g_assert_cmpfloat(traced, ==, N);
	for (unsigned i = 0; i < N; i++)
		g_assert_true(lab_process_write(p[i], "x", NULL));
	g_usleep(1000000);
	g_free(text);
	text = scrape(&x, OPEN_METRICS);
	cpu = cpu_of(text);
	began = lab_now_ns();
	for (unsigned i = 0; i < SCRAPES; i++) {
		uint64_t begin = lab_now_ns();
		double second;

		g_free(text);
		text = scrape(&x, OPEN_METRICS "Accept-Encoding: identity\r\n");
		best = MIN(best, lab_now_ns() - begin);
		/* From the last scrape to this one, its own work for the most part before it. */
		second = (cpu_of(text) - cpu) / ((lab_now_ns() - began) / 1e9);
		if (i)
			calm = MIN(calm, second);
		cpu = cpu_of(text);
		began = lab_now_ns();
		control = MIN(control, health_ns(&x));
		g_usleep(1000000);
	}
	memory = value_of(text, "process_resident_memory_bytes");
	g_test_message("%d VMs, %.0f KB: best scrape %.1f ms (health check %.2f ms), %.2f%% of a "
		       "core at a scrape a second, %.1f MB",
		       N, strlen(text) / 1e3, best / 1e6, control / 1e6, calm * 100, memory / 1e6);
	g_assert_cmpuint(best, <, 50000000 + 20 * control);
	if (lean)
		g_assert_cmpfloat(memory, <, 40e6);
	/*
	 * Of the calmest second: each has the same work of ours, and in some it also has to look at
	 * programs that others on this machine have just built and started.
	 */
	g_assert_cmpfloat(calm, <, lean ? 0.01 : 0.1);
	for (unsigned i = 0; i < N; i++)
		lab_process_free(p[i]);
	stop_exporter(&x);
}

/* ---- bad clients ---- */

static int dial(const struct exporter *x)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_port = htons(atoi(strchr(x->at, ':') + 1));
	g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
	return fd;
}

static void shout(int fd, const char *text, size_t size)
{
	/* It may well have hung up. */
	if (send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

/* Slow, greedy and mad ones: others are served, QEMUs attached, memory stays. */
static void bad_clients(void)
{
	enum { SLOW = 40, GREEDY = 20, MAD = 200 };
	g_autofree char *vm = named("victim"), *text = NULL;
	g_autofree char *noise = g_malloc(65536);
	int fds[SLOW + GREEDY];
	struct lab_process *p;
	struct exporter x;
	double before, after;

	if (!start_exporter(&x, "--match", vm))
		return;
	text = scrape(&x, NULL);
	before = value_of(text, "process_resident_memory_bytes");
	for (unsigned i = 0; i < SLOW + GREEDY; i++) {
		fds[i] = dial(&x);
		/* Half a request; or many, whose answers are never read. */
		shout(fds[i], "GET /metrics HTTP/1.1\r\nHo", 25);
		for (unsigned j = 0; i >= SLOW && j < 50; j++)
			shout(fds[i], "st: x\r\n\r\nGET /metrics HTTP/1.1\r\nHo", 34);
	}
	for (unsigned i = 0; i < MAD; i++) {
		int fd = dial(&x);

		for (unsigned j = 0; j < 65536; j++)
			noise[j] = i % 4 == 0 ? 'a' : g_test_rand_int();
		if (i % 4 == 1)
			shout(fd, "GET / HTTP/1.1\r\nX: ", 19);
		shout(fd, noise, 1 + g_test_rand_int_range(0, 65535));
		close(fd);
	}
	p = dance(vm, "thread main; lock main-loop.c:1; unlock");
	g_test_message("traced after %.0f ms", wait_traced(&x, vm, true) / 1e6);
	g_free(text);
	text = scrape(&x, NULL);
	after = value_of(text, "process_resident_memory_bytes");
	g_test_message("memory %.1f -> %.1f MB", before / 1e6, after / 1e6);
	if (lean)
		g_assert_cmpfloat(after, <, before + 12e6);
	for (unsigned i = 0; i < SLOW + GREEDY; i++)
		close(fds[i]);
	lab_process_free(p);
	stop_exporter(&x);
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

/* With the powers that the systemd unit leaves it, and no others. */
static void as_the_unit(void)
{
	g_autofree char *vm = named("unit"), *unit = NULL, *powers = NULL, *says = NULL;
	g_autofree char *here = g_canonicalize_filename(lab_program("bqlstat"), NULL);
	g_autofree char *setpriv = g_find_program_in_path("setpriv");
	g_autoptr(GString) bounding = g_string_new("-all");
	g_auto(GStrv) words = NULL;
	struct lab_process *p;
	struct exporter x;
	int code;

	if (!setpriv || geteuid()) {
		g_test_skip("needs root and setpriv");
		return;
	}
	while (!unit && strlen(here) > 1) {
		char *up = g_path_get_dirname(here);
		g_autofree char *path =
			g_build_filename(up, "docs", "bqlstat-export.service", NULL);

		g_file_get_contents(path, &unit, NULL, NULL);
		g_free(here);
		here = up;
	}
	g_assert_nonnull(unit);
	powers = strstr(unit, "\nCapabilityBoundingSet=");
	g_assert_nonnull(powers);
	powers = g_strndup(powers + 23, strcspn(powers + 23, "\n"));
	words = g_strsplit(powers, " ", -1);
	for (char **word = words; *word; word++) {
		g_autofree char *name = g_ascii_strdown(*word + strlen("CAP_"), -1);

		g_string_append_printf(bounding, ",+%s", name);
	}
	g_snprintf(x.at, sizeof(x.at), "127.0.0.1:%u", lab_free_port());
	x.process = lab_process_new((const char *[]){setpriv, "--bounding-set", bounding->str,
						     "--inh-caps", "-all", "--no-new-privs",
						     lab_program("bqlstat"), "export", "--listen",
						     x.at, "--match", vm, NULL},
				    NULL, NULL);
	if (!lab_process_expect(x.process, "serving", PATIENCE_MS, NULL)) {
		says = lab_process_stderr(x.process);
		g_error("%s: %s", bounding->str, says);
	}
	p = dance(vm, "thread IO one; repeat 5; lock main-loop.c:1; unlock; end");
	wait_traced(&x, vm, true);
	lab_process_free(p);
	lab_process_kill(x.process, SIGTERM);
	says = outcome(x.process, &code);
	g_assert_cmpint(code, ==, 0);
	lab_process_free(x.process);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_snprintf(fresh, sizeof(fresh), "export-%d", getpid());
	g_test_add_func("/export/usage", usage);
	g_test_add_func("/export/cannot", cannot);
	g_test_add_func("/export/figures", figures);
	g_test_add_func("/export/unfinished", unfinished);
	g_test_add_func("/export/by-pid", by_pid);
	g_test_add_func("/export/as-the-unit", as_the_unit);
	g_test_add_func("/export/bad-clients", bad_clients);
	g_test_add_func("/export/cycles", cycles);
	g_test_add_func("/export/fifty", fifty);
	return g_test_run();
}
