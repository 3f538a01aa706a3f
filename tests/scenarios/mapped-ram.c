/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM arrives out of a file in which every page has its place. All of them come within RAM's START
 * section, which stock loads in one go: its monitor is silent meanwhile, that of io-free is not.
 */
#include <string.h>

#include "analyzers/lab/journey.h"

#define MS 1e6

enum {
	FILL_MIB = 384,
	START_MS = 30000,
	DONE_MS = 60000,
	ALIVE_MS = 20000,
	/* Stock must be silent so long that a third of it can be told from the machine's noise. */
	FREEZE_MS = 60,
};

struct cell {
	const char *version;
	unsigned channels;
};

static const struct cell cells[] = {{"10.0", 0}, {"10.0", 2}, {"11.1", 0}};

/* The longest answer of the destination's monitor, and that of an idle QEMU's meanwhile. */
static bool load(const struct cell *cell, const char *policy, double *max_ms, double *idle_ms,
		 GError **error)
{
	const struct lab_journey journey = {.policy = policy, .mapped_ram = true};
	const struct lab_pair_options options = {
		.vm = {.version = cell->version,
		       .memory_mib = FILL_MIB + 64,
		       .guest = true,
		       .fill_mib = FILL_MIB,
		       .dirty_mib = 1,
		       .timeout_ms = START_MS},
		.multifd = cell->channels,
		.way = LAB_WAY_FILE,
	};
	g_autoptr(lab_pair) pair = lab_journey_new(&journey, &options, error);
	g_autoptr(lab_vm) idle = pair ? lab_vm_new_idle(cell->version, error) : NULL;
	g_autoptr(lab_poller) idle_poller = idle ? lab_poller_new(idle, error) : NULL;
	g_autoptr(lab_poller) poller = NULL;
	struct lab_migration result = {0};
	struct lab_latency latency, idle_latency;
	bool arrived;

	if (idle_poller)
		poller = lab_poller_new(lab_pair_destination(pair), error);
	if (!poller || !lab_pair_migrate(pair, error) ||
	    !lab_pair_wait(pair, DONE_MS, &result, error))
		return false;
	lab_poller_stop(poller, &latency);
	lab_poller_stop(idle_poller, &idle_latency);
	*max_ms = latency.max_ns / MS;
	*idle_ms = idle_latency.max_ns / MS;
	g_test_message("%s: the monitor's longest answer %.1f ms, an idle QEMU's %.1f ms",
		       policy ?: "stock", *max_ms, *idle_ms);
	arrived = !strcmp(result.destination_status, "completed");
	if (!arrived)
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "it ended %s: %s",
			    result.destination_status, result.destination_error ?: "no reason");
	lab_migration_clear(&result);
	return arrived && lab_vm_alive(lab_pair_destination(pair), ALIVE_MS, error);
}

static void test_answers(gconstpointer opaque)
{
	const struct cell *cell = opaque;
	double stock, ours, idle;
	g_autoptr(GError) error = NULL;

	if (!load(cell, NULL, &stock, &idle, &error) && lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(load(cell, "io-free", &ours, &idle, &error));
	g_assert_no_error(error);
	if (stock < FREEZE_MS) {
		g_test_skip("stock answered soon: this machine reads too fast for a freeze");
		return;
	}
	g_assert_cmpfloat(ours, <, stock / 3 + idle);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(cells); i++) {
		g_autofree char *path = g_strdup_printf("/mapped-ram/%s/%s", cells[i].version,
							cells[i].channels ? "multifd" : "plain");

		g_test_add_data_func(path, &cells[i], test_answers);
	}
	return g_test_run();
}
