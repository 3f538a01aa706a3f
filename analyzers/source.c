/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Run files and traces, by one set of functions.
 */
#include <errno.h>

#include "analyzers/source.h"

struct source {
	struct store *store;
	GArray *list;
};

int source_open(const char *path, struct source **source, struct store_error *err)
{
	struct source *s = g_new0(struct source, 1);
	int ret = store_open(path, &s->store, err);

	*source = NULL;
	if (!ret) {
		s->list = store_list(s->store, err);
		ret = s->list ? 0 : -EIO;
	}
	if (!ret && !s->list->len) {
		g_snprintf(err->text, sizeof(err->text),
			   "%s holds no run: record one with `bqlstat record`", path);
		ret = -ENODATA;
	}
	if (ret) {
		source_close(s);
		return ret;
	}
	*source = s;
	return 0;
}

void source_close(struct source *s)
{
	if (!s)
		return;
	if (s->list)
		g_array_unref(s->list);
	store_close(s->store);
	g_free(s);
}

const GArray *source_list(const struct source *s)
{
	return s->list;
}

int source_load(struct source *s, int64_t id, struct run **run, struct store_error *err)
{
	return store_load(s->store, id, run, err);
}

bool source_has_every_hold(const struct source *s)
{
	(void)s;
	return false;
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
	g_autoptr(GPtrArray) holds = run_longest(run, 0);

	(void)s;
	(void)gap;
	(void)err;
	g_ptr_array_sort(holds, by_end);
	for (unsigned i = 0; i < holds->len; i++)
		hold(opaque, holds->pdata[i]);
	return 0;
}
