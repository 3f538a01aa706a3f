/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bqlstat timeline`: what it draws, read back, is what the run file holds.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "analyzers/model/words.h"
#include "tests/scenarios/perfetto.h"
#include "tests/scenarios/recording.h"

static struct drawing *draw(const char *file, const char *more)
{
	g_autofree char *trace = fresh_path("trace.pftrace.gz"), *says = NULL;
	struct lab_process *p =
		bqlstat("timeline", "--shortest", "0", "-o", trace, file, more, NULL);
	int code;

	says = outcome(p, &code);
	if (code)
		g_error("bqlstat timeline ended with %d: %s", code, says);
	lab_process_free(p);
	return drawing_read(trace);
}

/* ---- a run of our own making: every kind of thing, exactly ---- */

static struct hold *add_hold(struct run *run, unsigned site, unsigned thread, uint64_t begin_ns,
			     uint64_t hold_ns, uint64_t wait_ns)
{
	struct hold h = {.begin_ns = begin_ns,
			 .hold_ns = hold_ns,
			 .wait_ns = wait_ns,
			 .site = site,
			 .thread = thread,
			 .at_begin.device = "",
			 .at_end.device = "",
			 .at_longest.device = ""};

	g_array_append_val(run->holds, h);
	return &g_array_index(run->holds, struct hold, run->holds->len - 1);
}

static void add_mark(struct run *run, uint64_t at_ns, enum phase phase, const char *device)
{
	struct mark m = {.at_ns = at_ns, .in = {phase, device}};

	g_array_append_val(run->marks, m);
}

/* Time 1 s to 2 s. The main thread holds, twice, while a vCPU waits; then the vCPU. */
static struct run *small_run(unsigned pid, const char *label)
{
	const struct thread threads[] = {{pid, "qemu", ROLE_MAIN, -1},
					 {pid + 1, "CPU 0/TCG", ROLE_VCPU, 0}};
	const struct lost losses[] = {{"ring_full", 7}, {"no_ask", 1}, {"no_release", 0}};
	const struct frame frames[] = {{"/bin/qemu", 0x1234, "aio_poll", 0x10, true},
				       {"/bin/qemu", 0x2345, "nearby", 0x20, false},
				       {"/lib/libc.so.6", 0x3456, "", 0, false}};
	const struct answer answers[] = {{1100000000, 250000}, {1105000000, 15500000}};
	const struct thinning thinning = {1300000000, "holds", 0.25};
	struct run *run = run_new();
	unsigned loop, odd, cpu, stack[3];
	struct hold *h;

	run->label = run_string(run, label);
	run->source = "ebpf";
	run->tool = "1";
	run->pid = pid;
	run->ended = "at the end";
	run->qemu_version = "10.0";
	run->begin_ns = 1000000000;
	run->duration_ns = 1000000000;
	run->begin_unix_ns = 1700000000000000000;
	run->threshold_ns = 1000000;
	run->hold_bias_ns = 500;
	run->wait_bias_ns = 100;
	g_array_append_vals(run->threads, threads, 2);
	g_array_append_vals(run->lost, losses, 3);
	loop = run_site(run, "../../util/main-loop.c", 318, false);
	odd = run_site(run, "bad\xffname.c", 1, true);
	cpu = run_site(run, "accel/tcg.c", 7, false);
	for (unsigned site = 0; site < 3; site++) {
		struct usage *u = run_add_usage(run, site, site == cpu);

		u->acquired = 10;
		u->hold.count = 10;
		u->hold.sum_ns = 50000000;
	}
	h = add_hold(run, loop, 0, 1100000000, 20000000, 300);
	h->at_begin = (struct phase_at){PHASE_RAM, ""};
	h->at_end = (struct phase_at){PHASE_DEVICE, "virtio-net"};
	h->blocked[0] = (struct blocking){.cause = 7, .count = 3, .ns = 5000000};
	h->blocked[1] = (struct blocking){.cause = CAUSE_FAULT, .count = 1, .ns = 1000};
	h->longest_ns = 4000000;
	h->longest_cause = 7;
	h->at_longest = h->at_end;
	h->runnable_ns = 12345;
	h->longest_waker = 2;
	h->taken = TAKEN_BLOCKED;
	for (unsigned i = 0; i < G_N_ELEMENTS(frames); i++)
		stack[i] = run_frame(run, &frames[i]);
	h->stack = run_stack(run, stack, G_N_ELEMENTS(frames), true) + 1;
	add_hold(run, odd, 0, 1130000000, 10000000, UNKNOWN_NS);
	/* Asked in the first, got it after the second. */
	add_hold(run, cpu, 1, 1140000100, 2000000, 30000100);
	h = add_hold(run, loop, 0, 1900000000, 100000000, UNKNOWN_NS);
	h->unfinished = true;
	add_mark(run, 1050000000, PHASE_RAM, "");
	add_mark(run, 1110000000, PHASE_DEVICE, "timer");
	add_mark(run, 1111000000, PHASE_RAM, "");
	add_mark(run, 1111001000, PHASE_DEVICE, "virtio-net");
	add_mark(run, 1125000000, PHASE_RAM, "");
	add_mark(run, 1150000000, PHASE_START, "");
	add_mark(run, 1160000000, PHASE_NONE, "");
	run_set_metric(run, "downtime_ns", 40000000);
	g_array_append_vals(run->answers, answers, G_N_ELEMENTS(answers));
	g_array_append_val(run->thinnings, thinning);
	return run;
}

static void put(const char *file, struct run *run)
{
	struct store_error err;
	struct store *store;

	if (store_create(file, &store, &err) || store_save(store, run, &err))
		g_error("%s", err.text);
	store_close(store);
	run_free(run);
}

static void expect_slice(const struct drawn *s, const char *track, const char *name,
			 uint64_t begin_ns, uint64_t end_ns)
{
	g_assert_cmpstr(s->track->name, ==, track);
	g_assert_cmpstr(s->name, ==, name);
	g_assert_cmpuint(s->begin_ns, ==, begin_ns);
	g_assert_cmpuint(s->end_ns, ==, end_ns);
}

static void expect_holds(const struct drawing *d)
{
	g_autoptr(GPtrArray) holds = drawn_of(d, "hold", NULL), waits = drawn_of(d, "wait", NULL);
	const struct drawn *first, *wait;

	g_assert_cmpuint(holds->len, ==, 4);
	g_assert_cmpuint(waits->len, ==, 2);
	expect_slice(holds->pdata[0], "main", "util/main-loop.c:318", 1100000000, 1119999500);
	expect_slice(holds->pdata[1], "main", "bad\xef\xbf\xbdname.c:1 (condvar)", 1130000000,
		     1139999500);
	expect_slice(holds->pdata[2], "vCPU 0", "accel/tcg.c:7", 1140000100, 1141999600);
	expect_slice(holds->pdata[3], "main", "util/main-loop.c:318", 1900000000, 1999999500);
	expect_slice(waits->pdata[0], "main", "wait for the lock", 1099999800, 1100000000);
	expect_slice(waits->pdata[1], "vCPU 0", "wait for the lock", 1110000100, 1140000100);

	first = holds->pdata[0];
	g_assert_cmpstr(drawn_arg(first, "waited_ns"), ==, "200");
	g_assert_cmpstr(drawn_arg(first, "phase"), ==, "ram");
	g_assert_cmpstr(drawn_arg(first, "phase_at_end"), ==, "device virtio-net");
	g_assert_cmpstr(drawn_arg(first, "blocked_in"), ==, "poll 5.00 ms, page fault 1.00 us");
	g_assert_cmpstr(drawn_arg(first, "blocked_ns"), ==, "5001000");
	g_assert_cmpstr(drawn_arg(first, "longest_block_in"), ==, "poll");
	g_assert_cmpstr(drawn_arg(first, "longest_block_ns"), ==, "4000000");
	g_assert_cmpstr(drawn_arg(first, "waited_for_cpu_ns"), ==, "12345");
	g_assert_cmpstr(drawn_arg(first, "longest_block_ended_by"), ==, "vCPU 0");
	g_assert_cmpstr(drawn_arg(first, "stack_taken"), ==, taken_name(TAKEN_BLOCKED));
	g_assert_cmpstr(drawn_arg(first, "stack"), ==,
			"aio_poll+0x10\n~nearby+0x20\n/lib/libc.so.6+0x3456");
	g_assert_cmpstr(drawn_arg(first, "still_held_at_the_end"), ==, "");
	g_assert_cmpstr(drawn_arg(holds->pdata[3], "still_held_at_the_end"), ==, "1");
	g_assert_cmpstr(drawn_arg(holds->pdata[1], "waited_ns"), ==, "");

	/* An arrow from each of the two that held it meanwhile. */
	wait = waits->pdata[1];
	g_assert_cmpstr(drawn_arg(wait, "call_site"), ==, "accel/tcg.c:7");
	g_assert_cmpuint(wait->ended_flows->len, ==, 2);
	g_assert_true(flow_origin(d, g_array_index(wait->ended_flows, uint64_t, 0)) ==
		      holds->pdata[1]);
	g_assert_true(flow_origin(d, g_array_index(wait->ended_flows, uint64_t, 1)) ==
		      holds->pdata[0]);
	g_assert_cmpuint(((struct drawn *)waits->pdata[0])->ended_flows->len, ==, 0);
}

static void expect_phases(const struct drawing *d)
{
	g_autoptr(GPtrArray) phases = drawn_of(d, "phase", "incoming migration");
	g_autoptr(GPtrArray) devices = drawn_of(d, "device", "device sections");

	g_assert_cmpuint(phases->len, ==, 4);
	expect_slice(phases->pdata[0], "incoming migration", "ram", 1050000000, 1110000000);
	expect_slice(phases->pdata[1], "incoming migration", "device", 1110000000, 1125000000);
	expect_slice(phases->pdata[2], "incoming migration", "ram", 1125000000, 1150000000);
	expect_slice(phases->pdata[3], "incoming migration", "start", 1150000000, 1160000000);
	g_assert_cmpuint(devices->len, ==, 2);
	expect_slice(devices->pdata[0], "device sections", "timer", 1110000000, 1111000000);
	expect_slice(devices->pdata[1], "device sections", "virtio-net", 1111001000, 1125000000);
}

static void expect_answers(const struct drawing *d)
{
	const struct drawn_value *v = &g_array_index(d->values, struct drawn_value, 0);

	g_assert_cmpuint(d->values->len, ==, 2);
	g_assert_cmpstr(v->track->name, ==, "monitor answers after");
	g_assert_cmpuint(v[0].at_ns, ==, 1100000000);
	g_assert_cmpfloat(v[0].value, ==, 0.25);
	g_assert_cmpuint(v[1].at_ns, ==, 1105000000);
	g_assert_cmpfloat(v[1].value, ==, 15.5);
}

static void expect_honesty(const struct drawing *d, const char *label)
{
	g_autoptr(GPtrArray) recording = drawn_of(d, "recording", "recording");
	g_autoptr(GPtrArray) lost = drawn_of(d, "lost", "lost events");

	g_assert_cmpuint(recording->len, ==, 1);
	expect_slice(recording->pdata[0], "recording", label, 1000000000, 2000000000);
	g_assert_cmpstr(drawn_arg(recording->pdata[0], "acquisitions"), ==, "30");
	g_assert_cmpstr(drawn_arg(recording->pdata[0], "lost"), ==, "7");
	g_assert_cmpstr(drawn_arg(recording->pdata[0], "taken_off_each_hold_ns"), ==, "500");
	g_assert_cmpstr(drawn_arg(recording->pdata[0], "downtime_ns"), ==, "40000000");
	g_assert_nonnull(strstr(drawn_arg(recording->pdata[0], "holds_recorded_one_by_one"),
				"1000000 ns and longer"));
	/* What happens at every attach is no loss. */
	g_assert_cmpuint(lost->len, ==, 2);
	g_assert_cmpuint(((struct drawn *)lost->pdata[0])->begin_ns, ==, 1300000000);
	g_assert_cmpstr(drawn_arg(lost->pdata[0], "recorded"), ==, "holds");
	g_assert_cmpstr(drawn_arg(lost->pdata[1], "count"), ==, "7");
	expect_answers(d);
	g_assert_cmpuint(d->primary_clock, ==, 3);
	g_assert_cmpuint(d->monotonic_ns, ==, 1000000000);
	g_assert_cmpuint(d->realtime_ns, ==, 1700000000000000000);
}

static void test_exactly(void)
{
	g_autofree char *file = fresh_path("small.bql");
	struct drawing *d;

	put(file, small_run(4711, "small"));
	d = draw(file, NULL);
	expect_holds(d);
	expect_phases(d);
	expect_honesty(d, "small");
	drawing_free(d);
}

/* As many times as a flow's window holds, and more: none is lost, and each arrow stays right. */
static void test_many(void)
{
	enum { ROUNDS = 2000 };
	g_autofree char *file = fresh_path("many.bql");
	g_autoptr(GPtrArray) waits = NULL;
	struct run *run = small_run(4711, "many");
	struct drawing *d;

	g_array_set_size(run->holds, 0);
	for (uint64_t i = 0, at = 1000001000; i < ROUNDS; i++, at += 20000) {
		add_hold(run, 0, 0, at, 10000, 0);
		add_hold(run, 2, 1, at + 10500, 5000, 8000);
	}
	put(file, run);
	d = draw(file, NULL);
	waits = drawn_of(d, "wait", "vCPU 0");
	g_assert_cmpuint(waits->len, ==, ROUNDS);
	for (unsigned i = 0; i < waits->len; i++) {
		const struct drawn *w = waits->pdata[i], *from;

		g_assert_cmpuint(w->ended_flows->len, ==, 1);
		if (i % 100)
			continue; /* the look-up is a slow one */
		from = flow_origin(d, g_array_index(w->ended_flows, uint64_t, 0));
		g_assert_cmpuint(from->begin_ns, ==, 1000001000 + 20000 * i);
	}
	drawing_free(d);
}

/* Two recordings of one process keep apart; another machine's is placed by the calendar. */
static void test_together(void)
{
	g_autofree char *one = fresh_path("one.bql"), *two = fresh_path("two.bql");
	g_autoptr(GPtrArray) recordings = NULL, holds = NULL;
	struct run *far = small_run(4711, "far");
	struct drawing *d;

	put(one, small_run(4711, "near"));
	put(one, small_run(4711, "twin"));
	/* Booted 100 s earlier; began 10 s later. */
	far->begin_unix_ns += 10000000000;
	far->begin_ns += 100000000000;
	for (unsigned i = 0; i < far->holds->len; i++)
		g_array_index(far->holds, struct hold, i).begin_ns += 100000000000;
	for (unsigned i = 0; i < far->marks->len; i++)
		g_array_index(far->marks, struct mark, i).at_ns += 100000000000;
	put(two, far);
	d = draw(one, two);
	recordings = drawn_of(d, "recording", NULL);
	g_assert_cmpuint(recordings->len, ==, 3);
	expect_slice(recordings->pdata[0], "recording", "near", 1000000000, 2000000000);
	expect_slice(recordings->pdata[1], "recording", "twin", 1000000000, 2000000000);
	expect_slice(recordings->pdata[2], "recording", "far", 11000000000, 12000000000);
	holds = drawn_of(d, "hold", NULL);
	g_assert_cmpuint(holds->len, ==, 12);
	g_assert_cmpuint(((struct drawn *)holds->pdata[8])->begin_ns, ==, 11100000000);
	/* Perfetto puts tracks with the same numbers together. */
	g_assert_cmpint(((struct drawn *)holds->pdata[0])->track->tid, ==, 4711);
	g_assert_cmpint(((struct drawn *)holds->pdata[4])->track->tid, ==, 0);
	drawing_free(d);
}

/* ---- a real arrival ---- */

static bool is_drawn(GPtrArray *slices, const struct run *run, const struct hold *h)
{
	g_autofree char *site = words_site(run, h->site);

	for (unsigned i = 0; i < slices->len; i++) {
		const struct drawn *s = slices->pdata[i];
		const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);

		if (s->begin_ns == h->begin_ns && s->track->tid == (int)t->tid &&
		    s->end_ns - s->begin_ns == run_hold_ns(run, h->hold_ns) &&
		    !strcmp(s->name, site))
			return true;
	}
	return false;
}

static void compare(const struct drawing *d, struct run *run)
{
	g_autoptr(GPtrArray) holds = drawn_of(d, "hold", NULL);
	g_autoptr(GPtrArray) devices = drawn_of(d, "device", NULL);
	g_autoptr(GPtrArray) phases = drawn_of(d, "phase", NULL);
	unsigned n = 0;

	g_assert_cmpuint(holds->len, ==, run->holds->len);
	for (unsigned i = 0; i < run->holds->len; i++)
		g_assert_true(is_drawn(holds, run, &g_array_index(run->holds, struct hold, i)));
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);
		const struct drawn *s;

		if (m->in.phase != PHASE_DEVICE)
			continue;
		g_assert_cmpuint(n, <, devices->len);
		s = devices->pdata[n++];
		g_assert_cmpstr(s->name, ==, m->in.device);
		g_assert_cmpuint(s->begin_ns, ==, m->at_ns);
	}
	g_assert_cmpuint(n, ==, devices->len);
	g_assert_cmpuint(n, >, 12);
	g_assert_cmpuint(phases->len, >=, 4);
	g_test_message("%u holds, %u device sections, %u phases", holds->len, devices->len,
		       phases->len);
}

static void test_arrival(void)
{
	const struct lab_pair_options options = {
		.vm = {.devices = LAB_DEVICES_DOZEN, .guest = true, .cpus = 2}};
	g_autofree char *file = fresh_path("arrival.bql"), *pid = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = lab_pair_new(&options, &error);
	struct lab_migration result = {0};
	struct lab_process *p;
	struct drawing *d;
	struct run *run;

	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	p = start_recording(file, pid, "100us");
	if (!p)
		return;
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_pair_wait(pair, 60000, &result, &error));
	g_assert_cmpstr(result.status, ==, "completed");
	lab_migration_clear(&result);
	stop_recording(p);
	run = load(file, 1);
	d = draw(file, NULL);
	compare(d, run);
	drawing_free(d);
	run_free(run);
}

/* ---- what goes wrong ---- */

/* One sentence that says `what`, exit code 3, and no trace. */
static void refuses(const char *file, const char *trace, const char *what)
{
	bool existed = g_file_test(trace, G_FILE_TEST_EXISTS);
	struct lab_process *p = bqlstat("timeline", "-o", trace, file, NULL);
	g_autofree char *says = NULL;
	int code;

	says = outcome(p, &code);
	g_test_message("%s", says);
	g_assert_cmpint(code, ==, 3);
	g_assert_nonnull(strstr(says, what));
	g_assert_true(strchr(says, '\n') == says + strlen(says) - 1);
	g_assert_true(g_file_test(trace, G_FILE_TEST_EXISTS) == existed);
	lab_process_free(p);
}

static void test_refusals(void)
{
	g_autofree char *file = fresh_path("good.bql"), *text = fresh_path("text");
	g_autofree char *trace = fresh_path("trace"), *empty = fresh_path("empty.bql");
	g_autofree char *broken = fresh_path("broken.bql"), *bytes = NULL, *after = NULL;
	g_autofree char *forced = NULL;
	struct lab_process *p;
	gsize size;
	int code;

	put(file, small_run(4711, "good"));
	g_assert_true(g_file_get_contents(file, &bytes, &size, NULL));
	memset(bytes + 4096, 0xa5, size - 4096);
	g_assert_true(g_file_set_contents(broken, bytes, size, NULL));
	g_assert_true(g_file_set_contents(text, "hello", 5, NULL));
	g_assert_true(g_file_set_contents(empty, "", 0, NULL));
	refuses("/nowhere.bql", trace, "cannot read /nowhere.bql");
	refuses(text, trace, "is not a bqlstat run file");
	refuses(empty, trace, "is empty");
	refuses(broken, trace, "is damaged");
	refuses(file, "/nowhere/trace", "cannot write /nowhere/trace");
	refuses(file, "/dev/null", "is not a regular file");
	/* What is there stays, but when told. */
	refuses(file, text, "exists");
	g_assert_true(g_file_get_contents(text, &after, NULL, NULL));
	g_assert_cmpstr(after, ==, "hello");
	p = bqlstat("timeline", "-f", "-o", text, file, NULL);
	forced = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 0);
	drawing_free(drawing_read(text));
	/* Told or not: never what is being drawn, and not for a trace that cannot be drawn. */
	p = bqlstat("timeline", "-f", "-o", file, text, file, NULL);
	g_free(forced);
	forced = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 2);
	g_assert_nonnull(strstr(forced, "is what is to be drawn"));
	p = bqlstat("timeline", "-f", "-o", text, broken, NULL);
	g_free(forced);
	forced = outcome(p, &code);
	lab_process_free(p);
	g_assert_cmpint(code, ==, 3);
	drawing_free(drawing_read(text));
	refuses(file, text, "exists");
}

static void test_full_disk(void)
{
	g_autofree char *file = fresh_path("big.bql"), *at = fresh_path("small-disk");
	g_autofree char *trace = g_build_filename(at, "trace", NULL);
	struct run *run = small_run(4711, "big");

	if (mkdir(at, 0700) || mount("none", at, "tmpfs", 0, "size=64k")) {
		g_test_skip("cannot mount a small tmpfs here");
		run_free(run);
		return;
	}
	for (unsigned i = 0; i < 5000; i++)
		add_hold(run, 0, 0, 1200000000 + i * 4000, 3000, 0);
	put(file, run);
	refuses(file, trace, "the disk is full");
	umount(at);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/timeline/exactly", test_exactly);
	g_test_add_func("/timeline/many", test_many);
	g_test_add_func("/timeline/together", test_together);
	g_test_add_func("/timeline/refusals", test_refusals);
	g_test_add_func("/timeline/full-disk", test_full_disk);
	g_test_add_func("/timeline/arrival", test_arrival);
	return g_test_run();
}
