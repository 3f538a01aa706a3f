/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Printing the dashboards and what goes with them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-glib/json-glib.h>

#include "analyzers/command.h"
#include "analyzers/export/grafana.h"

/* embedded.S */
extern const char grafana_fleet[], grafana_vm[], grafana_incoming[], grafana_regression[];
extern const char grafana_datasource[], grafana_provider[], grafana_rules[], grafana_alerts[];

static const struct {
	const char *file;
	const char *uid; /* NULL: no dashboard */
	const char *does;
	const char *text;
} files[] = {
	{"fleet.json", "bqlstat-fleet", "every QEMU of every host", grafana_fleet},
	{"vm.json", "bqlstat-vm", "one QEMU's lock", grafana_vm},
	{"incoming.json", "bqlstat-incoming", "one incoming migration", grafana_incoming},
	{"regression.json", "bqlstat-regression", "QEMU versions and policies side by side",
	 grafana_regression},
	{"provisioning/datasource.yaml", NULL, "Grafana: where Prometheus is", grafana_datasource},
	{"provisioning/dashboards.yaml", NULL, "Grafana: load the dashboards from a folder",
	 grafana_provider},
	{"prometheus/rules.yaml", NULL, "Prometheus: recording rules, which the dashboards use",
	 grafana_rules},
	{"prometheus/alerts.yaml", NULL, "Prometheus: alerts", grafana_alerts},
};

static JsonObject *find_variable(JsonObject *dashboard, const char *name)
{
	JsonObject *templating = json_object_get_object_member(dashboard, "templating");
	JsonArray *list = json_object_get_array_member(templating, "list");

	for (unsigned i = 0; i < json_array_get_length(list); i++) {
		JsonObject *variable = json_array_get_object_element(list, i);

		if (!strcmp(json_object_get_string_member(variable, "name"), name))
			return variable;
	}
	return NULL;
}

/* The dashboard with another data source chosen at first; g_free(). */
static char *with_datasource(const char *text, const char *uid)
{
	g_autoptr(JsonNode) root = json_from_string(text, NULL);
	JsonObject *variable = find_variable(json_node_get_object(root), "datasource");
	JsonObject *current = json_object_new();
	g_autofree char *out = NULL;

	json_object_set_string_member(current, "text", uid);
	json_object_set_string_member(current, "value", uid);
	json_object_set_object_member(variable, "current", current);
	out = json_to_string(root, TRUE);
	return g_strconcat(out, "\n", NULL);
}

static char *text_of(unsigned i, const struct grafana_options *options)
{
	return files[i].uid && options->datasource
		       ? with_datasource(files[i].text, options->datasource)
		       : g_strdup(files[i].text);
}

static int write_all(const struct grafana_options *options)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *path = g_build_filename(options->folder, files[i].file, NULL);
		g_autofree char *folder = g_path_get_dirname(path);
		g_autofree char *text = text_of(i, options);
		g_autoptr(GError) error = NULL;

		if (g_mkdir_with_parents(folder, 0755))
			return command_fail(EXIT_CANNOT, "cannot make %s: %s", folder,
					    g_strerror(errno));
		if (!g_file_set_contents(path, text, -1, &error))
			return command_fail(EXIT_CANNOT, "%s", error->message);
	}
	return EXIT_DONE;
}

static int list(void)
{
	puts("dashboards (bqlstat export grafana --uid UID prints one):");
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
		if (files[i].uid)
			printf("  %-29s %s\n", files[i].uid, files[i].does);
	puts("with -o DIR all of them are written, and these:");
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
		if (!files[i].uid)
			printf("  %-29s %s\n", files[i].file, files[i].does);
	return EXIT_DONE;
}

int grafana_print(const struct grafana_options *options)
{
	if (options->folder && options->uid)
		return command_fail(EXIT_USAGE, "-o writes every dashboard: leave --uid out");
	if (options->folder)
		return write_all(options);
	if (!options->uid)
		return list();
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *text = NULL;

		if (g_strcmp0(files[i].uid, options->uid))
			continue;
		text = text_of(i, options);
		fputs(text, stdout);
		return EXIT_DONE;
	}
	return command_fail(EXIT_USAGE,
			    "there is no dashboard %s: `bqlstat export grafana` lists them",
			    options->uid);
}
