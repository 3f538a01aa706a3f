/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An LTTng recording session of one's own: a session daemon in a private folder, one session in it,
 * both ended and removed again. Drives the programs of lttng-tools, so that bqlstat needs none of
 * its libraries.
 *
 * Root's daemon would use the system-wide place whatever it is told; so the daemon runs as another
 * user, who must be able to talk to the traced program: root's programs talk to anybody's.
 */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <glib.h>

/* One clear sentence, without a trailing newline. */
struct session_error {
	char text[512];
};

struct session_opts {
	uid_t uid; /* whose daemon it is; 0: the system-wide one */
	gid_t gid;
	const char *home;      /* LTTNG_HOME of a program that runs; NULL: a private folder */
	const char *output;    /* a folder that this user may write to */
	bool snapshot;	       /* keep the last events in memory until session_snapshot() */
	bool nested;	       /* the structures within devices, too */
	uint64_t buffer_bytes; /* for the lock's events, each CPU; a power of 2 */
};

struct session_counts {
	uint64_t discarded; /* events: a buffer was full */
	uint64_t lost;	    /* packets overwritten before they were read; 0 with .snapshot */
};

struct session;

/* Whether what is needed is installed: -ENOENT and a sentence if not. */
int session_possible(struct session_error *err);

/*
 * Daemon and session, recording. Buffers are made smaller where shared memory is short:
 * session_buffer_bytes() tells. 0, or a negative errno and a sentence; on failure nothing is left.
 */
int session_begin(const struct session_opts *opts, struct session **session,
		  struct session_error *err);
/* What LTTNG_HOME must be for a program that it is to record. */
const char *session_home(const struct session *session);
uint64_t session_buffer_bytes(const struct session *session);
/* The daemon's process, for waitpid(); -1: it is somebody else's, found running at `home`. */
pid_t session_daemon(const struct session *session);

/*
 * Take a snapshot by itself, the first time that `event` passes `filter` (LTTng's filter language;
 * NULL: always).
 */
int session_trigger(struct session *session, const char *name, const char *event,
		    const char *filter, struct session_error *err);
int session_snapshot(struct session *session, struct session_error *err);

/* Stop recording, wait until everything is written, and count. The daemon stays. */
int session_stop(struct session *session, struct session_counts *counts, struct session_error *err);
/* Remove a folder and what is in it; or only what is in it. */
void session_remove(const char *folder);
void session_clear(const char *folder);
/* End the session and the daemon and remove their folder; NULL is fine. */
void session_free(struct session *session);

#endif
