/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libloadvm-lttng.so: the LTTng-UST provider `loadvm`. The core finds one object in it.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "runtime/trace/lttng/events-lttng.h"

#define ONE(name)                                                                                  \
	static void emit_##name(TRACE_##name(TRACE_PARAM, TRACE_COMMA))                            \
	{                                                                                          \
		lttng_ust_do_tracepoint(loadvm, name, TRACE_##name(TRACE_NAME, TRACE_COMMA));      \
	}
TRACE_EVENTS(ONE)
#undef ONE

__attribute__((visibility("default"))) const struct trace_provider loadvm_lttng_provider = {
	.bytes = sizeof(struct trace_provider),
	.events = TRACE_IDS,
	.sink =
		{
#define ONE(name) .name = emit_##name,
			TRACE_EVENTS(ONE)
#undef ONE
		},
	.enabled =
		{
#define ONE(name) [TRACE_ID_##name] = &lttng_ust_tracepoint_loadvm___##name.state,
			TRACE_EVENTS(ONE)
#undef ONE
		},
};
