/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run out of the file. Whatever the rows say is checked before it becomes an index.
 */
#include <errno.h>

#include "analyzers/store/internal.h"

/* One table: its rows of one run, and what takes each. False: the row contradicts another one. */
struct table {
	const char *added; /* its name, when the first schema did not have it; NULL: always there */
	const char *select;
	bool (*row)(sqlite3_stmt *s, struct run *run);
};

static const char *text(sqlite3_stmt *s, int column, struct run *run)
{
	return run_string(run, (const char *)sqlite3_column_text(s, column));
}

static int64_t num(sqlite3_stmt *s, int column)
{
	return sqlite3_column_int64(s, column);
}

static bool load_thread(sqlite3_stmt *s, struct run *run)
{
	struct thread t = {
		.tid = num(s, 1),
		.comm = text(s, 2, run),
		.role = role_from_name(text(s, 3, run)),
		.number = sqlite3_column_type(s, 4) == SQLITE_NULL ? -1 : num(s, 4),
	};

	if (num(s, 0) != run->threads->len)
		return false;
	g_array_append_val(run->threads, t);
	return true;
}

static bool load_site(sqlite3_stmt *s, struct run *run)
{
	struct site site = {.file = text(s, 1, run), .line = num(s, 2), .cond = num(s, 3)};

	if (num(s, 0) != run->sites->len)
		return false;
	g_array_append_val(run->sites, site);
	return true;
}

static bool load_usage(sqlite3_stmt *s, struct run *run)
{
	uint64_t site = num(s, 1), thread = num(s, 2);
	struct usage *u;

	if (num(s, 0) != run->usages->len || site >= run->sites->len || thread >= run->threads->len)
		return false;
	u = run_add_usage(run, site, thread);
	u->acquired = num(s, 3);
	u->wait.count = num(s, 4);
	u->wait.sum_ns = num(s, 5);
	u->wait.max_ns = num(s, 6);
	u->wait_max_at_ns = num(s, 7);
	u->hold.count = num(s, 8);
	u->hold.sum_ns = num(s, 9);
	u->hold.max_ns = num(s, 10);
	u->hold_max_at_ns = num(s, 11);
	u->runnable_ns = num(s, 12);
	return true;
}

static struct usage *usage_at(struct run *run, uint64_t i)
{
	return i < run->usages->len ? &g_array_index(run->usages, struct usage, i) : NULL;
}

static bool load_bucket(sqlite3_stmt *s, struct run *run)
{
	struct usage *u = usage_at(run, num(s, 0));
	const char *what = text(s, 1, run);
	uint64_t low = num(s, 2);

	if (!u)
		return false;
	if (!g_strcmp0(what, "wait"))
		u->wait.bucket[abi_bucket(low)] += num(s, 3);
	else if (!g_strcmp0(what, "hold"))
		u->hold.bucket[abi_bucket(low)] += num(s, 3);
	else
		return false;
	return true;
}

static bool load_blocking(sqlite3_stmt *s, struct run *run)
{
	struct usage *u = usage_at(run, num(s, 0));
	struct blocking b = {
		.cause = num(s, 1),
		.count = num(s, 2),
		.ns = num(s, 3),
		.max_ns = num(s, 4),
	};

	if (u)
		g_array_append_val(u->blocking, b);
	return u;
}

static struct phase_at phase_at(sqlite3_stmt *s, int column, struct run *run)
{
	return (struct phase_at){phase_from_name(text(s, column, run)), text(s, column + 1, run)};
}

static bool load_hold(sqlite3_stmt *s, struct run *run)
{
	uint64_t site = num(s, 4), thread = num(s, 5);
	struct hold h = {
		.begin_ns = num(s, 1),
		.hold_ns = num(s, 2),
		.wait_ns =
			sqlite3_column_type(s, 3) == SQLITE_NULL ? UNKNOWN_NS : (uint64_t)num(s, 3),
		.site = site,
		.thread = thread,
		.unfinished = num(s, 6),
		.runnable_ns = num(s, 7),
		.longest_ns = num(s, 8),
		.longest_cause = num(s, 9),
		.at_begin = phase_at(s, 10, run),
		.at_end = phase_at(s, 12, run),
		.at_longest = phase_at(s, 14, run),
	};

	if (num(s, 0) != run->holds->len || site >= run->sites->len || thread >= run->threads->len)
		return false;
	g_array_append_val(run->holds, h);
	return true;
}

static struct hold *hold_at(struct run *run, uint64_t i)
{
	return i < run->holds->len ? &g_array_index(run->holds, struct hold, i) : NULL;
}

static bool load_hold_blocking(sqlite3_stmt *s, struct run *run)
{
	struct hold *h = hold_at(run, num(s, 0));

	if (!h)
		return false;
	for (unsigned i = 0; i < G_N_ELEMENTS(h->blocked); i++) {
		if (h->blocked[i].count)
			continue;
		h->blocked[i].cause = num(s, 1);
		h->blocked[i].count = num(s, 2);
		h->blocked[i].ns = num(s, 3);
		return true;
	}
	return false;
}

static bool load_mark(sqlite3_stmt *s, struct run *run)
{
	struct mark m = {.at_ns = num(s, 0), .in = phase_at(s, 1, run)};

	g_array_append_val(run->marks, m);
	return true;
}

static bool load_point(sqlite3_stmt *s, struct run *run)
{
	struct point p = {
		.kind = text(s, 0, run),
		.vaddr = num(s, 1),
		.insn = text(s, 2, run),
		.emulated = num(s, 3),
		.attached = num(s, 4),
		.shared = num(s, 5),
		.hit = num(s, 6),
		.refusal = text(s, 7, run),
	};

	g_array_append_val(run->points, p);
	return true;
}

static bool load_lost(sqlite3_stmt *s, struct run *run)
{
	struct lost l = {.what = text(s, 0, run), .count = num(s, 1)};

	g_array_append_val(run->lost, l);
	return true;
}

static bool load_metric(sqlite3_stmt *s, struct run *run)
{
	run_set_metric(run, text(s, 0, run), sqlite3_column_double(s, 1));
	return true;
}

static bool load_waking(sqlite3_stmt *s, struct run *run)
{
	uint64_t usage = num(s, 0), waker = num(s, 1);
	struct waking w = {
		.usage = usage,
		.waker = waker,
		.count = num(s, 2),
		.ns = num(s, 3),
		.max_ns = num(s, 4),
	};

	if (usage >= run->usages->len || waker >= run->threads->len)
		return false;
	g_array_append_val(run->wakings, w);
	return true;
}

static bool load_charge(sqlite3_stmt *s, struct run *run)
{
	int64_t holder = num(s, 0);
	uint64_t victim = num(s, 1);
	struct charge c = {
		.holder = holder,
		.victim = victim,
		.count = num(s, 2),
		.ns = num(s, 3),
		.max_ns = num(s, 4),
	};

	if (holder < HOLDER_EARLIER || holder >= (int64_t)run->usages->len ||
	    victim >= run->usages->len)
		return false;
	g_array_append_val(run->charges, c);
	return true;
}

static bool load_frame(sqlite3_stmt *s, struct run *run)
{
	struct frame f = {
		.module = text(s, 1, run),
		.address = num(s, 2),
		.symbol = text(s, 3, run),
		.offset = num(s, 4),
		.inside = num(s, 5),
	};

	if (num(s, 0) != run->frames->len)
		return false;
	g_array_append_val(run->frames, f);
	return true;
}

static bool load_stack(sqlite3_stmt *s, struct run *run)
{
	struct stack stack = {.whole = num(s, 1)};

	if (num(s, 0) != run->stacks->len)
		return false;
	stack.frames = g_array_new(FALSE, FALSE, sizeof(unsigned));
	g_array_append_val(run->stacks, stack);
	return true;
}

static bool load_stack_frame(sqlite3_stmt *s, struct run *run)
{
	uint64_t stack = num(s, 0), frame = num(s, 1);
	unsigned index = frame;

	if (stack >= run->stacks->len || frame >= run->frames->len)
		return false;
	g_array_append_val(g_array_index(run->stacks, struct stack, stack).frames, index);
	return true;
}

static bool load_hold_stack(sqlite3_stmt *s, struct run *run)
{
	struct hold *h = hold_at(run, num(s, 0));
	uint64_t stack = num(s, 1);

	if (!h || stack >= run->stacks->len)
		return false;
	h->stack = stack + 1;
	h->taken = taken_from_name(text(s, 2, run));
	return true;
}

static bool load_hold_waker(sqlite3_stmt *s, struct run *run)
{
	struct hold *h = hold_at(run, num(s, 0));
	uint64_t waker = num(s, 1);

	if (!h || waker >= run->threads->len)
		return false;
	h->longest_waker = waker + 1;
	return true;
}

static bool load_thinning(sqlite3_stmt *s, struct run *run)
{
	struct thinning t = {
		.at_ns = num(s, 0),
		.level = text(s, 1, run),
		.cores = sqlite3_column_double(s, 2),
	};

	g_array_append_val(run->thinnings, t);
	return true;
}

static bool load_answer(sqlite3_stmt *s, struct run *run)
{
	struct answer a = {.sent_at_ns = num(s, 0), .latency_ns = num(s, 1)};

	g_array_append_val(run->answers, a);
	return true;
}

static bool load_head(sqlite3_stmt *s, struct run *run)
{
	int c = 0;

	run->id = num(s, c++);
	run->label = text(s, c++, run);
	run->source = text(s, c++, run);
	run->tool = text(s, c++, run);
	run->begin_ns = num(s, c++);
	run->begin_unix_ns = num(s, c++);
	run->duration_ns = num(s, c++);
	run->ended = text(s, c++, run);
	run->pid = num(s, c++);
	run->qemu_version = text(s, c++, run);
	run->qemu_generation = text(s, c++, run);
	run->qemu_build_id = text(s, c++, run);
	run->qemu_path = text(s, c++, run);
	run->qemu_cmdline = text(s, c++, run);
	run->kernel = text(s, c++, run);
	run->cpu = text(s, c++, run);
	run->cpus = num(s, c++);
	run->threshold_ns = num(s, c++);
	run->calibrated = num(s, c++);
	run->hold_bias_ns = num(s, c++);
	run->wait_bias_ns = num(s, c++);
	run->pair_ns = num(s, c++);
	return true;
}

static const struct table tables[] = {
	{NULL,
	 "SELECT id, label, source, tool, begin_ns, begin_unix_ns, duration_ns, ended, pid,"
	 " qemu_version, qemu_generation, qemu_build_id, qemu_path, qemu_cmdline, kernel, cpu,"
	 " cpus, threshold_ns, calibrated, hold_bias_ns, wait_bias_ns, pair_ns"
	 " FROM run WHERE id = ?",
	 load_head},
	{NULL, "SELECT id, tid, comm, role, number FROM thread WHERE run = ? ORDER BY id",
	 load_thread},
	{NULL, "SELECT id, file, line, cond FROM site WHERE run = ? ORDER BY id", load_site},
	{NULL,
	 "SELECT id, site, thread, acquired, waits, wait_sum_ns, wait_max_ns, wait_max_at_ns,"
	 " holds, hold_sum_ns, hold_max_ns, hold_max_at_ns, runnable_ns"
	 " FROM usage WHERE run = ? ORDER BY id",
	 load_usage},
	{NULL, "SELECT usage, what, low_ns, count FROM histogram WHERE run = ?", load_bucket},
	{NULL, "SELECT usage, cause, count, ns, max_ns FROM blocking WHERE run = ?", load_blocking},
	{NULL,
	 "SELECT id, begin_ns, hold_ns, wait_ns, site, thread, unfinished, runnable_ns,"
	 " longest_ns, longest_cause, begin_phase, begin_device, end_phase, end_device,"
	 " longest_phase, longest_device FROM hold WHERE run = ? ORDER BY id",
	 load_hold},
	{NULL,
	 "SELECT hold, cause, count, ns FROM hold_blocking WHERE run = ? ORDER BY hold, ns DESC",
	 load_hold_blocking},
	{NULL, "SELECT at_ns, phase, device FROM phase WHERE run = ? ORDER BY id", load_mark},
	{NULL,
	 "SELECT kind, vaddr, insn, emulated, attached, shared, hit, refusal FROM point"
	 " WHERE run = ? ORDER BY id",
	 load_point},
	{NULL, "SELECT what, count FROM lost WHERE run = ? ORDER BY what", load_lost},
	{"metric", "SELECT name, value FROM metric WHERE run = ? ORDER BY name", load_metric},
	{"waking", "SELECT usage, thread, count, ns, max_ns FROM waking WHERE run = ?",
	 load_waking},
	{"charge", "SELECT holder, victim, count, ns, max_ns FROM charge WHERE run = ?",
	 load_charge},
	{"frame",
	 "SELECT id, module, address, symbol, offset, inside FROM frame WHERE run = ? ORDER BY id",
	 load_frame},
	{"stack", "SELECT id, whole FROM stack WHERE run = ? ORDER BY id", load_stack},
	{"stack_frame", "SELECT stack, frame FROM stack_frame WHERE run = ? ORDER BY stack, depth",
	 load_stack_frame},
	{"hold_stack", "SELECT hold, stack, taken FROM hold_stack WHERE run = ?", load_hold_stack},
	{"hold_waker", "SELECT hold, thread FROM hold_waker WHERE run = ?", load_hold_waker},
	{"thinning", "SELECT at_ns, level, cores FROM thinning WHERE run = ? ORDER BY id",
	 load_thinning},
	{"answer", "SELECT sent_at_ns, latency_ns FROM answer WHERE run = ? ORDER BY id",
	 load_answer},
};

static int load_table(struct store *store, const struct table *table, int64_t id, struct run *run,
		      struct store_error *err)
{
	sqlite3_stmt *s;
	int ret;

	if (table->added && !store_has_table(store, table->added))
		return 0;
	s = store_prepare(store, table->select, err);
	if (!s)
		return -EIO;
	sqlite3_bind_int64(s, 1, id);
	while ((ret = sqlite3_step(s)) == SQLITE_ROW)
		if (!table->row(s, run))
			break;
	if (ret == SQLITE_ROW)
		ret = store_fail(err, -EIO, "%s is damaged: run %d contradicts itself", store->path,
				 (int)id);
	else
		ret = ret == SQLITE_DONE ? 0 : store_sqlite_failed(store, err);
	sqlite3_finalize(s);
	return ret;
}

int store_load(struct store *store, int64_t id, struct run **run, struct store_error *err)
{
	struct run *r = run_new();
	int ret = 0;

	*run = NULL;
	for (unsigned i = 0; i < G_N_ELEMENTS(tables) && !ret; i++)
		ret = load_table(store, &tables[i], id, r, err);
	if (!ret && !r->id)
		ret = store_fail(err, -ENOENT,
				 "%s has no run %d: `bqlstat report %s` lists its runs",
				 store->path, (int)id, store->path);
	if (ret)
		run_free(r);
	else
		*run = r;
	return ret;
}

GArray *store_list(struct store *store, struct store_error *err)
{
	sqlite3_stmt *s = store_prepare(store,
					"SELECT id, begin_unix_ns, duration_ns, pid, label, "
					"qemu_version FROM run ORDER BY id",
					err);
	GArray *list;
	int ret;

	if (!s)
		return NULL;
	list = g_array_new(FALSE, TRUE, sizeof(struct store_entry));
	while ((ret = sqlite3_step(s)) == SQLITE_ROW) {
		struct store_entry e = {
			.id = num(s, 0),
			.begin_unix_ns = num(s, 1),
			.duration_ns = num(s, 2),
			.pid = num(s, 3),
		};

		g_snprintf(e.label, sizeof(e.label), "%s", sqlite3_column_text(s, 4));
		g_snprintf(e.qemu_version, sizeof(e.qemu_version), "%s", sqlite3_column_text(s, 5));
		g_array_append_val(list, e);
	}
	if (ret != SQLITE_DONE) {
		store_sqlite_failed(store, err);
		g_clear_pointer(&list, g_array_unref);
	}
	sqlite3_finalize(s);
	return list;
}
