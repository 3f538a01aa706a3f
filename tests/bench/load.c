/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM with a dozen devices and two GiB of RAM, no page of it zero, arrives at a stock QEMU and at
 * the same QEMU under loadvm: how long the arriving side holds the lock while RAM loads, and what
 * the thread costs. Holds come from runs with bqlstat attached, times from runs without and with
 * the destination's memory allocated beforehand. Fails when a promise does not hold.
 *
 * The method, which is not to be changed with the results in sight:
 *  - A pair is one load of each kind, one right after the other, each between two fresh QEMUs.
 *    Which is first alternates (A B B A ...), so that what the machine does meanwhile falls on
 *    both.
 *  - The first pair of each sitting warms the page cache up and is not counted. All others are.
 *  - How many is said beforehand, on the command line or by the default, and not by what is seen.
 *  - Downtime is from the source's STOP event to the destination's RESUME, total time is the
 *    source's, CPU time the destination process's from `migrate` until both have ended.
 *  - The figure is the median of the pairs' ratios; its interval the 95% percentile bootstrap
 *    (10000 resamples, seed 1). A promise is kept when the interval's upper end keeps it.
 *  - How busy others kept the processors is printed beside it.
 *
 *	load [--qemu VERSION] [--policy POLICY] [--pairs N] [--traced N] [--mib N] [--verbose]
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "analyzers/lab/journey.h"
#include "analyzers/model/run.h"
#include "analyzers/stats/stats.h"
#include "analyzers/store/store.h"
#include "analyzers/lab/machine.h"
#include "analyzers/model/words.h"

enum {
	SPARE_MIB = 128, /* beyond what the guest fills: firmware, boot sector */
	START_MS = 60000,
	LOAD_MS = 120000,
	ALIVE_MS = 20000,
	MAX_PAIRS = 100,
	PIECE_BYTES = 1 << 20,
};

#define LEVEL	      0.95
#define SEED	      1
#define HOLD_LIMIT_MS 1.0
#define STOCK_TENS_MS 10.0
#define CPU_LIMIT     1.05
#define TIME_LIMIT    1.25

static int pairs = 25, traced_pairs = 5, fill_mib = 2048;
static char *policy = "io-free";
static gboolean verbose;

/* What one load gave; of the holds, the one that was longest, time off the CPU for want of one off.
 */
struct longest {
	double ms;
	char where[160];
};

struct load {
	double cpu_s, total_ms, downtime_ms;
	struct longest ram, any;
	double others; /* processors that other work kept busy */
	uint64_t lost;
	int64_t pages, zero_pages, page_bytes;
	bool same_ram; /* the stopped guest's RAM is the same on both sides, byte for byte */
};

/* ---- holds ---- */

/* From the first page to the first device: in between devices the phase is RAM's again. */
static void ram_interval(const struct run *run, uint64_t *begin_ns, uint64_t *end_ns)
{
	*begin_ns = *end_ns = UINT64_MAX;
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);

		if (m->in.phase == PHASE_RAM && *begin_ns == UINT64_MAX)
			*begin_ns = m->at_ns;
		if (m->in.phase > PHASE_RAM && *begin_ns != UINT64_MAX) {
			*end_ns = m->at_ns;
			break;
		}
	}
}

static void note_longest(struct longest *l, struct run *run, const struct hold *h)
{
	const struct site *site = &g_array_index(run->sites, struct site, h->site);
	const struct thread *thread = &g_array_index(run->threads, struct thread, h->thread);
	uint64_t own_ns = h->hold_ns - MIN(h->hold_ns, h->runnable_ns);
	double ms = run_hold_ns(run, own_ns) / 1e6;

	if (ms <= l->ms)
		return;
	l->ms = ms;
	g_snprintf(l->where, sizeof(l->where), "%s, %s:%u, %s to %s%s%s%s",
		   run_who(run, thread, true), words_file(site->file), site->line,
		   phase_name(h->at_begin.phase), phase_name(h->at_end.phase),
		   *h->at_end.device ? " of " : "", h->at_end.device,
		   h->longest_ns > own_ns / 2 ? ", blocked" : "");
}

/* Of the threads that load: the main thread, and the incoming one. */
static bool read_holds(const char *file, struct load *load, GError **error)
{
	struct store_error err = {"the recording is not in its file"};
	struct store *store = NULL;
	struct run *run = NULL;
	uint64_t begin_ns, end_ns;
	bool ok;

	ok = !store_open(file, &store, &err) && !store_load(store, 1, &run, &err);
	store_close(store);
	if (!ok) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "%s", err.text);
		return false;
	}
	ram_interval(run, &begin_ns, &end_ns);
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		enum role role = g_array_index(run->threads, struct thread, h->thread).role;

		if (role != ROLE_MAIN && role != ROLE_INCOMING)
			continue;
		note_longest(&load->any, run, h);
		if (h->begin_ns < end_ns && h->begin_ns + h->hold_ns > begin_ns)
			note_longest(&load->ram, run, h);
	}
	load->lost = run_lost(run);
	ok = begin_ns != UINT64_MAX && load->any.ms > 0;
	if (!ok)
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "bqlstat saw no RAM load");
	run_free(run);
	return ok;
}

static struct lab_process *start_record(struct lab_pair *pair, const char *file, GError **error)
{
	g_autofree char *pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	const char *argv[] = {lab_program("bqlstat"),
			      "record",
			      "-p",
			      pid,
			      "-m",
			      "0",
			      "-t",
			      "50us",
			      "-o",
			      file,
			      NULL};
	struct lab_process *p = lab_process_new(argv, NULL, error);

	if (p && !lab_process_expect(p, "bqlstat: recording process", ALIVE_MS, error))
		g_clear_pointer(&p, lab_process_free);
	return p;
}

static bool stop_record(struct lab_process *record, GError **error)
{
	int status;

	lab_process_kill(record, SIGINT);
	if (!lab_process_wait(record, ALIVE_MS, &status, error))
		return false;
	if (status)
		g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "bqlstat ended with %d", status);
	return !status;
}

/* ---- RAM ---- */

/* Guest RAM is the one mapping of just that size. 0: there is none. */
static uintptr_t guest_ram(pid_t pid, uint64_t size)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", pid);
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;

	if (!g_file_get_contents(path, &maps, NULL, NULL))
		return 0;
	lines = g_strsplit(maps, "\n", -1);
	for (char **line = lines; *line; line++) {
		uint64_t from, to;

		if (sscanf(*line, "%" SCNx64 "-%" SCNx64 " rw", &from, &to) == 2 &&
		    to - from == size)
			return from;
	}
	return 0;
}

static bool read_piece(pid_t pid, uintptr_t at, void *piece)
{
	struct iovec here = {piece, PIECE_BYTES}, there = {(void *)at, PIECE_BYTES};

	return process_vm_readv(pid, &here, 1, &there, 1, 0) == PIECE_BYTES;
}

static bool compare_ram(struct lab_pair *pair, uint64_t size, bool *same, GError **error)
{
	pid_t a = lab_vm_pid(lab_pair_source(pair)), b = lab_vm_pid(lab_pair_destination(pair));
	uintptr_t at_a = guest_ram(a, size), at_b = guest_ram(b, size);
	g_autofree char *of_a = g_malloc(PIECE_BYTES), *of_b = g_malloc(PIECE_BYTES);

	*same = true;
	for (uint64_t at = 0; at < size; at += PIECE_BYTES) {
		if (!at_a || !at_b || !read_piece(a, at_a + at, of_a) ||
		    !read_piece(b, at_b + at, of_b)) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot read guest RAM");
			return false;
		}
		*same &= !memcmp(of_a, of_b, PIECE_BYTES);
	}
	return true;
}

/* ---- one load ---- */

static bool read_pages(struct lab_vm *source, struct load *load, GError **error)
{
	g_autoptr(JsonNode) answer = lab_qmp(source, error, "query-migrate");

	if (!answer)
		return false;
	load->pages = lab_json_int(answer, "ram.normal");
	load->zero_pages = lab_json_int(answer, "ram.duplicate");
	load->page_bytes = lab_json_int(answer, "ram.normal-bytes");
	return true;
}

enum kind {
	TIMED,
	TRACED,	 /* with bqlstat */
	STOPPED, /* the guest stands still: both sides' RAM can be compared */
};

static bool make_load(const char *version, const char *with, enum kind kind, struct load *load,
		      GError **error)
{
	const struct lab_journey journey = {.policy = with};
	/*
	 * The first touch of memory costs what the host makes it cost, and the next load may well
	 * be given the pages that this one left: times are taken without it.
	 */
	g_autofree char *ram = g_strdup_printf("memory-backend-ram,id=ram0,prealloc=%s,size=%dM",
					       kind == TIMED ? "on" : "off", fill_mib + SPARE_MIB);
	const char *args[] = {"-object", ram, "-machine", "memory-backend=ram0", NULL};
	const struct lab_pair_options options = {
		.vm = {.version = version,
		       .memory_mib = fill_mib + SPARE_MIB,
		       .devices = LAB_DEVICES_DOZEN,
		       .guest = true,
		       .fill_mib = fill_mib,
		       .dirty_mib = 1,
		       .round_ms = 50,
		       .args = args,
		       .timeout_ms = START_MS},
		/* The lab's own would let the better part of RAM go over with the guest stopped. */
		.downtime_limit_ms = 20,
	};
	g_autofree char *file = g_strdup_printf("%s/load.bql", lab_tmpdir());
	g_autoptr(lab_pair) pair = lab_journey_new(&journey, &options, error);
	g_autoptr(lab_process) record = NULL;
	struct lab_migration migration = {0};
	struct lab_vm *source, *destination;
	uint64_t blackout_ns = 0;
	double before;
	struct machine begin, end;
	pid_t pids[2];
	bool ok;

	*load = (struct load){0};
	if (!pair)
		return false;
	source = lab_pair_source(pair);
	destination = lab_pair_destination(pair);
	if (kind == STOPPED && !lab_qmp_ok(source, error, "stop"))
		return false;
	if (kind == TRACED) {
		remove(file);
		record = start_record(pair, file, error);
		if (!record)
			return false;
	}
	pids[0] = lab_vm_pid(source);
	pids[1] = lab_vm_pid(destination);
	begin = machine_now(pids, 2);
	before = machine_cpu_s(pids[1]);
	ok = lab_pair_migrate(pair, error) && lab_pair_wait(pair, LOAD_MS, &migration, error);
	load->cpu_s = machine_cpu_s(pids[1]) - before;
	end = machine_now(pids, 2);
	load->others = machine_others(&begin, &end);
	load->total_ms = migration.total_time_ms;
	if (ok && strcmp(migration.status, "completed")) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the migration ended %s",
			    migration.status);
		ok = false;
	}
	lab_migration_clear(&migration);
	if (!ok || (record && !(stop_record(record, error) && read_holds(file, load, error))) ||
	    !read_pages(source, load, error))
		return false;
	if (kind == STOPPED)
		return compare_ram(pair, (uint64_t)(fill_mib + SPARE_MIB) << 20, &load->same_ram,
				   error) &&
		       lab_qmp_ok(destination, error, "cont") &&
		       lab_vm_alive(destination, ALIVE_MS, error);
	ok = lab_pair_blackout(pair, ALIVE_MS, &blackout_ns, error) &&
	     lab_vm_alive(destination, ALIVE_MS, error);
	load->downtime_ms = blackout_ns / 1e6;
	return ok;
}

/* Stock's and ours, in turn which is first. */
static bool make_pair(const char *version, enum kind kind, int turn, struct load loads[2],
		      GError **error)
{
	for (int i = 0; i < 2; i++) {
		int side = i ^ (turn & 1);

		if (!make_load(version, side ? policy : NULL, kind, &loads[side], error)) {
			g_prefix_error(error, "%s: ", side ? policy : "stock");
			return false;
		}
		if (verbose)
			printf("    %-8s CPU %.3f s, total %.0f ms, downtime %.1f ms, "
			       "holds %.3f and %.3f ms, others %.2f\n",
			       side ? policy : "stock", loads[side].cpu_s, loads[side].total_ms,
			       loads[side].downtime_ms, loads[side].ram.ms, loads[side].any.ms,
			       loads[side].others);
	}
	return true;
}

/* ---- the table ---- */

static bool failed;

static const char *judge(bool holds)
{
	failed |= !holds;
	return holds ? "ok" : "FAILED";
}

static void ratio_row(const char *what, const double *stock, const double *ours, size_t n,
		      const char *promise, bool (*holds)(const struct stats_interval *))
{
	struct stats_interval r = stats_paired_ratio(ours, stock, n, LEVEL, SEED);

	printf("  %-26s %10.3f %10.3f   %.3f (%.3f-%.3f)  %s: %s\n", what, stats_median(stock, n),
	       stats_median(ours, n), r.estimate, r.low, r.high, promise, judge(holds(&r)));
}

static bool cpu_holds(const struct stats_interval *r)
{
	return r->high < CPU_LIMIT;
}

static bool time_holds(const struct stats_interval *r)
{
	return r->high < TIME_LIMIT;
}

static double most(const double *values, size_t n)
{
	double most = values[0];

	for (size_t i = 1; i < n; i++)
		most = MAX(most, values[i]);
	return most;
}

static bool times(const char *version, GError **error)
{
	static double cpu[2][MAX_PAIRS], total[2][MAX_PAIRS], downtime[2][MAX_PAIRS];
	static double others[2 * MAX_PAIRS];
	double load_before = machine_load();

	for (int n = -1; n < pairs; n++) {
		struct load loads[2];

		if (!make_pair(version, TIMED, n, loads, error))
			return false;
		if (n < 0)
			continue;
		for (int side = 0; side < 2; side++) {
			cpu[side][n] = loads[side].cpu_s;
			total[side][n] = loads[side].total_ms / 1e3;
			downtime[side][n] = loads[side].downtime_ms;
			others[2 * n + side] = loads[side].others;
		}
	}
	printf("  %-26s %10s %10s   ratio (%.0f%% interval), %d pairs\n", "untraced, medians",
	       "stock", policy, 100 * LEVEL, pairs);
	ratio_row("destination's CPU, s", cpu[0], cpu[1], pairs, "upper end below 1.05", cpu_holds);
	ratio_row("total time, s", total[0], total[1], pairs, "upper end below 1.25", time_holds);
	ratio_row("downtime, ms", downtime[0], downtime[1], pairs, "upper end below 1.25",
		  time_holds);
	printf("  others kept %.2f processors busy (median of %d loads; most %.2f); load average "
	       "%.1f before, %.1f after\n",
	       stats_median(others, 2 * pairs), 2 * pairs, most(others, 2 * pairs), load_before,
	       machine_load());
	return true;
}

static void keep_longer(struct longest *most, const struct longest *one)
{
	if (one->ms > most->ms)
		*most = *one;
}

static bool holds(const char *version, GError **error)
{
	static double ram[2][MAX_PAIRS], any[2][MAX_PAIRS];
	struct longest most_ram[2] = {0}, most_any[2] = {0};
	uint64_t lost = 0;

	for (int n = -1; n < traced_pairs; n++) {
		struct load loads[2];

		if (!make_pair(version, TRACED, n, loads, error))
			return false;
		if (n < 0)
			continue;
		for (int side = 0; side < 2; side++) {
			ram[side][n] = loads[side].ram.ms;
			any[side][n] = loads[side].any.ms;
			keep_longer(&most_ram[side], &loads[side].ram);
			keep_longer(&most_any[side], &loads[side].any);
			lost += loads[side].lost;
		}
	}
	printf("  longest hold, net of runnable, ms: median, most of %d (%" G_GUINT64_FORMAT
	       " events lost)\n",
	       traced_pairs, lost);
	for (int side = 0; side < 2; side++) {
		bool good = side ? most_ram[side].ms < HOLD_LIMIT_MS
				 : stats_median(ram[0], traced_pairs) >= STOCK_TENS_MS;

		printf("    %-8s while RAM loads %8.3f %8.3f   %s: %s\n", side ? policy : "stock",
		       stats_median(ram[side], traced_pairs), most_ram[side].ms,
		       side ? "below 1" : "tens", judge(good));
		printf("             %s\n", most_ram[side].where);
		printf("    %-8s all the time    %8.3f %8.3f\n             %s\n", "",
		       stats_median(any[side], traced_pairs), most_any[side].ms,
		       most_any[side].where);
	}
	return true;
}

static bool identity(const char *version, GError **error)
{
	struct load loads[2];

	if (!make_pair(version, STOPPED, 0, loads, error))
		return false;
	/* Two boots of a guest may leave a page or two zero in one, and not in the other. */
	printf("  a stopped guest: pages %" PRId64 " and %" PRId64 ", zero %" PRId64 " and %" PRId64
	       ", bytes of pages %" PRId64 " and %" PRId64 ": %s\n",
	       loads[0].pages, loads[1].pages, loads[0].zero_pages, loads[1].zero_pages,
	       loads[0].page_bytes, loads[1].page_bytes,
	       judge(loads[0].pages + loads[0].zero_pages == loads[1].pages + loads[1].zero_pages));
	printf("  RAM arrived as it was sent: %s\n", judge(loads[0].same_ram && loads[1].same_ram));
	return true;
}

static void measure(const char *version)
{
	g_autoptr(GError) error = NULL;
	const char *why;

	if (!lab_qemu_path(version, &why)) {
		printf("QEMU %s: not measured: %s\n", version, why);
		return;
	}
	printf("QEMU %s: %d MiB of RAM load, stock against %s\n", version, fill_mib, policy);
	if (!identity(version, &error) || !holds(version, &error) || !times(version, &error)) {
		printf("  not measured to the end: %s\n", error->message);
		failed = true;
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	g_autofree char *version = NULL;
	const GOptionEntry entries[] = {
		{"qemu", 'q', 0, G_OPTION_ARG_STRING, &version, "only this one", "VERSION"},
		{"policy", 'p', 0, G_OPTION_ARG_STRING, &policy, "io-free", "POLICY"},
		{"pairs", 'n', 0, G_OPTION_ARG_INT, &pairs, "untraced pairs (25)", "N"},
		{"traced", 't', 0, G_OPTION_ARG_INT, &traced_pairs, "traced pairs (5)", "N"},
		{"mib", 'm', 0, G_OPTION_ARG_INT, &fill_mib, "RAM that loads (2048)", "N"},
		{"verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "each load's figures", NULL},
		{0},
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_autoptr(GError) error = NULL;

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || pairs < 1 ||
	    pairs > MAX_PAIRS || traced_pairs < 1 || traced_pairs > MAX_PAIRS || fill_mib < 16 ||
	    fill_mib > 2560) {
		fprintf(stderr, "load: %s; see --help\n",
			error ? error->message : "wrong arguments");
		return 2;
	}
	if (version) {
		measure(version);
	} else {
		measure("7.2");
		measure("10.0");
	}
	return failed;
}
