/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat bench: migrations of a scenario, made by turns, recorded into one run file.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/bench/bench.h"
#include "analyzers/inspect/check.h"
#include "analyzers/command.h"
#include "analyzers/compare/figures.h"
#include "analyzers/model/words.h"
#include "analyzers/store/store.h"

#define MOST_SIDES  8
#define MOST_PAIRS  1000
#define RUN_LIMIT_S 600 /* whatever the scenario's own time-outs are */
#define TRIES	    3	/* of a run that cannot be made: a machine may be short of something */

struct bench {
	char *a, **b, *scenario_name, *output, *threshold;
	int pairs, warm_ups;
	gboolean list, quiet;

	struct lab_scenario *scenario;
	struct bench_side *sides[MOST_SIDES];
	unsigned n_sides;
	struct store *store;
	bool *done; /* by pair, then side */
	unsigned n_done;
	char *file, *said; /* of the run being made */
	int signal_fd;
	int stopped_by; /* a signal, 0: none */
	unsigned made;
	double made_s; /* in all, for the time left */
};

static int list_scenarios(void)
{
	g_auto(GStrv) paths = lab_scenario_shipped();

	for (char **path = paths; *path; path++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(lab_scenario) s = lab_scenario_load(*path, &error);

		if (!s)
			return command_fail(EXIT_CANNOT, "%s", error->message);
		printf("%-16s %s\n%16s %s\n", lab_scenario_name(s), lab_scenario_about(s), "",
		       *path);
	}
	return EXIT_DONE;
}

/* ---- what is to be done, and what has been ---- */

static int parse_side(struct bench *b, const char *text)
{
	g_autofree char *wrong = NULL;
	struct bench_side *side;

	if (b->n_sides == MOST_SIDES)
		return command_fail(EXIT_USAGE, "more than %d things to compare", MOST_SIDES);
	side = bench_side_parse(text, b->scenario, &wrong);
	if (!side)
		return command_fail(EXIT_USAGE, "%s", wrong);
	b->sides[b->n_sides++] = side;
	for (unsigned i = 0; i + 1 < b->n_sides; i++)
		if (!strcmp(b->sides[i]->label, side->label))
			return command_fail(EXIT_USAGE, "two sides have the label \"%s\"",
					    side->label);
	return EXIT_DONE;
}

static int understand(struct bench *b)
{
	g_autoptr(GError) error = NULL;
	int code;

	b->scenario = lab_scenario_load(b->scenario_name, &error);
	if (!b->scenario)
		return command_fail(EXIT_USAGE, "%s (`bqlstat bench --list` lists scenarios)",
				    error->message);
	if (!lab_scenario_check(b->scenario, &error))
		return command_fail(EXIT_USAGE, "scenario %s: %s", b->scenario_name,
				    error->message);
	code = parse_side(b, b->a);
	for (char **text = b->b; code == EXIT_DONE && *text; text++)
		code = parse_side(b, *text);
	return code;
}

static int check_host(void)
{
	GPtrArray *checks = checks_new();
	const struct check *obstacle;
	int code = EXIT_DONE;

	host_checks(checks, false);
	obstacle = checks_obstacle(checks);
	if (obstacle)
		code = command_fail(EXIT_CANNOT,
				    "each migration is recorded, which needs %s: %s%s%s",
				    obstacle->name, obstacle->detail, obstacle->mend ? "; " : "",
				    obstacle->mend ?: "");
	g_ptr_array_unref(checks);
	return code;
}

static bool *done_at(const struct bench *b, unsigned pair, unsigned side)
{
	return &b->done[(pair - 1) * b->n_sides + side];
}

static int side_of(const struct bench *b, const char *label)
{
	for (unsigned i = 0; i < b->n_sides; i++)
		if (!strcmp(b->sides[i]->label, label))
			return (int)i;
	return -1;
}

/* A run that is in the file already: ours, another's, or one with a label that meant other things.
 */
static int note_done(struct bench *b, const struct run *run)
{
	double recipe = 0, pair = 0;
	int side = side_of(b, run->label);

	if (!run_metric(run, METRIC_SIDE, &recipe) || !run_metric(run, METRIC_PAIR, &pair))
		return command_fail(EXIT_USAGE,
				    "%s holds runs that bench did not make: give it another file",
				    b->output);
	if (side < 0)
		return command_fail(EXIT_USAGE,
				    "%s holds runs of \"%s\", which is not among what is "
				    "compared: give it another file",
				    b->output, run->label);
	if (recipe != b->sides[side]->recipe)
		return command_fail(EXIT_USAGE,
				    "%s holds runs of \"%s\" made in another way or by another "
				    "scenario: give it another file",
				    b->output, run->label);
	if (pair >= 1 && pair <= b->pairs && !*done_at(b, (unsigned)pair, side)) {
		*done_at(b, (unsigned)pair, side) = true;
		b->n_done++;
	}
	return EXIT_DONE;
}

static int read_done(struct bench *b)
{
	struct store_error err;
	GArray *entries = store_list(b->store, &err);
	int code = EXIT_DONE;

	if (!entries)
		return command_fail(EXIT_CANNOT, "%s", err.text);
	for (unsigned i = 0; code == EXIT_DONE && i < entries->len; i++) {
		struct run *run;

		if (store_load(b->store, g_array_index(entries, struct store_entry, i).id, &run,
			       &err)) {
			code = command_fail(EXIT_CANNOT, "%s", err.text);
			break;
		}
		code = note_done(b, run);
		run_free(run);
	}
	g_array_unref(entries);
	return code;
}

/* ---- one run ---- */

static void show_progress(const struct bench *b, const char *what, double elapsed_s)
{
	char took[WORDS_DURATION], left[WORDS_DURATION];
	unsigned total = (unsigned)b->pairs * b->n_sides;
	double each = b->made ? b->made_s / b->made : 0;

	if (b->quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K[%u of %u] %s, %s", b->n_done, total, what,
		words_duration(took, (uint64_t)(elapsed_s * 1e9)));
	if (b->made)
		fprintf(stderr, "; about %s left",
			words_duration(
				left,
				(uint64_t)(MAX(0, each * (total - b->n_done) - elapsed_s) * 1e9)));
}

static void clear_progress(const struct bench *b)
{
	if (!b->quiet && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

/* Until it ends, a signal comes, or it has taken too long. -1: it did not end by itself. */
static int wait_for(struct bench *b, pid_t child, const char *what)
{
	int fd = (int)syscall(SYS_pidfd_open, child, 0), status = -1;
	uint64_t begin = lab_now_ns();
	struct signalfd_siginfo info;
	bool ended = false;

	while (!ended && !b->stopped_by) {
		struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
				       {.fd = b->signal_fd, .events = POLLIN}};
		double elapsed_s = (lab_now_ns() - begin) / 1e9;

		if (elapsed_s > RUN_LIMIT_S)
			break;
		show_progress(b, what, elapsed_s);
		poll(fds, G_N_ELEMENTS(fds), 1000);
		ended = fds[0].revents;
		if (fds[1].revents && read(b->signal_fd, &info, sizeof(info)) == sizeof(info))
			b->stopped_by = (int)info.ssi_signo;
	}
	clear_progress(b);
	/* What it has started dies with it. */
	if (!ended)
		kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(fd);
	return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* From the run's own file into the one that is kept. */
static int keep(struct bench *b, const char *what)
{
	struct store_error err;
	struct store *store = NULL;
	struct run *run = NULL;
	char took[WORDS_DURATION];
	double total = 0;
	int code = EXIT_DONE;

	if (store_open(b->file, &store, &err) || store_load(store, 1, &run, &err))
		code = command_fail(EXIT_CANNOT, "%s", err.text);
	store_close(store);
	if (run)
		run->id = 0;
	if (run && store_save(b->store, run, &err))
		code = command_fail(EXIT_CANNOT, "%s", err.text);
	if (code == EXIT_DONE && !b->quiet) {
		run_metric(run, METRIC_TOTAL, &total);
		fprintf(stderr, "[%u of %u] %s: %s, lock held %.1f%% of the time\n", b->n_done + 1,
			b->pairs * b->n_sides, what, words_duration(took, (uint64_t)total),
			100 * run_share_held(run));
	}
	if (run)
		run_free(run);
	return code;
}

static int make(struct bench *b, unsigned pair, unsigned side)
{
	struct bench_place place = {pair, b->n_done + 1};
	g_autofree char *what = pair ? g_strdup_printf("%s, round %u", b->sides[side]->label, pair)
				     : g_strdup_printf("%s, warming up", b->sides[side]->label);

	for (unsigned attempt = 1; !b->stopped_by; attempt++) {
		uint64_t begin = lab_now_ns();
		g_autofree char *said = NULL;
		pid_t child = bench_start(b->sides[side], place, b->threshold, b->file, b->said);
		int code = child < 0 ? -1 : wait_for(b, child, what);

		if (b->stopped_by)
			break;
		b->made++;
		b->made_s += (lab_now_ns() - begin) / 1e9;
		if (code == EXIT_DONE)
			return pair ? keep(b, what) : EXIT_DONE;
		g_file_get_contents(b->said, &said, NULL, NULL);
		command_fail(EXIT_CANNOT, "%s: %s%s", what,
			     said ?: "the run took too long, or broke off",
			     attempt < TRIES ? "; once more" : "");
		if (attempt == TRIES)
			return EXIT_CANNOT;
	}
	return EXIT_CANNOT;
}

/* ---- all of them ---- */

/* A B B A A B ...: what the machine does meanwhile falls on all alike. */
static unsigned side_at(const struct bench *b, unsigned pair, unsigned nth)
{
	return pair % 2 ? nth : b->n_sides - 1 - nth;
}

static int make_all(struct bench *b)
{
	int code = EXIT_DONE;

	if (b->n_done == (unsigned)b->pairs * b->n_sides)
		return EXIT_DONE;
	if (b->n_done && !b->quiet)
		fprintf(stderr, "bqlstat: %s holds %u of %u runs already\n", b->output, b->n_done,
			b->pairs * b->n_sides);
	for (int w = 0; code == EXIT_DONE && w < b->warm_ups; w++)
		for (unsigned s = 0; code == EXIT_DONE && s < b->n_sides; s++)
			code = make(b, 0, s);
	for (unsigned pair = 1; code == EXIT_DONE && pair <= (unsigned)b->pairs; pair++)
		for (unsigned n = 0; code == EXIT_DONE && n < b->n_sides; n++) {
			unsigned s = side_at(b, pair, n);

			if (*done_at(b, pair, s))
				continue;
			code = make(b, pair, s);
			b->n_done += code == EXIT_DONE;
		}
	return code;
}

static void say_done(const struct bench *b)
{
	if (b->quiet)
		return;
	fprintf(stderr, "bqlstat: %u runs are in %s: bqlstat diff %s --a '%s' --b '%s'%s\n",
		b->n_done, b->output, b->output, b->sides[0]->label, b->sides[1]->label,
		b->n_sides > 2 ? ", and so on" : "");
}

static int run_bench(struct bench *b)
{
	struct store_error err;
	sigset_t mask, before;
	int code;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	code = understand(b);
	if (code == EXIT_DONE)
		code = check_host();
	if (code != EXIT_DONE)
		return code;
	if (store_create(b->output, &b->store, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	b->done = g_new0(bool, b->pairs * b->n_sides);
	code = read_done(b);
	if (code != EXIT_DONE)
		return code;
	sigprocmask(SIG_BLOCK, &mask, &before);
	b->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
	b->file = g_build_filename(lab_tmpdir(), "run.bql", NULL);
	b->said = g_build_filename(lab_tmpdir(), "said", NULL);
	code = make_all(b);
	close(b->signal_fd);
	if (b->stopped_by) {
		fprintf(stderr,
			"bqlstat: stopped; %u of %u runs are in %s, the same command goes on\n",
			b->n_done, b->pairs * b->n_sides, b->output);
		return 128 + b->stopped_by;
	}
	if (code == EXIT_DONE)
		say_done(b);
	return code;
}

static int bench(const struct command *command, int argc, char **argv)
{
	struct bench b = {.pairs = 10, .warm_ups = 1};
	const GOptionEntry entries[] = {
		{"a", 'a', 0, G_OPTION_ARG_STRING, &b.a, "what you have", "LABEL: WHAT"},
		{"b", 'b', 0, G_OPTION_ARG_STRING_ARRAY, &b.b,
		 "what you might get; may be given several times", "LABEL: WHAT"},
		{"scenario", 's', 0, G_OPTION_ARG_FILENAME, &b.scenario_name,
		 "a scenario's file, or the name of one that is shipped", "FILE"},
		{"runs", 'n', 0, G_OPTION_ARG_INT, &b.pairs, "runs of each (10)", "N"},
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &b.output,
		 "the run file; one that was begun is completed", "FILE"},
		{"warm-ups", 'w', 0, G_OPTION_ARG_INT, &b.warm_ups,
		 "runs of each that are made first and dropped (1)", "N"},
		{"threshold", 't', 0, G_OPTION_ARG_STRING, &b.threshold,
		 "keep holds and waits of this length one by one (200us)", "DUR"},
		{"list", 'l', 0, G_OPTION_ARG_NONE, &b.list, "list the scenarios that are shipped",
		 NULL},
		{"quiet", 'q', 0, G_OPTION_ARG_NONE, &b.quiet, "say nothing when all is well",
		 NULL},
		{},
	};
	uint64_t threshold_ns;
	int code;

	b.threshold = g_strdup("200us");
	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (b.list)
		code = list_scenarios();
	else if (argc > 1)
		code = command_fail(EXIT_USAGE,
				    "what is %s? What is compared goes into --a '...' and --b "
				    "'...'",
				    argv[1]);
	else if (!b.a || !b.b || !b.scenario_name || !b.output)
		code = command_fail(EXIT_USAGE, "--a, --b, --scenario and -o are needed: `bqlstat "
						"help bench` tells how");
	else if (b.pairs < 1 || b.pairs > MOST_PAIRS || b.warm_ups < 0 || b.warm_ups > 100)
		code = command_fail(EXIT_USAGE, "-n wants 1 to %d runs, -w at most 100",
				    MOST_PAIRS);
	else if (!command_duration(b.threshold, 1000000, &threshold_ns))
		code = command_fail(EXIT_USAGE, "-t wants a duration such as 200us or 1ms");
	else
		code = run_bench(&b);

	for (unsigned i = 0; i < b.n_sides; i++)
		bench_side_free(b.sides[i]);
	lab_scenario_free(b.scenario);
	store_close(b.store);
	g_free(b.done);
	g_free(b.file);
	g_free(b.said);
	g_free(b.a);
	g_strfreev(b.b);
	g_free(b.scenario_name);
	g_free(b.output);
	g_free(b.threshold);
	return code;
}

const struct command command_bench = {
	.name = "bench",
	.does = "make and record migrations of two QEMUs by turns, to be compared",
	.usage = "--a 'LABEL: WHAT' --b 'LABEL: WHAT' -s SCENARIO -o FILE [-n N]",
	.help = "Starts pairs of real QEMUs, migrates a small guest from one to the other as the "
		"scenario\n"
		"says (machine, memory, faults in the stream), and records each destination. A and "
		"B take\n"
		"turns (A B B A ...), so that what else the machine does falls on both. "
		"Interrupted, the\n"
		"same command goes on where it was; with a larger N it adds runs. `bqlstat diff "
		"FILE`\n"
		"then compares.\n\n"
		"WHAT is any of these words:\n"
		"  stock, or a policy of loadvm (`loadvm --list`)\n"
		"  a QEMU, or a wrapper that execs one: a path, a program in PATH, or 7.2, 10.0, "
		"11.1\n"
		"                      where the lab can get it\n"
		"  source=QEMU         the source's, where it differs\n"
		"  migration.multifd=4 or another [GROUP] KEY of the scenario, set differently\n"
		"  -- OPTION...        more of QEMU's options, for source and destination\n\n"
		"  bqlstat bench --a 'stock: stock' --b 'io-free: io-free' -s multifd-stall -o "
		"runs.bql\n"
		"  bqlstat bench --a 'old: /usr/bin/qemu-system-x86_64' --b 'new: "
		"./qemu-system-x86_64' \\\n"
		"                -s precopy -n 20 -o upgrade.bql\n\n"
		"Needs what `bqlstat record` needs (root), and a few seconds a run.",
	.run = bench,
};
