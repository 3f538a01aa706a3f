/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat lttng capture: record the tracepoints of a QEMU under `loadvm --lttng` with an LTTng
 * session that begins and ends with the command.
 */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/command.h"
#include "analyzers/model/words.h"
#include "analyzers/watch/launch.h"
#include "analyzers/output.h"
#include "analyzers/watch/session.h"
#include "runtime/seams/seams.h"

#define PROVIDER  "libloadvm-lttng.so"
#define POLL_MS	  200
#define LOOK_NS	  2000000000ULL	 /* by then a command has become its QEMU */
#define SETTLE_US 700000	 /* a trigger's snapshot, after the QEMU has ended */
#define END_NS	  10000000000ULL /* the command may take this long to end */

struct capture {
	char *output, *duration, *buffer, *user;
	char **triggers;
	gboolean snapshot, nested, quiet;
	int pid;
	char **command;
	uint64_t duration_ns;

	uid_t uid; /* the daemon's */
	gid_t gid;
	struct output folder;
	char *home; /* of a process that runs; else NULL */
	struct session *session;
	int signal_fd, pid_fd;
	sigset_t mask;
	pid_t child;
	int status; /* of the command, -1: not known */
	bool daemon_died, looked, plain, shown;
	uint64_t begin_ns;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* --- what is traced ----------------------------------------------------------------------------
 */

/* A field of /proc/PID/environ, or NULL. */
static char *environment_of(pid_t pid, const char *name)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/environ", pid), *text = NULL;
	size_t length, n = strlen(name);

	if (!g_file_get_contents(path, &text, &length, NULL))
		return NULL;
	for (const char *at = text; at < text + length; at += strlen(at) + 1)
		if (!strncmp(at, name, n) && at[n] == '=')
			return g_strdup(at + n + 1);
	return NULL;
}

static bool has_provider(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", pid), *maps = NULL;

	return g_file_get_contents(path, &maps, NULL, NULL) && strstr(maps, PROVIDER);
}

static int find_process(struct capture *c)
{
	g_autofree char *path = g_strdup_printf("/proc/%d", c->pid);
	struct stat st;

	if (stat(path, &st))
		return command_fail(EXIT_CANNOT, "there is no process %d", c->pid);
	c->pid_fd = syscall(SYS_pidfd_open, c->pid, 0);
	if (geteuid() && st.st_uid != geteuid())
		return command_fail(EXIT_CANNOT,
				    "process %d is another user's: run as that user or as root",
				    c->pid);
	if (!has_provider(c->pid))
		return command_fail(EXIT_CANNOT,
				    "process %d has no LTTng tracepoints: a QEMU has them when it "
				    "is started with `loadvm --lttng -- ...`",
				    c->pid);
	c->uid = st.st_uid;
	c->gid = st.st_gid;
	c->home = environment_of(c->pid, "LTTNG_HOME");
	if (!c->home)
		c->home = environment_of(c->pid, "HOME");
	if (!c->home)
		return command_fail(EXIT_CANNOT,
				    "process %d has neither LTTNG_HOME nor HOME: LTTng cannot "
				    "find it",
				    c->pid);
	return EXIT_DONE;
}

/* The daemon's user, when we start the command. */
static int find_user(struct capture *c)
{
	const char *sudo = g_getenv("SUDO_UID");
	struct passwd *pw;

	c->uid = geteuid();
	c->gid = getegid();
	if (c->user && geteuid())
		return command_fail(EXIT_CANNOT, "--user is for root");
	if (geteuid())
		return EXIT_DONE;
	pw = c->user ? getpwnam(c->user)
	     : sudo  ? getpwuid((uid_t)g_ascii_strtoull(sudo, NULL, 10))
		     : getpwnam("nobody");
	if (!pw || !pw->pw_uid)
		return command_fail(EXIT_CANNOT,
				    "root needs another user for LTTng's session daemon, and %s is "
				    "none: name one with --user",
				    c->user ? c->user : "nobody");
	c->uid = pw->pw_uid;
	c->gid = pw->pw_gid;
	return EXIT_DONE;
}

/* Most likely mistake first: a QEMU by itself has none of the events. */
static int refuse_plain(struct capture *c)
{
	g_autofree char *path = g_find_program_in_path(c->command[0]);
	struct seam_error err;
	struct seam_map *map;

	if (launch_daemonizes(c->command))
		return command_fail(EXIT_USAGE, "-daemonize makes QEMU leave the process that is "
						"watched: start it without");
	if (!path)
		return command_fail(EXIT_CANNOT, "cannot run %s: there is no such program",
				    c->command[0]);
	if (seam_map_open(path, &map, &err))
		return EXIT_DONE;
	seam_map_free(map);
	return command_fail(EXIT_USAGE,
			    "%s has no LTTng tracepoints by itself: put `loadvm --lttng --` before "
			    "it",
			    c->command[0]);
}

/* The same behind a wrapper script, found out when it runs. */
static void look_at_child(struct capture *c)
{
	struct seam_error err;
	struct seam_map *map;

	if (c->looked || !c->child || now_ns() - c->begin_ns < LOOK_NS)
		return;
	c->looked = true;
	if (has_provider(c->child) || seam_map_open_pid(c->child, &map, NULL, &err))
		return;
	seam_map_free(map);
	c->plain = true;
	command_fail(0,
		     "the QEMU that %s started has no LTTng tracepoints: it must be started "
		     "with `loadvm --lttng -- ...`",
		     c->command[0]);
}

/* --- running -----------------------------------------------------------------------------------
 */

static void child_setup(void *opaque)
{
	struct capture *c = opaque;

	sigprocmask(SIG_SETMASK, &c->mask, NULL);
}

static int start_command(struct capture *c)
{
	g_auto(GStrv) env = g_environ_setenv(
		g_environ_setenv(g_get_environ(), "LTTNG_HOME", session_home(c->session), TRUE),
		"LOADVM_TRACE", "lttng", TRUE);
	g_autoptr(GError) error = NULL;
	GPid pid;

	if (!g_spawn_async(NULL, c->command, env,
			   G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
				   G_SPAWN_CHILD_INHERITS_STDIN | G_SPAWN_LEAVE_DESCRIPTORS_OPEN,
			   child_setup, c, &pid, &error))
		return command_fail(EXIT_CANNOT, "%s", error->message);
	c->child = pid;
	return EXIT_DONE;
}

static bool target_ended(struct capture *c)
{
	struct pollfd fd = {.fd = c->pid_fd, .events = POLLIN};
	int status;

	if (c->child && waitpid(c->child, &status, WNOHANG) == c->child) {
		c->child = 0;
		c->status = status;
	}
	if (c->command)
		return !c->child;
	return c->pid_fd < 0 ? kill(c->pid, 0) && errno == ESRCH : poll(&fd, 1, 0) > 0;
}

static bool daemon_ended(struct capture *c)
{
	pid_t daemon = session_daemon(c->session);

	c->daemon_died |= daemon > 0 && waitpid(daemon, NULL, WNOHANG) == daemon;
	return c->daemon_died;
}

static void snapshot_now(struct capture *c, const char *why)
{
	struct session_error err;

	if (session_snapshot(c->session, &err))
		command_fail(0, "%s", err.text);
	else if (!c->quiet)
		fprintf(stderr, "bqlstat: snapshot %s\n", why);
}

static void show_progress(struct capture *c)
{
	char duration[WORDS_DURATION];

	fprintf(stderr, "\r\033[Kcapturing %s: %.1f MB",
		words_duration(duration, now_ns() - c->begin_ns), output_bytes(&c->folder) / 1e6);
	c->shown = true;
}

/* Ends with the command, the process, the time, the daemon, or a signal, which is returned. */
static int watch(struct capture *c)
{
	bool progress = !c->quiet && isatty(STDERR_FILENO);
	struct signalfd_siginfo info;
	uint64_t shown = c->begin_ns;

	while (!target_ended(c) && !daemon_ended(c)) {
		uint64_t now = now_ns(), left = POLL_MS;
		struct pollfd fd = {.fd = c->signal_fd, .events = POLLIN};

		if (c->duration_ns && now - c->begin_ns >= c->duration_ns)
			return 0;
		if (c->duration_ns)
			left = MIN(left, (c->duration_ns - (now - c->begin_ns)) / 1000000 + 1);
		if (poll(&fd, 1, left) > 0 && read(c->signal_fd, &info, sizeof(info)) > 0) {
			if (info.ssi_signo == SIGUSR1 && c->snapshot)
				snapshot_now(c, "taken as asked by SIGUSR1");
			else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGUSR1)
				return info.ssi_signo;
		}
		look_at_child(c);
		if (progress && now_ns() - shown >= 1000000000) {
			show_progress(c);
			shown = now_ns();
		}
	}
	return 0;
}

/*
 * Whoever stops bqlstat stops what it runs: the terminal's Ctrl-C has reached both, any other
 * signal is passed on. A second one, or too long a time, ends it at once.
 */
static void end_command(struct capture *c, int signal)
{
	uint64_t until = now_ns() + END_NS;
	struct signalfd_siginfo info;

	if (!c->child || !signal)
		return;
	if (signal != SIGINT || !isatty(STDIN_FILENO))
		kill(c->child, SIGTERM);
	while (!target_ended(c)) {
		struct pollfd fd = {.fd = c->signal_fd, .events = POLLIN};
		bool again = poll(&fd, 1, 100) > 0 && read(c->signal_fd, &info, sizeof(info)) > 0 &&
			     info.ssi_signo != SIGCHLD && info.ssi_signo != SIGUSR1;

		if (again || now_ns() > until)
			kill(c->child, SIGKILL);
	}
}

static int add_triggers(struct capture *c)
{
	static char *defaults[] = {(char *)"failed", (char *)"hold>100ms", NULL};
	struct session_error err;
	uint64_t ns;
	int r = 0;

	for (char **t = c->triggers ? c->triggers : defaults; *t && !r; t++) {
		g_autofree char *filter = NULL;

		if (!strcmp(*t, "failed")) {
			r = session_trigger(c->session, "failed", "incoming_end", "result < 0",
					    &err);
			continue;
		}
		command_duration(*t + strlen("hold>"), 1000000, &ns);
		filter = g_strdup_printf("hold_ns > %llu", (unsigned long long)ns);
		r = session_trigger(c->session, *t, "lock_released", filter, &err);
	}
	return r ? command_fail(EXIT_CANNOT, "%s", err.text) : EXIT_DONE;
}

static const char *how_it_ended(const struct capture *c, int signal)
{
	static char text[64];

	if (signal)
		return "stopped by the user";
	if (c->daemon_died)
		return "LTTng's session daemon ended";
	if (c->command && !c->child && WIFSIGNALED(c->status))
		snprintf(text, sizeof(text), "the command was killed by signal %d",
			 WTERMSIG(c->status));
	else if (c->command && !c->child)
		snprintf(text, sizeof(text), "the command exited with status %d",
			 WEXITSTATUS(c->status));
	else
		return c->duration_ns ? "for the time asked for" : "the process ended";
	return text;
}

/* The end of a flight: what failed without a word is worth a snapshot, too. */
static void last_snapshot(struct capture *c)
{
	bool wanted = !c->triggers;

	if (!c->snapshot || c->daemon_died)
		return;
	g_usleep(SETTLE_US);
	for (char **t = c->triggers; t && *t; t++)
		wanted |= !strcmp(*t, "failed");
	if (wanted && c->command && !c->child && c->status && !output_snapshots(&c->folder))
		snapshot_now(c, "taken because the command failed");
}

static int finish(struct capture *c, int signal)
{
	struct session_counts counts = {0};
	struct session_error err = {""};
	char duration[WORDS_DURATION];
	uint64_t took = now_ns() - c->begin_ns;
	int code = EXIT_DONE;
	unsigned n;

	last_snapshot(c);
	if (c->daemon_died || session_stop(c->session, &counts, &err))
		code = command_fail(EXIT_CANNOT, "%s: what was recorded until then is in %s",
				    c->daemon_died ? "LTTng's session daemon ended" : err.text,
				    c->output);
	n = output_snapshots(&c->folder);
	if (c->shown)
		fputs("\r\033[K", stderr);
	if (!output_bytes(&c->folder)) {
		if (c->snapshot && !c->plain && code == EXIT_DONE) {
			if (!c->quiet)
				fprintf(stderr,
					"bqlstat: no snapshot: no trigger fired in %s (%s)\n",
					words_duration(duration, took), how_it_ended(c, signal));
			return code;
		}
		return c->plain ? EXIT_CANNOT
				: command_fail(EXIT_CANNOT,
					       "nothing was recorded: no QEMU with loadvm's "
					       "tracepoints ran here (%s)",
					       how_it_ended(c, signal));
	}
	if (!c->quiet || counts.discarded || counts.lost)
		fprintf(stderr,
			"bqlstat: %s: %.1f MB in %s, %s; events discarded %llu, packets lost "
			"%llu\n",
			c->output, output_bytes(&c->folder) / 1e6, words_duration(duration, took),
			how_it_ended(c, signal), (unsigned long long)counts.discarded,
			(unsigned long long)counts.lost);
	if (c->snapshot && !c->quiet)
		fprintf(stderr, "bqlstat: %u snapshot%s\n", n, n == 1 ? "" : "s");
	if (counts.discarded)
		fprintf(stderr, "bqlstat: buffers were too small for this load: try --buffer\n");
	return code;
}

static int capture(struct capture *c)
{
	struct session_opts opts = {
		.snapshot = c->snapshot, .nested = c->nested, .buffer_bytes = 8 << 20};
	struct session_error err;
	sigset_t signals;
	int code, signal;

	if (c->buffer)
		opts.buffer_bytes = g_ascii_strtoull(c->buffer, NULL, 10) << 20;
	if (session_possible(&err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	code = c->command ? refuse_plain(c) : find_process(c);
	if (code == EXIT_DONE && c->command)
		code = find_user(c);
	if (code != EXIT_DONE)
		return code;
	if (output_prepare(&c->folder, c->output, c->uid, c->gid, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &c->mask);
	c->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	opts.uid = c->uid;
	opts.gid = c->gid;
	opts.home = c->home;
	opts.output = c->folder.written;
	if (session_begin(&opts, &c->session, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	if (session_buffer_bytes(c->session) < opts.buffer_bytes)
		command_fail(0,
			     "shared memory is short: buffers of %llu KiB a CPU for the lock's "
			     "events",
			     (unsigned long long)session_buffer_bytes(c->session) >> 10);
	if (c->snapshot && add_triggers(c))
		return EXIT_CANNOT;
	c->begin_ns = now_ns();
	if (c->command && start_command(c))
		return EXIT_CANNOT;
	/* Scripts wait for this line. */
	if (!c->quiet)
		fprintf(stderr, "bqlstat: capturing process %d\n", c->command ? c->child : c->pid);
	signal = watch(c);
	end_command(c, signal);
	return finish(c, signal);
}

/* --- options -----------------------------------------------------------------------------------
 */

static bool understand(struct capture *c, const char **wrong)
{
	guint64 mib;
	uint64_t ns;

	*wrong = NULL;
	if (!c->output)
		*wrong = "say where to put it: -o DIR";
	else if (!c->pid == !c->command)
		*wrong = "say what to record: -- loadvm --lttng -- QEMU..., or -p PID";
	else if (c->pid < 0)
		*wrong = "-p wants a process id";
	else if (c->duration &&
		 (!command_duration(c->duration, 1000000000, &c->duration_ns) || !c->duration_ns))
		*wrong = "-d wants a duration such as 10, 500ms or 2m";
	else if (c->triggers && !c->snapshot)
		*wrong = "--trigger says when to take a snapshot: it needs --snapshot";
	else if (c->buffer && (!g_ascii_string_to_unsigned(c->buffer, 10, 1, 1024, &mib, NULL) ||
			       (mib & (mib - 1))))
		*wrong = "--buffer wants a power of two of MiB, 1 to 1024";
	for (char **t = c->triggers; t && *t && !*wrong; t++)
		if (strcmp(*t, "failed") && (!g_str_has_prefix(*t, "hold>") ||
					     !command_duration(*t + strlen("hold>"), 1000000, &ns)))
			*wrong = "--trigger wants `failed`, or `hold>` and a duration such as 10ms";
	return !*wrong;
}

static int lttng(const struct command *command, int argc, char **argv)
{
	struct capture c = {.signal_fd = -1, .pid_fd = -1, .status = -1};
	const GOptionEntry entries[] = {
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &c.output,
		 "the folder for the trace, new or empty", "DIR"},
		{"pid", 'p', 0, G_OPTION_ARG_INT, &c.pid, "a QEMU that runs under `loadvm --lttng`",
		 "PID"},
		{"duration", 'd', 0, G_OPTION_ARG_STRING, &c.duration,
		 "stop after so many seconds (or 500ms, 2m)", "SECS"},
		{"snapshot", 's', 0, G_OPTION_ARG_NONE, &c.snapshot,
		 "flight recorder: keep the last events, write them when something happens", NULL},
		{"trigger", 't', 0, G_OPTION_ARG_STRING_ARRAY, &c.triggers,
		 "when: `failed` (the migration), `hold>DUR`; may be repeated (both, 100ms)",
		 "WHEN"},
		{"nested", 'n', 0, G_OPTION_ARG_NONE, &c.nested,
		 "also each structure within a device's state", NULL},
		{"buffer", 'b', 0, G_OPTION_ARG_STRING, &c.buffer,
		 "memory for the lock's events, MiB a CPU (8)", "MIB"},
		{"user", 'u', 0, G_OPTION_ARG_STRING, &c.user,
		 "as root: whose session daemon it is ($SUDO_USER or nobody)", "USER"},
		{"quiet", 'q', 0, G_OPTION_ARG_NONE, &c.quiet, "say nothing when all is well",
		 NULL},
		{},
	};
	struct session_error err;
	const char *wrong;
	int code;

	/* Everything after -- is the command's. */
	for (int i = 1; i < argc && !c.command; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		c.command = i + 1 < argc ? argv + i + 1 : NULL;
		argc = i;
		argv[i] = NULL;
	}
	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (argc != 2 || strcmp(argv[1], "capture"))
		code = command_fail(EXIT_USAGE, "`bqlstat lttng` knows `capture`: `bqlstat help "
						"lttng` tells how");
	else if (!understand(&c, &wrong))
		code = command_fail(EXIT_USAGE, "%s: `bqlstat help lttng` tells how", wrong);
	else
		code = capture(&c);

	if (c.child && code != EXIT_DONE)
		kill(c.child, SIGTERM);
	session_free(c.session);
	if (output_deliver(&c.folder, &err))
		code = command_fail(EXIT_CANNOT, "%s", err.text);
	if (c.signal_fd >= 0)
		close(c.signal_fd);
	if (c.pid_fd >= 0)
		close(c.pid_fd);
	g_strfreev(c.triggers);
	g_free(c.output);
	g_free(c.duration);
	g_free(c.buffer);
	g_free(c.user);
	g_free(c.home);
	return code;
}

const struct command command_lttng = {
	.name = "lttng",
	.does = "record the tracepoints that loadvm adds, with LTTng",
	.usage = "capture -o DIR [--snapshot] -- loadvm --lttng -- QEMU... | -p PID",
	.help = "Records what a QEMU under `loadvm --lttng` says of itself: each taking of the "
		"lock, the\n"
		"sections and devices of an incoming migration, its waits, states and threads. "
		"Needs no\n"
		"privilege, and costs about 0.2 us an event. Begins and ends an LTTng session and "
		"its daemon\n"
		"in a private place; DIR is a CTF trace for babeltrace2, Trace Compass and the "
		"reports here.\n\n"
		"Ends when the command or process ends, when the time is up, or on Ctrl-C, which "
		"ends the\n"
		"command, too. With --snapshot nothing is written until a trigger fires, or "
		"SIGUSR1 comes.",
	.run = lttng,
};
