/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of bqlstat share. One file a subcommand: cmd_NAME.c; bqlstat.c has the
 * table.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

/* Exit codes, of every subcommand. */
enum {
	EXIT_DONE = 0,
	EXIT_GATE = 1, /* what was measured failed a gate */
	EXIT_USAGE = 2,
	EXIT_CANNOT = 3, /* cannot run here */
};

struct command {
	const char *name;
	const char *does;  /* a few words */
	const char *usage; /* what follows the name */
	const char *help;  /* what one must know to use it; options come after it by themselves */
	/* argv[0] is the subcommand's name. Returns an exit code. */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command command_record, command_report, command_timeline, command_lttng,
	command_top, command_doctor, command_probes, command_bench, command_diff, command_export,
	command_crosscheck;

/* "bqlstat: SENTENCE" on stderr. Returns code. */
int command_fail(int code, const char *format, ...) G_GNUC_PRINTF(2, 3);
/*
 * Parse options; what is left stays in argc and argv, argv[0] first. --help prints and exits.
 * False, after a sentence that names the help, when the options are wrong: return EXIT_USAGE.
 */
bool command_options(const struct command *command, const GOptionEntry *options, int *argc,
		     char ***argv);
/*
 * Write a page: whole or not at all, over an older page but never over anything else, such as a
 * recording; into a device or pipe as it is. An exit code, after a sentence.
 */
int command_write_page(const char *path, const char *html);
/* "500us", "1ms", "2.5s", "10m"; a bare number counts `unit_ns` each. */
bool command_duration(const char *text, uint64_t unit_ns, uint64_t *ns);
/* "5", "0.5%": 0.05, 0.005; at most 100%. */
bool command_percent(const char *text, double *share);

#endif
