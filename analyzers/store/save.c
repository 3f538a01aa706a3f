/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run into the file: all its rows anew, in one transaction.
 */
#include <errno.h>

#include "analyzers/store/internal.h"
#include "analyzers/store/schema.h"

/* One table: its statement and what goes into it. False: SQLite refused a row. */
struct table {
	const char *insert;
	bool (*save)(sqlite3_stmt *s, const struct run *run);
};

static bool save_threads(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->threads->len; i++) {
		const struct thread *t = &g_array_index(run->threads, struct thread, i);
		uint64_t number = t->number < 0 ? UNKNOWN_NS : (uint64_t)t->number;

		if (store_step(s, "iuussn", run->id, i, t->tid, t->comm, role_name(t->role),
			       number) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_sites(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->sites->len; i++) {
		const struct site *site = &g_array_index(run->sites, struct site, i);

		if (store_step(s, "iusuu", run->id, i, site->file, site->line,
			       (unsigned)site->cond) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_usages(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (store_step(s, "iuuuiiiiiiiiii", run->id, i, u->site, u->thread, u->acquired,
			       u->wait.count, u->wait.sum_ns, u->wait.max_ns, u->wait_max_at_ns,
			       u->hold.count, u->hold.sum_ns, u->hold.max_ns, u->hold_max_at_ns,
			       u->runnable_ns) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_histogram(sqlite3_stmt *s, const struct run *run, unsigned usage, const char *what,
			   const struct histogram *h)
{
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		if (h->bucket[b] && store_step(s, "iusii", run->id, usage, what, abi_bucket_low(b),
					       h->bucket[b]) != SQLITE_DONE)
			return false;
	return true;
}

static bool save_histograms(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (!save_histogram(s, run, i, "wait", &u->wait) ||
		    !save_histogram(s, run, i, "hold", &u->hold))
			return false;
	}
	return true;
}

static bool save_blocking(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->usages->len; i++) {
		const GArray *causes = g_array_index(run->usages, struct usage, i).blocking;

		for (unsigned c = 0; c < causes->len; c++) {
			const struct blocking *b = &g_array_index(causes, struct blocking, c);

			if (store_step(s, "iuisiii", run->id, i, (int64_t)b->cause,
				       cause_text(b->cause), b->count, b->ns,
				       b->max_ns) != SQLITE_DONE)
				return false;
		}
	}
	return true;
}

static bool save_holds(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (store_step(
			    s, "iuiinuuuiiissssss", run->id, i, h->begin_ns, h->hold_ns, h->wait_ns,
			    h->site, h->thread, (unsigned)h->unfinished, h->runnable_ns,
			    h->longest_ns, (int64_t)h->longest_cause, phase_name(h->at_begin.phase),
			    h->at_begin.device, phase_name(h->at_end.phase), h->at_end.device,
			    phase_name(h->at_longest.phase), h->at_longest.device) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_hold_blocking(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		for (unsigned c = 0; c < G_N_ELEMENTS(h->blocked); c++) {
			const struct blocking *b = &h->blocked[c];

			if (b->count &&
			    store_step(s, "iuisii", run->id, i, (int64_t)b->cause,
				       cause_text(b->cause), b->count, b->ns) != SQLITE_DONE)
				return false;
		}
	}
	return true;
}

static bool save_marks(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->marks->len; i++) {
		const struct mark *m = &g_array_index(run->marks, struct mark, i);

		if (store_step(s, "iuiss", run->id, i, m->at_ns, phase_name(m->in.phase),
			       m->in.device) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_points(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->points->len; i++) {
		const struct point *p = &g_array_index(run->points, struct point, i);

		if (store_step(s, "iusisuuuus", run->id, i, p->kind, p->vaddr, p->insn,
			       (unsigned)p->emulated, (unsigned)p->attached, (unsigned)p->shared,
			       (unsigned)p->hit, p->refusal) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_lost(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->lost->len; i++) {
		const struct lost *l = &g_array_index(run->lost, struct lost, i);

		if (store_step(s, "isi", run->id, l->what, l->count) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_metrics(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->metrics->len; i++) {
		const struct metric *m = &g_array_index(run->metrics, struct metric, i);

		if (store_step(s, "isd", run->id, m->name, m->value) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_wakings(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->wakings->len; i++) {
		const struct waking *w = &g_array_index(run->wakings, struct waking, i);

		if (store_step(s, "iuuiii", run->id, w->usage, w->waker, w->count, w->ns,
			       w->max_ns) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_charges(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->charges->len; i++) {
		const struct charge *c = &g_array_index(run->charges, struct charge, i);

		if (store_step(s, "iiuiii", run->id, (int64_t)c->holder, c->victim, c->count, c->ns,
			       c->max_ns) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_frames(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->frames->len; i++) {
		const struct frame *f = &g_array_index(run->frames, struct frame, i);

		if (store_step(s, "iusisiu", run->id, i, f->module, f->address, f->symbol,
			       f->offset, (unsigned)f->inside) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_stacks(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->stacks->len; i++)
		if (store_step(s, "iuu", run->id, i,
			       (unsigned)g_array_index(run->stacks, struct stack, i).whole) !=
		    SQLITE_DONE)
			return false;
	return true;
}

static bool save_stack_frames(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->stacks->len; i++) {
		const GArray *frames = g_array_index(run->stacks, struct stack, i).frames;

		for (unsigned d = 0; d < frames->len; d++)
			if (store_step(s, "iuuu", run->id, i, d,
				       g_array_index(frames, unsigned, d)) != SQLITE_DONE)
				return false;
	}
	return true;
}

static bool save_hold_stacks(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->stack && store_step(s, "iuus", run->id, i, h->stack - 1,
					   taken_name(h->taken)) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_hold_wakers(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->longest_waker &&
		    store_step(s, "iuu", run->id, i, h->longest_waker - 1) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_thinnings(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->thinnings->len; i++) {
		const struct thinning *t = &g_array_index(run->thinnings, struct thinning, i);

		if (store_step(s, "iuisd", run->id, i, t->at_ns, t->level, t->cores) != SQLITE_DONE)
			return false;
	}
	return true;
}

static bool save_answers(sqlite3_stmt *s, const struct run *run)
{
	for (unsigned i = 0; i < run->answers->len; i++) {
		const struct answer *a = &g_array_index(run->answers, struct answer, i);

		if (store_step(s, "iuii", run->id, i, a->sent_at_ns, a->latency_ns) != SQLITE_DONE)
			return false;
	}
	return true;
}

static const struct table tables[] = {
	{"INSERT INTO thread VALUES (?,?,?,?,?,?)", save_threads},
	{"INSERT INTO site VALUES (?,?,?,?,?)", save_sites},
	{"INSERT INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", save_usages},
	{"INSERT INTO histogram VALUES (?,?,?,?,?)", save_histograms},
	{"INSERT INTO blocking VALUES (?,?,?,?,?,?,?)", save_blocking},
	{"INSERT INTO hold VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", save_holds},
	{"INSERT INTO hold_blocking VALUES (?,?,?,?,?,?)", save_hold_blocking},
	{"INSERT INTO phase VALUES (?,?,?,?,?)", save_marks},
	{"INSERT INTO point VALUES (?,?,?,?,?,?,?,?,?,?)", save_points},
	{"INSERT INTO lost VALUES (?,?,?)", save_lost},
	{"INSERT INTO metric VALUES (?,?,?)", save_metrics},
	{"INSERT INTO waking VALUES (?,?,?,?,?,?)", save_wakings},
	{"INSERT INTO charge VALUES (?,?,?,?,?,?)", save_charges},
	{"INSERT INTO frame VALUES (?,?,?,?,?,?,?)", save_frames},
	{"INSERT INTO stack VALUES (?,?,?)", save_stacks},
	{"INSERT INTO stack_frame VALUES (?,?,?,?)", save_stack_frames},
	{"INSERT INTO hold_stack VALUES (?,?,?,?)", save_hold_stacks},
	{"INSERT INTO hold_waker VALUES (?,?,?)", save_hold_wakers},
	{"INSERT INTO thinning VALUES (?,?,?,?,?)", save_thinnings},
	{"INSERT INTO answer VALUES (?,?,?,?)", save_answers},
};

static int save_run(struct store *store, struct run *run, struct store_error *err)
{
	sqlite3_stmt *s = store_prepare(
		store,
		"INSERT OR REPLACE INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		err);
	int ret;

	if (!s)
		return -EIO;
	/* The first save lets SQLite choose the number. */
	ret = store_step(s, "nsssiiisusssssssuiiiii", run->id ? (uint64_t)run->id : UNKNOWN_NS,
			 run->label, run->source, run->tool, run->begin_ns, run->begin_unix_ns,
			 run->duration_ns, run->ended, run->pid, run->qemu_version,
			 run->qemu_generation, run->qemu_build_id, run->qemu_path,
			 run->qemu_cmdline, run->kernel, run->cpu, run->cpus, run->threshold_ns,
			 (int64_t)run->calibrated, run->hold_bias_ns, run->wait_bias_ns,
			 run->pair_ns);
	ret = ret == SQLITE_DONE ? 0 : store_sqlite_failed(store, err);
	if (!ret && !run->id)
		run->id = sqlite3_last_insert_rowid(store->db);
	sqlite3_finalize(s);
	return ret;
}

static int forget(struct store *store, int64_t id, struct store_error *err)
{
	static const char *const names[] = {STORE_RUN_TABLES};
	int ret = 0;

	for (unsigned i = 0; i < G_N_ELEMENTS(names) && !ret; i++) {
		g_autofree char *sql = g_strdup_printf(
			"DELETE FROM %s WHERE run = %" G_GINT64_FORMAT, names[i], id);

		ret = store_exec(store, sql, err);
	}
	return ret;
}

int store_save(struct store *store, struct run *run, struct store_error *err)
{
	int64_t id_before = run->id;
	int ret = store_exec(store, "BEGIN IMMEDIATE", err);

	if (ret)
		return ret;
	if (run->id)
		ret = forget(store, run->id, err);
	if (!ret)
		ret = save_run(store, run, err);
	for (unsigned i = 0; i < G_N_ELEMENTS(tables) && !ret; i++) {
		sqlite3_stmt *s = store_prepare(store, tables[i].insert, err);

		if (!s)
			ret = -EIO;
		else if (!tables[i].save(s, run))
			ret = store_sqlite_failed(store, err);
		sqlite3_finalize(s);
	}
	if (!ret)
		ret = store_exec(store, "COMMIT", err);
	if (ret) {
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
		run->id = id_before;
		return ret;
	}
	store->created = false;
	return 0;
}
