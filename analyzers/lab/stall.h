/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One experiment: a VM with a dozen devices arrives, its stream stalls at one place, and a client
 * of the destination's monitor measures how long it waits for answers.
 */
#ifndef LAB_STALL_H
#define LAB_STALL_H

#include "analyzers/lab/journey.h"

enum lab_stall_place {
	LAB_STALL_NOWHERE,
	LAB_STALL_RAM,	   /* in the middle of guest RAM, on the main channel */
	LAB_STALL_DEVICE,  /* in the middle of a device's state */
	LAB_STALL_MULTIFD, /* one of two multifd channels; precopy only */
	LAB_STALL_LATE,	   /* in the middle of RAM, when the guest runs already; postcopy only */
	LAB_STALL_PLACES
};

const char *lab_stall_place_name(enum lab_stall_place place);

struct lab_stall_options {
	const char *version; /* of both QEMUs; "7.2" */
	const char *policy;  /* of the destination's loadvm; NULL: started without loadvm */
	enum lab_copy copy;
	enum lab_stall_place place;
	unsigned stall_ms; /* 3000 */
	/*
	 * Called when both QEMUs stand and before the stream starts, and again when the guest goes
	 * on at the destination (both may be NULL): to attach and detach a tracer. False with an
	 * error set ends the experiment.
	 */
	bool (*before)(struct lab_pair *pair, void *opaque, GError **error);
	bool (*after)(struct lab_pair *pair, void *opaque, GError **error);
	void *opaque;
};

struct lab_stall_result {
	struct lab_latency monitor; /* the destination's, from `migrate` until the guest goes on */
	struct lab_latency idle;    /* an idle QEMU's, meanwhile: what this machine itself does */
	double others; /* processors that neither QEMUs nor client kept busy meanwhile, steal included */
	struct lab_migration migration;
};

/*
 * False with an error when the experiment could not be made, or the guest does not go on at the
 * destination. Clear the result with lab_migration_clear(&result->migration).
 */
bool lab_stall_run(const struct lab_stall_options *options, struct lab_stall_result *result,
		   GError **error);

#endif
