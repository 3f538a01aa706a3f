/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream that stalls for three seconds must not freeze the destination's monitor: at each place,
 * on each QEMU, under each policy that promises it. `make bench` repeats it with stock beside it.
 */
#include <string.h>

#include "tests/scenarios/stall.h"

/* The promise, and the slack of a machine that also runs two QEMUs' emulated CPUs. */
enum { P99_LIMIT_MS = 20, ABOVE_IDLE_MS = 20, FREEZE_MS = 1000 };

/* On the first quiet machine, see stall.h. A freeze fails at once. */
enum { NOISE_LIMIT_MS = 15 };

struct cell {
	const char *version;
	const char *policy;
	enum lab_stall_place place;
};

/* One that stood still, did so for both. */
static void no_freeze(const struct lab_stall_result *result)
{
	g_assert_cmpuint(result->monitor.max_ns, <, FREEZE_MS * MS + result->idle.max_ns);
}

static void test_stall(gconstpointer opaque)
{
	const struct cell *cell = opaque;
	const struct lab_stall_options options = {
		.version = cell->version, .policy = cell->policy, .place = cell->place
	};
	struct lab_stall_result result = { 0 };

	if (!stall_shown(&options, NOISE_LIMIT_MS, no_freeze, &result))
		return;
	g_assert_cmpuint(result.monitor.p99_ns, <=, P99_LIMIT_MS * MS);
	g_assert_cmpuint(result.monitor.max_ns, <=, result.idle.max_ns + ABOVE_IDLE_MS * MS);
}

/*
 * The other side of the proof: this very experiment does freeze the monitor, without the runtime, and
 * at the RFC's granularity when the stream stalls within a device's state.
 */
static void test_freezes(gconstpointer opaque)
{
	const struct cell *cell = opaque;
	const struct lab_stall_options options = {
		.version = cell->version, .policy = cell->policy, .place = cell->place
	};
	g_autoptr(GError) error = NULL;
	struct lab_stall_result result;
	bool told = false;

	/* Where an idle QEMU freezes too, it is not this one's doing. */
	for (int attempt = 0; attempt < ATTEMPTS && !told; attempt++) {
		if (!lab_stall_run(&options, &result, &error) && lab_skip(error))
			return;
		g_assert_no_error(error);
		lab_migration_clear(&result.migration);
		g_assert_cmpuint(result.monitor.max_ns, >=, 2500 * MS);
		told = result.idle.max_ns < 500 * MS;
	}
	g_assert_true(told);
}

static void add(const char *version, const char *policy, enum lab_stall_place place,
		void (*test)(gconstpointer))
{
	struct cell *cell = g_new(struct cell, 1);
	g_autofree char *path = g_strdup_printf("/stall/%s/%s/%s%s", version, policy ?: "stock",
						lab_stall_place_name(place),
						test == test_freezes ? "-freezes" : "");

	g_strdelimit(path, " ", '-');
	*cell = (struct cell){ version, policy, place };
	g_test_add_data_func_full(path, cell, test, g_free);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = { "7.2", "10.0" };
	static const char *const policies[] = { "wait", "section", "io-free" };

	g_test_init(&argc, &argv, NULL);
	g_test_set_nonfatal_assertions();
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		add(versions[v], NULL, LAB_STALL_MULTIFD, test_freezes);
		for (size_t p = 0; p < G_N_ELEMENTS(policies); p++)
			for (int place = LAB_STALL_RAM; place <= LAB_STALL_MULTIFD; place++) {
				bool freezes = place == LAB_STALL_DEVICE &&
					       !strcmp(policies[p], "section");

				add(versions[v], policies[p], place,
				    freezes ? test_freezes : test_stall);
			}
	}
	return g_test_run();
}
