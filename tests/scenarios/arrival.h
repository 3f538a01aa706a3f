/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arrival tests' table and its rule: a scenario tells in one sentence how it ended, and that
 * must be what is expected, or what stock QEMU does.
 *
 * Each scenario runs once for every version or policy, whichever are more, so that each pair of
 * (scenario, version), (scenario, policy) and, over all of them, (version, policy) occurs.
 * ARRIVAL=all runs every combination.
 */
#ifndef ARRIVAL_H
#define ARRIVAL_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/lab/journey.h"

#define MS 1000000ull

enum {
	DONE_MS = 30000,  /* a migration, until the guest goes on */
	FIRED_MS = 15000, /* until the stream has come to a rule's place */
	STALL_MS = 60000, /* longer than any test: it is released, or ends with the pair */
	ANSWER_MS = 3000, /* a monitor that may be frozen */
	SETTLE_MS = 100,  /* what came before a stall is loaded by then */
};

enum { ON_7_2 = 1 << 0, ON_10_0 = 1 << 1, ON_11_1 = 1 << 2, ON_BOTH = ON_7_2 | ON_10_0 };

static const char *const arrival_versions[] = {"7.2", "10.0", "11.1"};

struct cell {
	const struct scenario *scenario;
	const char *version;
	const char *policy; /* NULL: without loadvm */
};

struct scenario {
	const char *name;
	/* How it ended, g_free(); NULL with an error when it could not be brought to an end. */
	char *(*run)(const struct cell *cell, GError **error);
	const char *expected; /* NULL: what stock does, and stock is asked */
	unsigned versions;    /* ON_; 0: ON_BOTH */
	/*
	 * The stream stands still inside a device. The RFC's granularity holds the lock there, so
	 * that under "section" the monitor must be seen to freeze; that is what io-free is for.
	 */
	bool inside_device;
};

/* What a pair starts with; small, so that a test takes its time for the scenario. */
static inline struct lab_pair_options arrival_options(const struct cell *cell)
{
	return (struct lab_pair_options){
		.vm =
			{
				.version = cell->version,
				.devices = LAB_DEVICES_DOZEN,
				.guest = true,
				.fill_mib = 24,
				.dirty_mib = 4,
			},
	};
}

static inline void arrival_settle(void)
{
	g_usleep(SETTLE_MS * 1000);
}

/* NULL with an error when it does not begin, or does not come to the rules' last place. */
static inline struct lab_pair *arrival_at_rule(const struct lab_journey *journey,
					       const struct lab_pair_options *options,
					       GError **error)
{
	g_autoptr(lab_pair) pair = lab_journey_new(journey, options, error);

	if (!pair || !lab_journey_begin(journey, pair, error))
		return NULL;
	for (size_t i = 0; i < options->n_rules; i++)
		if (!lab_proxy_wait_fired(lab_pair_proxy(pair), i, FIRED_MS, error))
			return NULL;
	lab_proxy_settle(lab_pair_proxy(pair));
	return g_steal_pointer(&pair);
}

/* ---- running them ---- */

static inline char *arrival_told(const struct cell *cell, GError **error)
{
	g_autoptr(GError) broken = NULL;
	char *told = cell->scenario->run(cell, &broken);

	if (told)
		return told;
	if (g_error_matches(broken, LAB_ERROR, LAB_ERROR_UNAVAILABLE)) {
		g_propagate_error(error, g_steal_pointer(&broken));
		return NULL;
	}
	return g_strdup_printf("broken: %s", broken->message);
}

/*
 * Whether stock QEMU ends like this too. Where several threads see a stream break, the first to say
 * so differs from run to run: stock is asked again before the answer is no. What it said is
 * remembered, and g_test_message()d.
 */
static inline bool arrival_stock_does(const struct cell *cell, const char *told)
{
	enum { TRIES = 4 };
	static GHashTable *known; /* scenario and version: GPtrArray of what it said */
	const struct cell stock = {cell->scenario, cell->version, NULL};
	g_autofree char *key = g_strconcat(cell->scenario->name, " ", cell->version, NULL);
	GPtrArray *said;

	if (!known)
		known = g_hash_table_new(g_str_hash, g_str_equal);
	said = g_hash_table_lookup(known, key);
	if (!said) {
		said = g_ptr_array_new_with_free_func(g_free);
		g_hash_table_insert(known, g_strdup(key), said);
	}
	for (unsigned i = 0; i < TRIES; i++) {
		if (i == said->len)
			g_ptr_array_add(said, arrival_told(&stock, NULL));
		g_test_message("stock QEMU %s: %s", cell->version, (const char *)said->pdata[i]);
		if (!strcmp(told, said->pdata[i]))
			return true;
	}
	return false;
}

static inline void arrival_test(gconstpointer opaque)
{
	const struct cell *cell = opaque;
	const char *expected = cell->scenario->expected;
	g_autoptr(GError) error = NULL;
	g_autofree char *told = arrival_told(cell, &error), *why = NULL;

	if (!told && lab_skip(error))
		return;
	g_test_message("%s: %s", cell->policy, told);
	if (cell->scenario->inside_device && !strcmp(cell->policy, "section")) {
		g_assert_true(strstr(told, "no end within") || strstr(told, "did not answer"));
		return;
	}
	if (!g_strcmp0(told, expected))
		return;
	if (expected && !strcmp(cell->policy, "stock")) {
		why = g_strdup_printf("stock QEMU %s ends with \"%s\", not \"%s\"", cell->version,
				      told, expected);
		g_test_skip(why);
	} else if (!arrival_stock_does(cell, told)) {
		g_test_message("stock QEMU does not end so");
		g_test_fail();
	} else if (expected) {
		why = g_strdup_printf("stock QEMU %s too ends with \"%s\", not \"%s\"",
				      cell->version, told, expected);
		g_test_skip(why);
	} else {
		/* Two that broke in the same way have shown nothing. */
		g_assert_false(g_str_has_prefix(told, "broken: "));
	}
}

static inline void arrival_add(const char *group, const struct scenario *scenario,
			       const char *version, const char *policy)
{
	struct cell *cell = g_new(struct cell, 1);
	g_autofree char *path =
		g_strdup_printf("/%s/%s/%s/%s", group, scenario->name, version, policy);

	*cell = (struct cell){scenario, version, policy};
	g_test_add_data_func_full(path, cell, arrival_test, g_free);
}

static inline int arrival_main(int argc, char **argv, const char *group,
			       const struct scenario *scenarios, size_t n)
{
	const char *const *policies = lab_policies();
	size_t n_policies = g_strv_length((char **)policies);
	bool all = !g_strcmp0(g_getenv("ARRIVAL"), "all");

	g_test_init(&argc, &argv, NULL);
	g_test_set_nonfatal_assertions();
	g_assert_cmpuint(n_policies, >, 0);
	for (size_t s = 0; s < n; s++) {
		const unsigned on = scenarios[s].versions ?: ON_BOTH;
		const char *versions[G_N_ELEMENTS(arrival_versions)];
		size_t n_versions = 0;

		for (size_t v = 0; v < G_N_ELEMENTS(arrival_versions); v++)
			if (on & (1u << v))
				versions[n_versions++] = arrival_versions[v];
		for (size_t p = 0; all && p < n_policies; p++)
			for (size_t v = 0; v < n_versions; v++)
				arrival_add(group, &scenarios[s], versions[v], policies[p]);
		for (size_t i = 0; !all && i < MAX(n_versions, n_policies); i++) {
			const char *policy = policies[(i + s) % n_policies];

			/* Stock is asked anyway where it is the measure. */
			if (scenarios[s].expected || strcmp(policy, "stock"))
				arrival_add(group, &scenarios[s],
					    versions[(i + s / 2) % n_versions], policy);
		}
	}
	return g_test_run();
}

#endif
