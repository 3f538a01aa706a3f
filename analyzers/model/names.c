/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of phases, of what a thread was blocked on, and of what was lost.
 */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "analyzers/model/run.h"

static const char *const phases[PHASES] = {
	[PHASE_NONE] = "none",	       [PHASE_SETUP] = "setup",	      [PHASE_RAM] = "ram",
	[PHASE_DEVICE] = "device",     [PHASE_ACTIVATE] = "activate", [PHASE_START] = "start",
	[PHASE_POSTCOPY] = "postcopy",
};

const char *phase_name(enum phase phase)
{
	return (unsigned)phase < PHASES ? phases[phase] : "none";
}

enum phase phase_from_name(const char *name)
{
	for (unsigned i = 0; i < PHASES; i++)
		if (!strcmp(name, phases[i]))
			return i;
	return PHASE_NONE;
}

/* Those that can block a QEMU thread; others appear by number. */
static const char *const syscalls[] = {
#define NAME(call) [SYS_##call] = #call
	NAME(read),
	NAME(write),
	NAME(open),
	NAME(close),
	NAME(stat),
	NAME(fstat),
	NAME(lstat),
	NAME(poll),
	NAME(lseek),
	NAME(mmap),
	NAME(mprotect),
	NAME(munmap),
	NAME(brk),
	NAME(ioctl),
	NAME(pread64),
	NAME(pwrite64),
	NAME(readv),
	NAME(writev),
	NAME(access),
	NAME(pipe),
	NAME(select),
	NAME(sched_yield),
	NAME(mremap),
	NAME(msync),
	NAME(madvise),
	NAME(pause),
	NAME(nanosleep),
	NAME(sendfile),
	NAME(socket),
	NAME(connect),
	NAME(accept),
	NAME(sendto),
	NAME(recvfrom),
	NAME(sendmsg),
	NAME(recvmsg),
	NAME(shutdown),
	NAME(bind),
	NAME(listen),
	NAME(clone),
	NAME(fork),
	NAME(vfork),
	NAME(execve),
	NAME(exit),
	NAME(wait4),
	NAME(kill),
	NAME(fcntl),
	NAME(flock),
	NAME(fsync),
	NAME(fdatasync),
	NAME(truncate),
	NAME(ftruncate),
	NAME(getdents),
	NAME(rename),
	NAME(unlink),
	NAME(getdents64),
	NAME(futex),
	NAME(io_submit),
	NAME(io_getevents),
	NAME(io_setup),
	NAME(io_destroy),
	NAME(clock_nanosleep),
	NAME(exit_group),
	NAME(epoll_wait),
	NAME(epoll_ctl),
	NAME(tgkill),
	NAME(mbind),
	NAME(waitid),
	NAME(openat),
	NAME(newfstatat),
	NAME(unlinkat),
	NAME(pselect6),
	NAME(ppoll),
	NAME(splice),
	NAME(tee),
	NAME(sync_file_range),
	NAME(vmsplice),
	NAME(epoll_pwait),
	NAME(timerfd_settime),
	NAME(eventfd),
	NAME(fallocate),
	NAME(accept4),
	NAME(eventfd2),
	NAME(epoll_create1),
	NAME(preadv),
	NAME(pwritev),
	NAME(recvmmsg),
	NAME(sendmmsg),
	NAME(process_vm_readv),
	NAME(process_vm_writev),
	NAME(sched_setaffinity),
	NAME(memfd_create),
	NAME(bpf),
	NAME(userfaultfd),
	NAME(membarrier),
	NAME(mlock2),
	NAME(copy_file_range),
	NAME(preadv2),
	NAME(pwritev2),
	NAME(statx),
	NAME(io_uring_setup),
	NAME(io_uring_enter),
	NAME(io_uring_register),
	NAME(mlock),
	NAME(munlock),
	NAME(mlockall),
	NAME(rt_sigprocmask),
	NAME(rt_sigtimedwait),
	NAME(rt_sigsuspend),
	NAME(restart_syscall),
	NAME(clone3),
	NAME(epoll_pwait2),
	NAME(pidfd_open),
	NAME(io_cancel),
	NAME(fadvise64),
#undef NAME
};

const char *cause_name(int cause)
{
	char number[32];

	switch (cause) {
	case CAUSE_FAULT:
		return "page fault";
	case CAUSE_STOPPED:
		return "stopped";
	case CAUSE_OTHERS:
		return "other causes";
	}
	if (cause >= 0 && cause < (int)G_N_ELEMENTS(syscalls) && syscalls[cause])
		return syscalls[cause];
	snprintf(number, sizeof(number), "syscall %d", cause);
	return g_intern_string(number);
}

static const struct {
	const char *name, *meaning;
} losses[] = {
	[ABI_LOST_SITES_FULL] = {"sites_full", "acquisitions not recorded: too many call sites"},
	[ABI_LOST_THREADS_FULL] = {"threads_full", "points passed by too many threads"},
	[ABI_LOST_STATE] = {"no_state", "points passed without memory for the thread's state"},
	[ABI_LOST_RING_FULL] = {"ring_full", "long holds or phases not listed: ring buffer full"},
	[ABI_LOST_BLOCKS] = {"causes_full", "blocking not split by cause: table full"},
	[ABI_LOST_NO_ASK] = {"no_ask", "asked for the lock before the attach: wait unknown"},
	[ABI_LOST_NO_ACQUIRE] = {"no_acquire", "held the lock at the attach: hold unknown"},
	[ABI_LOST_NO_RELEASE] = {"no_release", "holds whose release was not seen"},
	[ABI_LOST_EXIT_HOLDING] = {"exit_holding", "threads that exited while holding"},
	{"events_discarded", "events that the tracer discarded: its buffers were full"},
	{"holds_thinned", "long holds not listed: only the longest 10000 are"},
	{"marks_thinned", "phases not listed: only the first 100000 are"},
};

const char *lost_name(enum abi_lost lost)
{
	return losses[lost].name;
}

const char *lost_meaning(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(losses); i++)
		if (!strcmp(name, losses[i].name))
			return losses[i].meaning;
	return "";
}

bool lost_at_edge(const char *name)
{
	/* QEMU's main thread exits with the lock in hand: every QEMU that quits does. */
	return !strcmp(name, lost_name(ABI_LOST_NO_ASK)) ||
	       !strcmp(name, lost_name(ABI_LOST_NO_ACQUIRE)) ||
	       !strcmp(name, lost_name(ABI_LOST_EXIT_HOLDING));
}
