/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat probes: where the probes would go in a QEMU, attaching none.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "analyzers/command.h"
#include "analyzers/show.h"
#include "analyzers/inspect/subject.h"

#define FORMAT 1

static void print(const struct subject *s)
{
	g_autofree char *path = subject_path(s);
	bool colour = show_colour();

	printf("%sQEMU %s%s, %s", colour ? SHOW_BOLD : "", seam_map_version(s->map),
	       colour ? SHOW_PLAIN : "", path);
	if (s->pid)
		printf(", process %d", s->pid);
	printf("\nbuild id %s, generation %s\n\n", seam_map_build_id(s->map),
	       seam_map_generation(s->map));
	subject_print_points(stdout, s, colour);
	if (*s->refusal)
		printf("\nWould not be traced: %s.\n", s->refusal);
	else
		printf("\nWould be traced; nothing was attached.\n");
}

static void print_json(const struct subject *s)
{
	g_autoptr(JsonBuilder) b = json_builder_new();

	json_builder_begin_object(b);
	show_int(b, "format", FORMAT);
	show_text(b, "tool", BQLSTAT_VERSION);
	json_builder_set_member_name(b, "qemu");
	json_builder_begin_object(b);
	subject_json_head(b, s);
	subject_json_points(b, s);
	json_builder_end_object(b);
	json_builder_end_object(b);
	show_json(stdout, b);
}

static int probes(const struct command *command, int argc, char **argv)
{
	g_autofree char *pid = NULL;
	gboolean json = FALSE;
	const GOptionEntry entries[] = {
		{"pid", 'p', 0, G_OPTION_ARG_STRING, &pid, "a running QEMU", "PID"},
		{"json", 'j', 0, G_OPTION_ARG_NONE, &json, "for programs", NULL},
		{},
	};
	struct seam_error err;
	struct subject s;
	int code;

	if (!command_options(command, entries, &argc, &argv))
		return EXIT_USAGE;
	if (argc + !!pid != 2)
		return command_fail(EXIT_USAGE, "give -p PID or one QEMU binary: `bqlstat help "
						"probes` tells how");
	if (pid && (!*pid || strspn(pid, "0123456789") != strlen(pid)))
		return command_fail(EXIT_USAGE,
				    "'%s' is not a process id: `bqlstat help probes` "
				    "tells how",
				    pid);
	if (subject_open(pid ? pid : argv[1], &s, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	if (json)
		print_json(&s);
	else
		print(&s);
	code = *s.refusal ? EXIT_CANNOT : EXIT_DONE;
	if (fflush(stdout) || ferror(stdout))
		code = command_fail(EXIT_CANNOT, "cannot write: %s", strerror(errno));
	subject_close(&s);
	return code;
}

const struct command command_probes = {
	.name = "probes",
	.does = "show where probes would go in a QEMU, attaching none",
	.usage = "-p PID | BINARY",
	.help = "Shows the attach plan: each place that `record` would probe in this QEMU, by the "
		"same rules,\n"
		"and attaches nothing. With -p the process's memory is compared with its file, as "
		"before a\n"
		"real attach; a binary is only read.\n\n"
		"Each line says what would happen (attach; share: another tracer's probe is there "
		"already;\n"
		"unused: not needed in this build; REFUSED, with the reason), what the point "
		"tells, where it\n"
		"is, and what a hit costs: the kernel emulates some instructions and single-steps "
		"the others.\n"
		"\"none\" are kinds that this build has no place for, with the reason.\n\n"
		"Exits 3 when this QEMU would not be traced.",
	.run = probes,
};
