/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat bench as its user meets it: what it refuses before it starts anything, a bench that is
 * stopped and goes on, and what the runs then hold.
 */
#include <glib/gstdio.h>

#include "analyzers/compare/fit.h"
#include "tests/scenarios/recording.h"

/* Small, and with a fault, so that what it measures is known. */
static const char scenario_text[] = "[scenario]\nname = small\n"
				    "[machine]\nmemory_mib = 64\nfill_mib = 8\ndirty_mib = 1\n"
				    "[fault]\noffset_bytes = 1048576\nkind = stall\n"
				    "stall_ms = 200\n";

static char *write_scenario(const char *name, const char *text)
{
	g_autofree char *file = g_strconcat(name, ".ini", NULL);
	char *path = g_build_filename(lab_tmpdir(), file, NULL);

	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	return path;
}

static struct lab_process *bench(const char *a, const char *b, const char *scenario,
				 const char *runs, const char *file)
{
	return bqlstat("bench", "--a", a, "--b", b, "-s", scenario, "-n", runs, "-w", "0", "-o",
		       file, NULL);
}

static void expect(struct lab_process *p, int code, const char *says)
{
	g_autofree char *said = NULL;
	int got;

	g_assert_true(lab_process_wait(p, 120000, &got, NULL));
	said = lab_process_stderr(p);
	g_test_message("%d: %s", got, said);
	g_assert_cmpint(got, ==, code);
	g_assert_nonnull(strstr(said, says));
	lab_process_free(p);
}

static void expect_scenario(const char *text, const char *says)
{
	g_autofree char *path = write_scenario("wrong", text), *file = fresh_path("never.bql");

	expect(bench("stock", "wait", path, "1", file), 2, says);
	g_assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
}

static void wrong_usage(void)
{
	g_autofree char *path = write_scenario("small", scenario_text);
	g_autofree char *file = fresh_path("never.bql"), *runs = NULL;

	expect(bqlstat("bench", NULL), 2, "are needed");
	expect(bqlstat("bench", "stock", "wait", NULL), 2, "what is stock?");
	expect(bench("stock", "wait", path, "0", file), 2, "-n wants 1 to");
	expect(bench("stock", "bananas", path, "1", file), 2, "what is \"bananas\"? A policy");
	expect(bench("stock", "b: /nowhere/qemu", path, "1", file), 2, "/nowhere/qemu");
	expect(bench("a: stock", "a: wait", path, "1", file), 2, "two sides have the label");
	expect(bench("stock", "b: migration.channels=3", path, "1", file), 2,
	       "a scenario has no [migration] channels");
	expect(bench("stock", "b: migration.multifd=many", path, "1", file), 2, "takes a number");
	expect(bench("stock", "wait", "no-such-scenario", "1", file), 2, "--list` lists");
	g_assert_false(g_file_test(file, G_FILE_TEST_EXISTS));

	expect_scenario("[machine]\nmemory = 64\n", "a scenario has no [machine] memory");
	expect_scenario("[machine]\nflat_out = perhaps\n", "takes true or false");
	expect_scenario("[fault 2]\nkind = flood\n", "it takes stall, slow");
	expect_scenario("machine\n", "wrong");
	/* What no QEMU need be started for. */
	expect_scenario("[machine]\ndevices = dozen, bananas\n", "it takes none, dozen");
	expect_scenario("[machine]\nmemory_mib = 64\nfill_mib = 63\n", "cannot fill 63 MiB of 64");
	expect_scenario("[machine]\nargs = -name 'x\n", "matching quote");
	expect_scenario("[migration]\nparameters = zlib-level 9\n", "members of a JSON object");
	expect(bench("stock", "b: machine.devices=bananas", path, "1", file), 2,
	       "b: [machine] devices = bananas");
	runs = g_strdup(lab_tmpdir());
	expect(bench("stock", "wait", path, "1", runs), 3, "bqlstat: ");
}

static void lists(void)
{
	g_autoptr(lab_process) p = bqlstat("bench", "--list", NULL);
	static const char *const shipped[] = {"precopy",       "multifd-stall", "device-stall",
					      "virtio-net-64", "postcopy",	"busy-vcpus"};
	g_autofree char *out = NULL;
	int code;

	g_assert_true(lab_process_wait(p, PATIENCE_MS, &code, NULL));
	g_assert_cmpint(code, ==, 0);
	out = lab_process_stdout(p);
	for (unsigned i = 0; i < G_N_ELEMENTS(shipped); i++)
		g_assert_nonnull(strstr(out, shipped[i]));
}

/* Whoever may not record is told so before a QEMU is started. */
static void no_right(void)
{
	g_autofree char *path = write_scenario("small", scenario_text);
	g_autofree char *copy = fresh_path("bqlstat"), *file = fresh_path("never.bql");
	const char *cp[] = {"cp", lab_program("bqlstat"), copy, NULL};
	const char *argv[] = {"setpriv",
			      "--reuid=65534",
			      "--clear-groups",
			      copy,
			      "bench",
			      "--a",
			      "stock",
			      "--b",
			      "wait",
			      "-s",
			      path,
			      "-n",
			      "1",
			      "-o",
			      file,
			      NULL};
	GError *error = NULL;

	if (geteuid()) {
		g_test_skip("only root can become somebody else");
		return;
	}
	g_assert_true(g_spawn_sync(NULL, (char **)cp, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
				   NULL, NULL, &error));
	/* Another user has to come as far as these. */
	g_chmod(lab_tmpdir(), 0711);
	g_chmod(path, 0644);
	g_chmod(copy, 0755);
	expect(lab_process_new(argv, NULL, NULL), 3, "each migration is recorded, which needs");
	g_chmod(lab_tmpdir(), 0700);
}

static unsigned count_runs(const char *file, const char *label)
{
	struct store_error err;
	struct store *store;
	GArray *runs;
	unsigned n = 0;

	if (store_open(file, &store, &err))
		g_error("%s", err.text);
	runs = store_list(store, &err);
	for (unsigned i = 0; i < runs->len; i++)
		n += !strcmp(g_array_index(runs, struct store_entry, i).label, label);
	g_array_unref(runs);
	store_close(store);
	return n;
}

static double metric(const struct run *run, const char *name)
{
	double value = 0;

	if (!run_metric(run, name, &value))
		g_error("run %d has no %s", (int)run->id, name);
	return value;
}

static void check_run(const char *file, int64_t id, const char *label, double pair)
{
	struct run *run = load(file, id);

	g_assert_cmpstr(run->label, ==, label);
	g_assert_cmpfloat(metric(run, METRIC_PAIR), ==, pair);
	g_assert_cmpfloat(metric(run, METRIC_POSITION), ==, id);
	g_assert_cmpfloat(metric(run, METRIC_FAILED), ==, 0);
	/* The stream stood still for 200 ms: while the source still sent, or after it had stopped.
	 */
	g_assert_cmpfloat(metric(run, METRIC_TOTAL), >, 0);
	g_assert_cmpfloat(metric(run, METRIC_TOTAL) + metric(run, METRIC_DOWNTIME_DST), >=, 200e6);
	g_assert_cmpfloat(metric(run, METRIC_QMP "_max_ns"), >=, metric(run, METRIC_QMP "_p50_ns"));
	g_assert_cmpfloat(metric(run, METRIC_IDLE "_p50_ns"), >, 0);
	g_assert_cmpstr(run_scenario(run, NULL), ==, "small");
	g_assert_cmpuint(run->usages->len, >, 0);
	g_assert_cmpuint(run->marks->len, >, 0);
	g_assert_true(g_str_has_prefix(run->qemu_version, "7.2"));
	run_free(run);
}

/* Processes whose command line holds that. */
static unsigned processes_with(const char *text)
{
	GDir *proc = g_dir_open("/proc", 0, NULL);
	const char *name;
	unsigned n = 0;

	while ((name = g_dir_read_name(proc))) {
		g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL);
		g_autofree char *line = NULL;
		gsize length = 0;

		if (!g_ascii_isdigit(*name) || !g_file_get_contents(path, &line, &length, NULL))
			continue;
		n += length && memmem(line, length, text, strlen(text));
	}
	g_dir_close(proc);
	return n;
}

/* A B, Ctrl-C in the middle of the next, the same command: B A A B, nothing twice, nothing left. */
static void goes_on(void)
{
	static const struct {
		const char *label;
		double pair;
	} plan[] = {{"stock", 1}, {"io-free", 1}, {"io-free", 2},
		    {"stock", 2}, {"stock", 3},	  {"io-free", 3}};
	/* Its QEMUs bear the name of a machine that nobody else here has. */
	const char *mark = "serial=bench-goes-on";
	g_autofree char *path = write_scenario("small", scenario_text);
	g_autofree char *file = fresh_path("runs.bql"), *said = NULL;
	g_autofree char *stock = g_strdup_printf("stock: stock -- -smbios type=1,%s", mark);
	g_autofree char *ours = g_strdup_printf("io-free: io-free -- -smbios type=1,%s", mark);
	struct lab_process *p = bench(stock, ours, path, "3", file);
	GError *error = NULL;
	unsigned done;
	int code;

	if (!lab_process_expect(p, "[2 of 6] io-free, round 1", 60000, &error)) {
		said = lab_process_stderr(p);
		if (!strstr(said, "each migration is recorded, which needs"))
			g_error("%s: %s", error->message, said);
		g_test_skip(said);
		g_clear_error(&error);
		lab_process_free(p);
		return;
	}
	/* Into the next one, with its QEMUs up. */
	for (unsigned i = 0; i < 5000 && processes_with(mark) < 4; i++)
		g_usleep(1000);
	g_assert_cmpuint(processes_with(mark), >, 1);
	lab_process_kill(p, SIGINT);
	expect(p, 130, "the same command goes on");
	/* The kernel kills them as their parent ends; giving their memory back takes a moment. */
	for (unsigned i = 0; i < 5000 && processes_with(mark); i++)
		g_usleep(1000);
	g_assert_cmpuint(processes_with(mark), ==, 0);
	done = count_runs(file, "stock") + count_runs(file, "io-free");
	g_assert_cmpuint(done, >=, 2);
	g_assert_cmpuint(done, <, G_N_ELEMENTS(plan));

	expect(bench(stock, ours, path, "3", file), 0, "of 6 runs already");
	for (unsigned i = 0; i < G_N_ELEMENTS(plan); i++)
		check_run(file, i + 1, plan[i].label, plan[i].pair);

	/* Nothing is left to do; and what is there is not mixed with anything else. */
	expect(bench(stock, ours, path, "3", file), 0, "6 runs are in");
	expect(bench(stock, "io-free: wait", path, "3", file), 2, "made in another way");
	expect(bench(stock, "wait", path, "3", file), 2, "not among what is compared");
	p = bqlstat("diff", file, NULL);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &code, NULL));
	g_assert_cmpint(code, ==, 0);
	lab_process_free(p);
}

/* A migration that fails is a result: it is counted, and a gate sees it. */
static void failing(void)
{
	g_autofree char *path = write_scenario("small", scenario_text);
	g_autofree char *file = fresh_path("failing.bql"), *said = NULL;
	struct lab_process *p =
		bench("well: stock", "cut: stock fault.kind=reset", path, "1", file);
	int code;

	g_assert_true(lab_process_wait(p, 120000, &code, NULL));
	said = lab_process_stderr(p);
	lab_process_free(p);
	if (code == 3 && strstr(said, "each migration is recorded, which needs")) {
		g_test_skip(said);
		return;
	}
	g_test_message("%s", said);
	g_assert_cmpint(code, ==, 0);
	g_assert_nonnull(strstr(said, "cut: the migration failed"));
	expect(bqlstat("diff", file, NULL), 3, "all its migrations failed");
}

/* A QEMU that loadvm leaves as it is would be stock by the name of a policy. */
static void not_taken(void)
{
	g_autofree char *path = write_scenario("small", scenario_text);
	g_autofree char *file = fresh_path("never.bql"), *said = NULL, *what = NULL;
	g_autofree char *wrapper = fresh_path("switched-off");
	g_autofree char *qemu = g_find_program_in_path("qemu-system-x86_64");
	g_autofree char *script = g_strdup_printf("#!/bin/sh\n"
						  "LOADVM_DISABLE=1 exec %s \"$@\"\n",
						  qemu);
	struct lab_process *p;
	int code;

	g_assert_true(g_file_set_contents_full(wrapper, script, -1, G_FILE_SET_CONTENTS_NONE, 0755,
					       NULL));
	what = g_strdup_printf("ours: io-free %s", wrapper);
	p = bench(what, "theirs: stock", path, "1", file);
	g_assert_true(lab_process_wait(p, 120000, &code, NULL));
	said = lab_process_stderr(p);
	lab_process_free(p);
	unlink(wrapper);
	if (code == 3 && strstr(said, "each migration is recorded, which needs")) {
		g_test_skip(said);
		return;
	}
	g_test_message("%s", said);
	g_assert_cmpint(code, ==, 3);
	g_assert_nonnull(strstr(said, "has no io-free: loadvm: switched off by LOADVM_DISABLE"));
	g_assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bench/wrong-usage", wrong_usage);
	g_test_add_func("/bench/lists", lists);
	g_test_add_func("/bench/no-right", no_right);
	g_test_add_func("/bench/goes-on", goes_on);
	g_test_add_func("/bench/failing", failing);
	g_test_add_func("/bench/not-taken", not_taken);
	return g_test_run();
}
