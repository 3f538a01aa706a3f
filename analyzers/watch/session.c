/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Driving lttng-sessiond and lttng.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/watch/session.h"
#include "runtime/trace/table.h"

#define NAME	      "bqlstat"
#define SYSTEM_PLACE  "/var/run/lttng" /* of root's daemon */
#define SUB_BUFFERS   8
#define CLIENT_MS     60000 /* stopping waits for all that is to be written */
#define DAEMON_MS     15000 /* until it is ready */
#define DAEMON_END_MS 10000

enum {
	LOAD_BYTES = 2 << 20, /* buffers of all but the lock's events, each CPU */
	SMALLEST = 8 * 4096,
};

struct session {
	struct session_opts opts;
	char *home;
	bool own_home;	/* remove it */
	bool own_place; /* .lttng in somebody's home was not there before */
	char *output;
	pid_t daemon; /* 0: none yet, or ended; -1 somebody else's */
	int words;    /* what the daemon says, a file in memory */
	bool created;
	uint64_t buffer_bytes;
};

__attribute__((format(printf, 3, 4))) static int fail(struct session_error *err, int code,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

/* --- processes ---------------------------------------------------------------------------------
 */

/* In the child. Only what is safe between fork and exec. */
static void become(void *opaque)
{
	const struct session *s = opaque;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Ctrl-C is bqlstat's: it ends them in order. */
	setpgid(0, 0);
	if (!geteuid() && s->opts.uid &&
	    (setgroups(0, NULL) || setgid(s->opts.gid) || setuid(s->opts.uid)))
		_exit(127);
}

/* The same, and it goes when bqlstat is killed; a change of user would forget that. */
static void become_daemon(void *opaque)
{
	const struct session *s = opaque;

	become(opaque);
	if (s->words >= 0)
		dup2(s->words, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

static char **environment(const struct session *s)
{
	return g_environ_setenv(g_get_environ(), "LTTNG_HOME", s->home, TRUE);
}

static uint64_t now_ms(void)
{
	return g_get_monotonic_time() / 1000;
}

/* Reads until its end or the time-out; then it is killed. */
static void read_all(int fd, GString *into, uint64_t until_ms, pid_t pid)
{
	char buffer[4096];
	ssize_t n = 1;

	while (n > 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ms();

		if (now >= until_ms || poll(&p, 1, until_ms - now) == 0) {
			kill(pid, SIGKILL);
			break;
		}
		n = read(fd, buffer, sizeof(buffer));
		if (n > 0)
			g_string_append_len(into, buffer, n);
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
}

/* What a program that failed said: its last "Error: ..." or "Warning: ..." line. g_free() */
static char *last_line(const char *said, const char *if_none)
{
	g_auto(GStrv) lines = g_strsplit(said, "\n", -1);
	const char *last = if_none;

	for (char **line = lines; *line; line++)
		if (**line)
			last = *line;
	return g_strdup(last);
}

static void complain(struct session_error *err, const char *what, const char *said)
{
	g_autofree char *last = last_line(said, "it did not answer in time");

	fail(err, 0, "LTTng cannot %s: %.300s", what, last);
}

/* Run `lttng ARGUMENTS...` (NULL-terminated, without "lttng"); `out` may be NULL. */
static int client(struct session *s, const char *what, const char *const *arguments, GString *out,
		  struct session_error *err)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autoptr(GString) said = g_string_new(NULL);
	g_auto(GStrv) env = environment(s);
	g_autoptr(GError) error = NULL;
	int fd_out, fd_err, status = -1;
	GPid pid;

	g_ptr_array_add(argv, (char *)"lttng");
	g_ptr_array_add(argv, (char *)"--no-sessiond");
	if (out)
		g_ptr_array_add(argv, (char *)"--mi=xml");
	for (; *arguments; arguments++)
		g_ptr_array_add(argv, (char *)*arguments);
	g_ptr_array_add(argv, NULL);
	if (!g_spawn_async_with_pipes("/", (char **)argv->pdata, env,
				      G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, become, s,
				      &pid, NULL, &fd_out, &fd_err, &error))
		return fail(err, -ENOENT, "%s", error->message);
	/* It says little on one of them while it fills the other, never a pipe's worth of both. */
	read_all(fd_out, out ? out : said, now_ms() + CLIENT_MS, pid);
	read_all(fd_err, said, now_ms() + CLIENT_MS, pid);
	close(fd_out);
	close(fd_err);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		complain(err, what, said->str);
		return -EIO;
	}
	return 0;
}

#define CLIENT(s, err, what, ...) client(s, what, (const char *[]){__VA_ARGS__, NULL}, NULL, err)

/* --- the daemon --------------------------------------------------------------------------------
 */

int session_possible(struct session_error *err)
{
	static const char *const programs[] = {"lttng", "lttng-sessiond"};

	for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
		g_autofree char *path = g_find_program_in_path(programs[i]);

		if (!path)
			return fail(err, -ENOENT,
				    "%s is not installed: `apt-get install lttng-tools`, or the "
				    "package of that name elsewhere",
				    programs[i]);
	}
	return 0;
}

static bool answers(struct session *s)
{
	struct session_error ignored;

	return !CLIENT(s, &ignored, "list", "--quiet", "list");
}

static int daemon_gave_up(struct session *s, int status, struct session_error *err)
{
	char said[4096] = "";
	g_autofree char *last = NULL, *code = g_strdup_printf("status %d", WEXITSTATUS(status));

	if (s->words >= 0 && pread(s->words, said, sizeof(said) - 1, 0) < 0)
		said[0] = 0;
	last = last_line(said, WIFEXITED(status) ? code : "killed by a signal");
	return fail(err, -ECHILD, "LTTng's session daemon ended at once: %.300s", last);
}

static int start_daemon(struct session *s, struct session_error *err)
{
	char *argv[] = {(char *)"lttng-sessiond", (char *)"--no-kernel", (char *)"--quiet", NULL};
	g_autofree char *place =
		s->opts.uid ? g_build_filename(s->home, ".lttng", NULL) : g_strdup(SYSTEM_PLACE);
	g_autofree char *apps = g_build_filename(place, "lttng-ust-sock-8", NULL);
	g_auto(GStrv) env = environment(s);
	g_autoptr(GError) error = NULL;
	uint64_t until = now_ms() + DAEMON_MS;
	int status;
	GPid pid;

	if (!g_spawn_async("/", argv, env,
			   G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
				   G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
			   become_daemon, s, &pid, &error))
		return fail(err, -ENOENT, "%s", error->message);
	s->daemon = pid;
	while (now_ms() < until) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			s->daemon = 0;
			return daemon_gave_up(s, status, err);
		}
		/* The applications' socket comes last. */
		if (!access(apps, F_OK) && answers(s))
			return 0;
		g_usleep(50000);
	}
	return fail(err, -ETIMEDOUT, "LTTng's session daemon was not ready within %d s",
		    DAEMON_MS / 1000);
}

/* Where it has died already, its consumers are left: they are in its group. */
static void end_daemon(struct session *s)
{
	uint64_t until = now_ms() + DAEMON_END_MS;

	if (s->daemon <= 0)
		return;
	kill(s->daemon, SIGTERM);
	while (!waitpid(s->daemon, NULL, WNOHANG)) {
		if (now_ms() > until)
			kill(-s->daemon, SIGKILL); /* its consumers, too */
		g_usleep(20000);
	}
	kill(-s->daemon, SIGKILL);
	s->daemon = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

void session_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int remove_below(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return ftw->level ? remove_one(path, st, type, ftw) : 0;
}

void session_clear(const char *path)
{
	nftw(path, remove_below, 16, FTW_DEPTH | FTW_PHYS);
}

static int make_home(struct session *s, struct session_error *err)
{
	g_autofree char *place = NULL;

	if (s->opts.home) {
		s->home = g_strdup(s->opts.home);
		place = g_build_filename(s->home, ".lttng", NULL);
		s->own_place = s->opts.uid && access(place, F_OK);
		return 0;
	}
	/* Not under $TMPDIR, which may be too deep for a socket's name. */
	s->home = g_strdup("/tmp/bqlstat-lttng-XXXXXX");
	if (!g_mkdtemp(s->home))
		return fail(err, -errno, "cannot make a folder in /tmp: %s", strerror(errno));
	s->own_home = true;
	if (!geteuid() && chown(s->home, s->opts.uid, s->opts.gid))
		return fail(err, -errno, "cannot give %s to user %u: %s", s->home, s->opts.uid,
			    strerror(errno));
	return 0;
}

/* --- the session -------------------------------------------------------------------------------
 */

/* Shared memory holds the buffers: no more than half of what is free. */
static uint64_t fit_buffers(uint64_t wanted)
{
	struct statvfs fs;
	uint64_t cpus = sysconf(_SC_NPROCESSORS_CONF), available;

	if (statvfs("/dev/shm", &fs))
		return wanted;
	available = (uint64_t)fs.f_bavail * fs.f_frsize / 2;
	while (wanted > SMALLEST && cpus * (wanted + LOAD_BYTES) > available)
		wanted /= 2;
	return wanted;
}

static bool is_lock(const char *event)
{
	return g_str_has_prefix(event, "lock_") && strcmp(event, "lock_handoff");
}

/* "loadvm:a,loadvm:b": by name, as this daemon crashes when asked to list an exclusion. */
static char *event_names(bool lock, bool nested)
{
	GString *names = g_string_new(NULL);

	for (unsigned i = 0; i < TRACE_IDS; i++) {
		const char *name = trace_table[i].name;

		if (is_lock(name) != lock || (!nested && g_str_has_prefix(name, "nested_")))
			continue;
		g_string_append_printf(names, "%s" G_STRINGIFY(TRACE_PROVIDER) ":%s",
				       names->len ? "," : "", name);
	}
	return g_string_free(names, FALSE);
}

/* The lock's events have a channel of their own: however many, they crowd out no others. */
static int add_channel(struct session *s, const char *name, bool lock, uint64_t bytes,
		       struct session_error *err)
{
	g_autofree char *events = event_names(lock, s->opts.nested);
	g_autofree char *size =
		g_strdup_printf("--subbuf-size=%llu", (unsigned long long)(bytes / SUB_BUFFERS));
	const char *mode = s->opts.snapshot ? "--overwrite" : "--discard";
	int r;

	r = CLIENT(s, err, "make a channel", "enable-channel", "--userspace", "--session=" NAME,
		   size, "--num-subbuf=" G_STRINGIFY(SUB_BUFFERS), mode, name);
	if (!r)
		r = CLIENT(s, err, "enable the events", "enable-event", "--userspace",
			   "--session=" NAME, "--channel", name, events);
	if (!r)
		r = CLIENT(s, err, "add context", "add-context", "--userspace", "--session=" NAME,
			   "--channel", name, "--type=vtid", "--type=vpid", "--type=procname");
	return r;
}

static int create(struct session *s, struct session_error *err)
{
	g_autofree char *output = g_strdup_printf("--output=%s", s->output);
	int r;

	if (s->opts.snapshot)
		r = CLIENT(s, err, "create a session", "create", "--snapshot", output, NAME);
	else
		r = CLIENT(s, err, "create a session", "create", output, NAME);
	if (r)
		return r;
	s->created = true;
	s->buffer_bytes = fit_buffers(s->opts.buffer_bytes);
	r = add_channel(s, "load", false, LOAD_BYTES, err);
	if (!r)
		r = add_channel(s, "lock", true, s->buffer_bytes, err);
	return r ? r : CLIENT(s, err, "start recording", "start", NAME);
}

int session_begin(const struct session_opts *opts, struct session **session,
		  struct session_error *err)
{
	struct session *s = g_new0(struct session, 1);
	int r;

	s->opts = *opts;
	s->output = g_strdup(opts->output);
	s->words = memfd_create("lttng-sessiond", MFD_CLOEXEC);
	r = make_home(s, err);
	if (!r && opts->home && answers(s))
		s->daemon = -1;
	else if (!r)
		r = start_daemon(s, err);
	if (!r)
		r = create(s, err);
	if (r) {
		session_free(s);
		s = NULL;
	}
	*session = s;
	return r;
}

const char *session_home(const struct session *s)
{
	return s->home;
}

uint64_t session_buffer_bytes(const struct session *s)
{
	return s->buffer_bytes;
}

pid_t session_daemon(const struct session *s)
{
	return s->daemon;
}

int session_trigger(struct session *s, const char *name, const char *event, const char *filter,
		    struct session_error *err)
{
	g_autofree char *label = g_strdup_printf("--name=%s", name);
	g_autofree char *rule = g_strdup_printf("--name=" G_STRINGIFY(TRACE_PROVIDER) ":%s", event);
	g_autofree char *only = filter ? g_strdup_printf("--filter=%s", filter) : NULL;
	const char *argv[16];
	unsigned n = 0;

	argv[n++] = "add-trigger";
	argv[n++] = label;
	argv[n++] = "--condition=event-rule-matches";
	argv[n++] = "--type=user";
	argv[n++] = rule;
	if (only)
		argv[n++] = only;
	argv[n++] = "--action=snapshot-session";
	argv[n++] = NAME;
	argv[n++] = "--rate-policy=once-after:1";
	argv[n] = NULL;
	return client(s, "add a trigger", argv, NULL, err);
}

int session_snapshot(struct session *s, struct session_error *err)
{
	return CLIENT(s, err, "take a snapshot", "snapshot", "record", "--session=" NAME);
}

/*
 * The sum of what stands in <tag>...</tag>. LTTng 2.13.9 adds 2^63 to a channel's count in every
 * other session that had to discard anything; what is below it is right.
 */
static uint64_t sum(const char *xml, const char *tag)
{
	g_autofree char *begin = g_strdup_printf("<%s>", tag);
	uint64_t total = 0;

	while ((xml = strstr(xml, begin))) {
		xml += strlen(begin);
		total += g_ascii_strtoull(xml, NULL, 10) & INT64_MAX;
	}
	return total;
}

int session_stop(struct session *s, struct session_counts *counts, struct session_error *err)
{
	const char *list[] = {"list", NAME, NULL};
	g_autoptr(GString) xml = g_string_new(NULL);
	int r;

	*counts = (struct session_counts){0};
	r = CLIENT(s, err, "stop recording", "stop", NAME);
	if (!r)
		r = client(s, "count what was discarded", list, xml, err);
	if (!r && !strstr(xml->str, "<discarded_events>"))
		r = fail(err, -EPROTO, "LTTng does not tell how many events were discarded");
	counts->discarded = sum(xml->str, "discarded_events");
	/* A flight recorder overwrites by design. */
	if (!s->opts.snapshot)
		counts->lost = sum(xml->str, "lost_packets");
	return r;
}

void session_free(struct session *s)
{
	struct session_error ignored;

	if (!s)
		return;
	if (s->created)
		CLIENT(s, &ignored, "destroy the session", "destroy", NAME);
	end_daemon(s);
	if (s->own_place) {
		g_autofree char *place = g_build_filename(s->home, ".lttng", NULL);

		session_remove(place);
	}
	if (s->own_home)
		session_remove(s->home);
	if (s->words >= 0)
		close(s->words);
	g_free(s->home);
	g_free(s->output);
	g_free(s);
}
