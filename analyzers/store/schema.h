/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of a run file. docs/run-format.md says what each column means: change both together,
 * and STORE_SCHEMA with them.
 *
 * The schema grows by whole tables: in a file of an older bqlstat a missing table is an empty one,
 * and recording into it adds the table.
 */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

#define STORE_TABLES                                                                               \
	"CREATE TABLE IF NOT EXISTS run ("                                                         \
	" id INTEGER PRIMARY KEY, label TEXT NOT NULL, source TEXT NOT NULL, tool TEXT NOT NULL,"  \
	" begin_ns INTEGER NOT NULL, begin_unix_ns INTEGER NOT NULL,"                              \
	" duration_ns INTEGER NOT NULL, ended TEXT NOT NULL, pid INTEGER NOT NULL,"                \
	" qemu_version TEXT NOT NULL, qemu_generation TEXT NOT NULL,"                              \
	" qemu_build_id TEXT NOT NULL, qemu_path TEXT NOT NULL, qemu_cmdline TEXT NOT NULL,"       \
	" kernel TEXT NOT NULL, cpu TEXT NOT NULL, cpus INTEGER NOT NULL,"                         \
	" threshold_ns INTEGER NOT NULL, calibrated INTEGER NOT NULL,"                             \
	" hold_bias_ns INTEGER NOT NULL, wait_bias_ns INTEGER NOT NULL,"                           \
	" pair_ns INTEGER NOT NULL);"                                                              \
	"CREATE TABLE IF NOT EXISTS thread ("                                                      \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, tid INTEGER NOT NULL, comm TEXT NOT NULL,"    \
	" role TEXT NOT NULL, number INTEGER, PRIMARY KEY (run, id)) WITHOUT ROWID;"               \
	"CREATE TABLE IF NOT EXISTS site ("                                                        \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, file TEXT NOT NULL, line INTEGER NOT NULL,"   \
	" cond INTEGER NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"                            \
	"CREATE TABLE IF NOT EXISTS usage ("                                                       \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, site INTEGER NOT NULL,"                       \
	" thread INTEGER NOT NULL, acquired INTEGER NOT NULL,"                                     \
	" waits INTEGER NOT NULL, wait_sum_ns INTEGER NOT NULL, wait_max_ns INTEGER NOT NULL,"     \
	" wait_max_at_ns INTEGER NOT NULL, holds INTEGER NOT NULL, hold_sum_ns INTEGER NOT NULL,"  \
	" hold_max_ns INTEGER NOT NULL, hold_max_at_ns INTEGER NOT NULL,"                          \
	" runnable_ns INTEGER NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"                     \
	"CREATE TABLE IF NOT EXISTS histogram ("                                                   \
	" run INTEGER NOT NULL, usage INTEGER NOT NULL, what TEXT NOT NULL,"                       \
	" low_ns INTEGER NOT NULL, count INTEGER NOT NULL,"                                        \
	" PRIMARY KEY (run, usage, what, low_ns)) WITHOUT ROWID;"                                  \
	"CREATE TABLE IF NOT EXISTS blocking ("                                                    \
	" run INTEGER NOT NULL, usage INTEGER NOT NULL, cause INTEGER NOT NULL,"                   \
	" cause_name TEXT NOT NULL, count INTEGER NOT NULL, ns INTEGER NOT NULL,"                  \
	" max_ns INTEGER NOT NULL, PRIMARY KEY (run, usage, cause)) WITHOUT ROWID;"                \
	"CREATE TABLE IF NOT EXISTS hold ("                                                        \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, begin_ns INTEGER NOT NULL,"                   \
	" hold_ns INTEGER NOT NULL, wait_ns INTEGER, site INTEGER NOT NULL,"                       \
	" thread INTEGER NOT NULL, unfinished INTEGER NOT NULL, runnable_ns INTEGER NOT NULL,"     \
	" longest_ns INTEGER NOT NULL, longest_cause INTEGER NOT NULL,"                            \
	" begin_phase TEXT NOT NULL, begin_device TEXT NOT NULL,"                                  \
	" end_phase TEXT NOT NULL, end_device TEXT NOT NULL,"                                      \
	" longest_phase TEXT NOT NULL, longest_device TEXT NOT NULL,"                              \
	" PRIMARY KEY (run, id)) WITHOUT ROWID;"                                                   \
	"CREATE TABLE IF NOT EXISTS hold_blocking ("                                               \
	" run INTEGER NOT NULL, hold INTEGER NOT NULL, cause INTEGER NOT NULL,"                    \
	" cause_name TEXT NOT NULL, count INTEGER NOT NULL, ns INTEGER NOT NULL,"                  \
	" PRIMARY KEY (run, hold, cause)) WITHOUT ROWID;"                                          \
	"CREATE TABLE IF NOT EXISTS phase ("                                                       \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, at_ns INTEGER NOT NULL, phase TEXT NOT NULL," \
	" device TEXT NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"                             \
	"CREATE TABLE IF NOT EXISTS point ("                                                       \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, kind TEXT NOT NULL, vaddr INTEGER NOT NULL,"  \
	" insn TEXT NOT NULL, emulated INTEGER NOT NULL, attached INTEGER NOT NULL,"               \
	" shared INTEGER NOT NULL, hit INTEGER NOT NULL, refusal TEXT NOT NULL,"                   \
	" PRIMARY KEY (run, id)) WITHOUT ROWID;"                                                   \
	"CREATE TABLE IF NOT EXISTS lost ("                                                        \
	" run INTEGER NOT NULL, what TEXT NOT NULL, count INTEGER NOT NULL,"                       \
	" PRIMARY KEY (run, what)) WITHOUT ROWID;"                                                 \
	"CREATE TABLE IF NOT EXISTS metric ("                                                      \
	" run INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL,"                          \
	" PRIMARY KEY (run, name)) WITHOUT ROWID;"                                                 \
	"CREATE TABLE IF NOT EXISTS waking ("                                                      \
	" run INTEGER NOT NULL, usage INTEGER NOT NULL, thread INTEGER NOT NULL,"                  \
	" count INTEGER NOT NULL, ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,"                   \
	" PRIMARY KEY (run, usage, thread)) WITHOUT ROWID;"                                        \
	"CREATE TABLE IF NOT EXISTS charge ("                                                      \
	" run INTEGER NOT NULL, holder INTEGER NOT NULL, victim INTEGER NOT NULL,"                 \
	" count INTEGER NOT NULL, ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,"                   \
	" PRIMARY KEY (run, holder, victim)) WITHOUT ROWID;"                                       \
	"CREATE TABLE IF NOT EXISTS frame ("                                                       \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, module TEXT NOT NULL,"                        \
	" address INTEGER NOT NULL, symbol TEXT NOT NULL, offset INTEGER NOT NULL,"                \
	" inside INTEGER NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"                          \
	"CREATE TABLE IF NOT EXISTS stack ("                                                       \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, whole INTEGER NOT NULL,"                      \
	" PRIMARY KEY (run, id)) WITHOUT ROWID;"                                                   \
	"CREATE TABLE IF NOT EXISTS stack_frame ("                                                 \
	" run INTEGER NOT NULL, stack INTEGER NOT NULL, depth INTEGER NOT NULL,"                   \
	" frame INTEGER NOT NULL, PRIMARY KEY (run, stack, depth)) WITHOUT ROWID;"                 \
	"CREATE TABLE IF NOT EXISTS hold_stack ("                                                  \
	" run INTEGER NOT NULL, hold INTEGER NOT NULL, stack INTEGER NOT NULL,"                    \
	" taken TEXT NOT NULL, PRIMARY KEY (run, hold)) WITHOUT ROWID;"                            \
	"CREATE TABLE IF NOT EXISTS hold_waker ("                                                  \
	" run INTEGER NOT NULL, hold INTEGER NOT NULL, thread INTEGER NOT NULL,"                   \
	" PRIMARY KEY (run, hold)) WITHOUT ROWID;"                                                 \
	"CREATE TABLE IF NOT EXISTS thinning ("                                                    \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, at_ns INTEGER NOT NULL, level TEXT NOT NULL," \
	" cores REAL NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"                              \
	"CREATE TABLE IF NOT EXISTS answer ("                                                      \
	" run INTEGER NOT NULL, id INTEGER NOT NULL, sent_at_ns INTEGER NOT NULL,"                 \
	" latency_ns INTEGER NOT NULL, PRIMARY KEY (run, id)) WITHOUT ROWID;"

/* Every table that belongs to a run, by its `run` column. */
#define STORE_RUN_TABLES                                                                           \
	"thread", "site", "usage", "histogram", "blocking", "hold", "hold_blocking", "phase",      \
		"point", "lost", "metric", "waking", "charge", "frame", "stack", "stack_frame",    \
		"hold_stack", "hold_waker", "thinning", "answer"

#endif
