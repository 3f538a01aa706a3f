/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `bqlstat bench` compares, as the user says it.
 */
#include <string.h>

#include <zlib.h>

#include "analyzers/bench/bench.h"
#include "analyzers/lab/journey.h"

static bool is_version(const char *word)
{
	return g_ascii_isdigit(*word) && strspn(word, "0123456789.") == strlen(word);
}

/* A version that the lab knows, a path, or a program in PATH. */
static char *find_qemu(const char *word, char **wrong)
{
	g_autofree char *program = NULL;
	const char *why, *path;

	if (!is_version(word) && !strchr(word, '/')) {
		program = g_find_program_in_path(word);
		word = program;
	}
	if (!word)
		return NULL;
	path = lab_qemu_path(word, &why);
	if (!path)
		*wrong = g_strdup_printf("%s: %s", word, why);
	return path ? g_strdup(path) : NULL;
}

static char *what_is(const char *word)
{
	g_autofree char *policies = g_strjoinv(", ", (char **)lab_policies());

	return g_strdup_printf("what is \"%s\"? A policy (%s), a QEMU (a path, a program in "
			       "PATH, 7.2, 10.0, 11.1), source=QEMU, GROUP.KEY=VALUE of the "
			       "scenario, or -- and options of QEMU",
			       word, policies);
}

static char *set(struct bench_side *s, const char *word)
{
	const char *equals = strchr(word, '=');
	g_autofree char *key = g_strndup(word, equals - word);
	g_autoptr(GError) error = NULL;
	char *wrong = NULL;

	if (!strcmp(key, "source")) {
		s->source_qemu = find_qemu(equals + 1, &wrong);
		return s->source_qemu ? NULL : wrong ?: what_is(equals + 1);
	}
	if (lab_scenario_set(s->scenario, key, equals + 1, &error))
		return NULL;
	return g_strdup(error->message);
}

static char *take(struct bench_side *s, const char *word)
{
	char *wrong = NULL;

	/* Without loadvm at all: what everybody has. */
	if (!strcmp(word, "stock"))
		return NULL;
	if (g_strv_contains(lab_policies(), word)) {
		s->policy = g_strdup(word);
		return NULL;
	}
	if (strchr(word, '=') && !strchr("/-", *word))
		return set(s, word);
	s->qemu = find_qemu(word, &wrong);
	return s->qemu ? NULL : wrong ?: what_is(word);
}

static uint32_t recipe_of(const struct bench_side *s)
{
	g_autofree char *args = g_strjoinv("\n", s->args);
	g_autofree char *text =
		g_strdup_printf("%s\n%s\n%s\n%08x\n%s", s->policy ?: "stock", s->qemu ?: "",
				s->source_qemu ?: "", lab_scenario_version(s->scenario), args);

	return crc32(0, (const Bytef *)text, strlen(text));
}

struct bench_side *bench_side_parse(const char *text, const struct lab_scenario *scenario,
				    char **wrong)
{
	struct bench_side *s = g_new0(struct bench_side, 1);
	const char *colon = strchr(text, ':'), *recipe = colon ? colon + 1 : text;
	g_auto(GStrv) words = NULL;
	g_autoptr(GError) error = NULL;
	char **word;

	*wrong = NULL;
	s->label = g_strstrip(colon ? g_strndup(text, colon - text) : g_strdup(text));
	s->scenario = lab_scenario_copy(scenario);
	s->scenario_version = lab_scenario_version(scenario);
	if (!*s->label || !g_shell_parse_argv(recipe, NULL, &words, &error)) {
		*wrong =
			g_strdup_printf("\"%s\": say LABEL: and a policy, a QEMU or options", text);
		goto fail;
	}
	for (word = words; *word && strcmp(*word, "--"); word++) {
		*wrong = take(s, *word);
		if (*wrong)
			goto fail;
	}
	if (!lab_scenario_check(s->scenario, &error)) {
		*wrong = g_strdup_printf("%s: %s", s->label, error->message);
		goto fail;
	}
	s->args = g_strdupv(*word ? word + 1 : word);
	s->recipe = recipe_of(s);
	return s;
fail:
	bench_side_free(s);
	return NULL;
}

void bench_side_free(struct bench_side *s)
{
	if (!s)
		return;
	lab_scenario_free(s->scenario);
	g_strfreev(s->args);
	g_free(s->label);
	g_free(s->policy);
	g_free(s->qemu);
	g_free(s->source_qemu);
	g_free(s);
}
