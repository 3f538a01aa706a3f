/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the store: the database handle, statements and failure sentences.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <sqlite3.h>

#include "analyzers/store/store.h"

struct store {
	sqlite3 *db;
	char *path;
	bool created; /* by us, and nothing saved yet */
};

int store_fail(struct store_error *err, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* What SQLite last complained about, as a sentence and a negative errno. */
int store_sqlite_failed(struct store *store, struct store_error *err);

/* Prepare; NULL and a sentence on failure. Finish with sqlite3_finalize(). */
sqlite3_stmt *store_prepare(struct store *store, const char *sql, struct store_error *err);
/*
 * Bind from 1 on by format, run, reset. 'i' int64_t, 'u' unsigned, 's' const char *, 'n' uint64_t
 * that is NULL when UNKNOWN_NS,
 * 'd' double. Returns SQLite's code.
 */
int store_step(sqlite3_stmt *statement, const char *format, ...);
bool store_has_table(struct store *store, const char *name);
int store_exec(struct store *store, const char *sql, struct store_error *err);

#endif
