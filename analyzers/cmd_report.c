/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat report: show the runs of a file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/command.h"
#include "analyzers/input/source.h"
#include "analyzers/model/plain.h"
#include "analyzers/model/words.h"
#include "analyzers/render/render.h"
#include "analyzers/show.h"

struct options {
	int run;
	int top;
	char *html;
	gboolean json, list, each_vcpu, stacks;
};

static void list_text(const struct store_entry *e)
{
	g_autoptr(GDateTime) t = g_date_time_new_from_unix_local(e->begin_unix_ns / 1000000000);
	g_autofree char *when = t ? g_date_time_format(t, "%F %T") : g_strdup("?");
	g_autofree char *version = plain_text(e->qemu_version), *label = plain_text(e->label);
	char duration[WORDS_DURATION];

	printf("%4d  %s  %8s  QEMU %s, process %u%s%s\n", (int)e->id, when,
	       words_duration(duration, e->duration_ns), version, e->pid, *label ? "  " : "",
	       label);
}

/* What the report itself calls these. */
static void list_json(JsonBuilder *b, const struct store_entry *e)
{
	json_builder_begin_object(b);
	show_int(b, "format", 1);
	show_int(b, "run", e->id);
	show_text(b, "label", e->label);
	show_int(b, "begin_unix_ns", e->begin_unix_ns);
	show_int(b, "duration_ns", e->duration_ns);
	json_builder_set_member_name(b, "qemu");
	json_builder_begin_object(b);
	show_int(b, "pid", e->pid);
	show_text(b, "version", e->qemu_version);
	json_builder_end_object(b);
	json_builder_end_object(b);
}

static int list_runs(const GArray *runs, bool json)
{
	g_autoptr(JsonBuilder) b = json_builder_new();

	json_builder_begin_array(b);
	for (unsigned i = 0; i < runs->len; i++) {
		const struct store_entry *e = &g_array_index(runs, struct store_entry, i);

		if (json)
			list_json(b, e);
		else
			list_text(e);
	}
	json_builder_end_array(b);
	if (json)
		show_json(stdout, b);
	return EXIT_DONE;
}

/* One run, or each of them: JSON is then an array. */
static int show(struct source *source, const GArray *runs, const struct options *o)
{
	struct render_options how = {
		.top = o->top,
		.each_vcpu = o->each_vcpu,
		.stacks = o->stacks,
		.colour = show_colour(),
		.columns = show_columns(stdout),
	};
	bool many = !o->run && runs->len > 1;
	struct store_error err;
	struct run *run;

	if (o->json && many)
		puts("[");
	for (unsigned i = 0; i < (o->run ? 1 : runs->len); i++) {
		int64_t id = o->run ? o->run : g_array_index(runs, struct store_entry, i).id;

		if (source_load(source, id, &run, &err))
			return command_fail(EXIT_CANNOT, "%s", err.text);
		if (o->json) {
			g_autofree char *json = render_json(run, &how);

			printf("%s\n%s", json, many && i + 1 < runs->len ? ",\n" : "");
		} else {
			printf("%s", i ? "\n\n" : "");
			render_text(stdout, run, &how);
		}
	}
	if (o->json && many)
		puts("]");
	return EXIT_DONE;
}

static int write_page(struct source *source, const GArray *runs, const struct options *o)
{
	g_autofree char *page = NULL;
	struct store_error err;
	struct run *run;

	if (!o->run && runs->len > 1)
		return command_fail(EXIT_USAGE,
				    "a page is of one run: choose one of the %u with "
				    "--run, or compare them with `bqlstat diff`",
				    runs->len);
	if (source_load(source, o->run ? o->run : g_array_index(runs, struct store_entry, 0).id,
			&run, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	page = render_html(run);
	return command_write_page(o->html, page);
}

static int report(const struct command *command, int argc, char **argv)
{
	struct options o = {.top = -1};
	const GOptionEntry entries[] = {
		{"json", 'j', 0, G_OPTION_ARG_NONE, &o.json, "for programs", NULL},
		{"html", 'H', 0, G_OPTION_ARG_FILENAME, &o.html,
		 "write a page with charts to this file instead", "FILE"},
		{"list", 'l', 0, G_OPTION_ARG_NONE, &o.list, "only list the runs", NULL},
		{"run", 'r', 0, G_OPTION_ARG_INT, &o.run, "only this run", "N"},
		{"stacks", 's', 0, G_OPTION_ARG_NONE, &o.stacks,
		 "the stack of every hold that is shown", NULL},
		{"top", 't', 0, G_OPTION_ARG_INT, &o.top,
		 "at most N rows of each list, 0: all (text 20, JSON all)", "N"},
		{"vcpus", 'v', 0, G_OPTION_ARG_NONE, &o.each_vcpu, "vCPUs one by one", NULL},
		{},
	};
	struct source *source;
	struct store_error err;
	int code;

	if (!command_options(command, entries, &argc, &argv))
		return EXIT_USAGE;
	if (argc != 2 || o.top < -1 || o.run < 0)
		return command_fail(EXIT_USAGE,
				    "give one run file or trace: `bqlstat help report` tells how");
	if (o.top < 0)
		o.top = o.json ? 0 : 20;
	if (source_open(argv[1], &source, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	if (o.list)
		code = list_runs(source_list(source), o.json);
	else if (o.html)
		code = write_page(source, source_list(source), &o);
	else
		code = show(source, source_list(source), &o);
	if (code == EXIT_DONE && (fflush(stdout) || ferror(stdout)))
		code = command_fail(EXIT_CANNOT, "cannot write the report: %s", strerror(errno));
	if (code == EXIT_DONE && *source_damage(source))
		code = command_fail(EXIT_CANNOT, "%s is damaged, what can be read was shown: %s",
				    argv[1], source_damage(source));
	source_close(source);
	g_free(o.html);
	return code;
}

const struct command command_report = {
	.name = "report",
	.does = "show what was recorded",
	.usage = "FILE|DIR",
	.help = "Shows every run in FILE, or in the LTTng trace in DIR: who held the lock (by "
		"call site\n"
		"and thread, longest total first), the longest holds with what the holder was "
		"blocked\n"
		"on and where, who made whom wait, and the phases of an incoming migration.\n\n"
		"A call site is the file:line of QEMU's source that took the lock. \"held\" is the "
		"time\n"
		"between taking and giving it back, \"wait\" the time between asking for it and "
		"having\n"
		"it, \"blocked\" how much of the held time the holder was asleep and in which "
		"system call\n"
		"or page fault. The probes' own time is taken off everywhere.",
	.run = report,
};
