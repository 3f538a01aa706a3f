/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What liblab's own files share: deadlines, one QMP connection, the guest's image.
 */
#ifndef LAB_INTERNAL_H
#define LAB_INTERNAL_H

#include "analyzers/lab/lab.h"

/* A point in time to wait until, in CLOCK_MONOTONIC ns. */
static inline uint64_t deadline_in(unsigned timeout_ms)
{
	return lab_now_ns() + timeout_ms * 1000000ULL;
}

/* Milliseconds left for poll(), rounded up: 0 only when the deadline has passed. */
int deadline_left_ms(uint64_t deadline_ns);

/* One QMP connection; its functions do not know which process is at the other end. */
struct qmp;

/* Connect to a unix socket, read the greeting, negotiate. Tries again until someone listens. */
struct qmp *qmp_connect(const char *path, struct lab_process *process, uint64_t deadline_ns,
			GError **error);
void qmp_free(struct qmp *qmp);
/*
 * Send a command whose arguments are the JSON text `arguments` or NULL; sets *id. Never blocks:
 * what the socket does not take is kept and sent while reading.
 */
bool qmp_send(struct qmp *qmp, const char *command, const char *arguments, uint64_t *id,
	      GError **error);
/* getfd: the other end keeps a copy of `fd` under that name. */
bool qmp_send_fd(struct qmp *qmp, int fd, const char *name, uint64_t *id, GError **error);
/* The answer to `id`; answers to older commands are dropped, events queued. */
JsonNode *qmp_answer(struct qmp *qmp, uint64_t id, uint64_t deadline_ns, GError **error);
JsonNode *qmp_event(struct qmp *qmp, const char *name, uint64_t deadline_ns, GError **error);
/* The next whole message; NULL with no error set when none has come by the deadline. */
JsonObject *qmp_read(struct qmp *qmp, uint64_t deadline_ns, GError **error);

/* For "fd:NAME". The caller keeps its own. */
bool lab_vm_pass_fd(struct lab_vm *vm, int fd, const char *name, GError **error);

const char *lab_vm_poller_path(const struct lab_vm *vm);

/* The boot image for these options, as it is written to the disk file. Owned by the caller. */
GBytes *lab_guest_image(const struct lab_vm_options *options, GError **error);

/*
 * `git clone` of this project that the program was built in or stands in: the folder that holds
 * analyzers/lab; NULL elsewhere (an installed bqlstat).
 */
const char *lab_source_root(void);

#endif
