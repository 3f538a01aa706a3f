/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A Perfetto trace read back: a decoder that shares nothing with the writer, and as strict as
 * Perfetto is. What it cannot make sense of ends the test.
 */
#ifndef TESTS_PERFETTO_H
#define TESTS_PERFETTO_H

#include <string.h>

#include <glib.h>
#include <zlib.h>

struct drawn_track {
	uint64_t uuid, parent;
	bool counter;
	char *name; /* of a process or thread: its own */
	int pid, tid;
};

/* A slice; an instant has end_ns == begin_ns. */
struct drawn {
	const struct drawn_track *track;
	const char *category, *name;
	uint64_t begin_ns, end_ns;
	bool open, instant;
	GArray *flows, *ended_flows; /* uint64_t */
	GHashTable *args;	     /* name -> its value as text */
};

/* A counter's value from a time on. */
struct drawn_value {
	const struct drawn_track *track;
	uint64_t at_ns;
	double value;
};

struct drawing {
	GHashTable *tracks; /* &uuid -> struct drawn_track */
	GPtrArray *slices;  /* struct drawn, by beginning within their track */
	GArray *values;	    /* struct drawn_value, in the trace's order */
	GPtrArray *strings;
	uint64_t monotonic_ns, realtime_ns, primary_clock;
	GHashTable *interned; /* "sequence.field.id" -> text */
	GHashTable *ready;    /* sequences with state */
};

/* One field of a message. */
struct wire {
	unsigned field, type;
	uint64_t value;
	const uint8_t *at;
	size_t size;
};

static inline uint64_t wire_varint(const uint8_t **at, const uint8_t *end)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		g_assert_true(*at < end);
		value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80))
			return value;
	}
	g_assert_not_reached();
}

static inline bool wire_next(const uint8_t **at, const uint8_t *end, struct wire *w)
{
	uint64_t tag;

	if (*at == end)
		return false;
	tag = wire_varint(at, end);
	*w = (struct wire){.field = tag >> 3, .type = tag & 7};
	if (w->type == 0) {
		w->value = wire_varint(at, end);
		return true;
	}
	if (w->type == 1) {
		g_assert_true(end - *at >= 8);
		memcpy(&w->value, *at, 8);
		*at += 8;
		return true;
	}
	g_assert_cmpuint(w->type, ==, 2);
	w->size = wire_varint(at, end);
	g_assert_true((size_t)(end - *at) >= w->size);
	w->at = *at;
	*at += w->size;
	return true;
}

#define WIRE_EACH(w, m)                                                                            \
	for (const uint8_t *at_ = (m)->at; wire_next(&at_, (m)->at + (m)->size, &(w));)

static inline const char *wire_text(struct drawing *d, const struct wire *w)
{
	char *text = g_strndup((const char *)w->at, w->size);

	g_assert_true(g_utf8_validate(text, -1, NULL));
	g_ptr_array_add(d->strings, text);
	return text;
}

static inline void free_track(void *opaque)
{
	struct drawn_track *t = opaque;

	g_free(t->name);
	g_free(t);
}

static inline void free_slice(void *opaque)
{
	struct drawn *s = opaque;

	g_array_unref(s->flows);
	g_array_unref(s->ended_flows);
	g_hash_table_unref(s->args);
	g_free(s);
}

static inline void read_clocks(struct drawing *d, const struct wire *m)
{
	struct wire w, c;

	WIRE_EACH(w, m)
	{
		uint64_t id = 0, ns = 0;

		if (w.field == 2)
			d->primary_clock = w.value;
		if (w.field != 1)
			continue;
		WIRE_EACH(c, &w)
		{
			if (c.field == 1)
				id = c.value;
			else if (c.field == 2)
				ns = c.value;
		}
		if (id == 3)
			d->monotonic_ns = ns;
		else if (id == 1)
			d->realtime_ns = ns;
	}
}

static inline void read_track(struct drawing *d, const struct wire *m)
{
	struct drawn_track *t = g_new0(struct drawn_track, 1);
	struct wire w, n;

	WIRE_EACH(w, m)
	{
		if (w.field == 1)
			t->uuid = w.value;
		else if (w.field == 5)
			t->parent = w.value;
		else if (w.field == 2)
			t->name = g_strndup((const char *)w.at, w.size);
		else if (w.field == 8)
			t->counter = true;
		if (w.field != 3 && w.field != 4)
			continue;
		WIRE_EACH(n, &w)
		{
			if (n.field == 1)
				t->pid = n.value;
			else if (w.field == 4 && n.field == 2)
				t->tid = n.value;
			else if (n.field == (w.field == 3 ? 6 : 5))
				t->name = g_strndup((const char *)n.at, n.size);
		}
	}
	g_assert_cmpuint(t->uuid, !=, 0);
	g_assert_nonnull(t->name);
	g_assert_false(g_hash_table_contains(d->tracks, &t->uuid));
	if (t->parent)
		g_assert_true(g_hash_table_contains(d->tracks, &t->parent));
	g_hash_table_insert(d->tracks, &t->uuid, t);
}

static inline void read_interned(struct drawing *d, const struct wire *m, unsigned sequence)
{
	struct wire w, n;

	WIRE_EACH(w, m)
	{
		const char *text = NULL;
		uint64_t id = 0;

		WIRE_EACH(n, &w)
		{
			if (n.field == 1)
				id = n.value;
			else if (n.field == 2)
				text = wire_text(d, &n);
		}
		g_assert_true(id && text);
		g_hash_table_insert(d->interned,
				    g_strdup_printf("%u.%u.%u", sequence, w.field, (unsigned)id),
				    (char *)text);
	}
}

static inline const char *interned(struct drawing *d, unsigned sequence, unsigned field,
				   uint64_t id)
{
	g_autofree char *key = g_strdup_printf("%u.%u.%u", sequence, field, (unsigned)id);
	const char *text = g_hash_table_lookup(d->interned, key);

	g_assert_nonnull(text);
	return text;
}

static inline void read_argument(struct drawing *d, struct drawn *s, const struct wire *m,
				 unsigned sequence)
{
	const char *name = NULL;
	char *value = NULL;
	double number;
	struct wire w;

	WIRE_EACH(w, m)
	{
		if (w.field == 1) {
			name = interned(d, sequence, 3, w.value);
		} else if (w.field == 10) {
			name = wire_text(d, &w);
		} else if (w.field == 6) {
			value = g_strdup(wire_text(d, &w));
		} else if (w.field == 5) {
			memcpy(&number, &w.value, sizeof(number));
			value = g_strdup_printf("%.17g", number);
		} else {
			g_assert_true(w.field == 2 || w.field == 3);
			value = g_strdup_printf("%llu", (unsigned long long)w.value);
		}
	}
	g_assert_true(name && value);
	g_hash_table_insert(s->args, (char *)name, value);
}

static inline struct drawn *new_slice(struct drawing *d, const struct drawn_track *t, uint64_t ns)
{
	struct drawn *s = g_new0(struct drawn, 1);

	s->track = t;
	s->category = s->name = "";
	s->begin_ns = s->end_ns = ns;
	s->open = true;
	s->flows = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	s->ended_flows = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	s->args = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
	g_ptr_array_add(d->slices, s);
	return s;
}

/* The innermost open one, and that no time goes backwards on a track. */
static inline struct drawn *innermost(struct drawing *d, const struct drawn_track *t, uint64_t ns)
{
	struct drawn *found = NULL;

	for (unsigned i = d->slices->len; i > 0 && !found; i--) {
		struct drawn *s = d->slices->pdata[i - 1];

		if (s->track != t)
			continue;
		g_assert_cmpuint(ns, >=, s->open ? s->begin_ns : s->end_ns);
		if (s->open)
			found = s;
	}
	return found;
}

static inline void read_event(struct drawing *d, const struct wire *m, uint64_t ns,
			      unsigned sequence)
{
	const struct drawn_track *track = NULL;
	unsigned type = 0;
	struct drawn *s;
	struct wire w;

	WIRE_EACH(w, m)
	{
		if (w.field == 9)
			type = w.value;
		else if (w.field == 11)
			track = g_hash_table_lookup(d->tracks, &w.value);
	}
	g_assert_nonnull(track);
	g_assert_true(g_hash_table_contains(d->ready, GUINT_TO_POINTER(sequence)));
	g_assert_true(track->counter == (type == 4));
	if (type == 4) {
		struct drawn_value v = {.track = track, .at_ns = ns};

		WIRE_EACH(w, m)
		if (w.field == 44)
			memcpy(&v.value, &w.value, sizeof(v.value));
		g_array_append_val(d->values, v);
		return;
	}
	if (type == 2) {
		s = innermost(d, track, ns);
		g_assert_nonnull(s);
		s->open = false;
		s->end_ns = ns;
	} else {
		g_assert_true(type == 1 || type == 3);
		s = new_slice(d, track, ns);
		s->open = type == 1;
		s->instant = type == 3;
	}
	WIRE_EACH(w, m)
	{
		if (w.field == 3)
			s->category = interned(d, sequence, 1, w.value);
		else if (w.field == 10)
			s->name = interned(d, sequence, 2, w.value);
		else if (w.field == 23)
			s->name = wire_text(d, &w);
		else if (w.field == 47)
			g_array_append_val(s->flows, w.value);
		else if (w.field == 48)
			g_array_append_val(s->ended_flows, w.value);
		else if (w.field == 4)
			read_argument(d, s, &w, sequence);
	}
}

static inline void read_packet(struct drawing *d, const struct wire *m)
{
	uint64_t ns = 0, sequence = 0, flags = 0;
	bool has_time = false;
	struct wire w;

	WIRE_EACH(w, m)
	{
		if (w.field == 8) {
			ns = w.value;
			has_time = true;
		} else if (w.field == 10) {
			sequence = w.value;
		} else if (w.field == 13) {
			flags = w.value;
		}
	}
	g_assert_cmpuint(sequence, !=, 0);
	if (flags & 1)
		g_hash_table_add(d->ready, GUINT_TO_POINTER(sequence));
	WIRE_EACH(w, m)
	{
		if (w.field == 6)
			read_clocks(d, &w);
		else if (w.field == 60)
			read_track(d, &w);
		else if (w.field == 12)
			read_interned(d, &w, sequence);
		else if (w.field == 11) {
			g_assert_true(has_time);
			read_event(d, &w, ns, sequence);
		}
	}
}

/* Free with drawing_free(). */
static inline struct drawing *drawing_read(const char *path)
{
	struct drawing *d = g_new0(struct drawing, 1);
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	gzFile file = gzopen(path, "rb");
	struct wire all = {0}, w;
	uint8_t part[65536];
	int got;

	g_assert_nonnull(file);
	while ((got = gzread(file, part, sizeof(part))) > 0)
		g_byte_array_append(bytes, part, got);
	g_assert_cmpint(got, ==, 0);
	g_assert_cmpint(gzclose(file), ==, Z_OK);
	d->tracks = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, free_track);
	d->slices = g_ptr_array_new_with_free_func(free_slice);
	d->values = g_array_new(FALSE, FALSE, sizeof(struct drawn_value));
	d->strings = g_ptr_array_new_with_free_func(g_free);
	d->interned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	d->ready = g_hash_table_new(NULL, NULL);
	all.at = bytes->data;
	all.size = bytes->len;
	WIRE_EACH(w, &all)
	{
		g_assert_cmpuint(w.field, ==, 1);
		g_assert_cmpuint(w.type, ==, 2);
		read_packet(d, &w);
	}
	for (unsigned i = 0; i < d->slices->len; i++)
		g_assert_false(((struct drawn *)d->slices->pdata[i])->open);
	return d;
}

static inline void drawing_free(struct drawing *d)
{
	g_ptr_array_unref(d->slices);
	g_hash_table_unref(d->tracks);
	g_hash_table_unref(d->interned);
	g_hash_table_unref(d->ready);
	g_ptr_array_unref(d->strings);
	g_array_unref(d->values);
	g_free(d);
}

/* Those of a category, of every track (NULL) or those of that name. g_ptr_array_unref() */
static inline GPtrArray *drawn_of(const struct drawing *d, const char *category, const char *track)
{
	GPtrArray *found = g_ptr_array_new();

	for (unsigned i = 0; i < d->slices->len; i++) {
		struct drawn *s = d->slices->pdata[i];

		if (!strcmp(s->category, category) && (!track || !strcmp(s->track->name, track)))
			g_ptr_array_add(found, s);
	}
	return found;
}

static inline const char *drawn_arg(const struct drawn *s, const char *name)
{
	const char *value = g_hash_table_lookup(s->args, name);

	return value ? value : "";
}

/* The slice that sends a flow; NULL: none does. */
static inline struct drawn *flow_origin(const struct drawing *d, uint64_t flow)
{
	for (unsigned i = 0; i < d->slices->len; i++) {
		struct drawn *s = d->slices->pdata[i];

		for (unsigned f = 0; f < s->flows->len; f++)
			if (g_array_index(s->flows, uint64_t, f) == flow)
				return s;
	}
	return NULL;
}

#endif
