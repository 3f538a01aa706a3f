/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a QEMU's monitor takes to answer, and what it says of its migration: a QMP client in a
 * thread of its own. It asks on a fixed beat whether or not the last answer has come, so that a
 * monitor that is frozen for 3 s is not one slow answer but every one that was due meanwhile.
 */
#ifndef EXPORT_MONITOR_H
#define EXPORT_MONITOR_H

#include "analyzers/export/figures.h"

#define MONITOR_BEAT_NS 500000000ULL

struct monitor_figures {
	bool up; /* connected, and QMP is spoken */
	struct figures_histogram latency;
	uint64_t waiting_ns; /* since the oldest request without an answer; 0: none */
	char status[32];     /* of the migration: "active"; "" unknown */
	/* Of an outgoing one; total 0: not known. */
	uint64_t transferred_bytes, remaining_bytes, total_bytes;
};

struct monitor;

/* A client of the QMP socket at that path, which it looks for until it is there. Never fails. */
struct monitor *monitor_new(const char *path);
/* Does not wait for answers. */
void monitor_free(struct monitor *m);
/* From any thread. */
void monitor_read(struct monitor *m, struct monitor_figures *figures);

#endif
