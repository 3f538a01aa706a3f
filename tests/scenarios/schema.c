/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is printed with --json keeps to the published schemas (docs/schema), and has no member that
 * they do not name. And the schemas do refuse: an output with a member less fails.
 */
#include <string.h>

#include "tests/scenarios/recording.h"
#include "tests/unit/sample-run.h"

/* The sources are above the programs. g_free() */
static char *source(const char *name)
{
	g_autofree char *at = g_canonicalize_filename(lab_program("bqlstat"), NULL);

	for (;;) {
		g_autofree char *path = g_build_filename(at, name, NULL);
		char *up = g_path_get_dirname(at);

		if (g_file_test(path, G_FILE_TEST_EXISTS)) {
			g_free(up);
			return g_steal_pointer(&path);
		}
		g_assert_cmpstr(up, !=, at);
		g_free(at);
		at = up;
	}
}

/* 0 valid, 1 not, 3 no validator here. `said`: g_free() */
static int validate(const char *json, const char *name, bool closed, char **said)
{
	g_autofree char *file = g_strdup_printf("docs/schema/%s.json", name);
	g_autofree char *schema = source(file), *tool = source("tests/validate.py");
	g_autofree char *input = fresh_path("output.json"), *command = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autoptr(GError) error = NULL;
	int code;

	g_assert_true(g_file_set_contents(input, json, -1, NULL));
	command = g_strdup_printf("exec /usr/bin/python3 '%s' %s '%s' < '%s'", tool,
				  closed ? "--closed" : "", schema, input);
	p = lab_process_new((const char *const[]){"sh", "-c", command, NULL}, NULL, &error);
	g_assert_no_error(error);
	lab_process_wait(p, 60000, &code, &error);
	g_assert_no_error(error);
	*said = lab_process_stderr(p);
	return code;
}

static void expect(int wanted, JsonNode *node, const char *name, bool closed, const char *what)
{
	g_autofree char *json = json_to_string(node, FALSE), *said = NULL;
	int code = validate(json, name, closed, &said);

	if (code != wanted)
		g_error("%s: %s: exit code %d: %s", name, what, code, said);
}

/* The first object: the whole, or the first of an array. */
static JsonObject *first(JsonNode *node)
{
	if (JSON_NODE_HOLDS_ARRAY(node))
		return json_array_get_object_element(json_node_get_array(node), 0);
	return json_node_get_object(node);
}

/* It is valid as it is; not with a member more, unless there is room for it; not with one less. */
static void keeps(const char *json, const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = json_from_string(json, &error);
	g_autoptr(GList) members = NULL;

	g_assert_no_error(error);
	expect(0, node, name, true, "as printed");
	json_object_set_int_member(first(node), "unheard_of", 1);
	expect(1, node, name, true, "a member more");
	expect(0, node, name, false, "a member more, left room for");
	json_object_remove_member(first(node), "unheard_of");
	members = json_object_get_members(first(node));
	json_object_remove_member(first(node), g_list_last(members)->data);
	expect(1, node, name, false, "a member less");
}

static bool no_validator(void)
{
	g_autofree char *said = NULL;
	int code = validate("{}", "probes", false, &said);

	if (code == 1)
		return false;
	g_test_skip(*said ? g_strchomp(said) : "python3 is not installed");
	return true;
}

/* What a program prints; its exit code may be any of those that go with an answer. g_free() */
static char *answer(const char *program, ...)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autoptr(lab_process) p = NULL;
	g_autoptr(GError) error = NULL;
	const char *argument;
	va_list args;
	int code;

	g_ptr_array_add(argv, (char *)lab_program(program));
	va_start(args, program);
	while ((argument = va_arg(args, const char *)))
		g_ptr_array_add(argv, (char *)argument);
	va_end(args);
	g_ptr_array_add(argv, NULL);
	p = lab_process_new((const char *const *)argv->pdata, NULL, &error);
	g_assert_no_error(error);
	lab_process_wait(p, 60000, &code, &error);
	g_assert_no_error(error);
	g_assert_cmpint(code, !=, 2);
	return lab_process_stdout(p);
}

static void test_doctor(void)
{
	struct dance d;
	g_autofree char *host = NULL, *file = NULL, *process = NULL, *none = NULL;

	if (no_validator())
		return;
	d = start_dance("lockdance-7.2", "thread a; pairs 1 dance-a.c:1\n");
	host = answer("bqlstat", "doctor", "--json", NULL);
	file = answer("bqlstat", "doctor", "--json", lab_program("lockdance-11.1"), NULL);
	process = answer("bqlstat", "doctor", "--json", d.pid, NULL);
	none = answer("bqlstat", "doctor", "--json", "/bin/true", NULL);
	keeps(host, "doctor");
	keeps(file, "doctor");
	keeps(process, "doctor");
	keeps(none, "doctor");
	go(&d);
	danced(&d);
	g_strfreev(finish(&d));
}

static void test_probes(void)
{
	g_autofree char *file = NULL;

	if (no_validator())
		return;
	file = answer("bqlstat", "probes", "--json", lab_program("lockdance"), NULL);
	keeps(file, "probes");
}

static void test_loadvm(void)
{
	g_autofree char *yes = NULL, *no = NULL, *nothing = NULL, *absent = NULL;

	if (no_validator())
		return;
	yes = answer("loadvm", "--check", "qemu-system-x86_64", "--json", NULL);
	no = answer("loadvm", "--check", lab_program("lockdance"), "--json", NULL);
	nothing = answer("loadvm", "--check", "/bin/true", "--json", NULL);
	absent = answer("loadvm", "--check", "/no/where", "--json", NULL);
	keeps(yes, "loadvm-check");
	keeps(no, "loadvm-check");
	keeps(nothing, "loadvm-check");
	keeps(absent, "loadvm-check");
}

/* Waits, blocks of every kind, wakers and stacks; then what only a migration has, made up. */
static void test_report(void)
{
	g_autofree char *file = fresh_path("schema.run"), *one = NULL, *several = NULL,
			*list = NULL;
	struct dance d;
	struct lab_process *p;
	struct store_error err;
	struct store *store;
	struct run *run;

	if (no_validator())
		return;
	d = start_dance(
		"lockdance",
		"thread CPU 0/TCG; repeat 20; lock cputlb.c:1; hold 900; unlock; end; barrier\n"
		"thread mig/dst/main; repeat 10; lock savevm.c:9; sleep 2500; unlock; end; "
		"repeat 3; lock savevm.c:10; read 9000; unlock; end; "
		"repeat 3; lock savevm.c:11; fault 9000; unlock; end; barrier\n"
		"thread IO iothread0; repeat 9; lock dance-b.c:1; timedwait cpus.c:2 1000; "
		"unlock; end; barrier\n");
	p = start_recording(file, d.pid, "1ms");
	go(&d);
	danced(&d);
	if (p) {
		stop_recording(p);
		one = answer("bqlstat", "report", "--json", file, NULL);
		keeps(one, "report");
	}
	g_strfreev(finish(&d));
	g_assert_cmpint(store_create(file, &store, &err), ==, 0);
	run = make_run(1, 3);
	g_assert_cmpint(store_save(store, run, &err), ==, 0);
	run->id = 0;
	g_assert_cmpint(store_save(store, run, &err), ==, 0);
	run_free(run);
	store_close(store);
	several = answer("bqlstat", "report", "--json", file, NULL);
	keeps(several, "report");
	list = answer("bqlstat", "report", "--list", "--json", file, NULL);
	keeps(list, "runs");
}

static void test_diff(void)
{
	g_autofree char *a = fresh_path("a.run"), *b = fresh_path("b.run"), *diff = NULL;
	const char *files[] = {a, b};

	if (no_validator())
		return;
	for (unsigned side = 0; side < 2; side++) {
		struct store_error err;
		struct store *store;

		g_assert_cmpint(store_create(files[side], &store, &err), ==, 0);
		for (unsigned i = 0; i < 4; i++) {
			struct run *run = make_run(10 * side + i, 3 + side);

			g_assert_cmpint(store_save(store, run, &err), ==, 0);
			run_free(run);
		}
		store_close(store);
	}
	diff = answer("bqlstat", "diff", "--json", "--force", "--fail-on",
		      "hold.max > +20%, worse, failed > 0", files[0], files[1], NULL);
	keeps(diff, "diff");
}

/* Every line by itself. */
static void test_top(void)
{
	const char *dance[] = {
		lab_program("lockdance"), "-e",
		"thread CPU 0/TCG; repeat 30000; lock dance-a.c:1; unlock; idle 2000; end\n"
		"thread CPU 1/TCG; repeat 600; lock dance-a.c:2; sleep 20000; unlock; idle 80000; "
		"end",
		NULL};
	g_autofree char *pid = NULL, *out = NULL;
	g_autoptr(lab_process) p = NULL;
	g_auto(GStrv) lines = NULL;

	if (no_validator())
		return;
	p = lab_process_new(dance, NULL, NULL);
	g_assert_nonnull(p);
	pid = g_strdup_printf("%d", lab_process_pid(p));
	out = answer("bqlstat", "top", "--json", "-p", pid, "-d", "300ms", "-n", "2", NULL);
	if (!*out) {
		g_test_skip("bqlstat cannot trace here");
		return;
	}
	g_assert_nonnull(strstr(out, "dance-a.c:2"));
	lines = g_strsplit(g_strchomp(out), "\n", -1);
	g_assert_cmpuint(g_strv_length(lines), ==, 2);
	keeps(lines[0], "top");
	keeps(lines[1], "top");
}

/* One round, with all sources. */
static void test_crosscheck(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *out = NULL;

	if (no_validator())
		return;
	/* Where it cannot be had, crosscheck says so. */
	if (!lab_lttng(&error))
		g_test_message("%s", error->message);
	out = answer("bqlstat", "crosscheck", "--json", "-n", "1", NULL);
	if (!strchr(out, '{')) {
		g_test_skip("bqlstat crosscheck cannot run here");
		return;
	}
	keeps(out, "crosscheck");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/schema/doctor", test_doctor);
	g_test_add_func("/schema/probes", test_probes);
	g_test_add_func("/schema/loadvm-check", test_loadvm);
	g_test_add_func("/schema/report", test_report);
	g_test_add_func("/schema/diff", test_diff);
	g_test_add_func("/schema/top", test_top);
	g_test_add_func("/schema/crosscheck", test_crosscheck);
	return g_test_run();
}
