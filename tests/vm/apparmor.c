/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm in a QEMU that AppArmor confines: `make vmcheck-lsm` runs this in a VM, since it
 * writes all over its root and loads profiles into the kernel. libvirt's daemon and virt-aa-helper,
 * its profiles and Debian's kernel are the packaged ones; the rules that they need for loadvm are
 * those that docs/libvirt.md shows, read from there.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"
#include "tests/vm/confined.h"

#define SCRIPT	    "/usr/local/bin/qemu-system-x86_64-loadvm"
#define LAUNCHER    "/usr/local/bin/loadvm"
#define GATE	    "/usr/local/lib/bqlstat/libloadvm.so"
#define CORE	    "/usr/local/lib/bqlstat/libloadvm-core.so"
#define POLICY_FILE "/etc/loadvm.policy"
#define QEMU	    "/usr/bin/qemu-system-x86_64"

#define GUEST_RULES  "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define DAEMON_RULES "/etc/apparmor.d/local/usr.sbin.libvirtd"
#define HELPER_RULES "/etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper"

/* As virt-aa-helper names them: after the domain. */
#define DOMAIN_UUID    "11111111-2222-3333-4444-555555555555"
#define DOMAIN_PROFILE "libvirt-" DOMAIN_UUID
#define OWN_PROFILE    "libvirt-66666666-7777-8888-9999-000000000000"

/* ---- this VM ---- */

/*
 * QEMU 10.0 reads it for its pool of coroutines, with loadvm or without; the profile of libvirt 9.0
 * is older.
 */
#define QEMUS_OWN "name=\"/proc/sys/vm/max_map_count\""

/* What the profiles of guests were denied since this was last asked; g_free(). */
static char *denials(void)
{
	GString *denied = g_string_new(NULL);
	g_autofree char *log = kernel_log();
	g_auto(GStrv) lines = g_strsplit(log, "\n", -1);

	for (char **line = lines; *line; line++)
		if (strstr(*line, "apparmor=\"DENIED\"") && strstr(*line, "profile=\"libvirt-") &&
		    !strstr(*line, QEMUS_OWN))
			g_string_append_printf(denied, "%s\n", *line);
	return g_string_free(denied, FALSE);
}

/* The block that stands after that path's name in docs/libvirt.md; g_free(). */
static char *documented(const char *path)
{
	g_autofree char *file = g_build_filename(lab_source_root(), "docs/libvirt.md", NULL);
	g_autofree char *text = read_file(file);
	const char *name = strstr(text, path);
	g_auto(GStrv) parts = NULL;

	g_assert_nonnull(name);
	parts = g_strsplit(name, "```\n", 3);
	g_assert_cmpuint(g_strv_length(parts), ==, 3);
	return g_strdup(parts[1]);
}

/* Those rules, less the one for `but`, which must be among them. */
static void allow(const char *path, const char *but)
{
	g_autofree char *rules = documented(path);
	char *rule = but ? strstr(rules, but) : NULL;

	g_assert_true(!but || rule);
	if (rule)
		memset(rule, ' ', strcspn(rule, "\n"));
	write_file(path, rules);
}

static void allow_nothing(const char *path)
{
	write_file(path, "");
}

/* As `make install` does, and as Debian's packages do where they are installed. */
static void set_up(void)
{
	const char *root = lab_source_root();
	g_autofree char *enabled = read_file("/sys/module/apparmor/parameters/enabled");

	g_assert_cmpstr(enabled, ==, "Y\n");
	/* A merged root has its /sbin below /usr. */
	sh("cd %s/build/apparmor/root && cp -r etc usr / && cp sbin/apparmor_parser /sbin", root);
	sh("install -d /usr/local/lib/bqlstat /etc/apparmor.d/local/abstractions /srv &&"
	   "install -m 755 %s %s/docs/examples/qemu-system-x86_64-loadvm /usr/local/bin &&"
	   "install -m 755 %s %s /usr/local/lib/bqlstat",
	   lab_program("loadvm"), root, lab_program("libloadvm.so"),
	   lab_program("libloadvm-core.so"));
	sh("grep -q ^libvirt-qemu: /etc/passwd ||"
	   " echo libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin >>/etc/passwd;"
	   "grep -q ^libvirt-qemu: /etc/group || echo libvirt-qemu:x:64055: >>/etc/group;"
	   "grep -q ^libvirt: /etc/group || echo libvirt:x:64056: >>/etc/group");
	/* Without, a virtlogd is started. */
	sh("printf '%%s\\n' 'stdio_handler = \"file\"' 'user = \"libvirt-qemu\"'"
	   " 'group = \"libvirt-qemu\"' >>/etc/libvirt/qemu.conf");
	allow_nothing(GUEST_RULES);
	allow_nothing(DAEMON_RULES);
	allow_nothing(HELPER_RULES);
	write_file(POLICY_FILE, "io-free\n");
	say_all();
}

static void assert_confined(pid_t pid, const char *profile)
{
	g_autofree char *wanted = g_strconcat(profile, " (enforce)\n", NULL);

	assert_label(pid, wanted);
}

static char *checked(const char *target)
{
	return check_says(LAUNCHER, target, "AppArmor");
}

static char *checked_pid(pid_t pid)
{
	g_autofree char *target = g_strdup_printf("%d", pid);

	return checked(target);
}

/* ---- libvirt ---- */

static struct lab_process *daemon_process;

static void load_daemon_profiles(void)
{
	sh("apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd "
	   "/etc/apparmor.d/usr.lib.libvirt.virt-aa-helper");
}

static void start_daemon(void)
{
	const char *argv[] = {"libvirtd", NULL};
	uint64_t deadline = deadline_in(LONG_MS);
	g_autoptr(GError) error = NULL;

	load_daemon_profiles();
	daemon_process = lab_process_new(argv, NULL, &error);
	g_assert_no_error(error);
	while (access("/run/libvirt/libvirt-sock", F_OK) && lab_process_running(daemon_process) &&
	       deadline_left_ms(deadline))
		g_usleep(50000);
	g_assert_true(lab_process_running(daemon_process));
	assert_confined(lab_process_pid(daemon_process), "libvirtd");
}

/* As libvirt.c's domain, but the system's; `environment` of its qemu name space, or "". */
static void write_domain(const char *environment)
{
	const struct lab_vm_options options = {.memory_mib = 32, .guest = true, .dirty_mib = 1};
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) image = lab_guest_image(&options, &error);
	g_autofree char *xml = g_strdup_printf(
		"<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<name>vm</name><uuid>" DOMAIN_UUID "</uuid>"
		"<memory unit='MiB'>32</memory><vcpu>1</vcpu>"
		"<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
		"<features><acpi/></features><cpu mode='custom'><model>qemu64</model></cpu>"
		"<devices><emulator>" SCRIPT "</emulator>"
		"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
		"<source file='/srv/disk'/><target dev='sda' bus='sata'/></disk>"
		"<serial type='file'><source path='/srv/serial' append='on'/></serial>"
		"<memballoon model='none'/></devices>%s</domain>",
		environment);

	g_assert_no_error(error);
	g_file_set_contents("/srv/disk", g_bytes_get_data(image, NULL), g_bytes_get_size(image),
			    &error);
	g_assert_no_error(error);
	write_file("/srv/serial", "");
	write_file("/srv/domain.xml", xml);
}

static int try_virsh(char **out, const char *arguments)
{
	g_autofree char *command = g_strconcat("virsh -q -c qemu:///system ", arguments, NULL);

	return try_sh(out, command);
}

static void virsh(const char *arguments)
{
	g_autofree char *said = NULL;

	if (try_virsh(&said, arguments))
		g_error("virsh %s: %s", arguments, said);
}

static void assert_domain_goes_on(void)
{
	uint64_t deadline = deadline_in(LONG_MS);
	g_autofree char *said = NULL;
	struct stat begin, now;

	g_assert_cmpint(stat("/srv/serial", &begin), ==, 0);
	while (!stat("/srv/serial", &now) && now.st_size < begin.st_size + 3 &&
	       deadline_left_ms(deadline))
		g_usleep(50000);
	g_assert_cmpint(now.st_size, >=, begin.st_size + 3);
	said = read_file("/srv/serial");
	g_assert_null(strchr(said, '!'));
}

static pid_t domain_pid(void)
{
	g_autofree char *text = read_file("/run/libvirt/qemu/vm.pid");

	return atoi(text);
}

/* What that QEMU printed, from where it was last started. */
static char *domain_log(void)
{
	g_autofree char *text = read_file("/var/log/libvirt/qemu/vm.log");
	const char *last = g_strrstr(text, "starting up libvirt");

	g_assert_nonnull(last);
	return g_strdup(last);
}

static void assert_logged(const char *text)
{
	g_autofree char *log = domain_log();

	if (!strstr(log, text))
		g_error("not in the log: %s\n%s", text, log);
}

static void assert_domain_refused(const char *why)
{
	g_autofree char *said = NULL;

	g_assert_cmpint(try_virsh(&said, "create /srv/domain.xml"), !=, 0);
	g_test_message("virsh create: %s", g_strstrip(said));
	g_assert_nonnull(strstr(said, why));
}

/* Without any rule libvirtd cannot ask the script, and may it, its guest cannot start it. */
static void test_refused(void)
{
	g_autofree char *denied = NULL;

	allow_nothing(GUEST_RULES);
	allow_nothing(DAEMON_RULES);
	write_domain("");
	start_daemon();
	assert_domain_refused("Permission denied");
	allow(DAEMON_RULES, NULL);
	load_daemon_profiles();
	g_free(denials());
	assert_domain_refused("Permission denied");
	denied = denials();
	g_assert_nonnull(strstr(denied, "operation=\"exec\""));
	g_assert_nonnull(strstr(denied, "name=\"" SCRIPT "\""));
}

/* With the rules: started, saved, restored in the thread, and nothing denied. */
static void test_libvirt(void)
{
	g_autofree char *denied = NULL, *hint = NULL, *before = NULL;

	allow(GUEST_RULES, NULL);
	virsh("create /srv/domain.xml");
	assert_domain_goes_on();
	assert_confined(domain_pid(), DOMAIN_PROFILE);
	virsh("save vm /srv/saved");
	virsh("restore /srv/saved");
	assert_domain_goes_on();
	assert_confined(domain_pid(), DOMAIN_PROFILE);
	assert_loaded_in_thread(domain_pid());
	assert_logged("loadvm: io-free on QEMU");
	assert_logged("loadvm: " POLICY_FILE ": this load: io-free");
	denied = denials();
	g_assert_cmpstr(denied, ==, "");
	hint = checked_pid(domain_pid());
	g_assert_nonnull(strstr(hint, DOMAIN_PROFILE ", which allows what loadvm needs"));
	/* One that runs speaks for those that do not yet. */
	before = checked(QEMU);
	g_assert_nonnull(strstr(before, DOMAIN_PROFILE ", which allows what loadvm needs"));
	virsh("destroy vm");
}

/* The saved VM again, with something out of reach. */
struct out_of_reach {
	const char *but;
	const char *says;   /* the domain's log */
	const char *checks; /* --check */
};

static const struct out_of_reach out_of_reach[] = {
	{GATE, "'" GATE "' from LD_PRELOAD cannot be preloaded",
	 "does not allow to read and map (rm) " GATE},
	{LAUNCHER, "loadvm: " LAUNCHER " cannot be started; QEMU runs stock",
	 "does not allow to start (ix) " LAUNCHER},
};

static void test_libvirt_stock(gconstpointer opaque)
{
	const struct out_of_reach *o = opaque;
	struct loadvm_status status;
	g_autofree char *hint = NULL;

	allow(GUEST_RULES, o->but);
	virsh("restore /srv/saved");
	assert_domain_goes_on();
	assert_confined(domain_pid(), DOMAIN_PROFILE);
	g_assert_cmpint(status_of(domain_pid(), &status), ==, UNDER_NOTHING);
	assert_logged(o->says);
	hint = checked_pid(domain_pid());
	g_assert_true(g_str_has_suffix(hint, o->checks));
	virsh("destroy vm");
}

/* ---- pairs: what the QEMU itself says, and how it ends ---- */

/* As libvirt does it: the child that will be the QEMU changes, then starts it. */
static const char become[] =
	"printf 'changeprofile " OWN_PROFILE "' >/proc/self/attr/current && exec \"$@\"";

static const char *const confined_loadvm[] = {"sh",	  "-c",	     become, "sh", LAUNCHER,
					      "--policy", "io-free", "--",   NULL};
static const char *const confined_control[] = {"sh",	    "-c",	become,	   "sh",
					       LAUNCHER,    "--policy", "io-free", "--control",
					       POLICY_FILE, "--",	NULL};

/* A QEMU that was unpacked somewhere: its wrapper and its files; g_free(). */
static char *rules_for_qemu(const char *version)
{
	static const char place[] = "/usr/bin/qemu-system-x86_64";
	const char *path = lab_qemu_path(version, NULL), *binary = lab_qemu_binary(version, NULL);

	if (!path || !strcmp(binary, place) || !g_str_has_suffix(binary, place))
		return g_strdup("");
	return g_strdup_printf("  \"%s\" rmix,\n  \"%.*s/**\" rmix,\n", path,
			       (int)(strlen(binary) - strlen(place)), binary);
}

static struct lab_pair *arrived(const char *version, const char *const *launcher)
{
	struct lab_pair *pair = confined_arrival(version, launcher);

	if (pair)
		assert_confined(lab_vm_pid(lab_pair_destination(pair)), OWN_PROFILE);
	return pair;
}

/* The documented rules less the one for `but`, and those for the lab's own files and QEMUs. */
static void load_own_profile(const char *version, const char *but)
{
	g_autofree char *qemu = rules_for_qemu(version);
	g_autofree char *profile =
		g_strdup_printf("#include <tunables/global>\n"
				"profile " OWN_PROFILE " flags=(attach_disconnected) {\n"
				"  #include <abstractions/libvirt-qemu>\n"
				"  \"%s/**\" rwk,\n%s}\n",
				lab_tmpdir(), qemu);

	allow(GUEST_RULES, but);
	write_file("/srv/own-profile", profile);
	sh("apparmor_parser -r /srv/own-profile");
	g_free(denials());
}

static void test_arrives(gconstpointer version)
{
	g_autofree char *denied = NULL;
	g_autoptr(lab_pair) pair = NULL;

	load_own_profile(version, NULL);
	pair = arrived(version, confined_loadvm);
	if (!pair)
		return;
	assert_loaded_in_thread(lab_vm_pid(lab_pair_destination(pair)));
	assert_quits_saying(pair, "loadvm: io-free on QEMU ");
	denied = denials();
	g_assert_cmpstr(denied, ==, "");
}

/* The control file out of reach: the policy of the start stands. */
static void test_no_control(void)
{
	g_autofree char *said = NULL, *denied = NULL, *hint = NULL;
	g_autoptr(lab_pair) pair = NULL;
	pid_t pid;

	load_own_profile("7.2", POLICY_FILE);
	pair = arrived("7.2", confined_control);
	if (!pair)
		return;
	pid = lab_vm_pid(lab_pair_destination(pair));
	assert_loaded_in_thread(pid);
	said = lab_vm_stderr(lab_pair_destination(pair));
	g_assert_nonnull(strstr(said, POLICY_FILE ": Permission denied; this load: io-free\n"));
	denied = denials();
	g_assert_nonnull(strstr(denied, "name=\"" POLICY_FILE "\""));
	hint = checked_pid(pid);
	g_assert_true(g_str_has_suffix(hint, "does not allow to read (r) " POLICY_FILE));
}

/* A library out of reach: one line, and all is as stock. */
struct stock {
	const char *but;
	enum under under;
	const char *says;
};

static const struct stock stocks[] = {
	{GATE, UNDER_NOTHING,
	 "ERROR: ld.so: object '" GATE "' from LD_PRELOAD cannot be preloaded"},
	{CORE, UNDER_GATE,
	 "loadvm: " CORE ": cannot open shared object file: Permission denied; "
	 "QEMU runs stock"},
};

static void test_stock(gconstpointer opaque)
{
	const struct stock *stock = opaque;
	g_autofree char *denied = NULL, *hint = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct loadvm_status status;
	pid_t pid;

	load_own_profile("7.2", stock->but);
	pair = arrived("7.2", confined_loadvm);
	if (!pair)
		return;
	pid = lab_vm_pid(lab_pair_destination(pair));
	g_assert_cmpint(status_of(pid, &status), ==, stock->under);
	denied = denials();
	g_assert_nonnull(strstr(denied, stock->but));
	hint = checked_pid(pid);
	g_assert_nonnull(strstr(hint, "does not allow to read and map (rm) "));
	g_assert_true(g_str_has_suffix(hint, stock->but));
	assert_quits_saying(pair, stock->says);
	assert_ends_as_stock(confined_loadvm);
}

/* Before any guest has run there is no profile to ask. */
static void test_check(void)
{
	g_autofree char *hint = checked(QEMU);

	g_assert_nonnull(strstr(hint, "AppArmor is on: "));
}

int main(int argc, char **argv)
{
	int code;

	g_test_init(&argc, &argv, NULL);
	if (!in_vm())
		return EXIT_CANNOT;
	set_up();
	g_test_add_func("/apparmor/check", test_check);
	g_test_add_func("/apparmor/refused", test_refused);
	g_test_add_func("/apparmor/libvirt", test_libvirt);
	g_test_add_data_func("/apparmor/libvirt-stock/gate", &out_of_reach[0], test_libvirt_stock);
	g_test_add_data_func("/apparmor/libvirt-stock/launcher", &out_of_reach[1],
			     test_libvirt_stock);
	g_test_add_data_func("/apparmor/arrives/7.2", "7.2", test_arrives);
	g_test_add_data_func("/apparmor/arrives/10.0", "10.0", test_arrives);
	g_test_add_func("/apparmor/no-control", test_no_control);
	g_test_add_data_func("/apparmor/stock/gate", &stocks[0], test_stock);
	g_test_add_data_func("/apparmor/stock/core", &stocks[1], test_stock);
	code = g_test_run();
	lab_process_free(daemon_process);
	return code;
}
