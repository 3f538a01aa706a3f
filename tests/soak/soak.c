/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * soak N SEED: N migrations a version, each of a random kind to a destination with a random policy,
 * some with a fault. None may crash or hang QEMU; the guest goes on, or the destination ends as it
 * does on stock. Whatever differs is repeated with a stock destination before it counts as failure.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/soak/plan.h"

#define MS 1000000ull

enum {
	ARRIVE_MS = 30000,
	FIRED_MS = 2000,
	SETTLE_MS = 5000, /* until a destination has taken a fault in */
	END_MS = 5000,	  /* until a QEMU that is told to end has ended */
	ALIVE_MS = 10000,
	POLL_US = 5000,
	FLOOD_US = 2000,
	STOCK_TRIES = 8,
	STOCK_TRIES_GRAVE = 16,
	PROGRESS_S = 15,
};

enum { EXIT_FAILURES = 1, EXIT_USAGE = 2, EXIT_CANNOT = 3 };

#define ARRIVED "arrived"

/* How one migration ended. */
struct outcome {
	char *told;    /* "arrived", "exit 1", "stays failed, quit 0", "no answer, quit 0" */
	char *details; /* why, and what the QEMUs said */
};

static void outcome_clear(struct outcome *outcome)
{
	g_clear_pointer(&outcome->told, g_free);
	g_clear_pointer(&outcome->details, g_free);
}

struct soak {
	unsigned n;
	guint32 seed;
	unsigned from;	 /* the first number */
	int only;	 /* -1: all */
	char **versions; /* NULL: 7.2 and 10.0 */
	gboolean verbose;
	gboolean stock_only;
	char *policy; /* NULL: each its own */
	char *like;   /* NULL: all; else those whose description holds it */

	unsigned done, arrived, faulted, as_stock, as_rfc, failed, skipped, passed_over;
	uint64_t begin_ns, said_ns;
	GHashTable *stock_told; /* kind + how it ended: seen on stock */
};

/* ---- one migration ---- */

/* Which signal is chance, where two threads meet in freed memory: any is a crash. */
static void add_status(GString *told, int status)
{
	if (status >= 128)
		g_string_append(told, "crashes");
	else
		g_string_append_printf(told, "exit %d", status);
}

static bool is_ended(struct lab_vm *vm, GString *told)
{
	int status;

	if (!lab_vm_wait_exit(vm, 0, &status, NULL))
		return false;
	add_status(told, status);
	return true;
}

/* It is not to be kept: whatever state it is in, it must end when told to. */
static void tell_to_end(struct lab_vm *vm, GString *told)
{
	int status;

	if (!lab_vm_quit(vm, END_MS, &status, NULL))
		g_string_append(told, ", quit hangs");
	else
		g_string_append_printf(told, ", quit %d", status);
}

/* Where a fault has led the destination: it has ended, goes on, or stays in some state. */
static void settle(const struct soak_plan *p, struct lab_vm *vm, GString *told, GError **error)
{
	uint64_t end = lab_now_ns() + SETTLE_MS * MS;
	g_autofree char *status = g_strdup("none");

	while (lab_now_ns() < end) {
		g_autoptr(JsonNode) migration = NULL, run = NULL;
		g_autoptr(GError) broken = NULL;

		if (is_ended(vm, told))
			return;
		migration = lab_qmp(vm, &broken, "query-migrate");
		run = migration ? lab_qmp(vm, &broken, "query-status") : NULL;
		if (!run) {
			if (g_error_matches(broken, LAB_ERROR, LAB_ERROR_TIMEOUT)) {
				g_string_append(told, "no answer");
				tell_to_end(vm, told);
				return;
			}
			g_usleep(POLL_US);
			continue;
		}
		g_free(status);
		status = g_strdup(lab_json_string(migration, "status") ?: "none");
		if (!strcmp(status, "completed") &&
		    strcmp(lab_json_string(run, "status"), "inmigrate")) {
			if (lab_vm_alive(vm, ALIVE_MS, error)) {
				g_string_append(told, ARRIVED);
				return;
			}
			break;
		}
		/* "failed" may be the word before exit(). */
		if ((!strcmp(status, "failed") && p->options.stay_on_error) ||
		    !strcmp(status, "postcopy-paused"))
			break;
		g_usleep(POLL_US);
	}
	g_string_append_printf(told, "stays %s", status);
	tell_to_end(vm, told);
}

static bool do_fault(const struct soak_plan *p, struct lab_pair *pair, GString *told,
		     GError **error)
{
	struct lab_vm *there = lab_pair_destination(pair);
	int status;

	/* A place that the stream never comes to, or comes to too late, is no fault: it arrives. */
	if (p->has_rule)
		lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, NULL);
	else
		g_usleep(p->delay_ms * 1000);
	switch (p->fault) {
	case SOAK_QUIT:
	case SOAK_SIGTERM:
		if (p->fault == SOAK_SIGTERM)
			lab_vm_kill(there, SIGTERM);
		if (p->fault == SOAK_SIGTERM ? lab_vm_wait_exit(there, END_MS, &status, error)
					     : lab_vm_quit(there, END_MS, &status, error))
			add_status(told, status);
		else
			g_string_append(told, "does not end");
		return true;
	case SOAK_KILL_SOURCE:
		lab_vm_kill(lab_pair_source(pair), SIGKILL);
		break;
	case SOAK_CANCEL:
		lab_qmp_ok(lab_pair_source(pair), NULL, "migrate_cancel");
		break;
	case SOAK_YANK:
		/* Refused when the migration is over. */
		lab_qmp_ok(there, NULL, "yank {'instances': [{'type': 'migration'}]}");
		break;
	default:
		break;
	}
	/* What the silence held back comes; a half-open connection stays so. */
	if (p->has_rule && p->fault != SOAK_HALF_OPEN)
		lab_proxy_release(lab_pair_proxy(pair), 0);
	return false;
}

static void run_pair(const struct soak_plan *p, struct lab_pair *pair, GString *told,
		     GError **error)
{
	struct lab_vm *there = lab_pair_destination(pair);

	if (p->fault == SOAK_NO_FAULT || p->fault == SOAK_STALL) {
		g_autoptr(GError) broken = NULL;

		if (lab_journey_arrive(&p->journey, pair, ARRIVE_MS, NULL, &broken)) {
			g_string_append(told, ARRIVED);
			return;
		}
		if (!is_ended(there, told))
			settle(p, there, told, NULL);
		/* It goes on, but not as it should. */
		g_string_append(told, ", not in order");
		g_propagate_error(error, g_steal_pointer(&broken));
		return;
	}
	/* The fault may come before the beginning has ended. */
	lab_journey_begin(&p->journey, pair, NULL);
	if (!do_fault(p, pair, told, error))
		settle(p, there, told, error);
}

/* False when it cannot be had on this machine. */
static bool run(const struct soak_plan *plan, bool stock, struct outcome *outcome)
{
	static const char *const questions[] = {"query-migrate", "query-cpus-fast", "query-block",
						NULL};
	struct soak_plan p = *plan;
	g_autoptr(GError) error = NULL;
	g_autoptr(GString) told = g_string_new(NULL);
	g_autoptr(lab_poller) flood = NULL;
	g_autoptr(lab_pair) pair = NULL;

	*outcome = (struct outcome){0};
	if (stock)
		p.journey.policy = NULL;
	if (p.has_rule) {
		p.options.rules = &p.rule;
		p.options.n_rules = 1;
	}
	pair = lab_journey_new(&p.journey, &p.options, &error);
	if (g_error_matches(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE)) {
		fprintf(stderr, "soak: %s\n", error->message);
		return false;
	}
	if (pair && p.flood)
		flood = lab_poller_new_with(lab_pair_destination(pair), questions, FLOOD_US,
					    &error);
	if (error)
		g_string_append(told, "did not start");
	else
		run_pair(&p, pair, told, &error);
	outcome->told = g_strdup(told->str);
	if (pair) {
		g_autofree char *source = lab_vm_stderr(lab_pair_source(pair));
		g_autofree char *destination = lab_vm_stderr(lab_pair_destination(pair));

		outcome->details =
			g_strdup_printf("%s\n--- source\n%s--- destination\n%s",
					error ? error->message : "", source, destination);
	} else {
		outcome->details = g_strdup(error->message);
	}
	return true;
}

/* ---- is it right? ---- */

/* What each fault must lead to; anything else is asked of stock. */
static bool is_right(const struct soak_plan *p, const char *told)
{
	bool arrived = !strcmp(told, ARRIVED);

	/* A postcopy without its network waits for a new one. */
	if (p->journey.copy != LAB_COPY_PRE && p->fault >= SOAK_RESET && p->fault != SOAK_QUIT &&
	    p->fault != SOAK_SIGTERM &&
	    (!strcmp(told, "stays postcopy-paused, quit 0") ||
	     !strcmp(told, "stays postcopy-active, quit 0")))
		return true;
	switch (p->fault) {
	case SOAK_NO_FAULT:
	case SOAK_STALL:
		return arrived;
	case SOAK_QUIT:
	case SOAK_SIGTERM:
		return !strcmp(told, "exit 0");
	case SOAK_HALF_OPEN:
		return arrived || !strcmp(told, "stays active, quit 0") ||
		       !strcmp(told, "stays none, quit 0");
	default:
		/* It may have come too late. */
		return arrived ||
		       !strcmp(told, p->options.stay_on_error ? "stays failed, quit 0" : "exit 1");
	}
}

/*
 * "section" is the RFC's granularity, which holds the lock while it waits inside a device: where
 * that wait has no end, nothing ends QEMU but SIGKILL. Known, and why it is not the default.
 */
static bool is_rfc_freeze(const struct soak_plan *p, const char *told)
{
	return !g_strcmp0(p->journey.policy, "section") && p->has_rule &&
	       p->rule.channel != LAB_CHANNEL_MULTIFD &&
	       (!strcmp(told, "does not end") || !strcmp(told, "no answer, quit hangs"));
}

/* Crashes and hangs count as stock's only when stock has them in this very migration. */
static bool stock_does(struct soak *soak, const struct soak_plan *p, unsigned number,
		       const char *told)
{
	bool grave = strstr(told, "crash") || strstr(told, "hang") || strstr(told, "does not end");
	g_autofree char *kind =
		grave ? g_strdup_printf("%s %u", p->version, number) : soak_plan_kind(p);
	g_autofree char *key = g_strconcat(kind, ": ", told, NULL);

	for (int i = 0; i < (grave ? STOCK_TRIES_GRAVE : STOCK_TRIES); i++) {
		struct outcome stock;

		if (g_hash_table_contains(soak->stock_told, key))
			return true;
		if (!run(p, true, &stock))
			return false;
		g_hash_table_add(soak->stock_told, g_strconcat(kind, ": ", stock.told, NULL));
		outcome_clear(&stock);
	}
	return g_hash_table_contains(soak->stock_told, key);
}

static void keep(const struct soak *soak, const struct soak_plan *p, unsigned number,
		 const struct outcome *outcome, const char *text)
{
	/* A version may be a path. */
	g_autofree char *path = g_strdelimit(
		g_strdup_printf("soak-%s-%u-%u.txt", p->version, soak->seed, number), "/", '-');
	g_autofree char *contents =
		g_strdup_printf("%s\n%s\n%s\n", text, outcome->told, outcome->details);
	g_autoptr(GError) error = NULL;

	if (!g_file_set_contents(path, contents, -1, &error))
		fprintf(stderr, "soak: %s\n", error->message);
	printf("FAIL %u: %s\n     ended: %s\n     kept:  %s\n"
	       "     again: %s --version %s --only %u %u %u\n",
	       number, text, outcome->told, path, g_get_prgname(), p->version, number, soak->n,
	       soak->seed);
}

static void progress(struct soak *soak, unsigned total)
{
	uint64_t now = lab_now_ns();
	unsigned at, left;

	if (now - soak->said_ns < PROGRESS_S * 1000 * MS)
		return;
	soak->said_ns = now;
	at = soak->done + soak->passed_over;
	left = (now - soak->begin_ns) / 1e9 / at * (total - at);
	printf("%u of %u, %u failed, %u:%02u min left\n", at, total, soak->failed, left / 60,
	       left % 60);
	fflush(stdout);
}

static bool one(struct soak *soak, const char *version, unsigned number)
{
	g_autofree char *text = NULL;
	struct outcome outcome;
	struct soak_plan p;
	const char *word;

	soak_plan(&p, version, soak->seed, number);
	if (soak->policy)
		p.journey.policy = soak->policy;
	text = soak_plan_text(&p);
	if (soak->like && !strstr(text, soak->like)) {
		soak->passed_over++;
		return true;
	}
	if (!run(&p, soak->stock_only, &outcome))
		return false;
	soak->done++;
	soak->faulted += p.fault != SOAK_NO_FAULT;
	soak->arrived += !strcmp(outcome.told, ARRIVED);
	if (is_right(&p, outcome.told)) {
		word = "ok";
	} else if (is_rfc_freeze(&p, outcome.told)) {
		word = "as RFC";
		soak->as_rfc++;
	} else if (stock_does(soak, &p, number, outcome.told)) {
		word = "as stock";
		soak->as_stock++;
	} else {
		word = "FAIL";
		soak->failed++;
		keep(soak, &p, number, &outcome, text);
	}
	if (soak->verbose || g_str_has_prefix(word, "as "))
		printf("%-8s %u: %s: %s\n", word, number, text, outcome.told);
	fflush(stdout);
	outcome_clear(&outcome);
	return true;
}

static void date(char text[static 32])
{
	time_t now = time(NULL);
	struct tm tm;

	strftime(text, 32, "%Y-%m-%d", gmtime_r(&now, &tm));
}

static int soak_all(struct soak *soak)
{
	unsigned n_versions = g_strv_length(soak->versions);
	unsigned each = soak->only >= 0 ? 1 : soak->n - MIN(soak->n, soak->from);
	g_autofree char *versions = g_strjoinv(" and ", soak->versions);
	char today[32];

	date(today);
	soak->begin_ns = soak->said_ns = lab_now_ns();
	for (unsigned k = 0; k < each; k++) {
		for (unsigned v = 0; v < n_versions; v++) {
			unsigned number = soak->only >= 0 ? (unsigned)soak->only : soak->from + k;

			if (!one(soak, soak->versions[v], number))
				soak->skipped++;
			else
				progress(soak, each * n_versions);
		}
	}
	printf("soak: QEMU %s, seed %u, %s: %u migrations in %.0f s (%u with a fault): %u arrived, "
	       "%u ended otherwise as they must, %u differed from that as stock does, %u froze as "
	       "the RFC's granularity does, %u failed, %u skipped\n",
	       versions, soak->seed, today, soak->done, (lab_now_ns() - soak->begin_ns) / 1e9,
	       soak->faulted, soak->arrived,
	       soak->done - soak->arrived - soak->as_stock - soak->as_rfc - soak->failed,
	       soak->as_stock, soak->as_rfc, soak->failed, soak->skipped);
	if (!soak->done)
		return EXIT_CANNOT;
	return soak->failed ? EXIT_FAILURES : 0;
}

static bool parse_number(const char *text, guint64 max, guint64 *value)
{
	g_autoptr(GError) error = NULL;

	if (g_ascii_string_to_unsigned(text, 10, 0, max, value, &error))
		return true;
	fprintf(stderr, "soak: %s\n", error->message);
	return false;
}

int main(int argc, char **argv)
{
	static const char *const usual[] = {"7.2", "10.0", NULL};
	struct soak soak = {.only = -1};
	const GOptionEntry entries[] = {
		{"version", 'V', 0, G_OPTION_ARG_STRING_ARRAY, &soak.versions,
		 "QEMU's version (may be repeated); 7.2 and 10.0", "VERSION"},
		{"from", 0, 0, G_OPTION_ARG_INT, &soak.from, "go on with migration K", "K"},
		{"only", 0, 0, G_OPTION_ARG_INT, &soak.only, "migration K alone", "K"},
		{"policy", 'p', 0, G_OPTION_ARG_STRING, &soak.policy, "under this policy all", "P"},
		{"like", 'l', 0, G_OPTION_ARG_STRING, &soak.like,
		 "those only whose description holds TEXT", "TEXT"},
		{"stock", 0, 0, G_OPTION_ARG_NONE, &soak.stock_only, "without loadvm", NULL},
		{"verbose", 'v', 0, G_OPTION_ARG_NONE, &soak.verbose, "a line for each", NULL},
		G_OPTION_ENTRY_NULL};
	g_autoptr(GOptionContext) context =
		g_option_context_new("N SEED - N random migrations a version");
	g_autoptr(GError) error = NULL;
	guint64 n, seed;

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error)) {
		fprintf(stderr, "soak: %s\n", error->message);
		return EXIT_USAGE;
	}
	if (argc != 3) {
		fprintf(stderr, "soak: say how many migrations and which seed: soak 500 1\n");
		return EXIT_USAGE;
	}
	if (!parse_number(argv[1], 1000000, &n) || !parse_number(argv[2], G_MAXUINT32, &seed))
		return EXIT_USAGE;
	if (!lab_program("loadvm")) {
		fprintf(stderr, "soak: loadvm is not built: make\n");
		return EXIT_CANNOT;
	}
	soak.n = n;
	soak.seed = seed;
	if (!soak.versions)
		soak.versions = g_strdupv((char **)usual);
	soak.stock_told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return soak_all(&soak);
}
