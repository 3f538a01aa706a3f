/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bqlstat doctor` and `probes` tell the truth: their verdict is what `record` then meets, their
 * plan is what it attaches, and looking leaves nothing behind.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "probes/tracer.h"
#include "runtime/seams/seams.h"

enum { DONE = 0, USAGE = 2, CANNOT = 3 };

static int run(const char *const *argv, char **out, char **err)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) process = lab_process_new(argv, NULL, &error);
	int status;

	g_assert_no_error(error);
	g_assert_true(lab_process_wait(process, 60000, &status, &error));
	if (out)
		*out = lab_process_stdout(process);
	if (err)
		*err = lab_process_stderr(process);
	return status;
}

/* `bqlstat COMMAND --json [-p] WHICH`; the exit code must agree with what it says. */
static JsonNode *ask(const char *command, bool option, const char *which, int *status)
{
	const char *argv[] = {lab_program("bqlstat"), command, "--json", NULL, NULL, NULL};
	g_autofree char *out = NULL, *err = NULL;
	g_autoptr(GError) error = NULL;
	JsonNode *node;

	argv[3] = option ? "-p" : which;
	argv[4] = option ? which : NULL;
	*status = run(argv, &out, &err);
	g_assert_cmpstr(err, ==, "");
	node = json_from_string(out, &error);
	g_assert_no_error(error);
	g_assert_nonnull(node);
	return node;
}

static JsonArray *points_of(JsonNode *node)
{
	JsonObject *qemu = json_object_get_object_member(json_node_get_object(node), "qemu");

	return json_object_get_array_member(qemu, "points");
}

/* How many points have this plan. */
static unsigned planned(JsonNode *node, const char *plan)
{
	JsonArray *points = points_of(node);
	unsigned n = 0;

	for (unsigned i = 0; i < json_array_get_length(points); i++)
		n += !strcmp(json_object_get_string_member(json_array_get_object_element(points, i),
							   "plan"),
			     plan);
	return n;
}

/* The state of one of the findings under "host" or "qemu". */
static const char *finding(JsonNode *node, const char *of, const char *name)
{
	JsonObject *object = json_object_get_object_member(json_node_get_object(node), of);
	JsonArray *checks = json_object_get_array_member(object, "checks");

	for (unsigned i = 0; i < json_array_get_length(checks); i++) {
		JsonObject *check = json_array_get_object_element(checks, i);

		if (!strcmp(json_object_get_string_member(check, "name"), name))
			return json_object_get_string_member(check, "state");
	}
	return NULL;
}

static bool usable(JsonNode *node)
{
	return json_object_get_boolean_member(json_node_get_object(node), "usable");
}

static bool not_root(void)
{
	if (!geteuid())
		return false;
	g_test_skip("needs root");
	return true;
}

/* ---- real QEMUs ---- */

static struct lab_vm *start(const char *version, const char *policy, const char *const *env)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", policy, "--", NULL};
	const struct lab_vm_options options = {
		.version = version,
		.launcher = policy ? launcher : NULL,
		.env = env,
	};
	g_autoptr(GError) error = NULL;
	struct lab_vm *vm = lab_vm_new(&options, &error);

	if (!vm && lab_skip(error))
		return NULL;
	g_assert_no_error(error);
	return vm;
}

/* The plan, point by point, against what an attach then does; and against one while attached. */
static void test_plan(const void *version)
{
	g_autoptr(lab_vm) vm = NULL;
	g_autofree char *pid = NULL;
	g_autoptr(JsonNode) before = NULL, during = NULL, after = NULL, file = NULL;
	const struct tracer_opts opts = {.threshold_ns = 1000000};
	const struct tracer_point *attached;
	struct tracer_error err;
	struct tracer *tracer;
	size_t n_attached, next = 0;
	int status, target;
	const char *why;
	GError *error = NULL;

	if (not_root() || !(vm = start(version, NULL, NULL)))
		return;
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	before = ask("probes", true, pid, &status);
	g_assert_cmpint(status, ==, DONE);
	file = ask("probes", false, lab_qemu_binary(version, &why), &status);
	g_assert_cmpint(status, ==, DONE);
	g_assert_cmpuint(planned(file, "attach"), ==, planned(before, "attach"));
	g_assert_cmpuint(planned(before, "share") + planned(before, "refused"), ==, 0);

	g_assert_cmpint(tracer_new(&opts, &tracer, &err), ==, 0);
	target = tracer_add(tracer, lab_vm_pid(vm), &err);
	g_assert_cmpint(target, >=, 0);
	n_attached = tracer_points(tracer, target, &attached);
	for (unsigned i = 0; i < json_array_get_length(points_of(before)); i++) {
		JsonObject *p = json_array_get_object_element(points_of(before), i);

		if (strcmp(json_object_get_string_member(p, "plan"), "attach") != 0)
			continue;
		g_assert_cmpuint(next, <, n_attached);
		g_assert_true(attached[next].attached);
		g_assert_cmpint(attached[next].vaddr, ==, json_object_get_int_member(p, "vaddr"));
		g_assert_cmpstr(seam_point_kind_name(attached[next].kind), ==,
				json_object_get_string_member(p, "kind"));
		next++;
	}
	g_assert_cmpuint(next, ==, n_attached);

	during = ask("probes", true, pid, &status);
	g_assert_cmpint(status, ==, DONE);
	/* A point that two kinds share has one breakpoint: an unused kind is told as unused. */
	g_assert_cmpuint(planned(during, "share"), ==, n_attached);
	tracer_free(tracer);
	after = ask("probes", true, pid, &status);
	g_assert_cmpint(status, ==, DONE);
	g_assert_cmpuint(planned(after, "attach"), ==, n_attached);
	g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
}

/* How a QEMU was started is seen from outside. */
static void test_loadvm(const void *version)
{
	static const char *const disable[] = {"LOADVM_DISABLE=1", NULL};
	static const struct {
		const char *policy; /* NULL: without loadvm */
		const char *const *env;
		const char *state;
		bool detours;
	} cases[] = {
		{NULL, NULL, "no", false},	    {"stock", NULL, "yes", false},
		{"wait", NULL, "yes", true},	    {"io-free", NULL, "yes", true},
		{"io-free", disable, "off", false},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(lab_vm) vm = start(version, cases[i].policy, cases[i].env);
		g_autoptr(JsonNode) node = NULL;
		g_autofree char *pid = NULL;
		int status;

		if (!vm)
			return;
		pid = g_strdup_printf("%d", lab_vm_pid(vm));
		node = ask("doctor", false, pid, &status);
		g_test_message("%s: %s", cases[i].policy ? cases[i].policy : "-",
			       lab_json_string(node, "verdict"));
		g_assert_cmpint(status, ==, usable(node) ? DONE : CANNOT);
		/* Root can record here if anybody can: the other tests of this program do. */
		if (!geteuid())
			g_assert_cmpint(status, ==, DONE);
		g_assert_cmpstr(lab_json_string(node, "qemu.loadvm.state"), ==, cases[i].state);
		g_assert_cmpint(lab_json_int(node, "qemu.loadvm.detours") > 0, ==,
				cases[i].detours);
		if (cases[i].detours)
			g_assert_cmpstr(lab_json_string(node, "qemu.loadvm.policy"), ==,
					cases[i].policy);
		g_assert_true(g_str_has_prefix(lab_json_string(node, "qemu.version"), version));
		g_assert_cmpint(lab_json_int(node, "qemu.pid"), ==, lab_vm_pid(vm));
		/* Detours lie where no point does: the plan is the same. */
		g_assert_cmpuint(planned(node, "refused"), ==, 0);
		g_assert_cmpuint(planned(node, "attach"), >=, 10);
	}
}

/* ---- foreign bytes, on a dancer that waits to begin ---- */

struct dancer {
	struct lab_process *process;
	char pid[16];
	struct seam_map *map;
	uint64_t bias;
	int mem;
	uint64_t ask; /* the ASK point, in the process */
	uint8_t was;
};

static void dancer_start(struct dancer *d)
{
	const char *argv[] = {lab_program("lockdance"), "--wait-start", "-e",
			      "thread a; lock savevm.c:1; unlock", NULL};
	g_autoptr(GError) error = NULL;
	g_autofree char *mem = NULL;
	const struct seam_point *points;
	struct seam_error err;
	size_t count;

	d->process = lab_process_new(argv, NULL, &error);
	g_assert_no_error(error);
	g_assert_true(lab_process_expect(d->process, "ready", 10000, &error));
	g_snprintf(d->pid, sizeof(d->pid), "%d", lab_process_pid(d->process));
	mem = g_strdup_printf("/proc/%s/mem", d->pid);
	d->mem = open(mem, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(d->mem, >=, 0);
	g_assert_cmpint(seam_map_open_pid(lab_process_pid(d->process), &d->map, &d->bias, &err), ==,
			0);
	points = seam_map_points(d->map, &count);
	g_assert_cmpuint(count, >, 0);
	g_assert_cmpint(points[0].kind, ==, SEAM_ASK);
	d->ask = d->bias + points[0].vaddr;
	g_assert_cmpint(pread(d->mem, &d->was, 1, d->ask), ==, 1);
}

static void dancer_poke(struct dancer *d, uint8_t byte)
{
	g_assert_cmpint(pwrite(d->mem, &byte, 1, d->ask), ==, 1);
}

static void dancer_end(struct dancer *d)
{
	close(d->mem);
	seam_map_free(d->map);
	lab_process_free(d->process);
}

/* The reason at the first point, and the verdict: by probes, by doctor, and by record itself. */
static void expect_refused(struct dancer *d, const char *why)
{
	g_autofree char *file = g_build_filename(lab_tmpdir(), "refused.bql", NULL), *err = NULL;
	const char *record[] = {
		lab_program("bqlstat"), "record", "-p", d->pid, "-d", "0.1", "-o", file, NULL};
	g_autoptr(JsonNode) probes = NULL, doctor = NULL;
	JsonObject *point;
	int status;

	probes = ask("probes", true, d->pid, &status);
	g_assert_cmpint(status, ==, CANNOT);
	point = json_array_get_object_element(points_of(probes), 0);
	g_assert_cmpstr(json_object_get_string_member(point, "plan"), ==, "refused");
	g_assert_nonnull(strstr(json_object_get_string_member(point, "why"), why));
	doctor = ask("doctor", false, d->pid, &status);
	g_assert_cmpint(status, ==, CANNOT);
	g_assert_false(usable(doctor));
	g_assert_cmpstr(finding(doctor, "qemu", "probe points"), ==, "missing");
	g_assert_nonnull(strstr(lab_json_string(doctor, "verdict"), why));
	g_assert_cmpint(run(record, NULL, &err), ==, CANNOT);
	g_assert_nonnull(strstr(err, why));
	unlink(file);
}

static void test_patched(void)
{
	g_autoptr(JsonNode) node = NULL;
	struct dancer d;
	int status;

	if (not_root())
		return;
	dancer_start(&d);
	dancer_poke(&d, d.was ^ 0x10);
	expect_refused(&d, "memory differs from the file");
	dancer_poke(&d, d.was);
	node = ask("probes", true, d.pid, &status);
	g_assert_cmpint(status, ==, DONE);
	dancer_end(&d);
}

/* A debugger's breakpoint is not ours to share. */
static void test_debugger(void)
{
	g_autoptr(JsonNode) node = NULL;
	struct dancer d;
	pid_t pid;
	int status;

	if (not_root())
		return;
	dancer_start(&d);
	pid = lab_process_pid(d.process);
	g_assert_cmpint(ptrace(PTRACE_SEIZE, pid, 0, 0), ==, 0);
	dancer_poke(&d, 0xcc);
	expect_refused(&d, "a breakpoint of debugger");
	dancer_poke(&d, d.was);
	node = ask("doctor", false, d.pid, &status);
	g_assert_cmpint(status, ==, DONE);
	g_assert_cmpstr(finding(node, "qemu", "debugger"), ==, "note");
	/* The dancer must be stopped to be let go. */
	g_assert_cmpint(ptrace(PTRACE_INTERRUPT, pid, 0, 0), ==, 0);
	g_assert_cmpint(waitpid(pid, &status, __WALL), ==, pid);
	g_assert_cmpint(ptrace(PTRACE_DETACH, pid, 0, 0), ==, 0);
	dancer_end(&d);
}

/* ---- other users ---- */

/*
 * Whatever rights a user has: doctor says "usable" exactly when record works. Programs are copied
 * to where that user can reach them.
 */
static void test_rights(void)
{
	static const struct {
		const char *capabilities; /* NULL: none */
		const char *name, *state; /* a finding that must be */
	} users[] = {
		{NULL, "CAP_BPF", "missing"},
		{"+bpf", "CAP_PERFMON", "missing"},
		{"+bpf,+perfmon", "CAP_PERFMON", "ok"},
		{"+sys_admin", "uprobes", "ok"},
	};
	g_autofree char *folder = g_dir_make_tmp("doctor-XXXXXX", NULL), *setpriv = NULL;
	g_autofree char *bqlstat = g_build_filename(folder, "bqlstat", NULL);
	g_autofree char *dance = g_build_filename(folder, "lockdance", NULL);
	g_autofree char *file = g_build_filename(folder, "run.bql", NULL);
	const char *as_nobody[] = {"setpriv",
				   "--reuid=65534",
				   "--regid=65534",
				   "--clear-groups",
				   dance,
				   "--wait-start",
				   "-e",
				   "thread a; lock savevm.c:1; unlock",
				   NULL};
	const struct {
		const char *from, *to;
	} copies[] = {{lab_program("bqlstat"), bqlstat}, {lab_program("lockdance"), dance}};
	g_autoptr(lab_process) process = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *pid = NULL;
	unsigned working = 0;

	setpriv = g_find_program_in_path("setpriv");
	if (geteuid() || !setpriv) {
		g_test_skip("needs root and setpriv");
		rmdir(folder);
		return;
	}
	g_assert_cmpint(chmod(folder, 0777), ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(copies); i++) {
		g_autofree char *bytes = NULL;
		gsize size;

		g_assert_true(g_file_get_contents(copies[i].from, &bytes, &size, NULL));
		g_assert_true(g_file_set_contents(copies[i].to, bytes, size, NULL));
		g_assert_cmpint(chmod(copies[i].to, 0755), ==, 0);
	}
	process = lab_process_new(as_nobody, NULL, &error);
	g_assert_no_error(error);
	g_assert_true(lab_process_expect(process, "ready", 10000, &error));
	pid = g_strdup_printf("%d", lab_process_pid(process));

	for (unsigned i = 0; i < G_N_ELEMENTS(users); i++) {
		g_autofree char *caps =
			users[i].capabilities ? g_strdup(users[i].capabilities) : g_strdup("-all");
		g_autofree char *inherit = g_strdup_printf("--inh-caps=%s", caps);
		g_autofree char *ambient = g_strdup_printf("--ambient-caps=%s", caps);
		const char *doctor[] = {
			"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", inherit,
			ambient,   bqlstat,	    "doctor",	     "--json",	       pid,
			NULL};
		const char *record[] = {"setpriv",
					"--reuid=65534",
					"--regid=65534",
					"--clear-groups",
					inherit,
					ambient,
					bqlstat,
					"record",
					"-q",
					"-d",
					"0.2",
					"-o",
					file,
					"-p",
					pid,
					NULL};
		g_autofree char *out = NULL, *err = NULL;
		g_autoptr(JsonNode) node = NULL;
		int said = run(doctor, &out, NULL), met = run(record, NULL, &err);

		g_test_message("%s: doctor %d, record %d: %s", caps, said, met, err);
		node = json_from_string(out, &error);
		g_assert_no_error(error);
		g_test_message("%s", lab_json_string(node, "verdict"));
		g_assert_cmpint(said, ==, met);
		g_assert_cmpint(usable(node), ==, said == DONE);
		g_assert_cmpstr(finding(node, "host", users[i].name), ==, users[i].state);
		working += met == DONE;
		unlink(file);
	}
	/* Else the agreement would be empty. */
	g_assert_cmpuint(working, >, 0);
	g_assert_cmpuint(working, <, G_N_ELEMENTS(users));
	lab_process_kill(process, SIGKILL);
	for (unsigned i = 0; i < G_N_ELEMENTS(copies); i++)
		unlink(copies[i].to);
	g_assert_cmpint(rmdir(folder), ==, 0);
}

/* ---- what can go wrong ---- */

static void test_errors(void)
{
	const char *bqlstat = lab_program("bqlstat");
	g_autofree char *self = g_strdup_printf("%d", getpid());
	const struct {
		const char *argv[6];
		int status;
		const char *says;
	} cases[] = {
		{{bqlstat, "probes", NULL}, USAGE, "give -p PID or one QEMU binary"},
		{{bqlstat, "probes", "a", "b"}, USAGE, "give -p PID or one QEMU binary"},
		{{bqlstat, "probes", "-p", "a"}, USAGE, "'a' is not a process id"},
		{{bqlstat, "probes", "-p", ""}, USAGE, "'' is not a process id"},
		{{bqlstat, "probes", "--nonsense"}, USAGE, "bqlstat help probes"},
		{{bqlstat, "probes", "-p", "99999999999"}, CANNOT, "no process 99999999999"},
		{{bqlstat, "probes", "-p", "4194304"}, CANNOT, "no process 4194304"},
		{{bqlstat, "probes", "-p", self}, CANNOT, "is not a QEMU system emulator"},
		{{bqlstat, "probes", "/nonexistent"}, CANNOT, "cannot read /nonexistent"},
		{{bqlstat, "probes", "/bin/sh"}, CANNOT, "is not a QEMU system emulator"},
		{{bqlstat, "probes", "/etc/passwd"}, CANNOT, "is not an ELF program"},
		{{bqlstat, "doctor", "a", "b"}, USAGE, "give one PID or QEMU binary"},
		{{bqlstat, "doctor", "--nonsense"}, USAGE, "bqlstat help doctor"},
		{{bqlstat, "doctor", "4194304"}, CANNOT, "Not usable: there is no process"},
		{{bqlstat, "doctor", "/bin/sh"}, CANNOT, "Not usable: /bin/sh is not a QEMU"},
		{{"sh", "-c", "\"$0\" doctor >/dev/full", bqlstat}, CANNOT, "cannot write"},
		{{"sh", "-c", "\"$0\" probes \"$1\" >/dev/full", bqlstat, lab_program("lockdance")},
		 CANNOT,
		 "cannot write"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *argv[G_N_ELEMENTS(cases[0].argv) + 1] = {};
		g_autofree char *out = NULL, *err = NULL;
		int status;

		memcpy(argv, cases[i].argv, sizeof(cases[i].argv));
		status = run(argv, &out, &err);
		g_test_message("%s %s %s: %d %s", argv[1], argv[2], argv[3] ? argv[3] : "", status,
			       err);
		g_assert_cmpint(status, ==, cases[i].status);
		g_assert_nonnull(strstr(*err ? err : out, cases[i].says));
	}
}

/* Not on a terminal: no colours, and a line a finding. */
static void test_plain(void)
{
	const char *argv[] = {lab_program("bqlstat"), "doctor", lab_program("lockdance"), NULL};
	g_autofree char *out = NULL;

	run(argv, &out, NULL);
	g_assert_null(strchr(out, '\033'));
	g_assert_nonnull(strstr(out, "\n  ok       kernel"));
	g_assert_nonnull(strstr(out, "bql_lock_impl"));
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (unsigned v = 0; v < G_N_ELEMENTS(versions); v++) {
		g_autofree char *plan = g_strdup_printf("/doctor/%s/plan", versions[v]);
		g_autofree char *loadvm = g_strdup_printf("/doctor/%s/loadvm", versions[v]);

		g_test_add_data_func(plan, versions[v], test_plan);
		g_test_add_data_func(loadvm, versions[v], test_loadvm);
	}
	g_test_add_func("/doctor/patched", test_patched);
	g_test_add_func("/doctor/debugger", test_debugger);
	g_test_add_func("/doctor/rights", test_rights);
	g_test_add_func("/doctor/errors", test_errors);
	g_test_add_func("/doctor/plain", test_plain);
	return g_test_run();
}
