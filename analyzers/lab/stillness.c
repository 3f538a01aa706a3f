/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the machine stood still: a thread on each processor that sleeps for a moment at a time
 * and sees how late it wakes.
 */
#include <sched.h>
#include <time.h>

#include "analyzers/lab/internal.h"

#define NAP_NS	 2000000
#define STILL_NS 50000000 /* later than any scheduler makes a sleeper that rarely runs */

struct sleeper {
	struct lab_stillness *all;
	GThread *thread;
	int cpu;
	uint64_t still_ns;
};

struct lab_stillness {
	struct sleeper sleepers[CPU_SETSIZE];
	unsigned n;
	int stop; /* atomic */
};

static gpointer nap(gpointer opaque)
{
	const struct timespec moment = {.tv_nsec = NAP_NS};
	struct sleeper *s = opaque;
	cpu_set_t own;

	CPU_ZERO(&own);
	CPU_SET(s->cpu, &own);
	sched_setaffinity(0, sizeof(own), &own);
	while (!g_atomic_int_get(&s->all->stop)) {
		uint64_t begin = lab_now_ns(), took;

		nanosleep(&moment, NULL);
		took = lab_now_ns() - begin;
		s->still_ns += took > STILL_NS ? took : 0;
	}
	return NULL;
}

struct lab_stillness *lab_stillness_new(void)
{
	struct lab_stillness *all = g_new0(struct lab_stillness, 1);
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		struct sleeper *s = &all->sleepers[all->n];

		if (!CPU_ISSET(cpu, &cpus))
			continue;
		*s = (struct sleeper){.all = all, .cpu = cpu};
		s->thread = g_thread_new("lab-stillness", nap, s);
		all->n++;
	}
	return all;
}

uint64_t lab_stillness_end(struct lab_stillness *all)
{
	uint64_t most = 0;

	g_atomic_int_set(&all->stop, 1);
	for (unsigned i = 0; i < all->n; i++) {
		g_thread_join(all->sleepers[i].thread);
		most = MAX(most, all->sleepers[i].still_ns);
	}
	g_free(all);
	return most;
}
