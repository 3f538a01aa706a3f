/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of a QEMU under loadvm that a security module confines: they run in a VM of their
 * own, as root, and may do with it what they like.
 */
#ifndef CONFINED_H
#define CONFINED_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>

#include "analyzers/inspect/under.h"
#include "analyzers/lab/journey.h"
#include "tests/vm/vm.h"

enum {
	EXIT_CANNOT = 3,
	LONG_MS = 180000, /* anything: a QEMU in a VM that is emulated itself */
};

/* False after a sentence: on a real machine these tests would do harm. */
static inline bool in_vm(void)
{
	g_autofree char *mounts = NULL;

	if (g_file_get_contents("/proc/mounts", &mounts, NULL, NULL) && strstr(mounts, VM_ROOT))
		return true;
	fputs("this test changes the system that it runs on: it wants to be started by build/vm\n",
	      stderr);
	return false;
}

/* A shell command's exit code; what it printed in *out unless that is NULL, g_free(). */
static inline int try_sh(char **out, const char *command)
{
	const char *argv[] = {"sh", "-c", command, NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, &error);
	g_autofree char *said = NULL, *complained = NULL;
	int code;

	g_assert_no_error(error);
	lab_process_wait(p, LONG_MS, &code, &error);
	g_assert_no_error(error);
	said = lab_process_stdout(p);
	complained = lab_process_stderr(p);
	if (out)
		*out = g_strconcat(said, complained, NULL);
	return code;
}

static inline void sh(const char *format, ...) G_GNUC_PRINTF(1, 2);
static inline void sh(const char *format, ...)
{
	g_autofree char *command = NULL, *said = NULL;
	va_list args;

	va_start(args, format);
	command = g_strdup_vprintf(format, args);
	va_end(args);
	if (try_sh(&said, command))
		g_error("%s: %s", command, said);
}

static inline char *read_file(const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;

	g_file_get_contents(path, &text, NULL, &error);
	g_assert_no_error(error);
	return g_steal_pointer(&text);
}

/* In place, as the files in /proc want it. */
static inline void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	g_assert_nonnull(file);
	fputs(text, file);
	g_assert_cmpint(fclose(file), ==, 0);
}

/* ---- the kernel's log ---- */

/* Else it keeps denials to itself when there are many. What it has said so far is forgotten. */
static inline void say_all(void)
{
	enum { SYSLOG_CLEAR = 5 };

	write_file("/proc/sys/kernel/printk_ratelimit", "0\n");
	g_assert_cmpint(klogctl(SYSLOG_CLEAR, NULL, 0), ==, 0);
}

/* What it has said since this was last asked; g_free(). */
static inline char *kernel_log(void)
{
	enum { SYSLOG_READ_CLEAR = 4, LOG_BYTES = 1 << 20 };
	char *log = g_malloc0(LOG_BYTES + 1);

	g_assert_cmpint(klogctl(SYSLOG_READ_CLEAR, log, LOG_BYTES), >=, 0);
	return log;
}

/* ---- the destination ---- */

/* The module's name for what that process may. */
static inline void assert_label(pid_t pid, const char *wanted)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/attr/current", pid);
	g_autofree char *label = read_file(path);

	g_assert_cmpstr(label, ==, wanted);
}

static inline enum under status_of(pid_t pid, struct loadvm_status *status)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", pid);
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	enum under under;

	g_assert_cmpint(mem, >=, 0);
	under = under_loadvm(pid, mem, status);
	close(mem);
	return under;
}

static inline void assert_loaded_in_thread(pid_t pid)
{
	struct loadvm_status status;

	g_assert_cmpint(status_of(pid, &status), ==, UNDER_LOADVM);
	g_assert_cmpuint(status.detours, >, 0);
	g_assert_cmpuint(status.loads, ==, 1);
	g_assert_cmpstr(status.load_policy, ==, "io-free");
	g_assert_cmpuint(status.drops, >, 0);
}

/* What `loadvm --check` says of that module; g_free(). The build it accepts in any case. */
static inline char *check_says(const char *loadvm, const char *target, const char *module)
{
	g_autofree char *command = g_strdup_printf("%s --check %s", loadvm, target), *said = NULL;
	char *hint;

	g_assert_cmpint(try_sh(&said, command), ==, 0);
	hint = strstr(said, module);
	g_assert_nonnull(hint);
	hint = g_strndup(hint, strcspn(hint, "\n"));
	g_test_message("--check %s: %s", target, hint);
	return hint;
}

static inline struct lab_pair_options confined_options(const char *version,
						       const char *const *launcher)
{
	return (struct lab_pair_options){
		.vm = {.version = version,
		       .memory_mib = 32,
		       .guest = true,
		       .dirty_mib = 1,
		       .timeout_ms = LONG_MS},
		.destination_launcher = launcher,
	};
}

/*
 * A guest has arrived there and goes on. NULL after g_test_skip(). It stands still on its way:
 * where all is emulated twice, one that writes meanwhile now and then arrives with an old page, at
 * a stock QEMU too.
 */
static inline struct lab_pair *confined_arrival(const char *version, const char *const *launcher)
{
	const struct lab_pair_options options = confined_options(version, launcher);
	struct lab_migration result;
	g_autoptr(GError) error = NULL;
	struct lab_pair *pair = lab_pair_new(&options, &error);

	if (!pair && lab_skip(error))
		return NULL;
	g_assert_no_error(error);
	g_assert_true(lab_qmp_ok(lab_pair_source(pair), &error, "stop"));
	g_assert_true(lab_pair_migrate(pair, &error));
	lab_pair_wait(pair, LONG_MS, &result, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_cmpstr(result.destination_status, ==, "completed");
	lab_migration_clear(&result);
	g_assert_true(lab_qmp_ok(lab_pair_destination(pair), &error, "cont"));
	lab_vm_alive(lab_pair_destination(pair), LONG_MS, &error);
	g_assert_no_error(error);
	return pair;
}

/* With stock's exit code, and one line of ours or the loader's: that it `says`. */
static inline void assert_quits_saying(struct lab_pair *pair, const char *says)
{
	g_autofree char *said = NULL;
	g_autoptr(GError) error = NULL;
	int status = -1;

	lab_vm_quit(lab_pair_destination(pair), LONG_MS, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0);
	said = g_strstrip(lab_vm_stderr(lab_pair_destination(pair)));
	g_test_message("%s", said);
	g_assert_true(g_str_has_prefix(said, says));
	g_assert_null(strchr(said, '\n'));
}

/* How one ends whose stream breaks off; g_free(). */
static inline char *broken_stream(const char *const *launcher)
{
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN, .offset_bytes = 4096, .fault = LAB_FAULT_FIN};
	const struct lab_journey journey = {.copy = LAB_COPY_PRE};
	struct lab_pair_options options = confined_options("7.2", launcher);
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	char *ending = NULL;

	options.rules = &rule;
	options.n_rules = 1;
	pair = lab_journey_new(&journey, &options, &error);
	if (pair && lab_journey_begin(&journey, pair, &error))
		ending = lab_vm_ending(lab_pair_destination(pair), LONG_MS, &error);
	g_assert_no_error(error);
	g_test_message("%s", ending);
	return ending;
}

/* It ends as a stock QEMU that nothing confines. */
static inline void assert_ends_as_stock(const char *const *launcher)
{
	g_autofree char *own = broken_stream(launcher), *stock = broken_stream(NULL);

	g_assert_cmpstr(own, ==, stock);
}

#endif
