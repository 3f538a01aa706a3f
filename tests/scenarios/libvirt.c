/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm as libvirt's <emulator>: the packaged libvirt, its session driver, seccomp sandbox on, two
 * daemons with folders, PIDs and a host name of their own. Nothing of the machine's own libvirt is
 * touched. As root they run as nobody; all of them, and their QEMUs, die with this program.
 */
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

#define NOBODY "65534"

enum {
	START_MS = 30000,
	COMMAND_MS = 90000,
	ALIVE_MS = 30000,
	SOON_MS = 20000,
};

static char *folder; /* of both daemons; anybody may look into it */

/* ---- files ---- */

static char *in_folder(const char *name)
{
	return g_build_filename(folder, name, NULL);
}

static void write_file(const char *path, const void *data, gssize size, mode_t mode)
{
	g_assert_true(g_file_set_contents(path, data, size, NULL));
	g_assert_cmpint(chmod(path, mode), ==, 0);
	g_assert_true(geteuid() || !chown(path, 65534, 65534));
}

static void make_folder(const char *path)
{
	g_assert_cmpint(g_mkdir_with_parents(path, 0700), ==, 0);
	g_assert_true(geteuid() || !chown(path, 65534, 65534));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static char *read_file(const char *path)
{
	char *text = NULL;

	g_file_get_contents(path, &text, NULL, NULL);
	return text ?: g_strdup("");
}

/* ---- a libvirt ---- */

typedef struct libvirt {
	const char *name;
	char *home;
	char *uri;
	struct lab_process *daemon;
} libvirt;

/* virsh's exit code; what it said in *out. */
static int try_virsh(struct libvirt *v, char **out, const char *const *arguments)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autofree char *said = NULL, *complained = NULL;
	int code;

	g_ptr_array_add(argv, (char *)"virsh");
	g_ptr_array_add(argv, (char *)"-q");
	g_ptr_array_add(argv, (char *)"-c");
	g_ptr_array_add(argv, v->uri);
	while (*arguments)
		g_ptr_array_add(argv, (char *)*arguments++);
	g_ptr_array_add(argv, NULL);
	p = lab_process_new((const char *const *)argv->pdata, NULL, &error);
	g_assert_no_error(error);
	lab_process_wait(p, COMMAND_MS, &code, &error);
	g_assert_no_error(error);
	said = lab_process_stdout(p);
	complained = lab_process_stderr(p);
	*out = g_strconcat(said, complained, NULL);
	return code;
}

#define ARGUMENTS(...)                                                                             \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static void virsh(struct libvirt *v, const char *const *arguments)
{
	g_autofree char *said = NULL;

	if (try_virsh(v, &said, arguments))
		g_error("virsh %s at %s: %s", arguments[0], v->name, said);
}

static void libvirt_free(struct libvirt *v)
{
	if (!v)
		return;
	lab_process_free(v->daemon);
	g_free(v->home);
	g_free(v->uri);
	g_free(v);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(libvirt, libvirt_free)

static void write_configuration(struct libvirt *v)
{
	static const char *const folders[] = {"",      "run", "config", "config/libvirt",
					      "cache", "data"};
	g_autofree char *daemon = g_build_filename(v->home, "libvirtd.conf", NULL);
	g_autofree char *qemu = g_build_filename(v->home, "config/libvirt/qemu.conf", NULL);
	g_autofree char *text = g_strdup_printf("host_uuid = \"%08x-aaaa-bbbb-cccc-dddddddddddd\"\n"
						"unix_sock_dir = \"%s/run\"\n",
						g_str_hash(v->name), v->home);

	for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
		g_autofree char *path = g_build_filename(v->home, folders[i], NULL);

		make_folder(path);
	}
	write_file(daemon, text, -1, 0644);
	/* Else it starts a virtlogd, which stays. The sandbox is on by default. */
	write_file(qemu, "stdio_handler = \"file\"\n", -1, 0644);
}

/*
 * Asked what it can do, a QEMU loads its modules, and ends when those where it was built to look
 * are another version's: show it its own there. A shell command, to be followed by another;
 * g_free().
 */
static char *show_modules(const char *version)
{
	static const char place[] = "/usr/lib/x86_64-linux-gnu/qemu";
	g_autofree char *bin = g_path_get_dirname(lab_qemu_binary(version, NULL));
	g_autofree char *own = g_strconcat(bin, "/../..", place, NULL);

	if (!strcmp(bin, "/usr/bin") || access(own, F_OK) || access(place, F_OK))
		return g_strdup("");
	return g_strdup_printf("mount --bind %s %s && ", own, place);
}

/* NULL after g_test_skip() where this machine does not let us start it so. */
static struct libvirt *libvirt_new(const char *name, const char *version)
{
	g_autoptr(libvirt) v = g_new0(struct libvirt, 1);
	g_autofree char *command = NULL, *says = NULL, *socket = NULL;
	g_autofree char *modules = show_modules(version);
	g_autoptr(GError) error = NULL;
	uint64_t deadline = deadline_in(START_MS);

	v->name = name;
	v->home = in_folder(name);
	socket = g_build_filename(v->home, "run/libvirt-sock", NULL);
	v->uri = g_strconcat("qemu+unix:///session?socket=", socket, NULL);
	write_configuration(v);
	/* The shell stays, to reap: a QEMU is left to init, and libvirt waits for it to be gone. */
	command = g_strdup_printf("%s%s env -i PATH=/usr/bin:/usr/sbin:/bin HOME=%s"
				  " XDG_RUNTIME_DIR=%s/run XDG_CONFIG_HOME=%s/config"
				  " XDG_CACHE_HOME=%s/cache XDG_DATA_HOME=%s/data"
				  " libvirtd --config %s/libvirtd.conf & wait",
				  geteuid() ? "" : modules,
				  geteuid() ? ""
					    : "hostname \"$0.test\" && setpriv --reuid " NOBODY
					      " --regid " NOBODY " --clear-groups",
				  v->home, v->home, v->home, v->home, v->home, v->home);
	v->daemon = lab_process_new(geteuid() ? ARGUMENTS("sh", "-c", command, name)
					      : ARGUMENTS("unshare", "--uts", "--pid", "--fork",
							  "--kill-child", "--mount-proc", "sh",
							  "-c", command, name),
				    NULL, &error);
	g_assert_no_error(error);
	while (access(socket, F_OK) && lab_process_running(v->daemon) && deadline_left_ms(deadline))
		g_usleep(20000);
	if (!access(socket, F_OK))
		return g_steal_pointer(&v);
	says = lab_process_stderr(v->daemon);
	if (!strstr(says, "unshare:"))
		g_error("libvirtd at %s does not start: %s", name, says);
	g_test_skip(g_strchomp(says));
	return NULL;
}

/* ---- a domain ---- */

/* The emulator as it is shipped, told where this build is. */
static char *write_emulator(const char *version)
{
	g_autofree char *script = g_strdup_printf(
		"#!/bin/sh\n"
		"LOADVM=%s LOADVM_QEMU=%s LOADVM_CONTROL=%s/policy\n"
		"export LOADVM LOADVM_QEMU LOADVM_CONTROL\n"
		"exec %s/docs/examples/qemu-system-x86_64-loadvm \"$@\"\n",
		lab_program("loadvm"), lab_qemu_path(version, NULL), folder, lab_source_root());
	g_autofree char *name = g_strconcat("emulator-", version, NULL);
	char *path = in_folder(name);

	write_file(path, script, -1, 0755);
	return path;
}

/* Path of its XML; `environment` is an element of libvirt's qemu name space, or "". */
static char *write_domain(const char *version, const char *environment)
{
	const struct lab_vm_options options = {.guest = true, .fill_mib = 64, .dirty_mib = 1};
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) image = lab_guest_image(&options, &error);
	g_autofree char *emulator = write_emulator(version);
	g_autofree char *disk = in_folder("disk"), *serial = in_folder("serial");
	char *path = in_folder("domain.xml");
	g_autofree char *xml = g_strdup_printf(
		"<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"
		"<memory unit='MiB'>128</memory><vcpu>1</vcpu>"
		"<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
		"<features><acpi/></features><cpu mode='custom'><model>qemu64</model></cpu>"
		"<devices><emulator>%s</emulator>"
		"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
		"<source file='%s'/><target dev='sda' bus='sata'/></disk>"
		"<serial type='file'><source path='%s' append='on'/></serial>"
		"<memballoon model='none'/></devices>%s</domain>",
		emulator, disk, serial, environment);

	g_assert_no_error(error);
	write_file(disk, g_bytes_get_data(image, NULL), g_bytes_get_size(image), 0600);
	write_file(serial, "", 0, 0600);
	write_file(path, xml, -1, 0644);
	return path;
}

/* What that libvirt's QEMU printed since it was last started. */
static char *domain_log(const struct libvirt *v)
{
	g_autofree char *path = g_build_filename(v->home, "cache/libvirt/qemu/log/vm.log", NULL);

	return read_file(path);
}

static unsigned count(const struct libvirt *v, const char *text)
{
	g_autofree char *log = domain_log(v);
	unsigned n = 0;

	for (const char *at = log; (at = strstr(at, text)); at++)
		n++;
	return n;
}

/* Within our PID name space: libvirt writes its own PID of it. 0: none. */
static pid_t find_qemu(const struct libvirt *v)
{
	g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
	g_autofree char *mark = g_strconcat(v->home, "/config/libvirt/qemu/lib/domain-", NULL);
	const char *name;

	while ((name = g_dir_read_name(proc))) {
		g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL);
		g_autofree char *line = NULL;
		gsize size;

		if (g_ascii_isdigit(*name) && g_file_get_contents(path, &line, &size, NULL) &&
		    memmem(line, size, mark, strlen(mark)))
			return atoi(name);
	}
	return 0;
}

static bool has_thread(pid_t pid, const char *wanted)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", pid);
	g_autoptr(GDir) tasks = g_dir_open(path, 0, NULL);
	const char *name;

	while (tasks && (name = g_dir_read_name(tasks))) {
		g_autofree char *file = g_build_filename(path, name, "comm", NULL);
		g_autofree char *comm = read_file(file);

		if (g_str_has_prefix(comm, wanted))
			return true;
	}
	return false;
}

/* Three more rounds on its serial port, and no page that lost what was in it. */
static void assert_alive(void)
{
	g_autofree char *path = in_folder("serial");
	g_autofree char *said = NULL;
	uint64_t deadline = deadline_in(ALIVE_MS);
	struct stat st, now;

	g_assert_cmpint(stat(path, &st), ==, 0);
	while (!stat(path, &now) && now.st_size < st.st_size + 3 && deadline_left_ms(deadline))
		g_usleep(20000);
	g_assert_cmpint(now.st_size, >=, st.st_size + 3);
	said = read_file(path);
	g_assert_null(strchr(said, '!'));
}

static void assert_sandboxed(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
	g_autofree char *status = read_file(path);

	g_assert_nonnull(strstr(status, "\nSeccomp:\t2\n"));
}

static void set_policy(const char *policy)
{
	g_autofree char *path = in_folder("policy");

	write_file(path, policy, -1, 0644);
}

/* ---- tests ---- */

/* False after g_test_skip(). */
static bool have(const char *version)
{
	const char *why = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = NULL;
	int code = -1;

	if (!g_find_program_in_path("virsh") || !g_find_program_in_path("libvirtd")) {
		g_test_skip("libvirt is not installed (libvirt-daemon, libvirt-clients)");
		return false;
	}
	if (!lab_qemu_path(version, &why)) {
		g_test_skip(why);
		return false;
	}
	if (geteuid())
		return true;
	p = lab_process_new(ARGUMENTS("setpriv", "--reuid", NOBODY, "--regid", NOBODY,
				      "--clear-groups", lab_program("loadvm"), "--version"),
			    NULL, &error);
	if (p && lab_process_wait(p, SOON_MS, &code, NULL) && !code)
		return true;
	g_test_skip("user nobody cannot reach this build");
	return false;
}

/*
 * libvirt asks the emulator what it can do, starts it, saves its VM and restores it: an incoming
 * migration from a file descriptor. Then the same with the operator's word that it be stock.
 */
static void save_restore(gconstpointer version)
{
	g_autofree char *domain = NULL, *saved = in_folder("a/saved");
	g_autoptr(libvirt) a = NULL;

	if (!have(version))
		return;
	a = libvirt_new("a", version);
	if (!a)
		return;
	domain = write_domain(version, "");
	set_policy("io-free");
	virsh(a, ARGUMENTS("create", domain));
	assert_alive();
	assert_sandboxed(find_qemu(a));
	g_assert_cmpuint(count(a, "loadvm: io-free on QEMU"), ==, 1);
	g_assert_cmpuint(count(a, "this load"), ==, 0);

	virsh(a, ARGUMENTS("save", "vm", saved));
	virsh(a, ARGUMENTS("restore", saved));
	assert_alive();
	assert_sandboxed(find_qemu(a));
	g_assert_cmpuint(count(a, "loadvm: io-free on QEMU"), ==, 1);
	g_assert_cmpuint(count(a, "/policy: this load: io-free"), ==, 1);

	virsh(a, ARGUMENTS("save", "vm", saved));
	set_policy("stock");
	virsh(a, ARGUMENTS("restore", saved));
	assert_alive();
	g_assert_cmpuint(count(a, "/policy: this load: stock"), ==, 1);
	virsh(a, ARGUMENTS("destroy", "vm"));
}

/* From one libvirt to another, slowly enough to see the thread. */
static void migrate(gconstpointer version)
{
	g_autoptr(libvirt) a = NULL, b = NULL;
	g_autoptr(lab_process) command = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *domain = NULL, *said = NULL;
	uint64_t deadline;
	bool seen = false;
	int code;

	if (geteuid()) {
		g_test_skip("two libvirts on one host need two host names, and they root");
		return;
	}
	if (!have(version))
		return;
	a = libvirt_new("a", version);
	b = a ? libvirt_new("b", version) : NULL;
	if (!b)
		return;
	domain = write_domain(version, "");
	set_policy("io-free");
	virsh(a, ARGUMENTS("create", domain));
	assert_alive();
	command = lab_process_new(ARGUMENTS("virsh", "-q", "-c", a->uri, "migrate", "--live",
					    "--unsafe", "--bandwidth", "20", "vm", b->uri,
					    "--migrateuri", "tcp://127.0.0.1"),
				  NULL, &error);
	g_assert_no_error(error);
	deadline = deadline_in(COMMAND_MS);
	while (lab_process_running(command) && deadline_left_ms(deadline)) {
		pid_t pid = find_qemu(b);

		seen |= pid && has_thread(pid, "mig/dst/main");
		g_usleep(20000);
	}
	lab_process_wait(command, SOON_MS, &code, &error);
	g_assert_no_error(error);
	said = lab_process_stderr(command);
	if (code)
		g_error("virsh migrate: %s", said);
	g_assert_true(seen);
	g_assert_cmpint(find_qemu(a), ==, 0);
	assert_alive();
	assert_sandboxed(find_qemu(b));
	g_assert_false(has_thread(find_qemu(b), "mig/dst/main"));
	g_assert_cmpuint(count(b, "/policy: this load: io-free"), ==, 1);
	virsh(b, ARGUMENTS("destroy", "vm"));
}

/* One domain's own switch, in its XML. */
static void disabled(gconstpointer version)
{
	g_autofree char *domain = NULL;
	g_autoptr(libvirt) a = NULL;

	if (!have(version))
		return;
	a = libvirt_new("a", version);
	if (!a)
		return;
	domain = write_domain(version, "<qemu:commandline><qemu:env name='LOADVM_DISABLE'"
				       " value='1'/></qemu:commandline>");
	virsh(a, ARGUMENTS("create", domain));
	assert_alive();
	g_assert_cmpuint(count(a, "loadvm: switched off by LOADVM_DISABLE"), ==, 1);
	virsh(a, ARGUMENTS("destroy", "vm"));
}

static void make_own_folder(void)
{
	folder = g_dir_make_tmp("bqlstat-libvirt-XXXXXX", NULL);
	g_assert_nonnull(folder);
	g_assert_cmpint(chmod(folder, 0755), ==, 0);
	g_assert_true(geteuid() || !chown(folder, 65534, 65534));
}

static void remove_own_folder(void)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	g_clear_pointer(&folder, g_free);
}

/* Each with a folder of its own. */
struct test {
	const char *version;
	void (*run)(gconstpointer version);
};

static void run(gconstpointer data)
{
	const struct test *test = data;

	make_own_folder();
	test->run(test->version);
	remove_own_folder();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		struct test test;
	} tests[] = {
		{"/libvirt/save-restore/7.2", {"7.2", save_restore}},
		{"/libvirt/save-restore/10.0", {"10.0", save_restore}},
		{"/libvirt/migrate/7.2", {"7.2", migrate}},
		{"/libvirt/migrate/10.0", {"10.0", migrate}},
		{"/libvirt/disabled", {"7.2", disabled}},
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add_data_func(tests[i].path, &tests[i].test, run);
	return g_test_run();
}
