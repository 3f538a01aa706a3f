/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime in a QEMU in small (tests/host), which loadvm starts as it starts any QEMU: checked,
 * preloaded, patched. Under TSAN and ASAN both have the sanitizer in them.
 *
 * What is registered is unregistered, results and errors pass through, load threads may need the
 * lock while they are joined, waiters get their turn, a second load is like the first, and from any
 * phase QEMU can quit. Who holds the lock where, the host knows and asserts at each step.
 *
 * The way in is the ordinary one because a small program can pass every check in earnest: it has
 * the names, and its code calls them as QEMU's does. Linking the thread's pieces to a test instead
 * would have left out the table of needs and what it decides, and needed a second way to fill in
 * `qemu` and `original`.
 */
#include <string.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>

#include "analyzers/lab/lab.h"
#include "runtime/thread/policy.h"
#include "tests/host/host.h"

#define TIMEOUT_S "120"

static const char *loadvm, *host;

/* Its exit status as wait() tells it; what it said on both channels, to free. */
static int run(char **argv, char **said)
{
	g_auto(GStrv) env = g_get_environ();
	g_autofree char *out = NULL, *err = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *folder = g_path_get_dirname(host);
	g_autofree char *gate = g_build_filename(folder, "libloadvm.so", NULL);
	int status;

	/* A sanitizer's build has libraries of its own for this. */
	if (g_file_test(gate, G_FILE_TEST_EXISTS))
		env = g_environ_setenv(env, "LOADVM_LIB", gate, TRUE);
	g_spawn_sync(NULL, argv, env, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, &error);
	g_assert_no_error(error);
	*said = g_strconcat(out, err, NULL);
	return status;
}

/* "none": without loadvm. */
static void expect_scenario(const char *scenario, const char *policy, const char *control,
			    const char *says)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autofree char *said = NULL;
	int status;

	for (const char *const *a = (const char *const[]){"timeout", "-s", "ABRT", TIMEOUT_S, NULL};
	     *a; a++)
		g_ptr_array_add(argv, (char *)*a);
	if (strcmp(policy, "none") != 0) {
		g_ptr_array_add(argv, (char *)loadvm);
		g_ptr_array_add(argv, "--policy");
		g_ptr_array_add(argv, (char *)policy);
		if (control) {
			g_ptr_array_add(argv, "--control");
			g_ptr_array_add(argv, (char *)control);
		}
		g_ptr_array_add(argv, "--");
	}
	g_ptr_array_add(argv, (char *)host);
	g_ptr_array_add(argv, (char *)scenario);
	g_ptr_array_add(argv, (char *)policy);
	g_ptr_array_add(argv, (char *)control);
	g_ptr_array_add(argv, NULL);
	status = run((char **)argv->pdata, &said);
	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	g_assert_null(strstr(said, "did not come to rest"));
	if (says && !strstr(said, says))
		g_error("it did not say: %s", says);
}

/* ---- whether it goes in ---- */

static void check(void)
{
	char *argv[] = {(char *)loadvm, "--check", (char *)host, NULL};
	g_autofree char *said = NULL;
	int status = run(argv, &said);

	g_test_message("%s", said);
	g_assert_cmpint(status, ==, 0);
	g_assert_nonnull(strstr(said, "\nsupported: "));
}

/* Without loadvm the same program is a QEMU that was never touched. */
static void alone(void)
{
	expect_scenario("balanced", "none", NULL, NULL);
	expect_scenario("untouched", "none", NULL, NULL);
	expect_scenario("kicked", "none", NULL, NULL);
}

static void goes_in(gconstpointer policy)
{
	g_autofree char *says =
		strcmp(policy, "stock") != 0
			? g_strdup_printf("loadvm: %s on QEMU 10.0.0 (in small): %d detours\n",
					  (const char *)policy, CAME_N)
			: g_strdup("loadvm: stock: nothing is changed\n");

	expect_scenario("untouched", policy, NULL, says);
}

/* ---- loads ---- */

struct test {
	const char *scenario, *policy;
};

static void scenario(gconstpointer opaque)
{
	const struct test *t = opaque;

	expect_scenario(t->scenario, t->policy, NULL, NULL);
}

/* One process, the control file naming another policy for each few loads, stock too. */
static void mixed(void)
{
	g_autofree char *control = g_build_filename(lab_tmpdir(), "control", NULL);

	expect_scenario("mixed", POLICY_DEFAULT, control, NULL);
	g_unlink(control);
}

static void add(const char *kind, const char *name, const char *policy)
{
	g_autofree char *path = g_strdup_printf("/load-thread/%s%s/%s", kind, name, policy);
	struct test *t = g_new(struct test, 1);

	/* For the life of the program, as the paths that the host told. */
	*t = (struct test){g_strdup(name), g_strdup(policy)};
	g_test_add_data_func(path, t, scenario);
}

/* The phases and the policies under which QEMU can quit in them: the host knows. */
static void add_quits(void)
{
	char *argv[] = {(char *)host, "--quits", NULL};
	g_autofree char *said = NULL;
	g_auto(GStrv) lines = NULL;
	unsigned int n = 0;

	g_assert_cmpint(run(argv, &said), ==, 0);
	lines = g_strsplit(said, "\n", -1);
	for (char **line = lines; *line && **line; line++, n++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", 2);

		add("quit/", words[0], words[1]);
	}
	g_assert_cmpuint(n, >, 40);
}

int main(int argc, char **argv)
{
	static const char *const each[] = {"balanced", "kicked"};
	static const char *const threaded[] = {"receivers", "fair", "fair-between", "nobody"};

	g_test_init(&argc, &argv, NULL);
	loadvm = lab_program("loadvm");
	host = lab_program("tests/host/host");
	g_assert_true(loadvm && host);
	g_test_add_func("/load-thread/check", check);
	g_test_add_func("/load-thread/alone", alone);
	g_test_add_func("/load-thread/mixed", mixed);
	for (const struct policy *p = policies; p->name; p++) {
		g_autofree char *path = g_strdup_printf("/load-thread/goes-in/%s", p->name);

		g_test_add_data_func(path, p->name, goes_in);
		for (size_t i = 0; i < G_N_ELEMENTS(each); i++)
			add("", each[i], p->name);
		for (size_t i = 0; p->drops && i < G_N_ELEMENTS(threaded); i++)
			add("", threaded[i], p->name);
	}
	add_quits();
	return g_test_run();
}
