/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of events. Everything that knows them is made from it: the USDT sites and the calls of
 * the LTTng provider (trace.h), that provider (lttng.h), the enum and the table for analyzers
 * (table.h). docs/tracepoints.md tells what each means; a test holds it against this list.
 *
 * Names and types are stable: what reads traces relies on them. A field may be added at the end of
 * an event, an event anywhere.
 *
 * TRACE_EVENTS(E) is E(name) for each. TRACE_<name>(F, S) is F(type, field) for each of its fields,
 * S between them. Types: string (never NULL), u32, i32, u64, i64. Fields whose name ends in _ns are
 * nanoseconds, in _bytes bytes. 1 to 6 fields an event: what a USDT site passes in registers.
 */
#ifndef TRACE_EVENTS_H
#define TRACE_EVENTS_H

#define TRACE_PROVIDER loadvm

#define TRACE_EVENTS(E)                                                                            \
	E(runtime)                                                                                 \
	E(fallback)                                                                                \
	E(policy)                                                                                  \
	E(incoming_begin)                                                                          \
	E(incoming_end)                                                                            \
	E(state_change)                                                                            \
	E(section_begin)                                                                           \
	E(section_end)                                                                             \
	E(vmsd_begin)                                                                              \
	E(vmsd_end)                                                                                \
	E(nested_begin)                                                                            \
	E(nested_end)                                                                              \
	E(ram_begin)                                                                               \
	E(ram_end)                                                                                 \
	E(command)                                                                                 \
	E(activate_begin)                                                                          \
	E(activate_end)                                                                            \
	E(vm_start_begin)                                                                          \
	E(vm_start_end)                                                                            \
	E(incoming_destroyed)                                                                      \
	E(io_wait_begin)                                                                           \
	E(io_wait_end)                                                                             \
	E(lock_ask)                                                                                \
	E(lock_acquired)                                                                           \
	E(lock_released)                                                                           \
	E(lock_handoff)                                                                            \
	E(thread_create)                                                                           \
	E(thread_begin)                                                                            \
	E(thread_end)                                                                              \
	E(thread_join_begin)                                                                       \
	E(thread_join_end)

#define TRACE_runtime(F, S)                                                                        \
	F(string, release) S F(string, qemu)                                                       \
	S F(string, build_id)                                                                      \
	S F(string, policy)                                                                        \
	S F(u32, detours)
#define TRACE_fallback(F, S) F(string, why)
#define TRACE_policy(F, S)   F(string, policy) S F(string, from)

#define TRACE_incoming_begin(F, S) F(u64, load) S F(string, policy)
#define TRACE_incoming_end(F, S)                                                                   \
	F(u64, load) S F(string, policy)                                                           \
	S F(i32, result)
#define TRACE_state_change(F, S) F(string, from) S F(string, to)

#define TRACE_section_begin(F, S)                                                                  \
	F(string, type) S F(string, name)                                                          \
	S F(u32, instance)                                                                         \
	S F(u32, id)
#define TRACE_section_end(F, S)                                                                    \
	F(string, type) S F(string, name)                                                          \
	S F(u32, instance)                                                                         \
	S F(u32, id)                                                                               \
	S F(u64, stream_bytes)
#define TRACE_vmsd_begin(F, S) F(string, name) S F(i32, version)
#define TRACE_vmsd_end(F, S)   F(string, name) S F(i32, result)
#define TRACE_nested_begin(F, S)                                                                   \
	F(string, name) S F(i32, version)                                                          \
	S F(u32, depth)
#define TRACE_nested_end(F, S)                                                                     \
	F(string, name) S F(i32, result)                                                           \
	S F(u32, depth)
#define TRACE_ram_begin(F, S) F(u32, section) S F(u64, read_bytes)
#define TRACE_ram_end(F, S)                                                                        \
	F(u32, section) S F(u64, read_bytes)                                                       \
	S F(i32, result)
#define TRACE_command(F, S)                                                                        \
	F(u32, command) S F(string, name)                                                          \
	S F(u32, payload_bytes)

#define TRACE_activate_begin(F, S)     F(u64, load)
#define TRACE_activate_end(F, S)       F(u64, load)
#define TRACE_vm_start_begin(F, S)     F(u64, load)
#define TRACE_vm_start_end(F, S)       F(u64, load)
#define TRACE_incoming_destroyed(F, S) F(u64, load)

#define TRACE_io_wait_begin(F, S)                                                                  \
	F(string, channel) S F(string, what)                                                       \
	S F(string, lock)
#define TRACE_io_wait_end(F, S)                                                                    \
	F(string, channel) S F(string, what)                                                       \
	S F(string, lock)

#define TRACE_lock_ask(F, S) F(string, file) S F(u32, line)
#define TRACE_lock_acquired(F, S)                                                                  \
	F(string, file) S F(u32, line)                                                             \
	S F(u32, cond)                                                                             \
	S F(i64, wait_ns)
#define TRACE_lock_released(F, S)                                                                  \
	F(string, file) S F(u32, line)                                                             \
	S F(u32, cond)                                                                             \
	S F(i64, hold_ns)
#define TRACE_lock_handoff(F, S) F(u32, taken) S F(u64, stood_ns)

#define TRACE_thread_create(F, S)     F(string, name) S F(u64, thread)
#define TRACE_thread_begin(F, S)      F(string, name) S F(u64, thread)
#define TRACE_thread_end(F, S)	      F(string, name) S F(u64, thread)
#define TRACE_thread_join_begin(F, S) F(u64, thread)
#define TRACE_thread_join_end(F, S)   F(u64, thread)

#endif
