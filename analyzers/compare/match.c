/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Call sites of two builds, paired.
 */
#include <string.h>

#include "analyzers/compare/match.h"
#include "analyzers/model/words.h"

/*
 * A site that is left alone costs 1; a pair that moved costs less than two left alone, less still
 * in the same function, and more in another.
 */
#define SAME_FUNCTION  0.1
#define MOVED	       0.5
#define OTHER_FUNCTION 1.5
#define FAR	       1e-5 /* more for each line */
#define NEVER	       1e9

struct place {
	const char *file; /* without leading "../"; the run's */
	const char *name; /* its last part */
	unsigned line;
	unsigned roles;	      /* bits: kinds of threads that use it */
	const char *function; /* that gives the lock back, most often the one that took it; "" */
};

static gint by_place(gconstpointer a, gconstpointer b)
{
	const struct place *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	order = order ? order : strcmp(x->file, y->file);
	return order ? order : (x->line > y->line) - (x->line < y->line);
}

static void add_place(GArray *places, struct place p)
{
	for (unsigned i = 0; i < places->len; i++) {
		struct place *known = &g_array_index(places, struct place, i);

		if (known->line == p.line && !strcmp(known->file, p.file)) {
			known->roles |= p.roles;
			if (!*known->function)
				known->function = p.function;
			return;
		}
	}
	g_array_append_val(places, p);
}

/*
 * By the stack of a long hold, taken where it was given back: the caller of the unlock function. ""
 * where no hold of the site was that long, or the function has no name.
 */
static const char *function_at(const struct run *run, unsigned site)
{
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		const struct frame *f;
		const struct stack *s;

		if (h->site != site || !h->stack || h->taken != TAKEN_RELEASED)
			continue;
		s = &g_array_index(run->stacks, struct stack, h->stack - 1);
		if (s->frames->len < 2)
			continue;
		f = &g_array_index(run->frames, struct frame,
				   g_array_index(s->frames, unsigned, 1));
		if (f->inside)
			return f->symbol;
	}
	return "";
}

/* Every place that any of the runs took the lock at, in order. */
static GArray *places_of(const GPtrArray *runs)
{
	GArray *places = g_array_new(FALSE, FALSE, sizeof(struct place));

	for (unsigned r = 0; r < runs->len; r++) {
		const struct run *run = runs->pdata[r];

		for (unsigned i = 0; i < run->usages->len; i++) {
			const struct usage *u = &g_array_index(run->usages, struct usage, i);
			const struct site *s = &g_array_index(run->sites, struct site, u->site);
			const struct thread *t =
				&g_array_index(run->threads, struct thread, u->thread);
			const char *file = words_file(s->file), *slash = strrchr(file, '/');
			struct place p = {file, slash ? slash + 1 : file, s->line, 1U << t->role,
					  function_at(run, u->site)};

			if (*file)
				add_place(places, p);
		}
	}
	g_array_sort(places, by_place);
	return places;
}

static void name(GHashTable *names, const struct place *p, const char *shown)
{
	g_hash_table_insert(names, g_strdup_printf("%s:%u", p->file, p->line), g_strdup(shown));
}

static void name_pair(struct match *m, const struct place *a, const struct place *b)
{
	g_autofree char *shown = NULL;

	if (strcmp(a->file, b->file))
		shown = g_strdup_printf("%s:%u->%s:%u", a->file, a->line, b->file, b->line);
	else if (a->line != b->line)
		shown = g_strdup_printf("%s:%u->%u", a->file, a->line, b->line);
	else
		shown = g_strdup_printf("%s:%u", a->file, a->line);
	name(m->a, a, shown);
	name(m->b, b, shown);
}

static void name_alone(GHashTable *names, const struct place *p)
{
	g_autofree char *shown = g_strdup_printf("%s:%u", p->file, p->line);

	name(names, p, shown);
}

static double pair_cost(const struct place *a, const struct place *b)
{
	double cost;

	if (!(a->roles & b->roles))
		return NEVER;
	if (a->line == b->line)
		return 0;
	cost = !*a->function || !*b->function	  ? MOVED
	       : strcmp(a->function, b->function) ? OTHER_FUNCTION
						  : SAME_FUNCTION;
	return cost + FAR * ABS((double)a->line - (double)b->line);
}

/* The cheapest way to pair two lists without crossing, from their ends to their beginnings. */
static void align(struct match *m, const struct place *a, unsigned n_a, const struct place *b,
		  unsigned n_b)
{
	unsigned width = n_b + 1, i = 0, k = 0;
	g_autofree double *cost = g_new0(double, (n_a + 1) * width);

#define COST(i, k) cost[(i)*width + (k)]
	for (i = n_a + 1; i-- > 0;)
		for (k = n_b + 1; k-- > 0;) {
			double least = i < n_a || k < n_b ? NEVER : 0;

			if (i < n_a)
				least = MIN(least, 1 + COST(i + 1, k));
			if (k < n_b)
				least = MIN(least, 1 + COST(i, k + 1));
			if (i < n_a && k < n_b)
				least = MIN(least, pair_cost(&a[i], &b[k]) + COST(i + 1, k + 1));
			COST(i, k) = least;
		}
	for (i = k = 0; i < n_a || k < n_b;) {
		if (i < n_a && k < n_b &&
		    COST(i, k) == pair_cost(&a[i], &b[k]) + COST(i + 1, k + 1))
			name_pair(m, &a[i++], &b[k++]);
		else if (i < n_a && COST(i, k) == 1 + COST(i + 1, k))
			name_alone(m->a, &a[i++]);
		else
			name_alone(m->b, &b[k++]);
	}
#undef COST
}

static unsigned same_name(const GArray *places, unsigned from, const char *name)
{
	unsigned end = from;

	while (end < places->len && !strcmp(g_array_index(places, struct place, end).name, name))
		end++;
	return end - from;
}

static bool one_build(const GPtrArray *a, const GPtrArray *b)
{
	const char *id = a->len ? ((struct run *)a->pdata[0])->qemu_build_id : "";

	for (unsigned i = 0; i < a->len; i++)
		if (strcmp(((struct run *)a->pdata[i])->qemu_build_id, id))
			return false;
	for (unsigned i = 0; i < b->len; i++)
		if (strcmp(((struct run *)b->pdata[i])->qemu_build_id, id))
			return false;
	return *id;
}

static void name_all(GHashTable *names, const GArray *places)
{
	for (unsigned i = 0; i < places->len; i++)
		name_alone(names, &g_array_index(places, struct place, i));
}

struct match match_sites(const GPtrArray *a, const GPtrArray *b)
{
	struct match m = {g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
			  g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
	g_autoptr(GArray) of_a = places_of(a), of_b = places_of(b);
	const struct place *x = (void *)of_a->data, *y = (void *)of_b->data;

	if (one_build(a, b)) {
		name_all(m.a, of_a);
		name_all(m.b, of_b);
		return m;
	}
	for (unsigned i = 0, k = 0; i < of_a->len || k < of_b->len;) {
		const char *first =
			k == of_b->len || (i < of_a->len && strcmp(x[i].name, y[k].name) < 0)
				? x[i].name
				: y[k].name;
		unsigned n_a = same_name(of_a, i, first), n_b = same_name(of_b, k, first);

		align(&m, x + i, n_a, y + k, n_b);
		i += n_a;
		k += n_b;
	}
	return m;
}

void match_clear(struct match *m)
{
	g_hash_table_unref(m->a);
	g_hash_table_unref(m->b);
}
