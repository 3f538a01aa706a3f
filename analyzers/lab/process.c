/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process that cannot outlive its test: own process group, dies with the thread that
 * started it, output in files so that it never blocks on a full pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

struct lab_process {
	char *name;
	pid_t pid;
	int pidfd;
	int in;
	bool reaped;
	int status;
	char *out_path, *err_path;
};

/* After fork only async-signal-safe calls: another thread may have held malloc's lock. */
static void become(char **argv, char **env, int in, int out, int err, int report, pid_t parent)
{
	sigset_t none;
	int code;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		goto fail;
	execvpe(argv[0], argv, env);
fail:
	code = errno;
	if (write(report, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

static int capture_file(struct lab_process *p, unsigned n, const char *suffix, char **path)
{
	*path = g_strdup_printf("%s/%u-%s.%s", lab_tmpdir(), n, p->name, suffix);
	return open(*path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

struct lab_process *lab_process_new(const char *const *argv, const char *const *env, GError **error)
{
	static int serial;
	unsigned n = g_atomic_int_add(&serial, 1);
	struct lab_process *p = g_new0(struct lab_process, 1);
	g_auto(GStrv) environment = g_get_environ();
	int in[2] = {-1, -1}, report[2] = {-1, -1}, out = -1, err = -1, code = 0;
	pid_t parent = getpid();

	p->pid = p->pidfd = p->in = -1;
	p->name = g_path_get_basename(argv[0]);
	for (; env && *env; env++) {
		g_auto(GStrv) pair = g_strsplit(*env, "=", 2);

		environment = g_environ_setenv(environment, pair[0], pair[1] ? pair[1] : "", TRUE);
	}
	out = capture_file(p, n, "out", &p->out_path);
	err = capture_file(p, n, "err", &p->err_path);
	if (out < 0 || err < 0 || pipe2(in, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) {
		code = errno;
		goto cleanup;
	}
	p->pid = fork();
	if (!p->pid)
		become((char **)argv, environment, in[0], out, err, report[1], parent);
	if (p->pid < 0) {
		code = errno;
		goto cleanup;
	}
	setpgid(p->pid, p->pid);
	p->pidfd = syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd < 0) {
		code = errno;
		goto cleanup;
	}
	p->in = g_steal_fd(&in[1]);
	close(g_steal_fd(&report[1]));
	if (read(report[0], &code, sizeof(code)) != sizeof(code))
		code = 0;
cleanup:
	for (int i = 0; i < 2; i++) {
		if (in[i] >= 0)
			close(in[i]);
		if (report[i] >= 0)
			close(report[i]);
	}
	if (out >= 0)
		close(out);
	if (err >= 0)
		close(err);
	if (!code)
		return p;
	g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot start %s: %s", argv[0],
		    g_strerror(code));
	lab_process_free(p);
	return NULL;
}

void lab_process_free(struct lab_process *p)
{
	if (!p)
		return;
	if (p->pid > 0) {
		/* The group, even when its leader has ended: a leader's own children count too. */
		kill(-p->pid, SIGKILL);
		if (!p->reaped)
			waitpid(p->pid, NULL, 0);
	}
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->in >= 0)
		close(p->in);
	if (p->out_path)
		unlink(p->out_path);
	if (p->err_path)
		unlink(p->err_path);
	g_free(p->out_path);
	g_free(p->err_path);
	g_free(p->name);
	g_free(p);
}

pid_t lab_process_pid(const struct lab_process *p)
{
	return p->pid;
}

bool lab_process_running(struct lab_process *p)
{
	int status;

	if (!p->reaped && waitpid(p->pid, &status, WNOHANG) == p->pid) {
		p->reaped = true;
		p->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	return !p->reaped;
}

bool lab_process_wait(struct lab_process *p, unsigned timeout_ms, int *status, GError **error)
{
	uint64_t deadline = deadline_in(timeout_ms);
	struct pollfd wait = {.fd = p->pidfd, .events = POLLIN};
	int left;

	while (lab_process_running(p)) {
		left = deadline_left_ms(deadline);
		if (!left) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "%s (pid %d) did not end within %u ms", p->name, p->pid,
				    timeout_ms);
			return false;
		}
		poll(&wait, 1, left);
	}
	if (status)
		*status = p->status;
	return true;
}

void lab_process_kill(struct lab_process *p, int signal)
{
	if (lab_process_running(p))
		kill(-p->pid, signal);
}

bool lab_process_write(struct lab_process *p, const char *text, GError **error)
{
	size_t left = strlen(text);

	/* A pipe holds 64 KiB at least; what the lab says to a program is a line. */
	if (write(p->in, text, left) == (ssize_t)left)
		return true;
	g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot write to %s: %s", p->name,
		    g_strerror(errno));
	return false;
}

static char *contents(const char *path)
{
	char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

char *lab_process_stdout(struct lab_process *p)
{
	return contents(p->out_path);
}

char *lab_process_stderr(struct lab_process *p)
{
	return contents(p->err_path);
}

bool lab_process_expect(struct lab_process *p, const char *text, unsigned timeout_ms,
			GError **error)
{
	uint64_t deadline = deadline_in(timeout_ms);

	for (;;) {
		/* Asked before reading, so that the last words of a program that ends are read. */
		bool running = lab_process_running(p);
		g_autofree char *out = contents(p->out_path), *err = contents(p->err_path);

		if (strstr(out, text) || strstr(err, text))
			return true;
		if (running && deadline_left_ms(deadline)) {
			g_usleep(2000);
			continue;
		}
		g_set_error(error, LAB_ERROR, running ? LAB_ERROR_TIMEOUT : LAB_ERROR_EXITED,
			    "%s did not say \"%s\" %s%s%s", p->name, text,
			    running ? "in time" : "before it ended", *err ? ": " : "",
			    g_strchomp(err));
		return false;
	}
}
