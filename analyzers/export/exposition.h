/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing metrics down: Prometheus' text format 0.0.4 and OpenMetrics 1.0. Knows no metric.
 */
#ifndef EXPORT_EXPOSITION_H
#define EXPORT_EXPOSITION_H

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

enum exposition_format {
	EXPOSITION_TEXT, /* text/plain; version=0.0.4 */
	EXPOSITION_OPENMETRICS,
	EXPOSITION_FORMATS
};

enum metric_type {
	METRIC_GAUGE,
	METRIC_COUNTER, /* its name ends in _total */
	METRIC_HISTOGRAM,
	METRIC_INFO, /* its name ends in _info, its value is 1 */
};

struct metric_family {
	const char *name; /* as its samples are called, but for a histogram's suffixes */
	enum metric_type type;
	const char *unit;   /* "seconds", "bytes", "ratio"; "": it counts things */
	const char *labels; /* after those of the QEMU: "role, le"; "" */
	const char *help;   /* one sentence */
};

struct exposition {
	GString *out;
	enum exposition_format format;
	const struct metric_family *family;
	const char *prefix; /* labels that each sample begins with, escaped; "" */
};

/* Labels as they are written: `vm="a",uuid="b"`. Pairs of name and value, up to NULL; g_free(). */
char *exposition_labels(const char *name, ...) G_GNUC_NULL_TERMINATED;

/* A family's heading; its samples follow. */
void exposition_begin(struct exposition *e, const struct metric_family *family);
/* After the last family. */
void exposition_end(struct exposition *e);

/*
 * One sample of the family. `labels` are written as they are, after the prefix: exposition_labels()
 * made them, or they are plain.
 */
void exposition_count(struct exposition *e, const char *labels, uint64_t value);
void exposition_ns(struct exposition *e, const char *labels, uint64_t ns);     /* as seconds */
void exposition_unix_ns(struct exposition *e, const char *labels, int64_t ns); /* likewise */
void exposition_real(struct exposition *e, const char *labels, double value);

struct exposition_exemplar {
	const char *labels; /* as above; with names at most 128 characters, as the standard says */
	uint64_t value_ns;
	int64_t at_unix_ns; /* 0: none */
};

/*
 * A histogram of durations: `n` bounds in ns and n + 1 counts, not cumulative. Exemplars, one a
 * bucket, may be NULL.
 */
void exposition_histogram(struct exposition *e, const char *labels, const uint64_t *bounds_ns,
			  unsigned n, const uint64_t *buckets, uint64_t sum_ns,
			  const struct exposition_exemplar *exemplars);

const char *metric_type_name(enum metric_type type);

#endif
