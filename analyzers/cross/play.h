/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside `bqlstat crosscheck`: one migration whose destination several sources watch at once.
 */
#ifndef CROSS_PLAY_H
#define CROSS_PLAY_H

#include <signal.h>

#include "analyzers/cross/book.h"

#define PLAY_SOURCES 4

struct play_options {
	const char *qemu;   /* a version or a path, as the lab takes them */
	const char *policy; /* of the destination's loadvm */
	bool log;	    /* QEMU's own trace log is a source, too: it writes under the lock */
	uint64_t long_ns;   /* what counts as a long hold */
	/* Set from a signal handler: end soon, and in good order. */
	const volatile sig_atomic_t *stop;
};

struct play_result {
	struct book *books[PLAY_SOURCES]; /* uprobes, USDT, LTTng, the log */
	unsigned n;
	char qemu_version[64];
	char without[256]; /* why there is no book of the log's, though it was asked for; "" */
};

/* 0, or a negative errno and a sentence; -ENOTSUP: cannot be had on this machine; -EINTR:
 * told to stop. */
int play(const struct play_options *options, struct play_result *result, struct store_error *err);
void play_clear(struct play_result *result);

#endif
