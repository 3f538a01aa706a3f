/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of metrics.
 */
#include "analyzers/export/samples.h"

typedef void vm_fn(struct exposition *e, const struct figures *f);
typedef void self_fn(struct exposition *e, const struct book *book);

struct entry {
	struct metric_family family;
	vm_fn *vm;     /* for each QEMU that is traced */
	vm_fn *any;    /* for each QEMU, traced or not */
	self_fn *self; /* once */
};

static const struct entry metrics[] = {
	{{"bqlstat_build_info", METRIC_INFO, "", "version", "The exporter's version."},
	 .self = samples_build},
	{{"bqlstat_vms", METRIC_GAUGE, "", "state",
	  "QEMUs found, by whether they are traced; bqlstat_vm_traced says which."},
	 .self = samples_vms},
	{{"bqlstat_vm_info", METRIC_INFO, "", "pid, qemu, build_id, policy",
	  "A QEMU: its process, version and build, and the policy that governs its incoming "
	  "migration (stock: QEMU's own way)."},
	 .any = samples_info},
	{{"bqlstat_vm_traced", METRIC_GAUGE, "", "",
	  "Whether the QEMU is traced; when it is not, the exporter's page and log say why."},
	 .any = samples_traced},
	{{"bqlstat_vm_attach_timestamp_seconds", METRIC_GAUGE, "seconds", "",
	  "When tracing of the QEMU began, in seconds since 1970; its counters began at 0 then."},
	 .vm = samples_attach_time},

	{{"bqlstat_hold_seconds", METRIC_HISTOGRAM, "seconds", "role, le",
	  "How long the Big QEMU Lock was held, each time, by kind of thread."},
	 .vm = samples_holds},
	{{"bqlstat_wait_seconds", METRIC_HISTOGRAM, "seconds", "role, le",
	  "How long a thread waited for the Big QEMU Lock, each time, by kind of thread."},
	 .vm = samples_waits},
	{{"bqlstat_held_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that the lock was held, the present hold so far included: its rate is the share of "
	  "time held."},
	 .vm = samples_held},
	{{"bqlstat_acquisitions_total", METRIC_COUNTER, "", "", "Times that the lock was taken."},
	 .vm = samples_acquisitions},
	{{"bqlstat_current_hold_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the present holder has held the lock; 0 while it is free."},
	 .vm = samples_current},
	{{"bqlstat_longest_hold_seconds", METRIC_GAUGE, "seconds", "window",
	  "The longest hold that ended, or still lasted, within the last 1m or 5m, whoever scrapes "
	  "and how often."},
	 .vm = samples_longest},
	{{"bqlstat_site_acquisitions_total", METRIC_COUNTER, "", "site, role",
	  "Times that the lock was taken, by line of QEMU's source; the heaviest lines of a QEMU "
	  "have series of their own, the rest is site=\"other\"."},
	 .vm = samples_site_acquisitions},
	{{"bqlstat_site_hold_seconds_total", METRIC_COUNTER, "seconds", "site, role",
	  "Time that the lock was held, by the line that took it."},
	 .vm = samples_site_holds},
	{{"bqlstat_site_wait_seconds_total", METRIC_COUNTER, "seconds", "site, role",
	  "Time that was waited for the lock, by the line that asked for it."},
	 .vm = samples_site_waits},
	{{"bqlstat_blocked_seconds_total", METRIC_COUNTER, "seconds", "cause",
	  "Time that a holder of the lock slept, by what it slept in: a system call, or a page "
	  "fault."},
	 .vm = samples_blocked},
	{{"bqlstat_blocks_total", METRIC_COUNTER, "", "cause",
	  "Times that a holder of the lock slept, by what it slept in."},
	 .vm = samples_blocks},
	{{"bqlstat_runnable_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that a holder of the lock was preempted or waited for a processor."},
	 .vm = samples_runnable},
	{{"bqlstat_victim_wait_seconds_total", METRIC_COUNTER, "seconds", "victim, holder",
	  "Time that threads waited for the lock, by kind of thread that waited and of that which "
	  "held it meanwhile; nobody: it was being handed over; earlier: too many held it since."},
	 .vm = samples_victims},

	{{"bqlstat_incoming_loads_total", METRIC_COUNTER, "", "",
	  "Incoming migrations that began while the QEMU was traced."},
	 .vm = samples_loads},
	{{"bqlstat_incoming_phase", METRIC_GAUGE, "", "phase",
	  "1 for the phase that the incoming migration is in, 0 for the others."},
	 .vm = samples_phase},
	{{"bqlstat_incoming_phase_start_timestamp_seconds", METRIC_GAUGE, "seconds", "phase",
	  "When the last incoming migration first entered the phase, in seconds since 1970."},
	 .vm = samples_phase_starts},
	{{"bqlstat_incoming_phase_seconds", METRIC_GAUGE, "seconds", "phase",
	  "Time that the last incoming migration spent in the phase."},
	 .vm = samples_phase_times},
	{{"bqlstat_incoming_load_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the last incoming migration took from its first byte to its end, or has "
	  "taken."},
	 .vm = samples_load_time},
	{{"bqlstat_incoming_devices", METRIC_GAUGE, "", "",
	  "Device states that the last incoming migration has loaded."},
	 .vm = samples_devices_loaded},
	{{"bqlstat_incoming_device_load_seconds", METRIC_GAUGE, "seconds", "device",
	  "Time that loading the device's state took in the last incoming migration, devices of "
	  "one "
	  "kind together."},
	 .vm = samples_device_loads},

	{{"bqlstat_loadvm_loads_total", METRIC_COUNTER, "", "",
	  "Incoming migrations that loadvm ran in a thread or passed on to QEMU."},
	 .vm = samples_policy_loads},
	{{"bqlstat_loadvm_lock_drops_total", METRIC_COUNTER, "", "contended",
	  "Times that loadvm's thread let go of the lock, by whether somebody seemed to wait."},
	 .vm = samples_drops},
	{{"bqlstat_loadvm_handoffs_total", METRIC_COUNTER, "", "result",
	  "Times that loadvm's thread stood back for a waiter, by whether one took the lock."},
	 .vm = samples_handoffs},
	{{"bqlstat_loadvm_handoff_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that loadvm's thread stood back for waiters."},
	 .vm = samples_handoff_time},

	{{"bqlstat_monitor_up", METRIC_GAUGE, "", "",
	  "Whether the QEMU's monitor speaks to the exporter; only with --qmp."},
	 .any = samples_monitor_up},
	{{"bqlstat_monitor_latency_seconds", METRIC_HISTOGRAM, "seconds", "le",
	  "How long the monitor took to answer a request, one every 0.5 s."},
	 .any = samples_latency},
	{{"bqlstat_monitor_waiting_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the oldest request that has no answer yet has waited; 0: none waits."},
	 .any = samples_waiting},
	{{"bqlstat_migration_status", METRIC_GAUGE, "", "status",
	  "1 for the status that query-migrate gives, 0 for the others."},
	 .any = samples_status},
	{{"bqlstat_migration_ram_bytes", METRIC_GAUGE, "bytes", "ram",
	  "RAM of an outgoing migration: transferred, remaining, total."},
	 .any = samples_ram},
	{{"bqlstat_migration_progress_ratio", METRIC_GAUGE, "ratio", "",
	  "Share of RAM that an outgoing migration need not send any more, 0 to 1."},
	 .any = samples_progress},

	{{"bqlstat_events_lost_total", METRIC_COUNTER, "", "reason, kind",
	  "Occasions on which something was not recorded. kind=\"edge\": the attach or the exit "
	  "fell "
	  "in the middle of it, which is no fault."},
	 .vm = samples_lost},
	{{"bqlstat_overhead_level", METRIC_GAUGE, "", "level",
	  "1 for how much is recorded within the overhead budget, 0 for the others: full; holds, "
	  "without waits and call sites; bursts of everything; away."},
	 .vm = samples_level},
	{{"bqlstat_recorded_seconds_total", METRIC_COUNTER, "seconds", "what",
	  "Time for which holds, and waits with call sites, were recorded: all of it unless the "
	  "overhead budget was exceeded."},
	 .vm = samples_recorded},
	{{"bqlstat_probe_points", METRIC_GAUGE, "", "state",
	  "Places where probes were to go: hit at least once, not hit yet, refused."},
	 .vm = samples_points},
	{{"bqlstat_probe_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that the probes have cost the QEMU: acquisitions times "
	  "bqlstat_probe_pair_seconds."},
	 .self = samples_probe_time},
	{{"bqlstat_probe_pair_seconds", METRIC_GAUGE, "seconds", "",
	  "What a lock and unlock takes longer because of the probes, measured on this machine."},
	 .self = samples_pair},
	{{"bqlstat_probe_bias_seconds", METRIC_GAUGE, "seconds", "of",
	  "What an empty hold or wait reads; taken off every figure."},
	 .self = samples_bias},

	{{"bqlstat_attaches_total", METRIC_COUNTER, "", "result",
	  "Attempts to attach to a QEMU, each QEMU once."},
	 .self = samples_attaches},
	{{"bqlstat_attach_seconds", METRIC_HISTOGRAM, "seconds", "le",
	  "From when a QEMU was found to when it was recorded."},
	 .self = samples_attach},
	{{"bqlstat_records", METRIC_GAUGE, "", "state",
	  "Records in the kernel, one a thread and call site: used and free. Acquisitions are lost "
	  "when none is free."},
	 .self = samples_records},
	{{"bqlstat_update_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the last reading of all figures took."},
	 .self = samples_update},
	{{"bqlstat_scrapes_total", METRIC_COUNTER, "", "format", "Scrapes answered, by format."},
	 .self = samples_scrapes},
	{{"process_cpu_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Processor time that the exporter has used."},
	 .self = samples_cpu},
	{{"process_start_time_seconds", METRIC_GAUGE, "seconds", "",
	  "When the exporter started, in seconds since 1970."},
	 .self = samples_start},
	{{"process_resident_memory_bytes", METRIC_GAUGE, "bytes", "",
	  "Memory that the exporter has resident."},
	 .self = samples_memory},
	{{"process_open_fds", METRIC_GAUGE, "", "", "Descriptors that the exporter has open."},
	 .self = samples_fds},
	{{"process_max_fds", METRIC_GAUGE, "", "", "Descriptors that it may open."},
	 .self = samples_max_fds},
};

size_t metrics_count(void)
{
	return G_N_ELEMENTS(metrics);
}

const struct metric_family *metrics_family(size_t index)
{
	return &metrics[index].family;
}

GString *metrics_write(struct book *book, enum exposition_format format)
{
	struct exposition e = {.out = g_string_sized_new(65536), .format = format, .prefix = ""};

	for (unsigned m = 0; m < G_N_ELEMENTS(metrics); m++) {
		exposition_begin(&e, &metrics[m].family);
		if (metrics[m].self)
			metrics[m].self(&e, book);
		for (unsigned i = 0; i < book->vms->len && !metrics[m].self; i++) {
			const struct figures *f = book->vms->pdata[i];

			e.prefix = f->labels;
			if (metrics[m].any)
				metrics[m].any(&e, f);
			else if (!f->refusal)
				metrics[m].vm(&e, f);
		}
		e.prefix = "";
	}
	exposition_end(&e);
	return e.out;
}
