/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the USDT test's two sides share. */
#ifndef USDT_TEST_H
#define USDT_TEST_H

enum usdt_kind {
	USDT_INCOMING_END,  /* policy, result */
	USDT_SECTION_END,   /* name, stream_bytes */
	USDT_VMSD_BEGIN,    /* name, version */
	USDT_LOCK_ACQUIRED, /* file, wait_ns */
	USDT_LOCK_RELEASED, /* file, hold_ns */
	USDT_KINDS
};

struct usdt_record {
	unsigned int kind;
	char text[60];
	long long number;
};

#endif
