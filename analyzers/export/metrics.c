/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of metrics.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "analyzers/export/metrics.h"
#include "analyzers/export/monitor.h"

typedef void vm_fn(struct exposition *e, const struct figures *f);
typedef void self_fn(struct exposition *e, const struct book *book);

struct entry {
	struct metric_family family;
	vm_fn *vm;     /* for each QEMU that is traced */
	vm_fn *any;    /* for each QEMU, traced or not */
	self_fn *self; /* once */
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* ---- who it is ---- */

static void write_info(struct exposition *e, const struct figures *f)
{
	g_autofree char *pid = g_strdup_printf("%d", f->pid);
	g_autofree char *labels = exposition_labels("pid", pid, "qemu", f->version, "build_id",
						    f->build_id, "policy", f->policy, NULL);

	exposition_count(e, labels, 1);
}

static void write_traced(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", !f->refusal);
}

static void write_attach_time(struct exposition *e, const struct figures *f)
{
	exposition_unix_ns(e, "", f->attach_unix_ns);
}

/* ---- the lock ---- */

static const char *role_label(char text[32], enum role role)
{
	snprintf(text, 32, "role=\"%s\"", role_name(role));
	return text;
}

static void write_holds(struct exposition *e, const struct figures *f)
{
	for (int i = 0; i < ROLES; i++) {
		const struct figures_role *role = &f->roles[i];
		struct exposition_exemplar exemplars[FIGURES_BUCKETS] = {};
		char label[32];

		if (!role->hold.count)
			continue;
		for (int b = 0; b < FIGURES_BUCKETS && e->format == EXPOSITION_OPENMETRICS; b++) {
			const struct figures_exemplar *x = &role->exemplar[b];

			if (!x->at_unix_ns)
				continue;
			exemplars[b].labels =
				exposition_labels("site", x->site, "phase", x->phase, NULL);
			exemplars[b].value_ns = x->hold_ns;
			exemplars[b].at_unix_ns = x->at_unix_ns;
		}
		exposition_histogram(e, role_label(label, i), figures_bounds_ns, FIGURES_BOUNDS,
				     role->hold.bucket, role->hold.sum_ns, exemplars);
		for (int b = 0; b < FIGURES_BUCKETS; b++)
			g_free((char *)exemplars[b].labels);
	}
}

static void write_waits(struct exposition *e, const struct figures *f)
{
	for (int i = 0; i < ROLES; i++) {
		const struct figures_histogram *h = &f->roles[i].wait;
		char label[32];

		if (h->count)
			exposition_histogram(e, role_label(label, i), figures_bounds_ns,
					     FIGURES_BOUNDS, h->bucket, h->sum_ns, NULL);
	}
}

static void write_held(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->held_ns);
}

static void write_acquisitions(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", f->acquired);
}

static void write_current(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->current_ns);
}

static void write_longest(struct exposition *e, const struct figures *f)
{
	static const struct {
		const char *label;
		uint64_t ns;
	} windows[] = {{"window=\"1m\"", 60000000000ULL}, {"window=\"5m\"", 300000000000ULL}};
	uint64_t now = now_ns();

	for (unsigned i = 0; i < G_N_ELEMENTS(windows); i++)
		exposition_ns(e, windows[i].label, figures_longest(f, windows[i].ns, now));
}

enum site_figure { SITE_ACQUIRED, SITE_HELD, SITE_WAITED };

static void write_site(struct exposition *e, const struct figures_site *s, enum site_figure which)
{
	switch (which) {
	case SITE_ACQUIRED:
		exposition_count(e, s->labels, s->acquired);
		break;
	case SITE_HELD:
		exposition_ns(e, s->labels, s->hold_ns);
		break;
	case SITE_WAITED:
		exposition_ns(e, s->labels, s->wait_ns);
		break;
	}
}

static void write_sites(struct exposition *e, const struct figures *f, enum site_figure which)
{
	for (unsigned i = 0; i < f->sites->len; i++) {
		const struct figures_site *s = f->sites->pdata[i];

		if (s->top)
			write_site(e, s, which);
	}
	for (int role = 0; role < ROLES; role++)
		if (f->others[role].acquired)
			write_site(e, &f->others[role], which);
}

static void write_site_acquisitions(struct exposition *e, const struct figures *f)
{
	write_sites(e, f, SITE_ACQUIRED);
}

static void write_site_holds(struct exposition *e, const struct figures *f)
{
	write_sites(e, f, SITE_HELD);
}

static void write_site_waits(struct exposition *e, const struct figures *f)
{
	write_sites(e, f, SITE_WAITED);
}

static void write_causes(struct exposition *e, const struct figures *f, bool times)
{
	for (unsigned i = 0; i <= f->causes->len; i++) {
		bool other = i == f->causes->len;
		const struct figures_cause *c =
			other ? &f->other_causes
			      : &g_array_index(f->causes, struct figures_cause, i);
		g_autofree char *label = exposition_labels("cause", c->name, NULL);

		if (other && !c->count)
			continue;
		if (times)
			exposition_ns(e, label, c->ns);
		else
			exposition_count(e, label, c->count);
	}
}

static void write_blocked(struct exposition *e, const struct figures *f)
{
	write_causes(e, f, true);
}

static void write_blocks(struct exposition *e, const struct figures *f)
{
	write_causes(e, f, false);
}

static void write_runnable(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->runnable_ns);
}

static void write_victims(struct exposition *e, const struct figures *f)
{
	for (int victim = 0; victim < ROLES; victim++) {
		for (int holder = 0; holder < FIGURES_HOLDERS; holder++) {
			const char *who = holder == FIGURES_NOBODY    ? "nobody"
					  : holder == FIGURES_EARLIER ? "earlier"
								      : role_name(holder);
			g_autofree char *labels = NULL;

			if (!f->charged_ns[victim][holder])
				continue;
			labels =
				exposition_labels("victim", role_name(victim), "holder", who, NULL);
			exposition_ns(e, labels, f->charged_ns[victim][holder]);
		}
	}
}

/* ---- the incoming migration ---- */

static void write_loads(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", f->incoming.loads);
}

static void write_phase(struct exposition *e, const struct figures *f)
{
	for (int i = 0; i < PHASES; i++) {
		g_autofree char *label = exposition_labels("phase", phase_name(i), NULL);

		exposition_count(e, label, f->incoming.now.phase == (enum phase)i);
	}
}

static void write_phase_starts(struct exposition *e, const struct figures *f)
{
	for (int i = PHASE_NONE + 1; i < PHASES; i++) {
		g_autofree char *label = exposition_labels("phase", phase_name(i), NULL);

		if (f->incoming.phase_unix_ns[i])
			exposition_unix_ns(e, label, f->incoming.phase_unix_ns[i]);
	}
}

static void write_phase_times(struct exposition *e, const struct figures *f)
{
	const struct figures_incoming *in = &f->incoming;

	for (int i = PHASE_NONE + 1; i < PHASES; i++) {
		g_autofree char *label = exposition_labels("phase", phase_name(i), NULL);
		uint64_t ns = in->phase_ns[i], now = now_ns();

		if (in->active && in->now.phase == (enum phase)i && now > in->entered_ns)
			ns += now - in->entered_ns;
		if (in->phase_unix_ns[i])
			exposition_ns(e, label, ns);
	}
}

static void write_load_time(struct exposition *e, const struct figures *f)
{
	const struct figures_incoming *in = &f->incoming;

	if (in->loads)
		exposition_ns(e, "", (in->end_ns ? in->end_ns : now_ns()) - in->begin_ns);
}

static void write_devices_loaded(struct exposition *e, const struct figures *f)
{
	if (f->incoming.loads)
		exposition_count(e, "", f->incoming.nr_devices);
}

static gint slowest_first(gconstpointer a, gconstpointer b)
{
	const struct figures_device *x = a, *y = b;

	return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : strcmp(x->name, y->name);
}

static void write_device_loads(struct exposition *e, const struct figures *f)
{
	GArray *devices = f->incoming.devices;
	uint64_t others_ns = 0;

	g_array_sort(devices, slowest_first);
	for (unsigned i = 0; i < devices->len; i++) {
		const struct figures_device *d = &g_array_index(devices, struct figures_device, i);
		g_autofree char *label = exposition_labels("device", d->name, NULL);

		if (i < FIGURES_DEVICES)
			exposition_ns(e, label, d->ns);
		else
			others_ns += d->ns;
	}
	if (devices->len > FIGURES_DEVICES)
		exposition_ns(e, "device=\"other\"", others_ns);
}

/* ---- loadvm ---- */

static void write_policy_loads(struct exposition *e, const struct figures *f)
{
	if (f->loadvm.present)
		exposition_count(e, "", f->loadvm.loads);
}

static void write_drops(struct exposition *e, const struct figures *f)
{
	if (!f->loadvm.present)
		return;
	exposition_count(e, "contended=\"no\"", f->loadvm.drops - f->loadvm.contended);
	exposition_count(e, "contended=\"yes\"", f->loadvm.contended);
}

static void write_handoffs(struct exposition *e, const struct figures *f)
{
	if (!f->loadvm.present)
		return;
	exposition_count(e, "result=\"taken\"", f->loadvm.taken);
	exposition_count(e, "result=\"missed\"", f->loadvm.missed);
}

static void write_handoff_time(struct exposition *e, const struct figures *f)
{
	if (f->loadvm.present)
		exposition_ns(e, "", f->loadvm.handoff_ns);
}

/* ---- its monitor ---- */

static bool ask(const struct figures *f, struct monitor_figures *m)
{
	if (f->monitor)
		monitor_read(f->monitor, m);
	return f->monitor;
}

static void write_monitor_up(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_count(e, "", m.up);
}

static void write_latency(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_histogram(e, "", figures_bounds_ns, FIGURES_BOUNDS, m.latency.bucket,
				     m.latency.sum_ns, NULL);
}

static void write_waiting(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_ns(e, "", m.waiting_ns);
}

static void write_status(struct exposition *e, const struct figures *f)
{
	/* QEMU's MigrationStatus. */
	static const char *const states[] = {
		"none",
		"setup",
		"cancelling",
		"cancelled",
		"active",
		"postcopy-device",
		"postcopy-active",
		"postcopy-paused",
		"postcopy-recover",
		"completed",
		"failed",
		"colo",
		"pre-switchover",
		"device",
		"wait-unplug",
	};
	struct monitor_figures m;

	if (!ask(f, &m) || !*m.status)
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(states); i++) {
		g_autofree char *label = exposition_labels("status", states[i], NULL);

		exposition_count(e, label, !strcmp(m.status, states[i]));
	}
}

static void write_ram(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (!ask(f, &m) || !m.total_bytes)
		return;
	exposition_count(e, "ram=\"transferred\"", m.transferred_bytes);
	exposition_count(e, "ram=\"remaining\"", m.remaining_bytes);
	exposition_count(e, "ram=\"total\"", m.total_bytes);
}

static void write_progress(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m) && m.total_bytes)
		exposition_real(e, "", 1.0 - (double)m.remaining_bytes / m.total_bytes);
}

/* ---- honesty ---- */

static void write_lost(struct exposition *e, const struct figures *f)
{
	for (unsigned i = 0; i < f->lost->len; i++) {
		const struct lost *l = &g_array_index(f->lost, struct lost, i);
		g_autofree char *label = exposition_labels(
			"reason", l->what, "kind", lost_at_edge(l->what) ? "edge" : "loss", NULL);

		exposition_count(e, label, l->count);
	}
}

static void write_points(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "state=\"hit\"", f->points_attached - f->points_unhit);
	exposition_count(e, "state=\"not_hit\"", f->points_unhit);
	exposition_count(e, "state=\"refused\"", f->points_refused);
}

static void write_level(struct exposition *e, const struct figures *f)
{
	static const char *const levels[] = {
		[TRACER_FULL] = "level=\"full\"",
		[TRACER_HOLDS] = "level=\"holds\"",
		[TRACER_BURSTS] = "level=\"bursts\"",
		[TRACER_AWAY] = "level=\"away\"",
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(levels); i++)
		exposition_count(e, levels[i], f->level == i);
}

static void write_recorded(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "what=\"holds\"", f->recorded_ns);
	exposition_ns(e, "what=\"waits\"", f->recorded_waits_ns);
}

/* The pair's cost is the same for all: the caller knows it. */
static void write_probe_time(struct exposition *e, const struct book *book)
{
	for (unsigned i = 0; i < book->vms->len; i++) {
		const struct figures *f = book->vms->pdata[i];

		if (f->refusal)
			continue;
		e->prefix = f->labels;
		exposition_ns(e, "", f->acquired * book->self.pair_ns);
	}
	e->prefix = "";
}

/* ---- the exporter ---- */

static void write_build(struct exposition *e, const struct book *book)
{
	(void)book;
	exposition_count(e, "version=\"" BQLSTAT_VERSION "\"", 1);
}

static void write_vms(struct exposition *e, const struct book *book)
{
	unsigned traced = 0;

	for (unsigned i = 0; i < book->vms->len; i++)
		traced += !((struct figures *)book->vms->pdata[i])->refusal;
	exposition_count(e, "state=\"traced\"", traced);
	exposition_count(e, "state=\"refused\"", book->vms->len - traced);
}

static void write_attaches(struct exposition *e, const struct book *book)
{
	exposition_count(e, "result=\"attached\"", book->self.attached);
	exposition_count(e, "result=\"refused\"", book->self.refused);
}

static void write_attach(struct exposition *e, const struct book *book)
{
	exposition_histogram(e, "", figures_bounds_ns, FIGURES_BOUNDS, book->self.attach.bucket,
			     book->self.attach.sum_ns, NULL);
}

static void write_pair(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "", book->self.pair_ns);
}

static void write_bias(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "of=\"hold\"", book->self.hold_bias_ns);
	exposition_ns(e, "of=\"wait\"", book->self.wait_bias_ns);
}

static void write_records(struct exposition *e, const struct book *book)
{
	exposition_count(e, "state=\"used\"", book->self.records_used);
	exposition_count(e, "state=\"free\"", book->self.records_room - book->self.records_used);
}

static void write_update(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "", book->self.update_ns);
}

static void write_scrapes(struct exposition *e, const struct book *book)
{
	exposition_count(e, "format=\"text\"", book->self.scrapes[EXPOSITION_TEXT]);
	exposition_count(e, "format=\"openmetrics\"", book->self.scrapes[EXPOSITION_OPENMETRICS]);
}

static void write_cpu(struct exposition *e, const struct book *book)
{
	struct rusage u;

	(void)book;
	getrusage(RUSAGE_SELF, &u);
	exposition_real(e, "",
			u.ru_utime.tv_sec + u.ru_stime.tv_sec +
				(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

static void write_memory(struct exposition *e, const struct book *book)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	(void)book;
	if (f && fscanf(f, "%*u %lu", &pages) == 1)
		exposition_count(e, "", pages * sysconf(_SC_PAGESIZE));
	if (f)
		fclose(f);
}

static void write_fds(struct exposition *e, const struct book *book)
{
	GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
	uint64_t n = 0;

	(void)book;
	while (dir && g_dir_read_name(dir))
		n++;
	if (dir)
		g_dir_close(dir);
	exposition_count(e, "", n ? n - 1 : 0); /* without the folder's own */
}

static void write_max_fds(struct exposition *e, const struct book *book)
{
	struct rlimit limit;

	(void)book;
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		exposition_count(e, "", limit.rlim_cur);
}

static const struct entry metrics[] = {
	{{"bqlstat_build_info", METRIC_INFO, "", "version", "The exporter's version."},
	 .self = write_build},
	{{"bqlstat_vms", METRIC_GAUGE, "", "state",
	  "QEMUs found, by whether they are traced; bqlstat_vm_traced says which."},
	 .self = write_vms},
	{{"bqlstat_vm_info", METRIC_INFO, "", "pid, qemu, build_id, policy",
	  "A QEMU: its process, version and build, and the policy that governs its incoming "
	  "migration (stock: QEMU's own way)."},
	 .any = write_info},
	{{"bqlstat_vm_traced", METRIC_GAUGE, "", "",
	  "Whether the QEMU is traced; when it is not, the exporter's page and log say why."},
	 .any = write_traced},
	{{"bqlstat_vm_attach_timestamp_seconds", METRIC_GAUGE, "seconds", "",
	  "When tracing of the QEMU began, in seconds since 1970; its counters began at 0 then."},
	 .vm = write_attach_time},

	{{"bqlstat_hold_seconds", METRIC_HISTOGRAM, "seconds", "role, le",
	  "How long the Big QEMU Lock was held, each time, by kind of thread."},
	 .vm = write_holds},
	{{"bqlstat_wait_seconds", METRIC_HISTOGRAM, "seconds", "role, le",
	  "How long a thread waited for the Big QEMU Lock, each time, by kind of thread."},
	 .vm = write_waits},
	{{"bqlstat_held_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that the lock was held, the present hold so far included: its rate is the share of "
	  "time held."},
	 .vm = write_held},
	{{"bqlstat_acquisitions_total", METRIC_COUNTER, "", "", "Times that the lock was taken."},
	 .vm = write_acquisitions},
	{{"bqlstat_current_hold_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the present holder has held the lock; 0 while it is free."},
	 .vm = write_current},
	{{"bqlstat_longest_hold_seconds", METRIC_GAUGE, "seconds", "window",
	  "The longest hold that ended, or still lasted, within the last 1m or 5m, whoever scrapes "
	  "and how often."},
	 .vm = write_longest},
	{{"bqlstat_site_acquisitions_total", METRIC_COUNTER, "", "site, role",
	  "Times that the lock was taken, by line of QEMU's source; the heaviest lines of a QEMU "
	  "have series of their own, the rest is site=\"other\"."},
	 .vm = write_site_acquisitions},
	{{"bqlstat_site_hold_seconds_total", METRIC_COUNTER, "seconds", "site, role",
	  "Time that the lock was held, by the line that took it."},
	 .vm = write_site_holds},
	{{"bqlstat_site_wait_seconds_total", METRIC_COUNTER, "seconds", "site, role",
	  "Time that was waited for the lock, by the line that asked for it."},
	 .vm = write_site_waits},
	{{"bqlstat_blocked_seconds_total", METRIC_COUNTER, "seconds", "cause",
	  "Time that a holder of the lock slept, by what it slept in: a system call, or a page "
	  "fault."},
	 .vm = write_blocked},
	{{"bqlstat_blocks_total", METRIC_COUNTER, "", "cause",
	  "Times that a holder of the lock slept, by what it slept in."},
	 .vm = write_blocks},
	{{"bqlstat_runnable_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that a holder of the lock was preempted or waited for a processor."},
	 .vm = write_runnable},
	{{"bqlstat_victim_wait_seconds_total", METRIC_COUNTER, "seconds", "victim, holder",
	  "Time that threads waited for the lock, by kind of thread that waited and of that which "
	  "held it meanwhile; nobody: it was being handed over; earlier: too many held it since."},
	 .vm = write_victims},

	{{"bqlstat_incoming_loads_total", METRIC_COUNTER, "", "",
	  "Incoming migrations that began while the QEMU was traced."},
	 .vm = write_loads},
	{{"bqlstat_incoming_phase", METRIC_GAUGE, "", "phase",
	  "1 for the phase that the incoming migration is in, 0 for the others."},
	 .vm = write_phase},
	{{"bqlstat_incoming_phase_start_timestamp_seconds", METRIC_GAUGE, "seconds", "phase",
	  "When the last incoming migration first entered the phase, in seconds since 1970."},
	 .vm = write_phase_starts},
	{{"bqlstat_incoming_phase_seconds", METRIC_GAUGE, "seconds", "phase",
	  "Time that the last incoming migration spent in the phase."},
	 .vm = write_phase_times},
	{{"bqlstat_incoming_load_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the last incoming migration took from its first byte to its end, or has "
	  "taken."},
	 .vm = write_load_time},
	{{"bqlstat_incoming_devices", METRIC_GAUGE, "", "",
	  "Device states that the last incoming migration has loaded."},
	 .vm = write_devices_loaded},
	{{"bqlstat_incoming_device_load_seconds", METRIC_GAUGE, "seconds", "device",
	  "Time that loading the device's state took in the last incoming migration, devices of "
	  "one "
	  "kind together."},
	 .vm = write_device_loads},

	{{"bqlstat_loadvm_loads_total", METRIC_COUNTER, "", "",
	  "Incoming migrations that loadvm ran in a thread or passed on to QEMU."},
	 .vm = write_policy_loads},
	{{"bqlstat_loadvm_lock_drops_total", METRIC_COUNTER, "", "contended",
	  "Times that loadvm's thread let go of the lock, by whether somebody seemed to wait."},
	 .vm = write_drops},
	{{"bqlstat_loadvm_handoffs_total", METRIC_COUNTER, "", "result",
	  "Times that loadvm's thread stood back for a waiter, by whether one took the lock."},
	 .vm = write_handoffs},
	{{"bqlstat_loadvm_handoff_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that loadvm's thread stood back for waiters."},
	 .vm = write_handoff_time},

	{{"bqlstat_monitor_up", METRIC_GAUGE, "", "",
	  "Whether the QEMU's monitor speaks to the exporter; only with --qmp."},
	 .any = write_monitor_up},
	{{"bqlstat_monitor_latency_seconds", METRIC_HISTOGRAM, "seconds", "le",
	  "How long the monitor took to answer a request, one every 0.5 s."},
	 .any = write_latency},
	{{"bqlstat_monitor_waiting_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the oldest request that has no answer yet has waited; 0: none waits."},
	 .any = write_waiting},
	{{"bqlstat_migration_status", METRIC_GAUGE, "", "status",
	  "1 for the status that query-migrate gives, 0 for the others."},
	 .any = write_status},
	{{"bqlstat_migration_ram_bytes", METRIC_GAUGE, "bytes", "ram",
	  "RAM of an outgoing migration: transferred, remaining, total."},
	 .any = write_ram},
	{{"bqlstat_migration_progress_ratio", METRIC_GAUGE, "ratio", "",
	  "Share of RAM that an outgoing migration need not send any more, 0 to 1."},
	 .any = write_progress},

	{{"bqlstat_events_lost_total", METRIC_COUNTER, "", "reason, kind",
	  "Occasions on which something was not recorded. kind=\"edge\": the attach or the exit "
	  "fell "
	  "in the middle of it, which is no fault."},
	 .vm = write_lost},
	{{"bqlstat_overhead_level", METRIC_GAUGE, "", "level",
	  "1 for how much is recorded within the overhead budget, 0 for the others: full; holds, "
	  "without waits and call sites; bursts of everything; away."},
	 .vm = write_level},
	{{"bqlstat_recorded_seconds_total", METRIC_COUNTER, "seconds", "what",
	  "Time for which holds, and waits with call sites, were recorded: all of it unless the "
	  "overhead budget was exceeded."},
	 .vm = write_recorded},
	{{"bqlstat_probe_points", METRIC_GAUGE, "", "state",
	  "Places where probes were to go: hit at least once, not hit yet, refused."},
	 .vm = write_points},
	{{"bqlstat_probe_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Time that the probes have cost the QEMU: acquisitions times "
	  "bqlstat_probe_pair_seconds."},
	 .self = write_probe_time},
	{{"bqlstat_probe_pair_seconds", METRIC_GAUGE, "seconds", "",
	  "What a lock and unlock takes longer because of the probes, measured on this machine."},
	 .self = write_pair},
	{{"bqlstat_probe_bias_seconds", METRIC_GAUGE, "seconds", "of",
	  "What an empty hold or wait reads; taken off every figure."},
	 .self = write_bias},

	{{"bqlstat_attaches_total", METRIC_COUNTER, "", "result",
	  "Attempts to attach to a QEMU, each QEMU once."},
	 .self = write_attaches},
	{{"bqlstat_attach_seconds", METRIC_HISTOGRAM, "seconds", "le",
	  "From when a QEMU was found to when it was recorded."},
	 .self = write_attach},
	{{"bqlstat_records", METRIC_GAUGE, "", "state",
	  "Records in the kernel, one a thread and call site: used and free. Acquisitions are lost "
	  "when none is free."},
	 .self = write_records},
	{{"bqlstat_update_seconds", METRIC_GAUGE, "seconds", "",
	  "How long the last reading of all figures took."},
	 .self = write_update},
	{{"bqlstat_scrapes_total", METRIC_COUNTER, "", "format", "Scrapes answered, by format."},
	 .self = write_scrapes},
	{{"process_cpu_seconds_total", METRIC_COUNTER, "seconds", "",
	  "Processor time that the exporter has used."},
	 .self = write_cpu},
	{{"process_resident_memory_bytes", METRIC_GAUGE, "bytes", "",
	  "Memory that the exporter has resident."},
	 .self = write_memory},
	{{"process_open_fds", METRIC_GAUGE, "", "", "Descriptors that the exporter has open."},
	 .self = write_fds},
	{{"process_max_fds", METRIC_GAUGE, "", "", "Descriptors that it may open."},
	 .self = write_max_fds},
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
