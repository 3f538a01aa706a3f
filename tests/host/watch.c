/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What must hold whenever QEMU's code runs, and counting.
 */
#include "tests/host/host.h"

#include <string.h>

__thread enum place host_place;
__thread bool host_is_main, host_loads;

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static int counters[COUNTERS];
static struct came came[CAME_N];
static bool torn_down;
static enum host_policy expected; /* set before the load begins */

/* The linker's. */
extern const char __executable_start[], etext[];

bool host_came(enum host_function function, const void *from)
{
	bool own = (uintptr_t)from >= (uintptr_t)__executable_start &&
		   (uintptr_t)from < (uintptr_t)etext;

	pthread_mutex_lock(&watch_lock);
	*(own ? &came[function].direct : &came[function].through) += 1;
	pthread_mutex_unlock(&watch_lock);
	host_runs();
	return !own;
}

struct came host_calls(enum host_function function)
{
	struct came r;

	pthread_mutex_lock(&watch_lock);
	r = came[function];
	pthread_mutex_unlock(&watch_lock);
	return r;
}

/* The policies once more, in a test's words: docs/loadvm.md, not runtime/thread/policy.c. */
static bool held_in(enum host_policy policy, enum place place, bool waits)
{
	switch (policy) {
	case STOCK:
		return true;
	case WAIT:
		return !waits;
	case SECTION:
		return place == RAM_START || place == DEVICE || (place == BETWEEN && !waits);
	case IO_FREE:
		return !waits && place != RAM_PART;
	}
	g_assert_not_reached();
}

enum host_policy host_policy_named(const char *name)
{
	static const char *const names[] = {"stock", "wait", "section", "io-free"};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		if (!strcmp(name, names[i]))
			return (enum host_policy)i;
	g_error("there is no policy %s", name);
}

void host_expect(enum host_policy policy)
{
	expected = policy;
}

void host_runs(void)
{
	bool late;

	pthread_mutex_lock(&watch_lock);
	late = torn_down;
	pthread_mutex_unlock(&watch_lock);
	if (late && host_loads && !host_is_main)
		g_error("QEMU's code runs in the thread while QEMU takes itself apart");
}

void host_runs_at(enum place place, bool waits)
{
	host_runs();
	if (!host_loads)
		return;
	g_assert_cmpint(host_place, ==, place);
	if (bql_locked() != held_in(expected, place, waits))
		g_error("policy %d, place %d, %s: the lock is %s", expected, place,
			waits ? "waiting" : "working", bql_locked() ? "held" : "free");
	/* Stock waits by yielding, not here. */
	g_assert_true(host_is_main == (expected == STOCK));
}

void host_reads(bool through)
{
	bool free = expected == SECTION || expected == IO_FREE;

	host_runs_at(host_place, free);
	if (host_loads)
		g_assert_cmpint(through, ==,
				expected != STOCK && !(free && host_place == RAM_PART));
}

void host_tear_down(void)
{
	pthread_mutex_lock(&watch_lock);
	torn_down = true;
	pthread_mutex_unlock(&watch_lock);
}

void host_count(enum counter counter, int n)
{
	pthread_mutex_lock(&watch_lock);
	counters[counter] += n;
	pthread_mutex_unlock(&watch_lock);
}

int host_counted(enum counter counter)
{
	int r;

	pthread_mutex_lock(&watch_lock);
	r = counters[counter];
	pthread_mutex_unlock(&watch_lock);
	return r;
}

void host_forget_counts(void)
{
	pthread_mutex_lock(&watch_lock);
	memset(counters, 0, sizeof(counters));
	memset(came, 0, sizeof(came));
	pthread_mutex_unlock(&watch_lock);
}
