/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat: the table of commands, and help.
 */
#include <stdio.h>
#include <string.h>

#include "analyzers/command.h"

static int help(const struct command *command, int argc, char **argv);

static const struct command command_help = {
	.name = "help",
	.does = "tell about a command",
	.usage = "[COMMAND]",
	.run = help,
};

static const struct command *const commands[] = {
	&command_record, &command_report, &command_top,	       &command_timeline,
	&command_lttng,	 &command_doctor, &command_probes,     &command_bench,
	&command_diff,	 &command_export, &command_crosscheck, &command_help};

static void teach(FILE *out)
{
	fputs("usage: bqlstat COMMAND [OPTION...]\n"
	      "       bqlstat --help | --version\n"
	      "\n"
	      "See who holds the Big QEMU Lock of a running QEMU, for how long, what the holder "
	      "was\n"
	      "blocked on meanwhile, and who waited. Any distribution's QEMU, without a rebuild,\n"
	      "debug symbols or a restart. The lock is what freezes a guest's devices and the "
	      "monitor\n"
	      "when one thread keeps it.\n"
	      "\n"
	      "  bqlstat record -p PID -o FILE -d 10     watch a running QEMU for ten seconds\n"
	      "  bqlstat record -o FILE -- qemu-system-x86_64 ...\n"
	      "                                          start one and watch it from the first "
	      "moment\n"
	      "  bqlstat report FILE                     show what was seen\n"
	      "  bqlstat top                             watch every QEMU live\n"
	      "  bqlstat diff OLD NEW                    are these runs worse than those, and "
	      "where?\n"
	      "  bqlstat export                          serve all QEMUs to Prometheus\n"
	      "  bqlstat doctor                          will it work here? what is missing?\n"
	      "\n"
	      "commands:\n",
	      out);
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->does);
	fputs("\n"
	      "`bqlstat help COMMAND` tells more. Recording needs root, or CAP_BPF and "
	      "CAP_PERFMON\n"
	      "as the user that runs the QEMU; `bqlstat doctor` tells what is missing.\n"
	      "exit codes: 0 done, 1 a gate failed, 2 wrong usage, 3 cannot run here\n",
	      out);
}

static const struct command *find(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
		if (!strcmp(name, commands[i]->name))
			return commands[i];
	return NULL;
}

static int unknown(const char *name)
{
	return command_fail(EXIT_USAGE, "there is no command %s: `bqlstat --help` lists them",
			    name);
}

static int help(const struct command *self, int argc, char **argv)
{
	const struct command *command;
	char option[] = "--help", *args[] = {argc > 1 ? argv[1] : NULL, option, NULL};

	(void)self;
	if (argc < 2) {
		teach(stdout);
		return EXIT_DONE;
	}
	command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	if (command == &command_help) {
		teach(stdout);
		return EXIT_DONE;
	}
	return command->run(command, 2, args);
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		teach(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(&command_help, 1, argv);
	if (!strcmp(argv[1], "--version")) {
		puts("bqlstat " BQLSTAT_VERSION);
		return EXIT_DONE;
	}
	command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	return command->run(command, argc - 1, argv + 1);
}
