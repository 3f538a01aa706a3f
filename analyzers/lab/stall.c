/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One migration with one stall, its destination's monitor measured: see stall.h. */
#include <string.h>

#include "analyzers/lab/machine.h"
#include "analyzers/lab/stall.h"

enum {
	FILL_MIB = 64,
	SLOW_FILL_MIB = 24, /* of a postcopy, whose stream is slow */
	DIRTY_MIB = 4,
	MULTIFD_CHANNELS = 2,
	MIGRATION_TIMEOUT_MS = 60000,
	ALIVE_TIMEOUT_MS = 10000,
};

const char *lab_stall_place_name(enum lab_stall_place place)
{
	static const char *const names[LAB_STALL_PLACES] = {
		[LAB_STALL_NOWHERE] = "nowhere",
		[LAB_STALL_RAM] = "mid-RAM",
		[LAB_STALL_DEVICE] = "mid-device-state",
		[LAB_STALL_MULTIFD] = "one multifd channel",
		[LAB_STALL_LATE] = "mid-postcopy-RAM",
	};

	return names[place];
}

static struct lab_rule rule_for(const struct lab_stall_options *options)
{
	struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.fault = LAB_FAULT_STALL,
		.stall_ms = options->stall_ms ?: 3000,
	};

	switch (options->place) {
	case LAB_STALL_RAM:
		rule.offset_bytes = 8 << 20;
		break;
	case LAB_STALL_DEVICE:
		/* After the section's name and before most of its fields: QEMU is inside
		 * load_state. */
		rule.section = LAB_SECTION_NET;
		rule.offset_bytes = 64;
		break;
	case LAB_STALL_MULTIFD:
		rule.channel = LAB_CHANNEL_MULTIFD;
		rule.nth = 1;
		rule.offset_bytes = 1 << 20;
		/* Else the source may never come to say "wait for every channel now". */
		rule.hoard = true;
		break;
	case LAB_STALL_LATE:
		/* Well beyond the package that has the devices in it. */
		rule.section = LAB_SECTION_NET;
		rule.offset_bytes = 4 << 20;
		break;
	case LAB_STALL_NOWHERE:
	case LAB_STALL_PLACES:
		break;
	}
	return rule;
}

bool lab_stall_run(const struct lab_stall_options *options, struct lab_stall_result *result,
		   GError **error)
{
	const struct lab_rule rule = rule_for(options);
	const struct lab_journey journey = {.policy = options->policy, .copy = options->copy};
	const struct lab_pair_options pair_options = {
		.vm =
			{
				.version = options->version,
				.devices = LAB_DEVICES_DOZEN,
				.guest = true,
				.fill_mib =
					options->copy == LAB_COPY_PRE ? FILL_MIB : SLOW_FILL_MIB,
				.dirty_mib = DIRTY_MIB,
			},
		.multifd = options->place == LAB_STALL_MULTIFD ? MULTIFD_CHANNELS : 0,
		.rules = &rule,
		.n_rules = options->place != LAB_STALL_NOWHERE,
	};
	g_autoptr(lab_pair) pair = NULL;
	g_autoptr(lab_vm) idle = NULL;
	g_autoptr(lab_poller) monitor_poller = NULL;
	g_autoptr(lab_poller) idle_poller = NULL;
	struct lab_vm *destination;
	struct machine begin, end;
	pid_t own[3];

	memset(result, 0, sizeof(*result));
	pair = lab_journey_new(&journey, &pair_options, error);
	if (!pair)
		return false;
	destination = lab_pair_destination(pair);
	idle = lab_vm_new_idle(options->version, error);
	if (!idle || (options->before && !options->before(pair, options->opaque, error)))
		return false;
	idle_poller = lab_poller_new(idle, error);
	if (!idle_poller)
		return false;
	own[0] = lab_vm_pid(lab_pair_source(pair));
	own[1] = lab_vm_pid(destination);
	own[2] = lab_vm_pid(idle);
	begin = machine_now(own, G_N_ELEMENTS(own));
	monitor_poller = lab_poller_new(destination, error);
	if (!monitor_poller || !lab_journey_begin(&journey, pair, error) ||
	    !lab_pair_wait(pair, MIGRATION_TIMEOUT_MS, &result->migration, error))
		return false;
	lab_poller_stop(monitor_poller, &result->monitor);
	lab_poller_stop(idle_poller, &result->idle);
	end = machine_now(own, G_N_ELEMENTS(own));
	result->others = machine_others(&begin, &end);
	if (strcmp(result->migration.status, "completed")) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the migration ended %s: %s",
			    result->migration.status,
			    result->migration.destination_error ?: result->migration.source_error ?: "?");
		return false;
	}
	/* A stall that never came proves nothing about a monitor that never froze. */
	if (pair_options.n_rules && !lab_proxy_fired_ns(lab_pair_proxy(pair), 0)) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the stall (%s) never came",
			    lab_stall_place_name(options->place));
		return false;
	}
	return lab_vm_alive(destination, ALIVE_TIMEOUT_MS, error) &&
	       (!options->after || options->after(pair, options->opaque, error));
}
