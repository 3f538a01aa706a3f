/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the cost bench measures: a loop of uncontended lock+unlock pairs, instrumented or not.
 *
 *   subject METHOD THREADS MILLISECONDS      prints the nanoseconds one pair took
 *
 * Each thread has a lock of its own, so that the price of tracing is seen and not that of contention.
 * The labels probe_* mark the instructions that a tracer is to stand on; the bench finds them by name.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#ifdef WITH_LTTNG
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "tests/bench/subject-lttng.h"
#endif

struct lane {
	pthread_mutex_t mutex;
	pthread_t thread;
	uint64_t pairs;
	uint64_t histogram[64];
} __attribute__((aligned(256)));

static struct lane lanes[16];
static atomic_bool stop;

/*
 * The two functions a tracer probes, laid out like QEMU's lock functions: the first instruction is one
 * that the kernel single-steps, a later one is one that it emulates.
 */
__asm__(".text\n"
	".macro PROBED name, what\n"
	".globl probe_\\name\\()_entry, probe_\\name\\()_emulated\n"
	".type probe_\\name\\()_entry, @function\n"
	".type probe_\\name\\()_emulated, @function\n"
	"probe_\\name\\()_entry:\n"
	"	sub $8, %rsp\n"
	"probe_\\name\\()_emulated:\n"
	"	call \\what\n"
	"	add $8, %rsp\n"
	"	ret\n"
	".size probe_\\name\\()_entry, . - probe_\\name\\()_entry\n"
	".endm\n"
	"PROBED lock, pthread_mutex_lock@PLT\n"
	"PROBED unlock, pthread_mutex_unlock@PLT\n");

int probe_lock_entry(pthread_mutex_t *);
int probe_unlock_entry(pthread_mutex_t *);

static void pair_none(struct lane *l)
{
	probe_lock_entry(&l->mutex);
	probe_unlock_entry(&l->mutex);
}

/* The cheapest conceivable tracer: no kernel, no trace, a histogram in the process's own memory. */
static void pair_counter(struct lane *l)
{
	uint64_t begin;

	pthread_mutex_lock(&l->mutex);
	begin = __rdtsc();
	l->histogram[63 - __builtin_clzll((__rdtsc() - begin) | 1)]++;
	pthread_mutex_unlock(&l->mutex);
}

/* A USDT site is a nop; the bench probes the label itself, which costs what a USDT probe costs. */
#define USDT_SITE(label, bytes) \
	__asm__ volatile(".globl " label "\n.type " label ", @function\n" label ":\n.byte " bytes \
			 "\n.size " label ", . - " label "\n" ::: "memory")

static __attribute__((noinline)) void pair_usdt1(struct lane *l)
{
	pthread_mutex_lock(&l->mutex);
	USDT_SITE("probe_usdt1_acquired", "0x90");
	USDT_SITE("probe_usdt1_released", "0x90");
	pthread_mutex_unlock(&l->mutex);
}

static __attribute__((noinline)) void pair_usdt5(struct lane *l)
{
	pthread_mutex_lock(&l->mutex);
	USDT_SITE("probe_usdt5_acquired", "0x0f, 0x1f, 0x44, 0x00, 0x00");
	USDT_SITE("probe_usdt5_released", "0x0f, 0x1f, 0x44, 0x00, 0x00");
	pthread_mutex_unlock(&l->mutex);
}

#ifdef WITH_LTTNG
static void pair_lttng(struct lane *l)
{
	pthread_mutex_lock(&l->mutex);
	lttng_ust_tracepoint(bqlstat_bench, acquired, l);
	lttng_ust_tracepoint(bqlstat_bench, released, l);
	pthread_mutex_unlock(&l->mutex);
}
#endif

static const struct method {
	const char *name;
	void (*pair)(struct lane *);
} methods[] = {
	{ "none", pair_none },	 { "counter", pair_counter }, { "usdt1", pair_usdt1 },
	{ "usdt5", pair_usdt5 },
#ifdef WITH_LTTNG
	{ "lttng", pair_lttng },
#endif
};

static void (*pair)(struct lane *);

static void *run(void *opaque)
{
	struct lane *l = opaque;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (int i = 0; i < 256; i++)
			pair(l);
		l->pairs += 256;
	}
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1;
	int ms = argc > 3 ? atoi(argv[3]) : 300;
	uint64_t begin, elapsed, pairs = 0;

	for (size_t i = 0; argc > 1 && i < sizeof(methods) / sizeof(methods[0]); i++)
		if (!strcmp(methods[i].name, argv[1]))
			pair = methods[i].pair;
	if (!pair || threads < 1 || threads > 16 || ms < 1) {
		fprintf(stderr, "usage: subject METHOD THREADS MILLISECONDS\n");
		return 2;
	}
	begin = now_ns();
	for (int i = 0; i < threads; i++) {
		pthread_mutex_init(&lanes[i].mutex, NULL);
		pthread_create(&lanes[i].thread, NULL, run, &lanes[i]);
	}
	usleep(ms * 1000);
	atomic_store(&stop, true);
	for (int i = 0; i < threads; i++) {
		pthread_join(lanes[i].thread, NULL);
		pairs += lanes[i].pairs;
	}
	elapsed = now_ns() - begin;
	printf("%.1f\n", (double)elapsed * threads / pairs);
	return 0;
}
