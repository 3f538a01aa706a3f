/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which runs are A and which are B.
 */
#include <string.h>

#include "analyzers/command.h"
#include "analyzers/input/sides.h"
#include "analyzers/input/source.h"

struct file {
	const char *path;
	struct source *source;
	const GArray *runs; /* struct store_entry, the source's */
	GPtrArray *labels;  /* const char *, each once, in the order they were first recorded */
};

static bool has_label(const struct file *f, const char *label)
{
	return g_ptr_array_find_with_equal_func(f->labels, label, g_str_equal, NULL);
}

static int open_file(struct file *f, const char *path)
{
	struct store_error err;

	f->path = path;
	f->labels = g_ptr_array_new();
	if (source_open(path, &f->source, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	if (*source_damage(f->source))
		return command_fail(EXIT_CANNOT, "%s is damaged: %s", path,
				    source_damage(f->source));
	f->runs = source_list(f->source);
	for (unsigned i = 0; i < f->runs->len; i++) {
		struct store_entry *e = &g_array_index(f->runs, struct store_entry, i);

		if (!has_label(f, e->label))
			g_ptr_array_add(f->labels, e->label);
	}
	return EXIT_DONE;
}

static void close_file(struct file *f)
{
	if (f->labels)
		g_ptr_array_unref(f->labels);
	source_close(f->source);
}

static char *list_labels(const struct file *f)
{
	GString *list = g_string_new(NULL);

	for (unsigned i = 0; i < f->labels->len; i++)
		g_string_append_printf(list, "%s\"%s\"", i ? ", " : "",
				       (char *)f->labels->pdata[i]);
	return g_string_free(list, FALSE);
}

/*
 * `label` chooses the runs; `shown` is what they are called, NULL: by their label, or the file's
 * name if they have none.
 */
static int load_group(const struct file *f, const char *label, const char *shown,
		      struct group **group)
{
	g_autofree char *base = g_path_get_basename(f->path);
	struct group *g = group_new(shown ?: *label ? label : base, f->path);

	for (unsigned i = 0; i < f->runs->len; i++) {
		const struct store_entry *e = &g_array_index(f->runs, struct store_entry, i);
		struct store_error err;
		struct run *run;

		if (strcmp(e->label, label))
			continue;
		if (source_take(f->source, e->id, &run, &err)) {
			group_free(g);
			return command_fail(EXIT_CANNOT, "%s", err.text);
		}
		group_add(g, run);
	}
	*group = g;
	return EXIT_DONE;
}

/* `option` names the side to the user. */
static int choose(const struct file *f, const char *asked, const char *option, const char **label)
{
	g_autofree char *list = list_labels(f);

	if (asked && !has_label(f, asked))
		return command_fail(EXIT_USAGE, "%s holds no run with the label \"%s\", but %s",
				    f->path, asked, list);
	if (!asked && f->labels->len > 1)
		return command_fail(EXIT_USAGE,
				    "%s holds runs with the labels %s: choose one with --%s LABEL",
				    f->path, list, option);
	*label = asked ?: f->labels->pdata[0];
	return EXIT_DONE;
}

/* Both in one file: of two labels each can be told from the other. */
static int choose_within(const struct file *f, const char **label_a, const char **label_b)
{
	g_autofree char *list = list_labels(f);

	for (unsigned i = 0; f->labels->len == 2 && i < 2; i++) {
		if (!*label_a && (!*label_b || strcmp(*label_b, f->labels->pdata[i])))
			*label_a = f->labels->pdata[i];
		else if (!*label_b && *label_a && strcmp(*label_a, f->labels->pdata[i]))
			*label_b = f->labels->pdata[i];
	}
	if (f->labels->len < 2)
		return command_fail(EXIT_USAGE,
				    "%s holds runs of one label only, %s: what should they be "
				    "compared with?",
				    f->path, list);
	if (!*label_a || !*label_b)
		return command_fail(EXIT_USAGE,
				    "%s holds runs with the labels %s: choose two with --a and --b",
				    f->path, list);
	if (!strcmp(*label_a, *label_b))
		return command_fail(EXIT_USAGE, "--a and --b are the same label");
	return EXIT_DONE;
}

/* Two files by what is short, and differs. */
static void tell_apart(const char *a, const char *b, char **shown_a, char **shown_b)
{
	*shown_a = g_path_get_basename(a);
	*shown_b = g_path_get_basename(b);
	if (strcmp(*shown_a, *shown_b))
		return;
	g_free(*shown_a);
	g_free(*shown_b);
	*shown_a = g_strdup(a);
	*shown_b = g_strdup(b);
}

int sides_load(const char *a, const char *b, const char *label_a, const char *label_b,
	       struct group **group_a, struct group **group_b)
{
	struct file of_a = {0}, of_b = {0};
	int code = open_file(&of_a, a);
	g_autofree char *shown_a = NULL, *shown_b = NULL;

	*group_a = *group_b = NULL;
	if (code == EXIT_DONE && b)
		code = open_file(&of_b, b);
	if (code == EXIT_DONE && !b)
		code = choose_within(&of_a, &label_a, &label_b);
	if (code == EXIT_DONE)
		code = choose(&of_a, label_a, "a", &label_a);
	if (code == EXIT_DONE)
		code = choose(b ? &of_b : &of_a, label_b, "b", &label_b);
	/* "io-free is worse than io-free" tells nobody which. */
	if (code == EXIT_DONE && b && !strcmp(label_a, label_b))
		tell_apart(a, b, &shown_a, &shown_b);
	if (code == EXIT_DONE)
		code = load_group(&of_a, label_a, shown_a, group_a);
	if (code == EXIT_DONE)
		code = load_group(b ? &of_b : &of_a, label_b, shown_b, group_b);
	if (code != EXIT_DONE) {
		g_clear_pointer(group_a, group_free);
		g_clear_pointer(group_b, group_free);
	}
	close_file(&of_a);
	close_file(&of_b);
	return code;
}
