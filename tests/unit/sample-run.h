/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run made up for tests of what keeps and shows runs.
 */
#ifndef SAMPLE_RUN_H
#define SAMPLE_RUN_H

#include "analyzers/model/run.h"

/* A run with something in every table; `seed` makes runs differ. */
static inline struct run *make_run(unsigned seed, unsigned usages)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	struct run *run = run_new();
	struct thread threads[] = {{100, "qemu", ROLE_MAIN, -1}, {101, "CPU 3/KVM", ROLE_VCPU, 3}};
	struct point point = {"ASK", 0x5d586b, "call 0x1", true, true, false, true, ""};
	struct point refused = {"START", 1, "push", false, false, false, false, "patched"};
	struct mark mark = {5000, {PHASE_DEVICE, "virtio-net"}};
	struct lost lost = {"ring_full", seed};
	struct hold hold = {.begin_ns = 3000,
			    .hold_ns = 3000000000ULL,
			    .wait_ns = UNKNOWN_NS,
			    .thread = 1,
			    .unfinished = true,
			    .runnable_ns = 5,
			    .blocked = {{202, 3, 2000000000, 0}, {CAUSE_FAULT, 1, 7, 0}},
			    .longest_ns = 1999999999,
			    .longest_cause = 202,
			    .at_begin = {PHASE_NONE, ""},
			    .at_end = {PHASE_DEVICE, "virtio-net"},
			    .at_longest = {PHASE_RAM, ""}};

	run->label = "it's \"this\" one";
	run->source = "ebpf";
	run->tool = "0";
	run->begin_ns = 1000 + seed;
	run->begin_unix_ns = 1700000000000000000;
	run->duration_ns = 10000000000ULL;
	run->ended = "until the QEMU exited";
	run->pid = 4711;
	run->qemu_version = "7.2.22";
	run->qemu_generation = "7.2-8.2";
	run->qemu_build_id = "abcdef";
	run->qemu_path = "/usr/bin/qemu";
	run->qemu_cmdline = "qemu -m 64";
	run->kernel = "Linux";
	run->cpu = "CPU";
	run->cpus = 2;
	run->threshold_ns = 1000000;
	run->calibrated = true;
	run->hold_bias_ns = 600;
	run->wait_bias_ns = 590;
	run->pair_ns = 1800;
	g_array_append_vals(run->threads, threads, G_N_ELEMENTS(threads));
	for (unsigned i = 0; i < usages; i++) {
		struct usage *u =
			run_add_usage(run, run_site(run, "main-loop.c", i + 1, i & 1), i & 1);
		struct blocking b = {CAUSE_STOPPED, 1, 2, 3};

		for (int n = 0; n < 50; n++) {
			histogram_add(&u->wait, g_rand_int(rand));
			histogram_add(&u->hold, (uint64_t)g_rand_int(rand) << (n % 9));
		}
		u->acquired = u->hold.count + 1;
		u->wait_max_at_ns = 7;
		u->hold_max_at_ns = 8;
		u->runnable_ns = 9;
		g_array_append_val(u->blocking, b);
	}
	g_array_append_val(run->holds, hold);
	hold.wait_ns = 0;
	hold.unfinished = false;
	g_array_append_val(run->holds, hold);
	g_array_append_val(run->marks, mark);
	g_array_append_val(run->points, point);
	g_array_append_val(run->points, refused);
	g_array_append_val(run->lost, lost);
	run_set_metric(run, "downtime_ns", 1);
	run_set_metric(run, "ram_bytes", 1 << 30);
	run_set_metric(run, "downtime_ns", 12345.25);
	return run;
}

#endif
