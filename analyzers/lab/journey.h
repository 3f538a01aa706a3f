/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One migration of any kind that QEMU knows, to a destination with any policy: what the arrival
 * tests and the soak choose from.
 */
#ifndef LAB_JOURNEY_H
#define LAB_JOURNEY_H

#include "analyzers/lab/lab.h"

enum lab_copy {
	LAB_COPY_PRE,
	LAB_COPY_POST,	  /* RAM still missing when the guest starts: needs a slow stream */
	LAB_COPY_PREEMPT, /* and urgent pages on a channel of their own */
	LAB_COPIES
};

struct lab_journey {
	const char *policy; /* of the destination's loadvm; NULL: started without loadvm */
	enum lab_copy copy;
	const char *compression; /* of multifd: "zlib", "zstd"; NULL: none */
	bool tls;		 /* with a pre-shared key; TCP only */
	bool mapped_ram;	 /* file: only */
};

/*
 * A pair as in `options`, with capabilities, parameters, objects and launcher of the journey added.
 * A postcopy's stream is limited to 10 MB/s unless the options say something else.
 */
struct lab_pair *lab_journey_new(const struct lab_journey *journey,
				 const struct lab_pair_options *options, GError **error);

/*
 * Migrate, start postcopy if the journey has it, wait for the end on both sides. Arrived means:
 * completed, and the guest goes on. False with the reason when it has not; `result` (may be NULL)
 * is to be cleared either way.
 */
bool lab_journey_arrive(const struct lab_journey *journey, struct lab_pair *pair,
			unsigned timeout_ms, struct lab_migration *result, GError **error);

/* The part before the waiting: the stream flows, postcopy included. */
bool lab_journey_begin(const struct lab_journey *journey, struct lab_pair *pair, GError **error);

/*
 * How a QEMU ends by itself: "exit CODE: LAST LINE", numbers and addresses blanked, so that two
 * QEMUs compare. NULL when it has not ended within the time. g_free().
 */
char *lab_vm_ending(struct lab_vm *vm, unsigned timeout_ms, GError **error);

/* Every policy that loadvm knows, as `loadvm --list` says, NULL-terminated. Owned by the lab. */
const char *const *lab_policies(void);

#endif
