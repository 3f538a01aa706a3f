/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder for a trace that a daemon of another user writes: it must be able to, and what it has
 * written becomes the caller's in the end.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "analyzers/watch/session.h"

struct output {
	char *asked;   /* where the user wants it; absolute */
	char *written; /* where the daemon writes: the same, or a folder in /tmp */
	bool made;     /* it was not there before */
	uid_t uid;     /* whose it was, or is to be */
	gid_t gid;
};

/* Make `path`, or take it if it is empty, for the user `uid`. 0, or a negative errno and a
 * sentence. */
int output_prepare(struct output *output, const char *path, uid_t uid, gid_t gid,
		   struct session_error *err);
uint64_t output_bytes(const struct output *output);
/* Folders in it that begin with "snapshot-". */
unsigned output_snapshots(const struct output *output);
/*
 * Where it was asked for, and the caller's; gone if nothing was written. Frees it, prepared or not.
 * 0, or a negative errno and a sentence.
 */
int output_deliver(struct output *output, struct session_error *err);

#endif
