/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU that is told to end, and how soon it does on a machine that may stand still.
 */
#ifndef TESTS_ENDING_H
#define TESTS_ENDING_H

#include "analyzers/lab/lab.h"

struct ending {
	int status;		    /* -1: it did not end in time */
	uint64_t took_ns, still_ns; /* of which the machine stood still */
};

/* signal 0: QMP quit. False with an error if it does not end within the time. */
static inline bool tell_to_end(struct lab_vm *vm, int signal, unsigned patience_ms,
			       struct ending *end, GError **error)
{
	struct lab_stillness *stillness = lab_stillness_new();
	uint64_t begin = lab_now_ns();
	bool ended;

	end->status = -1;
	if (signal)
		lab_vm_kill(vm, signal);
	ended = signal ? lab_vm_wait_exit(vm, patience_ms, &end->status, error)
		       : lab_vm_quit(vm, patience_ms, &end->status, error);
	end->took_ns = lab_now_ns() - begin;
	end->still_ns = lab_stillness_end(stillness);
	if (ended)
		g_test_message("gone after %.0f ms, of which the machine stood still for %.0f",
			       end->took_ns / 1e6, end->still_ns / 1e6);
	return ended;
}

#endif
