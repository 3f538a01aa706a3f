/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recordings that begin and end by themselves: of QEMUs that come and go, until a migration is
 * over, on a terminal.
 */
#include <sys/stat.h>

#include "tests/scenarios/recording.h"

/* A lockdance of our own name: others may run on this machine. */
static char *program;

static struct lab_process *dance(const char *pairs)
{
	const char *argv[] = {program, "--wait-start", "--pairs", pairs, NULL};
	struct lab_process *p = lab_process_new(argv, NULL, NULL);

	g_assert_nonnull(p);
	return p;
}

static bool cannot(struct lab_process *p)
{
	g_autofree char *says = lab_process_stderr(p);

	if (!strstr(says, "CAP_BPF") && !strstr(says, "no BTF"))
		return false;
	g_test_skip(says);
	return true;
}

/* One that runs and one that comes later: both whole, each a run; then it is over. */
static void matching(void)
{
	g_autofree char *file = fresh_path("match.run"), *name = g_path_get_basename(program);
	g_autofree char *pattern = g_strdup_printf("%.*s*", (int)strlen(name) - 2, name);
	struct lab_process *first = dance("1000"), *second = NULL, *p;
	g_autofree char *says = NULL;
	uint64_t acquired[2] = {};
	int code;

	g_assert_true(lab_process_expect(first, "ready", PATIENCE_MS, NULL));
	p = bqlstat("record", "--match", pattern, "-o", file, "--until", "exit", "-m", "0", NULL);
	if (!lab_process_expect(p, "recording process", PATIENCE_MS, NULL) && cannot(p))
		goto cleanup;
	second = dance("3000");
	g_assert_true(lab_process_expect(second, "ready", PATIENCE_MS, NULL));
	{
		g_autofree char *line =
			g_strdup_printf("recording process %d\n", lab_process_pid(second));

		g_assert_true(lab_process_expect(p, line, PATIENCE_MS, NULL));
	}
	g_assert_true(lab_process_write(first, "x", NULL));
	g_assert_true(lab_process_expect(p, "run 1: process", PATIENCE_MS, NULL));
	g_assert_true(lab_process_running(p));
	g_assert_true(lab_process_write(second, "x", NULL));
	says = outcome(p, &code);
	g_assert_cmpint(code, ==, 0);
	for (int i = 0; i < 2; i++) {
		struct run *run = load(file, i + 1);

		acquired[i] = run_acquired(run);
		g_assert_cmpstr(run->ended, ==, "until the QEMU exited");
		run_free(run);
	}
	g_assert_cmpuint(acquired[0], ==, 1000);
	g_assert_cmpuint(acquired[1], ==, 3000);
cleanup:
	lab_process_free(first);
	lab_process_free(second);
	lab_process_free(p);
}

/* One after the other, until stopped: each is there as soon as it has ended. */
static void many(void)
{
	g_autofree char *file = fresh_path("many.run"), *name = g_path_get_basename(program);
	struct lab_process *p = bqlstat("record", "-M", name, "-o", file, "-m", "0", NULL);
	g_autofree char *says = NULL;
	int code;

	if (!lab_process_expect(p, "waiting for one", PATIENCE_MS, NULL) && cannot(p)) {
		lab_process_free(p);
		return;
	}
	for (int i = 1; i <= 5; i++) {
		g_autofree char *done = g_strdup_printf("run %d: process", i), *line = NULL;
		struct lab_process *d = dance("100");

		g_assert_true(lab_process_expect(d, "ready", PATIENCE_MS, NULL));
		line = g_strdup_printf("recording process %d\n", lab_process_pid(d));
		g_assert_true(lab_process_expect(p, line, PATIENCE_MS, NULL));
		g_assert_true(lab_process_write(d, "x", NULL));
		g_assert_true(lab_process_expect(p, done, PATIENCE_MS, NULL));
		lab_process_free(d);
	}
	lab_process_kill(p, SIGTERM);
	says = outcome(p, &code);
	g_assert_cmpint(code, ==, 0);
	lab_process_free(p);
	for (int i = 1; i <= 5; i++) {
		struct run *run = load(file, i);

		g_assert_cmpuint(run_acquired(run), ==, 100);
		run_free(run);
	}
}

static void until_migration(gconstpointer version)
{
	const struct lab_pair_options options = {
		.vm = {.version = version, .guest = true, .devices = LAB_DEVICES_DOZEN}};
	g_autofree char *file = fresh_path("until.run"), *pid = NULL, *says = NULL;
	GError *error = NULL;
	struct lab_pair *pair = lab_pair_new(&options, &error);
	struct lab_migration result = {};
	struct lab_process *p;
	struct run *run;
	int code;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	p = bqlstat("record", "-p", pid, "-o", file, "--until", "migration", "-m", "0", NULL);
	if (!lab_process_expect(p, "recording process", PATIENCE_MS, NULL) && cannot(p))
		goto cleanup;
	g_usleep(500000);
	g_assert_true(lab_process_running(p));
	g_assert_true(lab_pair_migrate(pair, NULL));
	g_assert_true(lab_pair_wait(pair, 60000, &result, &error));
	g_assert_no_error(error);
	says = outcome(p, &code);
	g_assert_cmpint(code, ==, 0);
	g_assert_true(lab_vm_alive(lab_pair_destination(pair), PATIENCE_MS, NULL));
	run = load(file, 1);
	g_assert_cmpstr(run->ended, ==, "until the migration had ended");
	g_assert_cmpuint(run->marks->len, >, 3);
	run_free(run);
cleanup:
	lab_migration_clear(&result);
	lab_process_free(p);
	lab_pair_free(pair);
}

/* The source's own figures, beside what its QEMU says. */
static void source(gconstpointer version)
{
	const struct lab_pair_options options = {
		.vm = {.version = version, .guest = true, .devices = LAB_DEVICES_DOZEN}};
	g_autofree char *file = fresh_path("source.run"), *pid = NULL;
	GError *error = NULL;
	struct lab_pair *pair = lab_pair_new(&options, &error);
	struct lab_migration result = {};
	double save = 0, downtime = 0;
	struct lab_process *p;
	struct run *run;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_source(pair)));
	p = start_recording(file, pid, "1ms");
	if (!p)
		goto cleanup;
	g_assert_true(lab_pair_migrate(pair, NULL));
	g_assert_true(lab_pair_wait(pair, 60000, &result, &error));
	g_assert_no_error(error);
	stop_recording(p);
	run = load(file, 1);
	g_assert_true(run_metric(run, "source_save_ns", &save));
	g_assert_true(run_metric(run, "source_downtime_ns", &downtime));
	g_test_message("save %.1f ms, downtime %.1f ms; QEMU says %d ms", save / 1e6,
		       downtime / 1e6, (int)result.downtime_ms);
	g_assert_cmpfloat(save, >, 0);
	g_assert_cmpfloat(downtime, >, save);
	/* It rounds, and takes its own begin and end. */
	g_assert_cmpfloat(downtime / 1e6, <, 1.5 * result.downtime_ms + 30);
	g_assert_cmpfloat(downtime / 1e6, >, 0.5 * result.downtime_ms - 30);
	run_free(run);
cleanup:
	lab_migration_clear(&result);
	lab_pair_free(pair);
}

static void refused(void)
{
	static const struct {
		const char *args[8], *says;
	} cases[] = {
		{{"-o", "x", "-p", "1", "--until", "doomsday"}, "--until wants exit or migration"},
		{{"-o", "x", "-p", "1", "-M", "x"}, "say what to record"},
		{{"-o", "x", "-p", "1", "-m", "101"}, "--max-overhead wants"},
		{{"-o", "x", "-p", "1", "-m", "lots"}, "--max-overhead wants"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *const *a = cases[i].args;
		struct lab_process *p = bqlstat("record", a[0], a[1], a[2], a[3], a[4], a[5], NULL);
		g_autofree char *says = NULL;
		int code;

		says = outcome(p, &code);
		lab_process_free(p);
		g_assert_cmpint(code, ==, 2);
		if (!strstr(says, cases[i].says))
			g_error("wanted \"%s\": %s", cases[i].says, says);
	}
}

int main(int argc, char **argv)
{
	g_autofree char *file = g_strdup_printf("dance-%d-x", getpid()), *content = NULL;
	static const char *const versions[] = {"7.2", "10.0", "11.1"};
	gsize size;

	g_test_init(&argc, &argv, NULL);
	program = g_build_filename(lab_tmpdir(), file, NULL);
	g_assert_true(g_file_get_contents(lab_program("lockdance"), &content, &size, NULL));
	g_assert_true(g_file_set_contents(program, content, size, NULL));
	chmod(program, 0755);
	g_test_add_func("/record/matching", matching);
	g_test_add_func("/record/many", many);
	g_test_add_func("/record/refused", refused);
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *path = g_strdup_printf("/record/until-migration/%s", versions[i]);

		g_test_add_data_func(path, versions[i], until_migration);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *path = g_strdup_printf("/record/source/%s", versions[i]);

		g_test_add_data_func(path, versions[i], source);
	}
	return g_test_run();
}
