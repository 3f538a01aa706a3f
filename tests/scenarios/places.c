/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Odd places: a program whose file was replaced or lies in a container, bqlstat in a container, a
 * host that hides things.
 */
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/scenarios/recording.h"

#define SCRIPT                                                                                     \
	"thread CPU 0/TCG; repeat 20; lock dance-a.c:1; sleep 3000; unlock; idle 1000; end; "      \
	"repeat 5; lock dance-a.c:2; fault 3000; unlock; end"

/* Where it is allowed to have its own: else a skip. */
static bool can_unshare(void)
{
	const char *argv[] = {"unshare",      "--pid", "--mount", "--fork",
			      "--mount-proc", "true",  NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, &error);
	int code = -1;

	if (p && lab_process_wait(p, PATIENCE_MS, &code, NULL) && !code)
		return true;
	g_test_skip("no namespaces of one's own here");
	return false;
}

/* A command in a shell, in namespaces of its own. */
static struct lab_process *apart(const char *command)
{
	const char *argv[] = {"unshare", "--pid", "--mount", "--fork", "--mount-proc",
			      "sh",	 "-c",	  command,   NULL};
	struct lab_process *p = lab_process_new(argv, NULL, NULL);

	g_assert_nonnull(p);
	return p;
}

static pid_t child_of(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", pid, pid);
	g_autofree char *text = NULL;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return atoi(text);
}

/* All of the script, with a cause and a stack from the program's own file for each hold. */
static void expect_dance(const char *file, const char *program)
{
	struct run *run = load(file, 1);
	unsigned stacks = 0;

	g_assert_cmpuint(acquired_at(run, "dance-a.c", 1, false, 0), ==, 20);
	g_assert_cmpuint(acquired_at(run, "dance-a.c", 2, false, 0), ==, 5);
	g_assert_cmpuint(run_lost(run), ==, 0);
	g_assert_cmpuint(run->holds->len, ==, 25);
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		unsigned line = g_array_index(run->sites, struct site, h->site).line;

		g_assert_cmpstr(cause_name(h->longest_cause), ==,
				line == 1 ? "clock_nanosleep" : "userfault");
	}
	for (unsigned i = 0; i < run->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame, i);

		stacks += !strcmp(f->module, program) && !strcmp(f->symbol, "run");
	}
	g_assert_cmpuint(stacks, >, 0);
	run_free(run);
}

/* Recorded from outside while it dances; it stands at its start. */
static void record_it(struct lab_process *p, pid_t pid, const char *program)
{
	g_autofree char *file = fresh_path("place.run"), *text = g_strdup_printf("%d", pid);
	struct lab_process *recorder = start_recording(file, text, "1ms");

	g_assert_true(lab_process_write(p, "x", NULL));
	g_assert_true(lab_process_expect(p, "done", PATIENCE_MS, NULL));
	if (recorder) {
		stop_recording(recorder);
		expect_dance(file, program);
	}
}

static void copy_program(const char *name, const char *to)
{
	g_autofree char *text = NULL;
	gsize size;

	g_assert_true(g_file_get_contents(lab_program(name), &text, &size, NULL));
	g_assert_true(g_file_set_contents(to, text, size, NULL));
	g_assert_cmpint(chmod(to, 0755), ==, 0);
}

/* An upgrade has put another program there since. */
static void replaced(void)
{
	g_autofree char *copy = fresh_path("dance"), *other = fresh_path("other"), *gone = NULL;
	const char *argv[] = {copy, "--wait-start", "--wait-end", "-e", SCRIPT, NULL};
	struct lab_process *p;

	copy_program("lockdance", copy);
	p = lab_process_new(argv, NULL, NULL);
	g_assert_nonnull(p);
	g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
	copy_program("lockdance-7.2", other);
	g_assert_cmpint(g_rename(other, copy), ==, 0);
	gone = g_strdup_printf("%s (deleted)", copy);
	record_it(p, lab_process_pid(p), gone);
	lab_process_free(p);
}

/* A container's: its own processes, its own files. */
static void container(void)
{
	g_autofree char *command =
		g_strdup_printf("mount -t tmpfs none /mnt && cp '%s' /mnt/dance && "
				"exec /mnt/dance --wait-start --wait-end -e '%s'",
				lab_program("lockdance"), SCRIPT);
	struct lab_process *p;

	if (!can_unshare())
		return;
	p = apart(command);
	g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
	g_assert_cmpint(access("/mnt/dance", F_OK), !=, 0);
	record_it(p, child_of(lab_process_pid(p)), "/mnt/dance");
	lab_process_free(p);
}

/* bqlstat sees the process under another number than the kernel tells. */
static void inside(void)
{
	g_autofree char *file = fresh_path("inside.run");
	g_autofree char *command =
		g_strdup_printf("'%s' record -q -t 1ms -o '%s' -- '%s' -e '%s'",
				lab_program("bqlstat"), file, lab_program("lockdance"), SCRIPT);

	if (can_unshare() && recording_ended(apart(command)))
		expect_dance(file, lab_program("lockdance"));
}

/* Neither the kernel's symbols nor the tracing file system are to be had: nothing needs them. */
static void hidden(void)
{
	g_autofree char *file = fresh_path("hidden.run");
	g_autofree char *command = g_strdup_printf(
		"mount --bind /dev/null /proc/kallsyms; mount -t tmpfs none /sys/kernel/tracing; "
		"mount -t tmpfs none /sys/kernel/debug; "
		"'%s' record -q -t 1ms -o '%s' -- '%s' -e '%s'",
		lab_program("bqlstat"), file, lab_program("lockdance"), SCRIPT);

	if (can_unshare() && recording_ended(apart(command)))
		expect_dance(file, lab_program("lockdance"));
}

/* The one thing that the kernel must tell of itself: without it everything says so, and how to go
 * on. */
static void no_types(void)
{
	g_autofree char *bqlstat = g_strdup_printf("'%s'", lab_program("bqlstat"));
	g_autofree char *command =
		g_strdup_printf("mount -t tmpfs none /sys/kernel/btf || exit 99; "
				"%s record -o /nowhere -- true; echo $?; %s top -n 1; echo $?; "
				"%s export -l 127.0.0.1:0; echo $?; %s doctor; echo $?",
				bqlstat, bqlstat, bqlstat, bqlstat);
	g_autofree char *says = NULL, *codes = NULL;
	unsigned sentences = 0;
	struct lab_process *p;
	int code;

	if (!can_unshare())
		return;
	p = apart(command);
	says = outcome(p, &code);
	codes = lab_process_stdout(p);
	lab_process_free(p);
	g_test_message("%s%s", says, codes);
	g_assert_cmpint(code, ==, 0);
	g_assert_true(g_str_has_prefix(codes, "3\n3\n3\n"));
	g_assert_true(g_str_has_suffix(codes, "\n3\n"));
	g_assert_nonnull(strstr(codes, "MISSING  BTF"));
	g_assert_nonnull(strstr(codes, "CONFIG_DEBUG_INFO_BTF"));
	for (const char *at = says; (at = strstr(at, "has no BTF")); at++)
		sentences++;
	g_assert_cmpuint(sentences, ==, 3);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/places/replaced", replaced);
	g_test_add_func("/places/container", container);
	g_test_add_func("/places/inside", inside);
	g_test_add_func("/places/hidden", hidden);
	g_test_add_func("/places/no-types", no_types);
	return g_test_run();
}
