/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prometheus' text format 0.0.4 and OpenMetrics 1.0.
 *
 * They differ in what a counter and an info are called in the heading (OpenMetrics leaves _total
 * and _info off), in UNIT, in exemplars and in the end mark.
 */
#include <stdarg.h>
#include <string.h>

#include "analyzers/export/exposition.h"

const char *metric_type_name(enum metric_type type)
{
	static const char *const names[] = {
		[METRIC_GAUGE] = "gauge",
		[METRIC_COUNTER] = "counter",
		[METRIC_HISTOGRAM] = "histogram",
		[METRIC_INFO] = "info",
	};

	return names[type];
}

/* What other bytes a guest's name may have: UTF-8 is the caller's matter. */
static void append_escaped(GString *out, const char *text, bool quotes)
{
	for (; *text; text++) {
		if (*text == '\n')
			g_string_append(out, "\\n");
		else if (*text == '\\' || (*text == '"' && quotes))
			g_string_append_printf(out, "\\%c", *text);
		else
			g_string_append_c(out, *text);
	}
}

char *exposition_labels(const char *name, ...)
{
	GString *out = g_string_new(NULL);
	va_list args;

	va_start(args, name);
	for (; name; name = va_arg(args, const char *)) {
		g_autofree char *valid = g_utf8_make_valid(va_arg(args, const char *), -1);

		g_string_append_printf(out, "%s%s=\"", out->len ? "," : "", name);
		append_escaped(out, valid, true);
		g_string_append_c(out, '"');
	}
	va_end(args);
	return g_string_free(out, FALSE);
}

void exposition_begin(struct exposition *e, const struct metric_family *family)
{
	bool open = e->format == EXPOSITION_OPENMETRICS;
	const char *type = metric_type_name(family->type);
	int length = strlen(family->name);

	e->family = family;
	if (open && family->type == METRIC_COUNTER)
		length -= strlen("_total");
	if (open && family->type == METRIC_INFO)
		length -= strlen("_info");
	if (!open && family->type == METRIC_INFO)
		type = "gauge";
	g_string_append_printf(e->out, "# HELP %.*s ", length, family->name);
	append_escaped(e->out, family->help, open);
	g_string_append_printf(e->out, "\n# TYPE %.*s %s\n", length, family->name, type);
	if (open && *family->unit)
		g_string_append_printf(e->out, "# UNIT %.*s %s\n", length, family->name,
				       family->unit);
}

void exposition_end(struct exposition *e)
{
	if (e->format == EXPOSITION_OPENMETRICS)
		g_string_append(e->out, "# EOF\n");
}

static void append_uint(GString *out, uint64_t value)
{
	char text[24], *at = text + sizeof(text);

	do
		*--at = '0' + value % 10;
	while (value /= 10);
	g_string_append_len(out, at, text + sizeof(text) - at);
}

/* Seconds, exact: a scrape has thousands of these, and printf's are ten times slower. */
static void append_seconds(GString *out, uint64_t ns)
{
	uint64_t rest = ns % 1000000000;
	char digits[10] = ".000000000";
	int last = 9;

	append_uint(out, ns / 1000000000);
	if (!rest)
		return;
	for (int i = 9; i > 0; i--, rest /= 10)
		digits[i] = '0' + rest % 10;
	while (digits[last] == '0')
		last--;
	g_string_append_len(out, digits, last + 1);
}

/* NAME[SUFFIX]{PREFIX,LABELS and a blank */
static void append_name(struct exposition *e, const char *suffix, const char *labels)
{
	g_string_append(e->out, e->family->name);
	g_string_append(e->out, suffix);
	if (*e->prefix || *labels) {
		g_string_append_c(e->out, '{');
		g_string_append(e->out, e->prefix);
		if (*e->prefix && *labels)
			g_string_append_c(e->out, ',');
		g_string_append(e->out, labels);
		g_string_append_c(e->out, '}');
	}
	g_string_append_c(e->out, ' ');
}

void exposition_count(struct exposition *e, const char *labels, uint64_t value)
{
	append_name(e, "", labels);
	append_uint(e->out, value);
	g_string_append_c(e->out, '\n');
}

void exposition_ns(struct exposition *e, const char *labels, uint64_t ns)
{
	append_name(e, "", labels);
	append_seconds(e->out, ns);
	g_string_append_c(e->out, '\n');
}

void exposition_unix_ns(struct exposition *e, const char *labels, int64_t ns)
{
	exposition_ns(e, labels, MAX(ns, 0));
}

void exposition_real(struct exposition *e, const char *labels, double value)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];

	append_name(e, "", labels);
	g_string_append(e->out, g_ascii_formatd(text, sizeof(text), "%.9g", value));
	g_string_append_c(e->out, '\n');
}

static void append_exemplar(struct exposition *e, const struct exposition_exemplar *x)
{
	g_string_append_printf(e->out, " # {%s} ", x->labels);
	append_seconds(e->out, x->value_ns);
	g_string_append_c(e->out, ' ');
	append_seconds(e->out, x->at_unix_ns);
}

void exposition_histogram(struct exposition *e, const char *labels, const uint64_t *bounds_ns,
			  unsigned n, const uint64_t *buckets, uint64_t sum_ns,
			  const struct exposition_exemplar *exemplars)
{
	g_autofree char *bucket = g_strdup_printf("%s%s%s", labels, *labels ? "," : "", "le=\"");
	uint64_t sum = 0;

	for (unsigned i = 0; i <= n; i++) {
		sum += buckets[i];
		/* The name as far as it is the same for all; the bound goes in before the brace. */
		append_name(e, "_bucket", bucket);
		g_string_truncate(e->out, e->out->len - 2);
		if (i == n)
			g_string_append(e->out, "+Inf");
		else
			append_seconds(e->out, bounds_ns[i]);
		/* Canonical in OpenMetrics: a float. */
		if (i < n && bounds_ns[i] % 1000000000 == 0)
			g_string_append(e->out, ".0");
		g_string_append(e->out, "\"} ");
		append_uint(e->out, sum);
		if (exemplars && exemplars[i].at_unix_ns && e->format == EXPOSITION_OPENMETRICS)
			append_exemplar(e, &exemplars[i]);
		g_string_append_c(e->out, '\n');
	}
	append_name(e, "_sum", labels);
	append_seconds(e->out, sum_ns);
	g_string_append_c(e->out, '\n');
	append_name(e, "_count", labels);
	append_uint(e->out, sum);
	g_string_append_c(e->out, '\n');
}
