/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fuzzers, for some seconds and always with the same inputs, and with those in
 * tests/fuzz/found, which once broke something: what `make fuzz` found stays found.
 */
#include <string.h>

#include "analyzers/lab/lab.h"

static const struct fuzzer {
	const char *name;
	unsigned runs; /* a second or two each */
	bool found;    /* it has inputs in tests/fuzz/found */
} fuzzers[] = {
	{"ctf", 2000, false}, {"elf", 800, false},    {"relocate", 60000, false},
	{"store", 100, true}, {"unwind", 100, false},
};

/* What it said, once it ended well: g_free(). NULL after a skip. */
static char *fuzz(const char *name, const char *const *arguments)
{
	g_autofree char *program = g_strdup_printf("fuzz/tests/fuzz/%s", name);
	g_autofree char *found = g_strdup_printf("-artifact_prefix=%s/", lab_tmpdir());
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autofree char *said = NULL;
	int status;

	if (!lab_program(program)) {
		g_test_skip("not built: clang's fuzzer runtime is missing (libclang-rt-14-dev)");
		return NULL;
	}
	g_ptr_array_add(argv, (char *)lab_program(program));
	g_ptr_array_add(argv, found);
	g_ptr_array_add(argv, (char *)"-timeout=30");
	for (; *arguments; arguments++)
		g_ptr_array_add(argv, (char *)*arguments);
	g_ptr_array_add(argv, NULL);
	p = lab_process_new((const char *const *)argv->pdata, NULL, &error);
	g_assert_no_error(error);
	lab_process_wait(p, 120000, &status, &error);
	g_assert_no_error(error);
	said = lab_process_stderr(p);
	if (status)
		g_error("%s", said);
	return g_steal_pointer(&said);
}

static void run(gconstpointer opaque)
{
	const struct fuzzer *fuzzer = opaque;
	g_autofree char *runs = g_strdup_printf("-runs=%u", fuzzer->runs);
	g_autofree char *done = g_strdup_printf("Done %u runs", fuzzer->runs);
	const char *arguments[] = {runs, "-seed=1", "-max_len=512", "-len_control=0", NULL};
	g_autofree char *said = fuzz(fuzzer->name, arguments);

	if (said)
		g_assert_nonnull(strstr(said, done));
}

/* The sources lie above the build folder. */
static char *found_folder(const char *fuzzer)
{
	g_autofree char *here = g_canonicalize_filename(lab_program("bqlstat"), NULL);

	while (strcmp(here, "/")) {
		g_autofree char *tests = g_build_filename(here, "tests", "fuzz", "found", NULL);
		char *up = g_path_get_dirname(here);

		if (g_file_test(tests, G_FILE_TEST_IS_DIR)) {
			g_free(up);
			return g_build_filename(tests, fuzzer, NULL);
		}
		g_free(here);
		here = up;
	}
	g_error("there is no tests/fuzz/found above the build folder");
}

static void found(gconstpointer opaque)
{
	const struct fuzzer *fuzzer = opaque;
	g_autofree char *folder = found_folder(fuzzer->name), *said = NULL;
	g_autoptr(GPtrArray) inputs = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir)))
		g_ptr_array_add(inputs, g_build_filename(folder, name, NULL));
	g_assert_cmpuint(inputs->len, >, 0);
	g_ptr_array_add(inputs, NULL);
	said = fuzz(fuzzer->name, (const char *const *)inputs->pdata);
	for (unsigned i = 0; said && i + 1 < inputs->len; i++) {
		g_autofree char *done = g_strdup_printf("Executed %s", (char *)inputs->pdata[i]);

		g_assert_nonnull(strstr(said, done));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(fuzzers); i++) {
		g_autofree char *path = g_strdup_printf("/fuzz/%s/run", fuzzers[i].name);
		g_autofree char *path_found = g_strdup_printf("/fuzz/%s/found", fuzzers[i].name);

		g_test_add_data_func(path, &fuzzers[i], run);
		if (fuzzers[i].found)
			g_test_add_data_func(path_found, &fuzzers[i], found);
	}
	return g_test_run();
}
