/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a dashboard asks for, and whether it gets it.
 */
#include <math.h>
#include <string.h>

#include "analyzers/lab/stage.h"

static void query_free(gpointer opaque)
{
	struct lab_query *q = opaque;

	g_free(q->dashboard);
	g_free(q->panel);
	g_free(q->expression);
	g_free(q->unit);
	g_free(q);
}

static void add(GPtrArray *queries, const char *dashboard, const char *panel, const char *unit,
		JsonObject *target)
{
	struct lab_query *q = g_new0(struct lab_query, 1);

	q->dashboard = g_strdup(dashboard);
	q->panel = g_strdup(panel);
	q->unit = g_strdup(unit);
	q->expression = g_strdup(json_object_get_string_member_with_default(target, "expr", ""));
	q->instant = json_object_get_boolean_member_with_default(target, "instant", FALSE);
	g_ptr_array_add(queries, q);
}

static const char *unit_of(JsonObject *panel)
{
	JsonObject *config = json_object_get_object_member(panel, "fieldConfig");
	JsonObject *defaults = json_object_get_object_member(config, "defaults");

	return json_object_get_string_member_with_default(defaults, "unit", "");
}

static void add_panel(GPtrArray *queries, const char *dashboard, JsonObject *panel)
{
	JsonArray *targets = json_object_has_member(panel, "targets")
				     ? json_object_get_array_member(panel, "targets")
				     : NULL;

	for (unsigned i = 0; targets && i < json_array_get_length(targets); i++)
		add(queries, dashboard, json_object_get_string_member(panel, "title"),
		    unit_of(panel), json_array_get_object_element(targets, i));
}

GPtrArray *lab_queries(const char *json, GError **error)
{
	g_autoptr(JsonNode) node = json_from_string(json, error);
	GPtrArray *queries = g_ptr_array_new_with_free_func(query_free);
	JsonObject *root, *notes;
	JsonArray *panels, *list;
	const char *uid;

	if (!node) {
		g_ptr_array_unref(queries);
		return NULL;
	}
	root = json_node_get_object(node);
	uid = json_object_get_string_member(root, "uid");
	panels = json_object_get_array_member(root, "panels");
	for (unsigned i = 0; i < json_array_get_length(panels); i++)
		add_panel(queries, uid, json_array_get_object_element(panels, i));
	notes = json_object_get_object_member(root, "annotations");
	list = json_object_get_array_member(notes, "list");
	for (unsigned i = 0; i < json_array_get_length(list); i++) {
		JsonObject *note = json_array_get_object_element(list, i);

		if (json_object_has_member(note, "expr"))
			add(queries, uid, json_object_get_string_member(note, "name"), "", note);
	}
	return queries;
}

char *lab_query_expand(const struct lab_query *query, unsigned range_s)
{
	g_autofree char *range = g_strdup_printf("%us", range_s);
	const char *const variables[][2] = {
		{"$__rate_interval", "4s"}, {"$__range", range}, {"$__interval", "1s"},
		{"$instance", ".+"},	    {"$job", ".+"},	 {"$vm", ".+"},
	};
	g_autoptr(GString) text = g_string_new(query->expression);

	for (unsigned i = 0; i < G_N_ELEMENTS(variables); i++)
		g_string_replace(text, variables[i][0], variables[i][1], 0);
	return g_strdup(text->str);
}

static void count(struct lab_coverage *c, JsonArray *sample)
{
	double value = g_ascii_strtod(json_array_get_string_element(sample, 1), NULL);

	c->samples++;
	if (isnan(value) || value == 0)
		return;
	c->useful++;
	c->max = MAX(c->max, value);
}

bool lab_stage_cover(struct lab_stage *s, const struct lab_query *query, struct lab_coverage *c,
		     GError **error)
{
	unsigned range_s = lab_stage_seconds(s);
	g_autofree char *expression = lab_query_expand(query, range_s);
	g_autoptr(JsonNode) node = lab_prometheus_query(lab_stage_prometheus(s), expression,
							range_s, query->instant ? 0 : 1, error);
	JsonArray *result;

	memset(c, 0, sizeof(*c));
	if (!node)
		return false;
	result = json_node_get_array(node);
	c->series = json_array_get_length(result);
	for (unsigned i = 0; i < c->series; i++) {
		JsonObject *series = json_array_get_object_element(result, i);

		if (json_object_has_member(series, "value")) {
			count(c, json_object_get_array_member(series, "value"));
			continue;
		}
		JsonArray *values = json_object_get_array_member(series, "values");

		for (unsigned v = 0; v < json_array_get_length(values); v++)
			count(c, json_array_get_array_element(values, v));
	}
	return true;
}
