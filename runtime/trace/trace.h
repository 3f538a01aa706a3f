/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saying that something happened: TRACE(event, field...). Costs two loads and a branch while nobody
 * listens, and its arguments are not worked out. Any thread; the lock's state does not matter.
 */
#ifndef TRACE_TRACE_H
#define TRACE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/trace/table.h"

#define TRACE_C_string	     const char *
#define TRACE_C_u32	     uint32_t
#define TRACE_C_i32	     int32_t
#define TRACE_C_u64	     uint64_t
#define TRACE_C_i64	     int64_t
#define TRACE_PARAM(type, f) TRACE_C_##type f
#define TRACE_NAME(type, f)  f
#define TRACE_COMMA	     ,

/* USDT: not 0 while somebody is attached. The kernel counts here, through the notes. */
#define TRACE_ONE(name) extern volatile uint16_t trace_semaphore_##name;
TRACE_EVENTS(TRACE_ONE)
#undef TRACE_ONE

/* LTTng: what its provider fills in when it is loaded, in events.h's order. */
struct trace_sink {
#define TRACE_ONE(name) void (*name)(TRACE_##name(TRACE_PARAM, TRACE_COMMA));
	TRACE_EVENTS(TRACE_ONE)
#undef TRACE_ONE
};

struct trace_provider {
	uint32_t bytes, events; /* of this structure; both must be as expected here */
	struct trace_sink sink;
	const int *enabled[TRACE_IDS]; /* not 0 while a session records it */
};

extern const int *trace_enabled[TRACE_IDS];

/* Both ways out, whoever listens. sites.c */
#define TRACE_ONE(name) void trace_fire_##name(TRACE_##name(TRACE_PARAM, TRACE_COMMA));
TRACE_EVENTS(TRACE_ONE)
#undef TRACE_ONE

#define TRACE_ON(name)                                                                             \
	__builtin_expect(trace_semaphore_##name | __atomic_load_n(trace_enabled[TRACE_ID_##name],  \
								  __ATOMIC_RELAXED),               \
			 0)

#define TRACE(name, ...)                                                                           \
	do {                                                                                       \
		if (TRACE_ON(name))                                                                \
			trace_fire_##name(__VA_ARGS__);                                            \
	} while (0)

/*
 * Load the LTTng provider from the folder of `self`. 0, or a negative errno and a sentence in
 * `text`. Before main().
 */
int trace_load_lttng(const char *self, char *text, size_t size);

/* CLOCK_MONOTONIC. */
uint64_t trace_now_ns(void);

#endif
