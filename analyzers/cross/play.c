/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One migration, watched by everything at once. What is attached from outside is attached and
 * detached while the destination stands still, and what records all the time is cut to that window:
 * so the sources must agree to the last acquisition.
 */
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "analyzers/watch/collect.h"
#include "analyzers/cross/play.h"
#include "analyzers/lab/lab.h"
#include "analyzers/watch/session.h"

#define TIMEOUT_MS   60000
#define STOP_MS	     5000
#define AFTER_US     200000 /* the guest goes on under observation */
#define RING_BYTES   (16 << 20)
#define BUFFER_BYTES (8 << 20) /* LTTng, each CPU */

struct stage {
	const struct play_options *options;
	struct store_error *err;
	struct session *session;
	char *trace, *log; /* paths */
	struct lab_pair *pair;
	struct collector *collector;
	struct tracer *tracer;
	int target; /* the tracer's number */
	struct usdt *usdt;
	struct book_window window;
};

static int fail(struct stage *s, int code, const char *text)
{
	g_strlcpy(s->err->text, text, sizeof(s->err->text));
	return code;
}

static int fail_lab(struct stage *s, GError *error)
{
	int code = g_error_matches(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE) ? -ENOTSUP : -EIO;

	fail(s, code, error->message);
	g_error_free(error);
	return code;
}

/* ---- standing still ---- */

static bool all_stopped(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	bool all = tasks;
	struct dirent *d;

	while (all && (d = readdir(tasks))) {
		g_autofree char *file = NULL, *text = NULL;
		const char *state;

		if (*d->d_name == '.')
			continue;
		file = g_strdup_printf("%s/%s/stat", path, d->d_name);
		if (!g_file_get_contents(file, &text, NULL, NULL))
			continue;
		state = strrchr(text, ')');
		all = state && state[2] == 'T';
	}
	if (tasks)
		closedir(tasks);
	return all;
}

static int stand_still(struct stage *s)
{
	kill(s->window.pid, SIGSTOP);
	for (int i = 0; i < STOP_MS; i++) {
		if (all_stopped(s->window.pid))
			return 0;
		g_usleep(1000);
	}
	return fail(s, -ETIME, "the destination does not stand still when told to");
}

/* ---- before and after ---- */

/* Root's session daemon would be the system-wide one. */
static int begin_session(struct stage *s)
{
	struct passwd *nobody = geteuid() ? NULL : getpwnam("nobody");
	struct session_opts opts = {.uid = geteuid(),
				    .gid = getegid(),
				    .output = s->trace,
				    .buffer_bytes = BUFFER_BYTES};
	struct session_error err;

	if (nobody) {
		opts.uid = nobody->pw_uid;
		opts.gid = nobody->pw_gid;
	}
	if (chown(s->trace, opts.uid, opts.gid))
		return fail(s, -errno, "cannot make a folder for the trace");
	if (session_possible(&err) || session_begin(&opts, &s->session, &err))
		return fail(s, -ENOTSUP, err.text);
	return 0;
}

static int begin_pair(struct stage *s)
{
	g_autofree char *home = g_strdup_printf("LTTNG_HOME=%s", session_home(s->session));
	/* A thread preempted between two probes' places makes them differ by a time slice. */
	const char *launcher[] = {"nice", "-n",	     "-20",	 lab_program("loadvm"),
				  "-q",	  "--lttng", "--policy", s->options->policy,
				  "--",	  NULL};
	const char *args[] = {"-trace", "enable=qemu_mutex_lock",
			      "-trace", "enable=qemu_mutex_locked",
			      "-trace", "enable=qemu_mutex_unlock",
			      "-D",	s->log,
			      "-msg",	"timestamp=on",
			      NULL};
	const char *none[] = {NULL}, *env[] = {home, NULL};
	const struct lab_pair_options options = {
		.vm = {.version = s->options->qemu,
		       .guest = true,
		       .cpus = 2,
		       .fill_mib = 64,
		       .devices = LAB_DEVICES_DOZEN},
		.destination_launcher = launcher,
		.destination_args = s->options->log ? args : none,
		.destination_env = env,
	};
	GError *error = NULL;

	if (!launcher[3])
		return fail(s, -ENOTSUP, "loadvm is not beside bqlstat: build or install it");
	s->pair = lab_pair_new(&options, &error);
	if (!s->pair)
		return fail_lab(s, error);
	s->window.pid = lab_vm_pid(lab_pair_destination(s->pair));
	return 0;
}

static int64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int attach(struct stage *s)
{
	struct tracer_opts opts = {.threshold_ns = s->options->long_ns, .ring_bytes = RING_BYTES};
	struct tracer_error err;
	int ret;

	s->collector = collector_new("crosscheck");
	opts.sink = collector_sink(s->collector);
	ret = tracer_new(&opts, &s->tracer, &err);
	if (ret)
		return fail(s, -ENOTSUP, err.text);
	collector_use(s->collector, s->tracer, opts.threshold_ns);
	tracer_calibrate(s->tracer);
	ret = stand_still(s);
	if (ret)
		return ret;
	if (usdt_open(s->window.pid, s->options->long_ns, &s->usdt, &err))
		return fail(s, -ENOTSUP, err.text);
	s->target = tracer_add(s->tracer, s->window.pid, &err);
	if (s->target < 0)
		return fail(s, -ENOTSUP, err.text);
	collector_begin(s->collector, s->target);
	usdt_arm(s->usdt, true);
	s->window.begin_ns = lab_now_ns();
	s->window.epoch_ns = realtime_ns() - lab_now_ns();
	kill(s->window.pid, SIGCONT);
	return 0;
}

static int migrate(struct stage *s)
{
	struct lab_migration result = {};
	GError *error = NULL;
	int ret = 0;

	if (!lab_pair_migrate(s->pair, &error) ||
	    !lab_pair_wait(s->pair, TIMEOUT_MS, &result, &error))
		return fail_lab(s, error);
	if (strcmp(result.status, "completed")) {
		g_autofree char *text =
			g_strdup_printf("the migration ended as %s: %s", result.status,
					result.destination_error ?: "no reason given");

		ret = fail(s, -EIO, text);
	}
	lab_migration_clear(&result);
	g_usleep(AFTER_US);
	tracer_poll(s->tracer);
	return ret;
}

static struct run *detach(struct stage *s)
{
	if (stand_still(s))
		return NULL;
	s->window.end_ns = lab_now_ns();
	usdt_arm(s->usdt, false);
	return collector_end(s->collector, s->target, "at the end");
}

/* The log does not say which of its lines are a thread's waking up; the uprobes do. */
static GHashTable *sites_of_sleeps(const struct run *run)
{
	GHashTable *conds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	for (unsigned i = 0; i < run->sites->len; i++) {
		const struct site *s = &g_array_index(run->sites, struct site, i);
		const char *file = s->file;

		while (g_str_has_prefix(file, "../"))
			file += 3;
		if (s->cond)
			g_hash_table_add(conds, g_strdup_printf("%s:%u", file, s->line));
	}
	return conds;
}

static int write_books(struct stage *s, const struct run *run, struct play_result *result)
{
	uint64_t limit = s->options->long_ns;
	struct session_counts counts = {};
	struct session_error err;
	struct book *book;
	int ret;

	g_strlcpy(result->qemu_version, run->qemu_version, sizeof(result->qemu_version));
	result->books[result->n++] = book_from_run(run, limit);
	result->books[result->n++] = book_from_usdt(s->usdt, limit);
	if (session_stop(s->session, &counts, &err))
		return fail(s, -EIO, err.text);
	ret = book_from_trace(s->trace, &s->window, limit, &book, s->err);
	if (ret)
		return ret;
	book->lost += counts.discarded;
	result->books[result->n++] = book;
	if (s->options->log) {
		g_autoptr(GHashTable) conds = sites_of_sleeps(run);

		ret = book_from_log(s->log, &s->window, limit, conds, &book, s->err);
		if (!ret)
			result->books[result->n++] = book;
		else if (ret == -ENOTSUP)
			g_strlcpy(result->without, s->err->text, sizeof(result->without));
	}
	return ret == -ENOTSUP ? 0 : ret;
}

/* In memory where there is such a place: a line that waits for a disk is part of a hold. */
static char *log_path(void)
{
	g_autofree char *name = g_strdup_printf("bqlstat-cross-%d.log", getpid());

	return g_build_filename(access("/dev/shm", W_OK) ? lab_tmpdir() : "/dev/shm", name, NULL);
}

int play(const struct play_options *options, struct play_result *result, struct store_error *err)
{
	static int (*const steps[])(struct stage * s) = {begin_session, begin_pair, attach,
							 migrate};
	struct stage s = {.options = options, .err = err};
	struct run *run = NULL;
	int ret;

	memset(result, 0, sizeof(*result));
	s.trace = g_dir_make_tmp("bqlstat-cross-XXXXXX", NULL);
	s.log = log_path();
	ret = s.trace ? 0 : fail(&s, -EIO, "cannot make a folder for the trace");
	for (unsigned i = 0; i < G_N_ELEMENTS(steps) && !ret; i++)
		ret = *options->stop ? fail(&s, -EINTR, "stopped") : steps[i](&s);
	if (!ret) {
		run = detach(&s);
		if (!run)
			ret = -ETIME;
	}
	if (s.window.pid)
		kill(s.window.pid, SIGCONT);
	if (!ret)
		ret = write_books(&s, run, result);
	usdt_close(s.usdt);
	tracer_free(s.tracer);
	collector_free(s.collector);
	lab_pair_free(s.pair);
	session_free(s.session);
	if (s.trace)
		session_remove(s.trace);
	unlink(s.log);
	g_free(s.trace);
	g_free(s.log);
	return ret;
}

void play_clear(struct play_result *result)
{
	for (unsigned i = 0; i < result->n; i++)
		book_free(result->books[i]);
	memset(result, 0, sizeof(*result));
}
