/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter's page for people: which QEMUs there are, and how their locks do.
 */
#include <string.h>

#include "analyzers/export/http.h"
#include "analyzers/model/words.h"

#define MINUTE_NS 60000000000ULL

static const char head[] =
	"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
	"<meta name=viewport content=\"width=device-width\"><title>bqlstat export</title><style>"
	"body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;"
	"color:#1a202c;background:#fff}h1{font-size:1.4em}table{border-collapse:collapse;width:100%"
	"}"
	"th,td{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #d5dbe3;"
	"vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
	"small,.q{color:#5a6675}a{color:#0b5cad}@media(prefers-color-scheme:dark){body{color:#"
	"e2e8f0;"
	"background:#12161c}th,td{border-color:#313a46}small,.q{color:#98a5b5}a{color:#7db7f0}}"
	"</style><h1>bqlstat export</h1>";

static void add(GString *out, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Arguments are escaped. */
static void add(GString *out, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_markup_vprintf_escaped(format, args);
	va_end(args);
	g_string_append(out, text);
}

static const struct figures_site *heaviest(const struct figures *f)
{
	const struct figures_site *best = NULL;

	for (unsigned i = 0; i < f->sites->len; i++) {
		const struct figures_site *s = f->sites->pdata[i];

		if (!best || s->weight_ns > best->weight_ns)
			best = s;
	}
	return best;
}

static void add_vm(GString *out, const struct figures *f, uint64_t now_ns)
{
	const struct figures_site *site = heaviest(f);
	char longest[WORDS_DURATION], current[WORDS_DURATION];
	/* Within the overhead budget that may be less than has passed since the attach. */
	uint64_t seen_ns = f->recorded_ns;

	add(out, "<tr><td>%s<br><small>process %d%s%s</small>", f->vm, f->pid, *f->uuid ? ", " : "",
	    f->uuid);
	if (f->refusal) {
		add(out, "<td class=q colspan=6>not traced: %s", f->refusal);
		return;
	}
	add(out, "<td>%s<br><small>policy %s</small>", f->version, f->policy);
	add(out, "<td class=n>%.2f%%", seen_ns ? 100.0 * MIN(f->held_ns, seen_ns) / seen_ns : 0.0);
	add(out, "<td class=n>%s", words_duration(longest, figures_longest(f, MINUTE_NS, now_ns)));
	add(out, "<td class=n>%s", f->current_ns ? words_duration(current, f->current_ns) : "free");
	add(out, "<td>%s<br><small>%s</small>", site ? site->name : "",
	    site ? role_name(site->role) : "");
	add(out, "<td>%s%s%s", phase_name(f->incoming.now.phase),
	    *f->incoming.now.device ? " " : "", f->incoming.now.device);
}

char *page_write(const struct book *book)
{
	GString *out = g_string_new(head);
	uint64_t now = g_get_monotonic_time() * 1000;

	g_string_append(out,
			"<p>Who holds the Big QEMU Lock of each QEMU on this host. For Prometheus: "
			"<a href=/metrics>/metrics</a>; for a health check: "
			"<a href=/healthz>/healthz</a>; for Grafana: "
			"<code>bqlstat export grafana</code>.");
	if (!book->vms->len) {
		g_string_append(out, "<p class=q>No QEMU runs here that would be watched.");
	} else {
		g_string_append(out,
				"<table><tr><th>VM<th>QEMU<th class=n>lock held<th class=n>longest "
				"hold, 1 min<th class=n>held now for<th>held most by<th>incoming "
				"migration");
		for (unsigned i = 0; i < book->vms->len; i++)
			add_vm(out, book->vms->pdata[i], now);
		g_string_append(out, "</table>");
	}
	add(out,
	    "<p><small>bqlstat %s. A lock and unlock takes %d ns longer while it is watched."
	    "</small>",
	    BQLSTAT_VERSION, (int)book->self.pair_ns);
	return g_string_free(out, FALSE);
}
