/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A web client for local servers, and a Prometheus of our own: what the exporter's tests and the
 * demo of the dashboards look through.
 */
#ifndef LAB_WEB_H
#define LAB_WEB_H

#include "analyzers/lab/lab.h"

struct lab_answer {
	unsigned status;
	char *head; /* as it came */
	char *body;
	gsize size; /* of the body, which is ended by a NUL as well */
};

/*
 * One request to "127.0.0.1:PORT". `headers`: lines, each with its \r\n; NULL: none. False: no
 * complete answer came within ten seconds.
 */
bool lab_web_ask(const char *at, const char *method, const char *path, const char *headers,
		 struct lab_answer *answer, GError **error);
void lab_answer_clear(struct lab_answer *answer);
/* GET; the body of a 200, else an error. g_free(). */
char *lab_web_get(const char *at, const char *path, const char *headers, GError **error);

/* A port of 127.0.0.1 that nobody listens at just now. */
unsigned lab_free_port(void);

/*
 * "prometheus" or "promtool": unpacked into build/prometheus, at the first call if need be; else
 * this system's. NULL and a reason. Owned by the lab.
 */
const char *lab_prometheus_program(const char *name, const char **why);

struct lab_prometheus_options {
	const char *scrape; /* "127.0.0.1:PORT" of an exporter, each second, as job "bqlstat" */
	const char *rules;  /* folder whose *.yaml are loaded, but for tests.yaml; NULL: none */
	const char *assets; /* folder that is served at /user; NULL: none */
	unsigned port;	    /* 0: a free one */
};

struct lab_prometheus;

/* Running, ready, and it has scraped. Its data are in the lab's folder. */
struct lab_prometheus *lab_prometheus_new(const struct lab_prometheus_options *options,
					  GError **error);
void lab_prometheus_free(struct lab_prometheus *p);
const char *lab_prometheus_at(const struct lab_prometheus *p); /* "127.0.0.1:PORT" */
/*
 * The "result" of an instant query, or, with step_s, of the range that ends now and is `range_s`
 * long. Prometheus' own complaint on error.
 */
JsonNode *lab_prometheus_query(struct lab_prometheus *p, const char *expression, unsigned range_s,
			       unsigned step_s, GError **error);

typedef struct lab_prometheus lab_prometheus;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_prometheus, lab_prometheus_free)

#endif
