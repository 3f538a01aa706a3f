/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter as its systemd unit lets it run: with few powers, few system calls and a file system
 * that it cannot write, it has to find, attach to, read and leave QEMUs of other users.
 */
#include "tests/scenarios/export.h"

/* With the powers that the systemd unit leaves it, and no others. */
static void powers(void)
{
	g_autofree char *vm = named("unit"), *unit = NULL, *set = NULL, *says = NULL;
	g_autofree char *path = source("docs/bqlstat-export.service");
	g_autofree char *setpriv = g_find_program_in_path("setpriv");
	g_autoptr(GString) bounding = g_string_new("-all");
	g_auto(GStrv) words = NULL;
	struct lab_process *p;
	struct exporter x;
	int code;

	if (!setpriv || geteuid()) {
		g_test_skip("needs root and setpriv");
		return;
	}
	g_assert_true(g_file_get_contents(path, &unit, NULL, NULL));
	set = strstr(unit, "\nCapabilityBoundingSet=");
	g_assert_nonnull(set);
	set = g_strndup(set + 23, strcspn(set + 23, "\n"));
	words = g_strsplit(set, " ", -1);
	for (char **word = words; *word; word++) {
		g_autofree char *name = g_ascii_strdown(*word + strlen("CAP_"), -1);

		g_string_append_printf(bounding, ",+%s", name);
	}
	g_snprintf(x.at, sizeof(x.at), "127.0.0.1:%u", lab_free_port());
	x.process = lab_process_new((const char *[]){setpriv, "--bounding-set", bounding->str,
						     "--inh-caps", "-all", "--no-new-privs",
						     lab_program("bqlstat"), "export", "--listen",
						     x.at, "--match", vm, NULL},
				    NULL, NULL);
	if (!lab_process_expect(x.process, "serving", PATIENCE_MS, NULL)) {
		says = lab_process_stderr(x.process);
		g_error("%s: %s", bounding->str, says);
	}
	p = dance(vm, "thread IO one; repeat 5; lock main-loop.c:1; unlock; end");
	wait_traced(&x, vm, true);
	lab_process_free(p);
	lab_process_kill(x.process, SIGTERM);
	says = outcome(x.process, &code);
	g_assert_cmpint(code, ==, 0);
	lab_process_free(x.process);
}

/* The same under systemd itself, with all that the unit forbids. */
static void under_systemd(void)
{
	g_autofree char *script = source("tests/systemd.sh");
	g_autofree char *path = source("docs/bqlstat-export.service");
	g_autofree char *here = g_canonicalize_filename(lab_program("bqlstat"), NULL);
	g_autofree char *vm = named("systemd"), *start = NULL, *says = NULL;
	g_autofree char *text = NULL;
	struct lab_process *service, *p;
	struct exporter x;
	int code;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	g_test_skip("a sanitizer wants more than the unit allows");
	return;
#endif
	g_snprintf(x.at, sizeof(x.at), "127.0.0.1:%u", lab_free_port());
	start = g_strdup_printf("%s export --listen %s --match %s", here, x.at, vm);
	service = lab_process_new((const char *[]){script, path, start, NULL}, NULL, NULL);
	if (!lab_process_expect(service, "serving", PATIENCE_MS, NULL)) {
		says = outcome(service, &code);
		lab_process_free(service);
		if (code != 3)
			g_error("%d: %s", code, says);
		g_test_skip(says);
		return;
	}
	/* Active is not yet listening. */
	for (int i = 0; i < PATIENCE_MS / 20 && !text; i++) {
		text = lab_web_get(x.at, "/metrics", NULL, NULL);
		g_usleep(20000);
	}
	p = lab_process_new(
		(const char *[]){"setpriv", "--reuid", "65534", "--regid", "65534",
				 "--clear-groups", lab_program("lockdance"), "--wait-start",
				 "--wait-end", "-e",
				 "thread IO one; repeat 5; lock main-loop.c:1; sleep 100; "
				 "unlock; end",
				 "--", "-name", vm, NULL},
		NULL, NULL);
	wait_traced(&x, vm, true);
	g_assert_true(lab_process_write(p, "x", NULL));
	g_assert_true(lab_process_expect(p, "done", PATIENCE_MS, NULL));
	g_free(text);
	text = scrape_settled(&x, vm, 5);
	g_assert_cmpfloat(figure(text, "bqlstat_acquisitions_total", vm, NULL), ==, 5);
	g_assert_cmpfloat(figure(text, "bqlstat_blocks_total", vm, "cause=\"clock_nanosleep\""), ==,
			  5);
	lab_process_free(p);
	wait_traced(&x, vm, false);
	g_assert_true(lab_process_write(service, "stop\n", NULL));
	says = outcome(service, &code);
	lab_process_free(service);
	if (code)
		g_error("%d: %s", code, says);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_snprintf(fresh, sizeof(fresh), "service-%d", getpid());
	g_test_add_func("/service/powers", powers);
	g_test_add_func("/service/under-systemd", under_systemd);
	return g_test_run();
}
