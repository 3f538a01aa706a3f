/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bqlstat crosscheck`: every way to watch the lock says the same of a real migration; and the gate
 * can fail.
 */
#include <json-glib/json-glib.h>

#include "tests/scenarios/recording.h"

#define LONG_ENOUGH_MS 120000

/* Runs it to its end; what it printed, g_free(). */
static char *run_it(const char *const *argv, const char *const *env, int *code, char **says)
{
	GError *error = NULL;
	struct lab_process *p = lab_process_new(argv, env, &error);
	char *out;

	g_assert_no_error(error);
	lab_process_wait(p, LONG_ENOUGH_MS, code, &error);
	g_assert_no_error(error);
	out = lab_process_stdout(p);
	*says = lab_process_stderr(p);
	lab_process_free(p);
	return out;
}

/* False after g_test_skip(): root and eBPF are needed. */
static bool possible(int code, const char *says)
{
	if (code != 3 || !(strstr(says, "CAP_") || strstr(says, "BTF") || strstr(says, "lttng")))
		return true;
	g_test_skip(says);
	return false;
}

static JsonObject *nth(JsonArray *array, unsigned n)
{
	return json_array_get_object_element(array, n);
}

/* Of every source, at every site. */
static void expect_equal_counts(JsonObject *round, unsigned n_sources)
{
	JsonArray *sources = json_object_get_array_member(round, "sources");
	JsonArray *first = json_object_get_array_member(nth(sources, 0), "sites");

	g_assert_cmpuint(json_array_get_length(sources), ==, n_sources);
	g_assert_cmpuint(json_array_get_length(first), >, 5);
	for (unsigned s = 0; s < n_sources; s++) {
		JsonObject *source = nth(sources, s);
		JsonArray *sites = json_object_get_array_member(source, "sites");

		g_test_message("%s: %d acquisitions, %d us in %d long holds",
			       json_object_get_string_member(source, "name"),
			       (int)json_object_get_int_member(source, "acquired"),
			       (int)(json_object_get_int_member(source, "long_ns") / 1000),
			       (int)json_object_get_int_member(source, "long_holds"));
		g_assert_cmpint(json_object_get_int_member(source, "lost_total"), ==, 0);
		g_assert_cmpint(json_object_get_int_member(source, "acquired"), >, 100);
		g_assert_cmpint(json_object_get_int_member(source, "long_ns"), >, 1000000);
		for (unsigned i = 0; i < json_array_get_length(sites); i++)
			g_assert_cmpint(json_object_get_int_member(nth(sites, i), "acquired"), ==,
					json_object_get_int_member(nth(first, i), "acquired"));
	}
}

static void agrees(gconstpointer version)
{
	const char *argv[] = {
		lab_program("bqlstat"), "crosscheck", "-n", "6", "--json", "--qemu", version, NULL};
	g_autofree char *out = NULL, *says = NULL;
	g_autoptr(JsonNode) node = NULL;
	GError *error = NULL;
	JsonArray *rounds;
	const char *why;
	int code;

	if (!lab_qemu_path(version, &why)) {
		g_test_skip(why);
		return;
	}
	out = run_it(argv, NULL, &code, &says);
	if (!possible(code, says))
		return;
	g_test_message("%s", says);
	node = json_from_string(out, &error);
	g_assert_no_error(error);
	rounds = json_node_get_array(node);
	g_assert_cmpuint(json_array_get_length(rounds), ==, 6);
	/* With QEMU's own log, and without, by turns. */
	for (unsigned i = 0; i < 6; i++)
		expect_equal_counts(nth(rounds, i), i % 2 ? 3 : 4);
	g_assert_cmpint(code, ==, 0);
	g_assert_nonnull(strstr(says, "the sources agree"));
}

/* No two clocks are read at the same time: a limit of nothing cannot be kept. */
static void test_gate(void)
{
	const char *argv[] = {
		lab_program("bqlstat"), "crosscheck", "-n", "1", "--no-log", "--limit", "0%", NULL};
	g_autofree char *out = NULL, *says = NULL;
	int code;

	out = run_it(argv, NULL, &code, &says);
	if (!possible(code, says))
		return;
	g_assert_cmpint(code, ==, 1);
	g_assert_nonnull(strstr(says, "apart on the time in long holds"));
	g_assert_nonnull(strstr(out, "util/main-loop.c:"));
	g_assert_null(strstr(out, "QEMU's log"));
}

static void refuses(int want, const char *what, const char *const *env, const char *option,
		    const char *value)
{
	const char *argv[] = {lab_program("bqlstat"), "crosscheck", option, value, NULL};
	g_autofree char *out = NULL, *says = NULL;
	int code;

	out = run_it(argv, env, &code, &says);
	g_test_message("%s", says);
	g_assert_cmpint(code, ==, want);
	g_assert_nonnull(strstr(says, what));
	g_assert_cmpstr(out, ==, "");
}

static void test_refusals(void)
{
	const char *bare[] = {"PATH=/nowhere", NULL};

	refuses(2, "no such policy", NULL, "--policy", "sideways");
	refuses(2, "1 to 100 rounds", NULL, "-n", "0");
	refuses(2, "wants a percentage", NULL, "--limit", "tight");
	refuses(2, "wants a duration", NULL, "--long", "very");
	refuses(3, "lttng", bare, "-n", "1");
	refuses(3, "round 1", NULL, "--qemu", "/nowhere/qemu");
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;

	g_test_init(&argc, &argv, NULL);
	/* Where it cannot be had, crosscheck says so. */
	if (!lab_lttng(&error))
		g_test_message("%s", error->message);
	g_test_add_func("/crosscheck/refusals", test_refusals);
	g_test_add_func("/crosscheck/gate", test_gate);
	g_test_add_data_func("/crosscheck/agrees/7.2", "7.2", agrees);
	g_test_add_data_func("/crosscheck/agrees/10.0", "10.0", agrees);
	return g_test_run();
}
