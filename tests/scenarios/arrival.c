/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every way for a VM to arrive, and what an operator's tools may do to the destination meanwhile:
 * it arrives and goes on under each policy.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "analyzers/inspect/under.h"
#include "tests/scenarios/arrival.h"

enum {
	CHANNELS = 2,
	ZERO_MIB = 2048,
	FLOOD_US = 1000,
	MANY_CPUS = 4,
};

#define ARRIVED "arrived"

static char *arrive(const struct lab_journey *journey, const struct lab_pair_options *options,
		    GError **error)
{
	g_autoptr(lab_pair) pair = lab_journey_new(journey, options, error);

	if (!pair || !lab_journey_arrive(journey, pair, DONE_MS, NULL, error))
		return NULL;
	return g_strdup(ARRIVED);
}

static char *arrive_by(const struct cell *cell, enum lab_way way, bool mapped_ram, unsigned multifd,
		       GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .mapped_ram = mapped_ram};
	struct lab_pair_options options = arrival_options(cell);

	options.way = way;
	options.multifd = multifd;
	return arrive(&journey, &options, error);
}

static char *by_unix(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_UNIX, false, 0, error);
}

static char *by_fd(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_FD, false, 0, error);
}

static char *by_exec(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_EXEC, false, 0, error);
}

static char *by_file(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_FILE, false, 0, error);
}

static char *mapped_ram(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_FILE, true, 0, error);
}

static char *mapped_ram_multifd(const struct cell *cell, GError **error)
{
	return arrive_by(cell, LAB_WAY_FILE, true, CHANNELS, error);
}

static char *multifd_with(const struct cell *cell, const char *compression, bool tls,
			  GError **error)
{
	const struct lab_journey journey = {
		.policy = cell->policy, .compression = compression, .tls = tls};
	struct lab_pair_options options = arrival_options(cell);

	options.multifd = CHANNELS;
	return arrive(&journey, &options, error);
}

static char *multifd_none(const struct cell *cell, GError **error)
{
	return multifd_with(cell, NULL, false, error);
}

static char *multifd_zlib(const struct cell *cell, GError **error)
{
	return multifd_with(cell, "zlib", false, error);
}

static char *multifd_zstd(const struct cell *cell, GError **error)
{
	return multifd_with(cell, "zstd", false, error);
}

static char *multifd_tls(const struct cell *cell, GError **error)
{
	return multifd_with(cell, NULL, true, error);
}

static char *tls(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .tls = true};
	struct lab_pair_options options = arrival_options(cell);

	return arrive(&journey, &options, error);
}

static char *postcopy(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .copy = LAB_COPY_POST};
	struct lab_pair_options options = arrival_options(cell);

	return arrive(&journey, &options, error);
}

static char *preempt(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .copy = LAB_COPY_PREEMPT};
	struct lab_pair_options options = arrival_options(cell);

	return arrive(&journey, &options, error);
}

/* The channel for urgent pages is there, but says nothing for a while. */
static char *preempt_late(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .copy = LAB_COPY_PREEMPT};
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_ACCEPTED,
		.nth = 1,
		.fault = LAB_FAULT_STALL,
		.stall_ms = 500,
	};
	struct lab_pair_options options = arrival_options(cell);

	options.rules = &rule;
	options.n_rules = 1;
	return arrive(&journey, &options, error);
}

/* The peeks at the magic find one byte, two bytes, ... on the main channel and a multifd one. */
static char *byte_by_byte(const struct cell *cell, GError **error)
{
	enum { MAIN_BYTES = 16, MULTIFD_BYTES = 6, STEP_MS = 15 };
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	struct lab_rule rules[MAIN_BYTES + MULTIFD_BYTES];

	for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++)
		rules[i] = (struct lab_rule){
			.channel = i < MAIN_BYTES ? LAB_CHANNEL_MAIN : LAB_CHANNEL_MULTIFD,
			.offset_bytes = i < MAIN_BYTES ? i + 1 : i - MAIN_BYTES + 1,
			.fault = LAB_FAULT_STALL,
			.stall_ms = STEP_MS,
		};
	options.multifd = CHANNELS;
	options.rules = rules;
	options.n_rules = G_N_ELEMENTS(rules);
	return arrive(&journey, &options, error);
}

/* Arrives while a client asks `commands` as fast as it can. */
static char *arrive_under_flood(const struct lab_journey *journey,
				const struct lab_pair_options *options, const char *const *commands,
				GError **error)
{
	g_autoptr(lab_pair) pair = lab_journey_new(journey, options, error);
	g_autoptr(lab_poller) flood = NULL;
	struct lab_latency latency;

	if (!pair)
		return NULL;
	flood = lab_poller_new_with(lab_pair_destination(pair), commands, FLOOD_US, error);
	if (!flood || !lab_journey_arrive(journey, pair, DONE_MS, NULL, error))
		return NULL;
	lab_poller_finish(flood, DONE_MS, &latency);
	g_test_message("%" G_GUINT64_FORMAT " questions, %" G_GUINT64_FORMAT
		       " still open, p50 %.1f ms, max %.1f ms",
		       latency.n, latency.outstanding, latency.p50_ns / 1e6, latency.max_ns / 1e6);
	/* Without figures: stock's words must compare. */
	if (latency.n < 50)
		return g_strdup("hardly a question was asked");
	if (latency.outstanding)
		return g_strdup("not all questions were answered");
	return g_strdup(ARRIVED);
}

/* A load that does nothing but find pages zero, and never waits for bytes. */
static char *zero_ram(const struct cell *cell, GError **error)
{
	static const char *const commands[] = {"query-status", "query-migrate", NULL};
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);

	options.vm.memory_mib = ZERO_MIB;
	options.vm.fill_mib = 4;
	return arrive_under_flood(&journey, &options, commands, error);
}

static char *many_cpus(const struct cell *cell, GError **error)
{
	static const char *const commands[] = {"query-cpus-fast", "query-block", "query-blockstats",
					       NULL};
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);

	options.vm.cpus = MANY_CPUS;
	return arrive_under_flood(&journey, &options, commands, error);
}

/* The machine is made when QMP says so, long after the detours went in. */
static char *preconfig(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);

	options.vm.preconfig = true;
	return arrive(&journey, &options, error);
}

/* ---- in the background ---- */

/* Its number in that name space, as its pidfile says, and in ours, as lines of /proc/PID/status. */
static pid_t pid_out_here(const char *pid_file)
{
	g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
	g_autofree char *text = NULL;
	const char *name;
	pid_t pid = 0;

	if (!proc || !g_file_get_contents(pid_file, &text, NULL, NULL))
		return 0;
	while (!pid && (name = g_dir_read_name(proc))) {
		g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL);
		g_autofree char *numbers = g_build_filename("/proc", name, "status", NULL);
		g_autofree char *line = NULL, *status = NULL;
		int outside, inside;
		const char *both;
		gsize size;

		if (!g_ascii_isdigit(*name) || !g_file_get_contents(path, &line, &size, NULL) ||
		    !memmem(line, size, pid_file, strlen(pid_file)) ||
		    !g_file_get_contents(numbers, &status, NULL, NULL))
			continue;
		both = strstr(status, "\nNSpid:");
		if (both && sscanf(both, "\nNSpid: %d %d", &outside, &inside) == 2 &&
		    inside == atoi(text))
			pid = outside;
	}
	return pid;
}

/* It has let go of its stderr; and what `policy` wants was done in it, not in who started it. */
static char *daemon_arrived(const char *pid_file, const char *policy)
{
	pid_t pid = pid_out_here(pid_file);
	g_autofree char *mem_path = g_strdup_printf("/proc/%d/mem", pid);
	g_autofree char *stderr_path = g_strdup_printf("/proc/%d/fd/2", pid);
	g_autofree char *stderr_file = g_file_read_link(stderr_path, NULL);
	struct loadvm_status status;
	int mem;

	if (!pid || g_strcmp0(stderr_file, "/dev/null"))
		return g_strdup("it is not in the background");
	if (!policy || !strcmp(policy, "stock"))
		return g_strdup(ARRIVED);
	mem = open(mem_path, O_RDONLY | O_CLOEXEC);
	if (under_loadvm(pid, mem, &status) != UNDER_LOADVM || status.loads != 1 ||
	    strcmp(status.load_policy, policy))
		policy = NULL;
	close(mem);
	return g_strdup(policy ? ARRIVED : "arrived, but not in a thread");
}

/*
 * It leaves its process group and what started it: all of it is in a PID name space of its own,
 * whose first process waits for it and takes it along, however this test ends.
 */
static char *daemonized(const struct cell *cell, GError **error)
{
	static const char wait[] = "\"$@\" && while kill -0 $(cat \"$0\"); do sleep 0.1; done";
	static unsigned serial;
	const struct lab_journey journey = {0};
	struct lab_pair_options options = arrival_options(cell);
	g_autofree char *pid_file = g_strdup_printf("%s/daemon-%u.pid", lab_tmpdir(), serial++);
	const char *launcher[] = {"unshare",	  "--pid",
				  "--fork",	  "--kill-child",
				  "--mount-proc", "sh",
				  "-c",		  wait,
				  pid_file,	  cell->policy ? lab_program("loadvm") : NULL,
				  "--policy",	  cell->policy,
				  "--",		  NULL};
	const char *const args[] = {"-daemonize", "-pidfile", pid_file, NULL};
	g_autoptr(lab_pair) pair = NULL;
	char *told = NULL;

	if (geteuid()) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE,
			    "a PID name space is not to be had without root");
		return NULL;
	}
	options.destination_launcher = launcher;
	options.destination_args = args;
	pair = lab_journey_new(&journey, &options, error);
	if (pair && lab_journey_arrive(&journey, pair, DONE_MS, NULL, error))
		told = daemon_arrived(pid_file, cell->policy);
	unlink(pid_file);
	return told;
}

static const struct scenario scenarios[] = {
	{"multifd", multifd_none, ARRIVED, ON_BOTH | ON_11_1, false},
	{"multifd-zlib", multifd_zlib, ARRIVED, 0, false},
	{"multifd-zstd", multifd_zstd, ARRIVED, 0, false},
	{"multifd-tls", multifd_tls, ARRIVED, 0, false},
	{"tls", tls, ARRIVED, 0, false},
	{"unix", by_unix, ARRIVED, 0, false},
	{"fd", by_fd, ARRIVED, 0, false},
	{"exec", by_exec, ARRIVED, 0, false},
	{"file", by_file, ARRIVED, ON_10_0 | ON_11_1, false},
	{"mapped-ram", mapped_ram, ARRIVED, ON_10_0, false},
	{"mapped-ram-multifd", mapped_ram_multifd, ARRIVED, ON_10_0 | ON_11_1, false},
	{"postcopy", postcopy, ARRIVED, 0, false},
	{"preempt", preempt, ARRIVED, ON_BOTH | ON_11_1, false},
	{"preempt-late", preempt_late, ARRIVED, 0, false},
	{"byte-by-byte", byte_by_byte, ARRIVED, 0, false},
	{"zero-ram", zero_ram, ARRIVED, 0, false},
	{"many-cpus", many_cpus, ARRIVED, 0, false},
	{"preconfig", preconfig, ARRIVED, 0, false},
	{"daemonize", daemonized, ARRIVED, 0, false},
};

int main(int argc, char **argv)
{
	return arrival_main(argc, argv, "arrival", scenarios, G_N_ELEMENTS(scenarios));
}
