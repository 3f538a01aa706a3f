/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the scenarios share: a load, from its source to its end, and what must hold after it.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "runtime/thread/core.h"
#include "tests/host/host.h"

extern const char *const policy_names[];
extern enum host_policy start_policy; /* what this process was started with */
extern bool runtime_is_in;	      /* with its detours */
extern const char *control;	      /* the control file, or NULL */

struct load {
	const char *stream;
	const char *channels[MULTIFD_CHANNELS];
	bool source_dies, vfio_fails;
	int buffers; /* of VFIO state */
	int result;
};

/* Everything is there that a load needs: for host_incoming(). */
QEMUFile *connect_source(const struct load *load);
void disconnect_source(void);
/* Down the stream. Returns false when nobody reads it any more. */
bool source_write(const char *bytes, size_t n);
void source_send(const char *bytes);
/* Down RDMA's completion channel. */
void source_completes(void);

/* The next load is under this policy, by the control file if there is one. */
void use_policy(enum host_policy policy);
/* All of it, and its end. */
void run_load(const struct load *load);
/* The main loop, until the load that has begun is over; and its end. */
void end_load(int result);

/* Whatever began has ended. */
void check_balance(void);
/* Who called it? */
void check_came(enum host_function function, int direct, int through);
/* The runtime did, each time, or it never did. */
void check_all_came(enum host_function function, int calls, bool through);
/* After a load the detours that cost something are asleep again. */
void check_bypassed(void);

/* loads.c */
void scenario_balanced(void);
void scenario_mixed(void);
void scenario_untouched(void);
void scenario_receivers(void);
void scenario_kicked(void);
/* fair.c */
void scenario_fair(void);
void scenario_fair_between(void);
void scenario_nobody(void);
/* quit.c: returns, with false, only if there is no such phase under this policy. */
bool scenario_quit(const char *phase);
void scenario_list_quits(void);

#endif
