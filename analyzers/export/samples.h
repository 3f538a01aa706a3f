/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside metrics.c's table: what writes each metric's samples. With the book's lock held, the
 * family begun, and for a QEMU's its labels as the prefix.
 */
#ifndef EXPORT_SAMPLES_H
#define EXPORT_SAMPLES_H

#include "analyzers/export/metrics.h"

/* samples-vm.c */

void samples_info(struct exposition *e, const struct figures *f);
void samples_traced(struct exposition *e, const struct figures *f);
void samples_attach_time(struct exposition *e, const struct figures *f);
void samples_holds(struct exposition *e, const struct figures *f);
void samples_waits(struct exposition *e, const struct figures *f);
void samples_held(struct exposition *e, const struct figures *f);
void samples_acquisitions(struct exposition *e, const struct figures *f);
void samples_current(struct exposition *e, const struct figures *f);
void samples_longest(struct exposition *e, const struct figures *f);
void samples_site_acquisitions(struct exposition *e, const struct figures *f);
void samples_site_holds(struct exposition *e, const struct figures *f);
void samples_site_waits(struct exposition *e, const struct figures *f);
void samples_blocked(struct exposition *e, const struct figures *f);
void samples_blocks(struct exposition *e, const struct figures *f);
void samples_runnable(struct exposition *e, const struct figures *f);
void samples_victims(struct exposition *e, const struct figures *f);
void samples_loads(struct exposition *e, const struct figures *f);
void samples_phase(struct exposition *e, const struct figures *f);
void samples_phase_starts(struct exposition *e, const struct figures *f);
void samples_phase_times(struct exposition *e, const struct figures *f);
void samples_load_time(struct exposition *e, const struct figures *f);
void samples_devices_loaded(struct exposition *e, const struct figures *f);
void samples_device_loads(struct exposition *e, const struct figures *f);
void samples_policy_loads(struct exposition *e, const struct figures *f);
void samples_drops(struct exposition *e, const struct figures *f);
void samples_handoffs(struct exposition *e, const struct figures *f);
void samples_handoff_time(struct exposition *e, const struct figures *f);
void samples_monitor_up(struct exposition *e, const struct figures *f);
void samples_latency(struct exposition *e, const struct figures *f);
void samples_waiting(struct exposition *e, const struct figures *f);
void samples_status(struct exposition *e, const struct figures *f);
void samples_ram(struct exposition *e, const struct figures *f);
void samples_progress(struct exposition *e, const struct figures *f);
void samples_lost(struct exposition *e, const struct figures *f);
void samples_points(struct exposition *e, const struct figures *f);
void samples_level(struct exposition *e, const struct figures *f);
void samples_recorded(struct exposition *e, const struct figures *f);

/* samples-self.c */

void samples_probe_time(struct exposition *e, const struct book *book);
void samples_build(struct exposition *e, const struct book *book);
void samples_vms(struct exposition *e, const struct book *book);
void samples_attaches(struct exposition *e, const struct book *book);
void samples_attach(struct exposition *e, const struct book *book);
void samples_pair(struct exposition *e, const struct book *book);
void samples_bias(struct exposition *e, const struct book *book);
void samples_records(struct exposition *e, const struct book *book);
void samples_update(struct exposition *e, const struct book *book);
void samples_scrapes(struct exposition *e, const struct book *book);
void samples_cpu(struct exposition *e, const struct book *book);
void samples_start(struct exposition *e, const struct book *book);
void samples_memory(struct exposition *e, const struct book *book);
void samples_fds(struct exposition *e, const struct book *book);
void samples_max_fds(struct exposition *e, const struct book *book);

#endif
