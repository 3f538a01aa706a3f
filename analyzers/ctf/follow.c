/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From events to the model: each thread's asking, acquiring and releasing, what it waited for
 * meanwhile, and the phases of an incoming migration.
 */
#include <string.h>
#include <sys/syscall.h>

#include "analyzers/ctf/charge.h"
#include "analyzers/ctf/ctf.h"

#define THRESHOLD_NS 1000000 /* as `bqlstat record` has it */
#define HOLDS_KEPT   10000
#define MARKS_KEPT   100000

enum loss {
	LOSS_DISCARDED,
	LOSS_NO_ASK,
	LOSS_NO_ACQUIRE,
	LOSS_NO_RELEASE,
	LOSS_HOLDS_THINNED,
	LOSS_MARKS_THINNED,
	LOSSES
};

static const char *const losses[LOSSES] = {
	[LOSS_DISCARDED] = "events_discarded",	[LOSS_NO_ASK] = "no_ask",
	[LOSS_NO_ACQUIRE] = "no_acquire",	[LOSS_NO_RELEASE] = "no_release",
	[LOSS_HOLDS_THINNED] = "holds_thinned", [LOSS_MARKS_THINNED] = "marks_thinned",
};

/* One thread. */
struct actor {
	unsigned thread;
	enum { IDLE, ASKED, HOLDS } does;
	uint64_t ask_ns;
	unsigned usage; /* of the current hold */
	struct hold cur;
	uint64_t block_ns; /* since when it waits for bytes with the lock in hand; 0: it does not */
	int block_cause;
};

struct usage_key {
	const char *file; /* the run's: one string, one address */
	unsigned line, thread;
	bool cond;
};

struct process {
	unsigned pid;
	struct run *run;
	GHashTable *actors; /* tid -> struct actor */
	GHashTable *usages; /* struct usage_key -> index + 1 */
	struct charges *charges;
	GArray *longest; /* struct hold, one a usage; hold_ns 0: none yet */
	uint64_t last_ns, events;
	enum phase base;
	const char *device; /* NULL: not in a device's state */
	uint64_t lost[LOSSES];
};

struct follower {
	GHashTable *processes; /* pid -> struct process */
	GPtrArray *order;      /* the same, as they came */
	const struct ctf_sink *sink;
	int64_t only; /* the id of the run whose holds go there */
	uint64_t discarded;
	struct process *last; /* whose event came last */
};

/* ---- who and where ---- */

static guint usage_hash(gconstpointer opaque)
{
	const struct usage_key *k = opaque;

	return g_direct_hash(k->file) * 31 + k->line * 7 + k->thread * 1031 + k->cond;
}

static gboolean usage_equal(gconstpointer a, gconstpointer b)
{
	const struct usage_key *x = a, *y = b;

	return x->file == y->file && x->line == y->line && x->thread == y->thread &&
	       x->cond == y->cond;
}

static void process_free(void *opaque)
{
	struct process *p = opaque;

	run_free(p->run);
	g_hash_table_unref(p->actors);
	g_hash_table_unref(p->usages);
	g_array_unref(p->longest);
	charges_free(p->charges);
	g_free(p);
}

static struct process *process_new(struct follower *f, const struct ctf_event *e)
{
	struct process *p = g_new0(struct process, 1);

	p->pid = e->pid;
	p->run = run_new();
	p->actors = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	p->usages = g_hash_table_new_full(usage_hash, usage_equal, g_free, NULL);
	p->charges = charges_new();
	p->longest = g_array_new(FALSE, TRUE, sizeof(struct hold));
	p->run->id = f->order->len + 1;
	p->run->source = "lttng";
	p->run->tool = BQLSTAT_VERSION;
	p->run->pid = e->pid;
	p->run->qemu_version = p->run->qemu_generation = "unknown";
	p->run->begin_ns = e->at_ns;
	p->run->begin_unix_ns = (int64_t)e->at_ns + e->epoch_ns;
	p->run->threshold_ns = THRESHOLD_NS;
	g_ptr_array_add(f->order, p);
	g_hash_table_insert(f->processes, GUINT_TO_POINTER(e->pid), p);
	return p;
}

static struct process *process_of(struct follower *f, const struct ctf_event *e)
{
	if (!f->last || f->last->pid != e->pid)
		f->last = g_hash_table_lookup(f->processes, GUINT_TO_POINTER(e->pid));
	if (!f->last)
		f->last = process_new(f, e);
	return f->last;
}

static struct thread *thread_of(struct process *p, const struct actor *a)
{
	return &g_array_index(p->run->threads, struct thread, a->thread);
}

static struct actor *actor_of(struct process *p, const struct ctf_event *e)
{
	struct actor *a = g_hash_table_lookup(p->actors, GUINT_TO_POINTER(e->tid));
	struct thread t = {.tid = e->tid, .comm = "", .role = ROLE_OTHER, .number = -1};

	if (a)
		return a;
	a = g_new0(struct actor, 1);
	a->thread = p->run->threads->len;
	t.comm = run_string(p->run, e->comm);
	g_array_append_val(p->run->threads, t);
	g_hash_table_insert(p->actors, GUINT_TO_POINTER(e->tid), a);
	return a;
}

static unsigned usage_of(struct process *p, unsigned thread, const char *file, unsigned line,
			 bool cond)
{
	struct usage_key key = {run_string(p->run, file), line, thread, cond};
	unsigned known = GPOINTER_TO_UINT(g_hash_table_lookup(p->usages, &key));

	if (known)
		return known - 1;
	run_add_usage(p->run, run_site(p->run, file, line, cond), thread);
	g_array_set_size(p->longest, p->run->usages->len);
	g_hash_table_insert(p->usages, g_memdup2(&key, sizeof(key)),
			    GUINT_TO_POINTER(p->run->usages->len));
	return p->run->usages->len - 1;
}

/* ---- phases ---- */

static struct phase_at phase_now(const struct process *p)
{
	if (p->device)
		return (struct phase_at){PHASE_DEVICE, p->device};
	return (struct phase_at){p->base, ""};
}

/* As the kernel side has it: postcopy's RAM goes on while the rest of the load happens. */
static enum phase base_after(enum phase base, enum trace_id id)
{
	switch (id) {
	case TRACE_ID_incoming_begin:
		return PHASE_SETUP;
	case TRACE_ID_ram_begin:
		if (base == PHASE_START)
			return PHASE_POSTCOPY;
		return base <= PHASE_SETUP ? PHASE_RAM : base;
	case TRACE_ID_activate_begin:
		return base == PHASE_NONE ? base : PHASE_ACTIVATE;
	case TRACE_ID_vm_start_begin:
		return base == PHASE_NONE ? base : PHASE_START;
	case TRACE_ID_incoming_destroyed:
		return PHASE_NONE;
	default:
		return base;
	}
}

static void follow_phase(struct process *p, const struct ctf_event *e)
{
	struct phase_at before = phase_now(p), now;
	struct mark m = {.at_ns = e->at_ns};

	p->base = base_after(p->base, e->id);
	if (e->id == TRACE_ID_vmsd_begin)
		p->device = run_string(p->run, e->field[0].s);
	else if (e->id == TRACE_ID_vmsd_end || e->id == TRACE_ID_incoming_destroyed)
		p->device = NULL;
	now = phase_now(p);
	if (now.phase == before.phase && now.device == before.device)
		return;
	m.in = now;
	if (p->run->marks->len < MARKS_KEPT)
		g_array_append_val(p->run->marks, m);
	else
		p->lost[LOSS_MARKS_THINNED]++;
}

/* ---- holds ---- */

static void block_begins(struct actor *a, const struct ctf_event *e)
{
	/* A channel polls; whoever waits for multifd's threads sleeps on a semaphore. */
	if (a->does != HOLDS || strcmp(e->field[2].s, "held"))
		return;
	a->block_ns = e->at_ns;
	a->block_cause = strcmp(e->field[0].s, "multifd") ? SYS_poll : SYS_futex;
}

static void block_ends(struct process *p, struct actor *a, uint64_t at_ns)
{
	uint64_t ns = at_ns - a->block_ns;

	if (!a->block_ns)
		return;
	a->block_ns = 0;
	for (unsigned i = 0; i < ABI_CAUSES; i++) {
		struct blocking *b = &a->cur.blocked[i];

		if (b->count && b->cause != a->block_cause)
			continue;
		b->cause = a->block_cause;
		b->count++;
		b->ns += ns;
		break;
	}
	if (ns <= a->cur.longest_ns)
		return;
	a->cur.longest_ns = ns;
	a->cur.longest_cause = a->block_cause;
	a->cur.at_longest = phase_now(p);
}

static uint64_t weight(const struct hold *h)
{
	return h->wait_ns == UNKNOWN_NS ? h->hold_ns : MAX(h->hold_ns, h->wait_ns);
}

static gint by_weight(gconstpointer a, gconstpointer b)
{
	uint64_t x = weight(a), y = weight(b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static void keep_hold(struct process *p, const struct hold *h)
{
	GArray *holds = p->run->holds;

	g_array_append_vals(holds, h, 1);
	if (holds->len < 2 * HOLDS_KEPT)
		return;
	g_array_sort(holds, by_weight);
	p->lost[LOSS_HOLDS_THINNED] += holds->len - HOLDS_KEPT;
	g_array_set_size(holds, HOLDS_KEPT);
}

static void add_blocking(struct usage *u, const struct blocking *from)
{
	for (unsigned i = 0; i < u->blocking->len; i++) {
		struct blocking *b = &g_array_index(u->blocking, struct blocking, i);

		if (b->cause != from->cause)
			continue;
		b->count += from->count;
		b->ns += from->ns;
		b->max_ns = MAX(b->max_ns, from->ns);
		return;
	}
	g_array_append_vals(u->blocking, from, 1);
	g_array_index(u->blocking, struct blocking, u->blocking->len - 1).max_ns = from->ns;
}

static void add_wait(struct process *p, struct actor *a)
{
	struct usage *u = &g_array_index(p->run->usages, struct usage, a->usage);

	if (a->cur.wait_ns == UNKNOWN_NS)
		return;
	if (a->cur.wait_ns > u->wait.max_ns || !u->wait.count)
		u->wait_max_at_ns = a->cur.begin_ns - a->cur.wait_ns;
	histogram_add(&u->wait, a->cur.wait_ns);
	charges_wait(p->charges, a->usage, a->cur.begin_ns, a->cur.wait_ns);
}

/* `wait_ns`: as its event says it, negative when it does not. */
static void acquire(struct process *p, struct actor *a, const struct ctf_event *e,
		    uint64_t begin_ns, int64_t wait_ns)
{
	bool cond = e->field[2].u;

	a->usage = usage_of(p, a->thread, e->field[0].s, e->field[1].u, cond);
	g_array_index(p->run->usages, struct usage, a->usage).acquired++;
	a->cur = (struct hold){
		.begin_ns = begin_ns,
		.wait_ns = wait_ns < 0 ? UNKNOWN_NS : (uint64_t)wait_ns,
		.site = g_array_index(p->run->usages, struct usage, a->usage).site,
		.thread = a->thread,
		.at_begin = phase_now(p),
		.at_longest = {PHASE_NONE, ""},
	};
	a->does = HOLDS;
	a->block_ns = 0;
	add_wait(p, a);
}

static void on_acquired(struct process *p, struct actor *a, const struct ctf_event *e)
{
	int64_t wait_ns = e->field[3].i;

	if (a->does == HOLDS)
		p->lost[LOSS_NO_RELEASE]++;
	if (a->does == ASKED && !e->field[2].u)
		wait_ns = e->at_ns - a->ask_ns;
	else if (!e->field[2].u && wait_ns < 0)
		p->lost[LOSS_NO_ASK]++;
	acquire(p, a, e, e->at_ns, wait_ns);
}

static void release(struct follower *f, struct process *p, struct actor *a, uint64_t at_ns)
{
	struct usage *u = &g_array_index(p->run->usages, struct usage, a->usage);
	struct hold *longest = &g_array_index(p->longest, struct hold, a->usage);
	struct hold *h = &a->cur;

	block_ends(p, a, at_ns);
	h->hold_ns = at_ns - h->begin_ns;
	h->at_end = phase_now(p);
	histogram_add(&u->hold, h->hold_ns);
	charges_hold(p->charges, a->usage, h->begin_ns, at_ns);
	for (unsigned i = 0; i < ABI_CAUSES; i++)
		if (h->blocked[i].count)
			add_blocking(u, &h->blocked[i]);
	if (h->hold_ns > longest->hold_ns || u->hold.count == 1) {
		u->hold_max_at_ns = h->begin_ns;
		*longest = *h;
	}
	if (weight(h) >= THRESHOLD_NS)
		keep_hold(p, h);
	if (f->sink && p->run->id == f->only)
		f->sink->hold(f->sink->opaque, h);
	a->does = IDLE;
}

static void on_released(struct follower *f, struct process *p, struct actor *a,
			const struct ctf_event *e)
{
	int64_t hold_ns = e->field[3].i;

	if (a->does != HOLDS) {
		/* Its acquisition was discarded; or it acquired before the trace began. */
		if (hold_ns < 0 || e->at_ns - hold_ns < p->run->begin_ns) {
			p->lost[LOSS_NO_ACQUIRE]++;
			a->does = IDLE;
			return;
		}
		acquire(p, a, e, e->at_ns - hold_ns, -1);
	}
	release(f, p, a, e->at_ns);
}

static void on_ask(struct process *p, struct actor *a, const struct ctf_event *e)
{
	if (a->does == HOLDS)
		p->lost[LOSS_NO_RELEASE]++;
	a->does = ASKED;
	a->ask_ns = e->at_ns;
}

/* ---- names ---- */

/* The name in the kernel says who it is, once the thread has one of its own. */
static void follow_name(struct process *p, const struct actor *a, const struct ctf_event *e)
{
	struct thread *t = thread_of(p, a);

	if (e->id == TRACE_ID_thread_begin)
		t->comm = run_string(p->run, e->field[0].s);
	else if (*e->comm && !*t->comm)
		t->comm = run_string(p->run, e->comm);
}

static void on_runtime(struct process *p, const struct ctf_event *e)
{
	p->run->qemu_version = run_string(p->run, e->field[1].s);
	p->run->qemu_build_id = run_string(p->run, e->field[2].s);
	p->run->label = run_string(p->run, e->field[3].s);
}

static void on_event(void *opaque, const struct ctf_event *e)
{
	struct follower *f = opaque;
	struct process *p = process_of(f, e);
	struct actor *a = actor_of(p, e);

	p->events++;
	p->last_ns = e->at_ns;
	follow_name(p, a, e);
	switch (e->id) {
	case TRACE_ID_lock_ask:
		on_ask(p, a, e);
		break;
	case TRACE_ID_lock_acquired:
		on_acquired(p, a, e);
		break;
	case TRACE_ID_lock_released:
		on_released(f, p, a, e);
		break;
	case TRACE_ID_io_wait_begin:
		block_begins(a, e);
		break;
	case TRACE_ID_io_wait_end:
		block_ends(p, a, e->at_ns);
		break;
	case TRACE_ID_runtime:
		on_runtime(p, e);
		break;
	case TRACE_ID_policy:
		/* The control file may have changed what it was started with. */
		p->run->label = run_string(p->run, e->field[0].s);
		break;
	case TRACE_ID_fallback:
		p->run->label = "stock";
		break;
	default:
		follow_phase(p, e);
	}
}

static void on_discarded(void *opaque, uint64_t begin_ns, uint64_t end_ns, uint64_t count)
{
	struct follower *f = opaque;

	f->discarded += count ? count : 1;
	if (f->sink && f->sink->gap)
		f->sink->gap(f->sink->opaque, begin_ns, end_ns, count);
}

/* ---- the end ---- */

/* The longest of each usage, unless it is there as one of the long ones. */
static void keep_longest(struct process *p)
{
	for (unsigned i = 0; i < p->longest->len; i++) {
		const struct hold *h = &g_array_index(p->longest, struct hold, i);
		bool there = weight(h) >= THRESHOLD_NS && !p->lost[LOSS_HOLDS_THINNED];

		for (unsigned n = 0; n < p->run->holds->len && !there; n++) {
			const struct hold *o = &g_array_index(p->run->holds, struct hold, n);

			there = o->begin_ns == h->begin_ns && o->thread == h->thread;
		}
		if (h->hold_ns && !there)
			g_array_append_vals(p->run->holds, h, 1);
	}
}

static void end_unfinished(struct follower *f, struct process *p)
{
	GHashTableIter iter;
	void *opaque;

	g_hash_table_iter_init(&iter, p->actors);
	while (g_hash_table_iter_next(&iter, NULL, &opaque)) {
		struct actor *a = opaque;

		if (a->does != HOLDS || p->last_ns <= a->cur.begin_ns)
			continue;
		block_ends(p, a, p->last_ns);
		a->cur.hold_ns = p->last_ns - a->cur.begin_ns;
		a->cur.unfinished = true;
		a->cur.at_end = phase_now(p);
		g_array_append_vals(p->run->holds, &a->cur, 1);
		if (f->sink && p->run->id == f->only)
			f->sink->hold(f->sink->opaque, &a->cur);
	}
}

static void name_roles(struct process *p)
{
	const char *leader = "";

	for (unsigned i = 0; i < p->run->threads->len; i++) {
		const struct thread *t = &g_array_index(p->run->threads, struct thread, i);

		if (t->tid == p->pid)
			leader = t->comm;
	}
	for (unsigned i = 0; i < p->run->threads->len; i++) {
		struct thread *t = &g_array_index(p->run->threads, struct thread, i);

		t->role = role_of(t->tid == p->pid, t->comm, leader, &t->number);
	}
	run_guess_roles(p->run);
}

static void end_process(struct follower *f, struct process *p, const struct ctf_tally *tally)
{
	g_autofree char *damaged =
		g_strdup_printf("as far as the trace can be read: %s", tally->damage);

	keep_longest(p);
	end_unfinished(f, p);
	name_roles(p);
	charges_put(p->charges, p->run);
	p->run->duration_ns = p->last_ns - p->run->begin_ns;
	p->run->ended = *tally->damage ? run_string(p->run, damaged) : "to the end of the trace";
	p->lost[LOSS_DISCARDED] = f->discarded;
	for (unsigned i = 0; i < LOSSES; i++) {
		struct lost l = {.what = losses[i], .count = p->lost[i]};

		g_array_append_val(p->run->lost, l);
	}
	run_set_metric(p->run, "trace_events", p->events);
}

static int follow(struct follower *f, const char *path, struct ctf_tally *tally,
		  struct store_error *err)
{
	const struct ctf_reader reader = {on_event, on_discarded, f};
	int ret;

	f->processes = g_hash_table_new(NULL, NULL);
	f->order = g_ptr_array_new_with_free_func(process_free);
	ret = ctf_read_events(path, &reader, tally, err);
	for (unsigned i = 0; i < f->order->len && !ret; i++)
		end_process(f, f->order->pdata[i], tally);
	return ret;
}

static void unfollow(struct follower *f)
{
	g_ptr_array_unref(f->order);
	g_hash_table_unref(f->processes);
}

static void free_run(void *run)
{
	run_free(run);
}

int ctf_load(const char *path, GPtrArray **runs, struct ctf_tally *tally, struct store_error *err)
{
	struct follower f = {};
	int ret = follow(&f, path, tally, err);

	*runs = NULL;
	if (!ret) {
		*runs = g_ptr_array_new_with_free_func(free_run);
		for (unsigned i = 0; i < f.order->len; i++) {
			struct process *p = f.order->pdata[i];

			g_ptr_array_add(*runs, g_steal_pointer(&p->run));
		}
	}
	unfollow(&f);
	return ret;
}

int ctf_holds(const char *path, int64_t id, const struct ctf_sink *sink, struct store_error *err)
{
	struct follower f = {.sink = sink, .only = id};
	struct ctf_tally tally;
	int ret = follow(&f, path, &tally, err);

	unfollow(&f);
	return ret;
}
