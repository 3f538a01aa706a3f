/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands share: options, help, durations, failures.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/command.h"

int command_fail(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bqlstat: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return code;
}

bool command_options(const struct command *command, const GOptionEntry *options, int *argc,
		     char ***argv)
{
	g_autofree char *prgname = g_strdup_printf("bqlstat %s", command->name);
	GOptionContext *context = g_option_context_new(command->usage);
	g_autoptr(GError) error = NULL;
	bool ok;

	g_set_prgname(prgname);
	g_option_context_set_summary(context, command->help);
	g_option_context_add_main_entries(context, options, NULL);
	ok = g_option_context_parse(context, argc, argv, &error);
	if (!ok)
		command_fail(EXIT_USAGE, "%s: `bqlstat help %s` tells how", error->message,
			     command->name);
	g_option_context_free(context);
	return ok;
}

bool command_percent(const char *text, double *share)
{
	char *end;
	double percent = g_ascii_strtod(text, &end);

	if (end == text || !(percent >= 0) || percent > 100)
		return false;
	*share = percent / 100;
	return !*end || !strcmp(end, "%");
}

bool command_duration(const char *text, uint64_t unit_ns, uint64_t *ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{"ns", 1},	   {"us", 1000},	  {"ms", 1000000},
		{"s", 1000000000}, {"m", 60000000000ULL}, {"h", 3600000000000ULL},
	};
	char *end;
	double value = g_ascii_strtod(text, &end);

	if (end == text || !(value >= 0) || value > 1e9)
		return false;
	for (unsigned i = 0; *end && i < G_N_ELEMENTS(units); i++) {
		if (!strcmp(end, units[i].name)) {
			unit_ns = units[i].ns;
			end += strlen(end);
		}
	}
	*ns = value * unit_ns;
	return !*end;
}
