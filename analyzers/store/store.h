/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run file: an SQLite database that holds any number of runs. docs/run-format.md describes it.
 *
 * Every save is one transaction with a rollback journal, so that a process killed at any moment
 * leaves a file with the runs as they were at the last save.
 */
#ifndef STORE_H
#define STORE_H

#include "analyzers/model/run.h"

#define STORE_APPLICATION_ID 0x42514c53 /* "BQLS" */
#define STORE_SCHEMA	     3

struct store;

/* One clear sentence, without a trailing newline. */
struct store_error {
	char text[512];
};

/*
 * Open for adding runs; the file is made when it does not exist, so this is also the proof that it
 * can be written. Returns 0, or a negative errno and a sentence: -EEXIST it holds something else
 * than runs, -EIO it is damaged, -ENOTSUP a newer bqlstat wrote it, others as the system said.
 */
int store_create(const char *path, struct store **store, struct store_error *err);
/* Open for reading. The same, and -ENODATA for an empty file. */
int store_open(const char *path, struct store **store, struct store_error *err);
/* A file that store_create() made and that holds no run yet is removed again. */
void store_close(struct store *store);

/* Add the run, or replace what was saved of it before; sets run->id. -ENOSPC: disk full. */
int store_save(struct store *store, struct run *run, struct store_error *err);

struct store_entry {
	int64_t id;
	int64_t begin_unix_ns;
	uint64_t duration_ns;
	unsigned pid;
	char label[128];
	char qemu_version[64];
};

/* The runs in it, oldest first: a GArray of struct store_entry, NULL and a sentence on failure. */
GArray *store_list(struct store *store, struct store_error *err);
/* Free with run_free(). -ENOENT: no such run. */
int store_load(struct store *store, int64_t id, struct run **run, struct store_error *err);

#endif
