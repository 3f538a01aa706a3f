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

#include "analyzers/watch/collect.h"
#include "analyzers/command.h"
#include "analyzers/model/words.h"
#include "analyzers/watch/discover.h"
#include "analyzers/watch/launch.h"
#include "analyzers/store/store.h"

#define POLL_MS	      200 /* how often events are fetched and new call sites get their name */
#define PROGRESS_NS   1000000000ULL
#define FIRST_SAVE_NS 1000000000ULL
#define SAVE_NS	      5000000000ULL /* at most this much is lost when bqlstat is killed */

struct target {
	int number; /* the tracer's */
	pid_t pid;
	int pid_fd;
	bool ended, saved;
	enum tracer_level level;
	struct run *run;
};

struct record {
	char *pids, *output, *duration, *label, *threshold, *overhead, *match, *until;
	gboolean quiet, no_stacks;
	uint64_t duration_ns, threshold_ns;
	double max_overhead;
	char **command; /* NULL: -p or --match */
	bool until_exit, until_migration;

	struct store *store;
	struct collector *collector;
	struct tracer *tracer;
	struct discover *discover; /* --match */
	GArray *pid_list;	   /* pid_t, from -p */
	GArray *targets;	   /* struct target */
	int signal_fd;
	sigset_t mask; /* what the signal mask was */
	pid_t child;   /* the command, 0: none or reaped */
	bool shown;    /* a progress line stands on the terminal */
	unsigned ends; /* QEMUs whose recording has ended */
	char trouble[sizeof(((struct store_error *)NULL)->text)]; /* said last of a failed save */
	int code;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

static void wipe_progress(struct record *r)
{
	if (r->shown)
		fputs("\r\033[K", stderr);
	r->shown = false;
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

static int start_command(struct record *r)
{
	struct hunt hunt = {.record = r};
	struct launch_error err;
	pid_t qemu;
	int ret;

	if (launch_daemonizes(r->command))
		return command_fail(EXIT_USAGE, "-daemonize makes QEMU leave the process that is "
						"watched: start it without, or use -p");
	ret = launch(r->command, r->signal_fd, &r->mask, is_qemu, &hunt, &qemu, &r->child, &err);
	if (!ret)
		return EXIT_DONE;
	if (ret == -ECHILD && *hunt.refusal.text)
		return command_fail(EXIT_CANNOT, "%s (%s)", err.text, hunt.refusal.text);
	return command_fail(EXIT_CANNOT, "%s", err.text);
}

static int save_target(struct record *r, struct target *t)
{
	struct store_error err;

	if (store_save(r->store, t->run, &err)) {
		wipe_progress(r);
		/* Each further try would say the same. */
		if (!strcmp(r->trouble, err.text))
			return EXIT_CANNOT;
		g_strlcpy(r->trouble, err.text, sizeof(r->trouble));
		return command_fail(EXIT_CANNOT, "%s", err.text);
	}
	t->saved = t->ended;
	return EXIT_DONE;
}

static int save(struct record *r)
{
	int code = EXIT_DONE;

	for (unsigned i = 0; i < r->targets->len && code == EXIT_DONE; i++) {
		struct target *t = target_at(r, i);

		if (t->saved)
			continue;
		if (!t->ended)
			t->run = collector_update(r->collector, t->number);
		code = save_target(r, t);
	}
	return code;
}

struct progress {
	uint64_t acquired, longest_ns;
	char site[64];
	const char *phase;
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
	g_snprintf(p->site, sizeof(p->site), "%s:%u", words_file(file), site->line);
}

static void show_progress(struct record *r, uint64_t since_ns)
{
	char duration[WORDS_DURATION], longest[WORDS_DURATION];
	struct progress p = {0};

	for (unsigned i = 0; i < r->targets->len; i++) {
		const struct target *t = target_at(r, i);
		struct abi_phase phase;

		if (t->ended)
			continue;
		tracer_snapshot(r->tracer, t->number, add_progress, &p);
		tracer_phase(r->tracer, t->number, &phase);
		if (phase.kind != ABI_PHASE_NONE)
			p.phase = phase_name((enum phase)phase.kind);
	}
	fprintf(stderr, "\r\033[Krecording %s: %llu acquisitions, longest hold %s at %s%s%s",
		words_duration(duration, now_ns() - since_ns), (unsigned long long)p.acquired,
		words_duration(longest, p.longest_ns), *p.site ? p.site : "-",
		p.phase ? ", phase " : "", p.phase ? p.phase : "");
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
	wipe_progress(r);
	fprintf(stderr, "bqlstat: process %d: all of it %s %.1f%% of a core: %s\n", (int)t->pid,
		c.level == TRACER_FULL ? "costs" : "would cost", 100 * c.cores, said[c.level]);
}

/* Whether one of its threads still runs. */
static bool exited(const struct target *t)
{
	struct pollfd fd = {.fd = t->pid_fd, .events = POLLIN};

	if (t->pid_fd < 0)
		return kill(t->pid, 0) && errno == ESRCH;
	return poll(&fd, 1, 0) > 0;
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

/* The load is over, well or not: the incoming state is torn down. */
static bool migrated(struct record *r, const struct target *t)
{
	const struct run *run = collector_run(r->collector, t->number);
	unsigned n = run->marks->len;

	return r->until_migration && n &&
	       g_array_index(run->marks, struct mark, n - 1).in.phase == PHASE_NONE;
}

static void say_done(struct record *r, const struct run *run)
{
	g_autoptr(GPtrArray) longest = run_longest(run, 1);
	const struct hold *h = longest->len ? longest->pdata[0] : NULL;
	char duration[WORDS_DURATION], held[WORDS_DURATION];

	wipe_progress(r);
	if (r->quiet)
		return;
	fprintf(stderr,
		"bqlstat: run %d: process %u, %s %s: %llu acquisition%s, longest hold %s, "
		"lost %llu\n",
		(int)run->id, run->pid, words_duration(duration, run->duration_ns), run->ended,
		(unsigned long long)run_acquired(run), run_acquired(run) == 1 ? "" : "s",
		words_duration(held, h ? run_hold_ns(run, h->hold_ns) : 0),
		(unsigned long long)run_lost(run));
}

/* Saved at once: what one QEMU left must not wait for the others. */
static void end_target(struct record *r, struct target *t, const char *why)
{
	int code;

	t->run = collector_end(r->collector, t->number, why);
	t->ended = true;
	r->ends++;
	if (t->pid_fd >= 0)
		close(t->pid_fd);
	t->pid_fd = -1;
	code = save_target(r, t);
	if (code == EXIT_DONE)
		say_done(r, t->run);
	else
		r->code = code;
}

static void end_finished(struct record *r)
{
	for (unsigned i = 0; i < r->targets->len; i++) {
		struct target *t = target_at(r, i);

		if (t->ended)
			continue;
		if (exited(t))
			end_target(r, t, how_it_exited(r, t));
		else if (migrated(r, t))
			end_target(r, t, "until the migration had ended");
	}
}

/* Those that come and go as long as it takes: their places and memory are used again. */
static void forget_ended(struct record *r)
{
	for (unsigned i = 0; i < r->targets->len; i++) {
		if (!target_at(r, i)->saved)
			continue;
		collector_forget(r->collector, target_at(r, i)->number);
		g_array_remove_index(r->targets, i--);
	}
}

static void say_recording(const struct record *r, const struct target *t)
{
	/* Scripts wait for this line before they do what is to be recorded. */
	if (!r->quiet)
		fprintf(stderr, "bqlstat: recording process %d\n", (int)t->pid);
}

static void appeared(void *opaque, const struct discovered *q)
{
	struct record *r = opaque;
	struct tracer_error err;

	wipe_progress(r);
	/* Its place in the collector may be that of one that has just ended. */
	forget_ended(r);
	if (add_target(r, q->pid, &err))
		fprintf(stderr, "bqlstat: %s: not recorded\n", err.text);
	else
		say_recording(r, target_at(r, r->targets->len - 1));
}

/* Its end is noticed like everybody's. */
static void gone(void *opaque, const struct discovered *q)
{
	struct record *r = opaque;

	for (unsigned i = 0; i < r->targets->len; i++)
		if (!target_at(r, i)->ended && target_at(r, i)->pid == q->pid &&
		    !exited(target_at(r, i)))
			end_target(r, target_at(r, i), "until it became another program");
}

/* Whether there is nothing left to wait for. */
static bool all_ended(const struct record *r)
{
	unsigned going = 0;

	for (unsigned i = 0; i < r->targets->len; i++)
		going += !g_array_index(r->targets, struct target, i).ended;
	return !going && (!r->discover || ((r->until_exit || r->until_migration) && r->ends));
}

/* One round. Why to stop, or NULL. */
static const char *wait_round(struct record *r, uint64_t begin)
{
	uint64_t now = now_ns(), left = MIN(POLL_MS, tracer_due_ms(r->tracer));
	struct pollfd fds[] = {
		{.fd = r->signal_fd, .events = POLLIN},
		{.fd = r->discover ? discover_fd(r->discover) : -1, .events = POLLIN},
	};
	struct signalfd_siginfo info;
	const char *why = NULL;

	if (r->duration_ns && now - begin >= r->duration_ns)
		return "until the time was up";
	if (r->duration_ns)
		left = MIN(left, (r->duration_ns - (now - begin)) / 1000000 + 1);
	if (poll(fds, 2, left) > 0 && fds[0].revents &&
	    read(r->signal_fd, &info, sizeof(info)) > 0 && info.ssi_signo != SIGCHLD)
		why = "until stopped by the user";
	tracer_poll(r->tracer);
	for (unsigned i = 0; i < r->targets->len; i++)
		say_thinned(r, target_at(r, i));
	end_finished(r);
	if (r->discover) {
		forget_ended(r);
		discover_poll(r->discover);
	}
	return why;
}

/* Until the time is up, the user stops it or there is nothing left to watch. */
static int watch(struct record *r)
{
	uint64_t begin = now_ns(), save_at = begin + FIRST_SAVE_NS, shown = begin;
	bool progress = !r->quiet && isatty(STDERR_FILENO);
	const char *why = NULL;

	for (unsigned i = 0; i < r->targets->len && !r->discover; i++)
		say_recording(r, target_at(r, i));
	while (!why && r->code == EXIT_DONE && !all_ended(r)) {
		uint64_t now;

		why = wait_round(r, begin);
		now = now_ns();
		if (now >= save_at && r->code == EXIT_DONE) {
			r->code = save(r);
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
	/* After a failed save once more: room may have come back, and this one has everything. */
	if (save(r) != EXIT_DONE)
		r->code = EXIT_CANNOT;
	wipe_progress(r);
	if (r->discover && !r->ends && !r->quiet)
		fprintf(stderr, "bqlstat: no QEMU matched %s: nothing was recorded\n", r->match);
	return r->code;
}

/* Those that run already; the others when they come. */
static int find_running(struct record *r)
{
	const struct discover_sink sink = {.appeared = appeared, .gone = gone, .opaque = r};

	r->discover = discover_new(r->match, &sink);
	discover_poll(r->discover);
	if (!r->targets->len && !r->quiet)
		fprintf(stderr, "bqlstat: no QEMU matches %s yet: waiting for one\n", r->match);
	return EXIT_DONE;
}

static bool is_listed(const struct record *r, pid_t pid)
{
	for (unsigned i = 0; i < r->pid_list->len; i++)
		if (g_array_index(r->pid_list, pid_t, i) == pid)
			return true;
	return false;
}

static bool parse_pids(struct record *r)
{
	g_auto(GStrv) words = g_strsplit(r->pids, ",", -1);

	for (char **word = words; *word; word++) {
		guint64 pid;

		if (!g_ascii_string_to_unsigned(*word, 10, 1, G_MAXINT32, &pid, NULL))
			return false;
		if (!is_listed(r, pid))
			g_array_append_vals(r->pid_list, &(pid_t){pid}, 1);
	}
	return r->pid_list->len;
}

static bool understand(struct record *r, const char **wrong)
{
	*wrong = NULL;
	if (!r->output)
		*wrong = "say where to put it: -o FILE";
	else if (!!r->pids + !!r->command + !!r->match != 1)
		*wrong = "say what to record, one of -p PID, --match PATTERN, or -- and a command "
			 "that starts a QEMU";
	else if (r->until && strcmp(r->until, "exit") && strcmp(r->until, "migration"))
		*wrong = "--until wants exit or migration";
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
	r->until_exit = r->until && !strcmp(r->until, "exit");
	r->until_migration = r->until && !strcmp(r->until, "migration");
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
	code = r->command ? start_command(r) : r->match ? find_running(r) : add_running(r);
	if (code != EXIT_DONE)
		return code;
	/* Only now: a QEMU that cannot be watched is told at once, and one that can is not kept. */
	tracer_calibrate(r->tracer);
	return watch(r);
}

static int record(const struct command *command, int argc, char **argv)
{
	struct record r = {.threshold_ns = 1000000, .max_overhead = 0.05, .signal_fd = -1};
	const GOptionEntry entries[] = {
		{"pid", 'p', 0, G_OPTION_ARG_STRING, &r.pids, "the running QEMUs to watch",
		 "PID[,PID]"},
		{"match", 'M', 0, G_OPTION_ARG_STRING, &r.match,
		 "watch all QEMUs, also later ones, whose VM, uuid or program has a name like this",
		 "PATTERN"},
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &r.output,
		 "the run file; a run is added when it exists", "FILE"},
		{"duration", 'd', 0, G_OPTION_ARG_STRING, &r.duration,
		 "stop after so many seconds (or 500ms, 2m)", "SECS"},
		{"until", 'u', 0, G_OPTION_ARG_STRING, &r.until,
		 "stop when its incoming migration has ended, or the QEMU", "migration|exit"},
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

	discover_free(r.discover);
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
	g_free(r.match);
	g_free(r.until);
	return code;
}

const struct command command_record = {
	.name = "record",
	.does = "watch a QEMU and write down what was seen",
	.usage = "-o FILE [-d SECS] -p PID[,PID] | -M PATTERN | -- COMMAND...",
	.help = "Watches running QEMUs (-p), or starts one and watches it from its first "
		"instruction\n"
		"(--; also through wrapper scripts and `loadvm ... --`). Ends when the time is up, "
		"on\n"
		"Ctrl-C, or when the QEMU exits; a QEMU that was started goes on after -d. With -M "
		"every\n"
		"QEMU that matches is watched until it exits, also those that come later, until "
		"Ctrl-C\n"
		"or -d; with --until, until those that came have ended.\n\n"
		"FILE may hold many runs: recording into an existing one adds to it. It is brought "
		"up to\n"
		"date every 5 seconds, so a bqlstat that is killed leaves what it had seen, and "
		"nothing\n"
		"in the QEMU.\n\n"
		"Each lock and unlock costs the QEMU about 2 us while it is watched. Above 5% of a "
		"core\n"
		"(-m) less is recorded, and the report says what.",
	.run = record,
};
