/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat record: watch running QEMUs, or start one and watch it from its first instruction.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/collect.h"
#include "analyzers/command.h"
#include "analyzers/launch.h"
#include "analyzers/render/render.h"
#include "analyzers/store/store.h"

#define POLL_MS	      200 /* how often events are fetched and new call sites get their name */
#define PROGRESS_NS   1000000000ULL
#define FIRST_SAVE_NS 1000000000ULL
#define SAVE_NS	      5000000000ULL /* at most this much is lost when bqlstat is killed */

struct target {
	int number; /* the tracer's */
	pid_t pid;
	int pid_fd;
	bool ended;
	enum tracer_level level;
	struct run *run;
};

struct record {
	char *pids, *output, *duration, *label, *threshold, *overhead;
	gboolean quiet, no_stacks;
	uint64_t duration_ns, threshold_ns;
	double max_overhead;
	char **command; /* NULL: -p */

	struct store *store;
	struct collector *collector;
	struct tracer *tracer;
	GArray *pid_list; /* pid_t, from -p */
	GArray *targets;  /* struct target */
	int signal_fd;
	sigset_t mask; /* what the signal mask was */
	pid_t child;   /* the command, 0: none or reaped */
	bool shown;    /* a progress line stands on the terminal */
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

static struct target *target_at(struct record *r, unsigned i)
{
	return &g_array_index(r->targets, struct target, i);
}

static int add_target(struct record *r, pid_t pid, struct tracer_error *err)
{
	struct target target = {.pid = pid};

	target.number = tracer_add(r->tracer, pid, err);
	if (target.number < 0)
		return target.number;
	target.pid_fd = syscall(SYS_pidfd_open, pid, 0);
	collector_begin(r->collector, target.number);
	g_array_append_val(r->targets, target);
	return 0;
}

static int add_running(struct record *r)
{
	struct tracer_error err;

	for (unsigned i = 0; i < r->pid_list->len; i++)
		if (add_target(r, g_array_index(r->pid_list, pid_t, i), &err))
			return command_fail(EXIT_CANNOT, "%s", err.text);
	return EXIT_DONE;
}

/* What the launcher asks: see launch.h. */
struct hunt {
	struct record *record;
	struct tracer_error refusal; /* of the last QEMU that could not be traced */
};

static int is_qemu(void *opaque, pid_t pid)
{
	struct hunt *hunt = opaque;
	struct tracer_error err;
	int ret = add_target(hunt->record, pid, &err);

	/* A shell, a launcher, an ld.so that has not mapped it yet: say so only when nothing
	 * follows. */
	if (ret)
		hunt->refusal = err;
	return !ret;
}

static bool daemonizes(char **command)
{
	for (char **arg = command + 1; *arg; arg++)
		if (!strcmp(*arg, "-daemonize") || !strcmp(*arg, "--daemonize"))
			return true;
	return false;
}

static int start_command(struct record *r)
{
	struct hunt hunt = {.record = r};
	struct launch_error err;
	pid_t qemu;
	int ret;

	if (daemonizes(r->command))
		return command_fail(EXIT_USAGE, "-daemonize makes QEMU leave the process that is "
						"watched: start it without, or use -p");
	ret = launch(r->command, r->signal_fd, &r->mask, is_qemu, &hunt, &qemu, &r->child, &err);
	if (!ret)
		return EXIT_DONE;
	if (ret == -ECHILD && *hunt.refusal.text)
		return command_fail(EXIT_CANNOT, "%s (%s)", err.text, hunt.refusal.text);
	return command_fail(EXIT_CANNOT, "%s", err.text);
}

static int save(struct record *r)
{
	struct store_error err;

	for (unsigned i = 0; i < r->targets->len; i++) {
		struct target *t = target_at(r, i);

		if (!t->ended)
			t->run = collector_update(r->collector, t->number);
		if (store_save(r->store, t->run, &err))
			return command_fail(EXIT_CANNOT, "%s", err.text);
	}
	return EXIT_DONE;
}

struct progress {
	uint64_t acquired, longest_ns;
	char site[64];
};

static void add_progress(void *opaque, const struct abi_site *site, const char *file,
			 const struct abi_thread *thread)
{
	struct progress *p = opaque;

	(void)thread;
	p->acquired += site->acquired;
	if (site->worst.hold_ns <= p->longest_ns)
		return;
	p->longest_ns = site->worst.hold_ns;
	g_snprintf(p->site, sizeof(p->site), "%s:%u", render_file(file), site->line);
}

static void show_progress(struct record *r, uint64_t since_ns)
{
	char duration[RENDER_DURATION], longest[RENDER_DURATION];
	struct progress p = {0};

	for (unsigned i = 0; i < r->targets->len; i++)
		tracer_snapshot(r->tracer, target_at(r, i)->number, add_progress, &p);
	fprintf(stderr, "\r\033[Krecording %s: %llu acquisitions, longest hold %s at %s",
		render_duration(duration, now_ns() - since_ns), (unsigned long long)p.acquired,
		render_duration(longest, p.longest_ns), *p.site ? p.site : "-");
	r->shown = true;
}

/* Once a level: from the run, where the collector puts it. */
static void say_thinned(struct record *r, struct target *t)
{
	static const char *const said[] = {
		[TRACER_FULL] = "the load has fallen: everything is recorded again",
		[TRACER_HOLDS] = "recording holds only, without waits and call sites",
		[TRACER_BURSTS] = "recording in bursts, a small part of the time",
		[TRACER_AWAY] = "hardly recording: a burst a minute",
	};
	struct tracer_coverage c;

	if (t->ended)
		return;
	tracer_coverage(r->tracer, t->number, &c);
	if (c.level == t->level)
		return;
	t->level = c.level;
	if (r->quiet)
		return;
	fprintf(stderr, "%sbqlstat: process %d: all of it %s %.1f%% of a core: %s\n",
		r->shown ? "\r\033[K" : "", (int)t->pid,
		c.level == TRACER_FULL ? "costs" : "would cost", 100 * c.cores, said[c.level]);
	r->shown = false;
}

/* Whether one of its threads still runs. */
static bool exited(const struct target *t)
{
	struct pollfd fd = {.fd = t->pid_fd, .events = POLLIN};

	if (t->pid_fd < 0)
		return kill(t->pid, 0) && errno == ESRCH;
	return poll(&fd, 1, 0) > 0;
}

static void end_target(struct record *r, struct target *t, const char *why)
{
	t->run = collector_end(r->collector, t->number, why);
	t->ended = true;
	if (t->pid_fd >= 0)
		close(t->pid_fd);
}

static const char *how_it_exited(struct record *r, const struct target *t)
{
	g_autofree char *how = NULL;
	int status;

	if (t->pid != r->child || waitpid(r->child, &status, 0) != r->child)
		return "until the QEMU exited";
	r->child = 0;
	if (WIFSIGNALED(status))
		how = g_strdup_printf("until the QEMU was killed by signal %d", WTERMSIG(status));
	else
		how = g_strdup_printf("until the QEMU exited with status %d", WEXITSTATUS(status));
	return g_intern_string(how);
}

/* Until the time is up, the user stops it or every QEMU has exited. */
static int watch(struct record *r)
{
	uint64_t begin = now_ns(), save_at = begin + FIRST_SAVE_NS, shown = begin;
	bool progress = !r->quiet && isatty(STDERR_FILENO);
	struct signalfd_siginfo info;
	unsigned alive = r->targets->len;
	const char *why = NULL;
	int code = EXIT_DONE;

	/* Scripts wait for this line before they do what is to be recorded. */
	for (unsigned i = 0; i < r->targets->len && !r->quiet; i++)
		fprintf(stderr, "bqlstat: recording process %u\n", (unsigned)target_at(r, i)->pid);
	while (alive && !why && code == EXIT_DONE) {
		uint64_t now = now_ns(), left = MIN(POLL_MS, tracer_due_ms(r->tracer));
		struct pollfd fd = {.fd = r->signal_fd, .events = POLLIN};

		if (r->duration_ns && now - begin >= r->duration_ns) {
			why = "for the time asked for";
			break;
		}
		if (r->duration_ns)
			left = MIN(left, (r->duration_ns - (now - begin)) / 1000000 + 1);
		if (poll(&fd, 1, left) > 0 && read(r->signal_fd, &info, sizeof(info)) > 0 &&
		    info.ssi_signo != SIGCHLD)
			why = "until stopped by the user";
		tracer_poll(r->tracer);
		for (unsigned i = 0; i < r->targets->len; i++)
			say_thinned(r, target_at(r, i));
		for (unsigned i = 0; i < r->targets->len; i++) {
			struct target *t = target_at(r, i);

			if (t->ended || !exited(t))
				continue;
			end_target(r, t, how_it_exited(r, t));
			alive--;
		}
		now = now_ns();
		if (now >= save_at) {
			code = save(r);
			save_at = now + SAVE_NS;
		}
		if (progress && now - shown >= PROGRESS_NS) {
			show_progress(r, begin);
			shown = now;
		}
	}
	for (unsigned i = 0; i < r->targets->len; i++)
		if (!target_at(r, i)->ended)
			end_target(r, target_at(r, i),
				   why ? why : "until the file could not be written");
	return code;
}

static void say_done(struct record *r)
{
	if (r->shown)
		fputs("\r\033[K", stderr);
	for (unsigned i = 0; i < r->targets->len && !r->quiet; i++) {
		struct run *run = target_at(r, i)->run;
		g_autoptr(GPtrArray) longest = run_longest(run, 1);
		const struct hold *h = longest->len ? longest->pdata[0] : NULL;
		char duration[RENDER_DURATION], held[RENDER_DURATION];

		fprintf(stderr,
			"bqlstat: run %d: process %u, %s %s: %llu acquisitions, longest hold %s, "
			"lost %llu\n",
			(int)run->id, run->pid, render_duration(duration, run->duration_ns),
			run->ended, (unsigned long long)run_acquired(run),
			render_duration(held, h ? run_hold_ns(run, h->hold_ns) : 0),
			(unsigned long long)run_lost(run));
	}
}

static bool parse_pids(struct record *r)
{
	g_auto(GStrv) words = g_strsplit(r->pids, ",", -1);

	for (char **word = words; *word; word++) {
		guint64 pid;

		if (!g_ascii_string_to_unsigned(*word, 10, 1, G_MAXINT32, &pid, NULL))
			return false;
		g_array_append_vals(r->pid_list, &(pid_t){pid}, 1);
	}
	return r->pid_list->len;
}

static bool understand(struct record *r, const char **wrong)
{
	*wrong = NULL;
	if (!r->output)
		*wrong = "say where to put it: -o FILE";
	else if (!r->pids == !r->command)
		*wrong = "say what to record: -p PID, or -- and a command that starts a QEMU";
	else if (r->pids && !parse_pids(r))
		*wrong = "-p wants process ids such as 1234 or 1234,5678";
	else if (r->duration &&
		 (!command_duration(r->duration, 1000000000, &r->duration_ns) || !r->duration_ns))
		*wrong = "-d wants a duration such as 10, 500ms or 2m";
	else if (r->threshold && !command_duration(r->threshold, 1000000, &r->threshold_ns))
		*wrong = "--threshold wants a duration such as 1ms or 250us";
	else if (r->overhead && !command_percent(r->overhead, &r->max_overhead))
		*wrong = "--max-overhead wants percents of a core such as 5 or 0.5%, or 0 for no "
			 "limit";
	return !*wrong;
}

static int run_record(struct record *r)
{
	struct tracer_opts opts = {.threshold_ns = r->threshold_ns,
				   .stacks = !r->no_stacks,
				   .max_overhead = r->max_overhead};
	struct tracer_error err;
	struct store_error store_err;
	sigset_t signals;
	int code;

	if (store_create(r->output, &r->store, &store_err))
		return command_fail(EXIT_CANNOT, "%s", store_err.text);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &r->mask);
	r->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	r->collector = collector_new(r->label ? r->label : "");
	opts.sink = collector_sink(r->collector);
	if (tracer_new(&opts, &r->tracer, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	collector_use(r->collector, r->tracer, r->threshold_ns);
	code = r->command ? start_command(r) : add_running(r);
	if (code != EXIT_DONE)
		return code;
	/* Only now: a QEMU that cannot be watched is told at once, and one that can is not kept. */
	tracer_calibrate(r->tracer);
	code = watch(r);
	/* After a failed save once more: room may have come back, and this one has everything. */
	if (save(r) != EXIT_DONE)
		code = EXIT_CANNOT;
	if (code == EXIT_DONE)
		say_done(r);
	return code;
}

static int record(const struct command *command, int argc, char **argv)
{
	struct record r = {.threshold_ns = 1000000, .max_overhead = 0.05, .signal_fd = -1};
	const GOptionEntry entries[] = {
		{"pid", 'p', 0, G_OPTION_ARG_STRING, &r.pids, "the running QEMUs to watch",
		 "PID[,PID]"},
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &r.output,
		 "the run file; a run is added when it exists", "FILE"},
		{"duration", 'd', 0, G_OPTION_ARG_STRING, &r.duration,
		 "stop after so many seconds (or 500ms, 2m)", "SECS"},
		{"label", 'l', 0, G_OPTION_ARG_STRING, &r.label, "a name for the run", "NAME"},
		{"threshold", 't', 0, G_OPTION_ARG_STRING, &r.threshold,
		 "list holds and waits of this length one by one (1ms)", "DUR"},
		{"no-stacks", 0, 0, G_OPTION_ARG_NONE, &r.no_stacks, "keep no stacks of long holds",
		 NULL},
		{"max-overhead", 'm', 0, G_OPTION_ARG_STRING, &r.overhead,
		 "record less when it costs a QEMU more of a core than this (5); 0: never",
		 "PERCENT"},
		{"quiet", 'q', 0, G_OPTION_ARG_NONE, &r.quiet, "say nothing when all is well",
		 NULL},
		{},
	};
	const char *wrong;
	int code;

	/* Everything after -- is the command's. */
	for (int i = 1; i < argc && !r.command; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		r.command = i + 1 < argc ? argv + i + 1 : NULL;
		argc = i;
		argv[i] = NULL;
	}
	r.pid_list = g_array_new(FALSE, FALSE, sizeof(pid_t));
	r.targets = g_array_new(FALSE, TRUE, sizeof(struct target));
	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (argc > 1)
		code = command_fail(EXIT_USAGE,
				    "what is %s? A command to start comes after --: `bqlstat help "
				    "record` tells how",
				    argv[1]);
	else if (!understand(&r, &wrong))
		code = command_fail(EXIT_USAGE, "%s: `bqlstat help record` tells how", wrong);
	else
		code = run_record(&r);

	tracer_free(r.tracer);
	collector_free(r.collector);
	store_close(r.store);
	if (r.signal_fd >= 0)
		close(r.signal_fd);
	g_array_unref(r.targets);
	g_array_unref(r.pid_list);
	g_free(r.pids);
	g_free(r.output);
	g_free(r.duration);
	g_free(r.label);
	g_free(r.threshold);
	g_free(r.overhead);
	return code;
}

const struct command command_record = {
	.name = "record",
	.does = "watch a QEMU and write down what was seen",
	.usage = "-o FILE [-d SECS] -p PID[,PID] | -- COMMAND...",
	.help = "Watches running QEMUs (-p), or starts one and watches it from its first "
		"instruction\n"
		"(--; also through wrapper scripts and `loadvm ... --`). Ends when the time is up, "
		"on\n"
		"Ctrl-C, or when the QEMU exits; a QEMU that was started goes on after -d.\n\n"
		"FILE may hold many runs: recording into an existing one adds to it. It is brought "
		"up to\n"
		"date every 5 seconds, so a bqlstat that is killed leaves what it had seen, and "
		"nothing\n"
		"in the QEMU.\n\n"
		"Each lock and unlock costs the QEMU about 2 us while it is watched; the report "
		"says how\n"
		"much it was on this machine.",
	.run = record,
};
