/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What must hold under every kernel that bqlstat is used on: `make vmcheck` runs this in a VM each.
 * It asserts no figure of time, since a VM under TCG is slow and uneven.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "analyzers/command.h"
#include "analyzers/lab/journey.h"
#include "probes/features.h"
#include "tests/scenarios/coexist.h"
#include "tests/scenarios/recording.h"

enum {
	NESTED_MS = 120000, /* a QEMU in a VM that is emulated itself */
	ASKED = 100,
};

/* One line of the table in docs/results.md. */
static struct {
	char kernel[96];
	const char *doctor, *nop5, *nop10;
	uint64_t emulated_ns, stepped_ns;
	unsigned dances;
	uint64_t acquisitions;
	char nested[96];
} row = {.doctor = "-", .nop5 = "?", .nop10 = "?", .nested = "-"};

/* By its version, not by trying: what should work and does not must fail here, not be excused. */
static bool old_kernel(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	g_snprintf(row.kernel, sizeof(row.kernel), "%s", name.release);
	g_assert_cmpint(sscanf(name.release, "%d.%d", &major, &minor), ==, 2);
	return major < 5 || (major == 5 && minor < 15);
}

/* bqlstat's exit code; what it printed, g_free(). */
static int run_bqlstat(const char *const *argv, char **out, char **err)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, &error);
	int code;

	g_assert_no_error(error);
	lab_process_wait(p, NESTED_MS, &code, &error);
	g_assert_no_error(error);
	*out = lab_process_stdout(p);
	*err = lab_process_stderr(p);
	return code;
}

/* ---- doctor ---- */

static void doctor(gconstpointer old)
{
	const char *argv[] = {lab_program("bqlstat"), "doctor", "--json", NULL};
	g_autofree char *out = NULL, *err = NULL;
	int code = run_bqlstat(argv, &out, &err);
	g_autoptr(JsonNode) node = json_from_string(out, NULL);

	g_assert_nonnull(node);
	row.doctor = lab_json_int(node, "usable") ? "usable" : "refuses";
	g_test_message("%s", lab_json_string(node, "verdict"));
	g_assert_cmpint(code, ==, old ? EXIT_CANNOT : EXIT_DONE);
	if (old)
		g_assert_nonnull(strstr(lab_json_string(node, "verdict"), "Linux 5.15"));
}

/* One sentence, which says what this kernel lacks; nothing is started, no file is left. */
static void refusal(void)
{
	g_autofree char *file = fresh_path("refused.run"), *out = NULL, *err = NULL;
	const char *argv[] = {lab_program("bqlstat"), "record", "-o", file, "--", "sh", "-c",
			      "echo started",	      NULL};

	g_assert_cmpint(run_bqlstat(argv, &out, &err), ==, EXIT_CANNOT);
	g_test_message("%s", err);
	g_assert_true(g_str_has_prefix(err, "bqlstat: "));
	g_assert_true(strchr(err, '\n') == err + strlen(err) - 1);
	g_assert_nonnull(strstr(err, "attach cookies"));
	g_assert_nonnull(strstr(err, "Linux 5.15"));
	g_assert_cmpstr(out, ==, "");
	g_assert_cmpint(access(file, F_OK), !=, 0);
}

/* ---- placement ---- */

static bool kernel_knows(const char *symbol)
{
	g_autofree char *text = NULL, *line = g_strdup_printf(" %s\n", symbol);

	g_assert_true(g_file_get_contents("/proc/kallsyms", &text, NULL, NULL));
	return strstr(text, line);
}

/*
 * The seam map's one rule about costs: what it takes for emulated is, on this kernel; and a kernel
 * makes calls of long nops only if it has the function for that.
 */
static void instructions(void)
{
	static const char *const ways[] = {
		[WAY_UNKNOWN] = "refused",
		[WAY_EMULATED] = "emulated",
		[WAY_STEPPED] = "single-stepped",
		[WAY_CALLED] = "called",
	};
	bool calls = false;
	size_t count;
	const struct features_insn *list = features_instructions(&count);

	for (size_t i = 0; i < count; i++) {
		bool emulated = seam_emulated(list[i].code, 16);

		g_test_message("%-12s %-14s %6.2f us", list[i].name, ways[list[i].way],
			       list[i].hit_ns / 1e3);
		/* Segment prefixes, as long nops have them, are refused by most kernels. */
		if (strcmp(list[i].name, "nop10"))
			g_assert_cmpint(list[i].way, !=, WAY_UNKNOWN);
		if (emulated)
			g_assert_cmpint(list[i].way, ==, WAY_EMULATED);
		calls |= list[i].way == WAY_CALLED;
		if (!strcmp(list[i].name, "nop"))
			row.emulated_ns = list[i].hit_ns;
		else if (!strcmp(list[i].name, "nop5"))
			row.nop5 = ways[list[i].way];
		else if (!strcmp(list[i].name, "nop10"))
			row.nop10 = ways[list[i].way];
		else if (!strcmp(list[i].name, "mov"))
			row.stepped_ns = list[i].hit_ns;
		/* Neither may ever be chosen in code that is not ours: the call writes into a red
		 * zone. */
		if (list[i].way == WAY_CALLED)
			g_assert_false(emulated);
	}
	/* The best of many: it holds under TCG, too. */
	g_assert_cmpuint(row.emulated_ns, <, row.stepped_ns);
	g_assert_cmpint(calls, ==, kernel_knows("arch_uprobe_optimize"));
}

/* ---- lockdance ---- */

static void dance(gconstpointer program)
{
	static const char script[] =
		"thread CPU 0/TCG; repeat 100; lock cputlb.c:1; hold 5; unlock; end; "
		"pairs 3000 dance-a.c:7\n"
		"thread CPU 1/TCG; repeat 100; lock cputlb.c:1; hold 7; unlock; end; "
		"pairs 3000 dance-a.c:7\n"
		"thread mig/dst/main; repeat 20; lock savevm.c:9; sleep 500; unlock; idle 20; end; "
		"repeat 5; lock savevm.c:10; read 20000; unlock; end; "
		"repeat 5; lock savevm.c:11; fault 20000; unlock; end\n"
		"thread IO iothread0; repeat 20; lock dance-b.c:1; timedwait cpus.c:2 1000; hold "
		"5; unlock; end\n";
	static const char *const causes[] = {"clock_nanosleep", "read", "userfault"};
	g_auto(GStrv) ledger = NULL;
	struct run *run = record_dance(program, script, "1ms", &ledger);

	g_assert_nonnull(run);
	same_counts(run, ledger);
	for (unsigned c = 0; c < G_N_ELEMENTS(causes); c++) {
		bool found = false;

		for (unsigned i = 0; i < run->usages->len; i++) {
			const struct usage *u = &g_array_index(run->usages, struct usage, i);
			unsigned line = g_array_index(run->sites, struct site, u->site).line;

			for (unsigned b = 0; b < u->blocking->len; b++)
				found |= line == 9 + c &&
					 !strcmp(cause_name(g_array_index(u->blocking,
									  struct blocking, b)
								    .cause),
						 causes[c]);
		}
		if (!found)
			g_error("nothing is told of %s", causes[c]);
	}
	row.dances++;
	row.acquisitions += run_acquired(run);
	run_free(run);
}

/* Text and JSON of a recording say something. */
static void report(void)
{
	g_autofree char *file = fresh_path("report.run");
	const char *record[] = {lab_program("bqlstat"),
				"record",
				"-q",
				"-o",
				file,
				"--",
				lab_program("lockdance"),
				"-e",
				"thread a; repeat 20; lock savevm.c:2; sleep 2000; unlock; end",
				NULL};
	const char *text[] = {lab_program("bqlstat"), "report", file, NULL};
	const char *json[] = {lab_program("bqlstat"), "report", "--json", file, NULL};
	g_autofree char *out = NULL, *err = NULL, *said = NULL, *object = NULL, *complaint = NULL;
	g_autoptr(JsonNode) node = NULL;

	g_assert_cmpint(run_bqlstat(record, &out, &err), ==, 0);
	g_assert_cmpint(run_bqlstat(text, &said, &complaint), ==, 0);
	g_assert_nonnull(strstr(said, "savevm.c:2"));
	g_assert_nonnull(strstr(said, row.kernel));
	g_clear_pointer(&complaint, g_free);
	g_assert_cmpint(run_bqlstat(json, &object, &complaint), ==, 0);
	node = json_from_string(object, NULL);
	g_assert_nonnull(node);
	g_assert_cmpint(lab_json_int(node, "acquired"), ==, 20);
	g_assert_cmpint(lab_json_int(node, "lost_total"), ==, 0);
}

/* However bqlstat ends, the process goes on with its code as it was. */
static void detach(gconstpointer program)
{
	const char *argv[] = {
		lab_program(program), "-e",
		"thread CPU 0/TCG; repeat 1000000; lock dance-a.c:1; unlock; idle 20; end", NULL};
	g_autoptr(lab_process) d = lab_process_new(argv, NULL, NULL);
	g_autofree char *file = fresh_path("detach.run");
	g_autofree char *pid = g_strdup_printf("%d", lab_process_pid(d));
	struct text *t;

	g_usleep(200000);
	t = text_open(lab_process_pid(d));
	for (int i = 0; i < 6; i++) {
		struct lab_process *p = start_recording(file, pid, "1ms");
		g_autofree char *said = NULL;
		size_t points;

		g_assert_nonnull(p);
		g_assert_cmpuint(text_breakpoints(t, &points), >, 2);
		end_bqlstat(p, i % 2 ? SIGKILL : SIGTERM, &said);
		/* The kernel takes them out when the last descriptor goes, a moment after the end.
		 */
		for (int n = 0; n < 200 && text_breakpoints(t, &points); n++)
			g_usleep(20000);
		g_assert_cmpuint(text_breakpoints(t, &points), ==, 0);
		g_assert_true(lab_process_running(d));
	}
	text_free(t);
	lab_process_kill(d, SIGKILL);
}

/* ---- a QEMU ---- */

/* A guest arrives at a QEMU that is recorded, goes on there, and goes on when bqlstat has left. */
static void nested(void)
{
	const struct lab_journey journey = {.copy = LAB_COPY_PRE};
	const struct lab_pair_options options = {
		.vm = {.memory_mib = 32, .guest = true, .dirty_mib = 1, .timeout_ms = NESTED_MS},
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = lab_journey_new(&journey, &options, &error);
	g_autofree char *file = fresh_path("nested.run"), *pid = NULL;
	struct lab_process *p;
	struct lab_vm *vm;
	bool device = false;
	struct text *t;
	struct run *run;

	g_assert_no_error(error);
	vm = lab_pair_destination(pair);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	t = text_open(lab_vm_pid(vm));
	p = start_recording(file, pid, "1ms");
	g_assert_nonnull(p);
	lab_journey_arrive(&journey, pair, NESTED_MS, NULL, &error);
	g_assert_no_error(error);
	/* Each makes the main loop take the lock at least once. */
	for (int i = 0; i < ASKED; i++)
		g_assert_true(lab_qmp_ok(vm, NULL, "query-status"));
	stop_recording(p);
	text_unchanged(t);
	lab_vm_alive(vm, NESTED_MS, &error);
	g_assert_no_error(error);
	run = load(file, 1);
	check_run(run);
	for (unsigned i = 0; i < run->marks->len; i++)
		device |= g_array_index(run->marks, struct mark, i).in.phase == PHASE_DEVICE;
	g_assert_true(device);
	g_assert_cmpuint(run_acquired(run), >, ASKED);
	g_snprintf(row.nested, sizeof(row.nested), "%u acquisitions, %u phases, 0 lost",
		   (unsigned)run_acquired(run), run->marks->len);
	run_free(run);
	text_free(t);
}

int main(int argc, char **argv)
{
	bool old = old_kernel();
	int code;

	g_test_init(&argc, &argv, NULL);
	if (geteuid()) {
		fputs("this test wants root\n", stderr);
		return EXIT_CANNOT;
	}
	g_test_add_data_func("/kernel/doctor", old ? "old" : NULL, doctor);
	g_test_add_func("/kernel/instructions", instructions);
	if (old) {
		g_test_add_func("/kernel/refusal", refusal);
	} else {
		g_test_add_data_func("/kernel/dance/7.2", "lockdance-7.2", dance);
		g_test_add_data_func("/kernel/dance/10.0", "lockdance", dance);
		g_test_add_data_func("/kernel/dance/11.1", "lockdance-11.1", dance);
		g_test_add_func("/kernel/report", report);
		g_test_add_data_func("/kernel/detach/7.2", "lockdance-7.2", detach);
		g_test_add_data_func("/kernel/detach/11.1", "lockdance-11.1", detach);
		g_test_add_func("/kernel/nested", nested);
	}
	code = g_test_run();
	printf("# | %s | %s | %.1f / %.1f us | %s / %s | %u dances, %u acquisitions | %s |\n",
	       row.kernel, row.doctor, row.emulated_ns / 1e3, row.stepped_ns / 1e3, row.nop5,
	       row.nop10, row.dances, (unsigned)row.acquisitions, row.nested);
	return code;
}
