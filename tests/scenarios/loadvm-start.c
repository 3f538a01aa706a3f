/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How loadvm gets into a QEMU: what it changes there, byte by byte, and when it leaves it alone.
 * QEMU must start in every case.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"

/* What every policy but stock patches; of each a jump's 5 bytes. */
static const enum seam_id detoured[] = {
	SEAM_LOADVM_STATE,
	SEAM_CLEANUP,
	SEAM_CHANNEL_WAIT,
	SEAM_CHANNEL_READ,
	SEAM_MULTIFD_RECV_SYNC,
	SEAM_FD_READABLE_YIELD,
	SEAM_RAM_LOAD,
	SEAM_VMSTATE_LOAD,
	SEAM_SEM_WAIT,
	SEAM_THREAD_CREATE,
	/* 9.0 and later */
	SEAM_FILE_READ_AT,
	SEAM_MULTIFD_RECV,
	/* 10.0 and later */
	SEAM_THREADS_WAIT,
};

static size_t detours(const char *version)
{
	return strcmp(version, "7.2") ? G_N_ELEMENTS(detoured) : G_N_ELEMENTS(detoured) - 3;
}

enum { JMP_BYTES = 5 };

/* A QEMU that does nothing, started by loadvm under `policy`. NULL: skipped. */
static struct lab_vm *start_as(struct lab_vm_options options, const char *policy)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", policy, "--", NULL};
	GError *error = NULL;
	struct lab_vm *vm;

	g_assert_nonnull(launcher[0]);
	options.launcher = launcher;
	vm = lab_vm_new(&options, &error);
	if (!vm && lab_skip(error)) {
		g_error_free(error);
		return NULL;
	}
	g_assert_no_error(error);
	/* It answers: whatever was done to it, it is a QEMU. */
	g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
	return vm;
}

/* With more environment. */
static struct lab_vm *start(const char *version, const char *policy, const char *const *env)
{
	return start_as((struct lab_vm_options){.version = version, .env = env}, policy);
}

static void expect_said(struct lab_vm *vm, const char *text)
{
	g_autofree char *said = lab_vm_stderr(vm);

	if (!strstr(said, text))
		g_test_message("it said: %s", said);
	g_assert_nonnull(strstr(said, text));
	/* One line, no more. */
	g_assert_null(strstr(strstr(said, "loadvm: ") + 1, "loadvm: "));
}

/*
 * Compare the process's code with its file. Returns how many bytes differ; each must lie in the
 * jump of one of `detoured`, if any are allowed.
 */
static size_t differing_from(const char *binary, struct lab_vm *vm, bool allowed)
{
	g_autofree char *mem_path = g_strdup_printf("/proc/%d/mem", lab_vm_pid(vm));
	g_autofree char *maps_path = g_strdup_printf("/proc/%d/maps", lab_vm_pid(vm));
	int file = open(binary, O_RDONLY | O_CLOEXEC);
	int mem = open(mem_path, O_RDONLY | O_CLOEXEC);
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;
	struct seam_error err;
	struct seam_map *map;
	struct stat st;
	uint64_t bias;
	size_t count = 0, compared = 0;

	g_assert_cmpint(file, >=, 0);
	g_assert_cmpint(mem, >=, 0);
	g_assert_cmpint(fstat(file, &st), ==, 0);
	g_assert_cmpint(seam_map_open_pid(lab_vm_pid(vm), &map, &bias, &err), ==, 0);
	g_assert_true(g_file_get_contents(maps_path, &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (char **line = lines; *line; line++) {
		unsigned long long begin, end, offset, inode;
		char prot[5];

		if (sscanf(*line, "%llx-%llx %4s %llx %*s %llu", &begin, &end, prot, &offset,
			   &inode) != 5 ||
		    inode != st.st_ino || prot[2] != 'x')
			continue;
		/* Never left writable. */
		g_assert_cmpstr(prot, ==, "r-xp");
		for (uint64_t at = begin; at < end; at += 4096) {
			uint8_t was[4096] = {0}, is[4096];

			g_assert_cmpint(pread(file, was, sizeof(was), (off_t)(at - begin + offset)),
					>, 0);
			g_assert_cmpint(pread(mem, is, sizeof(is), (off_t)at), ==, sizeof(is));
			compared += sizeof(is);
			for (size_t b = 0; b < sizeof(is); b++) {
				bool ours = false;

				if (was[b] == is[b])
					continue;
				count++;
				for (size_t d = 0; d < G_N_ELEMENTS(detoured); d++) {
					const struct seam_function *f =
						seam_map_function(map, detoured[d]);
					uint64_t jump = bias + f->vaddr;

					ours |= f->name && at + b >= jump &&
						at + b < jump + JMP_BYTES;
				}
				g_assert_true(allowed && ours);
			}
		}
	}
	g_assert_cmpuint(compared, >, 4 << 20);
	seam_map_free(map);
	close(mem);
	close(file);
	return count;
}

static size_t differing(struct lab_vm *vm, const char *version, bool allowed)
{
	const char *why;

	return differing_from(lab_qemu_binary(version, &why), vm, allowed);
}

static void test_stock(const void *version)
{
	g_autoptr(lab_vm) vm = start(version, "stock", NULL);

	if (!vm)
		return;
	expect_said(vm, "loadvm: stock: nothing is changed");
	g_assert_cmpuint(differing(vm, version, false), ==, 0);
}

static void test_detours(const void *version)
{
	g_autofree char *says = g_strdup_printf(": %zu detours\n", detours(version));
	g_autoptr(lab_vm) vm = start(version, "io-free", NULL);
	size_t count;

	if (!vm)
		return;
	expect_said(vm, says);
	count = differing(vm, version, true);
	/* A byte of a jump may by chance be the one that it replaced. */
	g_assert_cmpuint(count, >, detours(version) * 3);
	g_assert_cmpuint(count, <=, detours(version) * JMP_BYTES);
}

static void test_disabled(const void *version)
{
	static const char *const env[] = {"LOADVM_DISABLE=1", NULL};
	g_autoptr(lab_vm) vm = start(version, "io-free", env);

	if (!vm)
		return;
	expect_said(vm, "loadvm: switched off by LOADVM_DISABLE");
	g_assert_cmpuint(differing(vm, version, false), ==, 0);
}

/* The gate alone, as after a broken installation. */
static void test_core_missing(const void *version)
{
	g_autofree char *gate = g_build_filename(lab_tmpdir(), "libloadvm.so", NULL);
	g_autofree char *env_lib = g_strdup_printf("LOADVM_LIB=%s", gate);
	const char *const env[] = {env_lib, NULL};
	g_autofree char *folder = g_path_get_dirname(lab_program("loadvm"));
	g_autofree char *built = g_build_filename(folder, "libloadvm.so", NULL);
	g_autofree char *bytes = NULL;
	g_autoptr(lab_vm) vm = NULL;
	gsize size;

	g_assert_true(g_file_get_contents(built, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents(gate, bytes, (gssize)size, NULL));
	vm = start(version, "io-free", env);
	if (!vm)
		return;
	expect_said(vm, "libloadvm-core.so: cannot open shared object file");
	g_assert_cmpuint(differing(vm, version, false), ==, 0);
}

/* A uprobe on every process that maps the file, before QEMU starts: what a tracer would leave. */
static int uprobe(const char *binary, uint64_t offset)
{
	struct perf_event_attr attr = {.size = sizeof(attr)};
	g_autofree char *type = NULL;

	if (!g_file_get_contents("/sys/bus/event_source/devices/uprobe/type", &type, NULL, NULL))
		return -ENOENT;
	attr.type = (uint32_t)atoi(type);
	attr.uprobe_path = (uintptr_t)binary;
	attr.probe_offset = offset;
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/*
 * On a copy: a breakpoint on the packaged binary's bytes would be one in every QEMU that runs, and
 * would crash those that are detoured.
 */
static void test_uprobe(const void *version)
{
	/* A QEMU looks for these where it lies itself. */
	static const char *const env[] = {"QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu", NULL};
	static const char *const args[] = {"-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
					   NULL};
	g_autofree char *copy = g_build_filename(lab_tmpdir(), "qemu-with-a-probe", NULL);
	const char *why, *binary = lab_qemu_binary(version, &why);
	g_autofree char *bytes = NULL;
	const struct seam_function *f;
	g_autoptr(lab_vm) vm = NULL;
	struct seam_error err;
	struct seam_map *map;
	gsize size;
	int probe;

	if (!binary) {
		g_test_skip(why);
		return;
	}
	g_assert_true(g_file_get_contents(binary, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents_full(copy, bytes, (gssize)size, G_FILE_SET_CONTENTS_NONE,
					       0755, NULL));
	g_assert_cmpint(seam_map_open(copy, &map, &err), ==, 0);
	f = seam_map_function(map, SEAM_MULTIFD_RECV_SYNC);
	probe = uprobe(copy, f->offset);
	if (probe < 0) {
		g_autofree char *reason =
			g_strdup_printf("cannot place a uprobe here: %s", g_strerror(-probe));

		g_test_skip(reason);
		goto cleanup;
	}
	vm = start_as(
		(struct lab_vm_options){
			.version = version, .binary = copy, .env = env, .args = args},
		"io-free");
	if (vm)
		expect_said(vm, "multifd_recv_sync_main: its byte 0 in memory is 0xcc");
	close(probe);
	/* With the probe gone there is nothing left: no other target was touched. */
	if (vm)
		g_assert_cmpuint(differing_from(copy, vm, false), ==, 0);
cleanup:
	seam_map_free(map);
	unlink(copy);
}

/* ---- the launcher ---- */

struct answer {
	int status;
	char *out, *err;
};

static void run(struct answer *answer, const char *const *argv, const char *const *env)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) process = lab_process_new(argv, env, &error);

	g_assert_no_error(error);
	g_assert_true(lab_process_wait(process, 10000, &answer->status, &error));
	answer->out = lab_process_stdout(process);
	answer->err = lab_process_stderr(process);
}

static void test_launcher(void)
{
	const char *loadvm = lab_program("loadvm");
	const struct {
		const char *argv[6], *env[2];
		int status;
		const char *out, *err;
	} cases[] = {
		{{loadvm, "--help"}, {NULL}, 0, "usage: loadvm", NULL},
		{{loadvm, "--version"}, {NULL}, 0, "loadvm " BQLSTAT_VERSION "\n", NULL},
		{{loadvm, "--list"}, {NULL}, 0, "io-free", NULL},
		{{loadvm}, {NULL}, 2, NULL, "usage: loadvm"},
		{{loadvm, "--nonsense"}, {NULL}, 2, NULL, "loadvm: there is no option --nonsense"},
		{{loadvm, "-qx"}, {NULL}, 2, NULL, "loadvm: there is no option -x"},
		{{loadvm, "--policy"}, {NULL}, 2, NULL, "loadvm: --policy wants a value"},
		{{loadvm, "-q", "--"}, {NULL}, 2, NULL, "loadvm: say what to start"},
		{{loadvm, "--policy", "fast", "--", "true"}, {NULL}, 2, NULL, "no policy 'fast'"},
		{{loadvm, "--", "/nonexistent/qemu"},
		 {NULL},
		 3,
		 NULL,
		 "cannot run /nonexistent/qemu"},
		{{loadvm, "true"}, {"LOADVM_LIB=/nonexistent.so"}, 3, NULL, "/nonexistent.so"},
		/* Not a QEMU: not a word, its own exit code, the environment for what it starts. */
		{{loadvm, "--", "sh", "-c", "exit 7"}, {NULL}, 7, NULL, NULL},
		{{loadvm, "--", "sh", "-c", "echo $LOADVM_POLICY $LD_PRELOAD"},
		 {NULL},
		 0,
		 "io-free /",
		 NULL},
		{{loadvm, "-p", "wait", "printenv", "LOADVM_POLICY"}, {NULL}, 0, "wait\n", NULL},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *argv[G_N_ELEMENTS(cases[0].argv) + 1] = {NULL};
		struct answer answer;

		memcpy(argv, cases[i].argv, sizeof(cases[i].argv));
		run(&answer, argv, cases[i].env);
		g_assert_cmpint(answer.status, ==, cases[i].status);
		if (cases[i].out)
			g_assert_nonnull(strstr(answer.out, cases[i].out));
		else
			g_assert_cmpstr(answer.out, ==, "");
		if (cases[i].err)
			g_assert_nonnull(strstr(answer.err, cases[i].err));
		else
			g_assert_cmpstr(answer.err, ==, "");
		g_free(answer.out);
		g_free(answer.err);
	}
}

/* A program of a QEMU's name that is none: its user must hear that nothing happened. */
static void test_no_qemu(void)
{
	g_autofree char *path = g_build_filename(lab_tmpdir(), "qemu-system-none", NULL);
	g_autofree char *real = g_find_program_in_path("true");
	const char *argv[] = {lab_program("loadvm"), "--", path, NULL};
	g_autofree char *bytes = NULL;
	struct answer answer;
	gsize size;

	g_assert_true(g_file_get_contents(real, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents_full(path, bytes, (gssize)size, G_FILE_SET_CONTENTS_NONE,
					       0755, NULL));
	run(&answer, argv, NULL);
	g_assert_cmpint(answer.status, ==, 0);
	g_assert_cmpstr(answer.err, ==,
			"loadvm: this has a QEMU's name, but there is no QEMU in it; it runs stock\n");
	g_free(answer.out);
	g_free(answer.err);
	unlink(path);
}

/* What QEMU itself starts is none of ours, and a preload of the user's own stays. */
static void test_children(const void *version)
{
	g_autofree char *seen = g_build_filename(lab_tmpdir(), "environment", NULL);
	g_autofree char *incoming =
		g_strdup_printf("exec:env > %s.new; mv %s.new %s; exec sleep 60", seen, seen, seen);
	const char *launcher[] = {lab_program("loadvm"), "--", NULL};
	static const char *const env[] = {"LD_PRELOAD=libm.so.6", NULL};
	const struct lab_vm_options options = {
		.version = version,
		.launcher = launcher,
		.env = env,
		.incoming = incoming,
	};
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);

	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	for (int i = 0; i < 1000 && !g_file_test(seen, G_FILE_TEST_EXISTS); i++)
		g_usleep(20000);
	g_assert_true(g_file_get_contents(seen, &text, NULL, NULL));
	g_assert_nonnull(strstr(text, "\nLD_PRELOAD=libm.so.6\n"));
	g_assert_null(strstr(text, "LOADVM"));
	g_assert_null(strstr(text, "libloadvm"));
	unlink(seen);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};
	static const struct {
		const char *name;
		void (*fn)(const void *);
	} tests[] = {
		{"stock", test_stock},	     {"detours", test_detours},
		{"disabled", test_disabled}, {"core-missing", test_core_missing},
		{"children", test_children},
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loadvm-start/launcher", test_launcher);
	g_test_add_func("/loadvm-start/no-qemu", test_no_qemu);
	/* The others need their wrappers; the check is the same. */
	g_test_add_data_func("/loadvm-start/7.2/uprobe", versions[0], test_uprobe);
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++)
		for (size_t t = 0; t < G_N_ELEMENTS(tests); t++) {
			g_autofree char *path =
				g_strdup_printf("/loadvm-start/%s/%s", versions[v], tests[t].name);

			g_test_add_data_func(path, versions[v], tests[t].fn);
		}
	return g_test_run();
}
