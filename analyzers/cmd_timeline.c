/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat timeline: recordings as a trace for Perfetto.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "analyzers/command.h"
#include "analyzers/render/perfetto.h"
#include "analyzers/input/source.h"
#include "analyzers/model/words.h"

/*
 * Two machines' CLOCK_MONOTONICs have nothing to do with each other; two recordings on one machine
 * differ from the calendar by the same amount, but for what NTP corrected in between.
 */
#define SAME_CLOCK_NS 1000000000LL

struct timeline {
	char *output, *shortest;
	int run;
	gboolean force;
	struct perfetto *perfetto;
	bool damaged;	   /* one of the recordings is */
	bool placed;	   /* offset_ns is known */
	int64_t offset_ns; /* from the first run's clock to the calendar */
};

static int64_t shift_of(struct timeline *t, const struct run *run)
{
	int64_t offset = run->begin_unix_ns - (int64_t)run->begin_ns;

	if (!t->placed) {
		t->placed = true;
		t->offset_ns = offset;
	}
	return llabs(offset - t->offset_ns) < SAME_CLOCK_NS ? 0 : offset - t->offset_ns;
}

/* Only who receives a stream passes these phases. */
static const char *side_of(const struct run *run)
{
	return run->marks->len ? "destination" : NULL;
}

static void draw_hold(void *opaque, const struct hold *hold)
{
	perfetto_hold(opaque, hold);
}

static void draw_gap(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t events)
{
	perfetto_gap(opaque, begin_ns, end_ns, events);
}

static int draw_run(struct timeline *t, struct source *source, int64_t id)
{
	struct store_error err;
	struct run *run;
	int64_t shift;
	int ret;

	if (source_load(source, id, &run, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	shift = shift_of(t, run);
	if (shift)
		fprintf(stderr,
			"bqlstat: run %d was recorded by another clock: placed by the calendar, as "
			"exactly as the two machines agree on it\n",
			(int)id);
	perfetto_run(t->perfetto, run, side_of(run), shift, source_has_every_hold(source));
	ret = source_holds(source, run, draw_hold, draw_gap, t->perfetto, &err);
	perfetto_end(t->perfetto);
	return ret ? command_fail(EXIT_CANNOT, "%s", err.text) : EXIT_DONE;
}

static int draw_source(struct timeline *t, const char *path)
{
	struct source *source;
	struct store_error err;
	const GArray *list;
	int code = EXIT_DONE;

	if (source_open(path, &source, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	list = source_list(source);
	if (t->run)
		code = draw_run(t, source, t->run);
	for (unsigned i = 0; i < list->len && !t->run && code == EXIT_DONE; i++)
		code = draw_run(t, source, g_array_index(list, struct store_entry, i).id);
	if (code == EXIT_DONE && *source_damage(source)) {
		fprintf(stderr, "bqlstat: %s is damaged, what can be read is drawn: %s\n", path,
			source_damage(source));
		t->damaged = true;
	}
	source_close(source);
	return code;
}

static int draw(struct timeline *t, char **paths, const struct perfetto_options *options)
{
	struct perfetto_counts counts;
	struct perfetto_error err;
	int code = EXIT_DONE;

	if (perfetto_create(t->output, options, &t->perfetto, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	for (; *paths && code == EXIT_DONE; paths++)
		code = draw_source(t, *paths);
	if (code != EXIT_DONE) {
		perfetto_abandon(t->perfetto);
		return code;
	}
	counts = *perfetto_counts(t->perfetto);
	if (perfetto_close(t->perfetto, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	fprintf(stderr, "bqlstat: %s: %llu holds, %llu waits, %llu phases and device sections",
		t->output, (unsigned long long)counts.holds, (unsigned long long)counts.waits,
		(unsigned long long)counts.marks);
	if (counts.omitted) {
		char text[WORDS_DURATION];

		fprintf(stderr, "; %llu shorter than %s left out",
			(unsigned long long)counts.omitted,
			words_duration(text, options->shortest_ns));
	}
	fputs("\nbqlstat: open it at ui.perfetto.dev, or with trace_processor\n", stderr);
	return t->damaged ? EXIT_CANNOT : EXIT_DONE;
}

/* Whether the trace would take the place of what is to be drawn. */
static bool is_output(const struct timeline *t, const char *path)
{
	struct stat in, out;

	return !stat(path, &in) && !stat(t->output, &out) && in.st_dev == out.st_dev &&
	       in.st_ino == out.st_ino;
}

static int timeline(const struct command *command, int argc, char **argv)
{
	struct timeline t = {};
	struct perfetto_options options = {.shortest_ns = 1000};
	const GOptionEntry entries[] = {
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &t.output,
		 "the trace to write; compressed when it ends in .gz", "FILE"},
		{"force", 'f', 0, G_OPTION_ARG_NONE, &t.force, "replace an existing FILE", NULL},
		{"run", 'r', 0, G_OPTION_ARG_INT, &t.run, "only this run", "N"},
		{"shortest", 's', 0, G_OPTION_ARG_STRING, &t.shortest,
		 "leave out holds and waits shorter than this (1us)", "DURATION"},
		{},
	};
	int code;

	if (!command_options(command, entries, &argc, &argv))
		return EXIT_USAGE;
	if (argc < 2 || !t.output || t.run < 0)
		code = command_fail(EXIT_USAGE, "give a recording and -o FILE: `bqlstat help "
						"timeline` tells how");
	else if (t.shortest && !command_duration(t.shortest, 1000, &options.shortest_ns))
		code = command_fail(EXIT_USAGE, "--shortest takes a duration, as in 10us or 1ms");
	else if (t.run && argc > 2)
		code = command_fail(EXIT_USAGE, "--run goes with one recording only");
	else {
		options.replace = t.force;
		code = EXIT_DONE;
		for (int i = 1; i < argc && code == EXIT_DONE; i++)
			if (is_output(&t, argv[i]))
				code = command_fail(EXIT_USAGE,
						    "%s is what is to be drawn: give the trace "
						    "another name",
						    argv[i]);
		if (code == EXIT_DONE)
			code = draw(&t, argv + 1, &options);
	}
	g_free(t.output);
	g_free(t.shortest);
	return code;
}

const struct command command_timeline = {
	.name = "timeline",
	.does = "draw recordings for Perfetto",
	.usage = "FILE|DIR...",
	.help = "Writes a trace that Perfetto opens (ui.perfetto.dev, in the browser; nothing is "
		"sent\n"
		"anywhere): for each QEMU a track a thread with its waits for the lock and its "
		"holds,\n"
		"arrows from who held it to who waited, the phases and device sections of an "
		"incoming\n"
		"migration, and what was lost. The arguments of each hold say what its holder was "
		"blocked\n"
		"on. The slice \"recording\" says what the trace is made of.\n\n"
		"A run file holds long holds one by one and the others as sums: only the long ones "
		"are\n"
		"drawn. A folder made by `bqlstat lttng capture` holds every one. Given several, "
		"all are\n"
		"drawn on one clock: a source and a destination, for instance.",
	.run = timeline,
};
