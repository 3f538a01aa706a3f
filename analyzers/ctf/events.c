/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A babeltrace2 graph: one ctf.fs source for each trace in the folder, a muxer that puts their
 * streams into the order of time, and a sink of ours.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <babeltrace2/babeltrace.h>

#include "analyzers/ctf/events.h"
#include "analyzers/ctf/whole.h"

#define PREFIX "loadvm:"
#define DEPTH  8 /* of folders: DIR/ust/uid/1000/64-bit, and a snapshot's one more */

/* Where the values of an event class are: found once for each class. */
struct layout {
	int id; /* enum trace_id, -1: not one of ours */
	uint64_t member[TRACE_FIELDS_MAX];
	/* The same for the context, -1: it has none of that. */
	int64_t vpid, vtid, procname;
	int64_t env_pid; /* of a trace with buffers for each process; 0 none */
};

struct reading {
	const struct ctf_reader *reader;
	struct ctf_tally *tally;
	bt_message_iterator *messages;
	GHashTable *layouts; /* const bt_event_class * -> struct layout */
	const bt_event_class *last_class;
	const struct layout *last_layout;
	bool mismatch;	/* the sentence is in err */
	GArray *wholes; /* struct ctf_whole */
	struct store_error *err;
};

static int fail(struct store_error *err, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static int fail(struct store_error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

/* ---- layouts ---- */

/* The index of a member, -1: there is none. */
static int64_t member_named(const bt_field_class *structure, const char *name)
{
	uint64_t count = structure ? bt_field_class_structure_get_member_count(structure) : 0;

	for (uint64_t i = 0; i < count; i++) {
		const bt_field_class_structure_member *m =
			bt_field_class_structure_borrow_member_by_index_const(structure, i);

		if (!strcmp(bt_field_class_structure_member_get_name(m), name))
			return i;
	}
	return -1;
}

static bool type_fits(const bt_field_class *structure, uint64_t member, enum trace_type type)
{
	bt_field_class_type is =
		bt_field_class_get_type(bt_field_class_structure_member_borrow_field_class_const(
			bt_field_class_structure_borrow_member_by_index_const(structure, member)));

	switch (type) {
	case TRACE_TYPE_string:
		return is == BT_FIELD_CLASS_TYPE_STRING;
	case TRACE_TYPE_u32:
	case TRACE_TYPE_u64:
		return bt_field_class_type_is(is, BT_FIELD_CLASS_TYPE_UNSIGNED_INTEGER);
	default:
		return bt_field_class_type_is(is, BT_FIELD_CLASS_TYPE_SIGNED_INTEGER);
	}
}

static int id_of(const char *name)
{
	if (!g_str_has_prefix(name, PREFIX))
		return -1;
	for (int i = 0; i < TRACE_IDS; i++)
		if (!strcmp(name + strlen(PREFIX), trace_table[i].name))
			return i;
	/* An event that a later version added: nothing of what we show depends on it. */
	return -1;
}

static bool lay_out_fields(struct reading *r, const bt_event_class *class, struct layout *l)
{
	const bt_field_class *payload = bt_event_class_borrow_payload_field_class_const(class);

	for (unsigned i = 0; trace_table[l->id].fields[i].type; i++) {
		const struct trace_field *f = &trace_table[l->id].fields[i];
		int64_t member = member_named(payload, f->name);

		if (member < 0 || !type_fits(payload, member, f->type)) {
			fail(r->err, -EBADMSG,
			     "its event " PREFIX "%s has no field %s as bqlstat knows it: it was "
			     "recorded by another version of loadvm",
			     trace_table[l->id].name, f->name);
			return false;
		}
		l->member[i] = member;
	}
	return true;
}

static bool lay_out_context(struct reading *r, const bt_event_class *class, struct layout *l)
{
	const bt_stream_class *stream = bt_event_class_borrow_stream_class_const(class);
	const bt_field_class *context =
		bt_stream_class_borrow_event_common_context_field_class_const(stream);

	l->vpid = member_named(context, "vpid");
	l->vtid = member_named(context, "vtid");
	l->procname = member_named(context, "procname");
	if (l->vtid >= 0)
		return true;
	fail(r->err, -EBADMSG,
	     "it does not say which thread did what: record with `bqlstat lttng capture`, or add "
	     "the contexts vpid, vtid and procname");
	return false;
}

static const struct layout *layout_of(struct reading *r, const bt_event *event)
{
	const bt_event_class *class = bt_event_borrow_class_const(event);
	struct layout *l;
	const bt_value *pid;

	if (class == r->last_class)
		return r->last_layout;
	l = g_hash_table_lookup(r->layouts, class);
	if (!l) {
		l = g_new0(struct layout, 1);
		l->id = id_of(bt_event_class_get_name(class) ? bt_event_class_get_name(class) : "");
		g_hash_table_insert(r->layouts, (void *)class, l);
		if (l->id >= 0 && (!lay_out_fields(r, class, l) || !lay_out_context(r, class, l)))
			return NULL;
		pid = bt_trace_borrow_environment_entry_value_by_name_const(
			bt_stream_borrow_trace_const(bt_event_borrow_stream_const(event)), "vpid");
		if (pid && bt_value_is_signed_integer(pid))
			l->env_pid = bt_value_integer_signed_get(pid);
	}
	r->last_class = class;
	r->last_layout = l;
	return l;
}

/* ---- messages ---- */

static int64_t number_at(const bt_field *structure, int64_t member)
{
	const bt_field *f =
		bt_field_structure_borrow_member_field_by_index_const(structure, member);

	if (bt_field_class_type_is(bt_field_get_class_type(f),
				   BT_FIELD_CLASS_TYPE_UNSIGNED_INTEGER))
		return bt_field_integer_unsigned_get_value(f);
	return bt_field_integer_signed_get_value(f);
}

/* LTTng writes procname as an array of characters, which babeltrace2 makes a string of. */
static const char *text_at(const bt_field *structure, int64_t member)
{
	const bt_field *f =
		bt_field_structure_borrow_member_field_by_index_const(structure, member);

	return bt_field_get_class_type(f) == BT_FIELD_CLASS_TYPE_STRING
		       ? bt_field_string_get_value(f)
		       : "";
}

static uint64_t clock_ns(const bt_clock_snapshot *snapshot, int64_t *epoch_ns)
{
	const bt_clock_class *class = bt_clock_snapshot_borrow_clock_class_const(snapshot);
	uint64_t hz = bt_clock_class_get_frequency(class), cycles, offset;
	uint64_t value = bt_clock_snapshot_get_value(snapshot);
	int64_t seconds;

	bt_clock_class_get_offset(class, &seconds, &cycles);
	if (hz == 1000000000) {
		*epoch_ns = seconds * 1000000000 + cycles;
		return value;
	}
	offset = (__uint128_t)cycles * 1000000000 / hz;
	*epoch_ns = seconds * 1000000000 + offset;
	return (__uint128_t)value * 1000000000 / hz;
}

static bool take_event(struct reading *r, const bt_message *message)
{
	const bt_event *event = bt_message_event_borrow_event_const(message);
	const struct layout *l = layout_of(r, event);
	const bt_field *context, *payload;
	struct ctf_event out;

	if (!l)
		return false;
	if (l->id < 0) {
		r->tally->foreign++;
		return true;
	}
	out.id = l->id;
	out.at_ns = clock_ns(bt_message_event_borrow_default_clock_snapshot_const(message),
			     &out.epoch_ns);
	context = bt_event_borrow_common_context_field_const(event);
	out.tid = number_at(context, l->vtid);
	out.pid = l->vpid >= 0 ? number_at(context, l->vpid) : l->env_pid;
	out.comm = l->procname >= 0 ? text_at(context, l->procname) : "";
	payload = bt_event_borrow_payload_field_const(event);
	for (unsigned i = 0; trace_table[l->id].fields[i].type; i++) {
		if (trace_table[l->id].fields[i].type == TRACE_TYPE_string)
			out.field[i].s = text_at(payload, l->member[i]);
		else
			out.field[i].i = number_at(payload, l->member[i]);
	}
	r->tally->events++;
	r->reader->event(r->reader->opaque, &out);
	return true;
}

static void take_discarded(struct reading *r, const bt_message *message)
{
	const bt_stream_class *class = bt_stream_borrow_class_const(
		bt_message_discarded_events_borrow_stream_const(message));
	uint64_t count = 0, begin_ns = 0, end_ns = 0;
	int64_t epoch_ns;

	if (bt_message_discarded_events_get_count(message, &count) !=
	    BT_PROPERTY_AVAILABILITY_AVAILABLE)
		count = 0;
	if (bt_stream_class_discarded_events_have_default_clock_snapshots(class)) {
		begin_ns = clock_ns(
			bt_message_discarded_events_borrow_beginning_default_clock_snapshot_const(
				message),
			&epoch_ns);
		end_ns = clock_ns(
			bt_message_discarded_events_borrow_end_default_clock_snapshot_const(
				message),
			&epoch_ns);
	}
	r->reader->discarded(r->reader->opaque, begin_ns, end_ns, count);
}

static bt_graph_simple_sink_component_consume_func_status consume(bt_message_iterator *messages,
								  void *opaque)
{
	struct reading *r = opaque;
	bt_message_array_const batch;
	uint64_t count;
	bt_message_iterator_next_status status = bt_message_iterator_next(messages, &batch, &count);

	/* The two enumerations share their values, as all of babeltrace2's do. */
	if (status != BT_MESSAGE_ITERATOR_NEXT_STATUS_OK)
		return (bt_graph_simple_sink_component_consume_func_status)status;
	for (uint64_t i = 0; i < count; i++) {
		bt_message_type type = bt_message_get_type(batch[i]);

		if (type == BT_MESSAGE_TYPE_EVENT && !r->mismatch)
			r->mismatch = !take_event(r, batch[i]);
		else if (type == BT_MESSAGE_TYPE_DISCARDED_EVENTS && !r->mismatch)
			take_discarded(r, batch[i]);
		bt_message_put_ref(batch[i]);
	}
	return r->mismatch ? BT_GRAPH_SIMPLE_SINK_COMPONENT_CONSUME_FUNC_STATUS_END
			   : BT_GRAPH_SIMPLE_SINK_COMPONENT_CONSUME_FUNC_STATUS_OK;
}

/* ---- the graph ---- */

/* babeltrace2's own words for what went wrong first; it keeps them for the thread. */
static void take_reason(char *text, size_t size)
{
	const bt_error *error = bt_current_thread_take_error();

	g_strlcpy(text, "babeltrace2 does not say why", size);
	if (!error)
		return;
	if (bt_error_get_cause_count(error))
		g_strlcpy(text,
			  bt_error_cause_get_message(bt_error_borrow_cause_by_index(error, 0)),
			  size);
	bt_error_release(error);
	g_strdelimit(text, "\n", ' ');
}

static void find_traces(const char *path, int depth, GPtrArray *found)
{
	g_autofree char *metadata = g_build_filename(path, "metadata", NULL);
	g_autoptr(GDir) dir = NULL;
	const char *name;

	if (g_file_test(metadata, G_FILE_TEST_IS_REGULAR)) {
		g_ptr_array_add(found, g_strdup(path));
		return;
	}
	dir = depth ? g_dir_open(path, 0, NULL) : NULL;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *child = g_build_filename(path, name, NULL);

		if (g_file_test(child, G_FILE_TEST_IS_DIR) &&
		    !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
			find_traces(child, depth - 1, found);
	}
}

bool ctf_is_trace(const char *path)
{
	g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);

	find_traces(path, DEPTH, found);
	return found->len;
}

struct graph {
	const bt_plugin *ctf, *utils;
	bt_graph *graph;
	const bt_component_filter *muxer;
	uint64_t inputs; /* of the muxer, in use */
};

static bool add_trace(struct graph *g, const char *path, unsigned number)
{
	const bt_component_class_source *class =
		bt_plugin_borrow_source_component_class_by_name_const(g->ctf, "fs");
	g_autofree char *name = g_strdup_printf("trace-%u", number);
	const bt_component_source *source;
	bt_value *params = bt_value_map_create(), *inputs;
	bool ok;

	ok = params &&
	     bt_value_map_insert_empty_array_entry(params, "inputs", &inputs) ==
		     BT_VALUE_MAP_INSERT_ENTRY_STATUS_OK &&
	     bt_value_array_append_string_element(inputs, path) ==
		     BT_VALUE_ARRAY_APPEND_ELEMENT_STATUS_OK &&
	     bt_graph_add_source_component(g->graph, class, name, params, BT_LOGGING_LEVEL_NONE,
					   &source) == BT_GRAPH_ADD_COMPONENT_STATUS_OK;
	bt_value_put_ref(params);
	for (uint64_t i = 0; ok && i < bt_component_source_get_output_port_count(source); i++)
		ok = bt_graph_connect_ports(
			     g->graph,
			     bt_component_source_borrow_output_port_by_index_const(source, i),
			     bt_component_filter_borrow_input_port_by_index_const(g->muxer,
										  g->inputs++),
			     NULL) == BT_GRAPH_CONNECT_PORTS_STATUS_OK;
	return ok;
}

static bool open_graph(struct graph *g, struct reading *r)
{
	const bt_component_sink *sink;

	if (bt_plugin_find("ctf", BT_TRUE, BT_TRUE, BT_TRUE, BT_TRUE, BT_FALSE, &g->ctf) !=
		    BT_PLUGIN_FIND_STATUS_OK ||
	    bt_plugin_find("utils", BT_TRUE, BT_TRUE, BT_TRUE, BT_TRUE, BT_FALSE, &g->utils) !=
		    BT_PLUGIN_FIND_STATUS_OK)
		return false;
	g->graph = bt_graph_create(0);
	return g->graph &&
	       bt_graph_add_filter_component(
		       g->graph,
		       bt_plugin_borrow_filter_component_class_by_name_const(g->utils, "muxer"),
		       "muxer", NULL, BT_LOGGING_LEVEL_NONE,
		       &g->muxer) == BT_GRAPH_ADD_COMPONENT_STATUS_OK &&
	       bt_graph_add_simple_sink_component(g->graph, "bqlstat", NULL, consume, NULL, r,
						  &sink) == BT_GRAPH_ADD_COMPONENT_STATUS_OK &&
	       bt_graph_connect_ports(
		       g->graph, bt_component_filter_borrow_output_port_by_index_const(g->muxer, 0),
		       bt_component_sink_borrow_input_port_by_index_const(sink, 0),
		       NULL) == BT_GRAPH_CONNECT_PORTS_STATUS_OK;
}

static void close_graph(struct graph *g)
{
	bt_graph_put_ref(g->graph);
	bt_plugin_put_ref(g->ctf);
	bt_plugin_put_ref(g->utils);
}

static int run_graph(struct graph *g, struct reading *r, const char *path)
{
	bt_graph_run_status status;
	char reason[300];

	do
		status = bt_graph_run(g->graph);
	while (status == BT_GRAPH_RUN_STATUS_AGAIN);
	if (r->mismatch) {
		g_autofree char *what = g_strdup(r->err->text);

		return fail(r->err, -EBADMSG, "%s: %s", path, what);
	}
	if (status != BT_GRAPH_RUN_STATUS_OK) {
		take_reason(reason, sizeof(reason));
		if (!r->tally->events)
			return fail(r->err, -EIO, "%s is damaged: %s", path, reason);
		g_strlcpy(r->tally->damage, reason, sizeof(r->tally->damage));
	}
	for (unsigned i = 0; i < r->wholes->len && !*r->tally->damage; i++)
		g_strlcpy(r->tally->damage, g_array_index(r->wholes, struct ctf_whole, i).damage,
			  sizeof(r->tally->damage));
	if (!r->tally->events && *r->tally->damage)
		return fail(r->err, -EIO, "%s is damaged, nothing of it can be read: %s", path,
			    r->tally->damage);
	if (!r->tally->events && r->tally->foreign)
		return fail(r->err, -ENODATA,
			    "%s holds events, but none of the provider loadvm: record with "
			    "`bqlstat lttng capture`",
			    path);
	if (!r->tally->events)
		return fail(r->err, -ENODATA, "%s is a trace without events", path);
	return 0;
}

/*
 * libbabeltrace2 2.0.4 ends the process, by an assertion, for some packets that make no sense. All
 * that is left to do is to say so.
 */
static void gave_up(int signal)
{
	static const char sentence[] =
		"bqlstat: the trace is damaged in a way that libbabeltrace2 does not survive\n";

	(void)signal;
	if (write(STDERR_FILENO, sentence, sizeof(sentence) - 1) < 0)
		_exit(3);
	_exit(3);
}

static void clear_whole(void *whole)
{
	ctf_whole_clear(whole);
}

int ctf_read_events(const char *path, const struct ctf_reader *reader, struct ctf_tally *tally,
		    struct store_error *err)
{
	g_autoptr(GPtrArray) traces = g_ptr_array_new_with_free_func(g_free);
	struct reading r = {.reader = reader, .tally = tally, .err = err};
	struct graph g = {};
	struct sigaction before;
	struct ctf_whole whole;
	char reason[300];
	int ret = 0;

	memset(tally, 0, sizeof(*tally));
	sigaction(SIGABRT, &(struct sigaction){.sa_handler = gave_up}, &before);
	find_traces(path, DEPTH, traces);
	if (!traces->len)
		ret = fail(err, -ENOENT, "%s holds no trace: no file called metadata in it", path);
	r.wholes = g_array_new(FALSE, FALSE, sizeof(whole));
	g_array_set_clear_func(r.wholes, clear_whole);
	r.layouts = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	if (!ret && !open_graph(&g, &r)) {
		take_reason(reason, sizeof(reason));
		ret = fail(err, -ENOTSUP, "cannot read traces here: %s", reason);
	}
	for (unsigned i = 0; i < traces->len && !ret; i++) {
		ret = ctf_whole(traces->pdata[i], &whole, err);
		g_array_append_val(r.wholes, whole);
		if (ret || add_trace(&g, whole.path, i))
			continue;
		take_reason(reason, sizeof(reason));
		ret = fail(err, -EIO, "%s is damaged: %s", (char *)traces->pdata[i], reason);
	}
	if (!ret)
		ret = run_graph(&g, &r, path);
	close_graph(&g);
	g_hash_table_unref(r.layouts);
	g_array_unref(r.wholes);
	sigaction(SIGABRT, &before, NULL);
	return ret;
}
