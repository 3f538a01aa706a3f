/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judging a stall on a machine that may not be able to show what QEMU does.
 */
#ifndef TESTS_STALL_H
#define TESTS_STALL_H

#include "analyzers/lab/stall.h"

#define MS 1000000ull

/*
 * A machine on which even an idle QEMU answers late cannot show what ours does: try again. The
 * first attempt on a quiet machine is the one that is judged, good or bad: picking the best of
 * several would hide what happens now and then.
 */
enum { ATTEMPTS = 4 };

/* So does one whose processors others want: a QEMU that loads a VM is not as light as an idle one.
 */
static const double most_others = 0.5;

/*
 * `always` checks what can be told on any machine, at once. True: the machine was quiet, and
 * `result` is to be judged. False: the test has been skipped.
 */
static inline bool stall_shown(const struct lab_stall_options *options, unsigned noise_limit_ms,
			       void (*always)(const struct lab_stall_result *result),
			       struct lab_stall_result *result)
{
	g_autoptr(GError) error = NULL;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		if (!lab_stall_run(options, result, &error) && lab_skip(error))
			return false;
		g_assert_no_error(error);
		lab_migration_clear(&result->migration);
		g_test_message("monitor p99 %.1f ms, max %.1f ms; idle max %.1f ms, others %.2f",
			       result->monitor.p99_ns / 1e6, result->monitor.max_ns / 1e6,
			       result->idle.max_ns / 1e6, result->others);
		always(result);
		if (result->idle.max_ns <= noise_limit_ms * MS && result->others < most_others)
			return true;
	}
	g_test_skip("no freeze, but more cannot be told: an idle QEMU too answered late, or "
		    "others wanted the processors, each time");
	return false;
}

#endif
