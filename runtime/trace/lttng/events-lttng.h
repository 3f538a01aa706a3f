/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of events in LTTng's words. LTTng includes this file many times over, each time with
 * another meaning of its macros.
 */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER loadvm

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "runtime/trace/lttng/events-lttng.h"

#if !defined(EVENTS_LTTNG_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define EVENTS_LTTNG_H

#include <lttng/tracepoint.h>

#include "runtime/trace/trace.h"

/* clang-format off */
#ifndef LTTNG_EVENT
#define LTTNG_ARG(type, f)	TRACE_C_##type, f
#define LTTNG_string(f)		lttng_ust_field_string(f, f)
#define LTTNG_u32(f)		lttng_ust_field_integer(uint32_t, f, f)
#define LTTNG_i32(f)		lttng_ust_field_integer(int32_t, f, f)
#define LTTNG_u64(f)		lttng_ust_field_integer(uint64_t, f, f)
#define LTTNG_i64(f)		lttng_ust_field_integer(int64_t, f, f)
#define LTTNG_FIELD(type, f)	LTTNG_##type(f)
#define LTTNG_EVENT(name)                                                                          \
	LTTNG_UST_TRACEPOINT_EVENT(loadvm, name,                                                   \
				   LTTNG_UST_TP_ARGS(TRACE_##name(LTTNG_ARG, TRACE_COMMA)),        \
				   LTTNG_UST_TP_FIELDS(TRACE_##name(LTTNG_FIELD, )))
#endif
/* clang-format on */

TRACE_EVENTS(LTTNG_EVENT)

#endif

#include <lttng/tracepoint-event.h>
