/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a run to plain figures, and from a figure to text.
 */
#include <math.h>
#include <string.h>

#include "analyzers/compare/figures.h"
#include "analyzers/model/words.h"

/* Beyond it no integer holds what a file may claim. */
#define MOST 1e18

struct builder {
	struct run *run;
	GHashTable *sites;
	GArray *figures;
};

static void clear(gpointer opaque)
{
	struct figure *f = opaque;

	g_free(f->name);
	g_free(f->subject);
}

static void add(struct builder *b, enum figure_group group, enum figure_unit unit,
		const char *subject, const char *word, const char *what, double value)
{
	struct figure f = {.subject = g_strdup(subject), .unit = unit, .group = group};

	f.value = value;
	f.zero_if_absent = *subject && (group == FIGURE_CAUSE || g_str_has_suffix(what, "max"));
	if (*subject)
		f.name = g_strdup_printf("%s[%s]%s%s", word, subject, *what ? "." : "", what);
	else
		f.name = g_strdup_printf("%s%s%s", word, *what ? "." : "", what);
	g_array_append_val(b->figures, f);
}

static void add_metric(struct builder *b, enum figure_group group, enum figure_unit unit,
		       const char *word, const char *what, const char *metric)
{
	double value;

	if (run_metric(b->run, metric, &value))
		add(b, group, unit, "", word, what, value);
}

static void add_latency(struct builder *b, enum figure_group group, const char *word,
			const char *prefix)
{
	static const char *const whats[] = {"p50", "p99", "max"};

	for (unsigned i = 0; i < G_N_ELEMENTS(whats); i++) {
		g_autofree char *metric = g_strdup_printf("%s_%s_ns", prefix, whats[i]);

		add_metric(b, group, FIGURE_NS, word, whats[i], metric);
	}
}

struct three {
	uint64_t p50, p99, max;
};

static void add_three(struct builder *b, enum figure_group group, const char *subject,
		      const char *word, const char *prefix, struct three ns)
{
	const struct {
		const char *what;
		uint64_t ns;
	} each[] = {{"p50", ns.p50}, {"p99", ns.p99}, {"max", ns.max}};

	for (unsigned i = 0; i < G_N_ELEMENTS(each); i++) {
		g_autofree char *what = g_strconcat(prefix, each[i].what, NULL);

		add(b, group, FIGURE_NS, subject, word, what, each[i].ns);
	}
}

/*
 * What is still held when the recording ends is in no histogram, and may be the longest of all.
 * `own`: the longest without the time in which the holder wanted a CPU and had none, which is the
 * machine's doing.
 */
static void longest_listed_ns(const struct run *run, uint64_t *unfinished, uint64_t *own)
{
	*unfinished = *own = 0;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->unfinished)
			*unfinished = MAX(*unfinished, h->hold_ns);
		*own = MAX(*own, h->hold_ns - MIN(h->hold_ns, h->runnable_ns));
	}
}

double run_share_held(const struct run *run)
{
	uint64_t covered_ns = run_covered_ns(run);

	return covered_ns ? (double)run_held_ns(run) / (double)covered_ns : 0;
}

static void add_whole(struct builder *b)
{
	struct run *run = b->run;
	struct histogram hold = {0}, wait = {0};
	uint64_t unfinished_ns, own_ns;

	add_metric(b, FIGURE_HEADLINE, FIGURE_NS, "total", "", METRIC_TOTAL);
	add_metric(b, FIGURE_HEADLINE, FIGURE_NS, "downtime", "src", METRIC_DOWNTIME_SRC);
	add_metric(b, FIGURE_HEADLINE, FIGURE_NS, "downtime", "dst", METRIC_DOWNTIME_DST);
	add_latency(b, FIGURE_HEADLINE, "qmp", METRIC_QMP);
	add_latency(b, FIGURE_CONTROL, "idle-qmp", METRIC_IDLE);
	add_metric(b, FIGURE_CONTROL, FIGURE_COUNT, "load-average", "", METRIC_LOAD_AVERAGE);
	add_metric(b, FIGURE_CONTROL, FIGURE_COUNT, "other-work", "", METRIC_OTHER_WORK);

	if (!run->usages->len)
		return;
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		histogram_merge(&hold, &u->hold);
		histogram_merge(&wait, &u->wait);
	}
	longest_listed_ns(run, &unfinished_ns, &own_ns);
	add(b, FIGURE_HEADLINE, FIGURE_SHARE, "", "held", "", run_share_held(run));
	add_three(b, FIGURE_HEADLINE, "", "hold", "",
		  (struct three){
			  run_hold_ns(run, histogram_quantile(&hold, 0.5)),
			  run_hold_ns(run, histogram_quantile(&hold, 0.99)),
			  run_hold_ns(run, MAX(hold.max_ns, unfinished_ns)),
		  });
	if (own_ns)
		add(b, FIGURE_HEADLINE, FIGURE_NS, "", "hold", "max-own", run_hold_ns(run, own_ns));
	if (wait.count)
		add_three(b, FIGURE_HEADLINE, "", "wait", "",
			  (struct three){
				  run_wait_ns(run, histogram_quantile(&wait, 0.5)),
				  run_wait_ns(run, histogram_quantile(&wait, 0.99)),
				  run_wait_ns(run, wait.max_ns),
			  });
}

/*
 * By the thread's role, not its name: a thread that was just born, or is about to end, has another
 * one, and so would its site in some of the runs.
 */
static char *site_name(struct builder *b, const struct usage *u)
{
	const struct site *s = &g_array_index(b->run->sites, struct site, u->site);
	const struct thread *t = &g_array_index(b->run->threads, struct thread, u->thread);
	g_autofree char *own = g_strdup_printf("%s:%u", words_file(s->file), s->line);
	const char *matched = b->sites ? g_hash_table_lookup(b->sites, own) : NULL;

	return g_strdup_printf("%s%s %s", matched ?: own, s->cond ? " (condvar)" : "",
			       role_name(t->role));
}

struct at_site {
	struct histogram hold, wait;
};

static void add_site(struct builder *b, const char *name, const struct at_site *s)
{
	if (s->hold.count)
		add_three(b, FIGURE_SITE, name, "site", "hold.",
			  (struct three){
				  run_hold_ns(b->run, histogram_quantile(&s->hold, 0.5)),
				  run_hold_ns(b->run, histogram_quantile(&s->hold, 0.99)),
				  run_hold_ns(b->run, s->hold.max_ns),
			  });
	if (s->wait.count)
		add_three(b, FIGURE_SITE, name, "site", "wait.",
			  (struct three){
				  run_wait_ns(b->run, histogram_quantile(&s->wait, 0.5)),
				  run_wait_ns(b->run, histogram_quantile(&s->wait, 0.99)),
				  run_wait_ns(b->run, s->wait.max_ns),
			  });
}

static void add_sites(struct builder *b)
{
	g_autoptr(GHashTable) sites =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autoptr(GPtrArray) names = g_ptr_array_new(); /* in the order they were first used */

	for (unsigned i = 0; i < b->run->usages->len; i++) {
		const struct usage *u = &g_array_index(b->run->usages, struct usage, i);
		g_autofree char *name = site_name(b, u);
		struct at_site *s = g_hash_table_lookup(sites, name);

		/* Asked before the attach: the same place has its own row for all others. */
		if (!*g_array_index(b->run->sites, struct site, u->site).file)
			continue;
		if (!s) {
			s = g_new0(struct at_site, 1);
			g_ptr_array_add(names, name);
			g_hash_table_insert(sites, g_steal_pointer(&name), s);
		}
		histogram_merge(&s->hold, &u->hold);
		histogram_merge(&s->wait, &u->wait);
	}
	for (unsigned i = 0; i < names->len; i++)
		add_site(b, names->pdata[i], g_hash_table_lookup(sites, names->pdata[i]));
}

/* Only the holds that were kept one by one know their phase. */
static void add_phases(struct builder *b)
{
	struct run *run = b->run;

	for (enum phase phase = PHASE_SETUP; phase < PHASES; phase++) {
		struct histogram hold = {0}, wait = {0};

		for (unsigned i = 0; i < run->holds->len; i++) {
			const struct hold *h = &g_array_index(run->holds, struct hold, i);

			if (h->at_begin.phase != phase)
				continue;
			histogram_add(&hold, run_hold_ns(run, h->hold_ns));
			if (h->wait_ns != UNKNOWN_NS)
				histogram_add(&wait, run_wait_ns(run, h->wait_ns));
		}
		if (hold.count)
			add_three(b, FIGURE_PHASE, phase_name(phase), "phase", "hold.",
				  (struct three){histogram_quantile(&hold, 0.5),
						 histogram_quantile(&hold, 0.99), hold.max_ns});
		if (wait.count)
			add_three(b, FIGURE_PHASE, phase_name(phase), "phase", "wait.",
				  (struct three){histogram_quantile(&wait, 0.5),
						 histogram_quantile(&wait, 0.99), wait.max_ns});
	}
}

static void add_ns(GHashTable *sums, const char *key, uint64_t ns)
{
	uint64_t *sum = g_hash_table_lookup(sums, key);

	if (!sum) {
		sum = g_new0(uint64_t, 1);
		g_hash_table_insert(sums, g_strdup(key), sum);
	}
	*sum += ns;
}

static void add_sums(struct builder *b, enum figure_group group, GHashTable *sums, const char *word,
		     const char *what)
{
	g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(sums), (GCompareFunc)strcmp);

	for (GList *k = keys; k; k = k->next) {
		uint64_t *ns = g_hash_table_lookup(sums, k->data);

		add(b, group, FIGURE_NS, k->data, word, what, *ns);
	}
}

static GHashTable *sums_new(void)
{
	return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

static void add_causes(struct builder *b)
{
	g_autoptr(GHashTable) sums = sums_new();

	for (unsigned i = 0; i < b->run->usages->len; i++) {
		const struct usage *u = &g_array_index(b->run->usages, struct usage, i);

		for (unsigned c = 0; c < u->blocking->len; c++) {
			const struct blocking *x = &g_array_index(u->blocking, struct blocking, c);

			add_ns(sums, cause_text(x->cause), x->ns);
		}
	}
	add_sums(b, FIGURE_CAUSE, sums, "blocked", "");
}

/* Each mark lasts until the next one. Instances of one device are added up. */
static void add_marks(struct builder *b)
{
	g_autoptr(GHashTable) phases = sums_new(), devices = sums_new();

	for (unsigned i = 0; i + 1 < b->run->marks->len; i++) {
		const struct mark *m = &g_array_index(b->run->marks, struct mark, i);
		uint64_t ns = m[1].at_ns - m->at_ns;

		if (m->in.phase == PHASE_NONE)
			continue;
		add_ns(phases, phase_name(m->in.phase), ns);
		if (m->in.phase == PHASE_DEVICE)
			add_ns(devices, m->in.device, ns);
	}
	add_sums(b, FIGURE_PHASE, phases, "phase", "time");
	add_sums(b, FIGURE_DEVICE, devices, "device", "load");
}

GArray *figures_of(struct run *run, GHashTable *sites)
{
	struct builder b = {run, sites, g_array_new(FALSE, TRUE, sizeof(struct figure))};

	g_array_set_clear_func(b.figures, clear);
	add_whole(&b);
	add_phases(&b);
	add_marks(&b);
	add_causes(&b);
	add_sites(&b);
	return b.figures;
}

const char *figure_group_name(enum figure_group group)
{
	static const char *const names[FIGURE_GROUPS] = {
		[FIGURE_HEADLINE] = "whole", [FIGURE_SITE] = "site",
		[FIGURE_PHASE] = "phase",    [FIGURE_CAUSE] = "blocked",
		[FIGURE_DEVICE] = "device",  [FIGURE_CONTROL] = "machine",
	};

	return names[group];
}

char *figure_text(enum figure_unit unit, double value)
{
	char text[WORDS_DURATION];

	if (!isfinite(value))
		return g_strdup("-");
	switch (unit) {
	case FIGURE_NS:
		return g_strdup_printf("%s%s", value < 0 ? "-" : "",
				       words_duration(text, (uint64_t)fmin(fabs(value), MOST)));
	case FIGURE_SHARE:
		return g_strdup_printf("%.1f%%", value * 100);
	case FIGURE_BYTES:
		return g_format_size_full((guint64)fmin(fmax(0, value), MOST),
					  G_FORMAT_SIZE_IEC_UNITS);
	case FIGURE_COUNT:
		break;
	}
	return g_strdup_printf("%.4g", value);
}

char *figure_ratio(double ratio)
{
	if (!isfinite(ratio))
		return g_strdup("-");
	if (ratio >= 1000)
		return g_strdup_printf("%.0f", ratio);
	return g_strdup_printf("%.*f",
			       ratio >= 99.5   ? 0
			       : ratio >= 9.95 ? 1
			       : ratio < 0.1   ? 3
					       : 2,
			       ratio);
}
