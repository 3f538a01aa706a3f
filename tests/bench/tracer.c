/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bqlstat's three probes cost a lock+unlock pair, beside bpftrace doing the same at function
 * entries, on a program with QEMU's own lock functions that does nothing else (A B C A B C). Fails
 * when bqlstat is less than ten times cheaper, or did not record every acquisition.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/lab/lab.h"
#include "analyzers/store/store.h"
#include "probes/tracer.h"

enum { ROUNDS = 5, TIMEOUT_MS = 60000 };

enum method { NONE, BQLSTAT, ONE_BY_ONE, BPFTRACE, METHODS };

static const struct {
	const char *name;
	unsigned pairs; /* so that a round takes about half a second */
} methods[METHODS] = {
	[NONE] = { "untraced", 20000000 },
	[BQLSTAT] = { "bqlstat record", 300000 },
	[ONE_BY_ONE] = { "the same without uprobe_multi", 300000 },
	[BPFTRACE] = { "bpftrace at function entries", 20000 },
};

static uint64_t recorded, counted;

static struct lab_process *start_bqlstat(pid_t pid, const char *file, bool one_by_one,
					 GError **error)
{
	const char *env[] = { one_by_one ? "BQLSTAT_ONE_BY_ONE=1" : NULL, NULL };
	g_autofree char *pid_text = g_strdup_printf("%d", pid);
	/* No overhead budget: the whole cost is what is measured. */
	const char *argv[] = { lab_program("bqlstat"), "record", "-p", pid_text, "-m", "0", "-o", file, NULL };
	struct lab_process *p = lab_process_new(argv, env, error);

	if (p && !lab_process_expect(p, "recording", TIMEOUT_MS, error))
		g_clear_pointer(&p, lab_process_free);
	return p;
}

/* Wait and hold by call site, as bqlstat keeps them. The return probe is harmless: no coroutines. */
static struct lab_process *start_bpftrace(const char *binary, GError **error)
{
	g_autofree char *script = g_strdup_printf(
		"BEGIN { printf(\"ready\\n\"); }"
		"uprobe:%s:bql_lock_impl { @ask[tid] = nsecs; @file[tid] = arg0; @line[tid] = arg1; }"
		"uretprobe:%s:bql_lock_impl"
		" { @wait[@file[tid], @line[tid]] = hist(nsecs - @ask[tid]); @got[tid] = nsecs; }"
		"uprobe:%s:bql_unlock { @hold[@file[tid], @line[tid]] = hist(nsecs - @got[tid]); }",
		binary, binary, binary);
	const char *argv[] = { "bpftrace", "-e", script, NULL };
	struct lab_process *p = lab_process_new(argv, NULL, error);

	if (p && !lab_process_expect(p, "ready", TIMEOUT_MS, error))
		g_clear_pointer(&p, lab_process_free);
	else
		g_usleep(1500000); /* it says so before its probes stand */
	return p;
}

static bool stop_bqlstat(struct lab_process *p, const char *file, GError **error)
{
	struct store_error err = { "" };
	struct store *store = NULL;
	struct run *run = NULL;
	GArray *list = NULL;
	int status;

	lab_process_kill(p, SIGINT);
	if (!lab_process_wait(p, TIMEOUT_MS, &status, error))
		return false;
	if (!store_open(file, &store, &err) && (list = store_list(store, &err)) && list->len &&
	    !store_load(store, g_array_index(list, struct store_entry, list->len - 1).id, &run, &err))
		recorded += run_acquired(run);
	else
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "%s", err.text);
	run_free(run);
	if (list)
		g_array_unref(list);
	store_close(store);
	return run;
}

/* Nanoseconds a pair took, or a negative number and an error. */
static double round_ns(enum method m, unsigned threads, GError **error)
{
	const char *binary = lab_program("lockdance");
	g_autofree char *pairs = g_strdup_printf("%u", methods[m].pairs);
	g_autofree char *lanes = g_strdup_printf("%u", threads);
	g_autofree char *file = g_strdup_printf("%s/bench.bql", lab_tmpdir());
	const char *argv[] = { binary, "--pairs", pairs, "--threads", lanes, "--wait-start",
			       "--wait-end", NULL };
	g_autoptr(lab_process) dance = lab_process_new(argv, NULL, error);
	g_autoptr(lab_process) tracer = NULL;
	g_autofree char *out = NULL;
	const char *rate;

	if (!dance || !lab_process_expect(dance, "ready", TIMEOUT_MS, error))
		return -1;
	if (m == BQLSTAT || m == ONE_BY_ONE)
		tracer = start_bqlstat(lab_process_pid(dance), file, m == ONE_BY_ONE, error);
	else if (m == BPFTRACE)
		tracer = start_bpftrace(binary, error);
	if ((m != NONE && !tracer) || !lab_process_write(dance, "\n", error) ||
	    !lab_process_expect(dance, "pairs/s", TIMEOUT_MS, error))
		return -1;
	if (m == BQLSTAT || m == ONE_BY_ONE) {
		counted += (uint64_t)methods[m].pairs * threads;
		if (!stop_bqlstat(tracer, file, error))
			return -1;
	} else if (tracer) {
		lab_process_kill(tracer, SIGINT);
	}
	out = lab_process_stdout(dance);
	rate = strstr(out, "pairs, ");
	return rate ? 1e9 / strtod(rate + strlen("pairs, "), NULL) : -1;
}

static double ms_since(uint64_t begin_ns)
{
	return (lab_now_ns() - begin_ns) / 1e6;
}

/* Attaching to a QEMU and leaving it, in this very process. */
static void print_attach_times(bool one_by_one)
{
	g_autoptr(lab_vm) vm = lab_vm_new_idle("7.2", NULL);
	struct tracer_opts opts = {};
	struct tracer_error err = { "" };
	struct tracer *tracer = NULL;

	if (one_by_one)
		g_setenv("BQLSTAT_ONE_BY_ONE", "1", TRUE);
	else
		g_unsetenv("BQLSTAT_ONE_BY_ONE");
	for (int r = 0; vm && r < 3; r++) {
		uint64_t begin = lab_now_ns();
		double load, attach;
		int target;

		if (tracer_new(&opts, &tracer, &err))
			break;
		load = ms_since(begin);
		begin = lab_now_ns();
		target = tracer_add(tracer, lab_vm_pid(vm), &err);
		if (target < 0)
			break;
		attach = ms_since(begin);
		begin = lab_now_ns();
		tracer_remove(tracer, target);
		printf("%s: load the programs %.0f ms, attach to a QEMU %.0f ms, detach %.0f ms\n",
		       one_by_one ? "one by one  " : "uprobe_multi", load, attach, ms_since(begin));
		tracer_free(tracer);
		tracer = NULL;
	}
	if (*err.text)
		printf("not measured: %s\n", err.text);
	tracer_free(tracer);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(void)
{
	double ns[METHODS][ROUNDS], median[METHODS];
	bool ok;

	print_attach_times(false);
	print_attach_times(true);
	printf("nanoseconds a lock+unlock pair of QEMU's lock functions (least-most of %d rounds)\n",
	       ROUNDS);
	for (int r = 0; r < ROUNDS; r++)
		for (int m = 0; m < METHODS; m++) {
			g_autoptr(GError) error = NULL;

			ns[m][r] = round_ns(m, 1, &error);
			if (ns[m][r] < 0) {
				printf("%s: not measured: %s\n", methods[m].name,
				       error ? error->message : "?");
				return 3;
			}
		}
	for (int m = 0; m < METHODS; m++) {
		qsort(ns[m], ROUNDS, sizeof(double), by_value);
		median[m] = ns[m][ROUNDS / 2];
		printf("%-34s %8.0f (%.0f-%.0f)\n", methods[m].name, median[m], ns[m][0],
		       ns[m][ROUNDS - 1]);
	}
	for (unsigned t = 2; t <= 4; t += 2) {
		g_autoptr(GError) error = NULL;
		double taken = round_ns(BQLSTAT, t, &error);

		printf("%-34s %8.0f, %u threads after the same lock\n", methods[BQLSTAT].name, taken, t);
	}
	ok = median[BPFTRACE] - median[NONE] >= 10 * (median[BQLSTAT] - median[NONE]);
	printf("bpftrace costs %.1f times what bqlstat costs: %s\n",
	       (median[BPFTRACE] - median[NONE]) / (median[BQLSTAT] - median[NONE]),
	       ok ? "ok (10 wanted)" : "FAILED (10 wanted)");
	printf("acquisitions recorded %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT ": %s\n", recorded,
	       counted, recorded == counted ? "ok" : "FAILED");
	return !ok || recorded != counted;
}
