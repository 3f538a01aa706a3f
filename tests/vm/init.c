/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first process of a test VM: the host's root, read-only, under a layer of its own that takes
 * every write; in it one command, whose output and exit code go to the host through virtio ports.
 * Linked statically: it is all that the initial RAM disk holds, beside modules.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/vm.h"

/* What the host's launcher cannot know by itself: said on the console, then the VM ends. */
__attribute__((format(printf, 1, 2), noreturn)) static void give_up(const char *format, ...)
{
	int err = errno;
	va_list args;

	printf("init: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(": %s\n", strerror(err));
	fflush(stdout);
	reboot(RB_POWER_OFF);
	_exit(1);
}

/* A file of the RAM disk, NUL-terminated. */
static char *slurp(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st))
		give_up("%s", path);
	text = calloc(1, st.st_size + 1);
	if (!text || read(fd, text, st.st_size) != st.st_size)
		give_up("%s", path);
	close(fd);
	*size = st.st_size;
	return text;
}

/* NUL-separated strings as a NULL-terminated vector. */
static char **strings(const char *path)
{
	size_t size, count = 0;
	char *text = slurp(path, &size);
	char **list = calloc(size + 1, sizeof(*list));

	if (!list)
		give_up("%s", path);
	for (size_t at = 0; at < size; at += strlen(text + at) + 1)
		list[count++] = text + at;
	return list;
}

static int earlier(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Their names begin with their place in the order. */
static void load_modules(void)
{
	struct dirent **names;
	int count = scandir("/modules", &names, NULL, earlier);

	for (int i = 0; i < count; i++) {
		char path[sizeof("/modules/") + sizeof(names[i]->d_name)];
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			give_up("cannot load %s", names[i]->d_name);
		close(fd);
	}
}

static void mount_at(const char *type, const char *at, const char *options)
{
	mkdir(at, 0755);
	if (mount(type, at, type, 0, options))
		give_up("cannot mount %s", at);
}

static void may_mount_at(const char *type, const char *at)
{
	if (mount(type, at, type, 0, NULL))
		printf("init: no %s on %s: %s\n", type, at, strerror(errno));
}

static void make_root(void)
{
	mkdir("/lower", 0755);
	if (mount("root", "/lower", "9p", MS_RDONLY,
		  "trans=virtio,version=9p2000.L,msize=512000,cache=loose"))
		give_up("cannot mount the host's root");
	mount_at("tmpfs", "/layer", "mode=0755");
	mkdir("/layer/upper", 0755);
	mkdir("/layer/work", 0755);
	mount_at("overlay", "/root", VM_ROOT);
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) || chdir("/root") ||
	    mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		give_up("cannot change to the host's root");
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("tmpfs", "/run", "mode=0755");
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	may_mount_at("devpts", "/dev/pts");
	may_mount_at("tmpfs", "/dev/shm");
	may_mount_at("tracefs", "/sys/kernel/tracing");
	may_mount_at("cgroup2", "/sys/fs/cgroup");
	may_mount_at("securityfs", "/sys/kernel/security");
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		printf("init: the loopback interface stays down: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void write_all(int fd, const char *data, ssize_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			give_up("cannot write to the host");
		if (n > 0) {
			data += n;
			size -= n;
		}
	}
}

/* The ports appear a while after their driver, under the number of whatever virtio device it is. */
static int open_port(int number)
{
	char pattern[32];
	int fd = -1;

	snprintf(pattern, sizeof(pattern), "/dev/vport*p%d", number);
	for (int i = 0; i < 500 && fd < 0; i++) {
		glob_t found;

		if (!glob(pattern, 0, NULL, &found))
			fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
		else
			usleep(10000);
		globfree(&found);
	}
	if (fd < 0)
		give_up("%s", pattern);
	return fd;
}

/* False at its end, or when there is nothing more just now. */
static bool pass_on(int from, int to)
{
	char buffer[65536];
	ssize_t n = read(from, buffer, sizeof(buffer));

	if (n > 0)
		write_all(to, buffer, n);
	return n > 0;
}

static void start(char **argv, const int pipes[2][2])
{
	char *directory = strings("/directory")[0], **environment = strings("/environment");
	sigset_t none;

	make_root();
	loopback_up();
	sethostname("vm", 2);
	if (chdir(directory))
		give_up("cannot change to %s", directory);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	dup2(pipes[0][1], STDOUT_FILENO);
	dup2(pipes[1][1], STDERR_FILENO);
	environ = environment;
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/*
 * Until the command ends; what it has left behind may go on writing, and is not waited for. Pipes
 * stand between: a port can be opened only once, but /dev/stderr is opened again by many.
 */
static int stream(pid_t command, const int pipes[2][2], const int ports[2])
{
	int status = -1;
	bool ended = false;

	while (!ended) {
		struct pollfd fds[2] = {{.fd = pipes[0][0], .events = POLLIN},
					{.fd = pipes[1][0], .events = POLLIN}};
		pid_t pid;

		poll(fds, 2, 20);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0 && pid != command)
			;
		ended = pid == command;
		for (int i = 0; i < 2; i++)
			while (pass_on(pipes[i][0], ports[i]))
				;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
	int pipes[2][2], ports[2], status_port, code;
	char **argv, line[16];
	pid_t command;

	mount_at("devtmpfs", "/dev", NULL);
	code = open("/dev/console", O_RDWR);
	if (code >= 0) {
		dup2(code, STDIN_FILENO);
		dup2(code, STDOUT_FILENO);
		dup2(code, STDERR_FILENO);
	}
	load_modules();
	ports[0] = open_port(VM_PORT_STDOUT);
	ports[1] = open_port(VM_PORT_STDERR);
	status_port = open_port(VM_PORT_STATUS);
	argv = strings("/command");
	if (pipe2(pipes[0], O_CLOEXEC) || pipe2(pipes[1], O_CLOEXEC))
		give_up("pipe");
	for (int i = 0; i < 2; i++)
		fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
	command = fork();
	if (command < 0)
		give_up("fork");
	if (!command)
		start(argv, pipes);
	code = stream(command, pipes, ports);
	write_all(status_port, line, snprintf(line, sizeof(line), "%d\n", code));
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
