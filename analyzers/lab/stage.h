/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stage for dashboards: the real exporter, a real Prometheus that scrapes it each second, and
 * real migrations to look at; and whether what a dashboard asks for is there.
 */
#ifndef LAB_STAGE_H
#define LAB_STAGE_H

#include "analyzers/lab/web.h"

struct lab_stage_options {
	const char *version; /* of the QEMUs; "7.2" */
	const char *assets;  /* as Prometheus' */
	unsigned prometheus_port;
};

struct lab_stage;

/* Exporter and Prometheus run; no QEMU yet. */
struct lab_stage *lab_stage_new(const struct lab_stage_options *options, GError **error);
void lab_stage_free(struct lab_stage *s);
const char *lab_stage_exporter(const struct lab_stage *s); /* "127.0.0.1:PORT" */
struct lab_prometheus *lab_stage_prometheus(struct lab_stage *s);
/*
 * A VM with a dozen devices arrives slowly over two multifd channels, one of which stalls for 3 s,
 * at a destination under `policy` (NULL: stock), while a client floods its monitor. The destination
 * goes on until the stage is freed; the source ends. About 15 s.
 */
bool lab_stage_act(struct lab_stage *s, const char *policy, GError **error);
/* Since the stage was set. */
unsigned lab_stage_seconds(const struct lab_stage *s);

/* One query of a dashboard. */
struct lab_query {
	char *dashboard, *panel;
	char *expression; /* as written */
	char *unit;
	bool instant;
};

/* Of a dashboard's JSON: panels' targets and annotations; NULL and an error. g_ptr_array_unref().
 */
GPtrArray *lab_queries(const char *json, GError **error);
/*
 * With Grafana's variables filled in: all jobs, instances and VMs, rates over 4 s, a range of
 * `range_s`. g_free().
 */
char *lab_query_expand(const struct lab_query *query, unsigned range_s);

/* What a query gave. */
struct lab_coverage {
	unsigned series, samples, useful; /* useful: neither 0 nor NaN */
	double max;
};
bool lab_stage_cover(struct lab_stage *s, const struct lab_query *query,
		     struct lab_coverage *coverage, GError **error);

typedef struct lab_stage lab_stage;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_stage, lab_stage_free)

#endif
