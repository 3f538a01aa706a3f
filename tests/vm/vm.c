/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm --kernel 6.1 -- COMMAND: run a command of this very machine under another kernel. Boots a
 * Debian kernel in QEMU (TCG) with this machine's root, read-only under a layer of its own; passes
 * the command's output on as it comes and ends with its exit code.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "tests/vm/vm.h"

enum { EXIT_USAGE = 2, EXIT_CANNOT = 3, EXIT_TIMEOUT = 124 };

/* What the kernels are called here, and the suite that has each. */
static const struct {
	const char *name, *suite;
} kernels[] = {
	{"5.10", "bullseye"},
	{"6.1", "bookworm"},
	{"6.12", "bookworm-backports"},
	{"7.2", "sid"},
};

struct options {
	const char *kernel, *append;
	char **modules;
	int cpus, memory_mib, timeout_s;
	gboolean console, list;
};

static int fail(int code, const char *format, ...) G_GNUC_PRINTF(2, 3);
static int fail(int code, const char *format, ...)
{
	va_list args;

	fputs("vm: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

/* ---- what it takes ---- */

/* The folder that this program was built in: it holds vm-init. */
static char *program_folder(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

	return self ? g_path_get_dirname(self) : g_strdup(".");
}

/* The sources are above the programs. NULL: gone. */
static char *source_folder(void)
{
	char *at = program_folder();

	while (strcmp(at, "/") && strcmp(at, ".")) {
		g_autofree char *fetch = g_build_filename(at, "tests/vm/fetch-kernel.sh", NULL);
		char *up = g_path_get_dirname(at);

		if (g_file_test(fetch, G_FILE_TEST_IS_EXECUTABLE)) {
			g_free(up);
			return at;
		}
		g_free(at);
		at = up;
	}
	g_free(at);
	return NULL;
}

static const char *suite_of(const char *kernel)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(kernels); i++)
		if (!strcmp(kernels[i].name, kernel))
			return kernels[i].suite;
	return NULL;
}

static bool has_kernel(const char *folder)
{
	g_autofree char *release = g_build_filename(folder, "release", NULL);

	return g_file_test(release, G_FILE_TEST_EXISTS);
}

/* A folder with vmlinuz and modules, fetched if need be; NULL after a sentence. */
static char *find_kernel(const char *kernel, int *code)
{
	g_autofree char *sources = source_folder(), *folder = NULL, *fetch = NULL;
	const char *suite = suite_of(kernel);
	int status;

	*code = EXIT_CANNOT;
	if (strchr(kernel, '/')) {
		if (has_kernel(kernel))
			return g_strdup(kernel);
		fail(0, "there is no kernel in %s: tests/vm/fetch-kernel.sh makes such folders",
		     kernel);
		return NULL;
	}
	if (!suite) {
		*code = fail(EXIT_USAGE, "no kernel is called %s: --list tells which are", kernel);
		return NULL;
	}
	if (!sources) {
		fail(0, "this program is not in its build folder: give --kernel a path");
		return NULL;
	}
	folder = g_build_filename(sources, "build/kernel", kernel, NULL);
	if (has_kernel(folder))
		return g_steal_pointer(&folder);
	fetch = g_build_filename(sources, "tests/vm/fetch-kernel.sh", NULL);
	fprintf(stderr, "vm: fetching Linux %s\n", kernel);
	char *argv[] = {fetch, (char *)suite, folder, NULL};

	if (!g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL) || status)
		return NULL; /* it has said why */
	return g_steal_pointer(&folder);
}

static void list(void)
{
	g_autofree char *sources = source_folder();

	for (unsigned i = 0; i < G_N_ELEMENTS(kernels); i++) {
		g_autofree char *folder = g_build_filename(sources ? sources : ".", "build/kernel",
							   kernels[i].name, NULL);
		g_autofree char *path = g_build_filename(folder, "release", NULL), *release = NULL;

		g_file_get_contents(path, &release, NULL, NULL);
		printf("%-6s %-20s %s\n", kernels[i].name, kernels[i].suite,
		       release ? g_strchomp(release) : "not fetched yet");
	}
}

/* ---- the VM ---- */

enum stream { OUT, ERR, STATUS, CONSOLE, STREAMS };

struct vm {
	pid_t pid;
	int disk; /* the initial RAM disk, without a name */
	int fds[STREAMS];
	GString *console, *status;
};

static void run_qemu(const struct options *o, const char *kernel, int disk,
		     const int pipes[STREAMS][2])
{
	static const char *const ids[] = {"out", "err", "status", "console"};
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	sigset_t none;

#define ADD(...) g_ptr_array_add(argv, g_strdup_printf(__VA_ARGS__))
	for (const char *const *word =
		     (const char *const[]){
			     "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
			     "-display", "none", "-M", "q35", "-cpu", "max", "-accel",
			     /*
			      * A thread for each CPU is quicker, but loses a timer
			      * or an interrupt now and then: guests hung for good
			      * when programs were attached (QEMU 7.2, Linux 6.1).
			      */
			     "tcg,thread=single", "-fsdev",
			     "local,id=root,path=/,security_model=none,readonly=on,"
			     "multidevs=remap",
			     "-device", "virtio-9p-pci,fsdev=root,mount_tag=root", "-device",
			     "virtio-serial-pci", "-serial", "chardev:console", NULL};
	     *word; word++)
		ADD("%s", *word);
	ADD("-smp");
	ADD("%d", o->cpus);
	ADD("-m");
	ADD("%d", o->memory_mib);
	ADD("-kernel");
	ADD("%s/vmlinuz", kernel);
	ADD("-append");
	ADD("console=ttyS0 quiet panic=-1 net.ifnames=0 %s", o->append ? o->append : "");
	ADD("-initrd");
	ADD("/proc/self/fd/%d", disk);
	for (int i = 0; i < STREAMS; i++) {
		ADD("-chardev");
		ADD("file,id=%s,path=/proc/self/fd/%d", ids[i], pipes[i][1]);
	}
	for (int i = OUT; i <= STATUS; i++) {
		ADD("-device");
		ADD("virtserialport,chardev=%s,nr=%d", ids[i], VM_PORT_STDOUT + i);
	}
#undef ADD
	g_ptr_array_add(argv, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < STREAMS; i++)
		fcntl(pipes[i][1], F_SETFD, 0);
	fcntl(disk, F_SETFD, 0);
	execvp(argv->pdata[0], (char **)argv->pdata);
	fail(0, "cannot start qemu-system-x86_64: %s", strerror(errno));
	_exit(EXIT_CANNOT);
}

static bool vm_start(struct vm *vm, const struct options *o, const char *kernel)
{
	int pipes[STREAMS][2];

	for (int i = 0; i < STREAMS; i++)
		if (pipe2(pipes[i], O_CLOEXEC)) {
			fail(0, "cannot make a pipe: %s", strerror(errno));
			return false;
		}
	vm->pid = fork();
	if (!vm->pid)
		run_qemu(o, kernel, vm->disk, pipes);
	for (int i = 0; i < STREAMS; i++) {
		close(pipes[i][1]);
		vm->fds[i] = pipes[i][0];
		fcntl(vm->fds[i], F_SETFL, O_NONBLOCK);
	}
	if (vm->pid < 0)
		fail(0, "cannot fork: %s", strerror(errno));
	return vm->pid > 0;
}

static void write_all(int fd, const char *data, ssize_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return; /* nobody wants to know any more; the exit code is still true */
		data += MAX(n, 0);
		size -= MAX(n, 0);
	}
}

/* All that there is just now. False at the end of the stream. */
static bool drain(struct vm *vm, enum stream which, bool show_console)
{
	char buffer[65536];
	ssize_t n;

	while ((n = read(vm->fds[which], buffer, sizeof(buffer))) > 0) {
		if (which == OUT || which == ERR || show_console)
			write_all(which == OUT ? STDOUT_FILENO : STDERR_FILENO, buffer, n);
		if (which == STATUS)
			g_string_append_len(vm->status, buffer, n);
		if (which == CONSOLE)
			g_string_append_len(vm->console, buffer, n);
	}
	return n < 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the command has ended, the VM has, time is up or we are told to stop. Returns our code. */
static int vm_follow(struct vm *vm, const struct options *o, int signals)
{
	int64_t end = now_ms() + o->timeout_s * 1000L;
	bool alive = true;

	while (alive && !strchr(vm->status->str, '\n')) {
		struct pollfd fds[STREAMS + 1];
		int64_t left = end - now_ms();
		struct signalfd_siginfo info;

		for (int i = 0; i < STREAMS; i++)
			fds[i] = (struct pollfd){.fd = vm->fds[i], .events = POLLIN};
		fds[STREAMS] = (struct pollfd){.fd = signals, .events = POLLIN};
		if (left <= 0)
			return fail(EXIT_TIMEOUT, "%d s are over: ended", o->timeout_s);
		if (poll(fds, STREAMS + 1, MIN(left, INT_MAX)) < 0 && errno != EINTR)
			return fail(EXIT_CANNOT, "cannot wait: %s", strerror(errno));
		if (read(signals, &info, sizeof(info)) == sizeof(info))
			return 128 + info.ssi_signo;
		for (int i = 0; i < STREAMS; i++)
			alive &= drain(vm, i, i == CONSOLE && o->console) || i == CONSOLE;
	}
	for (int i = OUT; i <= ERR; i++)
		drain(vm, i, false);
	if (strchr(vm->status->str, '\n'))
		return atoi(vm->status->str);
	if (!o->console)
		fputs(vm->console->str, stderr);
	return fail(EXIT_CANNOT, "the VM has ended before the command did");
}

static int run(const struct options *o, const char *kernel, char **command, int signals)
{
	static const char *const always[] = {"virtio_pci", "9pnet_virtio", "9p", "overlay",
					     "virtio_console"};
	struct vm vm = {.disk = memfd_create("initramfs", MFD_CLOEXEC),
			.console = g_string_new(NULL),
			.status = g_string_new(NULL)};
	g_autoptr(GPtrArray) modules = g_ptr_array_new();
	g_autofree char *folder = program_folder(), *why = NULL;
	g_autofree char *init = g_build_filename(folder, "vm-init", NULL);
	int code = EXIT_CANNOT;

	for (unsigned i = 0; i < G_N_ELEMENTS(always); i++)
		g_ptr_array_add(modules, (char *)always[i]);
	for (char **module = o->modules; module && *module; module++)
		g_ptr_array_add(modules, *module);
	g_ptr_array_add(modules, NULL);
	if (!initramfs_write(vm.disk, init, kernel, (const char *const *)modules->pdata, command,
			     &why)) {
		fail(0, "%s", why);
	} else if (vm_start(&vm, o, kernel)) {
		code = vm_follow(&vm, o, signals);
		kill(-vm.pid, SIGKILL);
		kill(vm.pid, SIGKILL); /* before it had a group of its own */
		waitpid(vm.pid, NULL, 0);
	}
	g_string_free(vm.console, TRUE);
	g_string_free(vm.status, TRUE);
	return code;
}

int main(int argc, char **argv)
{
	struct options o = {.cpus = 2, .memory_mib = 2048, .timeout_s = 600};
	const GOptionEntry entries[] = {
		{"kernel", 'k', 0, G_OPTION_ARG_STRING, &o.kernel,
		 "one of --list, or a folder as fetch-kernel.sh makes it", "VERSION|PATH"},
		{"module", 'm', 0, G_OPTION_ARG_STRING_ARRAY, &o.modules,
		 "also load this kernel module (again for more)", "NAME"},
		{"append", 'a', 0, G_OPTION_ARG_STRING, &o.append,
		 "more words for the kernel's command line", "TEXT"},
		{"cpus", 'c', 0, G_OPTION_ARG_INT, &o.cpus, "2", "N"},
		{"memory", 0, 0, G_OPTION_ARG_INT, &o.memory_mib, "2048", "MIB"},
		{"timeout", 't', 0, G_OPTION_ARG_INT, &o.timeout_s,
		 "600; then everything is ended and the exit code is 124", "SECONDS"},
		{"console", 0, 0, G_OPTION_ARG_NONE, &o.console,
		 "show what the kernel says, on stderr", NULL},
		{"list", 'l', 0, G_OPTION_ARG_NONE, &o.list, "the kernels, and which are here",
		 NULL},
		{},
	};
	g_autoptr(GOptionContext) context = g_option_context_new("-- COMMAND [ARG...]");
	g_autoptr(GError) error = NULL;
	g_autofree char *kernel = NULL;
	int code, signals;
	sigset_t set;

	g_option_context_set_summary(
		context, "Run a command of this machine under another kernel, in a VM (TCG).\n"
			 "It runs as root, with this environment and working directory, and sees "
			 "this machine's files;\n"
			 "what it writes is gone afterwards. Its exit code is ours; 3: no such "
			 "kernel, or the VM failed.");
	g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_set_strict_posix(context, TRUE);
	if (!g_option_context_parse(context, &argc, &argv, &error))
		return fail(EXIT_USAGE, "%s: see --help", error->message);
	if (o.list) {
		list();
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "--"))
		argv++, argc--;
	if (!o.kernel || argc < 2 || o.cpus < 1 || o.memory_mib < 256 || o.timeout_s < 1)
		return fail(EXIT_USAGE, "give a kernel and a command: vm --kernel 6.1 -- uname -a");
	kernel = find_kernel(o.kernel, &code);
	if (!kernel)
		return code;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
	return run(&o, kernel, argv + 1, signals);
}
