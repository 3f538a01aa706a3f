/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report for a terminal.
 */
#include <string.h>
#include <time.h>

#include "analyzers/model/words.h"
#include "analyzers/render/method.h"
#include "analyzers/render/render.h"

#define BOLD  "\033[1m"
#define RED   "\033[31m"
#define PLAIN "\033[0m"

/* A hold this long is felt: QEMU's monitor and every vCPU that touches a device wait for it. */
#define FELT_NS 10000000

#define STACKS_SHOWN 3 /* unless all are asked for */

/* For printf's arguments: a buffer that lives until the end of the full expression's block. */
#define D(ns) words_duration((char[WORDS_DURATION]){}, ns)

static char *phase_text(const struct phase_at *at)
{
	return at->phase == PHASE_DEVICE ? g_strdup_printf("device %s", at->device)
					 : g_strdup(phase_name(at->phase));
}

static void heading(FILE *out, const struct render_options *o, const char *text)
{
	fprintf(out, "\n%s%s%s\n", o->colour ? BOLD : "", text, o->colour ? PLAIN : "");
}

static void show_points(FILE *out, const struct run *run)
{
	g_autofree char *attached = render_points(run);

	fprintf(out, "  probes      %s\n", attached);
	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		if (!p->attached)
			fprintf(out, "  not placed  %s at 0x%llx: %s\n", p->kind,
				(unsigned long long)p->vaddr, p->refusal);
	}
}

static void show_lost(FILE *out, const struct run *run)
{
	fprintf(out, "  lost        %llu\n", (unsigned long long)run_lost(run));
	for (unsigned i = 0; i < run->lost->len; i++) {
		const struct lost *l = &g_array_index(run->lost, struct lost, i);

		if (l->count)
			fprintf(out, "              %llu %s\n", (unsigned long long)l->count,
				lost_meaning(l->what));
	}
}

static void show_thinnings(FILE *out, const struct run *run)
{
	g_autofree char *coverage = render_coverage(run);

	if (!coverage)
		return;
	fprintf(out, "  overhead    %s\n", coverage);
	for (unsigned i = 0; i < run->thinnings->len; i++) {
		g_autofree char *text =
			render_thinning(run, &g_array_index(run->thinnings, struct thinning, i));

		fprintf(out, "              %s\n", text);
	}
}

/* Who, and why: the first that a reader wants to know. */
static void show_longest(FILE *out, struct run *run)
{
	g_autoptr(GPtrArray) longest = run_longest(run, 1);
	const struct hold *h = longest->len ? longest->pdata[0] : NULL;
	g_autofree char *site = h ? words_site(run, h->site) : NULL;
	const struct phase_at *at;
	uint64_t held;

	if (!h)
		return;
	held = run_hold_ns(run, h->hold_ns);
	at = h->longest_ns > h->hold_ns / 2 ? &h->at_longest : &h->at_begin;
	fprintf(out, "  longest     %s by %s at %s", D(held),
		run_who(run, &g_array_index(run->threads, struct thread, h->thread), true), site);
	if (at->phase) {
		g_autofree char *phase = phase_text(at);

		fprintf(out, ", in %s", phase);
	}
	if (h->blocked[0].count && h->blocked[0].ns > held / 2)
		fprintf(out, ", asleep in %s for %s", cause_text(h->blocked[0].cause),
			D(MIN(h->blocked[0].ns, held)));
	else if (h->runnable_ns > held / 2)
		fprintf(out, ", waiting for a CPU for %s", D(MIN(h->runnable_ns, held)));
	fputc('\n', out);
}

static void show_longest_wait(FILE *out, struct run *run)
{
	g_autoptr(GArray) rows = run_rows(run, true);
	const struct row *worst = NULL;
	g_autofree char *site = NULL;

	for (unsigned i = 0; i < rows->len; i++) {
		const struct row *r = &g_array_index(rows, struct row, i);

		if (r->waits && (!worst || r->wait_max_ns > worst->wait_max_ns))
			worst = r;
	}
	if (!worst)
		return;
	site = words_site(run, worst->site);
	fprintf(out, "  waited      at most %s: %s at %s\n", D(worst->wait_max_ns), worst->who,
		site);
}

static void show_head(FILE *out, struct run *run, const struct render_options *o)
{
	g_autoptr(GDateTime) utc = g_date_time_new_from_unix_local(run->begin_unix_ns / 1000000000);
	g_autofree char *when = utc ? g_date_time_format(utc, "%F %T") : g_strdup("?");
	g_autofree char *cost = render_probe_cost(run);
	uint64_t held = run_held_ns(run), covered = run_covered_ns(run);
	g_autofree char *title =
		g_strdup_printf("run %d%s%s: QEMU %s, process %u", (int)run->id,
				*run->label ? " " : "", run->label, run->qemu_version, run->pid);

	fprintf(out, "%s%s%s\n", o->colour ? BOLD : "", title, o->colour ? PLAIN : "");
	fprintf(out, "  recorded    %s from %s, %s\n", D(run->duration_ns), when,
		*run->ended ? run->ended : "cut short: bqlstat was killed");
	show_thinnings(out, run);
	fprintf(out, "  lock        held %.1f%% of the time: %s in %llu acquisition%s\n",
		covered ? 100.0 * held / covered : 0, D(held),
		(unsigned long long)run_acquired(run), run_acquired(run) == 1 ? "" : "s");
	show_longest(out, run);
	show_longest_wait(out, run);
	show_lost(out, run);
	fprintf(out, "  %-11s %s\n", strcmp(run->source, "lttng") ? "probe cost" : "source", cost);
	if (run->points->len)
		show_points(out, run);
	if (*run->kernel)
		fprintf(out, "  machine     %s, %u x %s\n", run->kernel, run->cpus, run->cpu);
}

/* ---- the table ---- */

enum cell { COUNT, HELD, SHARE, HOLD_P50, HOLD_P99, HOLD_MAX, WAIT_P50, WAIT_P99, WAIT_MAX, CELLS };

struct table {
	uint64_t covered_ns;
	int site, who; /* widths */
	bool has[CELLS];
};

static const int cell_width[CELLS] = {9, 8, 6, 9, 8, 8, 9, 8, 8};

static const char *cell_title(const struct table *t, enum cell c)
{
	static const char *const titles[CELLS] = {"count", "held",     "share", "hold p50", "p99",
						  "max",   "wait p50", "p99",	"max"};

	if (c == HOLD_MAX && !t->has[HOLD_P50])
		return "hold max";
	if (c == WAIT_MAX && !t->has[WAIT_P50])
		return "wait max";
	return titles[c];
}

static char *cell_text(const struct table *t, const struct row *r, enum cell c)
{
	const uint64_t ns[CELLS] = {
		[HELD] = r->hold_total_ns,   [HOLD_P50] = r->hold_p50_ns,
		[HOLD_P99] = r->hold_p99_ns, [HOLD_MAX] = r->hold_max_ns,
		[WAIT_P50] = r->wait_p50_ns, [WAIT_P99] = r->wait_p99_ns,
		[WAIT_MAX] = r->wait_max_ns,
	};
	double covered = t->covered_ns;

	if (c == COUNT)
		return g_strdup_printf("%llu", (unsigned long long)r->acquired);
	if (c == SHARE)
		return g_strdup_printf("%.1f%%", covered ? 100 * r->hold_total_ns / covered : 0);
	if (c >= WAIT_P50 && !r->waits)
		return g_strdup("-");
	return g_strdup(D(ns[c]));
}

static char *blocked_text(const struct row *r)
{
	const char *cause = "";

	if (r->blocking->len)
		cause = cause_text(g_array_index(r->blocking, struct blocking, 0).cause);
	return g_strdup_printf("%s%s%s", r->blocked_ns ? D(r->blocked_ns) : "-", *cause ? " " : "",
			       cause);
}

/* Leaves out what a narrow terminal has no room for, what says least first. */
static void fit(struct table *t, unsigned columns, unsigned blocked)
{
	static const enum cell least_first[] = {WAIT_P50, WAIT_P99, HOLD_P50,
						HOLD_P99, COUNT,    WAIT_MAX};
	unsigned width = 2 + t->site + 2 + t->who + 2 + blocked;

	for (int c = 0; c < CELLS; c++) {
		t->has[c] = true;
		width += 1 + cell_width[c];
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(least_first) && columns && width > columns; i++) {
		t->has[least_first[i]] = false;
		width -= 1 + cell_width[least_first[i]];
	}
}

static void show_row(FILE *out, struct run *run, const struct table *t, const struct row *r,
		     bool colour)
{
	g_autofree char *site = words_site(run, r->site), *blocked = blocked_text(r);

	fprintf(out, "  %-*s  %-*s", t->site, site, t->who, r->who);
	for (int c = 0; c < CELLS; c++) {
		g_autofree char *text = cell_text(t, r, c);
		bool felt = colour && c == HOLD_MAX && r->hold_max_ns >= FELT_NS;

		if (t->has[c])
			fprintf(out, " %s%*s%s", felt ? RED : "", cell_width[c], text,
				felt ? PLAIN : "");
	}
	fprintf(out, "  %s\n", blocked);
}

static void show_rows(FILE *out, struct run *run, const struct render_options *o)
{
	g_autoptr(GArray) rows = run_rows(run, o->each_vcpu);
	unsigned shown = o->top && rows->len > o->top ? o->top : rows->len, blocked = 7;
	struct table t = {.covered_ns = run_covered_ns(run), .site = 24, .who = 4};

	for (unsigned i = 0; i < shown; i++) {
		const struct row *r = &g_array_index(rows, struct row, i);
		g_autofree char *site = words_site(run, r->site), *text = blocked_text(r);

		t.site = MAX(t.site, (int)strlen(site));
		t.who = MAX(t.who, (int)strlen(r->who));
		blocked = MAX(blocked, (unsigned)strlen(text));
	}
	fit(&t, o->columns, blocked);
	heading(out, o, "Who held the lock");
	fprintf(out, "  %-*s  %-*s", t.site, "call site", t.who, "who");
	for (int c = 0; c < CELLS; c++)
		if (t.has[c])
			fprintf(out, " %*s", cell_width[c], cell_title(&t, c));
	fprintf(out, "  blocked\n");
	for (unsigned i = 0; i < shown; i++)
		show_row(out, run, &t, &g_array_index(rows, struct row, i), o->colour);
	if (shown < rows->len)
		fprintf(out, "  and %u more: --top 0 shows all\n", rows->len - shown);
	if (!rows->len)
		fprintf(out, "  nobody: no thread took the lock in this time\n");
}

static const char *waker_text(struct run *run, const struct hold *h)
{
	const struct thread *t = &g_array_index(run->threads, struct thread, h->longest_waker - 1);

	return run_who(run, t, true);
}

/* ---- stacks ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void show_frame(FILE *out, const struct run *run, const struct frame *f, const char *what)
{
	fprintf(out, "  %8s    %-10s ", "", what);
	if (*f->symbol)
		fprintf(out, "%s%s+0x%llx", f->inside ? "" : "~", f->symbol,
			(unsigned long long)f->offset);
	else
		fprintf(out, "0x%llx", (unsigned long long)f->address);
	if (!*f->module)
		fprintf(out, "  (no file)");
	else if (strcmp(base_name(f->module), base_name(run->qemu_path)))
		fprintf(out, "  (%s)", base_name(f->module));
	fputc('\n', out);
}

static void show_stack(FILE *out, const struct run *run, const struct hold *h)
{
	static const char *const where[TAKENS] = {
		[TAKEN_RELEASED] = "ended in",
		[TAKEN_PREEMPTED] = "once in",
		[TAKEN_BLOCKED] = "asleep in",
	};
	const struct stack *s = &g_array_index(run->stacks, struct stack, h->stack - 1);

	for (unsigned i = 0; i < s->frames->len; i++) {
		unsigned frame = g_array_index(s->frames, unsigned, i);

		show_frame(out, run, &g_array_index(run->frames, struct frame, frame),
			   i ? "" : where[h->taken]);
	}
	if (!s->whole)
		fprintf(out, "  %8s    %-10s ...\n", "", "");
}

/* Once each: a hold with the same stack as one above it shows none. */
static bool stack_is_new(GPtrArray *holds, unsigned index)
{
	const struct hold *h = holds->pdata[index], *earlier;

	for (unsigned i = 0; i < index; i++) {
		earlier = holds->pdata[i];
		if (earlier->stack == h->stack && earlier->taken == h->taken)
			return false;
	}
	return h->stack;
}

static bool has_nameless(const struct run *run)
{
	for (unsigned i = 0; i < run->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame, i);

		if (*f->symbol && !f->inside)
			return true;
	}
	return false;
}

static void show_hold(FILE *out, struct run *run, const struct hold *h,
		      const struct render_options *o)
{
	const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);
	g_autofree char *site = words_site(run, h->site);
	g_autofree char *begin = phase_text(&h->at_begin), *end = phase_text(&h->at_end);
	uint64_t held = run_hold_ns(run, h->hold_ns);
	bool felt = o->colour && held >= FELT_NS;

	fprintf(out, "  %s%8s%s  %s by %s at +%s", felt ? RED : "", D(held), felt ? PLAIN : "",
		site, run_who(run, t, true),
		D(h->begin_ns > run->begin_ns ? h->begin_ns - run->begin_ns : 0));
	if (h->wait_ns != UNKNOWN_NS && run_wait_ns(run, h->wait_ns) >= run->threshold_ns)
		fprintf(out, ", waited %s", D(run_wait_ns(run, h->wait_ns)));
	if (h->at_begin.phase || h->at_end.phase)
		fprintf(out, ", in %s%s%s", begin, strcmp(begin, end) ? " to " : "",
			strcmp(begin, end) ? end : "");
	if (h->unfinished)
		fprintf(out, ", still held at the end");
	fputc('\n', out);
	for (unsigned c = 0; c < G_N_ELEMENTS(h->blocked); c++) {
		const struct blocking *b = &h->blocked[c];
		bool longest = h->longest_ns && h->longest_cause == b->cause;

		if (!b->count)
			continue;
		fprintf(out, "  %8s    blocked %s in %s, %llu times", "", D(b->ns),
			cause_text(b->cause), (unsigned long long)b->count);
		if (longest) {
			g_autofree char *phase = phase_text(&h->at_longest);

			fprintf(out, ", longest %s%s%s", D(h->longest_ns),
				h->at_longest.phase ? " in " : "",
				h->at_longest.phase ? phase : "");
			if (h->longest_waker)
				fprintf(out, ", ended by %s", waker_text(run, h));
		}
		fputc('\n', out);
	}
	if (h->runnable_ns > held / 10)
		fprintf(out, "  %8s    %s waiting for a CPU\n", "", D(h->runnable_ns));
}

static void show_holds(FILE *out, struct run *run, const struct render_options *o)
{
	g_autoptr(GPtrArray) longest = run_longest(run, o->top);
	unsigned stacks = 0;

	if (!longest->len)
		return;
	heading(out, o, "Longest holds");
	for (unsigned i = 0; i < longest->len; i++) {
		show_hold(out, run, longest->pdata[i], o);
		if ((!o->stacks && stacks == STACKS_SHOWN) || !stack_is_new(longest, i))
			continue;
		show_stack(out, run, longest->pdata[i]);
		stacks++;
	}
	if (stacks && has_nameless(run))
		fprintf(out,
			"  ~NAME+0x: in a function that the binary does not name, after NAME\n");
}

/* ---- victims ---- */

static char *holder_text(const struct run *run, const struct victim_row *r)
{
	g_autofree char *site = NULL;

	if (r->holder_site == HOLDER_NOBODY)
		return g_strdup("nobody: handing over, or no CPU");
	if (r->holder_site == HOLDER_EARLIER)
		return g_strdup("holders before the latest 64");
	site = words_site(run, r->holder_site);
	return g_strdup_printf("%s by %s", site, r->holder_who);
}

static void show_victims(FILE *out, struct run *run, const struct render_options *o)
{
	g_autoptr(GArray) rows = run_victims(run, o->each_vcpu);
	unsigned shown = o->top && rows->len > o->top ? o->top : rows->len;
	int width = 20;

	if (!rows->len)
		return;
	for (unsigned i = 0; i < shown; i++) {
		g_autofree char *holder =
			holder_text(run, &g_array_index(rows, struct victim_row, i));

		width = MAX(width, (int)strlen(holder));
	}
	heading(out, o, "Who made whom wait");
	fprintf(out, "  %8s %9s %8s  %-*s  %s\n", "time", "waits", "longest", width, "holder",
		"waited");
	for (unsigned i = 0; i < shown; i++) {
		const struct victim_row *r = &g_array_index(rows, struct victim_row, i);
		g_autofree char *holder = holder_text(run, r);
		g_autofree char *victim = words_site(run, r->victim_site);

		fprintf(out, "  %8s %9llu %8s  %-*s  %s at %s\n", D(r->ns),
			(unsigned long long)r->count, D(r->max_ns), width, holder, r->victim_who,
			victim);
	}
	if (shown < rows->len)
		fprintf(out, "  and %u more: --top 0 shows all\n", rows->len - shown);
}

/* How long the phase that a mark begins lasted. */
static uint64_t lasted(const struct run *run, unsigned i)
{
	const struct mark *m = &g_array_index(run->marks, struct mark, i);
	uint64_t end = i + 1 < run->marks->len ? m[1].at_ns : run->begin_ns + run->duration_ns;

	return end > m->at_ns ? end - m->at_ns : 0;
}

static gint longest_first(gconstpointer a, gconstpointer b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* A device section must have lasted this long to be among the `top` longest. */
static uint64_t shortest_shown(const struct run *run, unsigned top)
{
	g_autoptr(GArray) times = g_array_new(FALSE, FALSE, sizeof(uint64_t));

	for (unsigned i = 0; i < run->marks->len; i++) {
		uint64_t ns = lasted(run, i);

		if (g_array_index(run->marks, struct mark, i).in.phase == PHASE_DEVICE)
			g_array_append_val(times, ns);
	}
	g_array_sort(times, longest_first);
	return top && times->len > top ? g_array_index(times, uint64_t, top - 1) : 0;
}

/* Between two device sections the phase falls back for some microseconds: nothing to tell. */
static bool between_devices(const struct run *run, unsigned i)
{
	const struct mark *m = &g_array_index(run->marks, struct mark, i);

	return i && i + 1 < run->marks->len && m->in.phase != PHASE_DEVICE &&
	       m[-1].in.phase == PHASE_DEVICE && m[1].in.phase == PHASE_DEVICE;
}

static void show_phases(FILE *out, const struct run *run, const struct render_options *o)
{
	uint64_t shortest = shortest_shown(run, o->top);
	unsigned hidden = 0;

	if (!run->marks->len)
		return;
	heading(out, o, "Incoming migration");
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);
		g_autofree char *phase = phase_text(&m->in);
		uint64_t ns = lasted(run, i);

		if (m->in.phase == PHASE_NONE || between_devices(run, i))
			continue;
		if (m->in.phase == PHASE_DEVICE && ns < shortest) {
			hidden++;
			continue;
		}
		fprintf(out, "  +%9s  %-40s %8s\n",
			D(m->at_ns > run->begin_ns ? m->at_ns - run->begin_ns : 0), phase, D(ns));
	}
	if (hidden)
		fprintf(out, "  and %u shorter device sections: --top 0 shows all\n", hidden);
}

void render_text(FILE *out, struct run *run, const struct render_options *options)
{
	show_head(out, run, options);
	show_rows(out, run, options);
	show_holds(out, run, options);
	show_victims(out, run, options);
	show_phases(out, run, options);
}
