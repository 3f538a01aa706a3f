/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scenario: a machine, a migration and faults, read from a key file; played once, it is one real
 * migration between two QEMUs with the destination's monitor measured. scenarios/ has some.
 */
#ifndef LAB_SCENARIO_H
#define LAB_SCENARIO_H

#include "analyzers/lab/lab.h"

struct lab_scenario;

/* A path, or the name of one that is shipped. */
struct lab_scenario *lab_scenario_load(const char *which, GError **error);
void lab_scenario_free(struct lab_scenario *scenario);
const char *lab_scenario_name(const struct lab_scenario *scenario);
const char *lab_scenario_about(const struct lab_scenario *scenario);
/* Set "GROUP.KEY", as if the file said so; what is unknown or out of range is an error. */
bool lab_scenario_set(struct lab_scenario *scenario, const char *key, const char *value,
		      GError **error);
/* Whether it can be played, as far as can be told before a QEMU is asked. */
bool lab_scenario_check(const struct lab_scenario *scenario, GError **error);
/* A copy, to be set differently. */
struct lab_scenario *lab_scenario_copy(const struct lab_scenario *scenario);
/* Tells two scenarios apart, whatever comments and order their files have. */
uint32_t lab_scenario_version(const struct lab_scenario *scenario);
/* Paths of those that are shipped, sorted, NULL-terminated; g_strfreev(). */
char **lab_scenario_shipped(void);

struct lab_play_options {
	const char *qemu; /* of both: version or path; NULL: qemu-system-x86_64 on the PATH */
	const char *source_qemu; /* where it differs */
	const char *policy;	 /* of the destination's loadvm; NULL: started without loadvm */
	const char *const *args; /* more of QEMU's options, both sides; may be NULL */
	/* As in stall.h: when both stand, and when the guest goes on at the destination. */
	bool (*before)(struct lab_pair *pair, void *opaque, GError **error);
	bool (*after)(struct lab_pair *pair, void *opaque, GError **error);
	void *opaque;
};

struct lab_play_result {
	struct lab_latency monitor; /* the destination's, from `migrate` until the guest goes on */
	struct lab_latency idle;    /* of an idle QEMU, meanwhile */
	struct lab_migration migration;
	GArray *samples;      /* struct lab_sample, the monitor's one by one, or NULL */
	uint64_t blackout_ns; /* the source stopped -> the destination runs */
	double other_work;    /* processors that others than these QEMUs kept busy meanwhile */
	bool arrived;	      /* false: `why` says how the migration ended */
	char why[256];
};

/*
 * False with an error when the pair could not be made or measured. A migration that fails is a
 * result. Clear it with lab_migration_clear(&result->migration), and unref the samples.
 */
bool lab_scenario_play(const struct lab_scenario *scenario, const struct lab_play_options *options,
		       struct lab_play_result *result, GError **error);

typedef struct lab_scenario lab_scenario;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_scenario, lab_scenario_free)

#endif
