/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream that stalls for three seconds must not freeze the destination's monitor: at each place,
 * on each QEMU, under each policy that promises it. `make bench` repeats it with stock beside it.
 */
#include <string.h>

#include "analyzers/lab/stall.h"

#define MS 1000000ull

/* The promise, and the slack of a machine that also runs two QEMUs' emulated CPUs. */
enum { P99_LIMIT_MS = 20, ABOVE_IDLE_MS = 20, FREEZE_MS = 1000 };

/*
 * A machine on which even an idle QEMU answers so late cannot show what ours does: try again. The
 * first attempt on a quiet machine is the one that is judged, good or bad: picking the best of several
 * would hide what happens now and then. A freeze fails at once.
 */
enum { NOISE_LIMIT_MS = 15, ATTEMPTS = 4 };

/* So does one whose processors others want: a QEMU that loads a VM is not as light as an idle one. */
static const double most_others = 0.5;

struct cell {
	const char *version;
	const char *policy;
	enum lab_stall_place place;
};

static void test_stall(gconstpointer opaque)
{
	const struct cell *cell = opaque;
	const struct lab_stall_options options = {
		.version = cell->version, .policy = cell->policy, .place = cell->place
	};
	g_autoptr(GError) error = NULL;
	struct lab_stall_result result = { 0 };
	bool quiet = false;

	for (int attempt = 0; attempt < ATTEMPTS && !quiet; attempt++) {
		if (!lab_stall_run(&options, &result, &error) && lab_skip(error))
			return;
		g_assert_no_error(error);
		lab_migration_clear(&result.migration);
		g_test_message("monitor p99 %.1f ms, max %.1f ms; idle max %.1f ms, others %.2f",
			       result.monitor.p99_ns / 1e6, result.monitor.max_ns / 1e6,
			       result.idle.max_ns / 1e6, result.others);
		/* That much can be told on any machine, at once: one that stood still, did so for both. */
		g_assert_cmpuint(result.monitor.max_ns, <, FREEZE_MS * MS + result.idle.max_ns);
		quiet = result.idle.max_ns <= NOISE_LIMIT_MS * MS && result.others < most_others;
	}
	if (!quiet) {
		g_test_skip("no freeze, but more cannot be told: an idle QEMU too answered late, or "
			    "others wanted the processors, each time");
		return;
	}
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
