/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands share: options, help, durations, failures.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* As GLib words it, but readable in every locale. */
static void print_help(GOptionContext *context)
{
	g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
	g_auto(GStrv) parts = g_strsplit(help, "\u2026", -1);
	g_autofree char *text = g_strjoinv("...", parts);

	fputs(text, stdout);
}

bool command_options(const struct command *command, const GOptionEntry *options, int *argc,
		     char ***argv)
{
	g_autofree char *prgname = g_strdup_printf("bqlstat %s", command->name);
	GOptionContext *context = g_option_context_new(command->usage);
	g_autoptr(GError) error = NULL;
	gboolean help = FALSE;
	const GOptionEntry own[] = {
		{"help", 'h', 0, G_OPTION_ARG_NONE, &help, "show this", NULL},
		{},
	};
	bool ok;

	g_set_prgname(prgname);
	g_option_context_set_summary(context, command->help);
	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_add_main_entries(context, options, NULL);
	g_option_context_add_main_entries(context, own, NULL);
	ok = g_option_context_parse(context, argc, argv, &error);
	if (ok && help) {
		print_help(context);
		exit(EXIT_DONE);
	}
	if (!ok)
		command_fail(EXIT_USAGE, "%s: `bqlstat help %s` tells how", error->message,
			     command->name);
	g_option_context_free(context);
	return ok;
}

/* 0, or an errno. Closes the file. */
static int write_and_close(int fd, const char *text)
{
	size_t left = strlen(text);
	int error = 0;

	while (left && !error) {
		ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR)
			error = errno;
		if (n > 0) {
			text += n;
			left -= n;
		}
	}
	if (close(fd) && !error)
		error = errno;
	return error;
}

static bool is_page(const char *path)
{
	char start[16] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, start, sizeof(start) - 1);

	if (fd >= 0)
		close(fd);
	return !n || (n > 0 && !g_ascii_strncasecmp(start, "<!doctype html", 14));
}

/* Beside the old one, and in its place when it is whole. 0, or an errno. */
static int replace(const char *path, const char *text)
{
	g_autofree char *fresh = g_strdup_printf("%s.XXXXXX", path);
	int fd = g_mkstemp_full(fresh, O_WRONLY | O_CLOEXEC, 0666), error;

	if (fd < 0)
		return errno;
	error = write_and_close(fd, text);
	if (!error && rename(fresh, path))
		error = errno;
	if (error)
		unlink(fresh);
	return error;
}

int command_write_page(const char *path, const char *html)
{
	g_autofree char *real = realpath(path, NULL);
	struct stat st;
	int error, fd;

	if (!real || stat(real, &st)) {
		error = replace(path, html);
	} else if (S_ISREG(st.st_mode)) {
		if (!is_page(real))
			return command_fail(EXIT_CANNOT,
					    "%s exists, is no page, and is left as it is: give "
					    "another name",
					    path);
		error = replace(real, html);
	} else {
		fd = open(real, O_WRONLY | O_CLOEXEC);
		error = fd < 0 ? errno : write_and_close(fd, html);
	}
	if (error)
		return command_fail(EXIT_CANNOT, "cannot write %s: %s", path, g_strerror(error));
	return EXIT_DONE;
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
