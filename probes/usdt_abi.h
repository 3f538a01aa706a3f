/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel side of usdt.bpf.c and user space share.
 */
#ifndef USDT_ABI_H
#define USDT_ABI_H

#ifndef __bpf__
#include <stdint.h>
#endif

#define USDT_SITES   1024
#define USDT_THREADS 4096
#define USDT_FILE    64

struct usdt_site {
	uint64_t acquired;
	uint64_t holds;		      /* finished ones */
	uint64_t long_holds, long_ns; /* those of at least usdt_opts.long_ns, and their sum */
	uint32_t line, pad;
	char file[USDT_FILE];
};

#endif
