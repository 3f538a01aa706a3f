/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overhead budget: a guest that does nothing but take the lock is hardly slowed, what is
 * recorded meanwhile stays true, and when the load falls everything is recorded again.
 */
#include <time.h>

#include "tests/scenarios/recording.h"

enum {
	WINDOW_MS = 1000,
	LONG_MS = 12000, /* of several bursts, even of such as end late */
	ROUNDS = 3,
};

/*
 * Of a core. The budget is half of it, and a mean over time that is kept by bursts: a window of a
 * second has two of them, or one.
 */
static const double most_lost = 0.10;
/* A guest that gets less may be recorded all the time for the budget. */
static const double enough_cores = 0.4;

/* What a guest has got done so far, and what its QEMU took for it. */
struct reading {
	uint64_t rounds;
	double cpu;
};

static struct reading read_guest(struct lab_vm *vm)
{
	return (struct reading){lab_vm_rounds(vm), cpu_seconds(lab_vm_pid(vm))};
}

/* The one that is recorded, and its twin that never is. */
struct twins {
	struct lab_vm *recorded, *control;
};

struct moment {
	uint64_t at_ns;
	struct reading recorded, control;
};

static struct moment moment_of(const struct twins *t)
{
	return (struct moment){lab_now_ns(), read_guest(t->recorded), read_guest(t->control)};
}

static double per_cpu(struct reading from, struct reading to)
{
	return (to.rounds - from.rounds) / (to.cpu - from.cpu);
}

/*
 * Rounds for a second of processor time, as a share of the twin's at the same time: what else the
 * machine does, and how fast its processors are just then, goes for both.
 */
struct speed {
	double share, cores; /* and how much of a core it had */
};

static struct speed speed_since(const struct twins *t, struct moment from)
{
	struct moment to = moment_of(t);

	return (struct speed){
		.share = per_cpu(from.recorded, to.recorded) / per_cpu(from.control, to.control),
		.cores = (to.recorded.cpu - from.recorded.cpu) * 1e9 / (to.at_ns - from.at_ns),
	};
}

static struct speed measure(const struct twins *t)
{
	struct moment from = moment_of(t);

	g_usleep(WINDOW_MS * 1000);
	return speed_since(t, from);
}

/* What recording costs it, of a core. */
static double lost(struct speed with, double share_without)
{
	return (1 - with.share / share_without) * with.cores;
}

static struct lab_process *record_with(const char *file, pid_t pid, const char *budget)
{
	g_autofree char *text = g_strdup_printf("%d", pid);
	struct lab_process *p =
		bqlstat("record", "-p", text, "-o", file, "--max-overhead", budget, NULL);

	if (!lab_process_expect(p, "recording process", PATIENCE_MS, NULL)) {
		g_autofree char *says = lab_process_stderr(p);

		lab_process_free(p);
		if (!strstr(says, "CAP_BPF") && !strstr(says, "no BTF"))
			g_error("%s", says);
		g_test_skip(says);
		return NULL;
	}
	return p;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_value);
	return values[n / 2];
}

struct slowed {
	double share; /* of its speed without */
	double lost;
	double cores; /* that it had during the last recording */
};

/*
 * With a recording, of without, by turns. A guest that seems to lose too much is watched for
 * longer: a mean that is beyond the budget stays so.
 */
static bool slow(const struct twins *t, const char *budget, unsigned rounds, struct slowed *slowed,
		 struct run **last)
{
	g_autofree char *file = fresh_path("hammer.run");
	double shares[ROUNDS], losses[ROUNDS];

	for (unsigned i = 0; i < rounds; i++) {
		double without = measure(t).share;
		struct lab_process *p = record_with(file, lab_vm_pid(t->recorded), budget);
		struct moment from;
		struct speed with;
		unsigned ms = 0;

		if (!p)
			return false;
		g_usleep(700000); /* it reacts */
		from = moment_of(t);
		do {
			g_usleep(WINDOW_MS * 1000);
			with = speed_since(t, from);
			ms += WINDOW_MS;
		} while (strcmp(budget, "0") && lost(with, without) > most_lost && ms < LONG_MS);
		stop_recording(p);
		without = (without + measure(t).share) / 2;
		shares[i] = with.share / without;
		losses[i] = lost(with, without);
		slowed->cores = with.cores;
		g_test_message("budget %s%%: %.3f of its speed with %.2f of a core, in %u ms",
			       budget, shares[i], with.cores, ms);
	}
	slowed->share = median(shares, rounds);
	slowed->lost = median(losses, rounds);
	*last = load(file, rounds);
	return true;
}

static const char *level(const struct run *run, unsigned i)
{
	return i < run->thinnings->len ? g_array_index(run->thinnings, struct thinning, i).level
				       : "none";
}

static void hammering_guest(void)
{
	const struct lab_vm_options options = {
		.guest = true, .flat_out = true, .hammer = 5000, .dirty_mib = 1};
	GError *error = NULL;
	struct twins t = {.recorded = lab_vm_new(&options, &error)};
	struct slowed within, without;
	uint64_t reacted_ns;
	struct run *run;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	t.control = lab_vm_new(&options, &error);
	g_assert_no_error(error);
	if (!slow(&t, "5", ROUNDS, &within, &run))
		goto cleanup;
	g_test_message("budget 5%%: %.1f%% of a core lost, %.1f%% of the time recorded",
		       100 * within.lost, 100.0 * run_covered_ns(run) / run->duration_ns);
	g_assert_cmpfloat(within.lost, <, most_lost);
	g_assert_cmpuint(run_lost(run), ==, 0);
	if (within.cores > enough_cores) {
		g_assert_cmpstr(level(run, 0), ==, "bursts");
		/* All of it until it reacts, and little from then on. */
		reacted_ns =
			g_array_index(run->thinnings, struct thinning, 0).at_ns - run->begin_ns;
		g_assert_cmpuint(run_covered_ns(run), <,
				 reacted_ns + (run->duration_ns - reacted_ns) / 2);
	}
	run_free(run);
	if (!slow(&t, "0", 1, &without, &run))
		g_error("it could be recorded a moment ago");
	g_assert_cmpuint(run->thinnings->len, ==, 0);
	run_free(run);
	g_assert_cmpfloat(without.share, <, 0.5);
	if (within.cores <= enough_cores)
		g_test_skip("it loses no more than it may, but it got too little of a core");
cleanup:
	lab_vm_free(t.recorded);
	lab_vm_free(t.control);
}

/*
 * When the load falls, all of it is recorded again; what came before stays what it was. How soon
 * depends on how late the last burst ended: it is waited for, and the dancer goes on until then.
 */
static void load_falls(void)
{
	enum { AGAIN_MS = 150000, PAIRS = 15000000, LONG_NS = 500000000 };
	g_autofree char *file = fresh_path("falls.run"), *says = NULL;
	g_autofree char *script = g_strdup_printf(
		"thread CPU 0/TCG; pairs %d dance-a.c:1; repeat 60000; lock dance-b.c:2; unlock; "
		"idle 4000; end",
		PAIRS);
	const char *argv[] = {lab_program("lockdance"), "--wait-start", "-e", script, NULL};
	struct lab_process *d = lab_process_new(argv, NULL, NULL), *p;
	unsigned longer = 0;
	GError *error = NULL;
	struct run *run;
	int code;

	g_assert_nonnull(d);
	g_assert_true(lab_process_expect(d, "ready", PATIENCE_MS, NULL));
	p = record_with(file, lab_process_pid(d), "5%");
	if (!p) {
		lab_process_free(d);
		return;
	}
	g_assert_true(lab_process_write(d, "x", NULL));
	lab_process_expect(p, "everything is recorded again", AGAIN_MS, &error);
	g_assert_no_error(error);
	g_usleep(1000000);
	lab_process_kill(p, SIGINT);
	says = outcome(p, &code);
	lab_process_free(p);
	lab_process_free(d);
	g_assert_cmpint(code, ==, 0);
	g_assert_nonnull(strstr(says, "recording in bursts"));
	run = load(file, 1);
	g_assert_cmpstr(level(run, 0), ==, "bursts");
	g_assert_cmpstr(level(run, run->thinnings->len - 1), ==, "full");
	g_assert_cmpuint(run_covered_ns(run), <, run->duration_ns);
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), >, 0);
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), <, PAIRS);
	g_assert_cmpuint(acquired_at(run, "dance-b.c", 2, false, 0), >, 0);
	/*
	 * No hold spans two bursts: each is as empty as it was. One may have met a machine that
	 * stood still.
	 */
	for (unsigned i = 0; i < run->holds->len; i++)
		longer += g_array_index(run->holds, struct hold, i).hold_ns >= LONG_NS;
	g_assert_cmpuint(longer, <=, 1);
	run_free(run);
}

/* A little too much: who asks is left out first, and nothing else. */
static void holds_only(void)
{
	g_autofree char *file = fresh_path("holds.run");
	const char *argv[] = {
		lab_program("lockdance"), "-e",
		"thread CPU 0/TCG; repeat 5000000; lock dance-a.c:1; unlock; idle 20; end", NULL};
	struct lab_process *d = lab_process_new(argv, NULL, NULL);
	double budget = 1.5;
	bool seen = false;

	/* Its speed goes up and down with the machine's, and so does what it costs to trace:
	 * search. */
	for (unsigned i = 1; i <= 16 && !seen; i++) {
		g_autofree char *text = g_strdup_printf("%.3f%%", budget);
		struct lab_process *p = record_with(file, lab_process_pid(d), text);
		struct run *run;

		if (!p) {
			lab_process_free(d);
			return;
		}
		/* A fifth too much is noticed after 5 s. */
		if (lab_process_expect(p, "would cost", 7000, NULL))
			g_usleep(500000);
		stop_recording(p);
		run = load(file, i);
		seen = !strcmp(level(run, 0), "holds");
		if (seen) {
			g_assert_cmpuint(acquired_at(run, "", 0, false, 0), >, 0);
			g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), >, 0);
			g_assert_cmpuint(lost_of(run, "no_ask"), <=, 2 * run->thinnings->len);
			g_assert_cmpuint(run_lost(run), ==, 0);
		}
		budget *= run->thinnings->len ? 1.15 : 0.85;
		run_free(run);
	}
	lab_process_free(d);
	g_assert_true(seen);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/budget/hammering-guest", hammering_guest);
	g_test_add_func("/budget/load-falls", load_falls);
	g_test_add_func("/budget/holds-only", holds_only);
	return g_test_run();
}
