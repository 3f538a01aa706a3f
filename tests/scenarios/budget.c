/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overhead budget: a guest that does nothing but take the lock is hardly slowed, what is
 * recorded meanwhile stays true, and when the load falls everything is recorded again.
 */
#include <time.h>

#include "tests/scenarios/recording.h"

#define WINDOW_MS 1000
#define ROUNDS	  3

/* How much a guest gets done. */
struct speed {
	double wall; /* rounds a second */
	double cpu;  /* rounds a second of its QEMU's CPU time: no matter what else the machine does
		      */
};

static struct speed measure(struct lab_vm *vm)
{
	uint64_t begin = lab_now_ns(), rounds = lab_vm_rounds(vm);
	double cpu = cpu_seconds(lab_vm_pid(vm));

	g_usleep(WINDOW_MS * 1000);
	rounds = lab_vm_rounds(vm) - rounds;
	return (struct speed){
		.wall = rounds * 1e9 / (lab_now_ns() - begin),
		.cpu = rounds / (cpu_seconds(lab_vm_pid(vm)) - cpu),
	};
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

/* The guest's speed with a recording, of without, by turns: the machine is never quiet. */
static bool slowed(struct lab_vm *vm, const char *budget, unsigned rounds, struct speed *share,
		   struct run **last)
{
	g_autofree char *file = fresh_path("hammer.run");
	double wall[ROUNDS], cpu[ROUNDS];

	for (unsigned i = 0; i < rounds; i++) {
		struct speed before = measure(vm), during, after;
		struct lab_process *p = record_with(file, lab_vm_pid(vm), budget);

		if (!p)
			return false;
		g_usleep(700000); /* it reacts */
		during = measure(vm);
		stop_recording(p);
		after = measure(vm);
		wall[i] = 2 * during.wall / (before.wall + after.wall);
		cpu[i] = 2 * during.cpu / (before.cpu + after.cpu);
	}
	share->wall = median(wall, rounds);
	share->cpu = median(cpu, rounds);
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
	const struct lab_vm_options options = {.guest = true, .flat_out = true, .hammer = 20000};
	struct speed within, without;
	GError *error = NULL;
	struct lab_vm *vm = lab_vm_new(&options, &error);
	struct run *run;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	if (slowed(vm, "5", ROUNDS, &within, &run)) {
		g_test_message("budget 5%%: %.3f of its speed (%.3f on this machine as it is), "
			       "%.1f%% of the time recorded",
			       within.cpu, within.wall,
			       100.0 * run_covered_ns(run) / run->duration_ns);
		g_assert_cmpstr(level(run, 0), ==, "bursts");
		g_assert_cmpuint(run_covered_ns(run), <, run->duration_ns / 2);
		g_assert_cmpuint(run_lost(run), ==, 0);
		run_free(run);
		if (!slowed(vm, "0", 1, &without, &run))
			g_error("it could be recorded a moment ago");
		g_test_message("no budget: %.3f of its speed", without.cpu);
		g_assert_cmpuint(run->thinnings->len, ==, 0);
		run_free(run);
		/* Twice the budget: a window of a second has two bursts or one. */
		g_assert_cmpfloat(within.cpu, >, 0.90);
		g_assert_cmpfloat(without.cpu, <, 0.5);
	}
	lab_vm_free(vm);
}

/* When the load falls, all of it is recorded again; what came before stays what it was. */
static void load_falls(void)
{
	g_autofree char *file = fresh_path("falls.run"), *says = NULL;
	struct dance d =
		start_dance("lockdance", "thread CPU 0/TCG; pairs 15000000 dance-a.c:1\n"
					 "repeat 1500; lock dance-b.c:2; unlock; idle 4000; "
					 "end\n");
	struct lab_process *p = record_with(file, lab_process_pid(d.process), "5%");
	struct run *run;
	int code;

	go(&d);
	danced(&d);
	g_strfreev(finish(&d));
	if (!p)
		return;
	says = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 0);
	g_assert_nonnull(strstr(says, "recording in bursts"));
	g_assert_nonnull(strstr(says, "everything is recorded again"));
	run = load(file, 1);
	g_assert_cmpstr(level(run, 0), ==, "bursts");
	g_assert_cmpstr(level(run, run->thinnings->len - 1), ==, "full");
	g_assert_cmpuint(run_covered_ns(run), <, run->duration_ns);
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), <, 15000000);
	g_assert_cmpuint(acquired_at(run, "dance-b.c", 2, false, 0), <=, 1500);
	g_assert_cmpuint(acquired_at(run, "dance-b.c", 2, false, 0), >, 100);
	/* No hold spans two bursts: each is as empty as it was. */
	for (unsigned i = 0; i < run->holds->len; i++)
		g_assert_cmpuint(g_array_index(run->holds, struct hold, i).hold_ns, <, 500000000);
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
