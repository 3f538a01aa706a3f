/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime's tracepoints as LTTng records them from real migrations: that all is there, and that
 * it fits together.
 */
#include "analyzers/lab/journey.h"
#include "tests/scenarios/tracing.h"

static void expect_whole(const struct seen *s)
{
	GHashTableIter iter;
	void *key, *depth;

	g_assert_cmpuint(s->discarded, ==, 0);
	g_assert_cmpuint(s->unbalanced, ==, 0);
	g_assert_cmpuint(s->overlaps, ==, 0);
	g_hash_table_iter_init(&iter, s->depth);
	while (g_hash_table_iter_next(&iter, &key, &depth)) {
		if (depth)
			g_test_message("never ended: %s", (char *)key);
		g_assert_null(depth);
	}
	/* What is acquired is released, but for what QEMU still holds when it exits. */
	g_assert_cmpuint(s->count[TRACE_ID_lock_acquired], >, 50);
	g_assert_cmpuint(s->count[TRACE_ID_lock_acquired] - s->count[TRACE_ID_lock_released], <=,
			 1);
	g_assert_cmpuint(s->count[TRACE_ID_lock_ask], <=, s->count[TRACE_ID_lock_acquired] + 4);
	g_assert_cmpuint(s->count[TRACE_ID_fallback], ==, 0);
	g_assert_cmpuint(s->count[TRACE_ID_runtime], ==, 1);
}

struct arrival {
	const char *version, *policy;
	unsigned multifd;
	bool postcopy;
};

/* The destination is captured; the trace's folder, or NULL after g_test_skip(). */
static char *capture_arrival(const struct arrival *a, uint64_t *stream_bytes, char **home)
{
	g_autofree char *folder = fresh_path("trace");
	const char *launcher[] = {
		lab_program("bqlstat"), "lttng",   "capture",  "-q",	  "-o", folder, "--",
		lab_program("loadvm"),	"--lttng", "--policy", a->policy, "--", NULL};
	static const char *const sandbox[] = {"-sandbox",
					      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
					      "resourcecontrol=deny",
					      NULL};
	/* So that there is a wait, however slow this machine is. */
	static const struct lab_rule rule = {.channel = LAB_CHANNEL_MAIN,
					     .offset_bytes = 64 << 10,
					     .fault = LAB_FAULT_STALL,
					     .stall_ms = 300};
	const struct lab_pair_options options = {
		.vm = {.version = a->version,
		       .guest = true,
		       .devices = LAB_DEVICES_DOZEN,
		       .fill_mib = 16,
		       .dirty_mib = 1,
		       .timeout_ms = 30000},
		.destination_launcher = launcher,
		.destination_args = sandbox,
		.multifd = a->multifd,
		.rules = &rule,
		.n_rules = 1,
	};
	const struct lab_journey journey = {.copy = a->postcopy ? LAB_COPY_POST : LAB_COPY_PRE};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = lab_journey_new(&journey, &options, &error);
	struct lab_connection connection;
	int status;

	if (lab_skip(error))
		return NULL;
	g_assert_no_error(error);
	*home = home_of_capture();
	lab_journey_arrive(&journey, pair, 2 * PATIENCE_MS, NULL, &error);
	g_assert_no_error(error);
	lab_vm_quit(lab_pair_destination(pair), PATIENCE_MS, &status, &error);
	g_assert_no_error(error);
	g_assert_cmpint(status, ==, 0);
	*stream_bytes = 0;
	for (unsigned i = 0; lab_proxy_connection(lab_pair_proxy(pair), i, &connection); i++)
		if (connection.channel == LAB_CHANNEL_MAIN)
			*stream_bytes = connection.forward_bytes;
	return g_steal_pointer(&folder);
}

static void test_arrival(const void *opaque)
{
	const struct arrival *a = opaque;
	bool thread = strcmp(a->policy, "stock") != 0;
	g_autofree char *folder = NULL, *home = NULL;
	g_autoptr(seen) s = NULL;
	uint64_t stream_bytes;

	if (!possible())
		return;
	folder = capture_arrival(a, &stream_bytes, &home);
	if (!folder)
		return;
	s = read_trace(folder);
	g_test_message("%d lock events, %d sections, %d of %d bytes",
		       (int)s->count[TRACE_ID_lock_acquired], (int)s->count[TRACE_ID_section_begin],
		       (int)s->section_bytes, (int)stream_bytes);
	expect_whole(s);
	g_assert_true(g_str_has_prefix(s->qemu, a->version));
	g_assert_cmpstr(s->policy, ==, a->policy);
	/* 1: another thread reads on. */
	g_assert_cmpint(s->result, ==, a->postcopy ? 1 : 0);
	g_assert_cmpuint(s->count[TRACE_ID_command], >=, a->postcopy ? 5 : 0);
	g_assert_cmpuint(s->count[TRACE_ID_incoming_begin], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_activate_begin], ==, 1);
	g_assert_cmpuint(s->count[TRACE_ID_vm_start_begin], >=, 1);
	g_assert_cmpuint(s->count[TRACE_ID_incoming_destroyed], ==, 1);
	/* Each thread that is made begins; the main one was there before. */
	g_assert_cmpuint(s->count[TRACE_ID_thread_create], >, 0);
	g_assert_cmpuint(s->count[TRACE_ID_thread_create], ==, s->count[TRACE_ID_thread_begin]);
	if (thread)
		g_assert_cmpuint(s->count[TRACE_ID_thread_join_begin], >, 0);
	g_assert_nonnull(strstr(s->states->str, " active"));
	g_assert_true(g_hash_table_contains(s->threads, "mig/dst/main") == thread);

	g_assert_true(g_hash_table_contains(s->sections, "START ram"));
	g_assert_true(g_hash_table_contains(s->sections, "END ram"));
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_NET));
	g_assert_true(g_hash_table_contains(s->sections, "FULL " LAB_SECTION_E1000));
	g_assert_true(s->devices_in_order);
	g_assert_cmpuint(s->count[TRACE_ID_nested_begin], ==, 0);
	g_assert_cmpuint(s->unknown, ==, 0);
	/* But for headers, footers and the description at the end, sections are the stream. */
	g_assert_cmpuint(s->section_bytes, <, stream_bytes);
	g_assert_cmpuint(s->section_bytes, >, stream_bytes - (128 << 10));
	/* The proxy counts what passes it, the load what it has read: all of RAM, by then. */
	g_assert_cmpuint(s->read_bytes, <=, stream_bytes);
	if (!a->multifd)
		g_assert_cmpuint(s->read_bytes, >, 16 << 20);

	if (!thread)
		g_assert_true(g_hash_table_contains(s->waits, "qio-channel-socket yielded"));
	else
		g_assert_true(any_with_prefix(s->waits, "qio-channel-socket "));
	if (a->multifd)
		g_assert_true(any_with_prefix(s->waits, "multifd "));
	/* io-free never waits under the lock. */
	if (!strcmp(a->policy, "io-free")) {
		g_assert_false(g_hash_table_contains(s->waits, "qio-channel-socket held"));
		g_assert_false(g_hash_table_contains(s->waits, "multifd held"));
	}
	expect_nothing_left(home);
}

int main(int argc, char **argv)
{
	static const struct arrival arrivals[] = {
		{"7.2", "io-free", 0, false},  {"10.0", "io-free", 0, false},
		{"11.1", "io-free", 0, false}, {"10.0", "io-free", 2, false},
		{"7.2", "stock", 0, false},    {"10.0", "stock", 0, false},
		{"10.0", "io-free", 0, true},  {"7.2", "stock", 0, true},
	};

	begin_trail();
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(arrivals); i++) {
		const struct arrival *a = &arrivals[i];
		g_autofree char *path = g_strdup_printf(
			"/tracepoints/arrival/%s/%s%s%s", a->version, a->policy,
			a->multifd ? "/multifd" : "", a->postcopy ? "/postcopy" : "");

		g_test_add_data_func(path, a, test_arrival);
	}
	return g_test_run();
}
