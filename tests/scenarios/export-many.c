/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat export in the long run: QEMUs that come and go, many at once, and clients that mean harm.
 *
 * EXPORT_CYCLES=200 starts and kills that many QEMUs (make soak); else a dozen.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/scenarios/export.h"

/* A sanitizer keeps what was freed, and takes its time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool lean = false;
#else
static const bool lean = true;
#endif

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

static bool more(const struct resources *a, const struct resources *b)
{
	return a->fds > b->fds || a->maps > b->maps || a->links > b->links;
}

/*
 * What is to be detached is so within a second or so, when the exporter has a processor: until it
 * holds no more than `limit` (NULL: than a second ago).
 */
static void settle(const struct exporter *x, const struct resources *limit, struct resources *r)
{
	struct resources last;

	count_resources(x, r);
	for (int i = 0; i < PATIENCE_MS / 1000; i++) {
		last = *r;
		g_usleep(1000000);
		count_resources(x, r);
		if (limit ? !more(r, limit) : !more(r, &last) && !more(&last, r))
			break;
	}
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
		if (i + 1 == warm)
			settle(&x, NULL, &before);
	}
	settle(&x, &before, &after);
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
	/* None is found, lost and found again. */
	g_assert_cmpfloat(value_of(text, "bqlstat_attaches_total{result=\"attached\"}"), ==,
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

/* Real QEMUs have 30 MB of program each, which must not count once for each. */
static void real_ones(void)
{
	enum { N = 8 };
	g_autofree char *all = named("*"), *text = NULL;
	const char *why, *qemu = lab_qemu_path("7.2", &why);
	struct lab_process *p[N];
	double memory[N];
	struct exporter x;

	if (!qemu) {
		g_test_skip(why);
		return;
	}
	if (!start_exporter(&x, "--match", all))
		return;
	for (unsigned i = 0; i < N; i++) {
		g_autofree char *vm = g_strdup_printf("%s-%u", fresh, i);
		g_autofree char *name = g_strdup_printf("guest=%s,debug-threads=on", vm);

		p[i] = lab_process_new((const char *[]){qemu, "-name", name, "-machine", "none",
							"-nodefaults", "-display", "none", "-accel",
							"tcg", "-S", NULL},
				       NULL, NULL);
		g_assert_nonnull(p[i]);
		wait_traced(&x, vm, true);
		g_free(text);
		text = scrape(&x, NULL);
		memory[i] = value_of(text, "process_resident_memory_bytes");
	}
	g_test_message("1 QEMU: %.1f MB; %d QEMUs: %.1f MB", memory[0] / 1e6, N,
		       memory[N - 1] / 1e6);
	if (lean) {
		g_assert_cmpfloat(memory[N - 1], <, 40e6);
		/* The first may find room that start-up has left. */
		g_assert_cmpfloat(memory[N - 1] - memory[1], <, (N - 2) * 1e6);
	}
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

/* As many connections as there are, none of which says what it wants: for a while that is all. */
static void crowd(void)
{
	enum { CROWD = 1000 };
	g_autofree char *text = NULL, *vm = named("crowd");
	struct rlimit limit;
	struct exporter x;
	struct lab_process *p;
	struct resources before, after;
	uint64_t began;
	int fds[CROWD];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = MIN(limit.rlim_max, CROWD + 500);
	setrlimit(RLIMIT_NOFILE, &limit);
	if (!start_exporter(&x, "--match", vm))
		return;
	count_resources(&x, &before);
	for (unsigned i = 0; i < CROWD; i++) {
		fds[i] = dial(&x);
		shout(fds[i], "GET /metrics HTTP/1.1\r\nHo", 25);
	}
	/* Nobody asks, and it is attached to all the same. */
	p = dance(vm, "thread main; lock main-loop.c:1; unlock");
	g_assert_true(lab_process_expect(x.process, "tracing", PATIENCE_MS, NULL));
	/* Those that say nothing are hung up on in the end, though they stay on the line. */
	began = lab_now_ns();
	while (!text && lab_now_ns() - began < PATIENCE_MS * 1000000ULL) {
		g_usleep(200000);
		text = lab_web_get(x.at, "/metrics", NULL, NULL);
	}
	g_assert_nonnull(text);
	g_test_message("served again after %.1f s", (lab_now_ns() - began) / 1e9);
	g_assert_cmpfloat(figure(text, "bqlstat_vm_traced", vm, NULL), ==, 1);
	for (unsigned i = 0; i < CROWD; i++)
		close(fds[i]);
	lab_process_free(p);
	wait_traced(&x, vm, false);
	settle(&x, &before, &after);
	g_test_message("fds %u -> %u, memory %.1f -> %.1f MB", before.fds, after.fds,
		       before.memory / 1e6, after.memory / 1e6);
	g_assert_cmpuint(after.fds, <=, before.fds + 1);
	if (lean)
		g_assert_cmpfloat(after.memory, <, before.memory + 12e6);
	stop_exporter(&x);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_snprintf(fresh, sizeof(fresh), "export-many-%d", getpid());
	g_test_add_func("/export-many/bad-clients", bad_clients);
	g_test_add_func("/export-many/crowd", crowd);
	g_test_add_func("/export-many/cycles", cycles);
	g_test_add_func("/export-many/fifty", fifty);
	g_test_add_func("/export-many/real-ones", real_ones);
	return g_test_run();
}
