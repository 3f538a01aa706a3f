/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat comes and goes, or is killed, while QEMUs migrate: nothing of it stays in them, the
 * migration comes to its end and the guest goes on. CYCLES and KILLS in the environment say how
 * many, `make soak` asks for 200 and 20.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "probes/tracer.h"
#include "tests/scenarios/recording.h"

#define CYCLES_A_PAIR 20

static unsigned number(const char *name, unsigned otherwise)
{
	const char *value = g_getenv(name);

	return value ? (unsigned)atoi(value) : otherwise;
}

/* Probe points of a QEMU whose bytes are not those of its file. */
static unsigned probed(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", pid);
	int fd = open(path, O_RDONLY);
	struct seam_error err;
	struct seam_map *map;
	unsigned differ = 0;
	uint64_t bias;
	size_t n;

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(seam_map_open_pid(pid, &map, &bias, &err), ==, 0);
	for (const struct seam_point *p = seam_map_points(map, &n); n--; p++) {
		uint8_t live[16];

		g_assert_cmpint(pread(fd, live, p->code_len, bias + p->vaddr), ==, p->code_len);
		differ += memcmp(live, p->code, p->code_len) != 0;
	}
	seam_map_free(map);
	close(fd);
	return differ;
}

static void expect_clean(pid_t pid, unsigned timeout_ms)
{
	for (unsigned i = 0; i < timeout_ms / 20 && probed(pid); i++)
		g_usleep(20000);
	g_assert_cmpuint(probed(pid), ==, 0);
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

/* False: bqlstat cannot record here. */
static bool one_cycle(struct lab_pair *pair, const char *file, bool kill)
{
	pid_t source = lab_vm_pid(lab_pair_source(pair));
	pid_t destination = lab_vm_pid(lab_pair_destination(pair));
	g_autofree char *pids = g_strdup_printf("%d,%d", source, destination), *says = NULL;
	struct lab_process *p = bqlstat("record", "-p", pids, "-o", file, "-d", "50ms", "-q", NULL);
	int code;

	if (kill) {
		/* Anywhere between its start and its end. */
		g_usleep(g_test_rand_int_range(50000, 800000));
		lab_process_kill(p, SIGKILL);
	}
	says = outcome(p, &code);
	lab_process_free(p);
	if (code == 3 && (strstr(says, "CAP_BPF") || strstr(says, "no BTF"))) {
		g_test_skip(says);
		return false;
	}
	if (code && !kill)
		g_error("bqlstat ended with %d: %s", code, says);
	/* The kernel takes out what a killed one held. */
	expect_clean(source, kill ? 10000 : 0);
	expect_clean(destination, kill ? 10000 : 0);
	return true;
}

static void cycles(gconstpointer version)
{
	unsigned left = number("CYCLES", 8), kills = number("KILLS", 2), every;
	g_autofree char *file = fresh_path("cycles.run");
	bool can = true;

	every = kills ? left / kills : 0;
	while (left && can) {
		GError *error = NULL;
		struct lab_pair *pair = pair_that_migrates(version, &error);

		if (lab_skip(error))
			return;
		g_assert_no_error(error);
		for (unsigned i = 0; i < CYCLES_A_PAIR && left && can; i++, left--)
			can = one_cycle(pair, file, every && left % every == 0);
		let_it_arrive(pair);
		lab_pair_free(pair);
	}
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
	unsigned n = number("CYCLES", 8), before = 0;
	struct tracer_opts opts = {.threshold_ns = 1000000};
	struct tracer_error err;
	struct tracer *tracer;
	GError *error = NULL;
	struct lab_pair *pair;
	pid_t pid;
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
	pid = lab_vm_pid(lab_pair_destination(pair));
	for (unsigned i = 0; i < n; i++) {
		int target = tracer_add(tracer, pid, &err);

		if (target < 0)
			g_error("%s", err.text);
		g_usleep(10000);
		tracer_poll(tracer);
		tracer_forget(tracer, target);
		g_assert_cmpuint(probed(pid), ==, 0);
		if (!i)
			before = descriptors();
	}
	g_assert_cmpuint(descriptors(), ==, before);
	tracer_free(tracer);
	let_it_arrive(pair);
	lab_pair_free(pair);
}

/* What it takes of a core to be attached to a QEMU that does nothing, counted and measured. */
static void idle_cost(void)
{
	GError *error = NULL;
	/* Its guest wakes up 18 times a second, for a byte on the serial port. */
	const struct lab_vm_options options = {.guest = true, .dirty_mib = 1, .round_ms = 54};
	struct lab_vm *vm = lab_vm_new(&options, &error);
	g_autofree char *file = fresh_path("idle.run"), *pid = NULL;
	struct lab_process *p;
	struct run *run;
	double cores;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	p = start_recording(file, pid, "1ms");
	if (p) {
		g_usleep(4000000);
		stop_recording(p);
		run = load(file, 1);
		cores = (double)run_acquired(run) * run->pair_ns / run->duration_ns;
		g_test_message("attached to an idle QEMU: %.4f%% of a core, %.1f acquisitions/s",
			       100 * cores, run_acquired(run) * 1e9 / run->duration_ns);
		g_assert_cmpuint(run_acquired(run), >, 0);
		g_assert_cmpfloat(cores, <, 0.001);
		run_free(run);
	}
	lab_vm_free(vm);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *path = g_strdup_printf("/cycles/%s", versions[i]);

		g_test_add_data_func(path, versions[i], cycles);
	}
	g_test_add_func("/cycles/one-tracer", one_tracer);
	g_test_add_func("/cycles/idle-cost", idle_cost);
	return g_test_run();
}
