/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel side: why a holder went to sleep, and who woke it.
 */
#ifndef PROBES_BLOCKED_H
#define PROBES_BLOCKED_H

#include <asm/unistd_64.h>
#include <bpf/bpf_core_read.h>

#define S_IFMT	 0170000
#define S_IFSOCK 0140000
#define S_IFREG	 0100000
#define S_IFBLK	 0060000
#define S_IFDIR	 0040000
#define S_IFCHR	 0020000
#define S_IFIFO	 0010000

#define ANON_INODE_FS_MAGIC 0x09041934
#define DEV_KVM		    (10 << 20 | 232)

#define KERNEL_FRAMES 16 /* handle_userfault() calls schedule(): it is among the last */
#define POLLED	      4	 /* descriptors of a poll that are looked at */

/* Syscalls that may sleep and whose first argument is the descriptor that they sleep on. */
static const uint8_t takes_fd[] = {
	[__NR_read] = 1,	 [__NR_write] = 1,	     [__NR_ioctl] = 1,
	[__NR_pread64] = 1,	 [__NR_pwrite64] = 1,	     [__NR_readv] = 1,
	[__NR_writev] = 1,	 [__NR_connect] = 1,	     [__NR_accept] = 1,
	[__NR_sendto] = 1,	 [__NR_recvfrom] = 1,	     [__NR_sendmsg] = 1,
	[__NR_recvmsg] = 1,	 [__NR_shutdown] = 1,	     [__NR_fcntl] = 1,
	[__NR_flock] = 1,	 [__NR_fsync] = 1,	     [__NR_fdatasync] = 1,
	[__NR_ftruncate] = 1,	 [__NR_getdents] = 1,	     [__NR_getdents64] = 1,
	[__NR_epoll_wait] = 1,	 [__NR_sync_file_range] = 1, [__NR_epoll_pwait] = 1,
	[__NR_fallocate] = 1,	 [__NR_accept4] = 1,	     [__NR_preadv] = 1,
	[__NR_pwritev] = 1,	 [__NR_recvmmsg] = 1,	     [__NR_sendmmsg] = 1,
	[__NR_preadv2] = 1,	 [__NR_pwritev2] = 1,	     [__NR_io_uring_enter] = 1,
	[__NR_epoll_pwait2] = 1, [__NR_lseek] = 1,	     [__NR_fstat] = 1,
};

/* By the name that the kernel gives a file without an inode of its own, "[eventfd]". */
static __always_inline uint32_t kind_of_anonymous(struct file *file)
{
	const unsigned char *name = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	char c[8] = {};

	bpf_probe_read_kernel_str(c, sizeof(c), name);
	if (c[0] == 'k' && c[1] == 'v' && c[2] == 'm')
		return ABI_FILE_KVM;
	switch (c[1]) {
	case 'e':
		return c[2] == 'v' && c[6] == 'f'   ? ABI_FILE_EVENTFD
		       : c[2] == 'v' && c[6] == 'p' ? ABI_FILE_EPOLL
						    : ABI_FILE_OTHER;
	case 't':
		return ABI_FILE_TIMERFD;
	case 's':
		return ABI_FILE_SIGNALFD;
	case 'u':
		return ABI_FILE_USERFAULTFD;
	case 'i':
		return c[2] == 'o' ? ABI_FILE_IO_URING : ABI_FILE_OTHER;
	}
	return ABI_FILE_OTHER;
}

/* A descriptor of the current thread. */
static __noinline uint32_t kind_of_file(struct task_struct *task, uint32_t fd)
{
	struct fdtable *fdt = task ? BPF_CORE_READ(task, files, fdt) : NULL;
	struct file **table, *file = NULL;
	struct inode *inode;

	if (!fdt || fd >= BPF_CORE_READ(fdt, max_fds))
		return ABI_FILE_UNKNOWN;
	table = BPF_CORE_READ(fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), table + fd) || !file)
		return ABI_FILE_UNKNOWN;
	inode = BPF_CORE_READ(file, f_inode);
	/* First: what mode such an inode has differs between kernels. */
	if (BPF_CORE_READ(inode, i_sb, s_magic) == ANON_INODE_FS_MAGIC)
		return kind_of_anonymous(file);
	switch (BPF_CORE_READ(inode, i_mode) & S_IFMT) {
	case S_IFSOCK:
		return ABI_FILE_SOCKET;
	case S_IFIFO:
		return ABI_FILE_PIPE;
	case S_IFREG:
		return ABI_FILE_REGULAR;
	case S_IFBLK:
		return ABI_FILE_BLOCK;
	case S_IFDIR:
		return ABI_FILE_DIRECTORY;
	case S_IFCHR:
		return BPF_CORE_READ(inode, i_rdev) == DEV_KVM ? ABI_FILE_KVM : ABI_FILE_CHAR;
	}
	return ABI_FILE_OTHER;
}

/* What a poll waits for, when all of the first few are of one kind. */
static __always_inline uint32_t kind_of_polled(struct task_struct *task, uint64_t fds, uint64_t n)
{
	struct {
		int32_t fd;
		uint32_t events;
	} polled;
	uint32_t kind = ABI_FILE_UNKNOWN;

	for (uint32_t i = 0; i < POLLED && i < n; i++) {
		uint32_t k;

		if (bpf_probe_read_user(&polled, sizeof(polled),
					(void *)(fds + i * sizeof(polled))))
			break;
		k = polled.fd < 0 ? ABI_FILE_UNKNOWN : kind_of_file(task, polled.fd);
		if (kind && k && k != kind)
			return ABI_FILE_SEVERAL;
		kind = k ? k : kind;
	}
	return kind;
}

/*
 * By the kernel's own stack: it shows a fault taken inside a syscall too, and asks nothing of the
 * faulting address, which sched_switch does not know. Where the symbols are hidden: a fault from
 * user mode sleeps interruptibly in handle_userfault(), and else only for a file system in user
 * space.
 */
static __always_inline bool is_userfault(void *ctx, bool syscall, unsigned int sleep)
{
	uint64_t frames[KERNEL_FRAMES] = {};
	uint64_t begin = userfault_begin, size = userfault_end - begin;

	if (!begin)
		return !syscall && sleep & TASK_INTERRUPTIBLE;
	if (bpf_get_stack(ctx, frames, sizeof(frames), 0) < 0)
		return false;
	for (int i = 0; i < KERNEL_FRAMES; i++)
		if (frames[i] - begin < size)
			return true;
	return false;
}

/* Why the current thread, which is about to sleep, does so. */
static __always_inline int32_t cause_of(void *ctx, struct task_struct *task, unsigned int sleep)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	uint64_t nr = 0, arg = 0, arg2 = 0;
	uint32_t kind = ABI_FILE_UNKNOWN;

	if (sleep & (TASK_STOPPED | TASK_TRACED))
		return ABI_CAUSE_STOPPED;
	/* -1 in orig_ax: the kernel was entered by an exception, not by a syscall. */
	if (bpf_probe_read_kernel(&nr, sizeof(nr), &regs->orig_ax) || (long)nr < 0)
		return is_userfault(ctx, false, sleep) ? ABI_CAUSE_USERFAULT : ABI_CAUSE_FAULT;
	nr &= 0xffff;
	bpf_probe_read_kernel(&arg, sizeof(arg), &regs->di);
	if (nr == __NR_futex || nr == __NR_nanosleep || nr == __NR_clock_nanosleep)
		return nr;
	if (nr == __NR_poll || nr == __NR_ppoll) {
		bpf_probe_read_kernel(&arg2, sizeof(arg2), &regs->si);
		return ABI_CAUSE(nr, kind_of_polled(task, arg, arg2));
	}
	if (is_userfault(ctx, true, sleep))
		return ABI_CAUSE_USERFAULT;
	if (nr < sizeof(takes_fd) && takes_fd[nr])
		kind = kind_of_file(task, arg);
	return ABI_CAUSE(nr, kind);
}

/* Wakers are in the syscall that wakes, or exit: anything else is a time-out's interrupt. */
static __always_inline bool wakes_futexes(struct task_struct *waker)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(waker);
	uint64_t nr = 0;

	return waker->pid && !bpf_probe_read_kernel(&nr, sizeof(nr), &regs->orig_ax) &&
	       (nr == __NR_futex || nr == __NR_exit || nr == __NR_exit_group);
}

/* The current thread wakes a holder. */
static __always_inline void woken(struct state *st)
{
	struct task_struct *waker = (void *)bpf_get_current_task_btf();
	struct abi_waker_key key = {.epoch = st->epoch, .tid = waker->pid};
	struct abi_waker value = {.tgid = waker->tgid};

	if (!wakes_futexes(waker))
		return;
	st->off_waker = waker->pid;
	if (bpf_map_lookup_elem(&wakers, &key))
		return;
	bpf_get_current_comm(value.comm, sizeof(value.comm));
	bpf_map_update_elem(&wakers, &key, &value, BPF_NOEXIST);
}

#endif
