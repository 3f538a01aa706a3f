/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it costs to watch one lock+unlock pair, by method, on this machine.
 *
 * Every method is measured in turn with its own untraced loop (A B A B), so that a machine whose
 * speed drifts still gives true differences. Prints nanoseconds of CPU time a pair, which other work
 * on the machine hardly changes: untraced, and traced as the
 * median, least and most of the rounds. A method whose tool is missing says so in its row.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "tests/bench/cost.skel.h"

enum { ROUNDS = 5, LOOP_MS = 250 };

static struct cost_bpf *bpf;
static char *subject; /* the instrumented loop */
static char *scratch; /* a folder that anybody may use */

/* What keeps a method attached: links of ours, or another tool's process. */
struct attachment {
	struct bpf_link *link[3];
	int links;
	int multi_fd;
	GPid tool;
	char *event;   /* of perf, to be removed */
	char *why_not; /* allocated; set when it cannot be measured */
};

static bool uprobe(struct attachment *a, struct bpf_program *prog, const char *symbol, bool ret)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = symbol, .retprobe = ret);
	struct bpf_link *link = bpf_program__attach_uprobe_opts(prog, -1, subject, 0, &opts);

	if (!link) {
		a->why_not = g_strdup_printf("%s: %s", symbol, strerror(errno));
		return false;
	}
	a->link[a->links++] = link;
	return true;
}

static void two(struct attachment *a, bool histogram, const char *acquired, const char *released)
{
	if (uprobe(a, histogram ? bpf->progs.acquired : bpf->progs.empty, acquired, false))
		uprobe(a, histogram ? bpf->progs.released : bpf->progs.empty, released, false);
}

static void nothing(struct attachment *a)
{
	(void)a;
}

static void emulated_empty(struct attachment *a)
{
	two(a, false, "probe_lock_emulated", "probe_unlock_emulated");
}

static void emulated_histogram(struct attachment *a)
{
	two(a, true, "probe_lock_emulated", "probe_unlock_emulated");
}

static void entry_empty(struct attachment *a)
{
	two(a, false, "probe_lock_entry", "probe_unlock_entry");
}

/* Harmless here, where there are no coroutines. In QEMU a return probe may crash it. */
static void entry_return(struct attachment *a)
{
	two(a, false, "probe_lock_entry", "probe_unlock_emulated");
	uprobe(a, bpf->progs.empty, "probe_lock_entry", true);
}

static void usdt1_histogram(struct attachment *a)
{
	two(a, true, "probe_usdt1_acquired", "probe_usdt1_released");
}

static void usdt5_empty(struct attachment *a)
{
	two(a, false, "probe_usdt5_acquired", "probe_usdt5_released");
}

static void usdt5_histogram(struct attachment *a)
{
	two(a, true, "probe_usdt5_acquired", "probe_usdt5_released");
}

/* File offset of one of the subject's labels, which lie in its .dynsym. 0: not there. */
static uint64_t symbol_offset(const char *symbol)
{
	g_autofree char *script = g_strdup_printf(
		"set -- $(nm -D %s | awk '$3 == \"%s\" { print \"0x\" $1 }') "
		"$(readelf -lW %s | awk '$1 == \"LOAD\" && /R E/ { print $2, $3 }'); "
		"echo $(($1 - $3 + $2))",
		subject, symbol, subject);
	char *argv[] = { "sh", "-c", script, NULL };
	g_autofree char *out = NULL;

	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, NULL, NULL))
		return 0;
	return g_ascii_strtoull(out, NULL, 10);
}

/* libbpf 1.1 and Debian 12's uapi header are older than this link (Linux 6.6). */
#define TRACE_UPROBE_MULTI ((enum bpf_attach_type)48)
struct uprobe_multi_attr {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, uprobe_flags, pid;
	uint8_t zero[64];
};

static void multi_empty(struct attachment *a)
{
	LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = TRACE_UPROBE_MULTI);
	struct bpf_insn program[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
				      { .code = BPF_JMP | BPF_EXIT } };
	uint64_t offsets[] = { symbol_offset("probe_lock_emulated"),
			       symbol_offset("probe_unlock_emulated") };
	int prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "multi", "GPL", program, 2, &load);
	struct uprobe_multi_attr attr = {
		.prog_fd = prog,
		.attach_type = TRACE_UPROBE_MULTI,
		.path = (uintptr_t)subject,
		.offsets = (uintptr_t)offsets,
		.cnt = G_N_ELEMENTS(offsets),
	};

	if (prog >= 0) {
		a->multi_fd = syscall(__NR_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
		close(prog);
	}
	if (prog < 0 || a->multi_fd < 0)
		a->why_not = g_strdup_printf("this kernel has no such link (%s)", strerror(errno));
}

/* Starts a tool and waits, at most ten seconds, until it says `mark` (unless NULL). */
static void tool(struct attachment *a, char **argv, const char *mark)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GString) said = g_string_new(NULL);
	char buf[512];
	int out;

	if (!g_spawn_async_with_pipes(NULL, argv, NULL,
				      G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
					      G_SPAWN_STDERR_TO_DEV_NULL,
				      NULL, NULL, &a->tool, NULL, &out, NULL, &error)) {
		a->tool = 0;
		a->why_not = g_strdup(error->message);
		return;
	}
	g_unix_set_fd_nonblocking(out, TRUE, NULL);
	for (int i = 0; mark && i < 100 && !strstr(said->str, mark); i++) {
		ssize_t n = read(out, buf, sizeof(buf));

		if (n > 0)
			g_string_append_len(said, buf, n);
		else
			g_usleep(100000);
	}
	if (mark && !strstr(said->str, mark))
		a->why_not = g_strdup_printf("%s did not start", argv[0]);
	close(out);
}

static void bpftrace(struct attachment *a, const char *acquired, const char *released)
{
	g_autofree char *script = g_strdup_printf("BEGIN { printf(\"ready\\n\"); } "
						  "uprobe:%s:%s { @got[tid] = nsecs; } "
						  "uprobe:%s:%s { @hold = hist(nsecs - @got[tid]); }",
						  subject, acquired, subject, released);
	char *argv[] = { "bpftrace", "-e", script, NULL };

	tool(a, argv, "ready");
	/* It says so before its probes stand; they do soon after. */
	g_usleep(1500000);
}

static void bpftrace_entry(struct attachment *a)
{
	bpftrace(a, "probe_lock_entry", "probe_unlock_entry");
}

static void bpftrace_usdt(struct attachment *a)
{
	bpftrace(a, "probe_usdt1_acquired", "probe_usdt1_released");
}

static bool uprobe_events(const char *line)
{
	int fd = open("/sys/kernel/tracing/uprobe_events", O_WRONLY | O_APPEND);
	bool ok = fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void perf_record(struct attachment *a, const char *symbol)
{
	g_autofree char *probe = g_strdup_printf("p:bqlstat_bench/%s %s:0x%" G_GINT64_MODIFIER "x\n",
						 symbol, subject, symbol_offset(symbol));
	g_autofree char *event = g_strdup_printf("bqlstat_bench:%s", symbol);
	g_autofree char *data = g_strdup_printf("%s/perf.data", scratch);
	char *argv[] = { "perf", "record", "-q", "-a", "-e", event, "-o", data, NULL };

	if (!uprobe_events(probe)) {
		a->why_not = g_strdup_printf("no uprobe_events in tracefs (%s)", strerror(errno));
		return;
	}
	a->event = g_strdup_printf("-:bqlstat_bench/%s\n", symbol);
	tool(a, argv, NULL);
	g_usleep(1500000);
}

static void perf_entry(struct attachment *a)
{
	perf_record(a, "probe_lock_entry");
}

static void perf_emulated(struct attachment *a)
{
	perf_record(a, "probe_lock_emulated");
}

/*
 * Root's session daemon ignores a private home and would meddle with the system's, so the daemon and
 * the loop run as nobody.
 */
#define AS_NOBODY "setpriv --reuid nobody --regid nogroup --clear-groups env LTTNG_HOME=%s "

static void record(struct attachment *a, const char *events, const char *context)
{
	g_autofree char *script = g_strdup_printf(
		"exec setsid " AS_NOBODY "sh -c 'lttng-sessiond -q & sleep 1.5; "
		"lttng -q create bench --snapshot && lttng -q enable-event -u \"%s\" && "
		"%s lttng -q start && echo ready; wait'",
		scratch, events, context);
	char *argv[] = { "sh", "-c", script, NULL };

	tool(a, argv, "ready");
}

static void lttng(struct attachment *a)
{
	record(a, "bqlstat_bench:*", "");
}

/* As `bqlstat lttng capture` does. */
static void capture(struct attachment *a)
{
	record(a, "loadvm:*", "lttng -q add-context -u -t vtid -t vpid -t procname &&");
}

static void usdt_lock(struct attachment *a)
{
	static const char *const events[] = { "lock_ask", "lock_acquired", "lock_released" };

	for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
		a->link[i] = bpf_program__attach_usdt(bpf->progs.site, -1, subject, "loadvm",
						      events[i], NULL);
		if (!a->link[i]) {
			a->why_not = g_strdup_printf("%s: %s", events[i], strerror(errno));
			return;
		}
		a->links++;
	}
}

static void detach(struct attachment *a)
{
	while (a->links)
		bpf_link__destroy(a->link[--a->links]);
	if (a->multi_fd > 0)
		close(a->multi_fd);
	if (a->tool) {
		/* bpftrace and perf own nothing else; LTTng's daemon is in the shell's own group. */
		kill(-a->tool, SIGTERM);
		kill(a->tool, SIGINT);
		for (int i = 0; i < 50 && !waitpid(a->tool, NULL, WNOHANG); i++)
			g_usleep(100000);
		kill(a->tool, SIGKILL);
		waitpid(a->tool, NULL, WNOHANG);
	}
	if (a->event)
		uprobe_events(a->event);
	g_free(a->event);
	g_free(a->why_not);
	*a = (struct attachment){ 0 };
}

static const struct method {
	const char *name;
	const char *loop; /* which of the subject's loops; PROVIDER: with LTTng's loaded */
	void (*attach)(struct attachment *);
	bool as_nobody;
} methods[] = {
	{ "in-process counter (rdtsc + histogram)", "counter", nothing, false },
	{ "USDT sites, detached", "usdt1", nothing, false },
	{ "LTTng-UST tracepoints, off", "lttng", nothing, false },
	{ "LTTng-UST tracepoints, recording", "lttng", lttng, true },
	{ "loadvm's three lock sites, off", "sites", nothing, false },
	{ "  USDT attached to the three, empty", "sites", usdt_lock, false },
	{ "  LTTng recording the three, with context", "sites PROVIDER", capture, true },
	{ "loadvm --usdt: hook, detour, sites; off", "hooks", nothing, false },
	{ "  USDT attached to the three, empty", "hooks", usdt_lock, false },
	{ "  LTTng recording the three, with context", "hooks PROVIDER", capture, true },
	{ "uprobe on emulated instruction, empty", "none", emulated_empty, false },
	{ "  the same through one uprobe_multi link", "none", multi_empty, false },
	{ "uprobe on emulated instruction, histogram", "none", emulated_histogram, false },
	{ "USDT, 5-byte nop, empty", "usdt5", usdt5_empty, false },
	{ "USDT, 5-byte nop, histogram", "usdt5", usdt5_histogram, false },
	{ "USDT, 1-byte nop, histogram", "usdt1", usdt1_histogram, false },
	{ "uprobe at function entry (single-stepped), empty", "none", entry_empty, false },
	{ "enter + uretprobe + release, empty", "none", entry_return, false },
	{ "bpftrace on USDT, histogram", "usdt1", bpftrace_usdt, false },
	{ "bpftrace at function entry, histogram", "none", bpftrace_entry, false },
	{ "perf record, one point, emulated", "none", perf_emulated, false },
	{ "perf record, one point, function entry", "none", perf_entry, false },
};

/* Nanoseconds a pair takes; negative when the loop cannot run. */
static double loop_ns(const struct method *m, const char *loop, int threads)
{
	g_autofree char *as = m->as_nobody ? g_strdup_printf(AS_NOBODY, scratch) : g_strdup("");
	const char *blank = strchr(loop, ' ');
	int length = blank ? (int)(blank - loop) : (int)strlen(loop);
	g_autofree char *cmd = g_strdup_printf("%s%s %.*s %d %d %s", as, subject, length, loop, threads,
					       LOOP_MS, blank ? lab_program("libloadvm-lttng.so") : "");
	g_autofree char *out = NULL;
	char *argv[] = { "sh", "-c", cmd, NULL };
	int status;

	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
			  NULL, &out, NULL, &status, NULL) ||
	    status)
		return -1;
	return g_ascii_strtod(out, NULL);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One method: prints its row. */
static void measure(const struct method *m)
{
	double base[2][ROUNDS], traced[2][ROUNDS];
	g_autofree char *why_not = NULL;

	for (int r = 0; r < ROUNDS && !why_not; r++) {
		struct attachment a = { 0 };

		for (int t = 0; t < 2; t++)
			base[t][r] = loop_ns(m, "none", t + 1);
		m->attach(&a);
		if (a.why_not)
			why_not = g_strdup(a.why_not);
		for (int t = 0; t < 2 && !why_not; t++) {
			traced[t][r] = loop_ns(m, m->loop, t + 1);
			if (traced[t][r] < 0)
				why_not = g_strdup("the loop was built without it");
		}
		detach(&a);
	}
	printf("%-50s", m->name);
	if (why_not) {
		printf("  not measured: %s\n", why_not);
		return;
	}
	for (int t = 0; t < 2; t++) {
		qsort(base[t], ROUNDS, sizeof(double), by_value);
		qsort(traced[t], ROUNDS, sizeof(double), by_value);
		printf(" %4.0f -> %6.0f (%.0f-%.0f)%s", base[t][ROUNDS / 2], traced[t][ROUNDS / 2],
		       traced[t][0], traced[t][ROUNDS - 1], t ? "\n" : "   ");
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	g_autofree char *folder = g_path_get_dirname(argv[0]);

	subject = g_build_filename(folder, "subject", NULL);
	scratch = g_dir_make_tmp("bqlstat-bench-XXXXXX", NULL);
	if (!scratch || g_chmod(scratch, 0777)) {
		fprintf(stderr, "cost: no temporary folder: %s\n", strerror(errno));
		return 3;
	}
	/* LTTng's programs, where the system has none; without them their rows say so. */
	lab_lttng(NULL);
	/* tracefs for perf, in a mount namespace of our own: nothing of the machine's is changed. */
	if (!unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	libbpf_set_print(NULL);
	bpf = cost_bpf__open_and_load();
	if (!bpf) {
		fprintf(stderr, "cost: cannot load eBPF: run as root or grant CAP_BPF,CAP_PERFMON\n");
		return 3;
	}
	printf("CPU nanoseconds a lock+unlock pair, untraced -> traced (least-most of %d rounds)\n"
	       "%-50s %-26s %s\n",
	       ROUNDS, "method", "1 thread", "2 threads");
	for (size_t i = 0; i < G_N_ELEMENTS(methods); i++)
		if (argc < 2 || strstr(methods[i].name, argv[1]))
			measure(&methods[i]);
	cost_bpf__destroy(bpf);
	g_autofree char *clean = g_strdup_printf("rm -rf '%s'", scratch);
	return system(clean) ? 3 : 0;
}
