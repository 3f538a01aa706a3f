/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bqlstat counts and measures, held against lockdance's own books: every acquisition, every
 * hold's and wait's length.
 */
#include <stdlib.h>

#include "probes/tracer.h"
#include "tests/scenarios/recording.h"

/* Contention, condvars with and without time-out, blocking: counts equal, per site and thread. */
static void counts(gconstpointer program)
{
	static const char script[] =
		"thread CPU 0/TCG; repeat 300; lock cputlb.c:1; hold 5; unlock; end; "
		"pairs 20000 dance-a.c:7\n"
		"thread CPU 1/TCG; repeat 300; lock cputlb.c:1; hold 7; unlock; end; "
		"pairs 20000 dance-a.c:7\n"
		"thread mig/dst/main; repeat 100; lock savevm.c:9; sleep 50; unlock; idle 20; end\n"
		"thread IO iothread0; repeat 40; lock dance-b.c:1; timedwait cpus.c:2 1000; hold "
		"5; "
		"unlock; end; repeat 20; lock dance-b.c:3; condwait cpus.c:4 500; unlock; end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance(program, script, "1ms", &ledger);

	if (!run)
		return;
	same_counts(run, ledger);
	/* What was recorded from before its first acquisition to after its last has no edges. */
	g_assert_cmpuint(lost_of(run, "no_ask"), ==, 0);
	g_assert_cmpuint(lost_of(run, "no_acquire"), ==, 0);
	for (unsigned i = 0; i < run->threads->len; i++) {
		const struct thread *t = &g_array_index(run->threads, struct thread, i);

		if (!strcmp(t->comm, "CPU 1/TCG"))
			g_assert_true(t->role == ROLE_VCPU && t->number == 1);
		if (!strcmp(t->comm, "mig/dst/main"))
			g_assert_true(t->role == ROLE_INCOMING);
	}
	run_free(run);
}

/* As fast as two threads can: nothing is missed. */
static void full_speed(void)
{
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance("lockdance",
				       "thread CPU 0/TCG; pairs 400000 dance-a.c:1\n"
				       "thread CPU 1/TCG; pairs 400000 dance-a.c:2\n",
				       "1ms", &ledger);

	if (!run)
		return;
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), ==, 400000);
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 2, false, 0), ==, 400000);
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		uint64_t holds = 0, waits = 0;

		for (int b = 0; b < HISTOGRAM_BUCKETS; b++) {
			holds += u->hold.bucket[b];
			waits += u->wait.bucket[b];
		}
		g_assert_cmpuint(u->acquired, ==, 400000);
		g_assert_cmpuint(u->hold.count, ==, 400000);
		g_assert_cmpuint(holds, ==, 400000);
		g_assert_cmpuint(waits, ==, 400000);
	}
	run_free(run);
}

/* ---- lengths ---- */

struct pair {
	uint64_t begin_ns, hold_ns, wait_ns;
	unsigned tid;
	const char *site;
};

static gint by_begin(gconstpointer a, gconstpointer b)
{
	const struct pair *x = a, *y = b;

	return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

static GArray *truth(char **ledger)
{
	GArray *out = g_array_new(FALSE, TRUE, sizeof(struct pair));

	for (char **line = ledger; *line; line++) {
		g_auto(GStrv) f = fields_of(*line, "hold");
		struct pair p;

		if (!f)
			continue;
		p = (struct pair){field(f, 5), field(f, 6) - field(f, 5), field(f, 5) - field(f, 4),
				  field(f, 1), g_intern_string(f[3])};
		g_array_append_val(out, p);
	}
	g_array_sort(out, by_begin);
	return out;
}

static GArray *recorded(const struct run *run)
{
	GArray *out = g_array_new(FALSE, TRUE, sizeof(struct pair));

	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		const struct site *s = &g_array_index(run->sites, struct site, h->site);
		g_autofree char *site = g_strdup_printf("%s:%u", s->file, s->line);
		struct pair p = {
			.begin_ns = h->begin_ns,
			.hold_ns = run_hold_ns(run, h->hold_ns),
			.wait_ns = run_wait_ns(run, h->wait_ns),
			.tid = g_array_index(run->threads, struct thread, h->thread).tid,
			.site = g_intern_string(site),
		};

		g_array_append_val(out, p);
	}
	g_array_sort(out, by_begin);
	return out;
}

static bool close_to(uint64_t ns, uint64_t truth_ns)
{
	uint64_t tolerance = MAX(truth_ns / 20, 2000);

	return ns <= truth_ns + tolerance && truth_ns <= ns + tolerance;
}

/*
 * A wait of nothing cannot be compared: the ledger's stamps stand outside the probes, so it reads
 * what two probes cost, some 5 us when caches are cold.
 */
static bool agrees(const struct pair *got, const struct pair *want)
{
	bool waited = got->wait_ns >= 50000;

	return close_to(got->hold_ns, want->hold_ns) &&
	       (!waited || close_to(got->wait_ns, want->wait_ns));
}

/*
 * Every hold one by one. Anything may come between a ledger's stamp and the probe (an interrupt,
 * another process of this machine): up to one hold in ten may be off. What is wrong in the tracer
 * is wrong in most.
 */
static void same_lengths(const struct run *run, char **ledger)
{
	g_autoptr(GArray) want = truth(ledger), got = recorded(run);
	g_autoptr(GHashTable) of_site = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GHashTable) off = g_hash_table_new(g_str_hash, g_str_equal);
	GHashTableIter iter;
	gpointer site, count;

	g_assert_cmpuint(got->len, ==, want->len);
	for (unsigned i = 0; i < want->len; i++) {
		const struct pair *w = &g_array_index(want, struct pair, i);
		const struct pair *g = &g_array_index(got, struct pair, i);
		gpointer key = (gpointer)w->site;
		unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(of_site, key));

		g_assert_cmpuint(g->tid, ==, w->tid);
		g_assert_cmpstr(g->site, ==, w->site);
		g_hash_table_insert(of_site, key, GUINT_TO_POINTER(n + 1));
		if (agrees(g, w))
			continue;
		g_test_message("%s: hold %.1f us, ledger %.1f; wait %.1f us, ledger %.1f", w->site,
			       g->hold_ns / 1e3, w->hold_ns / 1e3, g->wait_ns / 1e3,
			       w->wait_ns / 1e3);
		n = GPOINTER_TO_UINT(g_hash_table_lookup(off, key));
		g_hash_table_insert(off, key, GUINT_TO_POINTER(n + 1));
	}
	g_hash_table_iter_init(&iter, off);
	while (g_hash_table_iter_next(&iter, &site, &count)) {
		unsigned all = GPOINTER_TO_UINT(g_hash_table_lookup(of_site, site));

		g_test_message("%s: %u of %u off", (char *)site, GPOINTER_TO_UINT(count), all);
		g_assert_cmpuint(GPOINTER_TO_UINT(count), <=, MAX(all / 10, 1));
	}
}

static void hold_lengths(void)
{
	static const char script[] = "thread CPU 0/TCG\n"
				     "repeat 200; lock dance-a.c:2; hold 2; unlock; end\n"
				     "repeat 200; lock dance-a.c:20; hold 20; unlock; end\n"
				     "repeat 100; lock dance-a.c:200; hold 200; unlock; end\n"
				     "repeat 40; lock dance-a.c:2000; hold 2000; unlock; end\n"
				     "repeat 10; lock dance-a.c:20000; hold 20000; unlock; end\n"
				     "repeat 3; lock dance-a.c:200000; hold 200000; unlock; end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance("lockdance", script, "0", &ledger);

	if (!run)
		return;
	same_lengths(run, ledger);
	run_free(run);
}

/* While one thread sleeps with the lock, the other waits that long. */
static void wait_lengths(void)
{
	static const char script[] =
		"thread CPU 0/TCG\n"
		"repeat 20; barrier; lock dance-a.c:1; sleep 1000; unlock; end\n"
		"repeat 10; barrier; lock dance-a.c:2; sleep 10000; unlock; end\n"
		"repeat 3; barrier; lock dance-a.c:3; sleep 200000; unlock; end\n"
		"thread CPU 1/TCG\n"
		"repeat 20; barrier; hold 300; lock dance-b.c:1; hold 200; unlock; end\n"
		"repeat 10; barrier; hold 300; lock dance-b.c:2; hold 200; unlock; end\n"
		"repeat 3; barrier; hold 300; lock dance-b.c:3; hold 200; unlock; end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance("lockdance", script, "0", &ledger);
	unsigned long_waits = 0;

	if (!run)
		return;
	same_lengths(run, ledger);
	for (unsigned i = 0; i < run->holds->len; i++)
		long_waits += g_array_index(run->holds, struct hold, i).wait_ns > 9000000;
	/* Of 13; who got no processor before the lock was taken did not wait for it. */
	g_assert_cmpuint(long_waits, >=, 3);
	run_free(run);
}

/* Two at once in one recording: each run has its own counts. */
static void several_at_once(void)
{
	g_autofree char *file = fresh_path("two.run"), *pids = NULL;
	struct dance a = start_dance("lockdance", "thread CPU 0/TCG; pairs 30000 dance-a.c:1\n");
	struct dance b =
		start_dance("lockdance-7.2", "thread CPU 0/TCG; pairs 20000 dance-b.c:1\n");
	struct lab_process *p;
	struct run *first, *second;

	pids = g_strdup_printf("%s,%s", a.pid, b.pid);
	p = start_recording(file, pids, "1ms");
	go(&a);
	go(&b);
	danced(&a);
	danced(&b);
	if (p) {
		stop_recording(p);
		first = load(file, 1);
		second = load(file, 2);
		g_assert_cmpuint(run_acquired(first), ==, 30000);
		g_assert_cmpuint(acquired_at(first, "dance-a.c", 1, false, 0), ==, 30000);
		g_assert_cmpuint(run_acquired(second), ==, 20000);
		g_assert_cmpuint(acquired_at(second, "dance-b.c", 1, false, 0), ==, 20000);
		run_free(first);
		run_free(second);
	}
	g_strfreev(finish(&a));
	g_strfreev(finish(&b));
}

/* Two tracers on one process: they share the kernel's breakpoints, and each counts everything. */
static void two_tracers(void)
{
	g_autofree char *one = fresh_path("one.run"), *other = fresh_path("other.run");
	struct dance d = start_dance("lockdance", "thread CPU 0/TCG; pairs 20000 dance-a.c:1\n");
	struct lab_process *p = start_recording(one, d.pid, "1ms"), *q = NULL;
	const char *files[] = {one, other};
	unsigned shared = 0;

	if (p)
		q = start_recording(other, d.pid, "1ms");
	go(&d);
	danced(&d);
	if (p && q) {
		stop_recording(p);
		stop_recording(q);
		for (int i = 0; i < 2; i++) {
			struct run *run = load(files[i], 1);

			g_assert_cmpuint(run_acquired(run), ==, 20000);
			for (unsigned n = 0; n < run->points->len; n++)
				shared += g_array_index(run->points, struct point, n).shared;
			run_free(run);
		}
		g_assert_cmpuint(shared, >, 0);
	}
	g_strfreev(finish(&d));
}

/* ---- what is lost is counted ---- */

struct sums {
	uint64_t acquired, longest_ns;
	unsigned holds; /* events */
};

static void add_up(void *opaque, const struct abi_site *site, const char *file,
		   const struct abi_thread *thread)
{
	struct sums *sums = opaque;

	(void)file;
	(void)thread;
	sums->acquired += site->acquired;
	sums->longest_ns = MAX(sums->longest_ns, site->worst.hold_ns);
}

static void count_event(void *opaque, int target, const struct abi_hold *hold)
{
	(void)target;
	(void)hold;
	((struct sums *)opaque)->holds++;
}

/* A dance under a tracer of these sizes; false after a skip. */
static bool trace_dance(const char *script, struct tracer_opts *opts, struct sums *sums,
			uint64_t lost[ABI_LOST_KINDS])
{
	struct dance d = start_dance("lockdance", script);
	struct tracer_error err;
	struct tracer *tracer;
	int ret, target;

	opts->sink = (struct tracer_sink){.hold = count_event, .opaque = sums};
	ret = tracer_new(opts, &tracer, &err);
	if (ret) {
		g_test_skip(err.text);
		go(&d);
		danced(&d);
		g_strfreev(finish(&d));
		return false;
	}
	target = tracer_add(tracer, lab_process_pid(d.process), &err);
	if (target < 0)
		g_error("%s", err.text);
	go(&d);
	danced(&d);
	tracer_remove(tracer, target);
	tracer_snapshot(tracer, target, add_up, sums);
	tracer_lost(tracer, target, lost);
	tracer_free(tracer);
	g_strfreev(finish(&d));
	return true;
}

/* More call sites than there is room for: what has no record is counted, the rest is right. */
static void sites_full(void)
{
	g_autoptr(GString) script = g_string_new("thread CPU 0/TCG\n");
	struct tracer_opts opts = {.threshold_ns = 1000000000, .max_sites = 20};
	struct sums sums = {0};
	uint64_t lost[ABI_LOST_KINDS];

	for (int line = 1; line <= 50; line++)
		g_string_append_printf(script, "pairs 100 dance-a.c:%d\n", line);
	if (!trace_dance(script->str, &opts, &sums, lost))
		return;
	g_assert_cmpuint(sums.acquired, ==, 20 * 100);
	g_assert_cmpuint(lost[ABI_LOST_SITES_FULL], ==, 30 * 100);
	g_assert_cmpuint(lost[ABI_LOST_NO_ACQUIRE], ==, 0);
}

/* More events than the ring holds: every one is seen or counted, and the longest hold is kept. */
static void ring_full(void)
{
	struct tracer_opts opts = {.threshold_ns = 0, .ring_bytes = 4096};
	struct sums sums = {0};
	uint64_t lost[ABI_LOST_KINDS];

	if (!trace_dance("thread CPU 0/TCG; pairs 2000 dance-a.c:1; lock dance-a.c:1; hold 20000; "
			 "unlock\n",
			 &opts, &sums, lost))
		return;
	g_assert_cmpuint(sums.acquired, ==, 2001);
	g_assert_cmpuint(lost[ABI_LOST_RING_FULL], >, 0);
	g_assert_cmpuint(sums.holds + lost[ABI_LOST_RING_FULL], ==, 2001);
	g_assert_cmpuint(sums.longest_ns, >=, 20000000);
}

/* Attached while one thread holds and another waits: counted as what it is, and right from then on.
 */
static void attach_in_the_middle(void)
{
	static const char script[] =
		"thread CPU 0/TCG; lock dance-a.c:1; sleep 2500000; unlock; idle 1000; "
		"pairs 100 dance-a.c:2\n"
		"thread CPU 1/TCG; idle 50000; lock dance-b.c:1; hold 2000; unlock; "
		"pairs 100 dance-b.c:2\n";
	g_autofree char *file = fresh_path("middle.run");
	struct dance d = start_dance("lockdance", script);
	struct lab_process *p;
	struct run *run;

	go(&d);
	g_usleep(200000);
	p = start_recording(file, d.pid, "1ms");
	danced(&d);
	if (p) {
		stop_recording(p);
		run = load(file, 1);
		g_assert_cmpuint(lost_of(run, "no_acquire"), ==, 1);
		g_assert_cmpuint(lost_of(run, "no_ask"), ==, 1);
		g_assert_cmpuint(run_lost(run), ==, 0);
		g_assert_cmpuint(acquired_at(run, "", 0, false, 0), ==, 1);
		g_assert_cmpuint(acquired_at(run, "dance-a.c", 2, false, 0), ==, 100);
		g_assert_cmpuint(acquired_at(run, "dance-b.c", 2, false, 0), ==, 100);
		g_assert_cmpuint(run_acquired(run), ==, 201);
		run_free(run);
	}
	g_strfreev(finish(&d));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/counts/7.2", "lockdance-7.2", counts);
	g_test_add_data_func("/counts/10.0", "lockdance", counts);
	g_test_add_data_func("/counts/11.1", "lockdance-11.1", counts);
	g_test_add_func("/counts/full-speed", full_speed);
	g_test_add_func("/lengths/holds", hold_lengths);
	g_test_add_func("/lengths/waits", wait_lengths);
	g_test_add_func("/several/one-recording", several_at_once);
	g_test_add_func("/several/two-tracers", two_tracers);
	g_test_add_func("/lost/sites-full", sites_full);
	g_test_add_func("/lost/ring-full", ring_full);
	g_test_add_func("/lost/attach-in-the-middle", attach_in_the_middle);
	return g_test_run();
}
