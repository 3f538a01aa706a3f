/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hooks' inside: what of QEMU they call and stand in for. Filled in before the first goes live.
 */
#ifndef TRACE_INTERNAL_H
#define TRACE_INTERNAL_H

#include "runtime/trace/hooks.h"
#include "runtime/trace/trace.h"

struct trace_qemu {
	void *bql;
	void *(*coroutine_self)(void);
	size_t (*peek_buffer)(void *f, uint8_t **buffer, size_t size, size_t offset);
	const char *(*object_type)(const void *object);
	const char *(*enum_name)(const void *lookup, int value);
	const void *states; /* of migration, for enum_name() */
};

/* What runs where the hooks and detours are; the same arguments. */
struct trace_originals {
	void (*bql_hook)(void *mutex, const char *file, int line);
	void (*cond_hook)(void *cond, void *mutex, const char *file, int line);
	bool (*cond_timed_hook)(void *cond, void *mutex, int ms, const char *file, int line);
	void (*bql_unlock)(void);

	int (*get_byte)(void *f);
	unsigned int (*get_be16)(void *f);
	unsigned int (*get_be32)(void *f);
	size_t (*get_string)(void *f, char *buffer);

	void (*set_state)(int *state, int from, int to);
	void *(*thread_join)(void *thread);
	void (*activate)(void *errp);
	void (*vm_start)(void);
	void (*destroy)(void);
	void (*channel_yield)(void *ioc, int condition);
};

extern struct trace_qemu trace_qemu;
extern struct trace_originals trace_original;
extern bool trace_is_installed;

/* lock.c */
void trace_bql_hook(void *mutex, const char *file, int line);
void trace_cond_hook(void *cond, void *mutex, const char *file, int line);
bool trace_cond_timed_hook(void *cond, void *mutex, int ms, const char *file, int line);
void trace_bql_unlock(void);

/* stream.c */
int trace_get_byte(void *f);
unsigned int trace_get_be16(void *f);
unsigned int trace_get_be32(void *f);
size_t trace_get_string(void *f, char *buffer);
extern uint32_t trace_stream_bypass; /* not 0: nobody reads headers */
uint64_t trace_loads(void);	     /* incoming migrations so far */
void trace_stream_forget(void);	     /* no incoming migration is left */

/* life.c */
void trace_set_state(int *state, int from, int to);
void *trace_thread_join(void *thread);
void trace_activate(void *errp);
void trace_vm_start(void);
void trace_destroy(void);
void trace_channel_yield(void *ioc, int condition);

#endif
