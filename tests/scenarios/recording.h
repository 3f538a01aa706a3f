/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recording as a user does it: the real bqlstat on a real process, its run file read back. Failures
 * end the test at the caller's line.
 */
#ifndef RECORDING_H
#define RECORDING_H

#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "analyzers/store/store.h"

#define PATIENCE_MS 60000 /* for what is certain to come */

/* g_free() */
static inline char *fresh_path(const char *name)
{
	static unsigned n;
	g_autofree char *file = g_strdup_printf("%s-%u", name, n++);

	return g_build_filename(lab_tmpdir(), file, NULL);
}

/* bqlstat with these arguments, up to NULL. */
static inline struct lab_process *bqlstat(const char *argument, ...)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	struct lab_process *p;
	va_list args;

	g_ptr_array_add(argv, (char *)lab_program("bqlstat"));
	va_start(args, argument);
	for (const char *a = argument; a; a = va_arg(args, const char *))
		g_ptr_array_add(argv, (char *)a);
	va_end(args);
	g_ptr_array_add(argv, NULL);
	g_assert_nonnull(argv->pdata[0]);
	p = lab_process_new((const char *const *)argv->pdata, NULL, NULL);
	g_assert_nonnull(p);
	return p;
}

/* Its end, and what it said; g_free(). */
static inline char *outcome(struct lab_process *p, int *code)
{
	GError *error = NULL;

	lab_process_wait(p, PATIENCE_MS, code, &error);
	g_assert_no_error(error);
	return lab_process_stderr(p);
}

/* Whether a recording ended with 0; after g_test_skip() where it may not be made. Frees it. */
static inline bool recording_ended(struct lab_process *p)
{
	g_autofree char *says = NULL;
	int code;

	says = outcome(p, &code);
	lab_process_free(p);
	if (code == 3 && strstr(says, "CAP_BPF")) {
		g_test_skip(says);
		return false;
	}
	if (code)
		g_error("%s", says);
	return true;
}

/* Processor time that a process has used so far. */
static inline double cpu_seconds(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	g_assert_cmpint(clock_getcpuclockid(pid, &clock), ==, 0);
	g_assert_cmpint(clock_gettime(clock, &ts), ==, 0);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Attached and recording when it returns; NULL after g_test_skip() where that is not possible. */
static inline struct lab_process *start_recording(const char *file, const char *pids,
						  const char *threshold)
{
	struct lab_process *p =
		bqlstat("record", "-p", pids, "-o", file, "-t", threshold, "-m", "0", NULL);

	for (int i = 0; i < PATIENCE_MS / 20; i++) {
		g_autofree char *says = lab_process_stderr(p);
		int code;

		if (strstr(says, "bqlstat: recording process"))
			return p;
		if (!lab_process_running(p)) {
			lab_process_wait(p, PATIENCE_MS, &code, NULL);
			if (strstr(says, "CAP_BPF") || strstr(says, "no BTF"))
				g_test_skip(says);
			else
				g_error("bqlstat ended with %d: %s", code, says);
			lab_process_free(p);
			return NULL;
		}
		g_usleep(20000);
	}
	g_error("bqlstat did not begin to record");
}

/* As Ctrl-C does; it must end well. */
static inline void stop_recording(struct lab_process *p)
{
	g_autofree char *says = NULL;
	int code;

	lab_process_kill(p, SIGINT);
	says = outcome(p, &code);
	if (code)
		g_error("bqlstat ended with %d: %s", code, says);
	lab_process_free(p);
}

/* run_free() */
static inline struct run *load(const char *file, int64_t id)
{
	struct store_error err;
	struct store *store;
	struct run *run;

	if (store_open(file, &store, &err) || store_load(store, id, &run, &err))
		g_error("%s", err.text);
	store_close(store);
	return run;
}

static inline uint64_t lost_of(const struct run *run, const char *what)
{
	for (unsigned i = 0; i < run->lost->len; i++)
		if (!strcmp(g_array_index(run->lost, struct lost, i).what, what))
			return g_array_index(run->lost, struct lost, i).count;
	g_error("no such loss: %s", what);
}

/* Times a site was taken, by every thread or by one (tid not 0). */
static inline uint64_t acquired_at(const struct run *run, const char *file, unsigned line,
				   bool cond, unsigned tid)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		const struct site *s = &g_array_index(run->sites, struct site, u->site);
		const struct thread *t = &g_array_index(run->threads, struct thread, u->thread);

		if (s->line == line && s->cond == cond && g_str_has_suffix(s->file, file) &&
		    (!tid || t->tid == tid))
			sum += u->acquired;
	}
	return sum;
}

/* ---- lockdance ---- */

struct dance {
	struct lab_process *process;
	char *ledger; /* path */
	char pid[16];
};

/* It stands at its start; go() lets it dance, finish() waits for the end and reads its books. */
static inline struct dance start_dance(const char *program, const char *script)
{
	struct dance d = {.ledger = fresh_path("ledger")};
	const char *argv[] = {lab_program(program), "--ledger", d.ledger, "--wait-start",
			      "--wait-end",	    "-e",	script,	  NULL};
	GError *error = NULL;

	g_assert_nonnull(argv[0]);
	d.process = lab_process_new(argv, NULL, &error);
	g_assert_no_error(error);
	lab_process_expect(d.process, "ready", PATIENCE_MS, &error);
	g_assert_no_error(error);
	g_snprintf(d.pid, sizeof(d.pid), "%d", lab_process_pid(d.process));
	return d;
}

static inline void go(struct dance *d)
{
	g_assert_true(lab_process_write(d->process, "x", NULL));
}

static inline void danced(struct dance *d)
{
	GError *error = NULL;

	lab_process_expect(d->process, "done", 60000, &error);
	g_assert_no_error(error);
}

/* The ledger's lines; g_strfreev(). */
static inline char **finish(struct dance *d)
{
	g_autofree char *text = NULL;
	int code;

	g_assert_true(lab_process_write(d->process, "x", NULL));
	g_free(outcome(d->process, &code));
	g_assert_cmpint(code, ==, 0);
	lab_process_free(d->process);
	g_assert_true(g_file_get_contents(d->ledger, &text, NULL, NULL));
	g_free(d->ledger);
	return g_strsplit(text, "\n", -1);
}

/* A ledger line's fields when it is of that kind, else NULL; g_strfreev(). */
static inline char **fields_of(const char *line, const char *kind)
{
	char **f = g_strsplit(line, "\t", -1);

	if (!g_strcmp0(f[0], kind))
		return f;
	g_strfreev(f);
	return NULL;
}

static inline uint64_t field(char **f, unsigned n)
{
	return g_ascii_strtoull(f[n], NULL, 10);
}

/* Each site of the ledger was taken as often as the run says, by the same threads, and no other. */
static inline void same_counts(const struct run *run, char **ledger)
{
	g_autoptr(GHashTable) counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	GHashTableIter iter;
	gpointer key, value;
	uint64_t total = 0, recorded = 0;

	for (char **line = ledger; *line; line++) {
		g_auto(GStrv) f = fields_of(*line, "hold");
		g_auto(GStrv) b = f ? NULL : fields_of(*line, "block");
		char *who;

		if (b && strcmp(b[4], "condvar"))
			continue;
		if (!f && !b)
			continue;
		/* A condvar wait takes the lock anew, at its own place. */
		who = g_strdup_printf("%s\t%s\t%d", f ? f[1] : b[1], f ? f[3] : b[3], !f);
		value = g_hash_table_lookup(counts, who);
		g_hash_table_insert(counts, who, GUINT_TO_POINTER(GPOINTER_TO_UINT(value) + 1));
		total++;
	}
	g_hash_table_iter_init(&iter, counts);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		g_auto(GStrv) f = g_strsplit(key, "\t", -1);
		char *colon = strrchr(f[1], ':');

		*colon = 0;
		recorded = acquired_at(run, f[1], atoi(colon + 1), *f[2] == '1', atoi(f[0]));
		if (recorded != GPOINTER_TO_UINT(value))
			g_error("%s:%s by %s: recorded %u, the ledger says %u", f[1], colon + 1,
				f[0], (unsigned)recorded, GPOINTER_TO_UINT(value));
	}
	g_assert_cmpuint(run_acquired(run), ==, total);
}

/* A whole dance, recorded: run_free(), g_strfreev(). NULL after a skip. */
static inline struct run *record_dance(const char *program, const char *script,
				       const char *threshold, char ***ledger)
{
	g_autofree char *file = fresh_path("dance.run");
	struct dance d = start_dance(program, script);
	struct lab_process *p = start_recording(file, d.pid, threshold);
	struct run *run = NULL;

	go(&d);
	danced(&d);
	if (p) {
		stop_recording(p);
		run = load(file, 1);
		g_assert_cmpuint(run_lost(run), ==, 0);
	}
	*ledger = finish(&d);
	return run;
}

#endif
