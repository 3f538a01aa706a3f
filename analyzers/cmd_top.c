/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat top: who holds the lock now, on a terminal; elsewhere as text or JSON, again and again.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "analyzers/watch/collect.h"
#include "analyzers/command.h"
#include "analyzers/model/words.h"
#include "analyzers/watch/discover.h"
#include "analyzers/show.h"
#include "analyzers/top/live.h"
#include "analyzers/top/screen.h"

#define D(ns) words_duration((char[WORDS_DURATION]){}, ns)

#define THRESHOLD_NS 1000000
#define FORMAT	     1 /* of the JSON: docs/top-json.md */

struct qemu {
	int target; /* when it has not gone: others take its place */
	pid_t pid;
	char *name;
	bool gone;
	struct run *run; /* the collector's; when it has gone, ours */
	struct tracer_coverage coverage;
	struct live *live;
};

struct top {
	char *pids, *match, *delay, *overhead, *sort_name, *filter;
	int count, rows;
	gboolean json, each_vcpu;
	uint64_t interval_ns;
	double max_overhead;
	enum live_sort sort;

	struct tracer *tracer;
	struct collector *collector;
	struct discover *discover;
	struct screen *screen; /* NULL: text or JSON */
	GPtrArray *qemus;      /* struct qemu */
	char *trouble;	       /* the last QEMU that cannot be watched; NULL: seen, or none */
	int signal_fd;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

static void qemu_free(gpointer data)
{
	struct qemu *q = data;

	if (q->gone)
		run_free(q->run);
	live_free(q->live);
	g_free(q->name);
	g_free(q);
}

static int add_qemu(struct top *t, pid_t pid, const char *name, struct tracer_error *err)
{
	int target = tracer_add(t->tracer, pid, err);
	struct qemu *q;

	if (target < 0)
		return target;
	collector_begin(t->collector, target);
	q = g_new0(struct qemu, 1);
	q->target = target;
	q->pid = pid;
	q->name = g_strdup(name);
	q->live = live_new();
	q->run = collector_update(t->collector, target);
	g_ptr_array_add(t->qemus, q);
	return 0;
}

static bool wanted(const struct top *t, pid_t pid)
{
	g_auto(GStrv) words = t->pids ? g_strsplit(t->pids, ",", -1) : NULL;

	for (char **word = words; word && *word; word++)
		if (atoi(*word) == pid)
			return true;
	return !words;
}

static void appeared(void *opaque, const struct discovered *d)
{
	struct top *t = opaque;
	struct tracer_error err;

	if (!wanted(t, d->pid))
		return;
	if (!add_qemu(t, d->pid, *d->name ? d->name : d->program, &err))
		return;
	g_free(t->trouble);
	t->trouble = g_strdup(err.text);
	if (!t->screen)
		fprintf(stderr, "bqlstat: %s\n", err.text);
}

static void gone(void *opaque, const struct discovered *d)
{
	struct top *t = opaque;

	for (unsigned i = 0; i < t->qemus->len; i++) {
		struct qemu *q = t->qemus->pdata[i];

		if (q->pid != d->pid || q->gone)
			continue;
		q->gone = true;
		tracer_coverage(t->tracer, q->target, &q->coverage);
		q->run = collector_take(t->collector, q->target, "");
	}
}

/* Those that have gone are shown once more. */
static void forget_gone(struct top *t)
{
	for (unsigned i = 0; i < t->qemus->len; i++)
		if (((struct qemu *)t->qemus->pdata[i])->gone && !t->pids)
			g_ptr_array_remove_index(t->qemus, i--);
}

static bool all_gone(const struct top *t)
{
	for (unsigned i = 0; i < t->qemus->len; i++)
		if (!((struct qemu *)t->qemus->pdata[i])->gone)
			return false;
	return true;
}

static const char *phase_of(const struct top *t, const struct qemu *q)
{
	struct abi_phase phase;

	if (q->gone)
		return phase_name(PHASE_NONE);
	tracer_phase(t->tracer, q->target, &phase);
	return phase_name((enum phase)phase.kind);
}

static void look(struct top *t)
{
	bool each_vcpu = t->screen ? screen_each_vcpu(t->screen) : t->each_vcpu;

	for (unsigned i = 0; i < t->qemus->len; i++) {
		struct qemu *q = t->qemus->pdata[i];

		if (!q->gone) {
			q->run = collector_update(t->collector, q->target);
			tracer_coverage(t->tracer, q->target, &q->coverage);
		}
		live_look(q->live, q->run, each_vcpu, now_ns());
	}
}

/* ---- text ---- */

static void print_text(struct top *t, const struct qemu *q)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	g_autofree char *clock = g_date_time_format(now, "%T"), *cost = NULL;
	const struct live *l = q->live;
	double covered = l->covered_ns ? l->covered_ns : 1;
	int shown = 0;

	cost = screen_cost(&q->coverage);
	printf("%s  QEMU %.*s %s pid %d: held %.1f%%, longest %s, %.0f acquisitions/s, phase %s, "
	       "lost "
	       "%llu, %s%s\n",
	       clock, (int)strcspn(q->run->qemu_version, " "), q->run->qemu_version, q->name,
	       (int)q->pid, 100 * l->held, D(l->longest_ns), l->acquired * 1e9 / covered,
	       phase_of(t, q), (unsigned long long)l->lost, cost, q->gone ? ", has exited" : "");
	if (l->holding_ns >= THRESHOLD_NS)
		printf("  held now, for %s, by %s at %s\n", D(l->holding_ns), l->holding_who,
		       l->holding_site);
	printf("  %-36s %-13s %9s %7s %9s %8s %9s %9s\n", "call site", "who", "count/s", "held",
	       "longest", "waiting", "max", "blocked");
	live_sort(q->live, t->sort);
	for (unsigned i = 0; i < l->rows->len && (!t->rows || shown < t->rows); i++) {
		const struct live_row *r = l->rows->pdata[i];

		if (!live_matches(r, t->filter ? t->filter : ""))
			continue;
		shown++;
		printf("  %-36s %-13s %9.0f %6.1f%% %9s %7.1f%% %9s %9s\n", r->site, r->who,
		       r->acquired * 1e9 / covered, 100 * r->hold_ns / covered, D(r->hold_max_ns),
		       100 * r->wait_ns / covered, r->waits ? D(r->wait_max_ns) : "-",
		       r->blocked_ns ? D(r->blocked_ns) : "-");
	}
	putchar('\n');
}

static void print_json(struct top *t, const struct qemu *q)
{
	static const char *const levels[] = {"full", "holds", "bursts", "away"};
	g_autoptr(JsonBuilder) b = json_builder_new();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *line = NULL;
	const struct live *l = q->live;
	int shown = 0;

	json_builder_begin_object(b);
	show_int(b, "format", FORMAT);
	show_int(b, "at_unix_ns", g_get_real_time() * 1000);
	json_builder_set_member_name(b, "qemu");
	json_builder_begin_object(b);
	show_int(b, "pid", q->pid);
	show_text(b, "name", q->name);
	show_text(b, "version", q->run->qemu_version);
	show_bool(b, "gone", q->gone);
	json_builder_end_object(b);
	show_int(b, "interval_ns", l->interval_ns);
	show_int(b, "covered_ns", l->covered_ns);
	show_int(b, "acquired", l->acquired);
	json_builder_set_member_name(b, "held_ratio");
	json_builder_add_double_value(b, l->held);
	show_int(b, "hold_max_ns", l->longest_ns);
	show_int(b, "holding_ns", l->holding_ns);
	show_text(b, "holding_site", l->holding_ns ? l->holding_site : "");
	show_text(b, "holding_who", l->holding_ns ? l->holding_who : "");
	show_text(b, "phase", phase_of(t, q));
	show_int(b, "lost_total", l->lost);
	show_text(b, "level", levels[q->coverage.level]);
	json_builder_set_member_name(b, "cores");
	json_builder_add_double_value(b, q->coverage.cores);
	json_builder_set_member_name(b, "sites");
	json_builder_begin_array(b);
	live_sort(q->live, t->sort);
	for (unsigned i = 0; i < l->rows->len && (!t->rows || shown < t->rows); i++) {
		const struct live_row *r = l->rows->pdata[i];

		if (!live_matches(r, t->filter ? t->filter : ""))
			continue;
		shown++;
		json_builder_begin_object(b);
		show_text(b, "site", r->site);
		show_text(b, "who", r->who);
		show_int(b, "acquired", r->acquired);
		show_int(b, "hold_ns", r->hold_ns);
		show_int(b, "hold_p99_ns", r->hold_p99_ns);
		show_int(b, "hold_max_ns", r->hold_max_ns);
		show_int(b, "waits", r->waits);
		show_int(b, "wait_ns", r->wait_ns);
		show_int(b, "wait_max_ns", r->wait_max_ns);
		show_int(b, "blocked_ns", r->blocked_ns);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_end_object(b);
	root = json_builder_get_root(b);
	json_generator_set_root(generator, root);
	line = json_generator_to_data(generator, NULL);
	puts(line);
}

/* ---- the screen ---- */

static void draw(struct top *t)
{
	g_autofree struct screen_qemu *shown = g_new0(struct screen_qemu, t->qemus->len + 1);

	for (unsigned i = 0; i < t->qemus->len; i++) {
		struct qemu *q = t->qemus->pdata[i];

		shown[i] = (struct screen_qemu){
			.name = q->name,
			.pid = q->pid,
			.phase = phase_of(t, q),
			.gone = q->gone,
			.run = q->run,
			.live = q->live,
			.coverage = q->coverage,
		};
	}
	screen_show(t->screen, shown, t->qemus->len, t->interval_ns, t->trouble);
}

static void show(struct top *t)
{
	if (t->screen) {
		draw(t);
		return;
	}
	for (unsigned i = 0; i < t->qemus->len; i++) {
		if (t->json)
			print_json(t, t->qemus->pdata[i]);
		else
			print_text(t, t->qemus->pdata[i]);
	}
	fflush(stdout);
}

/* ---- the loop ---- */

/* False: leave. */
static bool on_signal(struct top *t)
{
	struct signalfd_siginfo info;

	if (read(t->signal_fd, &info, sizeof(info)) != sizeof(info))
		return true;
	if (info.ssi_signo == SIGWINCH && t->screen)
		screen_resized(t->screen);
	else if (info.ssi_signo == SIGTSTP && t->screen)
		screen_suspend(t->screen);
	else if (info.ssi_signo == SIGTSTP)
		raise(SIGSTOP);
	else if (info.ssi_signo != SIGWINCH)
		return false;
	return true;
}

/* Until the next look is due. False: leave. */
static bool wait_until(struct top *t, uint64_t due)
{
	for (;;) {
		uint64_t now = now_ns(), left = due > now ? (due - now) / 1000000 + 1 : 0;
		struct pollfd fds[] = {
			{.fd = t->signal_fd, .events = POLLIN},
			{.fd = discover_fd(t->discover), .events = POLLIN},
			{.fd = t->screen ? STDIN_FILENO : -1, .events = POLLIN},
		};

		if (now >= due || (t->pids && all_gone(t)))
			return true;
		poll(fds, 3, MIN(left, tracer_due_ms(t->tracer)));
		if (fds[0].revents && !on_signal(t))
			return false;
		tracer_poll(t->tracer);
		discover_poll(t->discover);
		/* A terminal that is gone reads as a key that never comes. */
		if (fds[2].revents & (POLLHUP | POLLERR))
			return false;
		if (fds[2].revents && !screen_keys(t->screen, t->qemus->len))
			return false;
		if (!t->screen || !(fds[0].revents || fds[2].revents))
			continue;
		if (fds[2].revents)
			g_clear_pointer(&t->trouble, g_free);
		/* Unwinding them takes seconds for the first of a build: only for who wants to see.
		 */
		tracer_take_stacks(t->tracer, screen_in_detail(t->screen));
		draw(t);
	}
}

static int watch(struct top *t)
{
	uint64_t due = now_ns();

	for (int n = 0; !t->count || n < t->count; n++) {
		due += t->interval_ns;
		if (due < now_ns())
			due = now_ns();
		if (!wait_until(t, due))
			break;
		if (t->screen && screen_paused(t->screen))
			continue;
		look(t);
		show(t);
		if (t->pids && all_gone(t))
			break;
		forget_gone(t);
	}
	return EXIT_DONE;
}

static int check_pids(struct top *t)
{
	g_auto(GStrv) words = t->pids ? g_strsplit(t->pids, ",", -1) : NULL;

	for (char **word = words; word && *word; word++) {
		bool found = false;
		pid_t pid = atoi(*word);
		struct tracer_error err;

		for (unsigned i = 0; i < t->qemus->len; i++)
			found |= ((struct qemu *)t->qemus->pdata[i])->pid == pid;
		/* Not one that discover takes for a QEMU: the tracer knows why not. */
		if (!found && add_qemu(t, pid, "", &err))
			return command_fail(EXIT_CANNOT, "%s", err.text);
	}
	return EXIT_DONE;
}

static void block_signals(struct top *t)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGTSTP);
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	t->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
}

static int run_top(struct top *t)
{
	struct tracer_opts opts = {.threshold_ns = THRESHOLD_NS, .max_overhead = t->max_overhead};
	const struct discover_sink sink = {.appeared = appeared, .gone = gone, .opaque = t};
	struct tracer_error err;
	const char *why;
	int code;

	block_signals(t);
	t->collector = collector_new("");
	opts.sink = collector_sink(t->collector);
	if (tracer_new(&opts, &t->tracer, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	collector_use(t->collector, t->tracer, THRESHOLD_NS);
	t->discover = discover_new(t->match, &sink);
	discover_poll(t->discover);
	code = check_pids(t);
	if (code != EXIT_DONE)
		return code;
	tracer_calibrate(t->tracer);
	if (!t->json && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !t->count) {
		t->screen = screen_new(t->sort, t->each_vcpu, t->filter, &why);
		if (!t->screen)
			fprintf(stderr, "bqlstat: %s: plain text instead\n", why);
	}
	if (!t->screen && !t->qemus->len && !t->json)
		fprintf(stderr, "bqlstat: no QEMU %syet: waiting for one\n",
			t->match ? "of that name " : "");
	return watch(t);
}

static bool understand(struct top *t, const char **wrong)
{
	g_auto(GStrv) words = t->pids ? g_strsplit(t->pids, ",", -1) : NULL;
	guint64 pid;

	*wrong = NULL;
	for (char **word = words; word && *word; word++)
		if (!g_ascii_string_to_unsigned(*word, 10, 1, G_MAXINT32, &pid, NULL))
			*wrong = "-p wants process ids such as 1234 or 1234,5678";
	if (words && !*words)
		*wrong = "-p wants process ids such as 1234 or 1234,5678";
	else if (t->pids && t->match)
		*wrong = "-p and --match: which of them?";
	else if (t->delay && (!command_duration(t->delay, 1000000000, &t->interval_ns) ||
			      t->interval_ns < 100000000))
		*wrong = "-d wants an interval such as 2 or 500ms, at least 100ms";
	else if (t->count < 0)
		*wrong = "-n wants how many times";
	else if (t->rows < 0)
		*wrong = "-t wants how many call sites";
	else if (t->overhead && !command_percent(t->overhead, &t->max_overhead))
		*wrong = "--max-overhead wants percents of a core such as 5 or 0.5%, or 0 for no "
			 "limit";
	else if (t->sort_name && !live_sort_from_name(t->sort_name, &t->sort))
		*wrong = "--sort wants held, longest, count or wait";
	return !*wrong;
}

static int top(const struct command *command, int argc, char **argv)
{
	struct top t = {
		.interval_ns = 1000000000, .max_overhead = 0.05, .rows = 10, .signal_fd = -1};
	const GOptionEntry entries[] = {
		{"pid", 'p', 0, G_OPTION_ARG_STRING, &t.pids, "only these QEMUs; else all",
		 "PID[,PID]"},
		{"match", 'M', 0, G_OPTION_ARG_STRING, &t.match,
		 "only QEMUs whose VM, uuid or program has a name like this", "PATTERN"},
		{"delay", 'd', 0, G_OPTION_ARG_STRING, &t.delay, "look so often (1 second)",
		 "SECS"},
		{"count", 'n', 0, G_OPTION_ARG_INT, &t.count, "print so many times, as text", "N"},
		{"sort", 's', 0, G_OPTION_ARG_STRING, &t.sort_name,
		 "greatest first: held, longest, count or wait", "KEY"},
		{"filter", 'f', 0, G_OPTION_ARG_STRING, &t.filter,
		 "print only call sites or threads with this in them", "TEXT"},
		{"top", 't', 0, G_OPTION_ARG_INT, &t.rows, "print so many call sites (10); 0: all",
		 "N"},
		{"vcpus", 'v', 0, G_OPTION_ARG_NONE, &t.each_vcpu, "each vCPU by itself", NULL},
		{"json", 'j', 0, G_OPTION_ARG_NONE, &t.json, "print one JSON object a line", NULL},
		{"max-overhead", 'm', 0, G_OPTION_ARG_STRING, &t.overhead,
		 "trace less when it costs a QEMU more of a core than this (5); 0: never",
		 "PERCENT"},
		{},
	};
	const char *wrong;
	int code;

	t.qemus = g_ptr_array_new_with_free_func(qemu_free);
	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (argc > 1)
		code = command_fail(EXIT_USAGE, "what is %s? `bqlstat help top` tells how",
				    argv[1]);
	else if (!understand(&t, &wrong))
		code = command_fail(EXIT_USAGE, "%s: `bqlstat help top` tells how", wrong);
	else
		code = run_top(&t);

	screen_free(t.screen);
	discover_free(t.discover);
	tracer_free(t.tracer);
	collector_free(t.collector);
	g_ptr_array_unref(t.qemus);
	if (t.signal_fd >= 0)
		close(t.signal_fd);
	g_free(t.trouble);
	g_free(t.pids);
	g_free(t.match);
	g_free(t.delay);
	g_free(t.overhead);
	g_free(t.sort_name);
	g_free(t.filter);
	return code;
}

const struct command command_top = {
	.name = "top",
	.does = "watch who holds the lock, live",
	.usage = "[-p PID[,PID] | -M PATTERN]",
	.help = "Shows for every running QEMU, or some, who held the lock in the last second: call "
		"sites by\n"
		"share of the time, the longest hold, what was waited. Keys: h tells all; Enter "
		"looks "
		"into a\n"
		"call site: histogram, causes of blocking, stack of its longest hold, who had to "
		"wait.\n"
		"Where standard output is no terminal, or with -n, it prints the same as text, "
		"with "
		"--json as\n"
		"JSON lines.\n\n"
		"Watching costs a QEMU about 2 us a lock and unlock; above 5% of a core (-m) less "
		"is "
		"watched.",
	.run = top,
};
