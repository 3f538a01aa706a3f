/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockdance: its books agree with its script and with themselves, and a seam map finds in it what
 * it finds in a QEMU of each generation.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"

#define PATIENCE_MS 20000

static const char *const generations[] = {"lockdance-7.2", "lockdance", "lockdance-11.1"};

/* Run it; the ledger's lines, or NULL and its standard error in *says. */
static char **dance(const char *program, const char *script, int *status, char **says)
{
	g_autofree char *path = g_build_filename(lab_tmpdir(), "ledger.tsv", NULL);
	g_autofree char *text = NULL;
	g_autoptr(lab_process) p = NULL;

	unlink(path);
	g_assert_nonnull(lab_program(program));
	p = lab_process_new(
		(const char *[]){lab_program(program), "--ledger", path, "-e", script, NULL}, NULL,
		NULL);
	g_assert_nonnull(p);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, status, NULL));
	*says = lab_process_stderr(p);
	return g_file_get_contents(path, &text, NULL, NULL) ? g_strsplit(text, "\n", -1) : NULL;
}

static uint64_t number(char **fields, unsigned n)
{
	g_assert_cmpuint(g_strv_length(fields), >, n);
	return g_ascii_strtoull(fields[n], NULL, 10);
}

struct hold {
	uint64_t ask, acquired, released, slept;
};

static struct hold hold_of(char **fields)
{
	return (struct hold){number(fields, 4), number(fields, 5), number(fields, 6),
			     number(fields, 7)};
}

static int by_acquired(gconstpointer a, gconstpointer b)
{
	const struct hold *x = a, *y = b;

	return (x->acquired > y->acquired) - (x->acquired < y->acquired);
}

/* Three threads that contend: holds never overlap, counts are the script's, totals the sums. */
static void exclusive(gconstpointer program)
{
	static const char script[] =
		"thread CPU 0/TCG; repeat 200; lock dance-a.c:1; hold 20; unlock; "
		"end; pairs 300 dance-b.c:7\n"
		"thread iothread1; repeat 100; lock dance-a.c:2; hold 50; unlock; "
		"idle 30; end\n"
		"thread mig/dst/main; repeat 10; lock savevm.c:3; sleep 500; "
		"unlock; end\n";
	g_autofree char *says = NULL;
	g_auto(GStrv) lines = NULL;
	g_autoptr(GArray) holds = g_array_new(FALSE, FALSE, sizeof(struct hold));
	uint64_t sums[2] = {0}, totals[2] = {0};
	unsigned blocks = 0, sites = 0;
	int status;

	lines = dance(program, script, &status, &says);
	g_assert_cmpstr(says, ==, "");
	g_assert_cmpint(status, ==, 0);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) f = g_strsplit(*line, "\t", -1);

		if (!g_strcmp0(f[0], "hold")) {
			struct hold h = hold_of(f);

			g_array_append_val(holds, h);
			g_assert_cmpuint(h.ask, <=, h.acquired);
			g_assert_cmpuint(h.acquired, <=, h.released);
			sums[0] += h.acquired - h.ask;
			sums[1] += h.released - h.acquired - h.slept;
		} else if (!g_strcmp0(f[0], "block")) {
			blocks++;
			g_assert_cmpstr(f[2], ==, "mig/dst/main");
			g_assert_cmpstr(f[3], ==, "../../migration/savevm.c:3");
			g_assert_cmpstr(f[4], ==, "sleep");
			g_assert_cmpuint(number(f, 6) - number(f, 5), >=, 500000);
		} else if (!g_strcmp0(f[0], "total")) {
			uint64_t n = !strcmp(f[1], "dance-a.c:1")   ? 200
				     : !strcmp(f[1], "dance-b.c:7") ? 300
				     : !strcmp(f[1], "dance-a.c:2") ? 100
								    : 10;

			sites++;
			g_assert_cmpuint(number(f, 2), ==, n);
			totals[0] += number(f, 3);
			totals[1] += number(f, 5);
		}
	}
	g_assert_cmpuint(sites, ==, 4);
	g_assert_cmpuint(blocks, ==, 10);
	g_assert_cmpuint(holds->len, ==, 610);
	g_assert_cmpuint(sums[0], ==, totals[0]);
	g_assert_cmpuint(sums[1], ==, totals[1]);
	g_array_sort(holds, by_acquired);
	for (unsigned i = 1; i < holds->len; i++)
		g_assert_cmpuint(g_array_index(holds, struct hold, i).acquired, >=,
				 g_array_index(holds, struct hold, i - 1).released);
}

/* Back to back, no wait is ended by the alarm of the one before. */
static void condvars_in_a_row(void)
{
	g_autofree char *says = NULL;
	g_auto(GStrv) lines = NULL;
	unsigned n = 0;
	int status;

	lines = dance(
		"lockdance",
		"thread a; lock main-loop.c:1; repeat 50; condwait cpus.c:1 1000; end; unlock",
		&status, &says);
	g_assert_cmpint(status, ==, 0);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) f = g_strsplit(*line, "\t", -1);

		if (g_strcmp0(f[0], "block"))
			continue;
		g_assert_cmpuint(number(f, 6) - number(f, 5), >=, 900000);
		n++;
	}
	g_assert_cmpuint(n, ==, 50);
}

/* Every cause of blocking, and both condition variable waits, last as long as the script says. */
static void causes(gconstpointer program)
{
	static const char script[] =
		"thread main; lock migration.c:9; hold 100; sleep 2000; read 3000; "
		"fault 4000; condwait cpus.c:11 5000; timedwait cpus.c:12 6000; "
		"unlock";
	static const struct {
		const char *cause, *site;
		uint64_t least_ns;
	} expected[] = {
		{"sleep", "../../migration/migration.c:9", 2000000},
		{"read", "../../migration/migration.c:9", 2900000},
		{"fault", "../../migration/migration.c:9", 4000000},
		{"condvar", "../../system/cpus.c:11", 4900000},
		{"condvar", "../../system/cpus.c:12", 5900000},
	};
	g_autofree char *says = NULL;
	g_auto(GStrv) lines = NULL;
	struct hold hold = {0};
	uint64_t condvar = 0;
	unsigned n = 0;
	int status;

	lines = dance(program, script, &status, &says);
	if (status == 3 && strstr(says, "userfaultfd")) {
		g_test_skip(g_strchomp(says));
		return;
	}
	g_assert_cmpint(status, ==, 0);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) f = g_strsplit(*line, "\t", -1);

		if (!g_strcmp0(f[0], "hold"))
			hold = hold_of(f);
		if (g_strcmp0(f[0], "block"))
			continue;
		g_assert_cmpuint(n, <, G_N_ELEMENTS(expected));
		g_assert_cmpstr(f[4], ==, expected[n].cause);
		g_assert_cmpstr(f[3], ==, expected[n].site);
		g_assert_cmpuint(number(f, 6) - number(f, 5), >=, expected[n].least_ns);
		g_assert_cmpuint(number(f, 5), >=, hold.acquired);
		g_assert_cmpuint(number(f, 6), <=, hold.released);
		condvar += strcmp(f[4], "condvar") ? 0 : number(f, 6) - number(f, 5);
		n++;
	}
	g_assert_cmpuint(n, ==, G_N_ELEMENTS(expected));
	g_assert_cmpuint(hold.slept, ==, condvar);
	g_assert_cmpuint(hold.released - hold.acquired - hold.slept, >=, 9000000);
}

static void map(gconstpointer program)
{
	static const char *const names[] = {"7.2-8.2", "9.0-10.0", "10.1-11.x"};
	bool status_points = !strcmp(program, "lockdance-11.1");
	unsigned found[SEAM_POINT_KINDS] = {0};
	struct seam_error error = {{0}};
	const struct seam_point *points;
	struct seam_map *map;
	size_t n;

	g_assert_cmpint(seam_map_open(lab_program(program), &map, &error), ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(generations); i++)
		if (!strcmp(generations[i], program))
			g_assert_cmpstr(seam_map_generation(map), ==, names[i]);
	points = seam_map_points(map, &n);
	for (size_t i = 0; i < n; i++) {
		found[points[i].kind]++;
		g_assert_true(points[i].emulated);
	}
	g_assert_cmpuint(found[SEAM_ASK], ==, 1);
	g_assert_cmpuint(found[SEAM_ACQUIRED], ==, !status_points);
	g_assert_cmpuint(found[SEAM_RELEASED], ==, !status_points);
	g_assert_cmpuint(found[SEAM_STATUS], ==, status_points);
	g_assert_cmpuint(found[SEAM_COND_SLEEP], ==, 1);
	g_assert_cmpuint(found[SEAM_COND_TIMED_SLEEP], ==, 1);
	g_assert_cmpuint(found[SEAM_COND_WOKE], ==, status_points ? 0 : 2);
	seam_map_free(map);
}

static void refusals(void)
{
	static const struct {
		const char *script, *says;
	} wrong[] = {
		{"", "no thread"},
		{"lock dance-a.c:1", "begins with"},
		{"thread a; lock dance-a.c:1", "ends with the lock"},
		{"thread a; unlock", "while the lock is not held"},
		{"thread a; lock dance-a.c:1; lock dance-a.c:2", "while the lock is held"},
		{"thread a; repeat 2; lock dance-a.c:1; end; unlock", "as it found it"},
		{"thread a; repeat 2", "inside a repeat"},
		{"thread a; end", "without repeat"},
		{"thread a; lock nowhere.c:1; unlock", "does not take that"},
		{"thread a; hold", "does not take that"},
		{"thread a; hold -1", "does not take that"},
		{"thread a\n\njump 3", "line 3"},
		{"thread this-name-is-too-long", "1 to 15 bytes"},
		{"thread a; pairs 1000000000 dance-a.c:1", "20 million"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autofree char *says = NULL;
		int status;

		g_assert_null(dance("lockdance", wrong[i].script, &status, &says));
		g_assert_cmpint(status, ==, 2);
		g_test_message("%s", says);
		g_assert_nonnull(strstr(says, wrong[i].says));
	}
}

/* Waits for the word, by a byte and by a signal, so that a tracer can be there first. */
static void waits(void)
{
	g_autoptr(lab_process) p = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *ready = NULL;
	int status;

	p = lab_process_new((const char *[]){lab_program("lockdance"), "--wait-start", "--wait-end",
					     "--pairs", "1000", "--threads", "2", NULL},
			    NULL, &error);
	g_assert_no_error(error);
	ready = g_strdup_printf("ready %d\n", lab_process_pid(p));
	g_assert_true(lab_process_expect(p, ready, PATIENCE_MS, &error));
	g_assert_false(lab_process_expect(p, "2000 pairs", 100, NULL));
	g_assert_true(lab_process_write(p, "\n", &error));
	g_assert_true(lab_process_expect(p, "2000 pairs", PATIENCE_MS, &error));
	g_assert_true(lab_process_expect(p, "done\n", PATIENCE_MS, &error));
	g_assert_true(lab_process_running(p));
	lab_process_kill(p, SIGUSR1);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &status, &error));
	g_assert_cmpint(status, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(generations); i++) {
		const char *name = generations[i];
		g_autofree char *a = g_strdup_printf("/%s/exclusive", name);
		g_autofree char *b = g_strdup_printf("/%s/causes", name);
		g_autofree char *c = g_strdup_printf("/%s/map", name);

		g_test_add_data_func(a, name, exclusive);
		g_test_add_data_func(b, name, causes);
		g_test_add_data_func(c, name, map);
	}
	g_test_add_func("/lockdance/condvars-in-a-row", condvars_in_a_row);
	g_test_add_func("/lockdance/refusals", refusals);
	g_test_add_func("/lockdance/waits", waits);
	return g_test_run();
}
