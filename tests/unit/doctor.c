/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of `bqlstat doctor`: USDT notes, findings, kernel features.
 */
#include <string.h>
#include <unistd.h>

#include "analyzers/inspect/check.h"
#include "analyzers/lab/lab.h"
#include "analyzers/inspect/usdt.h"
#include "probes/features.h"
#include "probes/tracer.h"

/* ---- USDT notes ---- */

/* As sys/sdt.h writes them. `text` follows the three addresses. */
#define NOTE(type, owner, text)                                                                    \
	asm(".pushsection .note.stapsdt, \"\", \"note\"\n"                                         \
	    ".balign 4\n"                                                                          \
	    ".4byte 992f - 991f, 994f - 993f, " #type "\n"                                         \
	    "991:	.asciz \"" owner "\"\n"                                                    \
	    "992:	.balign 4\n"                                                                     \
	    "993:	.8byte 0, 0, 0\n" text "994:	.balign 4\n"                                  \
	    ".popsection\n")

NOTE(3, "stapsdt", ".asciz \"qemu\"\n.asciz \"qemu_mutex_lock\"\n.asciz \"8@%rdi\"\n");
NOTE(3, "stapsdt", ".asciz \"qemu\"\n.asciz \"vmstate_load_state\"\n.asciz \"\"\n");
/* Not what we look for: another type, another owner, no name, and a name without an end. */
NOTE(4, "stapsdt", ".asciz \"qemu\"\n.asciz \"type\"\n.asciz \"\"\n");
NOTE(3, "another", ".asciz \"qemu\"\n.asciz \"owner\"\n.asciz \"\"\n");
NOTE(3, "stapsdt", "");
NOTE(3, "stapsdt", ".asciz \"qemu\"\n.ascii \"endless\"\n");
NOTE(3, "stapsdt", ".asciz \"other\"\n.asciz \"last\"\n.asciz \"\"\n");

static void test_usdt(void)
{
	static const char *const expected[] = {"qemu:qemu_mutex_lock", "qemu:vmstate_load_state",
					       "other:last"};
	g_autoptr(GPtrArray) list = usdt_list("/proc/self/exe");
	unsigned found = 0;

	g_assert_nonnull(list);
	/* The C library may have some of its own where it is linked in. */
	for (unsigned i = 0; i < list->len; i++) {
		if (found < G_N_ELEMENTS(expected) && !strcmp(list->pdata[i], expected[found]))
			found++;
		g_assert_null(strstr(list->pdata[i], ":type"));
		g_assert_null(strstr(list->pdata[i], ":owner"));
		g_assert_null(strstr(list->pdata[i], "endless"));
	}
	g_assert_cmpuint(found, ==, G_N_ELEMENTS(expected));
	g_assert_null(usdt_list("/proc/self/status"));
	g_assert_null(usdt_list("/nonexistent"));
}

/* Cut anywhere, a binary is read as far as it goes. */
static void test_usdt_cut(void)
{
	g_autofree char *path = g_build_filename(lab_tmpdir(), "cut", NULL);
	g_autofree char *bytes = NULL;
	gsize size;

	g_assert_true(g_file_get_contents("/proc/self/exe", &bytes, &size, NULL));
	for (unsigned i = 0; i < 64; i++) {
		g_autoptr(GPtrArray) list = NULL;

		g_assert_true(g_file_set_contents(path, bytes, size * i / 64, NULL));
		list = usdt_list(path);
		/* The table of sections stands at the end. */
		g_assert_true(!list || !list->len);
	}
	unlink(path);
}

/* ---- findings ---- */

static void test_obstacle(void)
{
	g_autoptr(GPtrArray) checks = checks_new();

	g_assert_null(checks_obstacle(checks));
	checks_add(checks, CHECK_OK, "fine", NULL, "yes");
	checks_add(checks, CHECK_NOTE, "so-so", "look", "%d of %d", 1, 2);
	g_assert_null(checks_obstacle(checks));
	checks_add(checks, CHECK_UNSEEN, "dark", NULL, "who knows");
	g_assert_cmpstr(checks_obstacle(checks)->name, ==, "dark");
	checks_add(checks, CHECK_MISSING, "gone", "buy one", "none left");
	g_assert_cmpstr(checks_obstacle(checks)->name, ==, "gone");
	g_assert_cmpstr(checks_obstacle(checks)->mend, ==, "buy one");
}

/* ---- the kernel's features against the tracer that needs them ---- */

static void test_features(void)
{
	const struct tracer_opts opts = {.threshold_ns = 1000000};
	struct features features;
	struct tracer_error err;
	struct tracer *tracer;
	bool all = true, unseen = false;
	int ret;

	features_probe(&features);
	for (int i = 0; i < FEATURES; i++) {
		g_test_message("feature %d: %d", i, features.has[i]);
		all &= features.has[i] == FEATURE_YES;
		unseen |= features.has[i] == FEATURE_UNSEEN;
	}
	ret = tracer_new(&opts, &tracer, &err);
	if (unseen) {
		g_assert_cmpint(geteuid(), !=, 0);
		g_test_skip("this user may not load programs");
		tracer_free(ret ? NULL : tracer);
		return;
	}
	g_assert_cmpint(all, ==, ret == 0);
	if (ret)
		return;
	tracer_free(tracer);
	/* Emulating saves two traps: on no machine is it as slow as stepping. */
	g_test_message("emulated %d ns, stepped %d ns", (int)features.emulated_ns,
		       (int)features.stepped_ns);
	g_assert_cmpuint(features.emulated_ns, >, 0);
	g_assert_cmpuint(features.emulated_ns, <, features.stepped_ns);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/doctor/usdt", test_usdt);
	g_test_add_func("/doctor/usdt/cut", test_usdt_cut);
	g_test_add_func("/doctor/obstacle", test_obstacle);
	g_test_add_func("/doctor/features", test_features);
	return g_test_run();
}
