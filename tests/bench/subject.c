/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the cost bench measures: a loop of uncontended lock+unlock pairs, instrumented or not.
 *
 *   subject METHOD THREADS MILLISECONDS [FILE]     prints the nanoseconds one pair took
 *
 * FILE: any in the folder of loadvm's LTTng provider, which is then loaded.
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

#include "runtime/detour/detour.h"
#include "runtime/trace/internal.h"

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
/* On a page of their own: while one is patched, nothing on it can run. */
__asm__(".text\n"
	".balign 4096\n"
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
	"PROBED unlock, pthread_mutex_unlock@PLT\n"
	".balign 4096\n");

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

/* The runtime's own events, without what makes them of a QEMU: three sites. */
static __attribute__((noinline)) void pair_sites(struct lane *l)
{
	TRACE(lock_ask, __FILE__, __LINE__);
	pthread_mutex_lock(&l->mutex);
	TRACE(lock_acquired, __FILE__, __LINE__, 0, 0);
	TRACE(lock_released, __FILE__, __LINE__, 0, 0);
	pthread_mutex_unlock(&l->mutex);
}

/* As in a QEMU under loadvm --usdt: QEMU's hook on the way in, a detour on the way out. */
static __thread struct lane *mine;
static int (*unlock_original)(pthread_mutex_t *);

static void hook_lock(void *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	pthread_mutex_lock(mutex);
}

static void unlock_mine(void)
{
	unlock_original(&mine->mutex);
}

static void pair_hooks(struct lane *l)
{
	mine = l;
	trace_bql_hook(&l->mutex, __FILE__, __LINE__);
	probe_unlock_entry(&l->mutex);
}

static bool prepare_hooks(void)
{
	static uint8_t code[9]; /* sub and call */
	struct detour_error err;

	memcpy(code, (void *)probe_unlock_entry, sizeof(code));
	trace_original.bql_hook = hook_lock;
	trace_original.bql_unlock = unlock_mine;
	if (!detour_install(
		    &(struct detour_request){
			    .name = "unlock",
			    .target = (void *)probe_unlock_entry,
			    .code = code,
			    .extent = sizeof(code),
			    .replacement = trace_bql_unlock,
			    .original = (void **)&unlock_original,
		    },
		    1, &err))
		return true;
	fprintf(stderr, "subject: %s\n", err.text);
	return false;
}

static const struct method {
	const char *name;
	void (*pair)(struct lane *);
} methods[] = {
	{ "none", pair_none },	 { "counter", pair_counter }, { "usdt1", pair_usdt1 },
	{ "usdt5", pair_usdt5 }, { "sites", pair_sites },     { "hooks", pair_hooks },
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

/* Of all threads: what others run on this machine meanwhile does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1;
	int ms = argc > 3 ? atoi(argv[3]) : 300;
	uint64_t begin, elapsed, pairs = 0;
	char why[400];

	for (size_t i = 0; argc > 1 && i < sizeof(methods) / sizeof(methods[0]); i++)
		if (!strcmp(methods[i].name, argv[1]))
			pair = methods[i].pair;
	if (!pair || threads < 1 || threads > 16 || ms < 1) {
		fprintf(stderr, "usage: subject METHOD THREADS MILLISECONDS [PROVIDER]\n");
		return 2;
	}
	if (pair == pair_hooks && !prepare_hooks())
		return 3;
	if (argc > 4 && trace_load_lttng(argv[4], why, sizeof(why))) {
		fprintf(stderr, "subject: %s\n", why);
		return 3;
	}
	begin = cpu_ns();
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
	elapsed = cpu_ns() - begin;
	printf("%.1f\n", (double)elapsed / pairs);
	return 0;
}
