/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the tracer to the model. The kernel keeps one record for each site and thread; here they
 * become usages, and the events become holds and phase marks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "analyzers/watch/collect.h"
#include "analyzers/stacks/stacks.h"

/*
 * Long holds and waits kept for a run: the longest ones. A run of weeks must not fill memory; how
 * many were let go is counted.
 */
#define HOLDS_KEPT     10000
#define MARKS_KEPT     100000
#define THINNINGS_KEPT 1000
#define STACKS_KEPT    4096 /* different ones */

/* The stack of a hold whose end may not have been heard of yet. */
struct hold_stack {
	uint64_t begin_ns; /* the key, with `thread` */
	uint32_t thread;
	enum taken taken;
	uint64_t ns;
	unsigned stack;
};

struct recording {
	struct run *run; /* NULL: no such target */
	GArray *holds;	 /* struct abi_hold */
	uint64_t holds_dropped, marks_dropped, stacks_dropped;
	struct unwinder *unwinder; /* NULL until there is a stack, and after the end */
	GHashTable *stacks;	   /* struct hold_stack */
	GHashTable *threads;	   /* index of abi_thread -> index in run->threads + 1 */
	char leader_comm[ABI_COMM];
};

struct collector {
	struct tracer *tracer;
	uint64_t threshold_ns;
	char *label;
	struct recording recordings[ABI_SLOTS];
};

struct collector *collector_new(const char *label)
{
	struct collector *c = g_new0(struct collector, 1);

	c->label = g_strdup(label);
	return c;
}

static void forget(struct recording *r)
{
	if (!r->holds)
		return;
	run_free(r->run);
	g_array_unref(r->holds);
	g_hash_table_unref(r->threads);
	g_hash_table_unref(r->stacks);
	unwinder_free(r->unwinder);
	memset(r, 0, sizeof(*r));
}

void collector_free(struct collector *c)
{
	if (!c)
		return;
	for (int i = 0; i < ABI_SLOTS; i++)
		forget(&c->recordings[i]);
	g_free(c->label);
	g_free(c);
}

void collector_use(struct collector *c, struct tracer *tracer, uint64_t threshold_ns)
{
	c->tracer = tracer;
	c->threshold_ns = threshold_ns;
}

static uint64_t weight(const struct abi_hold *h)
{
	return h->wait_ns == ABI_UNKNOWN ? h->hold_ns : MAX(h->hold_ns, h->wait_ns);
}

static gint by_weight(gconstpointer a, gconstpointer b)
{
	uint64_t x = weight(a), y = weight(b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static void on_hold(void *opaque, int target, const struct abi_hold *hold)
{
	struct collector *c = opaque;
	struct recording *r = &c->recordings[target];

	if (!r->run)
		return;
	g_array_append_vals(r->holds, hold, 1);
	if (r->holds->len < 2 * HOLDS_KEPT)
		return;
	g_array_sort(r->holds, by_weight);
	for (unsigned i = HOLDS_KEPT; i < r->holds->len; i++) {
		const struct abi_hold *h = &g_array_index(r->holds, struct abi_hold, i);
		const struct hold_stack key = {.begin_ns = h->begin_ns, .thread = h->thread};

		g_hash_table_remove(r->stacks, &key);
	}
	r->holds_dropped += r->holds->len - HOLDS_KEPT;
	g_array_set_size(r->holds, HOLDS_KEPT);
}

static guint hold_stack_hash(gconstpointer key)
{
	const struct hold_stack *s = key;

	return g_int64_hash(&s->begin_ns) ^ s->thread;
}

static gboolean hold_stack_equal(gconstpointer a, gconstpointer b)
{
	const struct hold_stack *x = a, *y = b;

	return x->begin_ns == y->begin_ns && x->thread == y->thread;
}

/* Index of the stack in the run; false: it cannot be unwound, or there are too many. */
static bool unwind(struct recording *r, const struct abi_stack *s, unsigned *index)
{
	struct unwound walked[STACKS_DEPTH];
	unsigned frames[STACKS_DEPTH], count;
	bool whole;

	if (!r->unwinder)
		r->unwinder = unwinder_new(r->run->pid);
	count = unwinder_walk(r->unwinder, s, walked, &whole);
	if (!count || r->run->stacks->len == STACKS_KEPT)
		return false;
	for (unsigned i = 0; i < count; i++) {
		const struct frame frame = {
			.module = walked[i].module,
			.address = walked[i].address,
			.symbol = walked[i].symbol,
			.offset = walked[i].offset,
			.inside = walked[i].inside,
		};

		frames[i] = run_frame(r->run, &frame);
	}
	*index = run_stack(r->run, frames, count, whole);
	return true;
}

static void on_stack(void *opaque, int target, const struct abi_stack *s)
{
	struct collector *c = opaque;
	struct recording *r = &c->recordings[target];
	struct hold_stack new = {.begin_ns = s->hold_begin_ns,
				 .thread = s->thread,
				 .taken = (enum taken)s->taken,
				 .ns = s->ns};
	const struct hold_stack *old;

	if (!r->run)
		return;
	old = g_hash_table_lookup(r->stacks, &new);
	/* Where it slept says more than where it was otherwise, and of sleeps the longest. */
	if (old && (old->taken > new.taken || (old->taken == new.taken && old->ns >= new.ns)))
		return;
	if ((!old && g_hash_table_size(r->stacks) >= 2 * HOLDS_KEPT) || !unwind(r, s, &new.stack)) {
		r->stacks_dropped++;
		return;
	}
	g_hash_table_add(r->stacks, g_memdup2(&new, sizeof(new)));
}

static void on_phase(void *opaque, int target, const struct abi_event_phase *event,
		     const char *device)
{
	struct collector *c = opaque;
	struct recording *r = &c->recordings[target];
	struct mark mark = {.at_ns = event->at_ns};

	if (!r->run)
		return;
	if (r->run->marks->len == MARKS_KEPT) {
		r->marks_dropped++;
		return;
	}
	mark.in.phase = (enum phase)event->now.kind;
	mark.in.device = run_string(r->run, device);
	g_array_append_val(r->run->marks, mark);
}

static const char *level_name(enum tracer_level level)
{
	static const char *const names[] = {
		[TRACER_FULL] = "full",
		[TRACER_HOLDS] = "holds",
		[TRACER_BURSTS] = "bursts",
		[TRACER_AWAY] = "away",
	};

	return names[level];
}

static void on_level(void *opaque, int target, enum tracer_level level, uint64_t at_ns,
		     double cores)
{
	struct collector *c = opaque;
	struct recording *r = &c->recordings[target];
	const struct thinning t = {.at_ns = at_ns, .level = level_name(level), .cores = cores};

	if (r->run && r->run->thinnings->len < THINNINGS_KEPT)
		g_array_append_val(r->run->thinnings, t);
}

struct tracer_sink collector_sink(struct collector *c)
{
	return (struct tracer_sink){.hold = on_hold,
				    .phase = on_phase,
				    .level = on_level,
				    .stack = on_stack,
				    .opaque = c};
}

/* /proc/PID/cmdline as one line; arguments that need it are quoted. */
static const char *command_line(struct run *run, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *raw = NULL;
	g_autoptr(GString) line = g_string_new(NULL);
	gsize size;

	if (!g_file_get_contents(path, &raw, &size, NULL))
		return "";
	for (const char *arg = raw; arg < raw + size; arg += strlen(arg) + 1) {
		g_autofree char *quoted = g_shell_quote(arg);
		bool plain = *arg && !arg[strspn(arg, "abcdefghijklmnopqrstuvwxyz"
						      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						      "0123456789_-+=.,:/@%")];

		g_string_append_printf(line, "%s%s", line->len ? " " : "", plain ? arg : quoted);
	}
	return run_string(run, line->str);
}

static const char *cpu_model(struct run *run)
{
	const char *name = "";
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && !*name && fgets(line, sizeof(line), f))
		if (g_str_has_prefix(line, "model name") && strchr(line, ':'))
			name = run_string(run, g_strstrip(strchr(line, ':') + 1));
	if (f)
		fclose(f);
	return name;
}

static const char *binary_path(struct run *run, const struct seam_map *map)
{
	g_autofree char *real = g_file_read_link(seam_map_path(map), NULL);

	return run_string(run, real ? real : seam_map_path(map));
}

static void read_leader_comm(struct recording *r, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/comm", pid), *comm = NULL;

	if (g_file_get_contents(path, &comm, NULL, NULL))
		g_strlcpy(r->leader_comm, g_strstrip(comm), sizeof(r->leader_comm));
}

void collector_begin(struct collector *c, int target)
{
	const struct seam_map *map = tracer_map(c->tracer, target);
	struct recording *r = &c->recordings[target];
	struct utsname uts;
	struct run *run;
	uint64_t end_ns;

	forget(r);
	run = r->run = run_new();
	r->holds = g_array_new(FALSE, FALSE, sizeof(struct abi_hold));
	r->threads = g_hash_table_new(NULL, NULL);
	r->stacks = g_hash_table_new_full(hold_stack_hash, hold_stack_equal, NULL, g_free);
	run->label = run_string(run, c->label);
	run->source = "ebpf";
	run->tool = BQLSTAT_VERSION;
	tracer_span(c->tracer, target, &run->begin_ns, &end_ns);
	run->begin_unix_ns = g_get_real_time() * 1000 - (int64_t)(end_ns - run->begin_ns);
	run->pid = tracer_pid(c->tracer, target);
	run->qemu_version = run_string(run, seam_map_version(map));
	run->qemu_generation = run_string(run, seam_map_generation(map));
	run->qemu_build_id = run_string(run, seam_map_build_id(map));
	run->qemu_path = binary_path(run, map);
	run->qemu_cmdline = command_line(run, run->pid);
	if (!uname(&uts)) {
		g_autofree char *kernel = g_strdup_printf("%s %s", uts.sysname, uts.release);

		run->kernel = run_string(run, kernel);
	}
	run->cpu = cpu_model(run);
	run->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	run->threshold_ns = c->threshold_ns;
	read_leader_comm(r, run->pid);
	/* Now: the last stacks of a QEMU are unwound when it has left. */
	if (tracer_takes_stacks(c->tracer))
		r->unwinder = unwinder_new(run->pid);
}

static unsigned thread_for(struct recording *r, uint32_t index, const struct abi_thread *t)
{
	unsigned known = GPOINTER_TO_UINT(g_hash_table_lookup(r->threads, GUINT_TO_POINTER(index)));
	struct thread thread = {.tid = t->tid};
	char comm[ABI_COMM + 1] = "";

	if (known)
		return known - 1;
	memcpy(comm, t->comm, ABI_COMM);
	thread.comm = run_string(r->run, comm);
	thread.role = role_of(t->tid == t->tgid, comm, r->leader_comm, &thread.number);
	g_array_append_val(r->run->threads, thread);
	g_hash_table_insert(r->threads, GUINT_TO_POINTER(index),
			    GUINT_TO_POINTER(r->run->threads->len));
	return r->run->threads->len - 1;
}

/* A thread that may never have taken the lock. False: its name is not known. */
static bool thread_of_waker(struct collector *c, struct recording *r, int target, uint32_t tid,
			    unsigned *index)
{
	struct thread thread = {.tid = tid};
	char comm[ABI_COMM + 1] = "";
	struct abi_waker waker;

	for (*index = 0; *index < r->run->threads->len; ++*index)
		if (g_array_index(r->run->threads, struct thread, *index).tid == tid)
			return true;
	if (!tracer_waker(c->tracer, target, tid, &waker))
		return false;
	memcpy(comm, waker.comm, ABI_COMM);
	thread.comm = run_string(r->run, comm);
	thread.role = role_of(tid == waker.tgid, comm, r->leader_comm, &thread.number);
	g_array_append_val(r->run->threads, thread);
	return true;
}

/* What a snapshot is being put into. */
struct update {
	struct collector *c;
	struct recording *r;
	int target;
	GHashTable *usages; /* struct abi_site * -> index in run->usages */
};

static int by_time(const void *a, const void *b)
{
	const struct blocking *x = a, *y = b;

	return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : 0;
}

/* Of one cause together, whoever woke it. */
static void add_hold_block(struct hold *out, const struct abi_block *block)
{
	for (unsigned i = 0; block->count && i < ABI_CAUSES; i++) {
		struct blocking *b = &out->blocked[i];

		if (b->count && b->cause != block->cause)
			continue;
		b->cause = block->cause;
		b->count += block->count;
		b->ns += block->ns;
		return;
	}
}

static void add_hold(struct update *u, const struct abi_hold *h, bool unfinished)
{
	const struct abi_site *site = tracer_site(u->c->tracer, h->site);
	const struct abi_thread *thread = tracer_thread(u->c->tracer, h->thread);
	const struct abi_phase *phases[] = {&h->at_begin, &h->at_end, &h->at_longest};
	struct run *run = u->r->run;
	struct hold out = {
		.begin_ns = h->begin_ns,
		.hold_ns = h->hold_ns,
		.wait_ns = h->wait_ns == ABI_UNKNOWN ? UNKNOWN_NS : h->wait_ns,
		.unfinished = unfinished,
		.runnable_ns = h->runnable_ns,
		.longest_ns = h->longest_ns,
		.longest_cause = h->longest_cause,
	};
	struct phase_at *into[] = {&out.at_begin, &out.at_end, &out.at_longest};
	const struct hold_stack key = {.begin_ns = h->begin_ns, .thread = h->thread}, *stack;
	unsigned waker;

	if (!site || !thread)
		return;
	stack = g_hash_table_lookup(u->r->stacks, &key);
	if (stack) {
		out.stack = stack->stack + 1;
		out.taken = stack->taken;
	}
	if (h->longest_waker && thread_of_waker(u->c, u->r, u->target, h->longest_waker, &waker))
		out.longest_waker = waker + 1;
	out.site = run_site(run, tracer_site_file(u->c->tracer, h->site), site->line, site->cond);
	out.thread = thread_for(u->r, h->thread, thread);
	for (unsigned i = 0; i < ABI_CAUSES; i++)
		add_hold_block(&out, &h->blocked[i]);
	qsort(out.blocked, ABI_CAUSES, sizeof(*out.blocked), by_time);
	for (unsigned i = 0; i < G_N_ELEMENTS(into); i++) {
		bool known = i != 2 || h->longest_ns;

		into[i]->phase = known ? (enum phase)phases[i]->kind : PHASE_NONE;
		into[i]->device = "";
		if (known && phases[i]->kind == ABI_PHASE_DEVICE)
			into[i]->device =
				run_string(run, tracer_device(u->c->tracer, u->target, phases[i]));
	}
	g_array_append_val(run->holds, out);
}

static bool is_known(const struct update *u, const struct abi_hold *hold)
{
	for (unsigned i = 0; i < u->r->holds->len; i++) {
		const struct abi_hold *h = &g_array_index(u->r->holds, struct abi_hold, i);

		if (h->begin_ns == hold->begin_ns && h->thread == hold->thread)
			return true;
	}
	return false;
}

static void add_site(void *opaque, const struct abi_site *s, const char *file,
		     const struct abi_thread *thread)
{
	struct update *up = opaque;
	struct usage *u = run_add_usage(up->r->run, run_site(up->r->run, file, s->line, s->cond),
					thread_for(up->r, s->thread, thread));

	g_hash_table_insert(up->usages, (void *)s, GUINT_TO_POINTER(up->r->run->usages->len - 1));
	u->record = s - tracer_site(up->c->tracer, 0);
	u->acquired = s->acquired;
	u->wait.count = s->waits;
	u->wait.sum_ns = s->wait_sum_ns;
	u->wait.max_ns = s->wait_max_ns;
	u->wait_max_at_ns = s->wait_max_at_ns;
	u->hold.count = s->holds;
	u->hold.sum_ns = s->hold_sum_ns;
	u->hold.max_ns = s->worst.hold_ns;
	u->hold_max_at_ns = s->worst.begin_ns;
	u->runnable_ns = s->runnable_ns;
	memcpy(u->wait.bucket, s->wait, sizeof(s->wait));
	memcpy(u->hold.bucket, s->hold, sizeof(s->hold));
	/* The longest of each is kept in the kernel, so it is here even when its event was lost. */
	if (s->worst.hold_ns && !is_known(up, &s->worst))
		add_hold(up, &s->worst, false);
}

static void add_waking(struct update *u, unsigned usage, uint32_t tid,
		       const struct abi_blocked *sum)
{
	struct waking w = {
		.usage = usage, .count = sum->count, .ns = sum->ns, .max_ns = sum->max_ns};

	if (tid && thread_of_waker(u->c, u->r, u->target, tid, &w.waker))
		g_array_append_val(u->r->run->wakings, w);
}

static void add_blocked(void *opaque, const struct abi_site *site,
			const struct abi_blocked_key *key, const struct abi_blocked *sum)
{
	struct update *u = opaque;
	struct blocking b = {
		.cause = key->cause, .count = sum->count, .ns = sum->ns, .max_ns = sum->max_ns};
	GArray *causes;
	gpointer index;

	if (!g_hash_table_lookup_extended(u->usages, site, NULL, &index))
		return;
	add_waking(u, GPOINTER_TO_UINT(index), key->waker, sum);
	causes = g_array_index(u->r->run->usages, struct usage, GPOINTER_TO_UINT(index)).blocking;
	for (unsigned i = 0; i < causes->len; i++) {
		struct blocking *have = &g_array_index(causes, struct blocking, i);

		if (have->cause != b.cause)
			continue;
		have->count += b.count;
		have->ns += b.ns;
		have->max_ns = MAX(have->max_ns, b.max_ns);
		return;
	}
	g_array_append_val(causes, b);
}

static void add_charge(void *opaque, uint32_t holder, const struct abi_site *victim,
		       const struct abi_charge *sum)
{
	struct update *u = opaque;
	struct charge c = {.count = sum->count, .ns = sum->ns, .max_ns = sum->max_ns};
	const struct abi_site *site = tracer_site(u->c->tracer, holder);
	gpointer index;

	if (!g_hash_table_lookup_extended(u->usages, victim, NULL, &index))
		return;
	c.victim = GPOINTER_TO_UINT(index);
	if (holder == ABI_HOLDER_NOBODY)
		c.holder = HOLDER_NOBODY;
	else if (holder == ABI_HOLDER_EARLIER)
		c.holder = HOLDER_EARLIER;
	else if (site && g_hash_table_lookup_extended(u->usages, site, NULL, &index))
		c.holder = GPOINTER_TO_INT(index);
	else
		return;
	g_array_append_val(u->r->run->charges, c);
}

static void add_points(struct update *u)
{
	const struct tracer_point *points;
	size_t count = tracer_points(u->c->tracer, u->target, &points);
	struct run *run = u->r->run;

	for (size_t i = 0; i < count; i++) {
		struct point p = {
			.kind = seam_point_kind_name(points[i].kind),
			.vaddr = points[i].vaddr,
			.insn = run_string(run, points[i].insn),
			.emulated = points[i].emulated,
			.attached = points[i].attached,
			.shared = points[i].shared,
			.hit = points[i].hit,
			.refusal = run_string(run, points[i].refusal),
		};

		g_array_append_val(run->points, p);
	}
}

static void add_lost(struct update *u)
{
	uint64_t counts[ABI_LOST_KINDS];
	struct lost l;

	tracer_lost(u->c->tracer, u->target, counts);
	counts[ABI_LOST_STACKS] += u->r->stacks_dropped;
	for (int i = 0; i < ABI_LOST_KINDS; i++) {
		l = (struct lost){.what = lost_name(i), .count = counts[i]};
		g_array_append_val(u->r->run->lost, l);
	}
	l = (struct lost){.what = "holds_thinned", .count = u->r->holds_dropped};
	g_array_append_val(u->r->run->lost, l);
	l = (struct lost){.what = "marks_thinned", .count = u->r->marks_dropped};
	g_array_append_val(u->r->run->lost, l);
}

static void add_coverage(struct update *u)
{
	struct tracer_coverage c;

	tracer_coverage(u->c->tracer, u->target, &c);
	if (!u->r->run->thinnings->len)
		return;
	run_set_metric(u->r->run, "covered_ns", c.covered_ns);
	run_set_metric(u->r->run, "covered_waits_ns", c.waits_ns);
}

static void add_source(struct update *u)
{
	uint64_t downtime_ns, save_ns;

	if (!tracer_source(u->c->tracer, u->target, &downtime_ns, &save_ns))
		return;
	run_set_metric(u->r->run, "source_save_ns", save_ns);
	if (downtime_ns)
		run_set_metric(u->r->run, "source_downtime_ns", downtime_ns);
}

static void add_unfinished(struct update *u, uint64_t now_ns)
{
	struct tracer_owner owner;
	struct abi_hold hold = {.wait_ns = ABI_UNKNOWN};

	if (!tracer_owner(u->c->tracer, u->target, &owner) || owner.since_ns >= now_ns)
		return;
	hold.begin_ns = owner.since_ns;
	hold.hold_ns = now_ns - owner.since_ns;
	hold.slot = u->target;
	hold.site = owner.site_index;
	hold.thread = owner.site->thread;
	tracer_phase(u->c->tracer, u->target, &hold.at_end);
	add_hold(u, &hold, true);
}

struct run *collector_update(struct collector *c, int target)
{
	struct recording *r = &c->recordings[target];
	struct update u = {
		.c = c, .r = r, .target = target, .usages = g_hash_table_new(NULL, NULL)};
	struct run *run = r->run;
	const struct tracer_cost *cost = tracer_cost(c->tracer);
	uint64_t end_ns;

	g_array_set_size(run->threads, 0);
	g_array_set_size(run->sites, 0);
	g_array_set_size(run->usages, 0);
	g_array_set_size(run->holds, 0);
	g_array_set_size(run->wakings, 0);
	g_array_set_size(run->charges, 0);
	g_array_set_size(run->points, 0);
	g_array_set_size(run->lost, 0);
	g_hash_table_remove_all(r->threads);

	tracer_span(c->tracer, target, &run->begin_ns, &end_ns);
	run->duration_ns = end_ns - run->begin_ns;
	run->calibrated = cost->measured;
	run->hold_bias_ns = cost->hold_bias_ns;
	run->wait_bias_ns = cost->wait_bias_ns;
	run->pair_ns = cost->pair_ns;
	tracer_snapshot(c->tracer, target, add_site, &u);
	tracer_blocked(c->tracer, target, add_blocked, &u);
	tracer_charges(c->tracer, target, add_charge, &u);
	for (unsigned i = 0; i < r->holds->len; i++)
		add_hold(&u, &g_array_index(r->holds, struct abi_hold, i), false);
	add_unfinished(&u, end_ns);
	add_points(&u);
	add_lost(&u);
	add_coverage(&u);
	add_source(&u);
	run_guess_roles(run);
	g_hash_table_unref(u.usages);
	return run;
}

void collector_forget(struct collector *c, int target)
{
	forget(&c->recordings[target]);
	tracer_forget(c->tracer, target);
}

const struct run *collector_run(const struct collector *c, int target)
{
	return c->recordings[target].run;
}

struct run *collector_end(struct collector *c, int target, const char *why)
{
	struct run *run;

	tracer_remove(c->tracer, target);
	run = collector_update(c, target);
	g_clear_pointer(&c->recordings[target].unwinder, unwinder_free);
	run->ended = run_string(run, why);
	return run;
}

struct run *collector_take(struct collector *c, int target, const char *why)
{
	struct run *run = collector_end(c, target, why);

	c->recordings[target].run = NULL;
	collector_forget(c, target);
	return run;
}
