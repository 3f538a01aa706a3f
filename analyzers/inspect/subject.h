/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `doctor` and `probes` look at: a running QEMU, or a QEMU binary; and its attach plan.
 */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <stdbool.h>
#include <stdio.h>

#include <glib.h>
#include <json-glib/json-glib.h>

#include "runtime/seams/seams.h"

/* What the tracer would do with one probe point. */
enum subject_plan {
	SUBJECT_ATTACH,
	SUBJECT_SHARE,	/* attach: another tracer's uprobe stands there already */
	SUBJECT_UNUSED, /* it has no use for it */
	SUBJECT_REFUSED,
	SUBJECT_UNSEEN, /* the process's memory cannot be read */
};

struct subject_point {
	const struct seam_point *point;
	enum subject_plan plan;
	char where[160]; /* function+0xoffset, and what is called there */
	char why[96];	 /* SUBJECT_REFUSED */
};

struct subject {
	pid_t pid; /* 0: a binary */
	struct seam_map *map;
	uint64_t bias;	/* of the process */
	int mem_fd;	/* /proc/PID/mem, -1: none */
	GArray *points; /* struct subject_point, in the map's order */
	/* Why bqlstat would not trace it, "" when it would. */
	char refusal[512];
};

/*
 * Open a process by its number, or a binary by its path, or by its name when it is in PATH. A file
 * whose name is a number needs a slash in it. 0, or a negative errno and a sentence.
 */
int subject_open(const char *which, struct subject *subject, struct seam_error *err);
int subject_open_pid(pid_t pid, struct subject *subject, struct seam_error *err);
void subject_close(struct subject *subject);

/* The binary, as a person would name it. g_free(). */
char *subject_path(const struct subject *subject);

void subject_print_points(FILE *out, const struct subject *subject, bool colour);
/* Add members: who it is; "points" and "missing". */
void subject_json_head(JsonBuilder *b, const struct subject *subject);
void subject_json_points(JsonBuilder *b, const struct subject *subject);

/* Running QEMUs, as far as their command lines can tell: an array of pid_t. */
GArray *subject_running(void);

#endif
