/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The events as data, for who reads traces: TRACE_ID_<name> and a table of names and fields. Header
 * only, so that analyzers and tests need not link anything of the runtime.
 */
#ifndef TRACE_TABLE_H
#define TRACE_TABLE_H

#include <stddef.h>

#include "runtime/trace/events.h"

enum trace_id {
#define TRACE_ONE(name) TRACE_ID_##name,
	TRACE_EVENTS(TRACE_ONE)
#undef TRACE_ONE
		TRACE_IDS
};

enum trace_type {
	TRACE_TYPE_string = 1,
	TRACE_TYPE_u32,
	TRACE_TYPE_i32,
	TRACE_TYPE_u64,
	TRACE_TYPE_i64,
};

enum {
	TRACE_FIELDS_MAX = 6,
};

struct trace_field {
	enum trace_type type; /* 0: the event has no more fields */
	const char *name;
};

struct trace_description {
	const char *name; /* without the provider's: "lock_ask" is "loadvm:lock_ask" */
	struct trace_field fields[TRACE_FIELDS_MAX + 1];
};

/* Indexed by enum trace_id. */
static const struct trace_description trace_table[TRACE_IDS] __attribute__((unused)) = {
#define TRACE_FIELD(type, field) {TRACE_TYPE_##type, #field},
#define TRACE_ONE(name)		 {#name, {TRACE_##name(TRACE_FIELD, )}},
	TRACE_EVENTS(TRACE_ONE)
#undef TRACE_ONE
#undef TRACE_FIELD
};

#endif
