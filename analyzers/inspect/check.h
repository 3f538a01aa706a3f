/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Findings of `bqlstat doctor`: one line each, and how to mend what is missing.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>

#include <glib.h>
#include <json-glib/json-glib.h>

enum check_state {
	CHECK_OK,
	CHECK_NOTE,    /* works, but one should know */
	CHECK_MISSING, /* bqlstat cannot work without it */
	CHECK_UNSEEN,  /* could not look: as if missing, for this user */
};

struct check {
	enum check_state state;
	const char *name; /* static */
	char *detail;
	char *mend; /* what to do about it, or NULL */
};

/* Of struct check *, each freed with it. */
GPtrArray *checks_new(void);
void checks_add(GPtrArray *checks, enum check_state state, const char *name, const char *mend,
		const char *format, ...) G_GNUC_PRINTF(5, 6);
/* The first one that stands in the way: missing ones before unseen ones. NULL: none does. */
const struct check *checks_obstacle(const GPtrArray *checks);

void checks_print(FILE *out, const GPtrArray *checks, bool colour);
/* Adds the member "checks". */
void checks_json(JsonBuilder *b, const GPtrArray *checks);

/* What this machine and this user's rights allow; `measure`: the tracer's own calibration too. */
void host_checks(GPtrArray *checks, bool measure);

#endif
