/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the sanitizers must know of this program. They call these if they are there.
 */
#include "tests/host/host.h"

#ifdef HOST_ASAN
const char *__asan_default_options(void);

/* loadvm's gate is preloaded, and so comes before ASAN's own library. It wraps nothing. */
const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
#endif

#ifdef HOST_TSAN
const char *__tsan_default_options(void);

/* Joins are counted, where all are to be joined; one that quits joins nobody, as QEMU. */
const char *__tsan_default_options(void)
{
	return "report_thread_leaks=0";
}
#endif
