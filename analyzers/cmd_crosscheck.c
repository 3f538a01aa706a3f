/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat crosscheck: do all the ways to watch the lock say the same?
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/command.h"
#include "analyzers/cross/play.h"
#include "analyzers/lab/journey.h"
#include "analyzers/model/words.h"
#include "analyzers/show.h"

#define MOST_ROUNDS 100
#define FORMAT	    1 /* of the JSON: docs/crosscheck-json.md */

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	(void)signal;
	stop = 1;
}

struct crosscheck {
	char *policy, *qemu, *limit_text, *long_text;
	int rounds;
	gboolean json, no_log;
	double limit; /* a share */
	uint64_t long_ns;

	/* Disagreement on the total by round, without and with the log. */
	double apart[2][MOST_ROUNDS];
	int n_apart[2];
	unsigned uncounted; /* sites with another number of acquisitions, of all rounds */
	uint64_t lost;
};

/* Every site of any of the books, most held first. */
static GPtrArray *all_sites(const struct play_result *r)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
	GPtrArray *sites = g_ptr_array_new();

	for (unsigned b = 0; b < r->n; b++) {
		GHashTableIter iter;
		void *name;

		g_hash_table_iter_init(&iter, r->books[b]->sites);
		while (g_hash_table_iter_next(&iter, &name, NULL))
			if (g_hash_table_add(seen, name))
				g_ptr_array_add(sites, name);
	}
	return sites;
}

static const struct book_site *entry(const struct play_result *r, unsigned book, const char *site)
{
	static const struct book_site nothing;
	const struct book_site *s = book_find(r->books[book], site);

	return s ? s : &nothing;
}

static gint by_long(gconstpointer a, gconstpointer b, gpointer opaque)
{
	const struct book_site *x = entry(opaque, 0, *(char *const *)a);
	const struct book_site *y = entry(opaque, 0, *(char *const *)b);

	if (x->long_ns != y->long_ns)
		return x->long_ns < y->long_ns ? 1 : -1;
	return x->acquired < y->acquired ? 1 : x->acquired > y->acquired ? -1 : 0;
}

static bool counts_differ(const struct play_result *r, const char *site)
{
	for (unsigned b = 1; b < r->n; b++)
		if (entry(r, b, site)->acquired != entry(r, 0, site)->acquired)
			return true;
	return false;
}

/* How far the furthest two are apart, as a share of the larger. */
static double apart(const uint64_t *ns, unsigned n)
{
	uint64_t least = UINT64_MAX, most = 0;

	for (unsigned i = 0; i < n; i++) {
		least = MIN(least, ns[i]);
		most = MAX(most, ns[i]);
	}
	return most ? (double)(most - least) / most : 0;
}

static double totals_apart(const struct play_result *r)
{
	uint64_t ns[PLAY_SOURCES];

	for (unsigned b = 0; b < r->n; b++)
		ns[b] = r->books[b]->sum.long_ns;
	return apart(ns, r->n);
}

static double site_apart(const struct play_result *r, const char *site)
{
	uint64_t ns[PLAY_SOURCES];

	for (unsigned b = 0; b < r->n; b++)
		ns[b] = entry(r, b, site)->long_ns;
	return apart(ns, r->n);
}

/* ---- showing ---- */

static void show_cells(const struct play_result *r, const char *site)
{
	for (unsigned b = 0; b < r->n; b++) {
		const struct book_site *s = site ? entry(r, b, site) : &r->books[b]->sum;
		char text[WORDS_DURATION];

		printf("  %8llu %8s", (unsigned long long)s->acquired,
		       words_duration(text, s->long_ns));
	}
}

static void show_round(const struct crosscheck *c, const struct play_result *r, int round,
		       const GPtrArray *sites)
{
	char text[WORDS_DURATION];
	unsigned width = 24;
	bool colour = show_colour();

	for (unsigned i = 0; i < sites->len; i++)
		width = MAX(width, strlen(sites->pdata[i]));
	printf("%sRound %d of %d: QEMU %s, %s; acquisitions, and time in holds of %s and longer\n",
	       round > 1 ? "\n" : "", round, c->rounds, r->qemu_version, c->policy,
	       words_duration(text, c->long_ns));
	printf("  %-*s", width, "call site");
	for (unsigned b = 0; b < r->n; b++)
		printf("  %17s", r->books[b]->name);
	printf("  apart\n");
	for (unsigned i = 0; i < sites->len; i++) {
		bool differ = counts_differ(r, sites->pdata[i]);

		printf("  %-*s", width, (char *)sites->pdata[i]);
		show_cells(r, sites->pdata[i]);
		printf("  %4.1f%%%s%s%s\n", 100 * site_apart(r, sites->pdata[i]),
		       differ && colour ? SHOW_RED : "", differ ? "  counts differ" : "",
		       differ && colour ? SHOW_PLAIN : "");
	}
	printf("  %-*s", width, "all");
	show_cells(r, NULL);
	printf("  %4.1f%%\n", 100 * totals_apart(r));
	if (*r->without)
		printf("  without the log: %s\n", r->without);
	for (unsigned b = 0; b < r->n; b++) {
		if (r->books[b]->lost)
			printf("  %s: %llu events lost\n", r->books[b]->name,
			       (unsigned long long)r->books[b]->lost);
		if (r->books[b]->bias_ns)
			printf("  %s: %s taken off each hold, its own time\n", r->books[b]->name,
			       words_duration(text, r->books[b]->bias_ns));
	}
}

static void json_round(JsonBuilder *b, const struct crosscheck *c, const struct play_result *r,
		       int round, const GPtrArray *sites)
{
	json_builder_begin_object(b);
	show_int(b, "format", FORMAT);
	show_int(b, "round", round);
	json_builder_set_member_name(b, "qemu");
	json_builder_begin_object(b);
	show_text(b, "version", r->qemu_version);
	json_builder_end_object(b);
	show_text(b, "policy", c->policy);
	show_int(b, "long_limit_ns", c->long_ns);
	show_text(b, "without_log", r->without);
	json_builder_set_member_name(b, "totals_apart");
	json_builder_add_double_value(b, totals_apart(r));
	json_builder_set_member_name(b, "sources");
	json_builder_begin_array(b);
	for (unsigned i = 0; i < r->n; i++) {
		json_builder_begin_object(b);
		show_text(b, "name", r->books[i]->name);
		show_int(b, "lost_total", r->books[i]->lost);
		show_int(b, "hold_bias_ns", r->books[i]->bias_ns);
		show_int(b, "acquired", r->books[i]->sum.acquired);
		show_int(b, "long_holds", r->books[i]->sum.long_holds);
		show_int(b, "long_ns", r->books[i]->sum.long_ns);
		json_builder_set_member_name(b, "sites");
		json_builder_begin_array(b);
		for (unsigned n = 0; n < sites->len; n++) {
			const struct book_site *s = entry(r, i, sites->pdata[n]);

			json_builder_begin_object(b);
			show_text(b, "site", sites->pdata[n]);
			show_int(b, "acquired", s->acquired);
			show_int(b, "long_holds", s->long_holds);
			show_int(b, "long_ns", s->long_ns);
			json_builder_end_object(b);
		}
		json_builder_end_array(b);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_end_object(b);
}

/* ---- rounds ---- */

static void judge(struct crosscheck *c, const struct play_result *r, const GPtrArray *sites)
{
	bool log = r->n == PLAY_SOURCES;

	c->apart[log][c->n_apart[log]++] = totals_apart(r);
	for (unsigned i = 0; i < sites->len; i++)
		c->uncounted += counts_differ(r, sites->pdata[i]);
	for (unsigned b = 0; b < r->n; b++)
		c->lost += r->books[b]->lost;
}

static int one_round(struct crosscheck *c, int round, JsonBuilder *json)
{
	/* By turns: the log writes while the lock is held, so what it does to the others shows. */
	const struct play_options options = {.qemu = c->qemu,
					     .policy = c->policy,
					     .log = !c->no_log && round % 2,
					     .long_ns = c->long_ns,
					     .stop = &stop};
	g_autoptr(GPtrArray) sites = NULL;
	struct play_result result;
	struct store_error err;

	if (play(&options, &result, &err)) {
		play_clear(&result);
		return command_fail(EXIT_CANNOT, "round %d: %s", round, err.text);
	}
	sites = all_sites(&result);
	g_ptr_array_sort_with_data(sites, by_long, &result);
	judge(c, &result, sites);
	if (json)
		json_round(json, c, &result, round, sites);
	else
		show_round(c, &result, round, sites);
	fflush(stdout);
	play_clear(&result);
	return EXIT_DONE;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/*
 * The lower quartile of the rounds'. A thread that is preempted between the places of two probes
 * makes them differ by a time slice, which is no fault of either's; on a busy machine that happens
 * in many rounds. What is wrong with a source is wrong in all of them.
 */
static double quartile(struct crosscheck *c, bool log)
{
	int n = c->n_apart[log];

	qsort(c->apart[log], n, sizeof(c->apart[log][0]), by_size);
	return n ? c->apart[log][(n - 1) / 4] : 0;
}

static int verdict(struct crosscheck *c)
{
	double apart = fmax(quartile(c, false), quartile(c, true));

	if (c->lost)
		return command_fail(EXIT_GATE, "%llu events were lost: nothing is proved",
				    (unsigned long long)c->lost);
	if (c->uncounted)
		return command_fail(EXIT_GATE, "the sources count differently at %u call sites",
				    c->uncounted);
	if (apart > c->limit)
		return command_fail(EXIT_GATE,
				    "the sources are %.2f%% apart on the time in long holds (the "
				    "lower quartile of the rounds), more than %.2f%%",
				    100 * apart, 100 * c->limit);
	fprintf(stderr,
		"bqlstat: the sources agree: every count is equal, and the time in long holds is "
		"within %.2f%% (limit %.2f%%)\n",
		100 * apart, 100 * c->limit);
	return EXIT_DONE;
}

static int run_rounds(struct crosscheck *c)
{
	g_autoptr(JsonBuilder) json = c->json ? json_builder_new() : NULL;
	int code = EXIT_DONE;

	if (json)
		json_builder_begin_array(json);
	for (int round = 1; round <= c->rounds && code == EXIT_DONE; round++)
		code = one_round(c, round, json);
	if (json) {
		json_builder_end_array(json);
		show_json(stdout, json);
	}
	return code == EXIT_DONE ? verdict(c) : code;
}

static const char *understand(struct crosscheck *c, int argc)
{
	char *end;

	if (argc > 1)
		return "there is nothing to name: see `bqlstat help crosscheck`";
	if (c->rounds < 1 || c->rounds > MOST_ROUNDS)
		return "-n wants 1 to 100 rounds";
	if (strcmp(c->policy, "stock") && !g_strv_contains(lab_policies(), c->policy))
		return "there is no such policy: `loadvm --list` names them";
	if (c->long_text && !command_duration(c->long_text, 1000, &c->long_ns))
		return "--long wants a duration such as 50us or 1ms";
	if (!c->limit_text)
		return NULL;
	c->limit = g_ascii_strtod(c->limit_text, &end) / 100;
	if (end == c->limit_text || (*end && strcmp(end, "%")) || !(c->limit >= 0))
		return "--limit wants a percentage such as 3%";
	return NULL;
}

static int crosscheck(const struct command *command, int argc, char **argv)
{
	struct crosscheck c = {.rounds = 6, .limit = 0.03, .long_ns = 50000};
	const GOptionEntry entries[] = {
		{"rounds", 'n', 0, G_OPTION_ARG_INT, &c.rounds, "how many migrations (6)", "N"},
		{"policy", 'p', 0, G_OPTION_ARG_STRING, &c.policy,
		 "the destination's policy (io-free)", "POLICY"},
		{"qemu", 'Q', 0, G_OPTION_ARG_STRING, &c.qemu,
		 "the QEMU: 7.2, 10.0, 11.1 or a path (7.2)", "QEMU"},
		{"limit", 'l', 0, G_OPTION_ARG_STRING, &c.limit_text,
		 "how far totals may be apart (3%)", "PERCENT"},
		{"long", 'L', 0, G_OPTION_ARG_STRING, &c.long_text,
		 "from where on a hold counts as long (50us)", "DURATION"},
		{"no-log", 0, 0, G_OPTION_ARG_NONE, &c.no_log, "leave QEMU's own trace log out",
		 NULL},
		{"json", 'j', 0, G_OPTION_ARG_NONE, &c.json, "for programs", NULL},
		{},
	};
	const char *wrong;
	int code;

	if (!command_options(command, entries, &argc, &argv))
		return EXIT_USAGE;
	if (!c.policy)
		c.policy = g_strdup("io-free");
	if (!c.qemu)
		c.qemu = g_strdup("7.2");
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	wrong = understand(&c, argc);
	code = wrong ? command_fail(EXIT_USAGE, "%s", wrong) : run_rounds(&c);
	g_free(c.policy);
	g_free(c.qemu);
	g_free(c.limit_text);
	g_free(c.long_text);
	return code;
}

const struct command command_crosscheck = {
	.name = "crosscheck",
	.does = "hold the ways to watch the lock against each other",
	.usage = "",
	.help = "Migrates a small VM to a QEMU under `loadvm --lttng` and watches that one's lock "
		"in\n"
		"every way there is, at once: eBPF on QEMU's code (as `bqlstat record` does), eBPF "
		"on the\n"
		"runtime's USDT sites, LTTng, and, in every other round, QEMU's own trace log. "
		"Counts must\n"
		"be equal at every call site, and the time in long holds within the limit, "
		"in the\n"
		"lower quartile of the rounds; otherwise the exit code is 1. Needs root, "
		"lttng-tools and loadvm.",
	.run = crosscheck,
};
