/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dashboards: the rules that Grafana's linter checks, Prometheus' rules and their tests, and
 * whether every panel has something to show when a real Prometheus scrapes the real exporter while
 * real migrations run.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/stage.h"

static const char *const dashboards[] = {"fleet", "vm", "incoming", "regression"};

static char *path_of(const char *name)
{
	g_autofree char *here = g_canonicalize_filename(lab_program("bqlstat"), NULL);

	while (strlen(here) > 1) {
		char *up = g_path_get_dirname(here);
		g_autofree char *folder = g_build_filename(up, "dashboards", "prometheus", NULL);

		g_free(here);
		here = up;
		if (g_file_test(folder, G_FILE_TEST_IS_DIR))
			return g_build_filename(up, "dashboards", name, NULL);
	}
	g_error("the sources' dashboards/ is not above the programs");
}

static char *read_dashboard(const char *name)
{
	g_autofree char *file = g_strdup_printf("%s.json", name), *path = path_of(file);
	char *text = NULL;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return text;
}

/* ---- the linter's rules ---- */

static const char *text_of(JsonObject *object, const char *name)
{
	return json_object_get_string_member_with_default(object, name, "");
}

static JsonObject *variable(JsonObject *root, const char *name)
{
	JsonArray *list = json_object_get_array_member(
		json_object_get_object_member(root, "templating"), "list");

	for (unsigned i = 0; i < json_array_get_length(list); i++) {
		JsonObject *v = json_array_get_object_element(list, i);

		if (!strcmp(text_of(v, "name"), name))
			return v;
	}
	g_error("there is no variable %s", name);
}

static void check_variables(JsonObject *root)
{
	static const char *const queried[][2] = {{"job", "Job"}, {"instance", "Instance"}};
	JsonObject *v = variable(root, "datasource");

	g_assert_cmpstr(text_of(v, "type"), ==, "datasource");
	g_assert_cmpstr(text_of(v, "query"), ==, "prometheus");
	g_assert_cmpstr(text_of(v, "label"), ==, "Data source");
	for (unsigned i = 0; i < G_N_ELEMENTS(queried); i++) {
		v = variable(root, queried[i][0]);
		g_assert_cmpstr(text_of(v, "label"), ==, queried[i][1]);
		g_assert_cmpstr(text_of(v, "type"), ==, "query");
		g_assert_cmpstr(text_of(v, "allValue"), ==, ".+");
		g_assert_true(json_object_get_boolean_member(v, "multi"));
		g_assert_cmpint(json_object_get_int_member(v, "refresh"), ==, 2);
		g_assert_cmpstr(text_of(json_object_get_object_member(v, "datasource"), "uid"), ==,
				"${datasource}");
	}
}

static bool matches(const char *text, const char *pattern)
{
	return g_regex_match_simple(pattern, text, 0, 0);
}

static void check_expression(const char *e)
{
	g_autoptr(GRegex) selector = g_regex_new("[a-z_]:?[a-z_0-9:]*\\{([^}]*)\\}", 0, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;
	unsigned selectors = 0;

	for (g_regex_match(selector, e, 0, &match); g_match_info_matches(match);
	     g_match_info_next(match, NULL)) {
		g_autofree char *labels = g_match_info_fetch(match, 1);

		g_assert_nonnull(strstr(labels, "job=~\"$job\""));
		g_assert_nonnull(strstr(labels, "instance=~\"$instance\""));
		selectors++;
	}
	g_assert_cmpuint(selectors, >, 0);
	/* A rate over the whole range shown is one number; everything else follows the zoom. */
	g_assert_false(
		matches(e, "(rate|increase)\\([^()]*\\[(?!\\$__rate_interval\\]|\\$__range\\])"));
	g_assert_false(matches(e, "[^_]irate\\("));
	/* A counter is of no use as it is. Recorded series (with a colon) are rates already. */
	g_assert_false(
		matches(e, "(?<!rate\\()(?<!increase\\()\\bbqlstat_[a-z_]+_(total|bucket|sum|count)"
			   "\\{"));
}

static void check_panel(JsonObject *panel)
{
	JsonArray *targets;
	JsonObject *defaults;

	if (!strcmp(text_of(panel, "type"), "row"))
		return;
	g_assert_cmpstr(text_of(panel, "title"), !=, "");
	g_assert_cmpuint(strlen(text_of(panel, "description")), >, 10);
	g_assert_cmpstr(text_of(json_object_get_object_member(panel, "datasource"), "uid"), ==,
			"${datasource}");
	defaults = json_object_get_object_member(
		json_object_get_object_member(panel, "fieldConfig"), "defaults");
	g_assert_cmpstr(text_of(defaults, "unit"), !=, "");
	targets = json_object_get_array_member(panel, "targets");
	g_assert_cmpuint(json_array_get_length(targets), >, 0);
	for (unsigned i = 0; i < json_array_get_length(targets); i++)
		check_expression(text_of(json_array_get_object_element(targets, i), "expr"));
}

/* Nothing covers anything else, nothing sticks out. */
static void check_layout(JsonArray *panels)
{
	bool taken[400][24] = {};

	for (unsigned i = 0; i < json_array_get_length(panels); i++) {
		JsonObject *at = json_object_get_object_member(
			json_array_get_object_element(panels, i), "gridPos");
		int x = json_object_get_int_member(at, "x"),
		    y = json_object_get_int_member(at, "y");
		int w = json_object_get_int_member(at, "w"),
		    h = json_object_get_int_member(at, "h");

		g_assert_cmpint(x + w, <=, 24);
		g_assert_cmpint(y + h, <=, 400);
		for (int row = y; row < y + h; row++)
			for (int column = x; column < x + w; column++) {
				g_assert_false(taken[row][column]);
				taken[row][column] = true;
			}
	}
}

static void lint(gconstpointer name)
{
	g_autofree char *text = read_dashboard(name);
	g_autofree char *uid = g_strdup_printf("bqlstat-%s", (const char *)name);
	g_autoptr(GHashTable) ids = g_hash_table_new(NULL, NULL);
	g_autoptr(JsonNode) node = json_from_string(text, NULL);
	JsonObject *root = json_node_get_object(node);
	JsonArray *panels = json_object_get_array_member(root, "panels");

	g_assert_cmpstr(text_of(root, "uid"), ==, uid);
	g_assert_false(json_object_get_boolean_member(root, "editable"));
	check_variables(root);
	check_layout(panels);
	for (unsigned i = 0; i < json_array_get_length(panels); i++) {
		JsonObject *panel = json_array_get_object_element(panels, i);
		gint64 id = json_object_get_int_member(panel, "id");

		g_assert_true(g_hash_table_add(ids, GINT_TO_POINTER(id)));
		check_panel(panel);
	}
}

/* ---- what is printed is what lies in dashboards/ ---- */

static void printed(void)
{
	g_autofree char *folder = g_build_filename(lab_tmpdir(), "printed", NULL);
	const char *write[] = {lab_program("bqlstat"), "export", "grafana", "-o", folder, NULL};
	g_autoptr(lab_process) p = lab_process_new(write, NULL, NULL);
	static const char *const others[] = {"provisioning/datasource.yaml",
					     "provisioning/dashboards.yaml",
					     "prometheus/rules.yaml", "prometheus/alerts.yaml"};
	int code;

	g_assert_true(lab_process_wait(p, 20000, &code, NULL));
	g_assert_cmpint(code, ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(dashboards) + G_N_ELEMENTS(others); i++) {
		bool other = i >= G_N_ELEMENTS(dashboards);
		g_autofree char *name = other ? g_strdup(others[i - G_N_ELEMENTS(dashboards)])
					      : g_strdup_printf("%s.json", dashboards[i]);
		g_autofree char *a = path_of(name), *b = g_build_filename(folder, name, NULL);
		g_autofree char *in = NULL, *out = NULL;

		g_assert_true(g_file_get_contents(a, &in, NULL, NULL));
		g_assert_true(g_file_get_contents(b, &out, NULL, NULL));
		g_assert_cmpstr(in, ==, out);
	}
}

static void datasource(void)
{
	const char *argv[] = {lab_program("bqlstat"), "export",	      "grafana", "--uid",
			      "bqlstat-vm",	      "--datasource", "mine",	 NULL};
	g_autoptr(lab_process) p = lab_process_new(argv, NULL, NULL);
	g_autofree char *text = NULL;
	g_autoptr(JsonNode) node = NULL;
	JsonObject *v;
	int code;

	g_assert_true(lab_process_wait(p, 20000, &code, NULL));
	g_assert_cmpint(code, ==, 0);
	text = lab_process_stdout(p);
	node = json_from_string(text, NULL);
	v = variable(json_node_get_object(node), "datasource");
	g_assert_cmpstr(text_of(json_object_get_object_member(v, "current"), "value"), ==, "mine");
}

/* ---- Prometheus ---- */

static void rules(void)
{
	const char *why, *promtool = lab_prometheus_program("promtool", &why);
	g_autofree char *folder = path_of("prometheus"), *command = NULL, *out = NULL, *err = NULL;
	g_autoptr(lab_process) p = NULL;
	int code;

	if (!promtool) {
		g_test_skip(why);
		return;
	}
	command = g_strdup_printf("cd '%s' && '%s' check rules rules.yaml alerts.yaml && '%s' test "
				  "rules tests.yaml",
				  folder, promtool, promtool);
	p = lab_process_new((const char *[]){"sh", "-c", command, NULL}, NULL, NULL);
	g_assert_true(lab_process_wait(p, 60000, &code, NULL));
	out = lab_process_stdout(p);
	err = lab_process_stderr(p);
	if (code)
		g_error("promtool: %s%s", out, err);
}

/* Configurations that the page shows, as Prometheus takes them. */
static void configurations(void)
{
	const char *why, *promtool = lab_prometheus_program("promtool", &why);
	g_autofree char *page_path = path_of("../docs/metrics.md"), *page = NULL;
	g_autofree char *folder = path_of("prometheus");
	g_autofree char *file = g_build_filename(lab_tmpdir(), "configuration.yaml", NULL);
	g_auto(GStrv) parts = NULL;
	unsigned n = 0;

	if (!promtool) {
		g_test_skip(why);
		return;
	}
	g_assert_true(g_file_get_contents(page_path, &page, NULL, NULL));
	parts = g_strsplit(page, "```yaml\n", -1);
	for (char **part = parts + 1; *part; part++) {
		g_autofree char *text = g_strndup(*part, strstr(*part, "\n```") - *part);
		g_autofree char *command = NULL, *says = NULL;
		g_autoptr(lab_process) p = NULL;
		int code;

		g_assert_true(g_file_set_contents(file, text, -1, NULL));
		command = g_strdup_printf("cp '%s'/*s.yaml '%s' && '%s' check config '%s'", folder,
					  lab_tmpdir(), promtool, file);
		p = lab_process_new((const char *[]){"sh", "-c", command, NULL}, NULL, NULL);
		g_assert_true(lab_process_wait(p, 60000, &code, NULL));
		says = lab_process_stderr(p);
		if (code)
			g_error("promtool check config: %s", says);
		n++;
	}
	g_assert_cmpuint(n, >, 1);
}

/* Every alert has a test that fires it and one in which it keeps quiet, and is on the page. */
static void alerts_tested(void)
{
	g_autofree char *alerts_path = path_of("prometheus/alerts.yaml");
	g_autofree char *tests_path = path_of("prometheus/tests.yaml");
	g_autofree char *page_path = path_of("../docs/metrics.md");
	g_autofree char *alerts = NULL, *tests = NULL, *page = NULL;
	g_autoptr(GRegex) alert = g_regex_new("- alert: (\\w+)", 0, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;
	unsigned n = 0;

	g_assert_true(g_file_get_contents(alerts_path, &alerts, NULL, NULL));
	g_assert_true(g_file_get_contents(tests_path, &tests, NULL, NULL));
	g_assert_true(g_file_get_contents(page_path, &page, NULL, NULL));
	for (g_regex_match(alert, alerts, 0, &match); g_match_info_matches(match);
	     g_match_info_next(match, NULL)) {
		g_autofree char *name = g_match_info_fetch(match, 1);
		g_autofree char *fires = g_strdup_printf(
			"alertname: %s\\s+eval_time: \\w+\\s+exp_alerts:\\s+- exp_labels", name);
		g_autofree char *quiet =
			g_strdup_printf("alertname: %s, eval_time: \\w+, exp_alerts: \\[\\]", name);
		g_autofree char *row = g_strdup_printf("\n| `%s` | ", name);

		if (!matches(tests, fires))
			g_error("no test fires %s", name);
		if (!matches(tests, quiet))
			g_error("no test leaves %s quiet", name);
		if (!strstr(page, row))
			g_error("docs/metrics.md does not tell what %s means", name);
		n++;
	}
	g_assert_cmpuint(n, >, 5);
}

static unsigned cover(struct lab_stage *stage, const char *name)
{
	g_autofree char *text = read_dashboard(name);
	g_autoptr(GPtrArray) queries = lab_queries(text, NULL);
	unsigned bad = 0;

	for (unsigned i = 0; i < queries->len; i++) {
		const struct lab_query *q = queries->pdata[i];
		struct lab_coverage c;
		GError *error = NULL;

		if (!lab_stage_cover(stage, q, &c, &error)) {
			g_test_message("%s: %s: %s", q->dashboard, q->panel, error->message);
			g_clear_error(&error);
			bad++;
			continue;
		}
		g_test_message("%-18s %-38s %4u series %6u samples %6u useful, max %.4g%s",
			       q->dashboard, q->panel, c.series, c.samples, c.useful, c.max,
			       c.useful ? "" : "   NOTHING TO SEE");
		bad += !c.useful;
	}
	return bad;
}

static void coverage(void)
{
	const struct lab_stage_options options = {};
	GError *error = NULL;
	g_autoptr(lab_stage) stage = lab_stage_new(&options, &error);
	unsigned bad = 0;

	if (!stage || !lab_stage_act(stage, NULL, &error) ||
	    !lab_stage_act(stage, "io-free", &error)) {
		if (!lab_skip(error))
			g_error("%s", error->message);
		return;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(dashboards); i++)
		bad += cover(stage, dashboards[i]);
	g_assert_cmpuint(bad, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(dashboards); i++) {
		g_autofree char *path = g_strdup_printf("/dashboards/lint/%s", dashboards[i]);

		g_test_add_data_func(path, dashboards[i], lint);
	}
	g_test_add_func("/dashboards/printed", printed);
	g_test_add_func("/dashboards/datasource", datasource);
	g_test_add_func("/dashboards/rules", rules);
	g_test_add_func("/dashboards/configurations", configurations);
	g_test_add_func("/dashboards/alerts-tested", alerts_tested);
	g_test_add_func("/dashboards/coverage", coverage);
	return g_test_run();
}
