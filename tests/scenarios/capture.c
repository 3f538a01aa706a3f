/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat lttng capture as its user meets it: however it ends nothing is left behind, the flight
 * recorder writes when it should, and what cannot be is said in a sentence.
 */
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "analyzers/ctf/ctf.h"
#include "tests/scenarios/tracing.h"

#ifndef PR_SET_MDWE /* Linux 6.3 */
#define PR_SET_MDWE		 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#define PR_GET_MDWE		 66
#endif

/* ---- how a capture ends ---- */

static void remove_tree(const char *folder)
{
	const char *argv[] = {"rm", "-rf", folder, NULL};

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
				   NULL, NULL, NULL));
}

/* A QEMU with nothing in it, captured; extra arguments up to NULL. */
static struct lab_process *capture_idle(const char *folder, const char *const *options,
					const char *const *prefix, const char *const *env)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	static const char *const qemu_args[] = {"-accel",     "tcg", "-nodefaults", "-display",
						"none",	      "-m",  "32",	    "-machine",
						"pc-q35-7.2", NULL};

	for (; prefix && *prefix; prefix++)
		g_ptr_array_add(argv, (char *)*prefix);
	g_ptr_array_add(argv, (char *)lab_program("bqlstat"));
	g_ptr_array_add(argv, (char *)"lttng");
	g_ptr_array_add(argv, (char *)"capture");
	g_ptr_array_add(argv, (char *)"-o");
	g_ptr_array_add(argv, (char *)folder);
	for (; options && *options; options++)
		g_ptr_array_add(argv, (char *)*options);
	g_ptr_array_add(argv, (char *)"--");
	g_ptr_array_add(argv, (char *)lab_program("loadvm"));
	g_ptr_array_add(argv, (char *)"--lttng");
	g_ptr_array_add(argv, (char *)"--");
	g_ptr_array_add(argv, (char *)lab_qemu_path("7.2", NULL));
	for (const char *const *a = qemu_args; *a; a++)
		g_ptr_array_add(argv, (char *)*a);
	g_ptr_array_add(argv, NULL);
	return lab_process_new((const char *const *)argv->pdata, env, NULL);
}

static pid_t pid_after(struct lab_process *p, const char *words)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *said = NULL;
	const char *at;

	lab_process_expect(p, words, PATIENCE_MS, &error);
	g_assert_no_error(error);
	/* The line is whole once the next one is there: loadvm's. */
	lab_process_expect(p, "loadvm: ", PATIENCE_MS, &error);
	g_assert_no_error(error);
	said = lab_process_stderr(p);
	at = strstr(said, words);
	return (pid_t)g_ascii_strtoull(at + strlen(words), NULL, 10);
}

enum ending { BY_TERM, BY_INT, QEMU_KILLED, BQLSTAT_KILLED, ENDINGS };

static const char *const ending_names[] = {"sigterm", "sigint", "qemu-killed", "bqlstat-killed"};

static void test_ending(const void *opaque)
{
	enum ending ending = GPOINTER_TO_INT(opaque);
	g_autofree char *parent = g_strdup("/tmp/bqlstat-ending-XXXXXX"), *folder = NULL;
	g_autofree char *said = NULL, *home = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autoptr(seen) s = NULL;
	unsigned patience = 200;
	pid_t qemu;
	int status;

	if (!possible() || !lab_qemu_path("7.2", NULL)) {
		if (!lab_qemu_path("7.2", NULL))
			g_test_skip("no QEMU 7.2");
		return;
	}
	/* Within reach of the daemon: a bqlstat that is killed moves nothing any more. */
	g_assert_nonnull(g_mkdtemp(parent));
	g_assert_cmpint(g_chmod(parent, 0755), ==, 0);
	folder = g_build_filename(parent, "trace", NULL);
	p = capture_idle(folder, NULL, NULL, NULL);
	g_assert_nonnull(p);
	qemu = pid_after(p, "capturing process ");
	home = home_of_capture();
	g_usleep(700000);
	switch (ending) {
	case BY_TERM:
	case BY_INT:
		kill(lab_process_pid(p), ending == BY_TERM ? SIGTERM : SIGINT);
		break;
	case QEMU_KILLED:
		kill(qemu, SIGKILL);
		break;
	default:
		kill(lab_process_pid(p), SIGKILL);
	}
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	said = lab_process_stderr(p);
	g_test_message("%s", said);
	if (ending == BQLSTAT_KILLED) {
		/* QEMU goes on; LTTng's processes do not, though their folder stays. */
		g_assert_cmpint(kill(qemu, 0), ==, 0);
		kill(qemu, SIGKILL);
		expect_no_processes();
		remove_tree(home);
		remove_tree(parent);
		return;
	}
	g_assert_cmpint(status, ==, 0);
	while (!kill(qemu, 0) && patience--)
		g_usleep(100000);
	g_assert_cmpint(kill(qemu, 0), ==, -1);
	g_assert_nonnull(strstr(said, "events discarded 0, packets lost 0"));
	g_assert_nonnull(
		strstr(said, ending == QEMU_KILLED ? "killed by signal 9" : "stopped by the user"));
	s = read_trace(folder);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_lock_released], >, 10);
	g_assert_cmpuint(s->overlaps, ==, 0);
	expect_nothing_left(home);
	remove_tree(parent);
}

#define AS_NOBODY "setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"

/* A folder of nobody's in /tmp; NULL after g_test_skip(). */
static char *nobodys_folder(void)
{
	const char *reach[] = {AS_NOBODY, "test", "-x", lab_program("bqlstat"), NULL};
	g_autofree char *folder = g_strdup("/tmp/bqlstat-nobody-XXXXXX");
	struct passwd *nobody = getpwnam("nobody");
	int status = -1;

	if (geteuid() || !nobody ||
	    !g_spawn_sync("/", (char **)reach, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
			  &status, NULL) ||
	    status) {
		g_test_skip("needs root, and a build folder that user nobody can read");
		return NULL;
	}
	g_assert_nonnull(g_mkdtemp(folder));
	g_assert_cmpint(chown(folder, nobody->pw_uid, nobody->pw_gid), ==, 0);
	return g_steal_pointer(&folder);
}

static void nobody_reads(const char *trace, const char *folder)
{
	g_autofree char *drawing = g_build_filename(folder, "trace.pftrace.gz", NULL);
	g_autofree char *page = g_build_filename(folder, "page.html", NULL);
	const char *const commands[][6] = {{"report", trace, NULL},
					   {"report", "--html", page, trace, NULL},
					   {"timeline", "-o", drawing, trace, NULL}};

	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		const char *argv[16] = {AS_NOBODY, lab_program("bqlstat")};
		g_autoptr(lab_process) p = NULL;
		g_autofree char *said = NULL;
		unsigned n = 0;
		int status;

		while (argv[n])
			n++;
		for (unsigned k = 0; commands[i][k]; k++)
			argv[n++] = commands[i][k];
		p = lab_process_new(argv, NULL, NULL);
		said = outcome(p, &status);
		g_test_message("%s", said);
		g_assert_cmpint(status, ==, 0);
	}
	g_assert_true(g_file_test(drawing, G_FILE_TEST_EXISTS));
	g_assert_true(g_file_test(page, G_FILE_TEST_EXISTS));
}

/* Somebody without any privilege, and with a home of his own: records, and reads it. */
static void test_nobody(void)
{
	const char *prefix[] = {AS_NOBODY, NULL}, *options[] = {"-d", "2", NULL};
	g_autofree char *folder = NULL, *trace = NULL, *home = NULL, *own = NULL, *said = NULL;
	const char *env[2] = {NULL};
	g_autoptr(lab_process) p = NULL;
	g_autoptr(seen) s = NULL;
	pid_t qemu;
	int status;

	folder = possible() ? nobodys_folder() : NULL;
	if (!folder)
		return;
	own = g_strdup_printf("HOME=%s", folder);
	env[0] = own;
	trace = g_build_filename(folder, "trace", NULL);
	p = capture_idle(trace, options, prefix, env);
	qemu = pid_after(p, "capturing process ");
	home = home_of_capture();
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	kill(qemu, SIGKILL);
	said = lab_process_stderr(p);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	s = read_trace(trace);
	g_assert_cmpuint(s->discarded, ==, 0);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
	g_assert_cmpuint(s->overlaps, ==, 0);
	expect_nothing_left(home);
	nobody_reads(trace, folder);
	remove_tree(folder);
}

/* A QEMU of another user's that runs already: its home has no session daemon, then ours, then none.
 */
static void test_attach(void)
{
	g_autofree char *folder = NULL, *trace = fresh_path("attach"), *own = NULL, *pid = NULL;
	g_autofree char *said = NULL, *place = NULL;
	const char *qemu[] = {AS_NOBODY,
			      lab_program("loadvm"),
			      "--lttng",
			      "--",
			      lab_qemu_path("7.2", NULL),
			      "-accel",
			      "tcg",
			      "-nodefaults",
			      "-display",
			      "none",
			      "-m",
			      "32",
			      NULL};
	const char *env[2] = {NULL};
	g_autoptr(lab_process) subject = NULL, p = NULL;
	g_autoptr(seen) s = NULL;
	int status;

	folder = possible() && lab_qemu_path("7.2", NULL) ? nobodys_folder() : NULL;
	if (!folder)
		return;
	own = g_strdup_printf("LTTNG_HOME=%s", folder);
	env[0] = own;
	subject = lab_process_new(qemu, env, NULL);
	g_assert_true(lab_process_expect(subject, "more to trace", PATIENCE_MS, NULL));
	pid = g_strdup_printf("%d", lab_process_pid(subject));
	p = bqlstat("lttng", "capture", "-o", trace, "-d", "4", "-p", pid, NULL);
	said = outcome(p, &status);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	s = read_trace(trace);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 0);
	g_assert_cmpuint(s->count[TRACE_ID_lock_released], >, 3);
	g_assert_cmpuint(s->overlaps, <=, 1); /* the first release may be of an older hold */
	place = g_build_filename(folder, ".lttng", NULL);
	g_assert_false(g_file_test(place, G_FILE_TEST_EXISTS));
	g_assert_true(lab_process_running(subject));
	remove_tree(folder);
}

/* QEMU starts where the provider is missing, and where the word is not understood. */
static void test_missing(void)
{
	static const char *const files[] = {"loadvm", "libloadvm.so", "libloadvm-core.so"};
	const char *words[] = {"no LTTng: ", "no way to trace named 'wrong'"};
	const char *traces[] = {"LOADVM_TRACE=lttng", "LOADVM_TRACE=wrong"};
	g_autofree char *folder = fresh_path("installed"), *loadvm = NULL;

	if (!lab_qemu_path("7.2", NULL)) {
		g_test_skip("no QEMU 7.2");
		return;
	}
	g_assert_cmpint(g_mkdir(folder, 0755), ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
		const char *copy[] = {"cp", lab_program(files[i]), folder, NULL};

		g_assert_true(g_spawn_sync(NULL, (char **)copy, NULL, G_SPAWN_SEARCH_PATH, NULL,
					   NULL, NULL, NULL, NULL, NULL));
	}
	loadvm = g_build_filename(folder, "loadvm", NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
		const char *argv[] = {loadvm,	   "-q", "--", lab_qemu_path("7.2", NULL),
				      "--version", NULL};
		const char *env[] = {traces[i], NULL};
		g_autoptr(lab_process) p = lab_process_new(argv, env, NULL);
		g_autofree char *said = NULL, *out = NULL;
		int status;

		said = outcome(p, &status);
		out = lab_process_stdout(p);
		g_assert_cmpint(status, ==, 0);
		g_assert_nonnull(strstr(out, "QEMU emulator version 7.2"));
		g_assert_nonnull(strstr(said, words[i]));
		g_assert_nonnull(strstr(said, "10 detours"));
	}
	remove_tree(folder);
}

/* ---- the flight recorder ---- */

/* The only folder in there that begins with "snapshot-". */
static char *only_snapshot(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;
	char *found = NULL;

	g_assert_nonnull(dir);
	while ((name = g_dir_read_name(dir))) {
		g_assert_true(g_str_has_prefix(name, "snapshot-"));
		g_assert_null(found);
		found = g_build_filename(folder, name, NULL);
	}
	return found;
}

/* The stream breaks within a device: the load fails, QEMU exits, and what led there is kept. */
static void test_failed(void)
{
	const struct lab_rule rule = {.channel = LAB_CHANNEL_MAIN,
				      .section = LAB_SECTION_NET,
				      .offset_bytes = 64,
				      .fault = LAB_FAULT_FIN};
	g_autofree char *folder = fresh_path("flight"), *snapshot = NULL, *said = NULL;
	g_autofree char *home = NULL;
	const char *launcher[] = {lab_program("bqlstat"),
				  "lttng",
				  "capture",
				  "-o",
				  folder,
				  "--snapshot",
				  "--trigger",
				  "failed",
				  "--",
				  lab_program("loadvm"),
				  "--lttng",
				  "--",
				  NULL};
	const struct lab_pair_options options = {
		.vm = {.guest = true, .devices = LAB_DEVICES_DOZEN, .timeout_ms = 30000},
		.destination_launcher = launcher,
		.rules = &rule,
		.n_rules = 1,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autoptr(seen) s = NULL;
	int status;

	if (!possible())
		return;
	pair = lab_pair_new(&options, &error);
	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	home = home_of_capture();
	lab_pair_migrate(pair, &error);
	g_assert_no_error(error);
	lab_vm_wait_exit(lab_pair_destination(pair), 60000, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0); /* bqlstat's: the recording is good */
	said = lab_vm_stderr(lab_pair_destination(pair));
	g_assert_nonnull(strstr(said, "exited with status 1"));
	snapshot = only_snapshot(folder);
	g_assert_nonnull(snapshot);
	s = read_trace(snapshot);
	g_assert_cmpint(s->result, <, 0);
	g_assert_cmpint(s->result, !=, NONE);
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_NET));
	expect_nothing_left(home);
}

/* Nothing happens: nothing is written, and that is said. SIGUSR1: something is. */
static void test_asked(void)
{
	const char *options[] = {"--snapshot", "--trigger", "hold>10m", NULL};
	g_autofree char *folder = fresh_path("asked"), *none = fresh_path("none");
	g_autofree char *said = NULL, *snapshot = NULL, *home = NULL;
	g_autoptr(lab_process) p = NULL, quiet = NULL;
	g_autoptr(seen) s = NULL;
	int status;

	if (!possible())
		return;
	p = capture_idle(folder, options, NULL, NULL);
	pid_after(p, "capturing process ");
	home = home_of_capture();
	g_usleep(300000);
	kill(lab_process_pid(p), SIGUSR1);
	g_assert_true(lab_process_expect(p, "snapshot taken", PATIENCE_MS, NULL));
	kill(lab_process_pid(p), SIGTERM);
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	g_assert_cmpint(status, ==, 0);
	snapshot = only_snapshot(folder);
	g_assert_nonnull(snapshot);
	s = read_trace(snapshot);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);

	quiet = capture_idle(none, options, NULL, NULL);
	pid_after(quiet, "capturing process ");
	kill(lab_process_pid(quiet), SIGTERM);
	said = outcome(quiet, &status);
	g_assert_cmpint(status, ==, 0);
	g_assert_nonnull(strstr(said, "no snapshot: no trigger fired"));
	g_assert_false(g_file_test(none, G_FILE_TEST_EXISTS));
	expect_nothing_left(home);
}

/* A hold above the limit: by itself, and only the first time. */
static void test_hold(void)
{
	const char *options[] = {"--snapshot", "--trigger", "hold>1us", "-d", "3", NULL};
	g_autofree char *folder = fresh_path("hold"), *snapshot = NULL, *home = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autoptr(seen) s = NULL;
	pid_t qemu;
	int status;

	if (!possible())
		return;
	p = capture_idle(folder, options, NULL, NULL);
	qemu = pid_after(p, "capturing process ");
	home = home_of_capture();
	g_assert_true(lab_process_wait(p, 60000, &status, NULL));
	kill(qemu, SIGKILL);
	g_assert_cmpint(status, ==, 0);
	snapshot = only_snapshot(folder);
	g_assert_nonnull(snapshot);
	s = read_trace(snapshot);
	g_assert_cmpuint(s->count[TRACE_ID_lock_released], >, 0);
	expect_nothing_left(home);
}

/* ---- what cannot be ---- */

static void expect_refusal(struct lab_process *p, int code, const char *words)
{
	g_autofree char *said = NULL;
	int status;

	g_assert_nonnull(p);
	said = outcome(p, &status);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, code);
	g_assert_nonnull(strstr(said, words));
	lab_process_free(p);
}

static void refuse_new_code(void *opaque)
{
	(void)opaque;
	prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
}

/* Where loadvm cannot do its work, the trace says why QEMU runs stock. */
static void test_fallback(void)
{
	g_autofree char *trace = fresh_path("fallback"), *said = NULL;
	const char *argv[] = {lab_program("bqlstat"),
			      "lttng",
			      "capture",
			      "-o",
			      trace,
			      "--",
			      lab_program("loadvm"),
			      "--lttng",
			      "--",
			      lab_qemu_path("7.2", NULL),
			      "--version",
			      NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(seen) s = NULL;
	struct run *run;
	struct ctf_tally tally;
	struct store_error err;
	GPtrArray *runs;
	int status;

	if (!possible() || prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0 || !lab_qemu_path("7.2", NULL)) {
		g_test_skip("needs LTTng, QEMU 7.2 and PR_SET_MDWE (Linux 6.3)");
		return;
	}
	g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, refuse_new_code, NULL,
		     NULL, &said, &status, &error);
	g_assert_no_error(error);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	s = read_trace(trace);
	g_assert_cmpuint(s->count[TRACE_ID_fallback], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 0);
	g_assert_nonnull(strstr(s->why, "does not let a program make new code"));
	if (ctf_load(trace, &runs, &tally, &err))
		g_error("%s", err.text);
	g_assert_cmpuint(runs->len, ==, 1);
	run = runs->pdata[0];
	g_assert_cmpstr(run->label, ==, "stock");
	g_ptr_array_unref(runs);
	remove_tree(trace);
}

/* A session daemon that cannot start says why, and so does bqlstat. */
static void test_broken_daemon(void)
{
	g_autofree char *folder = fresh_path("broken"), *trace = fresh_path("never");
	g_autofree char *path = g_strdup_printf("PATH=%s:%s", folder, g_getenv("PATH"));
	const char *env[] = {path, NULL};
	const char *argv[] = {lab_program("bqlstat"), "lttng", "capture", "-o", trace, "--",
			      lab_program("loadvm"),  "--",    "true",	  NULL};
	static const char *const programs[] = {"lttng", "lttng-sessiond"};

	g_assert_cmpint(g_mkdir(folder, 0755), ==, 0);
	/* As root it is another user's. */
	g_assert_cmpint(g_chmod(lab_tmpdir(), 0711), ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
		g_autofree char *file = g_build_filename(folder, programs[i], NULL);

		g_assert_true(g_file_set_contents(
			file, "#!/bin/sh\necho 'Error: no schema, no daemon' >&2\nexit 1\n", -1,
			NULL));
		g_assert_cmpint(g_chmod(file, 0755), ==, 0);
	}
	expect_refusal(lab_process_new(argv, env, NULL), 3,
		       "daemon ended at once: Error: no schema, no daemon\n");
	g_assert_cmpint(g_chmod(lab_tmpdir(), 0700), ==, 0);
	g_assert_false(g_file_test(trace, G_FILE_TEST_EXISTS));
	remove_tree(folder);
}

static void test_refusals(void)
{
	g_autofree char *folder = fresh_path("refused"), *full = fresh_path("full");
	g_autofree char *file = g_build_filename(full, "something", NULL);
	g_autofree char *own = g_strdup_printf("%d", getpid());
	const char *binary = lab_qemu_binary("7.2", NULL);
	const char *no_lttng[] = {"PATH=/nonexistent", NULL};
	const char *loadvm = lab_program("loadvm");
	const char *argv[] = {lab_program("bqlstat"),
			      "lttng",
			      "capture",
			      "-o",
			      folder,
			      "--",
			      loadvm,
			      "--",
			      "true",
			      NULL};

	if (!possible())
		return;
	expect_refusal(lab_process_new(argv, no_lttng, NULL), 3, "lttng-tools");
	expect_refusal(bqlstat("lttng", "capture", "-p", own, NULL), 2, "-o DIR");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, NULL), 2, "say what to record");
	expect_refusal(bqlstat("lttng", "-o", folder, "-p", own, NULL), 2, "`capture`");
	expect_refusal(
		bqlstat("lttng", "capture", "-o", folder, "-t", "hold>x", "-s", "-p", own, NULL), 2,
		"--trigger wants");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-t", "failed", "-p", own, NULL),
		       2, "needs --snapshot");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-b", "3", "-p", own, NULL), 2,
		       "--buffer wants");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "-p", own, NULL), 3,
		       "loadvm --lttng");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", "/nonexistent/qemu", NULL),
		       3, "no such program");
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", loadvm, "--", "qemu",
			       "-daemonize", NULL),
		       2, "start it without");
	if (binary)
		expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", binary, NULL), 2,
			       "put `loadvm --lttng --` before it");
	g_assert_cmpint(g_mkdir(full, 0755), ==, 0);
	g_assert_true(g_file_set_contents(file, "x", 1, NULL));
	expect_refusal(bqlstat("lttng", "capture", "-o", full, "--", loadvm, "--", "true", NULL), 3,
		       "not an empty folder");
	/* A command that leads to no QEMU at all. */
	expect_refusal(bqlstat("lttng", "capture", "-o", folder, "--", loadvm, "--", "true", NULL),
		       3, "nothing was recorded");
	g_assert_false(g_file_test(folder, G_FILE_TEST_EXISTS));
}

int main(int argc, char **argv)
{
	begin_trail();
	g_test_init(&argc, &argv, NULL);
	for (int i = 0; i < ENDINGS; i++) {
		g_autofree char *path = g_strdup_printf("/capture/end/%s", ending_names[i]);

		g_test_add_data_func(path, GINT_TO_POINTER(i), test_ending);
	}
	g_test_add_func("/capture/nobody", test_nobody);
	g_test_add_func("/capture/attach", test_attach);
	g_test_add_func("/capture/missing", test_missing);
	g_test_add_func("/capture/snapshot/failed", test_failed);
	g_test_add_func("/capture/snapshot/asked", test_asked);
	g_test_add_func("/capture/snapshot/hold", test_hold);
	g_test_add_func("/capture/fallback", test_fallback);
	g_test_add_func("/capture/broken-daemon", test_broken_daemon);
	g_test_add_func("/capture/refusals", test_refusals);
	return g_test_run();
}
