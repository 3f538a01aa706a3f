/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that passes the runtime's LTTng tracepoints as a QEMU under loadvm does, so that it is
 * known exactly what a trace of it must say:
 *
 *   traced ROUNDS THREADS    each thread takes a real lock that often, at two call sites
 *   traced story             one small incoming migration, the times of which are slept
 *
 * It prints what it did, a line each: "site FILE:LINE COUNT", "hold FILE:LINE LEAST MOST"
 * (ns).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "runtime/trace/lttng/events-lttng.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long rounds;

struct place {
	const char *file;
	uint32_t line;
};

static const struct place common = {"../../util/main-loop.c", 318}, rare = {"system/cpus.c", 77};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void sleep_ms(long ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* What was held lies between these, whenever the events took their stamps. */
struct held {
	uint64_t least_ns, most_ns;
};

struct taken {
	uint64_t got_ns, told_ns;
};

static struct taken take(const struct place *at)
{
	uint64_t asked_ns = now_ns(), got_ns;

	lttng_ust_tracepoint(loadvm, lock_ask, at->file, at->line);
	pthread_mutex_lock(&lock);
	got_ns = now_ns();
	lttng_ust_tracepoint(loadvm, lock_acquired, at->file, at->line, 0,
			     (int64_t)(got_ns - asked_ns));
	return (struct taken){got_ns, now_ns()};
}

static struct held give(const struct place *at, struct taken taken)
{
	uint64_t given_ns = now_ns();
	struct held held = {.least_ns = given_ns - taken.told_ns};

	lttng_ust_tracepoint(loadvm, lock_released, at->file, at->line, 0,
			     (int64_t)(given_ns - taken.got_ns));
	held.most_ns = now_ns() - taken.got_ns;
	pthread_mutex_unlock(&lock);
	return held;
}

static void *hammer(void *opaque)
{
	char name[16];

	snprintf(name, sizeof(name), "CPU %ld/TCG", (long)opaque);
	prctl(PR_SET_NAME, name);
	lttng_ust_tracepoint(loadvm, thread_begin, name, (uint64_t)pthread_self());
	for (unsigned long i = 0; i < rounds; i++) {
		const struct place *at = i % 100 ? &common : &rare;

		give(at, take(at));
	}
	return NULL;
}

static int hammer_all(int threads)
{
	pthread_t thread[64];

	for (long i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, hammer, (void *)i))
			return 3;
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("site %s:%u %lu\n", common.file, common.line,
	       threads * (rounds - (rounds + 99) / 100));
	printf("site %s:%u %lu\n", rare.file, rare.line, threads * ((rounds + 99) / 100));
	return 0;
}

static void device(const char *name, long ms)
{
	lttng_ust_tracepoint(loadvm, vmsd_begin, name, 1);
	sleep_ms(ms);
	lttng_ust_tracepoint(loadvm, vmsd_end, name, 0);
}

static void *waits(void *opaque)
{
	static const struct place at = {"monitor/qmp.c", 9};

	(void)opaque;
	prctl(PR_SET_NAME, "IO mon_iothread");
	give(&at, take(&at));
	return NULL;
}

static int tell_story(void)
{
	static const struct place at = {"migration/savevm.c", 5};
	pthread_t waiter;
	struct taken taken;
	struct held held;

	lttng_ust_tracepoint(loadvm, runtime, "0.1", "10.0.2 (Story)", "0123abcd", "wait", 9);
	lttng_ust_tracepoint(loadvm, incoming_begin, 1, "wait");
	taken = take(&at);
	lttng_ust_tracepoint(loadvm, ram_begin, 1, 0);
	pthread_create(&waiter, NULL, waits, NULL);
	sleep_ms(20);
	lttng_ust_tracepoint(loadvm, io_wait_begin, "qio-channel-socket", "read", "held");
	sleep_ms(30);
	lttng_ust_tracepoint(loadvm, io_wait_end, "qio-channel-socket", "read", "held");
	lttng_ust_tracepoint(loadvm, ram_end, 1, 4096, 0);
	device("timer", 5);
	device("virtio-net", 10);
	held = give(&at, taken);
	printf("hold %s:%u %llu %llu\n", at.file, at.line, (unsigned long long)held.least_ns,
	       (unsigned long long)held.most_ns);
	lttng_ust_tracepoint(loadvm, io_wait_begin, "multifd", "sync", "dropped");
	sleep_ms(5);
	lttng_ust_tracepoint(loadvm, io_wait_end, "multifd", "sync", "dropped");
	pthread_join(waiter, NULL);
	/* As after a condition variable: no ask. */
	lttng_ust_tracepoint(loadvm, lock_acquired, at.file, 6, 1, (int64_t)-1);
	lttng_ust_tracepoint(loadvm, activate_begin, 1);
	lttng_ust_tracepoint(loadvm, activate_end, 1);
	lttng_ust_tracepoint(loadvm, lock_released, at.file, 6, 1, (int64_t)1000);
	lttng_ust_tracepoint(loadvm, vm_start_begin, 1);
	lttng_ust_tracepoint(loadvm, vm_start_end, 1);
	lttng_ust_tracepoint(loadvm, incoming_end, 1, "wait", 0);
	lttng_ust_tracepoint(loadvm, incoming_destroyed, 1);
	/* As every QEMU ends: with the lock in hand. */
	take(&at);
	sleep_ms(3);
	lttng_ust_tracepoint(loadvm, policy, "wait", "start");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "story"))
		return tell_story();
	if (argc != 3 || atoi(argv[2]) < 1 || atoi(argv[2]) > 64) {
		fputs("usage: traced ROUNDS THREADS | traced story\n", stderr);
		return 2;
	}
	rounds = strtoul(argv[1], NULL, 10);
	return hammer_all(atoi(argv[2]));
}
