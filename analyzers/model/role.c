/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a thread of QEMU is for: by its name where it has one, else by where it takes the lock.
 */
#include <stdio.h>
#include <string.h>

#include "analyzers/model/run.h"

static const char *const role_names[ROLES] = {
	[ROLE_MAIN] = "main",		[ROLE_VCPU] = "vCPU",	      [ROLE_INCOMING] = "incoming",
	[ROLE_MIGRATION] = "migration", [ROLE_IOTHREAD] = "iothread", [ROLE_RCU] = "RCU",
	[ROLE_WORKER] = "worker",	[ROLE_OTHER] = "thread",
};

const char *role_name(enum role role)
{
	return (unsigned)role < ROLES ? role_names[role] : "thread";
}

enum role role_from_name(const char *name)
{
	for (unsigned i = 0; i < ROLES; i++)
		if (!strcmp(name, role_names[i]))
			return i;
	return ROLE_OTHER;
}

enum role role_of(bool leader, const char *comm, const char *leader_comm, int *number)
{
	/* QEMU's own names, cut by the kernel after 15 characters. The first that fits counts. */
	static const struct {
		const char *prefix;
		enum role role;
	} names[] = {
		{"mig/dst/main", ROLE_INCOMING},
		{"mig/", ROLE_MIGRATION},
		{"multifd", ROLE_MIGRATION},
		{"postcopy/", ROLE_MIGRATION},
		{"live_migration", ROLE_MIGRATION},
		{"bg_snapshot", ROLE_MIGRATION},
		{"return path", ROLE_MIGRATION},
		{"call_rcu", ROLE_RCU},
		{"IO ", ROLE_IOTHREAD},
		{"worker", ROLE_WORKER},
		{"CPU ", ROLE_VCPU},
		{"ALL CPUs", ROLE_VCPU},
	};

	*number = -1;
	if (leader)
		return ROLE_MAIN;
	if (!strcmp(comm, leader_comm))
		return ROLE_OTHER;
	if (sscanf(comm, "CPU %d/", number) == 1)
		return ROLE_VCPU;
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		if (g_str_has_prefix(comm, names[i].prefix))
			return names[i].role;
	return ROLE_OTHER;
}

static enum role role_at(const char *file)
{
	/* Only threads of that kind take the lock in these sources. */
	static const struct {
		const char *part;
		enum role role;
	} places[] = {
		{"accel/", ROLE_VCPU},		{"/cpus.c", ROLE_VCPU},
		{"target/", ROLE_VCPU},		{"util/rcu.c", ROLE_RCU},
		{"migration/", ROLE_MIGRATION}, {"iothread.c", ROLE_IOTHREAD},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
		if (strstr(file, places[i].part))
			return places[i].role;
	return ROLE_OTHER;
}

static gint by_tid(gconstpointer a, gconstpointer b)
{
	const struct thread *x = *(struct thread *const *)a, *y = *(struct thread *const *)b;

	return x->tid < y->tid ? -1 : x->tid > y->tid;
}

void run_guess_roles(struct run *run)
{
	g_autoptr(GPtrArray) vcpus = g_ptr_array_new();
	bool named = false;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		struct thread *t = &g_array_index(run->threads, struct thread, u->thread);

		if (t->role == ROLE_OTHER)
			t->role = role_at(g_array_index(run->sites, struct site, u->site).file);
	}
	for (unsigned i = 0; i < run->threads->len; i++) {
		struct thread *t = &g_array_index(run->threads, struct thread, i);

		if (t->role == ROLE_VCPU && t->number < 0)
			g_ptr_array_add(vcpus, t);
		else if (t->role == ROLE_VCPU)
			named = true;
	}
	if (named)
		return;
	g_ptr_array_sort(vcpus, by_tid);
	for (unsigned i = 0; i < vcpus->len; i++)
		((struct thread *)vcpus->pdata[i])->number = i;
}

const char *run_who(struct run *run, const struct thread *thread, bool each_vcpu)
{
	char name[32];

	switch (thread->role) {
	case ROLE_MAIN:
		return "main";
	case ROLE_VCPU:
		if (!each_vcpu || thread->number < 0)
			return "vCPU";
		snprintf(name, sizeof(name), "vCPU %d", thread->number);
		return run_string(run, name);
	case ROLE_INCOMING:
		return "mig/dst/main";
	default:
		/* An unnamed thread bears the program's name: what it does says more. */
		if (!*thread->comm ||
		    (thread->role != ROLE_OTHER && g_str_has_prefix(thread->comm, "qemu")))
			return role_name(thread->role);
		return thread->comm;
	}
}
