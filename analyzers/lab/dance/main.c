/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lockdance: the command line.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/dance/dance.h"

/* The guard against a script that never ends, such as a barrier that one thread does not reach. */
#define LIMIT_SECONDS 300

static const char help[] =
	"usage: lockdance [--ledger FILE] [--wait-start] [--wait-end] SCRIPT | -e TEXT\n"
	"       lockdance --pairs N [--threads T] [--wait-start] [--wait-end]\n"
	"\n"
	"Takes a lock as a script says, in threads that look to a tracer like a QEMU's.\n"
	"\n"
	"  -e TEXT        the script itself; steps may be separated by ';'\n"
	"  --ledger FILE  what really happened: one line a hold, a block, a site (tab-separated,\n"
	"                 CLOCK_MONOTONIC ns; the first lines name the columns)\n"
	"  --pairs N      N pairs of lock and unlock in each thread, as fast as they go\n"
	"  --wait-start   say \"ready PID\", begin at a byte on standard input or at SIGUSR1\n"
	"  --wait-end     say \"done\", end at a byte on standard input or at SIGUSR1\n"
	"\n"
	"A script is threads and their steps; US are microseconds, SITE is FILE:LINE:\n"
	"  thread NAME          the steps below are its\n"
	"  lock SITE, unlock\n"
	"  hold US              on the CPU\n"
	"  sleep US, idle US    in nanosleep; sleep counts as blocked while the lock is held\n"
	"  read US              in a read() that takes that long\n"
	"  fault US             in a page fault that is served that late\n"
	"  pipe US, socket US, eventfd US, futex US\n"
	"                       until another thread, \"wake helper\", writes or posts\n"
	"  condwait SITE US     sleeps on a condition variable with the lock until woken\n"
	"  timedwait SITE US    until the time is over (whole milliseconds)\n"
	"  pairs N SITE         lock and unlock, N times\n"
	"  barrier              until every thread that has barriers is at one\n"
	"  repeat N ... end\n"
	"A FILE is one of main-loop.c, cpus.c, physmem.c, cputlb.c, migration.c, savevm.c,\n"
	"cpu-common.c, dance-a.c ... dance-d.c; '#' begins a comment.\n";

static void nothing(int signal)
{
	(void)signal;
}

/* A byte, the end of standard input, or SIGUSR1, which interrupts the read. */
static void wait_for_word(void)
{
	char byte;

	if (read(STDIN_FILENO, &byte, 1) < 0 && errno != EINTR)
		pause();
}

static void say_ready(void)
{
	printf("ready %d\n", getpid());
	fflush(stdout);
	wait_for_word();
}

static void go_at_once(void)
{
}

static char *read_script(const char *path)
{
	FILE *f = fopen(path, "re");
	size_t room = 0;
	char *text = NULL;

	if (!f)
		return NULL;
	if (getdelim(&text, &room, '\0', f) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(f);
	return text;
}

static char *pairs_script(uint64_t pairs, unsigned threads)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	for (unsigned i = 0; i < threads; i++)
		fprintf(f, "thread CPU %u/TCG\npairs %" PRIu64 " dance-a.c:1\n", i, pairs);
	fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"ledger", required_argument, NULL, 'l'},
		{"pairs", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'},
		{"wait-start", no_argument, NULL, 's'},
		{"wait-end", no_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const struct sigaction wake = {.sa_handler = nothing}; /* no SA_RESTART: ends a read */
	static struct performance result;
	static struct script script;
	const char *ledger_path = NULL, *error;
	bool wait_start = false, wait_end = false;
	uint64_t pairs = 0;
	unsigned threads = 1;
	char *text = NULL;
	int c, ret;

	while ((c = getopt_long(argc, argv, "e:h", options, NULL)) >= 0) {
		switch (c) {
		case 'e':
			free(text);
			text = strdup(optarg);
			break;
		case 'l':
			ledger_path = optarg;
			break;
		case 'p':
			pairs = strtoull(optarg, NULL, 10);
			break;
		case 't':
			threads = strtoul(optarg, NULL, 10);
			break;
		case 's':
			wait_start = true;
			break;
		case 'w':
			wait_end = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			fputs("lockdance: see --help\n", stderr);
			return 2;
		}
	}
	if (pairs)
		text = pairs_script(pairs, threads);
	else if (!text && optind + 1 == argc)
		text = read_script(argv[optind]);
	if (!text) {
		fputs("lockdance: one readable script, -e or --pairs: see --help\n", stderr);
		return 2;
	}
	error = script_parse(&script, text);
	if (error) {
		fprintf(stderr, "lockdance: %s\n", error);
		ret = 2;
		goto cleanup;
	}
	sigaction(SIGUSR1, &wake, NULL);
	alarm(LIMIT_SECONDS);
	error = perform(&script, ledger_path, wait_start ? say_ready : go_at_once, &result);
	if (error) {
		fprintf(stderr, "lockdance: %s\n", error);
		ret = 3;
		goto cleanup;
	}
	if (pairs)
		printf("%" PRIu64 " pairs, %.0f pairs/s\n", pairs * threads,
		       pairs * threads * 1e9 / (result.end_ns - result.begin_ns));
	ret = ledger_path ? ledger_write(ledger_path, result.ledgers, script.n_parts) : 0;
	if (ret) {
		fprintf(stderr, "lockdance: cannot write %s: %s\n", ledger_path, strerror(-ret));
		ret = 3;
	}
	if (wait_end) {
		puts("done");
		fflush(stdout);
		wait_for_word();
	}
cleanup:
	script_free(&script);
	free(text);
	return ret;
}
