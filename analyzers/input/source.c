/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Run files and traces, by one set of functions.
 */
#include <errno.h>

#include "analyzers/ctf/ctf.h"
#include "analyzers/input/source.h"

struct source {
	char *path;
	GArray *list;
	struct store *store; /* NULL: a trace */
	struct run *loaded;  /* of the store */
	GPtrArray *runs;     /* of the trace */
	struct ctf_tally tally;
};

static int open_store(struct source *s, struct store_error *err)
{
	int ret = store_open(s->path, &s->store, err);

	if (ret)
		return ret;
	s->list = store_list(s->store, err);
	if (!s->list)
		return -EIO;
	if (s->list->len)
		return 0;
	g_snprintf(err->text, sizeof(err->text),
		   "%s holds no run: record one with `bqlstat record`", s->path);
	return -ENODATA;
}

static int open_trace(struct source *s, struct store_error *err)
{
	int ret = ctf_load(s->path, &s->runs, &s->tally, err);

	if (ret)
		return ret;
	s->list = g_array_new(FALSE, TRUE, sizeof(struct store_entry));
	for (unsigned i = 0; i < s->runs->len; i++) {
		const struct run *run = s->runs->pdata[i];
		struct store_entry e = {.id = run->id,
					.begin_unix_ns = run->begin_unix_ns,
					.duration_ns = run->duration_ns,
					.pid = run->pid};

		g_strlcpy(e.label, run->label, sizeof(e.label));
		g_strlcpy(e.qemu_version, run->qemu_version, sizeof(e.qemu_version));
		g_array_append_val(s->list, e);
	}
	return 0;
}

int source_open(const char *path, struct source **source, struct store_error *err)
{
	struct source *s = g_new0(struct source, 1);
	int ret;

	s->path = g_strdup(path);
	ret = g_file_test(path, G_FILE_TEST_IS_DIR) ? open_trace(s, err) : open_store(s, err);
	if (ret)
		source_close(s);
	*source = ret ? NULL : s;
	return ret;
}

void source_close(struct source *s)
{
	if (!s)
		return;
	if (s->list)
		g_array_unref(s->list);
	if (s->runs)
		g_ptr_array_unref(s->runs);
	run_free(s->loaded);
	store_close(s->store);
	g_free(s->path);
	g_free(s);
}

const GArray *source_list(const struct source *s)
{
	return s->list;
}

const char *source_damage(const struct source *s)
{
	return s->tally.damage;
}

int source_load(struct source *s, int64_t id, struct run **run, struct store_error *err)
{
	if (s->store) {
		run_free(s->loaded);
		s->loaded = NULL;
		if (store_load(s->store, id, &s->loaded, err))
			return -ENOENT;
		*run = s->loaded;
		return 0;
	}
	if (id < 1 || id > s->runs->len || !s->runs->pdata[id - 1]) {
		g_snprintf(err->text, sizeof(err->text), "%s holds no run %d: it has %u", s->path,
			   (int)id, s->runs->len);
		return -ENOENT;
	}
	*run = s->runs->pdata[id - 1];
	return 0;
}

int source_take(struct source *s, int64_t id, struct run **run, struct store_error *err)
{
	int ret = source_load(s, id, run, err);

	if (!ret && s->store)
		s->loaded = NULL;
	else if (!ret)
		s->runs->pdata[id - 1] = NULL;
	return ret;
}

bool source_has_every_hold(const struct source *s)
{
	return !s->store;
}

static gint by_end(gconstpointer a, gconstpointer b)
{
	const struct hold *x = *(struct hold *const *)a, *y = *(struct hold *const *)b;
	uint64_t x_end = x->begin_ns + x->hold_ns, y_end = y->begin_ns + y->hold_ns;

	return x_end < y_end ? -1 : x_end > y_end;
}

int source_holds(struct source *s, const struct run *run, source_hold_fn hold, source_gap_fn gap,
		 void *opaque, struct store_error *err)
{
	const struct ctf_sink sink = {hold, gap, opaque};
	g_autoptr(GPtrArray) holds = NULL;

	if (!s->store)
		return ctf_holds(s->path, run->id, &sink, err);
	holds = run_longest(run, 0);
	g_ptr_array_sort(holds, by_end);
	for (unsigned i = 0; i < holds->len; i++)
		hold(opaque, holds->pdata[i]);
	return 0;
}
