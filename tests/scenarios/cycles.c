/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat comes and goes, or is killed, while QEMUs migrate: nothing of it stays in them, the
 * migration comes to its end and the guest goes on. CYCLES and KILLS in the environment say how
 * many, `make soak` asks for 200 and 20.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "analyzers/lab/journey.h"
#include "probes/tracer.h"
#include "tests/scenarios/recording.h"

#define CYCLES_A_PAIR 20

static unsigned number(const char *name, unsigned otherwise)
{
	const char *value = g_getenv(name);

	return value ? (unsigned)atoi(value) : otherwise;
}

/* A QEMU, and its memory to look at. */
struct looked {
	pid_t pid;
	struct seam_map *map;
	uint64_t bias;
	int mem_fd;
};

static struct looked look(struct lab_vm *vm)
{
	struct looked l = {.pid = lab_vm_pid(vm)};
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", l.pid);
	struct seam_error err;

	l.mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(l.mem_fd, >=, 0);
	g_assert_cmpint(seam_map_open_pid(l.pid, &l.map, &l.bias, &err), ==, 0);
	return l;
}

static void look_away(struct looked *l)
{
	seam_map_free(l->map);
	close(l->mem_fd);
}

/* Its probe points whose bytes are not those of its file. */
static unsigned probed(const struct looked *l)
{
	unsigned differ = 0;
	size_t n;

	for (const struct seam_point *p = seam_map_points(l->map, &n); n--; p++) {
		uint8_t live[16];

		g_assert_cmpint(pread(l->mem_fd, live, p->code_len, l->bias + p->vaddr), ==,
				p->code_len);
		differ += memcmp(live, p->code, p->code_len) != 0;
	}
	return differ;
}

static void expect_clean(const struct looked *l, unsigned timeout_ms)
{
	for (unsigned i = 0; i < timeout_ms / 20 && probed(l); i++)
		g_usleep(20000);
	g_assert_cmpuint(probed(l), ==, 0);
}

/* It goes on until it is let: slow, and the guest writes faster than that. */
static struct lab_pair *pair_that_migrates(const char *version, GError **error)
{
	const struct lab_pair_options options = {
		.vm = {.version = version, .guest = true, .dirty_mib = 16},
		.max_bandwidth = 4 << 20,
		.downtime_limit_ms = 1,
	};
	struct lab_pair *pair = lab_pair_new(&options, error);

	if (pair && !lab_pair_migrate(pair, error))
		g_clear_pointer(&pair, lab_pair_free);
	return pair;
}

static void let_it_arrive(struct lab_pair *pair)
{
	struct lab_migration result = {};
	GError *error = NULL;

	g_assert_true(lab_qmp_ok(lab_pair_source(pair), &error,
				 "migrate-set-parameters {'max-bandwidth': 1000000000, "
				 "'downtime-limit': 3000}"));
	lab_pair_wait(pair, 60000, &result, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	lab_vm_alive(lab_pair_destination(pair), 15000, &error);
	g_assert_no_error(error);
	lab_migration_clear(&result);
}

/* The process that holds a bqlstat's probes; 0: none yet, or none any more. */
static pid_t keeper_of(pid_t bqlstat)
{
	DIR *dir = opendir("/proc");
	pid_t found = 0;

	for (struct dirent *e; !found && (e = readdir(dir));) {
		g_autofree char *path = g_strdup_printf("/proc/%s/stat", e->d_name), *stat = NULL;
		int pid, parent;

		if (g_file_get_contents(path, &stat, NULL, NULL) &&
		    sscanf(stat, "%d (uprobe-keeper) %*c %d", &pid, &parent) == 2 &&
		    parent == bqlstat)
			found = pid;
	}
	closedir(dir);
	return found;
}

static void expect_gone(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d", pid);

	for (unsigned i = 0; i < 500 && pid && g_file_test(path, G_FILE_TEST_EXISTS); i++)
		g_usleep(20000);
	g_assert_false(pid && g_file_test(path, G_FILE_TEST_EXISTS));
}

/* Until more, or fewer, of its points are probed than before. False: it ended first. */
static bool await_change(struct lab_process *p, const struct looked *l, bool more)
{
	unsigned before = probed(l), now = before;

	while (lab_process_running(p)) {
		now = probed(l);
		if (more ? now > before : now < before)
			return true;
		before = now;
	}
	return false;
}

/* When it is killed: the kernel does not finish what a killed thread began. */
enum moment { NEVER, ANYWHERE, GOING_IN, GOING_OUT, MOMENTS };

static void kill_at(struct lab_process *p, enum moment moment, const struct looked *l)
{
	switch (moment) {
	case ANYWHERE:
		g_usleep(g_test_rand_int_range(50000, 800000));
		break;
	case GOING_OUT:
		/* By itself, when its time is over. */
		await_change(p, l, true);
		await_change(p, l, false);
		break;
	case GOING_IN:
		await_change(p, l, true);
		break;
	case NEVER:
	case MOMENTS:
		return;
	}
	lab_process_kill(p, SIGKILL);
}

/* False: bqlstat cannot record here. */
static bool one_cycle(const struct looked ends[2], const char *file, enum moment moment)
{
	g_autofree char *pids = g_strdup_printf("%d,%d", ends[0].pid, ends[1].pid), *says = NULL;
	struct lab_process *p = bqlstat("record", "-p", pids, "-o", file, "-d", "50ms", "-q", NULL);
	pid_t keeper = 0;
	int code;

	while (moment != NEVER && !keeper && lab_process_running(p))
		keeper = keeper_of(lab_process_pid(p));
	kill_at(p, moment, &ends[1]);
	says = outcome(p, &code);
	lab_process_free(p);
	if (code == 3 && (strstr(says, "CAP_BPF") || strstr(says, "no BTF"))) {
		g_test_skip(says);
		return false;
	}
	if (code && moment == NEVER)
		g_error("bqlstat ended with %d: %s", code, says);
	/* A killed one's are taken out after it. */
	expect_clean(&ends[0], moment ? 10000 : 0);
	expect_clean(&ends[1], moment ? 10000 : 0);
	expect_gone(keeper);
	return true;
}

static void cycles(gconstpointer version)
{
	unsigned left = number("CYCLES", 9), kills = number("KILLS", 3), every;
	g_autofree char *file = fresh_path("cycles.run");
	enum moment next = ANYWHERE;
	bool can = true;

	every = kills ? left / kills : 0;
	while (left && can) {
		GError *error = NULL;
		struct lab_pair *pair = pair_that_migrates(version, &error);
		struct looked ends[2];

		if (lab_skip(error))
			return;
		g_assert_no_error(error);
		ends[0] = look(lab_pair_source(pair));
		ends[1] = look(lab_pair_destination(pair));
		for (unsigned i = 0; i < CYCLES_A_PAIR && left && can; i++, left--) {
			bool kill = every && left % every == 0;

			can = one_cycle(ends, file, kill ? next : NEVER);
			if (kill && ++next == MOMENTS)
				next = ANYWHERE;
		}
		look_away(&ends[0]);
		look_away(&ends[1]);
		let_it_arrive(pair);
		lab_pair_free(pair);
	}
}

/* Who kills what holds the probes has them out for a moment: the recording goes on. */
static void keeper_killed(void)
{
	GError *error = NULL;
	const struct lab_vm_options options = {.guest = true, .dirty_mib = 1};
	struct lab_vm *vm = lab_vm_new(&options, &error);
	g_autofree char *file = fresh_path("keeper.run"), *pid = NULL;
	struct lab_process *p;
	struct looked l;
	struct run *run;
	pid_t first;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	l = look(vm);
	pid = g_strdup_printf("%d", l.pid);
	p = start_recording(file, pid, "1ms");
	if (p) {
		uint64_t begun_ns = lab_now_ns(), killed_ns, back_ns, since_ns;
		unsigned all = probed(&l);

		first = keeper_of(lab_process_pid(p));
		g_assert_cmpint(first, >, 0);
		g_usleep(500000);
		killed_ns = lab_now_ns();
		kill(first, SIGKILL);
		expect_gone(first);
		for (unsigned i = 0; i < 500 && probed(&l) != all; i++)
			g_usleep(20000);
		g_assert_cmpuint(probed(&l), ==, all);
		back_ns = lab_now_ns();
		g_usleep(1000000);
		since_ns = lab_now_ns() - back_ns;
		stop_recording(p);
		expect_clean(&l, 0);
		run = load(file, 1);
		/* Until it was killed, and since the probes are back, which it may notice late. */
		g_assert_cmpuint(run_covered_ns(run), >, killed_ns - begun_ns + since_ns / 2);
		g_assert_cmpuint(run_covered_ns(run), <=, run->duration_ns);
		g_assert_cmpuint(run_acquired(run), >, 0);
		run_free(run);
	}
	look_away(&l);
	lab_vm_free(vm);
}

/* Descriptors of a process: what a tracer that comes and goes in it would leak. */
static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The same in one process, as top and the exporter do it: again and again on one tracer. */
static void one_tracer(void)
{
	unsigned n = number("CYCLES", 9), before = 0;
	struct tracer_opts opts = {.threshold_ns = 1000000};
	struct tracer_error err;
	struct tracer *tracer;
	GError *error = NULL;
	struct lab_pair *pair;
	struct looked l;
	int ret = tracer_new(&opts, &tracer, &err);

	if (ret == -EPERM || ret == -EACCES || ret == -ENOTSUP) {
		g_test_skip(err.text);
		return;
	}
	g_assert_cmpint(ret, ==, 0);
	pair = pair_that_migrates("7.2", &error);
	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	l = look(lab_pair_destination(pair));
	for (unsigned i = 0; i < n; i++) {
		int target = tracer_add(tracer, l.pid, &err);

		if (target < 0)
			g_error("%s", err.text);
		g_usleep(10000);
		tracer_poll(tracer);
		tracer_forget(tracer, target);
		g_assert_cmpuint(probed(&l), ==, 0);
		if (!i)
			before = descriptors();
	}
	g_assert_cmpuint(descriptors(), ==, before);
	tracer_free(tracer);
	look_away(&l);
	let_it_arrive(pair);
	lab_pair_free(pair);
}

/*
 * What it takes of a core to be attached to a QEMU that does nothing: acquisitions are counted,
 * bqlstat's own time is measured, and doubles on a machine that does other things too.
 */
static void idle_cost(void)
{
	GError *error = NULL;
	/* Its guest wakes up 18 times a second, for a byte on the serial port. */
	const struct lab_vm_options options = {.guest = true, .dirty_mib = 1, .round_ms = 54};
	struct lab_vm *vm = lab_vm_new(&options, &error);
	g_autofree char *file = fresh_path("idle.run"), *pid = NULL;
	struct lab_process *p;
	struct run *run;
	double cores, own;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	p = start_recording(file, pid, "1ms");
	if (p) {
		g_usleep(1000000);
		own = cpu_seconds(lab_process_pid(p));
		g_usleep(4000000);
		own = (cpu_seconds(lab_process_pid(p)) - own) / 4;
		stop_recording(p);
		run = load(file, 1);
		cores = (double)run_acquired(run) * run->pair_ns / run->duration_ns;
		g_test_message("attached to an idle QEMU: %.4f%% of a core, %.1f acquisitions/s; "
			       "bqlstat itself %.4f%%",
			       100 * cores, run_acquired(run) * 1e9 / run->duration_ns, 100 * own);
		g_assert_cmpuint(run_acquired(run), >, 0);
		g_assert_cmpfloat(cores, <, 0.001);
		g_assert_cmpfloat(own, <, 0.003);
		run_free(run);
	}
	lab_vm_free(vm);
}

/* ---- memory ---- */

/* The most that it ever had resident, in bytes; 0: it is gone. */
static uint64_t peak_bytes(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/status", pid), *text = NULL;
	const char *line;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	line = strstr(text, "\nVmHWM:");
	return line ? g_ascii_strtoull(line + strlen("\nVmHWM:"), NULL, 10) * 1024 : 0;
}

/* The number after a name at the beginning of a line. */
static bool number_of(const char *text, const char *name, uint64_t *value)
{
	g_autofree char *begin = g_strdup_printf("\n%s:", name);
	const char *line = strstr(text, begin);

	if (line)
		*value = g_ascii_strtoull(line + strlen(begin), NULL, 10);
	return line;
}

/* What the kernel says that the BPF maps of a process take, each once. */
static uint64_t map_bytes(pid_t pid)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/fdinfo", pid);
	g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	uint64_t sum = 0, id, bytes;
	const char *fd;

	while (dir && (fd = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(folder, fd, NULL), *text = NULL;

		if (g_file_get_contents(path, &text, NULL, NULL) &&
		    number_of(text, "map_id", &id) && number_of(text, "memlock", &bytes) &&
		    g_hash_table_add(seen, GUINT_TO_POINTER(id)))
			sum += bytes;
	}
	return sum;
}

/* A sanitizer's own would be counted. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool lean = false;
#else
static const bool lean = true;
#endif

/* While a VM with a dozen devices arrives, each hold of 100 us with its stack, to the written file.
 */
static void footprint(gconstpointer version)
{
	const struct lab_pair_options options = {
		.vm = {.version = version,
		       .devices = LAB_DEVICES_DOZEN,
		       .guest = true,
		       .fill_mib = 32,
		       .dirty_mib = 4},
	};
	const struct lab_journey journey = {.copy = LAB_COPY_POST};
	g_autofree char *file = fresh_path("footprint.run"), *pid = NULL, *says = NULL;
	uint64_t peak = 0, maps, now;
	struct lab_process *p;
	GError *error = NULL;
	struct lab_pair *pair = lab_journey_new(&journey, &options, &error);
	struct run *run;
	pid_t recorder;
	int code;

	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	p = start_recording(file, pid, "100us");
	if (p) {
		lab_journey_arrive(&journey, pair, 60000, NULL, &error);
		g_assert_no_error(error);
		recorder = lab_process_pid(p);
		maps = map_bytes(recorder);
		lab_process_kill(p, SIGINT);
		while ((now = peak_bytes(recorder))) {
			peak = MAX(peak, now);
			g_usleep(1000);
		}
		says = outcome(p, &code);
		if (code)
			g_error("bqlstat ended with %d: %s", code, says);
		lab_process_free(p);
		run = load(file, 1);
		g_test_message(
			"%.1f MB resident at most, maps of %.1f MB; %u long holds, %u stacks",
			peak / 1e6, maps / 1e6, run->holds->len, run->stacks->len);
		g_assert_cmpuint(run->stacks->len, >, 0);
		g_assert_cmpuint(peak, >, 0);
		g_assert_true(peak < 50000000 || !lean);
		g_assert_cmpuint(maps, >, 1000000);
		g_assert_cmpuint(maps, <, 32000000);
		run_free(run);
	}
	lab_pair_free(pair);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *path = g_strdup_printf("/cycles/%s", versions[i]);

		g_autofree char *memory = g_strdup_printf("/cycles/footprint/%s", versions[i]);

		g_test_add_data_func(path, versions[i], cycles);
		g_test_add_data_func(memory, versions[i], footprint);
	}
	g_test_add_func("/cycles/keeper-killed", keeper_killed);
	g_test_add_func("/cycles/one-tracer", one_tracer);
	g_test_add_func("/cycles/idle-cost", idle_cost);
	return g_test_run();
}
