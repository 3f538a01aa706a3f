/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control file: which policy the next load runs under, decided while QEMU runs. And what stays
 * of loadvm in a core dump.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"
#include "analyzers/inspect/under.h"
#include "tests/scenarios/threads.h"

enum { FIRED_MS = 20000, DONE_MS = 60000, ALIVE_MS = 10000, STALL_MS = 20000 };

static void read_status(struct lab_vm *vm, struct loadvm_status *status)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", lab_vm_pid(vm));
	int mem = open(path, O_RDONLY | O_CLOEXEC);

	g_assert_cmpint(mem, >=, 0);
	g_assert_cmpint(under_loadvm(lab_vm_pid(vm), mem, status), ==, UNDER_LOADVM);
	close(mem);
}

static char *control_file(void)
{
	return g_build_filename(lab_tmpdir(), "control", NULL);
}

static void write_control(const char *path, const char *text)
{
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* ---- one load of a QEMU that started under the default policy ---- */

struct cell {
	const char *version;
	const char *word; /* what the file says */
	bool thread;	  /* and so the load is in one */
};

static void test_arrives(const void *data)
{
	const struct cell *cell = data;
	g_autofree char *control = control_file();
	g_autofree char *says = g_strdup_printf("loadvm: %s: this load: %s\n", control, cell->word);
	const char *launcher[] = {lab_program("loadvm"), "--control", control, "--", NULL};
	/* The stream is held still, to look at the thread while it certainly runs, if it does. */
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.offset_bytes = 4 << 20,
		.fault = LAB_FAULT_STALL,
		.stall_ms = STALL_MS,
	};
	const struct lab_pair_options options = {
		.vm =
			{
				.version = cell->version,
				.devices = LAB_DEVICES_DOZEN,
				.guest = true,
				.fill_mib = 24,
				.dirty_mib = 4,
			},
		.destination_launcher = launcher,
		.rules = &rule,
		.n_rules = 1,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *said = NULL;
	struct loadvm_status status;
	struct lab_migration result;
	struct lab_vm *there;

	unlink(control);
	pair = lab_pair_new(&options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	there = lab_pair_destination(pair);
	read_status(there, &status);
	g_assert_cmpstr(status.policy, ==, "io-free");
	g_assert_cmpuint(status.detours, >, 0);
	g_assert_cmpuint(status.loads, ==, 0);
	g_assert_cmpstr(status.load_policy, ==, "");

	/* Written while QEMU waits for its stream. */
	write_control(control, cell->word);
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, &error));
	g_assert_no_error(error);
	lab_proxy_settle(lab_pair_proxy(pair));
	g_assert_true(await_thread(lab_vm_pid(there), "mig/dst/main", cell->thread));
	lab_proxy_release(lab_pair_proxy(pair), 0);
	g_assert_true(lab_pair_wait(pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_true(lab_vm_alive(there, ALIVE_MS, &error));
	g_assert_no_error(error);

	read_status(there, &status);
	g_assert_cmpstr(status.policy, ==, "io-free");
	g_assert_cmpuint(status.loads, ==, 1);
	g_assert_cmpstr(status.load_policy, ==, cell->word);
	g_assert_cmpint(status.drops > 0, ==, cell->thread);
	said = lab_vm_stderr(there);
	g_assert_nonnull(strstr(said, says));
	lab_migration_clear(&result);
	unlink(control);
}

/* ---- whatever the file says, or is ---- */

struct word {
	const char *name;
	const char *text; /* NULL: there is no file */
	bool fifo;	  /* nobody writes to it: reading would wait for ever */
	const char *policy, *says;
};

static const struct word test_words[] = {
	{"stock", "stock\n", false, "stock", ": this load: stock\n"},
	{"blanks", "  wait\tand more", false, "wait", ": this load: wait\n"},
	{"no-policy", "fast\n", false, "section",
	 ": there is no policy 'fast'; this load: section\n"},
	{"empty", "", false, "section", ": there is no policy ''; this load: section\n"},
	{"absent", NULL, false, "section", ": No such file or directory; this load: section\n"},
	{"fifo", NULL, true, "section", ": Invalid argument; this load: section\n"},
};

/* A stream that is none. The QEMU outlives it: exit-on-error can be switched off from 9.1 on. */
static void test_word(const void *data)
{
	const struct word *word = data;
	g_autofree char *control = control_file();
	g_autofree char *says = g_strconcat("loadvm: ", control, word->says, NULL);
	const char *launcher[] = {
		lab_program("loadvm"), "-p", "section", "-C", control, "--", NULL};
	const struct lab_vm_options options = {
		.version = "10.0",
		.launcher = launcher,
		.incoming = "defer",
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	g_autofree char *said = NULL;
	struct loadvm_status status;

	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	if (word->text)
		write_control(control, word->text);
	else if (word->fifo)
		g_assert_cmpint(mkfifo(control, 0600), ==, 0);
	g_assert_true(lab_qmp_ok(vm, &error,
				 "migrate-incoming {'uri': 'exec:echo no stream at all', "
				 "'exit-on-error': false}"));
	g_assert_no_error(error);
	for (int i = 0; i < 1000; i++) {
		g_autoptr(JsonNode) info = lab_qmp(vm, &error, "query-migrate");

		g_assert_no_error(error);
		if (!g_strcmp0(lab_json_string(info, "status"), "failed"))
			break;
		g_usleep(20000);
	}
	read_status(vm, &status);
	g_assert_cmpuint(status.loads, ==, 1);
	g_assert_cmpstr(status.policy, ==, "section");
	g_assert_cmpstr(status.load_policy, ==, word->policy);
	said = lab_vm_stderr(vm);
	if (!strstr(said, says))
		g_test_message("it said: %s", said);
	g_assert_nonnull(strstr(said, says));
	unlink(control);
}

/* ---- the launcher: QEMU may have another working directory by then ---- */

static void test_launcher(void)
{
	g_autofree char *here = g_get_current_dir();
	g_autofree char *absolute = g_strdup_printf("%s/some/file\n", here);
	const char *loadvm = lab_program("loadvm");
	const struct {
		const char *argv[6], *env[2], *out;
	} cases[] = {
		{{loadvm, "-C", "some/file", "printenv", "LOADVM_CONTROL"}, {NULL}, absolute},
		{{loadvm, "printenv", "LOADVM_CONTROL"}, {"LOADVM_CONTROL=some/file"}, absolute},
		{{loadvm, "--control", "/a", "printenv", "LOADVM_CONTROL"},
		 {"LOADVM_CONTROL=/b"},
		 "/a\n"},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(lab_process) process = NULL;
		const char *argv[G_N_ELEMENTS(cases[0].argv) + 1] = {NULL};
		g_autofree char *out = NULL;
		int status;

		memcpy(argv, cases[i].argv, sizeof(cases[i].argv));
		process = lab_process_new(argv, cases[i].env, &error);
		g_assert_no_error(error);
		g_assert_true(lab_process_wait(process, 10000, &status, &error));
		out = lab_process_stdout(process);
		g_assert_cmpint(status, ==, 0);
		g_assert_cmpstr(out, ==, cases[i].out);
	}
}

/* ---- core dumps ---- */

static void test_core(const void *version)
{
	g_autofree char *gdb = g_find_program_in_path("gdb");
	g_autofree char *core = g_build_filename(lab_tmpdir(), "core", NULL);
	g_autofree char *dump = g_strdup_printf("generate-core-file %s", core);
	const char *launcher[] = {lab_program("loadvm"), "-p", "wait", "--", NULL};
	const struct lab_vm_options options = {
		.version = version,
		.launcher = launcher,
		.memory_mib = 32,
	};
	g_autofree char *pid = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = NULL;
	struct loadvm_status status;
	GMappedFile *file;
	const char *note, *end;

	if (!gdb) {
		g_test_skip("gdb is not installed");
		return;
	}
	vm = lab_vm_new(&options, &error);
	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	const char *argv[] = {gdb,  "-nx", "-batch", "-ex", "set debuginfod enabled off",
			      "-p", pid,   "-ex",    dump,  NULL};

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL,
				   G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
				   NULL, NULL, NULL, NULL, &error));
	g_assert_no_error(error);
	file = g_mapped_file_new(core, FALSE, &error);
	g_assert_no_error(error);

	/* The format stands in the core too, from the library's read-only data. */
	note = memmem(g_mapped_file_get_contents(file), g_mapped_file_get_length(file),
		      "loadvm-note: loadvm " BQLSTAT_VERSION,
		      strlen("loadvm-note: loadvm " BQLSTAT_VERSION));
	g_assert_nonnull(note);
	end = memchr(note, '\0', sizeof(status.note));
	g_assert_nonnull(end);
	g_test_message("%s", note);
	read_status(vm, &status);
	g_assert_nonnull(strstr(note, ", policy wait, QEMU "));
	g_assert_cmpuint(status.detours, ==, strcmp(version, "7.2") ? 13 : 10);
	for (unsigned int i = 0; i < status.detours; i++) {
		g_autofree char *text = g_strdup_printf(
			" %s at %#" PRIx64 " moved to %#" PRIx64 ";", status.detour[i].name,
			status.detour[i].target, status.detour[i].original);

		g_assert_nonnull(strstr(note, text));
	}
	g_mapped_file_unref(file);
	unlink(core);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};
	static const char *const words[] = {"stock", "section"};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loadvm-control/launcher", test_launcher);
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		g_autofree char *core = g_strdup_printf("/loadvm-control/core/%s", versions[v]);

		for (size_t w = 0; w < G_N_ELEMENTS(words); w++) {
			struct cell cell = {versions[v], words[w], strcmp(words[w], "stock") != 0};
			g_autofree char *path = g_strdup_printf("/loadvm-control/arrives/%s/%s",
								versions[v], words[w]);

			g_test_add_data_func_full(path, g_memdup2(&cell, sizeof(cell)),
						  test_arrives, g_free);
		}
		g_test_add_data_func(core, versions[v], test_core);
	}
	for (size_t w = 0; w < G_N_ELEMENTS(test_words); w++) {
		g_autofree char *path =
			g_strdup_printf("/loadvm-control/word/%s", test_words[w].name);

		g_test_add_data_func(path, &test_words[w], test_word);
	}
	return g_test_run();
}
