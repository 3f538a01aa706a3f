/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On real QEMUs, bqlstat's counts agree with QEMU's own two: the trace event qemu_mutex_locked,
 * over a QEMU's whole life from its first instruction, and the lock profiler (HMP sync-profile).
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/scenarios/profile.h"
#include "tests/scenarios/recording.h"

static const char *const versions[] = {"7.2", "10.0", "11.1"};

/* Every site of either, within max(1%, slack). */
static void agree(GHashTable *ours, GHashTable *theirs, unsigned slack)
{
	uint64_t total = 0;
	GHashTableIter iter;
	gpointer site, n;

	g_hash_table_iter_init(&iter, theirs);
	while (g_hash_table_iter_next(&iter, &site, &n)) {
		int64_t want = GPOINTER_TO_SIZE(n);
		int64_t got = GPOINTER_TO_SIZE(g_hash_table_lookup(ours, site));

		total += want;
		g_test_message("%s: %d, QEMU says %d", (char *)site, (int)got, (int)want);
		g_assert_cmpint(ABS(got - want), <=, MAX(want / 100, (int64_t)slack));
	}
	g_assert_cmpuint(total, >, 500);
	g_hash_table_iter_init(&iter, ours);
	while (g_hash_table_iter_next(&iter, &site, &n))
		if (!g_hash_table_contains(theirs, site))
			g_assert_cmpuint(GPOINTER_TO_SIZE(n), <=, slack);
}

/*
 * "...qemu_mutex_locked taken mutex 0x55d0 (../../util/main-loop.c:318)": the BQL is the mutex that
 * the main loop takes.
 */
static GHashTable *traced(const char *log)
{
	GHashTable *counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autofree char *text = NULL, *bql = NULL;
	g_auto(GStrv) lines = NULL;

	g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
	lines = g_strsplit(text, "\n", -1);
	for (int pass = 0; pass < 2; pass++) {
		for (char **line = lines; *line; line++) {
			char *mutex = strstr(*line, "taken mutex 0x");
			char *open = mutex ? strchr(mutex, '(') : NULL;
			char *colon = open ? strrchr(open, ':') : NULL;

			if (!colon)
				continue;
			if (!pass && !bql && strstr(open, "util/main-loop.c"))
				bql = g_strndup(mutex, open - mutex);
			if (!pass || !bql || strncmp(mutex, bql, strlen(bql)))
				continue;
			*colon = 0;
			count(counts, open + 1, atoi(colon + 1), 1);
		}
	}
	g_assert_nonnull(bql);
	return counts;
}

static struct lab_vm *start(const struct lab_vm_options *options)
{
	g_autoptr(GError) error = NULL;
	struct lab_vm *vm = lab_vm_new(options, &error);

	if (g_error_matches(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE)) {
		g_test_skip(error->message);
		return NULL;
	}
	g_assert_no_error(error);
	return vm;
}

static void with_trace(gconstpointer version)
{
	g_autofree char *file = fresh_path("trace.run"), *log = fresh_path("trace.log");
	const char *launcher[] = {
		lab_program("bqlstat"), "record", "-o", file, "-q", "-m", "0", "--", NULL};
	const char *args[] = {"-trace", "enable=qemu_mutex_locked", "-D", log, NULL};
	const struct lab_vm_options options = {.name = "traced",
					       .version = version,
					       .cpus = 2,
					       .guest = true,
					       .launcher = launcher,
					       .args = args,
					       .timeout_ms = 30000};
	g_autoptr(GHashTable) ours = NULL, theirs = NULL;
	struct lab_vm *vm = start(&options);
	GError *error = NULL;
	struct run *run;
	int status;

	if (!vm)
		return;
	g_usleep(500000);
	lab_vm_quit(vm, PATIENCE_MS, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0);
	lab_vm_free(vm);
	run = load(file, 1);
	g_assert_cmpstr(run->ended, ==, "until the QEMU exited with status 0");
	g_assert_cmpuint(run_lost(run), ==, 0);
	/* Attached before anything took the lock. */
	g_assert_cmpuint(lost_of(run, "no_ask"), ==, 0);
	g_assert_cmpuint(lost_of(run, "no_acquire"), ==, 0);
	ours = counted(run, true);
	theirs = traced(log);
	agree(ours, theirs, 2);
	run_free(run);
}

/* Every site of ours is one of theirs, too. */
static void known(const struct run *run, GHashTable *ours, GHashTable *theirs)
{
	GHashTableIter iter;
	gpointer site, n;

	/* Whose question came before the probes has no site. */
	g_assert_cmpuint(count_at(ours, ":0"), <=, lost_of(run, "no_ask"));
	g_hash_table_iter_init(&iter, ours);
	while (g_hash_table_iter_next(&iter, &site, &n))
		g_assert_true(!n || !strcmp(site, ":0") || g_hash_table_contains(theirs, site));
}

static void hmp(struct lab_vm *vm, const char *command)
{
	GError *error = NULL;

	g_free(lab_hmp(vm, &error, "%s", command));
	g_assert_no_error(error);
}

/*
 * The kernel emulates the instructions under the lock's points (0.5 us a hit): a single-stepped one
 * would show as 9 us and more in every wait (the ask's and the acquire's) and every hold.
 */
static void emulated(const struct run *run)
{
	uint64_t shortest_wait = UINT64_MAX, shortest_hold = UINT64_MAX;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (u->wait.count < 20) /* too few, or a condvar's */
			continue;
		shortest_wait = MIN(shortest_wait, histogram_quantile(&u->wait, 0.1));
		shortest_hold = MIN(shortest_hold, histogram_quantile(&u->hold, 0.1));
	}
	g_test_message("raw: shortest waits %d ns, shortest holds %d ns", (int)shortest_wait,
		       (int)shortest_hold);
	g_assert_cmpuint(shortest_wait, <, 5000);
	g_assert_cmpuint(shortest_hold, <, 5000);
}

/*
 * The vCPUs run within the recording only, so that little happens between the profiler's readings
 * around it and those within.
 */
static void with_sync_profile(gconstpointer version)
{
	const struct lab_vm_options options = {
		.name = "profiled", .version = version, .cpus = 2, .guest = true};
	g_autofree char *file = fresh_path("profile.run"), *pid = NULL;
	GHashTable *readings[READINGS] = {NULL};
	g_autoptr(GHashTable) ours = NULL;
	struct lab_vm *vm = start(&options);
	GError *error = NULL;
	struct lab_process *p;
	struct run *run;

	if (!vm)
		return;
	lab_qmp_ok(vm, &error, "stop");
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	hmp(vm, "sync-profile on");
	readings[BEFORE] = profiled(vm);
	p = start_recording(file, pid, "1ms");
	if (!p)
		goto cleanup;
	readings[BEGUN] = profiled(vm);
	lab_qmp_ok(vm, &error, "cont");
	g_assert_no_error(error);
	for (int i = 0; i < 1500; i++) {
		lab_qmp_ok(vm, &error, "query-status");
		g_assert_no_error(error);
	}
	lab_qmp_ok(vm, &error, "stop");
	g_assert_no_error(error);
	readings[TO_END] = profiled(vm);
	stop_recording(p);
	readings[AFTER] = profiled(vm);
	run = load(file, 1);
	g_assert_cmpuint(run_lost(run), ==, 0);
	ours = counted(run, false);
	lie_between(version, ours, readings, 500);
	known(run, ours, readings[AFTER]);
	emulated(run);
	run_free(run);
cleanup:
	readings_clear(readings);
	lab_vm_free(vm);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *trace = g_strdup_printf("/agree/trace/%s", versions[i]);
		g_autofree char *profile = g_strdup_printf("/agree/sync-profile/%s", versions[i]);

		g_test_add_data_func(trace, versions[i], with_trace);
		g_test_add_data_func(profile, versions[i], with_sync_profile);
	}
	return g_test_run();
}
