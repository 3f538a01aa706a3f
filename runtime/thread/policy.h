/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locking policies of the incoming thread, as data: for each place where loadvm may do without the
 * BQL, whether it does. Also linked into the launcher, so it depends on nothing.
 */
#ifndef THREAD_POLICY_H
#define THREAD_POLICY_H

enum {
	POLICY_THREAD = 1 << 0,	   /* load in mig/dst/main at all */
	POLICY_DROP_WAIT = 1 << 1, /* not held while waiting for stream bytes or multifd channels */
	POLICY_BREATHE = 1 << 2,   /* offered at each read, and dropped between devices */
	POLICY_DROP_READ = 1 << 3, /* not held while the stream is read */
	POLICY_DROP_RAM = 1 << 4,  /* not held in RAM sections, but for START */
	/* All but the last also within what the RFC holds it for: device state, and RAM's START. */
	POLICY_INSIDE = 1 << 5,
};

#define POLICY_DEFAULT "io-free"

struct policy {
	const char *name;
	unsigned int drops; /* POLICY_ bits; 0: nothing is patched but to trace */
	/* For `loadvm --list`, a line each. */
	const char *held;
	const char *dropped;
	const char *choose;
};

/* Ended by an entry without a name. */
extern const struct policy policies[];

/* NULL: no such policy. */
const struct policy *policy_find(const char *name);

#endif
