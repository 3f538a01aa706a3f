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
	int call = ABI_CAUSE_SYSCALL(cause);
	char number[32];

	switch (cause) {
	case CAUSE_FAULT:
		return "page fault";
	case CAUSE_USERFAULT:
		return "userfault";
	case CAUSE_STOPPED:
		return "stopped";
	case CAUSE_OTHERS:
		return "other causes";
	}
	if (cause < 0)
		call = cause;
	else if (call < (int)G_N_ELEMENTS(syscalls) && syscalls[call])
		return syscalls[call];
	snprintf(number, sizeof(number), "syscall %d", call);
	return g_intern_string(number);
}

static const char *const files[ABI_FILES] = {
	[ABI_FILE_UNKNOWN] = "",
	[ABI_FILE_SOCKET] = "socket",
	[ABI_FILE_PIPE] = "pipe",
	[ABI_FILE_REGULAR] = "regular file",
	[ABI_FILE_BLOCK] = "block device",
	[ABI_FILE_CHAR] = "character device",
	[ABI_FILE_DIRECTORY] = "directory",
	[ABI_FILE_EVENTFD] = "eventfd",
	[ABI_FILE_TIMERFD] = "timerfd",
	[ABI_FILE_SIGNALFD] = "signalfd",
	[ABI_FILE_EPOLL] = "epoll",
	[ABI_FILE_USERFAULTFD] = "userfaultfd",
	[ABI_FILE_IO_URING] = "io_uring",
	[ABI_FILE_KVM] = "kvm",
	[ABI_FILE_OTHER] = "other file",
	[ABI_FILE_SEVERAL] = "several files",
};

const char *cause_file(int cause)
{
	int file = cause < 0 ? ABI_FILE_UNKNOWN : ABI_CAUSE_FILE(cause);

	return file < ABI_FILES ? files[file] : "other file";
}

const char *cause_text(int cause)
{
	g_autofree char *text = NULL;

	if (!*cause_file(cause))
		return cause_name(cause);
	text = g_strdup_printf("%s (%s)", cause_name(cause), cause_file(cause));
	return g_intern_string(text);
}

static const char *const takens[TAKENS] = {
	[TAKEN_RELEASED] = "released",
	[TAKEN_PREEMPTED] = "preempted",
	[TAKEN_BLOCKED] = "blocked",
};

const char *taken_name(enum taken taken)
{
	return (unsigned)taken < TAKENS ? takens[taken] : takens[TAKEN_RELEASED];
}

enum taken taken_from_name(const char *name)
{
	for (unsigned i = 0; i < TAKENS; i++)
		if (!strcmp(name, takens[i]))
			return i;
	return TAKEN_RELEASED;
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
	[ABI_LOST_VICTIMS] = {"victims_full", "waits not charged to a holder: table full"},
	[ABI_LOST_STACKS] = {"stacks_skipped", "long holds without a stack: too many at once"},
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
	       !strcmp(name, lost_name(ABI_LOST_STACKS)) ||
	       !strcmp(name, lost_name(ABI_LOST_EXIT_HOLDING));
}
