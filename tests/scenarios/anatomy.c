/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds are made of and who made whom wait, held against lockdance's own books.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "probes/private.h"
#include "tests/scenarios/recording.h"

static const struct site *site_of(const struct run *run, unsigned usage)
{
	const struct usage *u = &g_array_index(run->usages, struct usage, usage);

	return &g_array_index(run->sites, struct site, u->site);
}

/* ---- causes ---- */

static const struct {
	const char *step, *cause, *file; /* in line 1 + index of dance-a.c */
} kinds[] = {
	{"sleep", "clock_nanosleep", ""}, {"read", "read", "timerfd"},	  {"pipe", "read", "pipe"},
	{"socket", "read", "socket"},	  {"eventfd", "read", "eventfd"}, {"futex", "futex", ""},
	{"fault", "userfault", ""},
};

struct blocked {
	uint64_t ns, other_ns; /* for that cause and kind of file, and for others */
	uint64_t runnable_ns;
};

static struct blocked blocked_at(const struct run *run, unsigned kind)
{
	struct blocked sum = {0};

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (site_of(run, i)->line != kind + 1)
			continue;
		sum.runnable_ns += u->runnable_ns;
		for (unsigned c = 0; c < u->blocking->len; c++) {
			const struct blocking *b = &g_array_index(u->blocking, struct blocking, c);
			bool it = !strcmp(cause_name(b->cause), kinds[kind].cause) &&
				  !strcmp(cause_file(b->cause), kinds[kind].file);

			*(it ? &sum.ns : &sum.other_ns) += b->ns;
		}
	}
	return sum;
}

/*
 * By system call and kind of file, each within 5% of what the holder itself saw; it cannot see when
 * it loses its CPU on the way to sleep.
 */
static void causes(gconstpointer program)
{
	g_autoptr(GString) script = g_string_new("thread CPU 0/TCG\n");
	g_auto(GStrv) ledger = NULL;
	struct run *run;

	for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
		g_string_append_printf(script,
				       "repeat 6; lock dance-a.c:%u; %s 10000; unlock; end\n",
				       k + 1, kinds[k].step);
	run = record_dance(program, script->str, "1ms", &ledger);
	if (!run)
		return;
	for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
		struct blocked got = blocked_at(run, k);
		uint64_t truth = 0;

		for (char **line = ledger; *line; line++) {
			g_auto(GStrv) f = fields_of(*line, "block");

			if (f && !strcmp(f[4], kinds[k].step))
				truth += field(f, 6) - field(f, 5);
		}
		g_test_message("%s: %.3f ms, else %.3f ms, without a CPU %.3f ms, ledger %.3f ms",
			       kinds[k].step, got.ns / 1e6, got.other_ns / 1e6,
			       got.runnable_ns / 1e6, truth / 1e6);
		g_assert_cmpuint(truth, >, 50000000);
		g_assert_cmpfloat(got.ns, <, 1.05 * truth);
		g_assert_cmpfloat(got.ns + got.runnable_ns, >, 0.95 * truth);
		g_assert_cmpfloat(got.other_ns, <, 0.05 * truth);
	}
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		unsigned line = g_array_index(run->sites, struct site, h->site).line;

		if (h->longest_ns > 5000000)
			g_assert_cmpstr(cause_name(h->longest_cause), ==, kinds[line - 1].cause);
	}
	run_free(run);
}

/* ---- without a CPU ---- */

/* All threads of a process on one processor, where they take it from nobody when they wake up. */
static void neglect(pid_t pid, const cpu_set_t *cpu)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", pid);
	g_autoptr(GDir) tasks = g_dir_open(path, 0, NULL);
	const struct sched_param none = {0};
	const char *tid;

	while ((tid = g_dir_read_name(tasks))) {
		g_assert_cmpint(sched_setaffinity(atoi(tid), sizeof(*cpu), cpu), ==, 0);
		g_assert_cmpint(sched_setscheduler(atoi(tid), SCHED_BATCH, &none), ==, 0);
		g_assert_cmpint(setpriority(PRIO_PROCESS, atoi(tid), 10), ==, 0);
	}
}

static pid_t hog(const cpu_set_t *cpu)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sched_setaffinity(0, sizeof(*cpu), cpu);
	for (;;)
		;
}

/* What a hold slept in nanosleep. */
static uint64_t slept_ns(const struct hold *h)
{
	for (unsigned i = 0; i < ABI_CAUSES && h->blocked[i].count; i++)
		if (!strcmp(cause_name(h->blocked[i].cause), "clock_nanosleep"))
			return h->blocked[i].ns;
	return 0;
}

/*
 * A holder that was woken and got no CPU does not sleep any more. Others want its processor all the
 * time, so it comes late from its sleeps. On a machine that stands still it sleeps on: a hold that
 * meets such a moment tells nothing.
 */
static void no_cpu(void)
{
	enum { SLEEPS = 20, SLEEP_US = 5000, SLEEP_NS = SLEEP_US * 1000, ODD = 2 };
	g_autofree char *script = g_strdup_printf(
		"thread CPU 0/TCG; repeat %d; lock dance-a.c:1; sleep %d; unlock; end", SLEEPS,
		SLEEP_US);
	g_autofree char *file = fresh_path("no-cpu.run");
	struct dance d = start_dance("lockdance", script);
	struct lab_process *p = start_recording(file, d.pid, "1ms");
	uint64_t held = 0, asleep = 0, runnable = 0, late = 0;
	g_auto(GStrv) ledger = NULL;
	unsigned odd = 0, holds = 0;
	cpu_set_t all, one;
	struct run *run;
	pid_t hogs[3];
	int cpu = 0;

	g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	neglect(atoi(d.pid), &one);
	for (unsigned i = 0; i < G_N_ELEMENTS(hogs); i++)
		hogs[i] = hog(&one);
	go(&d);
	danced(&d);
	for (unsigned i = 0; i < G_N_ELEMENTS(hogs); i++) {
		kill(hogs[i], SIGKILL);
		waitpid(hogs[i], NULL, 0);
	}
	if (p)
		stop_recording(p);
	ledger = finish(&d);
	if (!p)
		return;
	for (char **line = ledger; *line; line++) {
		g_auto(GStrv) f = fields_of(*line, "hold");

		held += f ? field(f, 6) - field(f, 5) : 0;
	}
	run = load(file, 1);
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		uint64_t slept = slept_ns(h);
		uint64_t more = h->hold_ns > SLEEP_NS ? h->hold_ns - SLEEP_NS : 0;

		g_assert_cmpuint(slept + h->runnable_ns, <=, h->hold_ns);
		holds++;
		if (slept < SLEEP_NS || slept > SLEEP_NS + more / 2 + 200000) {
			odd++;
			continue;
		}
		asleep += slept;
		runnable += h->runnable_ns;
		late += more;
	}
	g_test_message("of %u holds, %.1f ms, %u odd; the others %.1f ms asleep, %.1f ms without a "
		       "CPU, %.1f ms late",
		       holds, held / 1e6, odd, asleep / 1e6, runnable / 1e6, late / 1e6);
	g_assert_cmpuint(holds, ==, SLEEPS);
	g_assert_cmpuint(odd, <=, ODD);
	g_assert_cmpuint(late, >, SLEEPS * SLEEP_NS / 20);
	g_assert_cmpuint(runnable, >, late / 2);
	run_free(run);
}

/* Who ended the sleeps on a futex, though it never takes the lock. */
static void wakers(void)
{
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance("lockdance",
				       "thread CPU 0/TCG; repeat 10; lock dance-a.c:1; futex 5000; "
				       "unlock; end; repeat 5; lock dance-a.c:2; sleep 5000; "
				       "unlock; end\n",
				       "1ms", &ledger);
	uint64_t count = 0, slept = 0;

	if (!run)
		return;
	/* A dancer that comes to its sleep too late to be woken does not fall asleep. */
	for (char **line = ledger; *line; line++) {
		g_auto(GStrv) f = fields_of(*line, "block");

		slept += f && !strcmp(f[4], "futex") && field(f, 6) - field(f, 5) > 1000000;
	}
	for (unsigned i = 0; i < run->wakings->len; i++) {
		const struct waking *w = &g_array_index(run->wakings, struct waking, i);
		const struct thread *t = &g_array_index(run->threads, struct thread, w->waker);

		g_assert_cmpuint(site_of(run, w->usage)->line, ==, 1);
		g_assert_cmpstr(t->comm, ==, "wake helper");
		count += w->count;
	}
	/* A wake-up in the very moment of falling asleep goes unseen. */
	g_assert_cmpuint(slept, >=, 5);
	g_assert_cmpuint(count + 1, >=, slept);
	g_assert_cmpuint(count, <=, 10);
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (g_array_index(run->sites, struct site, h->site).line == 2)
			g_assert_cmpuint(h->longest_waker, ==, 0);
	}
	run_free(run);
}

/* ---- stacks ---- */

static bool is_on(const struct run *run, const struct hold *h, const char *function)
{
	const struct stack *s = &g_array_index(run->stacks, struct stack, h->stack - 1);

	for (unsigned i = 0; i < s->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame,
						       g_array_index(s->frames, unsigned, i));

		if (f->inside && strstr(f->symbol, function))
			return true;
	}
	return false;
}

/* Every long hold has one, from where it slept or was, to where its thread began. */
static void stacks(gconstpointer program)
{
	static const char script[] = "thread CPU 0/TCG\n"
				     "repeat 5; lock dance-a.c:1; sleep 12000; unlock; end\n"
				     "repeat 5; lock dance-a.c:2; fault 12000; unlock; end\n"
				     "repeat 5; lock dance-a.c:3; hold 12000; unlock; end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance(program, script, "1ms", &ledger);
	unsigned seen[4] = {0};

	if (!run)
		return;
	g_assert_cmpuint(lost_of(run, "stacks_skipped"), ==, 0);
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		unsigned line = g_array_index(run->sites, struct site, h->site).line;

		g_assert_true(line >= 1 && line < G_N_ELEMENTS(seen));
		seen[line]++;
		g_assert_cmpuint(h->stack, >, 0);
		if (line == 1)
			g_assert_true(is_on(run, h, "clock_nanosleep"));
		if (line <= 2)
			g_assert_cmpint(h->taken, ==, TAKEN_BLOCKED);
		else
			g_assert_cmpint(h->taken, !=, TAKEN_BLOCKED);
		if (line == 3 && h->taken == TAKEN_RELEASED)
			g_assert_true(is_on(run, h, "unlock"));
		g_assert_true(g_array_index(run->stacks, struct stack, h->stack - 1).whole);
	}
	for (unsigned line = 1; line <= 3; line++)
		g_assert_cmpuint(seen[line], ==, 5);
	/* The same again and again is kept once. */
	g_assert_cmpuint(run->stacks->len, <, 10);
	run_free(run);
}

static void no_stacks(void)
{
	g_autofree char *file = fresh_path("no-stacks.run"), *says = NULL;
	struct lab_process *p =
		bqlstat("record", "-q", "--no-stacks", "-o", file, "--", lab_program("lockdance"),
			"-e", "thread a; repeat 5; lock savevm.c:2; sleep 3000; unlock; end", NULL);
	struct run *run;
	int code;

	says = outcome(p, &code);
	lab_process_free(p);
	if (code == 3 && strstr(says, "CAP_BPF")) {
		g_test_skip(says);
		return;
	}
	g_assert_cmpint(code, ==, 0);
	run = load(file, 1);
	g_assert_cmpuint(run->holds->len, >=, 5);
	g_assert_cmpuint(run->stacks->len, ==, 0);
	run_free(run);
}

static void count_stack(void *opaque, int target, const struct abi_stack *stack)
{
	(void)target;
	(void)stack;
	++*(unsigned *)opaque;
}

/*
 * Its probes go in the middle of a hold, which is then never seen to end. What the thread does from
 * then on is nobody's business: nothing is copied to where the slot's next QEMU has its stacks.
 */
static void left_alone(void)
{
	struct dance d = start_dance("lockdance", "thread CPU 0/TCG; lock dance-a.c:1; repeat 100; "
						  "sleep 10000; end; unlock");
	unsigned stacks = 0;
	const struct tracer_opts opts = {
		.threshold_ns = 1000000,
		.stacks = true,
		.sink = {.stack = count_stack, .opaque = &stacks},
	};
	struct tracer_error err;
	struct tracer *tracer;
	g_autofree void *before = NULL, *after = NULL;
	int fd, slot;
	size_t size;

	if (tracer_new(&opts, &tracer, &err)) {
		go(&d);
		danced(&d);
		g_strfreev(finish(&d));
		g_test_skip(err.text);
		return;
	}
	fd = bpf_map__fd(tracer->skel->maps.scratches);
	size = bpf_map__value_size(tracer->skel->maps.scratches);
	before = g_malloc(size);
	after = g_malloc(size);
	slot = tracer_add(tracer, atoi(d.pid), &err);
	if (slot < 0)
		g_error("%s", err.text);
	go(&d);
	for (int i = 0; i < 100 && stacks < 3; i++) {
		g_usleep(10000);
		tracer_poll(tracer);
	}
	g_assert_cmpuint(stacks, >=, 3);
	tracer_remove(tracer, slot);
	g_assert_cmpint(bpf_map_lookup_elem(fd, &slot, before), ==, 0);
	g_usleep(300000);
	g_assert_cmpint(bpf_map_lookup_elem(fd, &slot, after), ==, 0);
	g_assert_cmpint(memcmp(before, after, size), ==, 0);
	g_assert_cmpuint(tracer->skel->bss->nr_sleepers, ==, 0);
	danced(&d);
	tracer_free(tracer);
	g_strfreev(finish(&d));
}

/* ---- victims ---- */

struct interval {
	unsigned tid, line;
	uint64_t ask_ns, begin_ns, end_ns;
};

struct sum {
	uint64_t ns, n;
};

/* What each line of dance-a.c made each other one wait, by the ledger. */
static GHashTable *true_charges(char **ledger)
{
	GHashTable *sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autoptr(GArray) holds = g_array_new(FALSE, FALSE, sizeof(struct interval));

	for (char **line = ledger; *line; line++) {
		g_auto(GStrv) f = fields_of(*line, "hold");
		struct interval h;

		if (!f)
			continue;
		h = (struct interval){field(f, 1), atoi(strrchr(f[3], ':') + 1), field(f, 4),
				      field(f, 5), field(f, 6)};
		g_array_append_val(holds, h);
	}
	for (unsigned v = 0; v < holds->len; v++) {
		const struct interval *victim = &g_array_index(holds, struct interval, v);

		for (unsigned i = 0; i < holds->len; i++) {
			const struct interval *h = &g_array_index(holds, struct interval, i);
			uint64_t from = MAX(h->begin_ns, victim->ask_ns);
			uint64_t to = MIN(h->end_ns, victim->begin_ns);
			struct sum *sum;
			char *key;

			if (to <= from || h->tid == victim->tid)
				continue;
			key = g_strdup_printf("%u>%u", h->line, victim->line);
			sum = g_hash_table_lookup(sums, key);
			if (!sum) {
				sum = g_new0(struct sum, 1);
				g_hash_table_insert(sums, g_strdup(key), sum);
			}
			sum->ns += to - from;
			sum->n++;
			g_free(key);
		}
	}
	return sums;
}

static uint64_t charged(const struct run *run, unsigned holder, unsigned victim)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < run->charges->len; i++) {
		const struct charge *c = &g_array_index(run->charges, struct charge, i);

		if (c->holder >= 0 && site_of(run, c->holder)->line == holder &&
		    site_of(run, c->victim)->line == victim)
			ns += c->ns;
	}
	return ns;
}

/*
 * Four threads after one lock, of which two hold it long, one often, one rarely: what they were
 * made to wait is within 3% of the ledger's, and each pair's part too but for the up to 20 us that
 * lie between a probe and the ledger's stamp, each time, on a machine that does other things too.
 */
static void victims(gconstpointer program)
{
	static const char script[] =
		"thread CPU 0/TCG; repeat 30; lock dance-a.c:1; sleep 4000; unlock; idle 500; end\n"
		"thread CPU 1/TCG; repeat 30; lock dance-a.c:2; sleep 2500; unlock; idle 900; end\n"
		"thread mig/dst/main; repeat 400; lock dance-a.c:3; hold 30; unlock; idle 200; "
		"end\n"
		"thread IO iothread0; repeat 20; lock dance-a.c:4; sleep 1000; unlock; idle 3000; "
		"end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance(program, script, "1ms", &ledger);
	g_autoptr(GHashTable) truth = NULL;
	uint64_t total = 0, total_truth = 0;
	GHashTableIter iter;
	gpointer key, value;

	if (!run)
		return;
	truth = true_charges(ledger);
	g_hash_table_iter_init(&iter, truth);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		unsigned holder = atoi(key), victim = atoi(strchr(key, '>') + 1);
		const struct sum *sum = value;
		uint64_t want = sum->ns, got = charged(run, holder, victim);
		uint64_t off = got > want ? got - want : want - got;

		g_test_message("%s: %.3f ms, ledger %.3f ms", (char *)key, got / 1e6, want / 1e6);
		g_assert_cmpuint(off, <=, want * 3 / 100 + sum->n * 20000);
		total += got;
		total_truth += want;
	}
	g_assert_cmpuint(total_truth, >, 100000000);
	g_assert_cmpfloat(total, >, 0.97 * total_truth);
	g_assert_cmpfloat(total, <, 1.03 * total_truth);
	/* Nobody waits for itself. */
	for (unsigned line = 1; line <= 4; line++)
		g_assert_cmpuint(charged(run, line, line), ==, 0);
	run_free(run);
}

/* One waits for seconds while another takes the lock thousands of times: all of it is charged. */
static void starved(void)
{
	static const char script[] =
		"thread CPU 0/TCG; barrier; repeat 3; lock dance-a.c:1; sleep 100000; unlock; "
		"repeat 3000; lock dance-a.c:2; hold 20; unlock; end; end\n"
		"thread CPU 1/TCG; barrier; repeat 3; idle 20000; lock dance-a.c:3; hold 100; "
		"unlock; end\n";
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance("lockdance", script, "1ms", &ledger);
	g_autoptr(GHashTable) truth = NULL;
	const struct sum *by_sleep, *by_pairs;
	uint64_t got, want;

	if (!run)
		return;
	truth = true_charges(ledger);
	by_sleep = g_hash_table_lookup(truth, "1>3");
	by_pairs = g_hash_table_lookup(truth, "2>3");
	g_assert_nonnull(by_sleep);
	want = by_sleep->ns + (by_pairs ? by_pairs->ns : 0);
	got = charged(run, 1, 3) + charged(run, 2, 3);
	g_test_message("%.3f ms, ledger %.3f ms, of it %.3f ms by the many", got / 1e6, want / 1e6,
		       by_pairs ? by_pairs->ns / 1e6 : 0);
	/* What two probes and two stamps lie apart, thousands of times. */
	g_assert_cmpfloat(got, >, 0.97 * want - 2000 * 3000);
	g_assert_cmpfloat(got, <, 1.03 * want + 100000);
	run_free(run);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/anatomy/causes/7.2", "lockdance-7.2", causes);
	g_test_add_data_func("/anatomy/causes/11.1", "lockdance-11.1", causes);
	g_test_add_func("/anatomy/no-cpu", no_cpu);
	g_test_add_func("/anatomy/wakers", wakers);
	g_test_add_data_func("/anatomy/stacks/10.0", "lockdance", stacks);
	g_test_add_data_func("/anatomy/stacks/11.1", "lockdance-11.1", stacks);
	g_test_add_func("/anatomy/no-stacks", no_stacks);
	g_test_add_func("/anatomy/left-alone", left_alone);
	g_test_add_data_func("/anatomy/victims/7.2", "lockdance-7.2", victims);
	g_test_add_data_func("/anatomy/victims/11.1", "lockdance-11.1", victims);
	g_test_add_func("/anatomy/starved", starved);
	return g_test_run();
}
