/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run's life and the sums over it.
 */
#include <string.h>

#include "analyzers/model/plain.h"
#include "analyzers/model/run.h"

static void clear_usage(gpointer usage)
{
	g_clear_pointer(&((struct usage *)usage)->blocking, g_array_unref);
}

static void clear_stack(gpointer stack)
{
	g_clear_pointer(&((struct stack *)stack)->frames, g_array_unref);
}

struct run *run_new(void)
{
	struct run *run = g_new0(struct run, 1);

	run->strings = g_string_chunk_new(4096);
	run->threads = g_array_new(FALSE, TRUE, sizeof(struct thread));
	run->sites = g_array_new(FALSE, TRUE, sizeof(struct site));
	run->usages = g_array_new(FALSE, TRUE, sizeof(struct usage));
	g_array_set_clear_func(run->usages, clear_usage);
	run->holds = g_array_new(FALSE, TRUE, sizeof(struct hold));
	run->wakings = g_array_new(FALSE, TRUE, sizeof(struct waking));
	run->charges = g_array_new(FALSE, TRUE, sizeof(struct charge));
	run->frames = g_array_new(FALSE, TRUE, sizeof(struct frame));
	run->stacks = g_array_new(FALSE, TRUE, sizeof(struct stack));
	g_array_set_clear_func(run->stacks, clear_stack);
	run->marks = g_array_new(FALSE, TRUE, sizeof(struct mark));
	run->points = g_array_new(FALSE, TRUE, sizeof(struct point));
	run->lost = g_array_new(FALSE, TRUE, sizeof(struct lost));
	run->metrics = g_array_new(FALSE, TRUE, sizeof(struct metric));
	run->answers = g_array_new(FALSE, TRUE, sizeof(struct answer));
	run->thinnings = g_array_new(FALSE, TRUE, sizeof(struct thinning));
	run->label = run->source = run->tool = run->ended = "";
	run->qemu_version = run->qemu_generation = run->qemu_build_id = "";
	run->qemu_path = run->qemu_cmdline = run->kernel = run->cpu = "";
	return run;
}

void run_free(struct run *run)
{
	if (!run)
		return;
	g_array_unref(run->threads);
	g_array_unref(run->sites);
	g_array_unref(run->usages);
	g_array_unref(run->holds);
	g_array_unref(run->wakings);
	g_array_unref(run->charges);
	g_array_unref(run->frames);
	g_array_unref(run->stacks);
	g_array_unref(run->marks);
	g_array_unref(run->points);
	g_array_unref(run->lost);
	g_array_unref(run->metrics);
	g_array_unref(run->answers);
	g_array_unref(run->thinnings);
	g_string_chunk_free(run->strings);
	g_free(run);
}

const char *run_string(struct run *run, const char *s)
{
	g_autofree char *plain = plain_text(s);

	return *plain ? g_string_chunk_insert_const(run->strings, plain) : "";
}

unsigned run_site(struct run *run, const char *file, unsigned line, bool cond)
{
	struct site site = {.file = run_string(run, file), .line = line, .cond = cond};

	for (unsigned i = 0; i < run->sites->len; i++) {
		const struct site *s = &g_array_index(run->sites, struct site, i);

		if (s->file == site.file && s->line == line && s->cond == cond)
			return i;
	}
	g_array_append_val(run->sites, site);
	return run->sites->len - 1;
}

unsigned run_frame(struct run *run, const struct frame *frame)
{
	struct frame new = *frame;

	new.module = run_string(run, frame->module);
	new.symbol = run_string(run, frame->symbol);
	for (unsigned i = 0; i < run->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame, i);

		if (f->address == new.address && f->module == new.module)
			return i;
	}
	g_array_append_val(run->frames, new);
	return run->frames->len - 1;
}

unsigned run_stack(struct run *run, const unsigned *frames, unsigned count, bool whole)
{
	struct stack stack = {.whole = whole};

	for (unsigned i = 0; i < run->stacks->len; i++) {
		const struct stack *s = &g_array_index(run->stacks, struct stack, i);

		if (s->frames->len == count && s->whole == whole &&
		    (!count || !memcmp(s->frames->data, frames, count * sizeof(*frames))))
			return i;
	}
	stack.frames = g_array_new(FALSE, FALSE, sizeof(unsigned));
	if (count)
		g_array_append_vals(stack.frames, frames, count);
	g_array_append_val(run->stacks, stack);
	return run->stacks->len - 1;
}

static struct metric *find_metric(const struct run *run, const char *name)
{
	for (unsigned i = 0; i < run->metrics->len; i++) {
		struct metric *m = &g_array_index(run->metrics, struct metric, i);

		if (!strcmp(m->name, name))
			return m;
	}
	return NULL;
}

void run_set_metric(struct run *run, const char *name, double value)
{
	struct metric new = {.name = run_string(run, name), .value = value};
	struct metric *old = find_metric(run, name);

	if (old)
		old->value = value;
	else
		g_array_append_val(run->metrics, new);
}

bool run_metric(const struct run *run, const char *name, double *value)
{
	const struct metric *m = find_metric(run, name);

	if (m)
		*value = m->value;
	return m;
}

struct usage *run_add_usage(struct run *run, unsigned site, unsigned thread)
{
	struct usage *usage;

	g_array_set_size(run->usages, run->usages->len + 1);
	usage = &g_array_index(run->usages, struct usage, run->usages->len - 1);
	usage->site = site;
	usage->thread = thread;
	usage->blocking = g_array_new(FALSE, TRUE, sizeof(struct blocking));
	return usage;
}

uint64_t run_lost(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < run->lost->len; i++)
		if (!lost_at_edge(g_array_index(run->lost, struct lost, i).what))
			sum += g_array_index(run->lost, struct lost, i).count;
	return sum;
}

/* A part of the recording's time; `whole` when nothing is said. A file may say anything. */
static uint64_t part_ns(const struct run *run, const char *metric, uint64_t whole)
{
	double ns;

	if (!run_metric(run, metric, &ns) || ns >= (double)whole)
		return whole;
	return ns > 0 ? (uint64_t)ns : 0;
}

uint64_t run_covered_ns(const struct run *run)
{
	return part_ns(run, "covered_ns", run->duration_ns);
}

uint64_t run_covered_waits_ns(const struct run *run)
{
	return part_ns(run, "covered_waits_ns", run_covered_ns(run));
}

uint64_t run_acquired(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < run->usages->len; i++)
		sum += g_array_index(run->usages, struct usage, i).acquired;
	return sum;
}

/* n values that add up to sum, each with the bias in it. */
static uint64_t without_bias(uint64_t sum, uint64_t n, uint64_t bias)
{
	return sum > n * bias ? sum - n * bias : 0;
}

uint64_t run_held_ns(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		sum += without_bias(u->hold.sum_ns, u->hold.count, run->hold_bias_ns);
	}
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->unfinished)
			sum += run_hold_ns(run, h->hold_ns);
	}
	return sum;
}

/* A row while it is being put together. */
struct sum {
	struct row row;
	struct histogram wait, hold;
};

static void add_blocking(GArray *into, const struct blocking *b)
{
	for (unsigned i = 0; i < into->len; i++) {
		struct blocking *have = &g_array_index(into, struct blocking, i);

		if (have->cause != b->cause)
			continue;
		have->count += b->count;
		have->ns += b->ns;
		have->max_ns = MAX(have->max_ns, b->max_ns);
		return;
	}
	g_array_append_val(into, *b);
}

static gint by_blocked(gconstpointer a, gconstpointer b)
{
	const struct blocking *x = a, *y = b;

	return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : x->cause - y->cause;
}

static gint by_hold_total(gconstpointer a, gconstpointer b)
{
	const struct row *x = a, *y = b;

	if (x->hold_total_ns != y->hold_total_ns)
		return x->hold_total_ns < y->hold_total_ns ? 1 : -1;
	return x->acquired < y->acquired ? 1 : x->acquired > y->acquired ? -1 : 0;
}

static void clear_row(gpointer row)
{
	g_clear_pointer(&((struct row *)row)->blocking, g_array_unref);
}

static struct sum *sum_for(GPtrArray *sums, struct run *run, const struct usage *u, bool each_vcpu)
{
	const struct thread *thread = &g_array_index(run->threads, struct thread, u->thread);
	const char *who = run_who(run, thread, each_vcpu);
	struct sum *sum;

	for (unsigned i = 0; i < sums->len; i++) {
		sum = sums->pdata[i];
		if (sum->row.site == u->site && sum->row.who == who)
			return sum;
	}
	sum = g_new0(struct sum, 1);
	sum->row.site = u->site;
	sum->row.role = thread->role;
	sum->row.who = who;
	sum->row.blocking = g_array_new(FALSE, TRUE, sizeof(struct blocking));
	g_ptr_array_add(sums, sum);
	return sum;
}

static void finish_row(const struct run *run, struct sum *sum)
{
	struct row *row = &sum->row;

	row->holds = sum->hold.count;
	row->waits = sum->wait.count;
	row->hold_total_ns = without_bias(sum->hold.sum_ns, row->holds, run->hold_bias_ns);
	row->hold_p50_ns = run_hold_ns(run, histogram_quantile(&sum->hold, 0.5));
	row->hold_p99_ns = run_hold_ns(run, histogram_quantile(&sum->hold, 0.99));
	row->hold_max_ns = run_hold_ns(run, sum->hold.max_ns);
	row->wait_total_ns = without_bias(sum->wait.sum_ns, row->waits, run->wait_bias_ns);
	row->wait_p50_ns = run_wait_ns(run, histogram_quantile(&sum->wait, 0.5));
	row->wait_p99_ns = run_wait_ns(run, histogram_quantile(&sum->wait, 0.99));
	row->wait_max_ns = run_wait_ns(run, sum->wait.max_ns);
	g_array_sort(row->blocking, by_blocked);
}

GArray *run_rows(struct run *run, bool each_vcpu)
{
	GArray *rows = g_array_new(FALSE, TRUE, sizeof(struct row));
	g_autoptr(GPtrArray) sums = g_ptr_array_new_with_free_func(g_free);

	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);
		struct sum *sum = sum_for(sums, run, u, each_vcpu);

		sum->row.acquired += u->acquired;
		sum->row.runnable_ns += u->runnable_ns;
		histogram_merge(&sum->wait, &u->wait);
		histogram_merge(&sum->hold, &u->hold);
		for (unsigned c = 0; c < u->blocking->len; c++) {
			const struct blocking *b = &g_array_index(u->blocking, struct blocking, c);

			sum->row.blocked_ns += b->ns;
			add_blocking(sum->row.blocking, b);
		}
	}
	for (unsigned i = 0; i < sums->len; i++) {
		struct sum *sum = sums->pdata[i];

		finish_row(run, sum);
		g_array_append_val(rows, sum->row);
	}
	g_array_set_clear_func(rows, clear_row);
	g_array_sort(rows, by_hold_total);
	return rows;
}

static gint by_hold(gconstpointer a, gconstpointer b)
{
	const struct hold *x = *(struct hold *const *)a, *y = *(struct hold *const *)b;

	if (x->hold_ns != y->hold_ns)
		return x->hold_ns < y->hold_ns ? 1 : -1;
	return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

GPtrArray *run_longest(const struct run *run, unsigned top)
{
	GPtrArray *longest = g_ptr_array_new();

	for (unsigned i = 0; i < run->holds->len; i++)
		g_ptr_array_add(longest, &g_array_index(run->holds, struct hold, i));
	g_ptr_array_sort(longest, by_hold);
	if (top && longest->len > top)
		g_ptr_array_set_size(longest, top);
	return longest;
}
