/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The script: text to steps, refused when a thread would take the lock twice or leave with it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/lab/dance/dance.h"

/*
 * The files that sites may be in. Literals of this program: a tracer that meets a site whose string
 * is not resident reads it from the ELF file, so no site may have a name from the heap.
 */
static const char *const files[] = {
	"../../util/main-loop.c",
	"../../system/cpus.c",
	"../../system/physmem.c",
	"../../accel/tcg/cputlb.c",
	"../../migration/migration.c",
	"../../migration/savevm.c",
	"../../hw/core/cpu-common.c",
	"dance-a.c",
	"dance-b.c",
	"dance-c.c",
	"dance-d.c",
};

enum operands { NONE, SITE, US, COUNT, SITE_US, COUNT_SITE };

static const struct word {
	const char *name;
	enum op op;
	enum operands operands;
	enum { ANY, FREE, HELD } needs; /* of the lock */
} words[] = {
	{"lock", OP_LOCK, SITE, FREE},
	{"unlock", OP_UNLOCK, NONE, HELD},
	{"hold", OP_HOLD, US, ANY},
	{"sleep", OP_SLEEP, US, ANY},
	{"idle", OP_SLEEP, US, FREE},
	{"read", OP_READ, US, ANY},
	{"fault", OP_FAULT, US, ANY},
	{"pipe", OP_PIPE, US, ANY},
	{"socket", OP_SOCKET, US, ANY},
	{"eventfd", OP_EVENTFD, US, ANY},
	{"futex", OP_FUTEX, US, ANY},
	{"condwait", OP_CONDWAIT, SITE_US, HELD},
	{"timedwait", OP_TIMEDWAIT, SITE_US, HELD},
	{"pairs", OP_PAIRS, COUNT_SITE, FREE},
	{"barrier", OP_BARRIER, NONE, FREE},
	{"repeat", OP_REPEAT, COUNT, ANY},
	{"end", OP_END, NONE, ANY},
};

struct parser {
	struct script *script;
	struct part *part;
	unsigned line;
	/* What holds inside each open repeat; [0] is the part itself. */
	size_t times[MAX_DEPTH + 1];
	bool held_at[MAX_DEPTH + 1];
	unsigned depth;
	bool held;
};

static char message[256];

__attribute__((format(printf, 2, 3))) static const char *wrong(const struct parser *p,
							       const char *format, ...)
{
	int n = snprintf(message, sizeof(message), "script line %u: ", p->line);
	va_list args;

	va_start(args, format);
	vsnprintf(message + n, sizeof(message) - n, format, args);
	va_end(args);
	return message;
}

static bool parse_site(const char *text, struct site *site)
{
	const char *colon = text ? strrchr(text, ':') : NULL;

	if (!colon || colon == text || atoi(colon + 1) <= 0)
		return false;
	site->line = atoi(colon + 1);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		size_t len = strlen(files[i]), want = colon - text;

		/* By its last part, as people write it. */
		if (want <= len && !memcmp(files[i] + len - want, text, want) &&
		    (want == len || files[i][len - want - 1] == '/')) {
			site->file = files[i];
			return true;
		}
	}
	return false;
}

static bool parse_number(const char *text, uint64_t *value)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end && *value <= 1000000000;
}

static bool is_woken(enum op op)
{
	return op == OP_PIPE || op == OP_SOCKET || op == OP_EVENTFD || op == OP_FUTEX;
}

static const char *count_up(struct parser *p, const struct step *s)
{
	struct part *part = p->part;
	size_t times = p->times[p->depth];

	part->faults |= s->op == OP_FAULT;
	part->condwaits |= s->op == OP_CONDWAIT;
	part->wakes |= is_woken(s->op);
	if (s->op == OP_LOCK)
		part->holds += times;
	else if (s->op == OP_PAIRS)
		part->holds += times * s->value;
	else if (s->op == OP_BARRIER)
		part->barriers += times;
	else if (s->op == OP_CONDWAIT || s->op == OP_TIMEDWAIT)
		part->blocks += 4 * times; /* room for early wakes */
	else if (s->op == OP_SLEEP || s->op == OP_READ || s->op == OP_FAULT || is_woken(s->op))
		part->blocks += p->held ? times : 0;
	if (part->holds > 20000000 || part->blocks > 20000000)
		return wrong(p, "more than 20 million holds or blocks in one thread");
	return NULL;
}

static const char *nest(struct parser *p, const struct step *s)
{
	if (s->op == OP_REPEAT) {
		if (p->depth == MAX_DEPTH)
			return wrong(p, "repeats nest %d deep at most", MAX_DEPTH);
		p->times[p->depth + 1] = p->times[p->depth] * s->value;
		p->held_at[++p->depth] = p->held;
	} else if (s->op == OP_END) {
		if (!p->depth)
			return wrong(p, "end without repeat");
		if (p->held_at[p->depth--] != p->held)
			return wrong(p, "a repeat must leave the lock as it found it");
	} else if (s->op == OP_LOCK || s->op == OP_UNLOCK) {
		p->held = s->op == OP_LOCK;
	}
	return NULL;
}

static const char *add_step(struct parser *p, const struct word *word, char **operand)
{
	struct step step = {.op = word->op}, *steps;
	const char *error;
	bool ok = true;

	if (word->operands == COUNT_SITE || word->operands == US || word->operands == COUNT)
		ok = parse_number(*operand++, &step.value);
	if (ok &&
	    (word->operands == SITE || word->operands == SITE_US || word->operands == COUNT_SITE))
		ok = parse_site(*operand++, &step.site);
	if (ok && word->operands == SITE_US)
		ok = parse_number(*operand++, &step.value);
	if (!ok || *operand)
		return wrong(p, "\"%s\" does not take that (see --help)", word->name);
	if (word->operands == US || word->operands == SITE_US)
		step.value *= 1000;
	if (word->needs != ANY && (word->needs == HELD) != p->held)
		return wrong(p, "\"%s\" while the lock is %s", word->name,
			     p->held ? "held" : "not held");
	error = count_up(p, &step);
	if (!error)
		error = nest(p, &step);
	if (error)
		return error;
	steps = realloc(p->part->steps, (p->part->n_steps + 1) * sizeof(step));
	if (!steps)
		return wrong(p, "no memory");
	steps[p->part->n_steps++] = step;
	p->part->steps = steps;
	return NULL;
}

static const char *end_part(struct parser *p)
{
	if (!p->part)
		return NULL;
	if (p->depth)
		return wrong(p, "thread \"%s\" ends inside a repeat", p->part->name);
	if (p->held)
		return wrong(p, "thread \"%s\" ends with the lock", p->part->name);
	return NULL;
}

static const char *begin_part(struct parser *p, const char *name)
{
	const char *error = end_part(p);

	if (error)
		return error;
	if (p->script->n_parts == MAX_THREADS)
		return wrong(p, "more than %d threads", MAX_THREADS);
	if (!*name || strlen(name) >= sizeof(p->part->name))
		return wrong(p, "a thread's name has 1 to 15 bytes");
	p->part = &p->script->parts[p->script->n_parts++];
	strcpy(p->part->name, name);
	p->times[0] = 1;
	return NULL;
}

static const char *parse_step(struct parser *p, char *text)
{
	char *tokens[6] = {NULL}, *save;
	size_t n = 0;

	text += strspn(text, " \t");
	if (!strncmp(text, "thread ", 7)) {
		char *name = text + 7 + strspn(text + 7, " \t\""), *end = name + strlen(name);

		while (end > name && strchr(" \t\"", end[-1]))
			*--end = '\0';
		return begin_part(p, name);
	}
	for (char *t = strtok_r(text, " \t", &save); t && n < 5; t = strtok_r(NULL, " \t", &save))
		tokens[n++] = t;
	if (!n)
		return NULL;
	if (!p->part)
		return wrong(p, "a script begins with \"thread NAME\"");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(words[i].name, tokens[0]))
			return add_step(p, &words[i], tokens + 1);
	return wrong(p, "there is no step \"%s\"", tokens[0]);
}

const char *script_parse(struct script *script, const char *text)
{
	struct parser p = {.script = script};
	const char *error = NULL;
	char *copy = strdup(text), *rest = copy, *line, *step;

	memset(script, 0, sizeof(*script));
	if (!copy)
		return "no memory";
	while (!error && (line = strsep(&rest, "\n"))) {
		char *comment = strchr(line, '#');

		p.line++;
		if (comment)
			*comment = '\0';
		while (!error && (step = strsep(&line, ";")))
			error = parse_step(&p, step);
	}
	if (!error)
		error = end_part(&p);
	if (!error && !script->n_parts)
		error = "the script has no thread";
	free(copy);
	return error;
}

void script_free(struct script *script)
{
	for (size_t i = 0; i < script->n_parts; i++)
		free(script->parts[i].steps);
}
