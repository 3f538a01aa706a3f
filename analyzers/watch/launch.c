/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Following a command to its QEMU. Whatever happens to us meanwhile, the command goes on: a tracer
 * that dies lets its tracees run (no PTRACE_O_EXITKILL).
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/watch/launch.h"

#define OPTIONS                                                                                    \
	(PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |     \
	 PTRACE_O_TRACESYSGOOD)

struct tracee {
	pid_t pid;
	/* It runs ld.so with a program as argument: that is mapped later, by ld.so itself. */
	bool loader;
	bool in_syscall;
};

struct hunt {
	GArray *tracees;
	launch_is_it is_it;
	void *opaque;
	pid_t found;
	pid_t child;
	int child_status; /* once it has ended */
	bool child_ended;
};

static struct tracee *tracee_of(struct hunt *h, pid_t pid)
{
	struct tracee fresh = {.pid = pid};

	for (guint i = 0; i < h->tracees->len; i++) {
		struct tracee *t = &g_array_index(h->tracees, struct tracee, i);

		if (t->pid == pid)
			return t;
	}
	g_array_append_val(h->tracees, fresh);
	return &g_array_index(h->tracees, struct tracee, h->tracees->len - 1);
}

static void drop(struct hunt *h, pid_t pid)
{
	for (guint i = 0; i < h->tracees->len; i++)
		if (g_array_index(h->tracees, struct tracee, i).pid == pid)
			g_array_remove_index_fast(h->tracees, i--);
}

static bool runs_loader(pid_t pid)
{
	g_autofree char *link = g_strdup_printf("/proc/%d/exe", pid);
	g_autofree char *exe = g_file_read_link(link, NULL);
	g_autofree char *name = exe ? g_path_get_basename(exe) : NULL;

	return name && (g_str_has_prefix(name, "ld-") || g_str_has_prefix(name, "ld.so") ||
			g_str_has_prefix(name, "ld64"));
}

static bool just_mapped(struct tracee *t)
{
	struct user_regs_struct regs;

	t->in_syscall = !t->in_syscall;
	return !t->in_syscall && !ptrace(PTRACE_GETREGS, t->pid, NULL, &regs) &&
	       regs.orig_rax == SYS_mmap;
}

static void go_on(const struct tracee *t, int signal)
{
	ptrace(t->loader ? PTRACE_SYSCALL : PTRACE_CONT, t->pid, NULL, (void *)(long)signal);
}

/* A child that was just made is ours, too, long before its first stop is heard of. */
static void adopt(struct hunt *h, pid_t parent, int event)
{
	unsigned long child;

	if (event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK &&
	    event != PTRACE_EVENT_CLONE)
		return;
	if (!ptrace(PTRACE_GETEVENTMSG, parent, NULL, &child))
		tracee_of(h, child);
}

/* One stop of one tracee. It goes on unless it is the one. */
static void stopped(struct hunt *h, pid_t pid, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;
	bool look = false;
	struct tracee *t;

	adopt(h, pid, event);
	t = tracee_of(h, pid); /* after what may have moved it */
	if (event == PTRACE_EVENT_EXEC) {
		t->loader = runs_loader(pid);
		t->in_syscall = true; /* execve's own exit comes next */
		look = true;
	} else if (event == PTRACE_EVENT_STOP) {
		/* A new thread or process, or a group stop, which must be left as it is. */
		if (signal != SIGTRAP) {
			ptrace(PTRACE_LISTEN, pid, NULL, NULL);
			return;
		}
	} else if (signal == (SIGTRAP | 0x80)) {
		look = just_mapped(t);
	} else if (!event) {
		go_on(t, signal);
		return;
	}
	if (look && h->is_it(h->opaque, pid) > 0) {
		h->found = pid;
		return;
	}
	go_on(t, 0);
}

/* Everything that has happened so far. */
static void look(struct hunt *h)
{
	int status;
	pid_t pid;

	while (!h->found && (pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (WIFSTOPPED(status)) {
			stopped(h, pid, status);
			continue;
		}
		drop(h, pid);
		if (pid == h->child) {
			h->child_ended = true;
			h->child_status = status;
		}
	}
}

/* Only a stopped tracee can be let go. Those that are nobody's tracee any more are forgotten. */
static void interrupt(struct hunt *h)
{
	for (guint i = 0; i < h->tracees->len; i++) {
		pid_t pid = g_array_index(h->tracees, struct tracee, i).pid;

		if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
			g_array_remove_index_fast(h->tracees, i--);
	}
}

/*
 * Let everyone go, the found one last of all its family. In whatever order they stop: who waits in
 * vfork() stops only when its child has been let go.
 */
static void let_go(struct hunt *h)
{
	int status, signal;
	pid_t pid;

	drop(h, h->found);
	interrupt(h);
	while (h->tracees->len && (pid = waitpid(-1, &status, __WALL)) > 0) {
		drop(h, pid);
		if (!WIFSTOPPED(status))
			continue;
		adopt(h, pid, status >> 16);
		interrupt(h);
		signal = 0;
		if (!(status >> 16) && WSTOPSIG(status) != (SIGTRAP | 0x80))
			signal = WSTOPSIG(status);
		ptrace(PTRACE_DETACH, pid, NULL, (void *)(long)signal);
	}
	if (h->found)
		ptrace(PTRACE_DETACH, h->found, NULL, NULL);
}

/* In the child: wait to be seized, then become the command. */
static void become(char **argv, const sigset_t *mask, int go, int failure)
{
	char byte;
	int error;

	if (read(go, &byte, 1) != 1)
		_exit(127);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	error = errno;
	if (write(failure, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static int fail(struct launch_error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

static int ended(const struct hunt *h, const char *name, int failure, struct launch_error *err)
{
	int error = 0, status = h->child_status;

	if (read(failure, &error, sizeof(error)) == sizeof(error))
		return fail(err, -error, "cannot start %s: %s", name, strerror(error));
	if (WIFSIGNALED(status))
		return fail(err, -ECHILD, "%s was killed by signal %d before a QEMU was running",
			    name, WTERMSIG(status));
	return fail(err, -ECHILD, "%s ended with status %d and no QEMU was started", name,
		    WEXITSTATUS(status));
}

/* Wait for the next event. -EINTR: the user wants to stop. */
static int wait_event(int signal_fd)
{
	struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
	struct signalfd_siginfo info;

	if (poll(&fd, 1, 200) > 0 && read(signal_fd, &info, sizeof(info)) == sizeof(info) &&
	    info.ssi_signo != SIGCHLD)
		return -EINTR;
	return 0;
}

int launch(char **argv, int signal_fd, const void *mask, launch_is_it is_it, void *opaque,
	   pid_t *pid, pid_t *child, struct launch_error *err)
{
	struct hunt h = {.is_it = is_it, .opaque = opaque};
	int go[2] = {-1, -1}, failure[2] = {-1, -1}, ret = 0;

	h.tracees = g_array_new(FALSE, FALSE, sizeof(struct tracee));
	*pid = *child = 0;
	if (pipe2(go, O_CLOEXEC) || pipe2(failure, O_CLOEXEC)) {
		ret = fail(err, -errno, "cannot make a pipe: %s", strerror(errno));
		goto cleanup;
	}
	h.child = fork();
	if (!h.child) {
		close(go[1]);
		become(argv, mask, go[0], failure[1]);
	}
	close(failure[1]);
	failure[1] = -1;
	if (h.child < 0) {
		ret = fail(err, -errno, "cannot fork: %s", strerror(errno));
		goto cleanup;
	}
	if (ptrace(PTRACE_SEIZE, h.child, NULL, (void *)OPTIONS)) {
		ret = fail(err, -errno, "cannot trace %s: %s: start it by itself and use -p",
			   argv[0], strerror(errno));
		kill(h.child, SIGKILL);
		waitpid(h.child, NULL, 0);
		goto cleanup;
	}
	tracee_of(&h, h.child);
	if (write(go[1], "g", 1) != 1) {
		ret = fail(err, -errno, "cannot start %s", argv[0]);
		goto cleanup;
	}
	while (!h.found && !h.child_ended && !ret) {
		ret = wait_event(signal_fd);
		look(&h);
	}
	if (ret)
		fail(err, ret, "stopped before %s had started a QEMU", argv[0]);
	else if (!h.found)
		ret = ended(&h, argv[0], failure[0], err);
	*pid = h.found;
	*child = h.child_ended ? 0 : h.child;

cleanup:
	let_go(&h);
	g_array_unref(h.tracees);
	for (int i = 0; i < 2; i++) {
		if (go[i] >= 0)
			close(go[i]);
		if (failure[i] >= 0)
			close(failure[i]);
	}
	return ret;
}

bool launch_daemonizes(char **command)
{
	for (char **arg = command + 1; *arg; arg++)
		if (!strcmp(*arg, "-daemonize") || !strcmp(*arg, "--daemonize"))
			return true;
	return false;
}
