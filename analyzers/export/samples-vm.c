/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The samples of one QEMU: each function writes those of one metric.
 */
#include <stdio.h>
#include <string.h>

#include "analyzers/export/monitor.h"
#include "analyzers/export/samples.h"

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* ---- who it is ---- */

void samples_info(struct exposition *e, const struct figures *f)
{
	g_autofree char *pid = g_strdup_printf("%d", f->pid);
	g_autofree char *labels = exposition_labels("pid", pid, "qemu", f->version, "build_id",
						    f->build_id, "policy", f->policy, NULL);

	exposition_count(e, labels, 1);
}

void samples_traced(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", !f->refusal);
}

void samples_attach_time(struct exposition *e, const struct figures *f)
{
	exposition_unix_ns(e, "", f->attach_unix_ns);
}

/* ---- the lock ---- */

static const char *role_label(char text[32], enum role role)
{
	snprintf(text, 32, "role=\"%s\"", role_name(role));
	return text;
}

void samples_holds(struct exposition *e, const struct figures *f)
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

void samples_waits(struct exposition *e, const struct figures *f)
{
	for (int i = 0; i < ROLES; i++) {
		const struct figures_histogram *h = &f->roles[i].wait;
		char label[32];

		if (h->count)
			exposition_histogram(e, role_label(label, i), figures_bounds_ns,
					     FIGURES_BOUNDS, h->bucket, h->sum_ns, NULL);
	}
}

void samples_held(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->held_ns);
}

void samples_acquisitions(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", f->acquired);
}

void samples_current(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->current_ns);
}

void samples_longest(struct exposition *e, const struct figures *f)
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

void samples_site_acquisitions(struct exposition *e, const struct figures *f)
{
	write_sites(e, f, SITE_ACQUIRED);
}

void samples_site_holds(struct exposition *e, const struct figures *f)
{
	write_sites(e, f, SITE_HELD);
}

void samples_site_waits(struct exposition *e, const struct figures *f)
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

void samples_blocked(struct exposition *e, const struct figures *f)
{
	write_causes(e, f, true);
}

void samples_blocks(struct exposition *e, const struct figures *f)
{
	write_causes(e, f, false);
}

void samples_runnable(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "", f->runnable_ns);
}

void samples_victims(struct exposition *e, const struct figures *f)
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

void samples_loads(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "", f->incoming.loads);
}

void samples_phase(struct exposition *e, const struct figures *f)
{
	for (int i = 0; i < PHASES; i++) {
		g_autofree char *label = exposition_labels("phase", phase_name(i), NULL);

		exposition_count(e, label, f->incoming.now.phase == (enum phase)i);
	}
}

void samples_phase_starts(struct exposition *e, const struct figures *f)
{
	for (int i = PHASE_NONE + 1; i < PHASES; i++) {
		g_autofree char *label = exposition_labels("phase", phase_name(i), NULL);

		if (f->incoming.phase_unix_ns[i])
			exposition_unix_ns(e, label, f->incoming.phase_unix_ns[i]);
	}
}

void samples_phase_times(struct exposition *e, const struct figures *f)
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

void samples_load_time(struct exposition *e, const struct figures *f)
{
	const struct figures_incoming *in = &f->incoming;

	if (in->loads)
		exposition_ns(e, "", (in->end_ns ? in->end_ns : now_ns()) - in->begin_ns);
}

void samples_devices_loaded(struct exposition *e, const struct figures *f)
{
	if (f->incoming.loads)
		exposition_count(e, "", f->incoming.nr_devices);
}

static gint slowest_first(gconstpointer a, gconstpointer b)
{
	const struct figures_device *x = a, *y = b;

	return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : strcmp(x->name, y->name);
}

void samples_device_loads(struct exposition *e, const struct figures *f)
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

void samples_policy_loads(struct exposition *e, const struct figures *f)
{
	if (f->loadvm.present)
		exposition_count(e, "", f->loadvm.loads);
}

void samples_drops(struct exposition *e, const struct figures *f)
{
	if (!f->loadvm.present)
		return;
	exposition_count(e, "contended=\"no\"", f->loadvm.drops - f->loadvm.contended);
	exposition_count(e, "contended=\"yes\"", f->loadvm.contended);
}

void samples_handoffs(struct exposition *e, const struct figures *f)
{
	if (!f->loadvm.present)
		return;
	exposition_count(e, "result=\"taken\"", f->loadvm.taken);
	exposition_count(e, "result=\"missed\"", f->loadvm.missed);
}

void samples_handoff_time(struct exposition *e, const struct figures *f)
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

void samples_monitor_up(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_count(e, "", m.up);
}

void samples_latency(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_histogram(e, "", figures_bounds_ns, FIGURES_BOUNDS, m.latency.bucket,
				     m.latency.sum_ns, NULL);
}

void samples_waiting(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m))
		exposition_ns(e, "", m.waiting_ns);
}

void samples_status(struct exposition *e, const struct figures *f)
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

void samples_ram(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (!ask(f, &m) || !m.total_bytes)
		return;
	exposition_count(e, "ram=\"transferred\"", m.transferred_bytes);
	exposition_count(e, "ram=\"remaining\"", m.remaining_bytes);
	exposition_count(e, "ram=\"total\"", m.total_bytes);
}

void samples_progress(struct exposition *e, const struct figures *f)
{
	struct monitor_figures m;

	if (ask(f, &m) && m.total_bytes)
		exposition_real(e, "", 1.0 - (double)m.remaining_bytes / m.total_bytes);
}

/* ---- honesty ---- */

void samples_lost(struct exposition *e, const struct figures *f)
{
	for (unsigned i = 0; i < f->lost->len; i++) {
		const struct lost *l = &g_array_index(f->lost, struct lost, i);
		g_autofree char *label = exposition_labels(
			"reason", l->what, "kind", lost_at_edge(l->what) ? "edge" : "loss", NULL);

		exposition_count(e, label, l->count);
	}
}

void samples_points(struct exposition *e, const struct figures *f)
{
	exposition_count(e, "state=\"hit\"", f->points_attached - f->points_unhit);
	exposition_count(e, "state=\"not_hit\"", f->points_unhit);
	exposition_count(e, "state=\"refused\"", f->points_refused);
}

void samples_level(struct exposition *e, const struct figures *f)
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

void samples_recorded(struct exposition *e, const struct figures *f)
{
	exposition_ns(e, "what=\"holds\"", f->recorded_ns);
	exposition_ns(e, "what=\"waits\"", f->recorded_waits_ns);
}
