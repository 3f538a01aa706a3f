/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gates: parsing and checking.
 */
#include <math.h>
#include <string.h>

#include "analyzers/compare/gate.h"

enum kind { WORSE, GROWS_BY_SHARE, GROWS_BY, EXCEEDS };

struct rule {
	char *text, *figure;
	enum kind kind;
	double limit; /* a share, ns, or a plain number */
	bool in_ns;
};

static void rule_free(gpointer opaque)
{
	struct rule *r = opaque;

	g_free(r->text);
	g_free(r->figure);
	g_free(r);
}

static void result_clear(gpointer opaque)
{
	struct gate_result *r = opaque;

	g_free(r->rule);
	g_free(r->reason);
}

/* ---- parsing ---- */

static bool parse_limit(const char *text, struct rule *r)
{
	static const struct {
		const char *name;
		double times;
		bool ns;
	} units[] = {{"ns", 1, true},  {"us", 1e3, true},  {"ms", 1e6, true},
		     {"s", 1e9, true}, {"%", 0.01, false}, {"", 1, false}};
	bool grows = *text == '+';
	char *end;

	text += grows;
	/* No second sign, and nothing that only strtod() takes for a number. */
	if (!g_ascii_isdigit(*text) && *text != '.')
		return false;
	r->limit = g_ascii_strtod(text, &end);
	end = g_strchug(end);
	for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
		if (strcmp(end, units[i].name))
			continue;
		r->limit *= units[i].times;
		r->in_ns = units[i].ns;
		r->kind = !grows ? EXCEEDS : *end == '%' ? GROWS_BY_SHARE : GROWS_BY;
		return isfinite(r->limit);
	}
	return false;
}

/* The last blank-separated word, cut off; NULL when there is only one. */
static char *cut_last_word(char *text)
{
	char *blank = strrchr(text, ' ');

	if (!blank)
		return NULL;
	*blank = 0;
	g_strchomp(text);
	return blank + 1;
}

/* Site names hold "->": the sign that matters has blanks around it, or ends a name. */
static char *find_greater(char *text)
{
	char *sign = strrchr(text, '>');

	return sign && sign > text && sign[-1] == '-' ? NULL : sign;
}

static struct rule *parse_rule(const char *text)
{
	struct rule *r = g_new0(struct rule, 1);
	g_autofree char *copy = g_strstrip(g_strdup(text));
	char *sign = find_greater(copy), *word;

	r->text = g_strdup(copy);
	if (sign) {
		*sign = 0;
		if (!parse_limit(g_strstrip(sign + 1), r))
			goto wrong;
		g_strchomp(copy);
	} else {
		word = cut_last_word(copy);
		/* A name may hold blanks: "site[util/main-loop.c:318 main].hold.max". */
		if (word && strcmp(word, "worse"))
			word[-1] = ' ';
	}
	if (!*copy)
		goto wrong;
	r->figure = g_strdup(copy);
	return r;
wrong:
	rule_free(r);
	return NULL;
}

GPtrArray *gate_parse(const char *rules, char **wrong)
{
	GPtrArray *parsed = g_ptr_array_new_with_free_func(rule_free);
	/* Nothing at all is one empty rule, which is none. */
	g_auto(GStrv) texts = g_strsplit(*rules ? rules : " ", ",", -1);

	for (char **text = texts; *text; text++) {
		struct rule *r = parse_rule(*text);

		if (!r) {
			*wrong = g_strdup_printf("what is the rule \"%s\"? FIGURE > +20%%, FIGURE "
						 "> 50ms, FIGURE worse, or worse",
						 g_strstrip(*text));
			g_ptr_array_unref(parsed);
			return NULL;
		}
		g_ptr_array_add(parsed, r);
	}
	return parsed;
}

/* ---- checking ---- */

static void add_result(GArray *results, const struct rule *r, enum gate_state state, char *reason)
{
	struct gate_result result = {g_strdup(r->text), reason, state};

	g_array_append_val(results, result);
}

static char *shown(const struct comparison *c, double value)
{
	return figure_text(c->unit, value);
}

/* "x 1.21, "; nothing where there was nothing. */
static char *times_text(const struct comparison *c)
{
	g_autofree char *ratio = figure_ratio(c->ratio.estimate);

	return isfinite(c->ratio.estimate) ? g_strdup_printf("x %s, ", ratio) : g_strdup("");
}

static enum gate_state decided(const struct compared *to, const struct comparison *c)
{
	return c->p_corrected <= to->options.alpha ? GATE_BROKEN : GATE_UNDECIDED;
}

static void check_growth(GArray *results, const struct rule *r, const struct compared *to,
			 const struct comparison *c)
{
	double limit = r->kind == GROWS_BY ? c->a.median + r->limit : c->a.median * (1 + r->limit);
	g_autofree char *a = shown(c, c->a.median), *b = shown(c, c->b.median);
	g_autofree char *times = times_text(c);
	enum gate_state state = GATE_KEPT;
	char *reason = NULL;

	if (c->b.median > limit)
		state = decided(to, c);
	if (state != GATE_KEPT)
		reason = g_strdup_printf("%s went from %s to %s (%scorrected p %.2g%s)", c->name, a,
					 b, times, c->p_corrected,
					 state == GATE_BROKEN ? ""
							      : ": it may be chance, more runs "
								"would tell");
	add_result(results, r, state, reason ?: g_strdup(""));
}

static void check_one(GArray *results, const struct rule *r, const struct compared *to,
		      const struct comparison *c)
{
	g_autofree char *a = shown(c, c->a.median), *b = shown(c, c->b.median);
	g_autofree char *times = times_text(c);

	switch (r->kind) {
	case WORSE:
		if (c->verdict == VERDICT_WORSE)
			add_result(results, r, GATE_BROKEN,
				   g_strdup_printf("%s is worse: %s to %s (%scorrected p %.2g)",
						   c->name, a, b, times, c->p_corrected));
		else
			add_result(results, r, GATE_KEPT, g_strdup(""));
		break;
	case GROWS_BY_SHARE:
	case GROWS_BY:
		if (c->a.n && c->b.n)
			check_growth(results, r, to, c);
		else
			add_result(results, r, GATE_UNDECIDED,
				   g_strdup_printf("%s is known of one side only", c->name));
		break;
	case EXCEEDS:
		if (c->b.n && c->b.median > r->limit)
			add_result(results, r, GATE_BROKEN,
				   g_strdup_printf("%s is %s", c->name, b));
		/* A site that nobody used is no slow one; a downtime that nobody took is no short
		 * one. */
		else if (!c->b.n && c->group == FIGURE_HEADLINE)
			add_result(results, r, GATE_UNDECIDED,
				   g_strdup_printf("%s is not known of %s", c->name, to->b->label));
		else
			add_result(results, r, GATE_KEPT, g_strdup(""));
		break;
	}
}

static bool meant(const struct rule *r, const struct comparison *c, GPatternSpec *pattern)
{
	if (c->group == FIGURE_CONTROL)
		return false;
	if (r->kind == WORSE && !strcmp(r->figure, "worse"))
		return c->group == FIGURE_HEADLINE;
	return g_pattern_spec_match_string(pattern, c->name);
}

static bool unit_fits(const struct rule *r, const struct comparison *c)
{
	return r->kind == WORSE || r->kind == GROWS_BY_SHARE || r->in_ns == (c->unit == FIGURE_NS);
}

static void check_failed(GArray *results, const struct rule *r, const struct compared *to)
{
	if (to->b->failed > r->limit)
		add_result(results, r, GATE_BROKEN,
			   g_strdup_printf("%u of %u migrations of %s failed", to->b->failed,
					   to->b->failed + to->b->runs->len, to->b->label));
	else
		add_result(results, r, GATE_KEPT, g_strdup(""));
}

static void check_rule(GArray *results, const struct rule *r, const struct compared *to)
{
	GPatternSpec *pattern = g_pattern_spec_new(r->figure);
	unsigned matches = 0, fits = 0;

	if (r->kind == EXCEEDS && !strcmp(r->figure, "failed")) {
		check_failed(results, r, to);
		matches = fits = 1;
	}
	for (unsigned i = 0; i < to->all->len; i++) {
		const struct comparison *c = &g_array_index(to->all, struct comparison, i);

		if (!meant(r, c, pattern))
			continue;
		matches++;
		if (!unit_fits(r, c))
			continue;
		fits++;
		check_one(results, r, to, c);
	}
	if (!fits)
		add_result(results, r, GATE_NO_FIGURE,
			   g_strdup_printf(matches ? "%s is not measured in that unit"
						   : "no figure of these runs is called %s",
					   r->figure));
	g_pattern_spec_free(pattern);
}

GArray *gate_check(const GPtrArray *rules, const struct compared *to)
{
	GArray *results = g_array_new(FALSE, FALSE, sizeof(struct gate_result));

	g_array_set_clear_func(results, result_clear);
	for (unsigned i = 0; i < rules->len; i++)
		check_rule(results, rules->pdata[i], to);
	return results;
}

enum gate_state gate_worst(const GArray *results)
{
	enum gate_state worst = GATE_KEPT;

	for (unsigned i = 0; i < results->len; i++)
		worst = MAX(worst, g_array_index(results, struct gate_result, i).state);
	return worst;
}

const char *gate_state_name(enum gate_state state)
{
	static const char *const names[] = {
		[GATE_KEPT] = "kept",
		[GATE_UNDECIDED] = "undecided",
		[GATE_BROKEN] = "broken",
		[GATE_NO_FIGURE] = "no such figure",
	};

	return names[state];
}
