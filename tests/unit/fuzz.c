/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fuzzers, for some seconds and always with the same inputs: what `make fuzz` found stays
 * found.
 */
#include <string.h>

#include "analyzers/lab/lab.h"

static const struct fuzzer {
	const char *name;
	unsigned runs; /* a second or two each */
} fuzzers[] = {
	{"ctf", 2000}, {"elf", 800}, {"relocate", 60000}, {"store", 100}, {"unwind", 100},
};

static void run(gconstpointer opaque)
{
	const struct fuzzer *fuzzer = opaque;
	g_autofree char *name = g_strdup_printf("fuzz/tests/fuzz/%s", fuzzer->name);
	g_autofree char *runs = g_strdup_printf("-runs=%u", fuzzer->runs);
	g_autofree char *found = g_strdup_printf("-artifact_prefix=%s/", lab_tmpdir());
	const char *argv[] = {lab_program(name), runs,		"-seed=1", "-max_len=512",
			      "-len_control=0",	 "-timeout=30", found,	   NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autofree char *said = NULL, *done = NULL;
	int status;

	if (!argv[0]) {
		g_test_skip("not built: clang's fuzzer runtime is missing (libclang-rt-14-dev)");
		return;
	}
	p = lab_process_new(argv, NULL, &error);
	g_assert_no_error(error);
	lab_process_wait(p, 120000, &status, &error);
	g_assert_no_error(error);
	said = lab_process_stderr(p);
	if (status)
		g_error("%s", said);
	done = g_strdup_printf("Done %u runs", fuzzer->runs);
	g_assert_nonnull(strstr(said, done));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(fuzzers); i++) {
		g_autofree char *path = g_strdup_printf("/fuzz/%s", fuzzers[i].name);

		g_test_add_data_func(path, &fuzzers[i], run);
	}
	return g_test_run();
}
