/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracer and QEMU starting together: bqlstat there before QEMU's first instruction, killed while it
 * starts one, and attaching while loadvm patches. Whatever happens, QEMU comes up, whole, and VMs
 * arrive at it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "probes/tracer.h"
#include "tests/scenarios/coexist.h"

enum {
	KILLS = 4,
	KILL_WITHIN_MS = 600, /* within which it attaches, and lets the QEMU run */
	QUERIES = 100,
	STARTS = 4,
	DELAY_MS = 12, /* within which the detours go in */
};

struct cell {
	const char *version;
	bool detoured;
};

static const char *const io_free[] = {"loadvm", "--policy", "io-free", "--", NULL};

/* argv from `launcher`'s words; its first is a program of this build. */
static void add_launcher(GPtrArray *argv, const char *const *launcher)
{
	g_ptr_array_add(argv, (char *)lab_program(launcher[0]));
	while (*++launcher)
		g_ptr_array_add(argv, (char *)*launcher);
}

/* The child that runs the same program as its parent, or another one; 0: none does. */
static pid_t child_of(pid_t parent, bool same)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", parent, parent);
	g_autofree char *own = g_strdup_printf("/proc/%d/exe", parent);
	g_autofree char *program = g_file_read_link(own, NULL), *children = NULL;
	g_auto(GStrv) pids = NULL;

	g_assert_true(g_file_get_contents(path, &children, NULL, NULL));
	pids = g_strsplit(children, " ", -1);
	for (char **child = pids; *child && **child; child++) {
		g_autofree char *exe = g_strdup_printf("/proc/%s/exe", *child);
		g_autofree char *runs = g_file_read_link(exe, NULL);
		g_autofree char *named = g_strdup_printf("/proc/%s/comm", *child), *name = NULL;

		/* What holds the probes is in no group of bqlstat's, and ends in its own time. */
		if (g_file_get_contents(named, &name, NULL, NULL) &&
		    strcmp(name, "uprobe-keeper\n") && !g_strcmp0(program, runs) == same)
			return atoi(*child);
	}
	return 0;
}

static void expect_arrival(struct lab_pair *pair)
{
	g_autoptr(GError) error = NULL;
	struct lab_migration result;

	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_pair_wait(pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_true(lab_vm_alive(lab_pair_destination(pair), ALIVE_MS, &error));
	g_assert_no_error(error);
	lab_migration_clear(&result);
}

/* ---- bqlstat first ---- */

static unsigned marks_of(const struct run *run, enum phase phase)
{
	unsigned n = 0;

	for (unsigned i = 0; i < run->marks->len; i++)
		n += g_array_index(run->marks, struct mark, i).in.phase == phase;
	return n;
}

static uint64_t acquired_by(const struct run *run, enum role role)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (g_array_index(run->threads, struct thread, u->thread).role == role)
			n += u->acquired;
	}
	return n;
}

static void test_before_exec(const void *data)
{
	const struct cell *cell = data;
	g_autofree char *file = g_strdup_printf("%s/before.bql", lab_tmpdir());
	const char *const record[] = {"bqlstat", "record", "-o", file, "--", NULL};
	g_autoptr(GPtrArray) launcher = g_ptr_array_new();
	struct lab_pair_options options = {
		.vm = {.version = cell->version, .devices = LAB_DEVICES_DOZEN, .guest = true},
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *said = NULL;
	struct store_error err;
	struct store *store;
	struct lab_vm *vm;
	struct text *text;
	size_t points;
	struct run *run;
	int status;

	add_launcher(launcher, record);
	if (cell->detoured)
		add_launcher(launcher, io_free);
	g_ptr_array_add(launcher, NULL);
	options.destination_launcher = (const char *const *)launcher->pdata;
	pair = lab_pair_new(&options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	vm = lab_pair_destination(pair);
	text = text_open(child_of(lab_vm_pid(vm), false));
	/* Neither half has kept the other from going in. */
	said = lab_vm_stderr(vm);
	expect_detours(text, said, cell->detoured);
	g_assert_cmpuint(text_breakpoints(text, &points), >, 8);
	expect_arrival(pair);
	/* Each of them takes the lock in the main loop. */
	for (int i = 0; i < QUERIES; i++)
		g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
	expect_detours(text, said, cell->detoured);
	text_free(text);

	g_assert_true(lab_vm_quit(vm, BQLSTAT_MS, &status, &error));
	g_assert_no_error(error);
	expect_status(status, 0, said);

	g_assert_cmpint(store_open(file, &store, &err), ==, 0);
	run = load_run(store, 1);
	check_run(run);
	g_assert_cmpstr(run->ended, ==, "until the QEMU exited with status 0");
	g_test_message("%" G_GUINT64_FORMAT " acquisitions, %u by the incoming thread",
		       run_acquired(run), (unsigned)acquired_by(run, ROLE_INCOMING));
	g_assert_cmpuint(run_acquired(run), >, QUERIES);
	g_assert_cmpint(acquired_by(run, ROLE_INCOMING) > 0, ==, cell->detoured);
	g_assert_cmpuint(marks_of(run, PHASE_RAM), >, 0);
	g_assert_cmpuint(marks_of(run, PHASE_DEVICE), >, 12);
	g_assert_cmpuint(marks_of(run, PHASE_ACTIVATE), >, 0);
	g_assert_cmpuint(marks_of(run, PHASE_START), >, 0);
	run_free(run);
	store_close(store);
	unlink(file);
}

/* ---- bqlstat killed while it starts a QEMU ---- */

/* Whether a QEMU answers there; it is told to quit. */
static bool said_goodbye(const char *path)
{
	static const char quit[] = "{'execute': 'qmp_capabilities'} {'execute': 'quit'}\n";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 10};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char greeting[512] = "";
	bool ok;

	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ok = !connect(fd, (struct sockaddr *)&address, sizeof(address));
	if (ok) {
		g_assert_cmpint(read(fd, greeting, sizeof(greeting) - 1), >, 0);
		g_assert_nonnull(strstr(greeting, "QMP"));
		g_assert_cmpint(write(fd, quit, strlen(quit)), ==, strlen(quit));
		/* Its answers must have been sent, else closing would take the commands back. */
		while (read(fd, greeting, sizeof(greeting)) > 0)
			;
	}
	close(fd);
	return ok;
}

/*
 * A child of a stopped bqlstat that is itself still bqlstat measures the probes' cost, or is about
 * to become the command. It ends with its parent, by whichever comes first: signal, pipe or its own
 * notice.
 */
static bool is_bqlstats(int status)
{
	return WIFEXITED(status) || status == SIGKILL || status == SIGPIPE;
}

/* What the killed bqlstat leaves in its group: nothing, or a QEMU that works. */
static bool expect_working(pid_t group, pid_t own_child, const char *qmp)
{
	uint64_t deadline = lab_now_ns() + 20000 * MS;
	bool worked = false;
	int status = -1;

	for (;;) {
		pid_t pid = waitpid(-group, &status, WNOHANG);

		if (pid < 0)
			return worked;
		if (pid > 0 && !(pid == own_child && is_bqlstats(status)))
			g_assert_cmpint(status, ==, 0);
		if (pid > 0)
			continue;
		worked = worked || said_goodbye(qmp);
		g_assert_cmpuint(lab_now_ns(), <, deadline);
		g_usleep(5000);
	}
}

static void test_killed(const void *data)
{
	const struct cell *cell = data;
	g_autofree char *file = g_strdup_printf("%s/killed.bql", lab_tmpdir());
	g_autofree char *qmp = g_strdup_printf("%s/killed.qmp", lab_tmpdir());
	g_autofree char *socket = g_strdup_printf("unix:%s,server=on,wait=off", qmp);
	const char *const record[] = {"bqlstat", "record", "-q", "-o", file, "--", NULL};
	const char *why, *binary = lab_qemu_path(cell->version, &why);
	const char *const qemu[] = {binary,	   "-accel", "tcg",  "-display", "none",
				    "-nodefaults", "-S",     "-qmp", socket,	 NULL};
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	unsigned worked = 0;

	if (!binary) {
		g_test_skip(why);
		return;
	}
	own_moments();
	/* Orphans become ours, so that their end can be seen. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	add_launcher(argv, record);
	if (cell->detoured)
		add_launcher(argv, io_free);
	for (const char *const *word = qemu; *word; word++)
		g_ptr_array_add(argv, (char *)*word);
	g_ptr_array_add(argv, NULL);

	/* A busy machine takes longer until it lets the QEMU run. */
	for (int i = 0; i < KILLS || (!worked && i < 4 * KILLS); i++) {
		/* Evenly over the whole time, so that each part of it has its turn. */
		unsigned after_ms = (i + g_test_rand_double()) * KILL_WITHIN_MS / KILLS;
		g_autoptr(GError) error = NULL;
		struct lab_process *bqlstat =
			lab_process_new((const char *const *)argv->pdata, NULL, &error);
		pid_t group = lab_process_pid(bqlstat);
		siginfo_t info;
		g_autofree char *said = NULL;
		pid_t own_child;
		int status;

		g_assert_no_error(error);
		g_usleep(after_ms * 1000);
		kill(group, SIGSTOP);
		g_assert_cmpint(waitid(P_PID, group, &info, WSTOPPED | WEXITED | WNOWAIT), ==, 0);
		own_child = child_of(group, true);
		kill(group, SIGKILL);
		g_assert_true(lab_process_wait(bqlstat, BQLSTAT_MS, &status, &error));
		g_assert_no_error(error);
		said = lab_process_stderr(bqlstat);
		expect_status(status, 128 + SIGKILL, said);
		worked += expect_working(group, own_child, qmp);
		lab_process_free(bqlstat);
		unlink(qmp);
	}
	g_test_message("a QEMU was left %u times, and worked", worked);
	g_assert_cmpuint(worked, >, 0);
	unlink(file);
}

/* ---- attaching while the detours go in ---- */

/*
 * bqlstat itself takes longer to get ready than QEMU to start; so this is its tracer, ready before
 * the QEMU is, in a thread that waits for QEMU's code to appear.
 */
struct attacher {
	struct tracer *tracer;
	const char *pid_file;
	unsigned delay_ms;
	int stop;
	pid_t pid;
	int target;
	unsigned detours_before, detours_after; /* its attaching */
};

static pid_t read_pid(const char *path)
{
	g_autofree char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) && strchr(text, '\n') ? atoi(text) : 0;
}

static void *attach(void *opaque)
{
	struct attacher *a = opaque;
	struct tracer_error err = {""};
	struct seam_map *map = NULL;
	struct seam_error none;
	struct text *text;

	while (!g_atomic_int_get(&a->stop)) {
		a->pid = a->pid ? a->pid : read_pid(a->pid_file);
		if (a->pid && !seam_map_open_pid(a->pid, &map, NULL, &none))
			break;
	}
	if (!map)
		return NULL;
	seam_map_free(map);
	text = text_open(a->pid);
	g_usleep(a->delay_ms * 1000);
	a->detours_before = text_detours(text);
	a->target = tracer_add(a->tracer, a->pid, &err);
	a->detours_after = text_detours(text);
	text_free(text);
	if (a->target < 0)
		g_error("%s", err.text);
	return NULL;
}

/* Where the tracer says that it has a probe, there is one. */
static void expect_attached(const struct text *text, struct tracer *tracer, int target)
{
	const struct tracer_point *points;
	size_t count = tracer_points(tracer, target, &points), n = 0;

	for (size_t i = 0; i < count; i++) {
		uint8_t live;

		text_read(text, points[i].vaddr, &live, 1);
		g_assert_cmphex(live, ==, points[i].attached ? INT3 : live);
		n += points[i].attached;
	}
	g_assert_cmpuint(n, >, 8);
}

static void start_under_attach(const char *version, struct attacher *a)
{
	const char *launcher[] = {"/bin/sh",
				  "-c",
				  "echo $$ > \"$0\"; exec \"$@\"",
				  a->pid_file,
				  lab_program("loadvm"),
				  "--policy",
				  "io-free",
				  "--",
				  NULL};
	const struct lab_pair_options options = {
		.vm = {.version = version, .guest = true},
		.destination_launcher = launcher,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *said = NULL;
	GThread *thread = g_thread_new("attach", attach, a);
	struct text *text;

	pair = lab_pair_new(&options, &error);
	if (!pair)
		g_atomic_int_set(&a->stop, 1);
	g_thread_join(thread);
	g_assert_no_error(error);
	g_assert_cmpint(a->pid, ==, lab_vm_pid(lab_pair_destination(pair)));

	said = lab_vm_stderr(lab_pair_destination(pair));
	text = text_open(a->pid);
	expect_detours(text, said, true);
	/* And none of the probes was lost to a detour that went in at the same time. */
	expect_attached(text, a->tracer, a->target);
	expect_arrival(pair);
	tracer_remove(a->tracer, a->target);
	text_unchanged(text);
	text_free(text);
	unlink(a->pid_file);
}

static void test_while_detours(const void *version)
{
	g_autofree char *pid_file = g_strdup_printf("%s/pid", lab_tmpdir());
	const struct tracer_opts opts = {.threshold_ns = MS};
	struct tracer_error err;
	struct tracer *tracer;
	const char *why;

	if (!lab_qemu_path(version, &why)) {
		g_test_skip(why);
		return;
	}
	own_moments();
	if (tracer_new(&opts, &tracer, &err))
		g_error("%s", err.text);
	for (int i = 0; i < STARTS; i++) {
		struct attacher a = {
			.tracer = tracer,
			.pid_file = pid_file,
			.delay_ms = (i + g_test_rand_double()) * DELAY_MS / STARTS,
		};

		start_under_attach(version, &a);
		g_test_message("%u ms after QEMU was mapped: %u detours before attaching, %u after",
			       a.delay_ms, a.detours_before, a.detours_after);
	}
	tracer_free(tracer);
}

/* ---- attaching to code that is writable ---- */

/* Stop every thread of it; threads that start meanwhile are missed, an idle QEMU starts none. */
static void stop_all(pid_t pid, unsigned request)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/task", pid);
	GDir *dir = g_dir_open(folder, 0, NULL);
	const char *name;

	while ((name = g_dir_read_name(dir))) {
		pid_t tid = atoi(name);

		if (request == PTRACE_DETACH) {
			g_assert_cmpint(ptrace(PTRACE_DETACH, tid, NULL, NULL), ==, 0);
			continue;
		}
		g_assert_cmpint(ptrace(PTRACE_SEIZE, tid, NULL, NULL), ==, 0);
		g_assert_cmpint(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), ==, 0);
		g_assert_cmpint(waitpid(tid, NULL, __WALL), ==, tid);
	}
	g_dir_close(dir);
}

/* Let a stopped main thread, which sleeps in a system call, make another one. */
static void change_protection(pid_t pid, uint64_t page, int protection)
{
	struct user_regs_struct was, regs;

	g_assert_cmpint(ptrace(PTRACE_GETREGS, pid, NULL, &was), ==, 0);
	regs = was;
	regs.rip -= 2; /* the syscall instruction */
	regs.rax = SYS_mprotect;
	regs.orig_rax = -1;
	regs.rdi = page;
	regs.rsi = 4096;
	regs.rdx = protection;
	g_assert_cmpint(ptrace(PTRACE_SETREGS, pid, NULL, &regs), ==, 0);
	g_assert_cmpint(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), ==, 0);
	g_assert_cmpint(waitpid(pid, NULL, __WALL), ==, pid);
	g_assert_cmpint(ptrace(PTRACE_GETREGS, pid, NULL, &regs), ==, 0);
	g_assert_cmpint(regs.rax, ==, 0);
	g_assert_cmpint(ptrace(PTRACE_SETREGS, pid, NULL, &was), ==, 0);
}

/* The moment at which a detour goes in, held still: the kernel then leaves breakpoints out. */
static void test_writable(const void *version)
{
	const struct lab_vm_options options = {.version = version, .machine = "none"};
	const struct tracer_opts opts = {.threshold_ns = MS};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	struct tracer_error err = {""};
	struct tracer *tracer;
	struct text *text;
	size_t points;
	uint64_t page;
	pid_t pid;
	int target;

	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	if (tracer_new(&opts, &tracer, &err))
		g_error("%s", err.text);
	pid = lab_vm_pid(vm);
	text = text_open(pid);
	page = (text->bias + seam_map_points(text->map, &points)->vaddr) & -4096ull;
	stop_all(pid, PTRACE_SEIZE);
	change_protection(pid, page, PROT_READ | PROT_WRITE);
	target = tracer_add(tracer, pid, &err);
	g_test_message("%s", err.text);
	g_assert_cmpint(target, ==, -EAGAIN);
	change_protection(pid, page, PROT_READ | PROT_EXEC);
	text_unchanged(text);
	stop_all(pid, PTRACE_DETACH);

	target = tracer_add(tracer, pid, &err);
	g_assert_cmpint(target, >=, 0);
	expect_attached(text, tracer, target);
	tracer_remove(tracer, target);
	text_unchanged(text);
	text_free(text);
	tracer_free(tracer);
	g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};
	static const struct cell stock[] = {{"7.2", false}, {"10.0", false}, {"11.1", false}};
	static const struct cell detoured[] = {{"7.2", true}, {"10.0", true}, {"11.1", true}};

	g_test_init(&argc, &argv, NULL);
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		const struct {
			const char *name;
			const void *data;
			void (*fn)(const void *);
		} tests[] = {
			{"before-exec/stock", &stock[v], test_before_exec},
			{"before-exec/io-free", &detoured[v], test_before_exec},
			/* With loadvm on the way, but for one. */
			{"killed", v == 1 ? &stock[v] : &detoured[v], test_killed},
			{"while-detours", versions[v], test_while_detours},
			{"writable", versions[v], test_writable},
		};

		for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
			g_autofree char *path =
				g_strdup_printf("/coexist-start/%s/%s", versions[v], tests[i].name);

			g_test_add_data_func(path, tests[i].data, tests[i].fn);
		}
	}
	return g_test_run();
}
