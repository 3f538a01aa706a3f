/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A Prometheus of our own: Debian's, unpacked, with its data in the lab's folder.
 */
#include <signal.h>
#include <string.h>

#include "analyzers/lab/internal.h"
#include "analyzers/lab/web.h"

#define FETCH	 "analyzers/lab/fetch-prometheus.sh"
#define READY_MS 20000

struct lab_prometheus {
	struct lab_process *process;
	char *at;
};

static char *look_for(const char *name, char **why)
{
	const char *root = lab_source_root();
	g_autofree char *folder = root ? g_build_filename(root, "build/prometheus", NULL) : NULL;
	g_autofree char *unpacked = root ? g_build_filename(folder, name, NULL) : NULL;
	g_autofree char *script = root ? g_build_filename(root, FETCH, NULL) : NULL;
	g_autofree char *says = NULL;
	g_autoptr(lab_process) fetch = NULL;
	char *installed;
	int status = -1;

	if (root && !g_file_test(unpacked, G_FILE_TEST_IS_EXECUTABLE)) {
		g_printerr("# fetching Prometheus\n");
		fetch = lab_process_new((const char *[]){script, folder, NULL}, NULL, NULL);
		if (fetch)
			lab_process_wait(fetch, 300000, &status, NULL);
		says = fetch ? lab_process_stderr(fetch) : NULL;
	}
	if (root && g_file_test(unpacked, G_FILE_TEST_IS_EXECUTABLE))
		return g_steal_pointer(&unpacked);
	installed = g_find_program_in_path(name);
	if (!installed)
		*why = g_strdup_printf("no %s here: %s", name,
				       says && *says ? g_strchomp(says) : "no source tree");
	return installed;
}

const char *lab_prometheus_program(const char *name, const char **why)
{
	static struct {
		const char *name;
		char *path, *why;
	} known[] = {{.name = "prometheus"}, {.name = "promtool"}};

	for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
		if (strcmp(known[i].name, name))
			continue;
		if (!known[i].path && !known[i].why)
			known[i].path = look_for(name, &known[i].why);
		*why = known[i].why;
		return known[i].path;
	}
	*why = "Prometheus has no such program";
	return NULL;
}

static char *write_config(const struct lab_prometheus_options *o, const char *folder,
			  GError **error)
{
	g_autofree char *rules =
		o->rules ? g_strdup_printf("rule_files: ['%s/rules.yaml', '%s/alerts.yaml']\n",
					   o->rules, o->rules)
			 : g_strdup("");
	g_autofree char *text =
		g_strdup_printf("global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
				"%s"
				"scrape_configs:\n"
				"  - job_name: bqlstat\n"
				"    scrape_timeout: 1s\n"
				"    static_configs: [{targets: ['%s']}]\n",
				rules, o->scrape);
	char *path = g_build_filename(folder, "prometheus.yml", NULL);

	if (!g_file_set_contents(path, text, -1, error))
		g_clear_pointer(&path, g_free);
	return path;
}

static bool wait_ready(struct lab_prometheus *p, GError **error)
{
	for (int i = 0; i < READY_MS / 100; i++) {
		g_autofree char *answer = lab_web_get(p->at, "/-/ready", NULL, NULL);
		g_autofree char *says = NULL;

		if (answer)
			return true;
		if (!lab_process_running(p->process)) {
			says = lab_process_stderr(p->process);
			g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED,
				    "Prometheus has ended: %.500s", says);
			return false;
		}
		g_usleep(100000);
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT, "Prometheus does not get ready");
	return false;
}

/* Prometheus may take 5 s to take up its targets. */
static bool wait_scraped(struct lab_prometheus *p, GError **error)
{
	for (int i = 0; i < READY_MS / 100; i++) {
		g_autoptr(JsonNode) up = lab_prometheus_query(p, "up == 1", 0, 0, NULL);

		if (up && json_array_get_length(json_node_get_array(up)))
			return true;
		g_usleep(100000);
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT, "Prometheus does not scrape");
	return false;
}

struct lab_prometheus *lab_prometheus_new(const struct lab_prometheus_options *o, GError **error)
{
	const char *why, *program = lab_prometheus_program("prometheus", &why);
	unsigned port = o->port ? o->port : lab_free_port();
	g_autofree char *folder = g_strdup_printf("%s/prometheus-%u", lab_tmpdir(), port);
	g_autofree char *storage = g_strdup_printf("--storage.tsdb.path=%s/data", folder);
	g_autofree char *assets =
		o->assets ? g_strdup_printf("--web.user-assets=%s", o->assets) : NULL;
	g_autofree char *config = NULL, *config_option = NULL, *listen = NULL;
	struct lab_prometheus *p;

	if (!program) {
		g_set_error_literal(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE, why);
		return NULL;
	}
	g_mkdir_with_parents(folder, 0700);
	config = write_config(o, folder, error);
	if (!config)
		return NULL;
	p = g_new0(struct lab_prometheus, 1);
	p->at = g_strdup_printf("127.0.0.1:%u", port);
	config_option = g_strdup_printf("--config.file=%s", config);
	listen = g_strdup_printf("--web.listen-address=%s", p->at);
	p->process = lab_process_new(
		(const char *[]){program, config_option, storage, listen, "--log.level=warn",
				 "--enable-feature=exemplar-storage", assets, NULL},
		NULL, error);
	if (!p->process || !wait_ready(p, error) || !wait_scraped(p, error)) {
		lab_prometheus_free(p);
		return NULL;
	}
	return p;
}

void lab_prometheus_free(struct lab_prometheus *p)
{
	if (!p)
		return;
	lab_process_free(p->process);
	g_free(p->at);
	g_free(p);
}

const char *lab_prometheus_at(const struct lab_prometheus *p)
{
	return p->at;
}

JsonNode *lab_prometheus_query(struct lab_prometheus *p, const char *expression, unsigned range_s,
			       unsigned step_s, GError **error)
{
	g_autofree char *escaped = g_uri_escape_string(expression, NULL, FALSE);
	gint64 now = g_get_real_time() / 1000000;
	g_autofree char *path =
		step_s ? g_strdup_printf("/api/v1/query_range?query=%s&start=%" G_GINT64_FORMAT
					 "&end=%" G_GINT64_FORMAT "&step=%u",
					 escaped, now - range_s, now, step_s)
		       : g_strdup_printf("/api/v1/query?query=%s", escaped);
	g_autofree char *text = lab_web_get(p->at, path, NULL, error);
	g_autoptr(JsonNode) root = NULL;
	JsonObject *data;

	if (!text)
		return NULL;
	root = json_from_string(text, error);
	if (!root)
		return NULL;
	data = json_object_get_object_member(json_node_get_object(root), "data");
	return json_node_copy(json_object_get_member(data, "result"));
}
