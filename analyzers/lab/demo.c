/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The demo: one VM with a dozen devices arrives over two multifd channels, one of which stalls for
 * three seconds; once at a stock QEMU, once at the same QEMU with threaded loadvm. bqlstat records
 * both destinations. Prints the two side by side.
 *
 *   demo [--qemu VERSION] [--policy POLICY] [--stall MS] [-o FILE]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/stall.h"
#include "analyzers/model/run.h"
#include "analyzers/model/words.h"
#include "analyzers/store/store.h"

enum { SIDES = 2, LONGEST = 3, RECORD_TIMEOUT_MS = 20000 };

/* One of the two runs. */
struct side {
	const char *label;
	const char *policy; /* NULL: no loadvm at all */
	const char *file;   /* where bqlstat writes */
	struct lab_process *record;
	struct lab_stall_result stall;
	uint64_t downtime_ns; /* from the source's STOP to the destination's RESUME */
	struct run *run;
};

static bool start_record(struct lab_pair *pair, void *opaque, GError **error)
{
	struct side *side = opaque;
	g_autofree char *pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	const char *argv[] = {lab_program("bqlstat"),
			      "record",
			      "-p",
			      pid,
			      "-o",
			      side->file,
			      "--label",
			      side->label,
			      NULL};

	side->record = lab_process_new(argv, NULL, error);
	return side->record &&
	       lab_process_expect(side->record, "recording", RECORD_TIMEOUT_MS, error);
}

static bool stop_record(struct lab_pair *pair, void *opaque, GError **error)
{
	struct side *side = opaque;
	int status;

	lab_process_kill(side->record, SIGINT);
	if (!lab_process_wait(side->record, RECORD_TIMEOUT_MS, &status, error) ||
	    !lab_pair_blackout(pair, RECORD_TIMEOUT_MS, &side->downtime_ns, error))
		return false;
	if (status) {
		g_autofree char *said = lab_process_stderr(side->record);

		g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "bqlstat record: %s",
			    g_strstrip(said));
		return false;
	}
	return true;
}

static bool run_side(struct side *side, const char *version, unsigned stall_ms, GError **error)
{
	const struct lab_stall_options options = {
		.version = version,
		.policy = side->policy,
		.place = LAB_STALL_MULTIFD,
		.stall_ms = stall_ms,
		.before = start_record,
		.after = stop_record,
		.opaque = side,
	};
	bool ok = lab_stall_run(&options, &side->stall, error);

	lab_process_free(side->record);
	side->record = NULL;
	return ok;
}

/* The runs are the file's last two, in the order they were made. */
static bool load_runs(const char *file, struct side sides[SIDES], struct store_error *err)
{
	struct store *store;
	GArray *list = NULL;
	bool ok = false;

	if (store_open(file, &store, err))
		return false;
	list = store_list(store, err);
	if (!list || list->len < SIDES)
		goto cleanup;
	for (unsigned i = 0; i < SIDES; i++) {
		const struct store_entry *e =
			&g_array_index(list, struct store_entry, list->len - SIDES + i);

		if (store_load(store, e->id, &sides[i].run, err))
			goto cleanup;
	}
	ok = true;
cleanup:
	if (list)
		g_array_unref(list);
	store_close(store);
	return ok;
}

#define D(ns) words_duration((char[WORDS_DURATION]){0}, ns)

static void row(const char *what, const char *stock, const char *ours)
{
	printf("  %-44s %14s %14s\n", what, stock, ours);
}

static void duration_row(const char *what, uint64_t stock_ns, uint64_t ours_ns)
{
	row(what, D(stock_ns), D(ours_ns));
}

static char *share_held(const struct run *run)
{
	return g_strdup_printf("%.1f%%", 100.0 * run_held_ns(run) / run->duration_ns);
}

static char *where(const struct phase_at *at)
{
	return at->phase == PHASE_DEVICE ? g_strdup_printf("device %s", at->device)
					 : g_strdup(phase_name(at->phase));
}

/* What the hold's time went to, in a few words. */
static char *spent(const struct hold *hold)
{
	g_autofree char *phase = NULL;

	if (!hold->longest_ns) {
		phase = where(&hold->at_begin);
		return g_strdup_printf("on CPU, phase %s", phase);
	}
	phase = where(&hold->at_longest);
	return g_strdup_printf("blocked %s in %s, phase %s", D(hold->longest_ns),
			       cause_name(hold->longest_cause), phase);
}

static void longest_holds(struct side *side)
{
	g_autoptr(GPtrArray) holds = run_longest(side->run, LONGEST);

	printf("\n  longest holds, %s\n", side->label);
	for (unsigned i = 0; i < holds->len; i++) {
		const struct hold *hold = g_ptr_array_index(holds, i);
		const struct site *site = &g_array_index(side->run->sites, struct site, hold->site);
		const struct thread *thread =
			&g_array_index(side->run->threads, struct thread, hold->thread);
		g_autofree char *call =
			g_strdup_printf("%s:%u", words_file(site->file), site->line);
		g_autofree char *why = spent(hold);

		printf("  %8s  %-12s %-34s %s\n", D(run_hold_ns(side->run, hold->hold_ns)),
		       run_who(side->run, thread, true), call, why);
	}
}

static void print_table(struct side s[SIDES], unsigned stall_ms)
{
	const struct lab_latency *a = &s[0].stall.monitor, *b = &s[1].stall.monitor;
	g_autofree char *held_a = share_held(s[0].run), *held_b = share_held(s[1].run);
	g_autofree char *lost_a = g_strdup_printf("%" G_GUINT64_FORMAT, run_lost(s[0].run));
	g_autofree char *lost_b = g_strdup_printf("%" G_GUINT64_FORMAT, run_lost(s[1].run));
	g_autofree char *took_a = g_strdup_printf("%" G_GUINT64_FORMAT, run_acquired(s[0].run));
	g_autofree char *took_b = g_strdup_printf("%" G_GUINT64_FORMAT, run_acquired(s[1].run));

	printf("A VM with a dozen devices arrives at QEMU %s over 2 multifd channels;\n"
	       "one of them stalls for %.1f s.\n\n",
	       s[0].run->qemu_version, stall_ms / 1e3);
	row("", s[0].label, s[1].label);
	duration_row("monitor answers a client: p50", a->p50_ns, b->p50_ns);
	duration_row("                          p99", a->p99_ns, b->p99_ns);
	duration_row("                          max", a->max_ns, b->max_ns);
	duration_row("an idle QEMU's monitor meanwhile: max", s[0].stall.idle.max_ns,
		     s[1].stall.idle.max_ns);
	duration_row("downtime (source stops -> destination runs)", s[0].downtime_ns,
		     s[1].downtime_ns);
	row("time that the lock was held, of the recording", held_a, held_b);
	row("acquisitions recorded", took_a, took_b);
	row("events lost", lost_a, lost_b);
	duration_row("what a probed lock+unlock pair costs more", s[0].run->pair_ns,
		     s[1].run->pair_ns);
	for (int i = 0; i < SIDES; i++)
		longest_holds(&s[i]);
}

int main(int argc, char **argv)
{
	g_autofree char *version = NULL, *policy = NULL, *file = NULL;
	int stall_ms = 3000;
	const GOptionEntry entries[] = {
		{"qemu", 'q', 0, G_OPTION_ARG_STRING, &version,
		 "QEMU to use: 7.2 (default), 10.0, 11.1 or a path", "QEMU"},
		{"policy", 'p', 0, G_OPTION_ARG_STRING, &policy,
		 "what to hold against stock (default io-free)", "POLICY"},
		{"stall", 's', 0, G_OPTION_ARG_INT, &stall_ms, "how long the channel stalls (3000)",
		 "MS"},
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &file,
		 "keep both recordings in this file (default demo.bql beside the program)", "FILE"},
		{0},
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_autofree char *folder = g_path_get_dirname(argv[0]), *installed = NULL;
	g_autofree char *beside = g_build_filename(folder, "bqlstat", NULL);
	g_autoptr(GError) error = NULL;
	struct side sides[SIDES] = {{.label = "stock"}};
	struct store_error err = {"the recordings are not in the file"};

	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_summary(
		context,
		"Shows who holds the Big QEMU Lock while a VM arrives and one channel stalls: at\n"
		"a stock QEMU and at the same QEMU with threaded loadvm.");
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || stall_ms <= 0) {
		fprintf(stderr, "demo: %s; see --help\n",
			error ? error->message : "wrong arguments");
		return 2;
	}
	if (!file) {
		file = g_build_filename(folder, "demo.bql", NULL);
		unlink(file);
	}
	sides[1].label = sides[1].policy = policy ?: "io-free";
	for (int i = 0; i < SIDES; i++) {
		sides[i].file = file;
		fprintf(stderr, "demo: %s ...\n", sides[i].label);
		if (!run_side(&sides[i], version ?: "7.2", stall_ms, &error)) {
			fprintf(stderr, "demo: %s: %s\n", sides[i].label, error->message);
			return 3;
		}
	}
	if (!load_runs(file, sides, &err)) {
		fprintf(stderr, "demo: %s\n", err.text);
		return 3;
	}
	print_table(sides, stall_ms);
	installed = g_find_program_in_path("bqlstat");
	printf("\nAll of it: %s report %s\n", installed ? "bqlstat" : beside, file);
	for (int i = 0; i < SIDES; i++) {
		lab_migration_clear(&sides[i].stall.migration);
		run_free(sides[i].run);
	}
	return 0;
}
