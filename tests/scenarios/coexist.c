/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracer and QEMU in each other's way: bqlstat comes, goes and is killed before, during and after
 * migrations, on stock QEMUs and on QEMUs under loadvm, alone and several at once. Afterwards the
 * QEMU's code is what it was, its guest goes on, and what was recorded is right. How they start
 * together is tests/scenarios/coexist-start.c.
 *
 * BQLSTAT_CYCLES: how often per version and kind, instead of 13. --seed repeats a run's moments.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenarios/coexist.h"
#include "tests/scenarios/profile.h"

enum {
	MOST_READY_MS = 1500,
	SLOW_BYTES = 32 << 20, /* per second: a guest that dirties as much never gets across */
	QUERIES = 2000,
};

/* ---- one bqlstat at a time ---- */

struct cell {
	const char *version;
	bool detoured;
	int cycles;
};

struct cycles {
	struct lab_pair *pair;
	struct text *text;
	char *file;
	unsigned ready_ms; /* what bqlstat takes on this machine until it records */
	double first;	   /* moment, 0 to 1 */
	unsigned done, attached, interrupted;
};

/* Keeps the main loop at taking the lock, and proves that it answers. */
static void keep_busy(struct lab_vm *vm, unsigned for_ms)
{
	uint64_t until = lab_now_ns() + for_ms * MS;
	g_autoptr(GError) error = NULL;

	do {
		g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
		g_assert_no_error(error);
		g_usleep(2000);
	} while (lab_now_ns() < until);
}

/* One that is let: the moments of the others are spread over what it takes. */
static void first_cycle(struct cycles *c)
{
	struct lab_vm *vm = lab_pair_destination(c->pair);
	uint64_t begin = lab_now_ns();
	struct lab_process *bqlstat = start_bqlstat(c->file, lab_vm_pid(vm), 0);
	g_autoptr(GError) error = NULL;
	g_autofree char *said = NULL;
	int status;

	lab_process_expect(bqlstat, "recording", BQLSTAT_MS, &error);
	g_assert_no_error(error);
	/* A machine that stood still just then is no reason to wait as long each time. */
	c->ready_ms = MIN((lab_now_ns() - begin) / MS, MOST_READY_MS);
	keep_busy(vm, 0);
	status = end_bqlstat(bqlstat, SIGINT, &said);
	expect_status(status, 0, said);
	c->done++;
	c->attached++;
	c->interrupted++;
	text_unchanged(c->text);
}

static void cycle(struct cycles *c)
{
	bool kill_it = c->done++ % 2;
	/*
	 * While it attaches, while it then measures its cost, and while it records: by the golden
	 * ratio, so that each part of the time has its turn, however few they are.
	 */
	unsigned after_ms = fmod(c->first + c->done * 0.618034, 1) * 1.5 * c->ready_ms;
	struct lab_vm *vm = lab_pair_destination(c->pair);
	struct lab_process *bqlstat = start_bqlstat(c->file, lab_vm_pid(vm), 0);
	g_autofree char *said = NULL;
	size_t points;
	int status;

	keep_busy(vm, after_ms);
	c->attached += text_breakpoints(c->text, &points) > 0;
	status = end_bqlstat(bqlstat, kill_it ? SIGKILL : SIGINT, &said);
	c->interrupted += !status;
	/* Interrupted before it could say otherwise, it dies of the signal like any program. */
	if (kill_it)
		g_assert_cmpint(status, ==, 128 + SIGKILL);
	else if (status != 128 + SIGINT)
		expect_status(status, 0, said);
	g_assert_true(lab_process_running(lab_vm_process(vm)));
	if (kill_it)
		text_await_rid(c->text);
	text_unchanged(c->text);
	keep_busy(vm, 0);
}

/* Every run that came to its end is whole; those that were killed did not spoil the file. */
static void check_file(const struct cycles *c)
{
	unsigned ended = 0;
	struct store_error err;
	struct store *store;
	GArray *list;

	g_assert_cmpint(store_open(c->file, &store, &err), ==, 0);
	list = store_list(store, &err);
	g_assert_nonnull(list);
	for (unsigned i = 0; i < list->len; i++) {
		struct run *run = load_run(store, g_array_index(list, struct store_entry, i).id);

		if (*run->ended) {
			ended++;
			check_run(run);
			g_assert_cmpuint(run_held_ns(run), <=, run->duration_ns);
		}
		run_free(run);
	}
	g_assert_cmpuint(ended, ==, c->interrupted);
	g_array_unref(list);
	store_close(store);
}

static void test_cycles(const void *data)
{
	const struct cell *cell = data;
	const char *asked = g_getenv("BQLSTAT_CYCLES");
	unsigned n = asked ? MAX(3, atoi(asked)) : cell->cycles;
	const char *launcher[] = {lab_program("loadvm"), "--policy", "io-free", "--", NULL};
	const struct lab_pair_options options = {
		.vm = {.version = cell->version,
		       .devices = LAB_DEVICES_DOZEN,
		       .guest = true,
		       .fill_mib = 16,
		       .dirty_mib = 16},
		.destination_launcher = cell->detoured ? launcher : NULL,
		.max_bandwidth = SLOW_BYTES,
		.downtime_limit_ms = 1,
	};
	g_autoptr(GError) error = NULL;
	g_autofree char *said = NULL;
	struct lab_migration result;
	struct cycles c = {0};

	own_moments();
	c.first = g_test_rand_double();
	c.pair = lab_pair_new(&options, &error);
	if (!c.pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	c.file = g_strdup_printf("%s/cycles.bql", lab_tmpdir());
	c.text = text_open(lab_vm_pid(lab_pair_destination(c.pair)));
	said = lab_vm_stderr(lab_pair_destination(c.pair));
	expect_detours(c.text, said, cell->detoured);

	first_cycle(&c);
	while (c.done < n / 3)
		cycle(&c);
	g_assert_true(lab_pair_migrate(c.pair, &error));
	while (c.done < 2 * n / 3)
		cycle(&c);
	/* Still on its way; and it arrives while one more bqlstat comes and goes. */
	g_autoptr(JsonNode) answer = lab_qmp(lab_pair_source(c.pair), &error, "query-migrate");

	g_assert_cmpstr(lab_json_string(answer, "status"), ==, "active");
	g_assert_true(lab_qmp_ok(lab_pair_source(c.pair), &error,
				 "migrate-set-parameters {'max-bandwidth': %llu, "
				 "'downtime-limit': 2000}",
				 1ull << 37));
	cycle(&c);
	g_assert_true(lab_pair_wait(c.pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	while (c.done < n)
		cycle(&c);
	g_assert_true(lab_vm_alive(lab_pair_destination(c.pair), ALIVE_MS, &error));
	g_assert_no_error(error);

	g_test_message("%u cycles, %u attached, %u to their end; ready after %u ms", c.done,
		       c.attached, c.interrupted, c.ready_ms);
	/* Else the moments say nothing about attached tracers. */
	g_assert_cmpuint(c.attached, >=, n / 3);
	check_file(&c);
	unlink(c.file);
	g_free(c.file);
	lab_migration_clear(&result);
	text_free(c.text);
	lab_pair_free(c.pair);
}

/* ---- several at once ---- */

static void query(struct lab_vm *vm, unsigned times)
{
	g_autoptr(GError) error = NULL;

	while (times--)
		g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
}

/*
 * Two bqlstats on the destination and a third on both sides. The guest stands still while they come
 * and go, so that little is counted then.
 */
static void test_several(const void *version)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", "io-free", "--", NULL};
	const struct lab_pair_options options = {
		.vm = {.version = version, .devices = LAB_DEVICES_DOZEN, .guest = true},
		.destination_launcher = launcher,
	};
	enum { BQLSTATS = 3, RUNS = 4 };
	static const char *const names[RUNS] = {"first", "second", "third, source",
						"third, destination"};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = lab_pair_new(&options, &error);
	struct lab_process *bqlstat[BQLSTATS];
	g_autofree char *file[BQLSTATS] = {NULL};
	struct lab_migration result;
	GHashTable *sent[READINGS], *arrived[READINGS];
	struct lab_vm *here, *there;
	struct text *text;
	int run = 0;

	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	here = lab_pair_source(pair);
	there = lab_pair_destination(pair);
	text = text_open(lab_vm_pid(there));
	g_assert_true(lab_qmp_ok(here, &error, "stop"));
	for (int i = 0; i < 2; i++) {
		struct lab_vm *vm = i ? there : here;

		g_free(lab_hmp(vm, &error, "sync-profile on"));
		g_free(lab_hmp(vm, &error, "sync-profile reset"));
	}
	g_assert_no_error(error);
	sent[BEFORE] = profiled(here);
	arrived[BEFORE] = profiled(there);
	for (int i = 0; i < BQLSTATS; i++) {
		pid_t source = lab_vm_pid(here), destination = lab_vm_pid(there);

		file[i] = g_strdup_printf("%s/several-%d.bql", lab_tmpdir(), i);
		bqlstat[i] = start_bqlstat(file[i], i == 2 ? source : destination,
					   i == 2 ? destination : 0);
	}
	for (int i = 0; i < BQLSTATS; i++)
		g_assert_true(lab_process_expect(bqlstat[i], "recording", BQLSTAT_MS, &error));
	g_assert_no_error(error);

	sent[BEGUN] = profiled(here);
	arrived[BEGUN] = profiled(there);
	query(here, QUERIES);
	query(there, QUERIES);
	g_assert_true(lab_qmp_ok(here, &error, "cont"));
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_pair_wait(pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_true(lab_vm_alive(there, ALIVE_MS, &error));
	g_assert_true(lab_qmp_ok(there, &error, "stop"));
	g_assert_no_error(error);
	sent[TO_END] = profiled(here);
	arrived[TO_END] = profiled(there);

	for (int i = 0; i < BQLSTATS; i++)
		kill(lab_process_pid(bqlstat[i]), SIGINT);
	for (int i = 0; i < BQLSTATS; i++) {
		g_autofree char *said = NULL;
		int status = end_bqlstat(bqlstat[i], SIGINT, &said);

		expect_status(status, 0, said);
	}
	sent[AFTER] = profiled(here);
	arrived[AFTER] = profiled(there);
	for (int i = 0; i < BQLSTATS; i++) {
		struct store_error err;
		struct store *store;
		GArray *list;

		g_assert_cmpint(store_open(file[i], &store, &err), ==, 0);
		list = store_list(store, &err);
		g_assert_nonnull(list);
		g_assert_cmpuint(list->len, ==, i == 2 ? 2 : 1);
		for (unsigned k = 0; k < list->len; k++, run++) {
			struct run *r =
				load_run(store, g_array_index(list, struct store_entry, k).id);
			g_autoptr(GHashTable) ours = counted(r, false);

			check_run(r);
			lie_between(names[run], ours,
				    r->pid == (unsigned)lab_vm_pid(here) ? sent : arrived, QUERIES);
			run_free(r);
		}
		g_array_unref(list);
		store_close(store);
		unlink(file[i]);
	}
	g_assert_cmpint(run, ==, RUNS);
	text_unchanged(text);
	g_assert_true(lab_qmp_ok(there, &error, "cont"));
	g_assert_true(lab_vm_alive(there, ALIVE_MS, &error));
	g_assert_no_error(error);
	readings_clear(sent);
	readings_clear(arrived);
	text_free(text);
	lab_migration_clear(&result);
}

int main(int argc, char **argv)
{
	/* 11.1 has other points than the two before it. */
	static const struct cell cells[] = {
		{"7.2", false, 13}, {"7.2", true, 13},	{"10.0", false, 13},
		{"10.0", true, 13}, {"11.1", false, 4}, {"11.1", true, 4},
	};
	static const char *const versions[] = {"10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(cells); i++) {
		g_autofree char *path = g_strdup_printf("/coexist/%s/%s/cycles", cells[i].version,
							cells[i].detoured ? "io-free" : "stock");

		g_test_add_data_func(path, &cells[i], test_cycles);
	}
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		g_autofree char *path = g_strdup_printf("/coexist/%s/several", versions[v]);

		g_test_add_data_func(path, versions[v], test_several);
	}
	return g_test_run();
}
