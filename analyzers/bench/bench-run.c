/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One recorded migration of `bqlstat bench`, in a process of its own.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "analyzers/bench/bench.h"
#include "analyzers/command.h"
#include "analyzers/compare/figures.h"
#include "analyzers/store/store.h"

#define RECORD_MS 30000

struct recording {
	const char *file, *threshold, *label;
	struct lab_process *process;
};

static bool start_record(struct lab_pair *pair, void *opaque, GError **error)
{
	struct recording *r = opaque;
	g_autofree char *pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	/* Not its path: an upgrade in the middle of a bench would replace that. */
	const char *argv[] = {"/proc/self/exe", "record", "-p", pid,  "-o",	r->file, "-t",
			      r->threshold,	"-m",	  "0",	"-l", r->label, NULL};

	r->process = lab_process_new(argv, NULL, error);
	return r->process && lab_process_expect(r->process, "recording process", RECORD_MS, error);
}

static bool stop_record(struct lab_pair *pair, void *opaque, GError **error)
{
	struct recording *r = opaque;
	g_autofree char *said = NULL;
	int status;

	(void)pair;
	lab_process_kill(r->process, SIGINT);
	if (!lab_process_wait(r->process, RECORD_MS, &status, error))
		return false;
	said = lab_process_stderr(r->process);
	if (status)
		g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "bqlstat record: %s",
			    g_strstrip(said));
	return !status;
}

static void set_latency(struct run *run, const char *prefix, const struct lab_latency *l)
{
	const struct {
		const char *what;
		uint64_t ns;
	} each[] = {{"p50", l->p50_ns}, {"p99", l->p99_ns}, {"max", l->max_ns}};

	for (unsigned i = 0; l->n && i < G_N_ELEMENTS(each); i++) {
		g_autofree char *name = g_strdup_printf("%s_%s_ns", prefix, each[i].what);

		run_set_metric(run, name, each[i].ns);
	}
}

static void set_metrics(struct run *run, const struct bench_side *side, struct bench_place place,
			double load, const struct lab_play_result *r)
{
	g_autofree char *scenario =
		g_strconcat(METRIC_SCENARIO, lab_scenario_name(side->scenario), NULL);
	const struct lab_migration *m = &r->migration;

	run_set_metric(run, METRIC_SIDE, side->recipe);
	run_set_metric(run, METRIC_PAIR, place.pair);
	run_set_metric(run, METRIC_POSITION, place.position);
	run_set_metric(run, METRIC_FAILED, !r->arrived);
	run_set_metric(run, METRIC_LOAD_AVERAGE, load);
	run_set_metric(run, scenario, side->scenario_version);
	run_set_metric(run, METRIC_OTHER_WORK, r->other_work);
	if (!r->arrived)
		return;
	run_set_metric(run, METRIC_TOTAL, m->total_time_ms * 1e6);
	run_set_metric(run, METRIC_SETUP, m->setup_time_ms * 1e6);
	/* QEMU counts whole milliseconds: below 1 it says 0, which is no figure. */
	if (m->downtime_ms > 0)
		run_set_metric(run, METRIC_DOWNTIME_SRC, m->downtime_ms * 1e6);
	if (r->blackout_ns)
		run_set_metric(run, METRIC_DOWNTIME_DST, r->blackout_ns);
	run_set_metric(run, "transferred_bytes", m->transferred_bytes);
	set_latency(run, METRIC_QMP, &r->monitor);
	set_latency(run, METRIC_IDLE, &r->idle);
}

static void add_answers(struct run *run, const struct lab_play_result *r)
{
	for (unsigned i = 0; i < r->samples->len; i++) {
		const struct lab_sample *s = &g_array_index(r->samples, struct lab_sample, i);
		struct answer a = {.sent_at_ns = s->sent_ns, .latency_ns = s->latency_ns};

		g_array_append_val(run->answers, a);
	}
}

/* The recording gets its figures, in the file it is in. */
static bool add_metrics(const char *file, const struct bench_side *side, struct bench_place place,
			double load, const struct lab_play_result *result, GError **error)
{
	struct store_error err = {"the recording is not in its file"};
	struct store *store = NULL;
	struct run *run = NULL;
	bool ok = !store_create(file, &store, &err) && !store_load(store, 1, &run, &err);

	if (ok) {
		set_metrics(run, side, place, load, result);
		add_answers(run, result);
		ok = !store_save(store, run, &err);
	}
	if (run)
		run_free(run);
	store_close(store);
	if (!ok)
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "%s", err.text);
	return ok;
}

static bool run_once(const struct bench_side *side, struct bench_place place, const char *threshold,
		     const char *file, GError **error)
{
	struct recording recording = {file, threshold, side->label, NULL};
	const struct lab_play_options options = {
		.qemu = side->qemu,
		.source_qemu = side->source_qemu,
		.policy = side->policy,
		.args = (const char *const *)side->args,
		.before = start_record,
		.after = stop_record,
		.opaque = &recording,
	};
	struct lab_play_result result;
	double load = 0;
	bool ok;

	/* Before the run: what the run itself adds is the same for both sides. */
	if (getloadavg(&load, 1) < 1)
		load = 0;
	ok = lab_scenario_play(side->scenario, &options, &result, error) &&
	     add_metrics(file, side, place, load, &result, error);
	if (ok && !result.arrived)
		fprintf(stderr, "bqlstat: %s: the migration failed: %s\n", side->label, result.why);
	lab_process_free(recording.process);
	lab_migration_clear(&result.migration);
	g_clear_pointer(&result.samples, g_array_unref);
	return ok;
}

pid_t bench_start(const struct bench_side *side, struct bench_place place, const char *threshold,
		  const char *file, const char *said)
{
	g_autoptr(GError) error = NULL;
	sigset_t none;
	pid_t parent = getpid(), child;

	unlink(file);
	unlink(said);
	child = fork();
	if (child)
		return child;
	/* Ctrl-C is the parent's matter: out of the terminal's group. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (getppid() != parent)
		_exit(EXIT_CANNOT);
	if (run_once(side, place, threshold, file, &error))
		_exit(EXIT_DONE);
	g_file_set_contents(said, error->message, -1, NULL);
	_exit(EXIT_CANNOT);
}
