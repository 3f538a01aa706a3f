/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How quiet the machine was while something was measured: what processors spent on other work than
 * ours. The load average alone cannot tell, as most of it is us.
 */
#ifndef LAB_MACHINE_H
#define LAB_MACHINE_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"

/* Seconds since some beginning; the hypervisor's theft counts as busy. */
struct machine {
	double busy_s, own_s;
	uint64_t at_ns;
};

static inline double machine_cpu_s(pid_t pid)
{
	struct timespec used = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &used);
	return used.tv_sec + used.tv_nsec / 1e9;
}

/* `own`: the processes whose work is ours, beside this one. */
static inline struct machine machine_now(const pid_t *own, size_t n)
{
	unsigned long long user = 0, nice_ = 0, system = 0, irq = 0, softirq = 0, steal = 0;
	struct machine m = {.own_s = machine_cpu_s(getpid()), .at_ns = lab_now_ns()};
	FILE *file = fopen("/proc/stat", "re");

	if (file && fscanf(file, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice_,
			   &system, &irq, &softirq, &steal) == 6)
		m.busy_s = (double)(user + nice_ + system + irq + softirq + steal) /
			   (double)sysconf(_SC_CLK_TCK);
	if (file)
		fclose(file);
	for (size_t i = 0; i < n; i++)
		m.own_s += machine_cpu_s(own[i]);
	return m;
}

/* How many processors others kept busy from `a` to `b`; it counts in ticks, so 0 may be below. */
static inline double machine_others(const struct machine *a, const struct machine *b)
{
	double others = (b->busy_s - a->busy_s - (b->own_s - a->own_s)) /
			((double)(b->at_ns - a->at_ns) / 1e9);

	return others > 0 ? others : 0;
}

/* Of the last minute. */
static inline double machine_load(void)
{
	double load = 0;

	return getloadavg(&load, 1) == 1 ? load : -1;
}

#endif
