/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dashboards with something to see: a real Prometheus scrapes the real exporter while VMs
 * arrive under stock, io-free and wait. Prints what each panel has to show, serves the page that
 * draws the dashboards, and goes on until Ctrl-C.
 *
 *   demo-dashboard ASSETS [--qemu VERSION] [--port PORT] [--once]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/stage.h"

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* False: something is empty. */
static bool print_coverage(struct lab_stage *stage, const char *assets, const char *name)
{
	g_autofree char *file = g_strdup_printf("%s.json", name);
	g_autofree char *path = g_build_filename(assets, "boards", file, NULL), *text = NULL;
	g_autoptr(GPtrArray) queries = NULL;
	bool ok = true;

	if (g_file_get_contents(path, &text, NULL, NULL))
		queries = lab_queries(text, NULL);
	if (!queries) {
		fprintf(stderr, "demo-dashboard: cannot read %s\n", path);
		return false;
	}
	for (unsigned i = 0; i < queries->len; i++) {
		const struct lab_query *q = queries->pdata[i];
		g_autoptr(GError) error = NULL;
		struct lab_coverage c;
		bool asked = lab_stage_cover(stage, q, &c, &error);

		printf("  %-19s %-39s %5u series %7u samples  %s\n", q->dashboard, q->panel,
		       c.series, c.samples,
		       !asked	  ? error->message
		       : c.useful ? ""
				  : "nothing to see");
		ok = ok && asked && c.useful;
	}
	return ok;
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"fleet", "vm", "incoming", "regression"};
	static const char *const policies[] = {NULL, "io-free", "wait"};
	g_autofree char *version = NULL;
	gboolean once = FALSE;
	int port = 0;
	const GOptionEntry entries[] = {
		{"qemu", 'q', 0, G_OPTION_ARG_STRING, &version,
		 "QEMU to use: 7.2 (default), 10.0, 11.1 or a path", "QEMU"},
		{"port", 'p', 0, G_OPTION_ARG_INT, &port, "Prometheus' port (any free one)",
		 "PORT"},
		{"once", '1', 0, G_OPTION_ARG_NONE, &once, "end when all has been played", NULL},
		{},
	};
	g_autoptr(GOptionContext) context = g_option_context_new("ASSETS");
	struct lab_stage_options options = {};
	g_autofree char *assets = NULL;
	g_autoptr(GError) error = NULL;
	struct lab_stage *stage;
	bool ok = true;

	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 2) {
		fprintf(stderr, "demo-dashboard: %s; see --help\n",
			error ? error->message : "say where the page is");
		return 2;
	}
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	assets = g_canonicalize_filename(argv[1], NULL);
	options.version = version;
	options.assets = assets;
	options.prometheus_port = port;
	stage = lab_stage_new(&options, &error);
	if (stage)
		printf("Look at http://%s/user/index.html?board=incoming\n",
		       lab_prometheus_at(lab_stage_prometheus(stage)));
	fflush(stdout);
	for (unsigned i = 0; stage && i < G_N_ELEMENTS(policies) && !error && !stopped; i++) {
		fprintf(stderr, "demo-dashboard: a VM arrives, %s ...\n",
			policies[i] ? policies[i] : "stock");
		lab_stage_act(stage, policies[i], &error);
	}
	if (error) {
		fprintf(stderr, "demo-dashboard: %s\n", error->message);
		lab_stage_free(stage);
		return 3;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(names) && !stopped; i++)
		ok = print_coverage(stage, assets, names[i]) && ok;
	puts(ok ? "every panel has something to show" : "not every panel has something to show");
	fflush(stdout);
	if (!once && !stopped)
		fputs("demo-dashboard: Ctrl-C ends it\n", stderr);
	while (!once && !stopped)
		pause();
	lab_stage_free(stage);
	return ok ? 0 : 1;
}
