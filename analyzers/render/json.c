/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report for programs. docs/report-json.md describes every member; a member is added, never
 * changed in meaning, as long as "format" stays the same.
 */
#include <json-glib/json-glib.h>

#include "analyzers/model/words.h"
#include "analyzers/render/render.h"
#include "analyzers/show.h"

#define FORMAT 1

static void begin_object(JsonBuilder *b, const char *name)
{
	json_builder_set_member_name(b, name);
	json_builder_begin_object(b);
}

static void begin_array(JsonBuilder *b, const char *name)
{
	json_builder_set_member_name(b, name);
	json_builder_begin_array(b);
}

static uint64_t since_begin(const struct run *run, uint64_t ns)
{
	return ns > run->begin_ns ? ns - run->begin_ns : 0;
}

static void add_head(JsonBuilder *b, const struct run *run)
{
	show_int(b, "format", FORMAT);
	show_int(b, "run", run->id);
	show_text(b, "label", run->label);
	show_text(b, "source", run->source);
	show_text(b, "tool", run->tool);
	show_int(b, "begin_unix_ns", run->begin_unix_ns);
	show_int(b, "begin_ns", run->begin_ns);
	show_int(b, "duration_ns", run->duration_ns);
	show_text(b, "ended", run->ended);
	show_int(b, "threshold_ns", run->threshold_ns);
	begin_object(b, "qemu");
	show_int(b, "pid", run->pid);
	show_text(b, "version", run->qemu_version);
	show_text(b, "generation", run->qemu_generation);
	show_text(b, "build_id", run->qemu_build_id);
	show_text(b, "path", run->qemu_path);
	show_text(b, "cmdline", run->qemu_cmdline);
	json_builder_end_object(b);
	begin_object(b, "machine");
	show_text(b, "kernel", run->kernel);
	show_text(b, "cpu", run->cpu);
	show_int(b, "cpus", run->cpus);
	json_builder_end_object(b);
	begin_object(b, "probe_cost");
	show_bool(b, "measured", run->calibrated);
	show_int(b, "pair_ns", run->pair_ns);
	show_int(b, "hold_bias_ns", run->hold_bias_ns);
	show_int(b, "wait_bias_ns", run->wait_bias_ns);
	json_builder_end_object(b);
}

static void add_overhead(JsonBuilder *b, const struct run *run)
{
	begin_object(b, "overhead");
	show_int(b, "covered_ns", run_covered_ns(run));
	show_int(b, "covered_waits_ns", run_covered_waits_ns(run));
	begin_array(b, "thinned");
	for (unsigned i = 0; i < run->thinnings->len; i++) {
		const struct thinning *t = &g_array_index(run->thinnings, struct thinning, i);

		json_builder_begin_object(b);
		show_int(b, "at_ns", since_begin(run, t->at_ns));
		show_text(b, "level", t->level);
		json_builder_set_member_name(b, "cores");
		json_builder_add_double_value(b, t->cores);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_end_object(b);
}

static void add_honesty(JsonBuilder *b, const struct run *run)
{
	add_overhead(b, run);
	show_int(b, "lost_total", run_lost(run));
	begin_object(b, "lost");
	for (unsigned i = 0; i < run->lost->len; i++) {
		const struct lost *l = &g_array_index(run->lost, struct lost, i);

		show_int(b, l->what, l->count);
	}
	json_builder_end_object(b);
	begin_array(b, "points");
	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		json_builder_begin_object(b);
		show_text(b, "kind", p->kind);
		show_int(b, "vaddr", p->vaddr);
		show_text(b, "insn", p->insn);
		show_bool(b, "emulated", p->emulated);
		show_bool(b, "attached", p->attached);
		show_bool(b, "shared", p->shared);
		show_bool(b, "hit", p->hit);
		show_text(b, "refusal", p->refusal);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

static void add_site(JsonBuilder *b, const struct run *run, unsigned index)
{
	const struct site *s = &g_array_index(run->sites, struct site, index);

	show_text(b, "file", words_file(s->file));
	show_int(b, "line", s->line);
	show_bool(b, "condvar", s->cond);
}

static void add_blocked(JsonBuilder *b, const struct blocking *blocking)
{
	json_builder_begin_object(b);
	show_text(b, "cause", cause_name(blocking->cause));
	show_text(b, "file", cause_file(blocking->cause));
	show_int(b, "count", blocking->count);
	show_int(b, "ns", blocking->ns);
	json_builder_end_object(b);
}

static void add_distribution(JsonBuilder *b, const char *name, uint64_t count, uint64_t total_ns,
			     uint64_t p50_ns, uint64_t p99_ns, uint64_t max_ns)
{
	begin_object(b, name);
	show_int(b, "count", count);
	show_int(b, "total_ns", total_ns);
	show_int(b, "p50_ns", p50_ns);
	show_int(b, "p99_ns", p99_ns);
	show_int(b, "max_ns", max_ns);
	json_builder_end_object(b);
}

static void add_rows(JsonBuilder *b, struct run *run, const struct render_options *o)
{
	g_autoptr(GArray) rows = run_rows(run, o->each_vcpu);

	show_int(b, "acquired", run_acquired(run));
	show_int(b, "held_ns", run_held_ns(run));
	begin_array(b, "sites");
	for (unsigned i = 0; i < rows->len && (!o->top || i < o->top); i++) {
		const struct row *r = &g_array_index(rows, struct row, i);

		json_builder_begin_object(b);
		add_site(b, run, r->site);
		show_text(b, "role", role_name(r->role));
		show_text(b, "who", r->who);
		show_int(b, "acquired", r->acquired);
		add_distribution(b, "hold", r->holds, r->hold_total_ns, r->hold_p50_ns,
				 r->hold_p99_ns, r->hold_max_ns);
		add_distribution(b, "wait", r->waits, r->wait_total_ns, r->wait_p50_ns,
				 r->wait_p99_ns, r->wait_max_ns);
		show_int(b, "runnable_ns", r->runnable_ns);
		begin_array(b, "blocked");
		for (unsigned c = 0; c < r->blocking->len; c++)
			add_blocked(b, &g_array_index(r->blocking, struct blocking, c));
		json_builder_end_array(b);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

static void add_phase(JsonBuilder *b, const char *name, const struct phase_at *at)
{
	begin_object(b, name);
	show_text(b, "phase", phase_name(at->phase));
	show_text(b, "device", at->device);
	json_builder_end_object(b);
}

static void add_stack(JsonBuilder *b, const struct run *run, const struct hold *h)
{
	const struct stack *s = &g_array_index(run->stacks, struct stack, h->stack - 1);

	begin_object(b, "stack");
	show_text(b, "taken", taken_name(h->taken));
	show_bool(b, "whole", s->whole);
	begin_array(b, "frames");
	for (unsigned i = 0; i < s->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame,
						       g_array_index(s->frames, unsigned, i));

		json_builder_begin_object(b);
		show_text(b, "module", f->module);
		show_int(b, "address", f->address);
		show_text(b, "symbol", f->symbol);
		show_int(b, "offset", f->offset);
		show_bool(b, "inside", f->inside);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_end_object(b);
}

static void add_thread(JsonBuilder *b, struct run *run, const char *name, unsigned index)
{
	const struct thread *t = &g_array_index(run->threads, struct thread, index);

	begin_object(b, name);
	show_text(b, "role", role_name(t->role));
	show_text(b, "who", run_who(run, t, true));
	show_int(b, "tid", t->tid);
	json_builder_end_object(b);
}

static void add_wakings(JsonBuilder *b, struct run *run)
{
	begin_array(b, "wakings");
	for (unsigned i = 0; i < run->wakings->len; i++) {
		const struct waking *w = &g_array_index(run->wakings, struct waking, i);
		const struct usage *u = &g_array_index(run->usages, struct usage, w->usage);

		json_builder_begin_object(b);
		add_site(b, run, u->site);
		add_thread(b, run, "holder", u->thread);
		add_thread(b, run, "ended_by", w->waker);
		show_int(b, "count", w->count);
		show_int(b, "ns", w->ns);
		show_int(b, "max_ns", w->max_ns);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

/* One side of a wait; holder: "nobody" and "earlier" are no call sites. */
static void add_side(JsonBuilder *b, const struct run *run, const char *name, int site,
		     enum role role, const char *who)
{
	begin_object(b, name);
	show_text(b, "kind",
		  site == HOLDER_NOBODY	   ? "nobody"
		  : site == HOLDER_EARLIER ? "earlier"
					   : "site");
	if (site >= 0) {
		add_site(b, run, site);
		show_text(b, "role", role_name(role));
		show_text(b, "who", who);
	}
	json_builder_end_object(b);
}

static void add_victims(JsonBuilder *b, struct run *run, const struct render_options *o)
{
	g_autoptr(GArray) rows = run_victims(run, o->each_vcpu);

	begin_array(b, "victims");
	for (unsigned i = 0; i < rows->len && (!o->top || i < o->top); i++) {
		const struct victim_row *r = &g_array_index(rows, struct victim_row, i);

		json_builder_begin_object(b);
		add_side(b, run, "holder", r->holder_site, r->holder_role, r->holder_who);
		add_side(b, run, "victim", r->victim_site, r->victim_role, r->victim_who);
		show_int(b, "waits", r->count);
		show_int(b, "ns", r->ns);
		show_int(b, "max_ns", r->max_ns);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

static void add_hold(JsonBuilder *b, struct run *run, const struct hold *h)
{
	const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);

	json_builder_begin_object(b);
	show_int(b, "at_ns", since_begin(run, h->begin_ns));
	show_int(b, "hold_ns", run_hold_ns(run, h->hold_ns));
	json_builder_set_member_name(b, "wait_ns");
	if (h->wait_ns == UNKNOWN_NS)
		json_builder_add_null_value(b);
	else
		json_builder_add_int_value(b, run_wait_ns(run, h->wait_ns));
	show_bool(b, "unfinished", h->unfinished);
	add_site(b, run, h->site);
	show_text(b, "role", role_name(t->role));
	show_text(b, "who", run_who(run, t, true));
	show_int(b, "tid", t->tid);
	show_int(b, "runnable_ns", h->runnable_ns);
	begin_array(b, "blocked");
	for (unsigned c = 0; c < G_N_ELEMENTS(h->blocked); c++)
		if (h->blocked[c].count)
			add_blocked(b, &h->blocked[c]);
	json_builder_end_array(b);
	if (h->longest_ns) {
		begin_object(b, "longest_block");
		show_text(b, "cause", cause_name(h->longest_cause));
		show_text(b, "file", cause_file(h->longest_cause));
		if (h->longest_waker)
			add_thread(b, run, "ended_by", h->longest_waker - 1);
		show_int(b, "ns", h->longest_ns);
		add_phase(b, "in", &h->at_longest);
		json_builder_end_object(b);
	}
	if (h->stack)
		add_stack(b, run, h);
	add_phase(b, "begin", &h->at_begin);
	add_phase(b, "end", &h->at_end);
	json_builder_end_object(b);
}

char *render_json(struct run *run, const struct render_options *options)
{
	g_autoptr(GPtrArray) longest = run_longest(run, options->top);
	g_autoptr(JsonBuilder) b = json_builder_new();
	g_autoptr(JsonNode) root = NULL;

	json_builder_begin_object(b);
	add_head(b, run);
	add_honesty(b, run);
	add_rows(b, run, options);
	begin_array(b, "holds");
	for (unsigned i = 0; i < longest->len; i++)
		add_hold(b, run, longest->pdata[i]);
	json_builder_end_array(b);
	add_victims(b, run, options);
	add_wakings(b, run);
	begin_array(b, "phases");
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);

		json_builder_begin_object(b);
		show_int(b, "at_ns", since_begin(run, m->at_ns));
		show_text(b, "phase", phase_name(m->in.phase));
		show_text(b, "device", m->in.device);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_end_object(b);
	root = json_builder_get_root(b);
	return json_to_string(root, TRUE);
}
