/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two LTTng events of the cost bench's subject. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bqlstat_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "tests/bench/subject-lttng.h"

#if !defined(SUBJECT_LTTNG_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define SUBJECT_LTTNG_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(bqlstat_bench, acquired, LTTNG_UST_TP_ARGS(const void *, lock),
			   LTTNG_UST_TP_FIELDS(lttng_ust_field_integer_hex(
				   unsigned long, lock, (unsigned long)lock)))
LTTNG_UST_TRACEPOINT_EVENT(bqlstat_bench, released, LTTNG_UST_TP_ARGS(const void *, lock),
			   LTTNG_UST_TP_FIELDS(lttng_ust_field_integer_hex(
				   unsigned long, lock, (unsigned long)lock)))

#endif

#include <lttng/tracepoint-event.h>
