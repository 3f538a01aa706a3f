/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU in small: a program that exports the functions of QEMU 10.0's that the runtime calls or
 * stands in for, and that calls them itself where and how QEMU does. Incoming coroutine, sections,
 * RAM, mapped-ram, multifd's receivers, RDMA's wait, a VFIO-like device with switchover start and
 * load threads, and a main loop: real threads, a real lock, a real stream. What is in the stream
 * is a test's.
 *
 * loadvm is told nothing of it. Its launcher starts it, its gate takes it for a QEMU, each check
 * of `loadvm --check` is passed by what this code really does, and the detours that go in are the
 * ones that go into QEMU. No packaged QEMU runs under a sanitizer; this does, and so does the
 * runtime inside it (see the Makefile).
 *
 * It watches itself: every function knows whether it was called by this program or by the runtime,
 * whether the lock is held as the policy says, and whether QEMU has been taken apart already. What
 * is wrong ends the process.
 */
#ifndef HOST_H
#define HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <glib.h>

#if defined(__has_feature)
#define HOST_FEATURE(name) __has_feature(name)
#else
#define HOST_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HOST_FEATURE(address_sanitizer)
#define HOST_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || HOST_FEATURE(thread_sanitizer)
#define HOST_TSAN 1
#endif

/*
 * QEMU's functions, by their names. In QEMU most of them are far too large to be inlined into
 * their callers, or lie in another file; where a compiler does it all the same, --check refuses.
 */
#define EXPORTED __attribute__((noinline))

/* ---- watching (watch.c) ---- */

/* Everything that a detour of the runtime's stands on. */
#define HOST_DETOURED(X)                                                                           \
	X(qemu_loadvm_state)                                                                       \
	X(qemu_cleanup)                                                                            \
	X(qio_channel_wait)                                                                        \
	X(qio_channel_readv_full)                                                                  \
	X(multifd_recv_sync_main)                                                                  \
	X(qemu_sem_wait)                                                                           \
	X(qemu_thread_create)                                                                      \
	X(qemu_get_buffer_at)                                                                      \
	X(multifd_recv)                                                                            \
	X(thread_pool_wait)                                                                        \
	X(yield_until_fd_readable)                                                                 \
	X(ram_load)                                                                                \
	X(vmstate_load_state)

enum host_function {
#define HOST_NUMBER(name) CAME_##name,
	HOST_DETOURED(HOST_NUMBER)
#undef HOST_NUMBER
		CAME_N
};

/* How often it was called by this program's own code, and how often by somebody else's. */
struct came {
	int direct, through;
};

/* First of all in each of them. True when the runtime called. */
#define HOST_CAME(name) host_came(CAME_##name, __builtin_return_address(0))

bool host_came(enum host_function function, const void *from);
struct came host_calls(enum host_function function);

/* Where the incoming load is. */
enum place {
	BETWEEN, /* sections: headers are read, handlers looked up */
	RAM_START,
	RAM_PART,
	DEVICE,
};

enum host_policy {
	STOCK, /* not only the policy: whatever loads in the main thread */
	WAIT,
	SECTION,
	IO_FREE,
};

/* "stock" and so on. */
enum host_policy host_policy_named(const char *name);

/* The policy that the next load is under: says who is to hold the lock where. */
void host_expect(enum host_policy policy);

/* Of the calling thread. */
extern __thread enum place host_place;
extern __thread bool host_is_main, host_loads;

/* QEMU's code runs here and now, and, if it loads, at a place of the load: is that right? */
void host_runs(void);
void host_runs_at(enum place place, bool waits);
/*
 * A channel is read: with or without the lock as the policy has it, and the runtime is to have a
 * hand in it only if there is a lock to drop or offer.
 */
void host_reads(bool through);
void host_tear_down(void);

/* What is counted; under a lock of its own, which is taken last. */
enum counter {
	THREADS_CREATED,
	THREADS_JOINED,
	RCU_REGISTERED,
	RCU_UNREGISTERED,
	BHS_SCHEDULED,
	COROUTINE_ENTERED,
	DEVICES,
	PAGES,
	SHUT_DOWN,
	IN_WAIT,     /* threads and coroutines in a wait of the load's, now */
	IN_JOIN,     /* waiting for load threads */
	IN_SWITCH,   /* in switchover start, without the lock */
	TURNS_TAKEN, /* by busy devices */
	KICKED,	     /* a wait of RDMA's ended, and nothing was there */
	TIMED_WAITS, /* for a semaphore */
	COUNTERS
};

void host_count(enum counter counter, int n);
int host_counted(enum counter counter);
void host_forget_counts(void);

/* ---- the lock, threads (thread.c) ---- */

typedef struct QemuMutex {
	pthread_mutex_t lock;
} QemuMutex;

typedef struct QemuCond {
	pthread_cond_t cond;
} QemuCond;

typedef struct QemuSemaphore {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int count;
} QemuSemaphore;

typedef struct QemuThread {
	pthread_t thread;
} QemuThread;

typedef struct ThreadPool ThreadPool;

void qemu_mutex_lock_impl(QemuMutex *mutex, const char *file, int line);
void qemu_mutex_unlock_impl(QemuMutex *mutex, const char *file, int line);
void qemu_cond_wait_impl(QemuCond *cond, QemuMutex *mutex, const char *file, int line);

#define qemu_mutex_lock(mutex)	    qemu_mutex_lock_impl(mutex, __FILE__, __LINE__)
#define qemu_mutex_unlock(mutex)    qemu_mutex_unlock_impl(mutex, __FILE__, __LINE__)
#define qemu_cond_wait(cond, mutex) qemu_cond_wait_impl(cond, mutex, __FILE__, __LINE__)

void qemu_sem_init(QemuSemaphore *sem, unsigned int count);
void qemu_sem_post(QemuSemaphore *sem);
void qemu_sem_wait(QemuSemaphore *sem);
int qemu_sem_timedwait(QemuSemaphore *sem, int ms);

void qemu_thread_create(QemuThread *thread, const char *name, void *(*fn)(void *), void *arg,
			int mode);
void *qemu_thread_join(QemuThread *thread);
void rcu_register_thread(void);
void rcu_unregister_thread(void);

ThreadPool *thread_pool_new(void);
void thread_pool_submit_immediate(ThreadPool *pool, int (*fn)(void *), void *opaque);
void thread_pool_wait(ThreadPool *pool);
void thread_pool_free(ThreadPool *pool);

/* The Big QEMU Lock. */
typedef void (*QemuMutexLockFunc)(QemuMutex *mutex, const char *file, int line);
extern QemuMutexLockFunc bql_mutex_lock_func;
extern QemuMutex *const host_bql;

void bql_lock_impl(const char *file, int line);
void bql_unlock(void);
bool bql_locked(void);

#define bql_lock() bql_lock_impl(__FILE__, __LINE__)

/* ---- coroutines, bottom halves, the main loop (loop.c) ---- */

typedef struct Coroutine Coroutine;
typedef struct AioContext AioContext;

/* There is one at a time. */
Coroutine *qemu_coroutine_create(void (*entry)(void *), void *opaque);
void qemu_coroutine_enter(Coroutine *co);
void qemu_coroutine_yield(void);
Coroutine *qemu_coroutine_self(void);
bool qemu_in_coroutine(void);

AioContext *iohandler_get_aio_context(void);
void aio_bh_schedule_oneshot_full(AioContext *ctx, void (*cb)(void *), void *opaque,
				  const char *name);
/* Yield until `fd` is readable, or somebody enters the coroutine. */
void host_yield_on(int fd);
/* With the lock held: one turn, which waits without it for 2 ms at most. */
void main_loop_wait(void);
void host_loop_init(void);

void qemu_cleanup(int status);

/* ---- channels and the stream (stream.c) ---- */

typedef struct QIOChannel {
	int fd;
} QIOChannel;

typedef struct QEMUFile QEMUFile;

#define QIO_CHANNEL_ERR_BLOCK -2

ssize_t qio_channel_readv_full(QIOChannel *ioc, const struct iovec *iov, size_t niov, int **fds,
			       size_t *nfds, int flags, const char **errp);
void qio_channel_wait(QIOChannel *ioc, GIOCondition condition);
void qio_channel_yield(QIOChannel *ioc, GIOCondition condition);
void yield_until_fd_readable(int fd);

/* How much of it is read at once: little, for many reads. At most QEMU's own 32 KiB. */
extern size_t host_read_bytes;

QEMUFile *qemu_file_new_input(QIOChannel *ioc);
void qemu_fclose(QEMUFile *f);
int qemu_file_get_error(QEMUFile *f);
void qemu_file_set_error(QEMUFile *f, int ret);
int qemu_peek_byte(QEMUFile *f, int offset);
int qemu_get_byte(QEMUFile *f);
size_t qemu_get_buffer_at(QEMUFile *f, uint8_t *buf, size_t size, off_t pos);

/* ---- sections (savevm.c) ---- */

enum {
	QEMU_VM_SECTION_START = 'S',
	QEMU_VM_SECTION_PART = 'P',
	QEMU_VM_SECTION_FULL = 'F',
	QEMU_VM_COMMAND = 'C', /* there is one: switchover start */
	QEMU_VM_EOF = 'E',
};

typedef struct VMStateDescription VMStateDescription;
struct VMStateDescription {
	const char *name;
	int version_id;
	int (*load)(QEMUFile *f, void *opaque, int version_id);
	const VMStateDescription *sub;
};

typedef struct SaveVMHandlers {
	void (*save_state)(QEMUFile *f, void *opaque);
	int (*save_setup)(QEMUFile *f, void *opaque);
	void (*save_cleanup)(void *opaque);
	int (*load_state)(QEMUFile *f, void *opaque, int version_id);
	int (*switchover_start)(void *opaque);
} SaveVMHandlers;

int register_savevm_live(const char *idstr, uint32_t instance_id, int version_id,
			 const SaveVMHandlers *ops, void *opaque);
/* By the character that stands for it in the stream. */
int vmstate_register(char section, const VMStateDescription *vmsd, void *opaque);

int vmstate_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, int version_id);
int qemu_loadvm_state_main(QEMUFile *f, void *mis);
int qemu_loadvm_state(QEMUFile *f);
/* `should_quit`: its function must end soon, as the load has failed. */
void qemu_loadvm_start_load_thread(bool (*fn)(void *opaque, bool *should_quit), void *opaque);
void qemu_loadvm_thread_pool_create(void);
void qemu_loadvm_thread_pool_destroy(void);

/* ---- RAM, multifd, VFIO ---- */

void ram_mig_init(void);
/* RAM's handlers: its load function has no name outside. */
extern const SaveVMHandlers host_ram_handlers __attribute__((visibility("hidden")));
void rdma_start_incoming_migration(void);
extern int host_rdma_fds[2];
extern int host_mapped_fd;

enum {
	MULTIFD_CHANNELS = 2,
};

/* What a channel carries. */
enum {
	MULTIFD_SYNC = 's',
	MULTIFD_DEVICE_STATE = 'v', /* one buffer of it */
};

void multifd_recv_setup(void);
/* Closes the channels; their threads end, and are joined. */
void multifd_recv_cleanup(void);
void multifd_recv_sync_main(void);
bool multifd_recv(void);
/* The source's end of a channel. */
void host_multifd_send(int channel, const char *packets);
void host_multifd_close(int channel);
/* Let go of whoever waits for a free channel. */
void host_multifd_free_channel(void);

void vfio_init(void);
/* A channel has one more. */
void vfio_load_buffer(void);
void vfio_load_cleanup(void);
/* Before a load: it is to bring that many buffers. `fails`: and the device won't have them. */
void host_vfio_reset(int buffers, bool fails);
/* How many of them the device has. With the lock held. */
int host_vfio_loaded(void);
/*
 * Somebody takes the device's mutex; and, told to let go, wants the BQL before he does.
 */
void host_vfio_hold(void);
void host_vfio_let_go(void);

/* ---- the migration (migration.c) ---- */

void migration_incoming_process(void);
void migration_incoming_state_destroy(void);
/* A stream has arrived: the coroutine begins to load it. */
void host_incoming(QEMUFile *f);
bool host_incoming_done(int *result);

/* ---- devices (devices.c) ---- */

void devices_init(void);
/* How many plain ones. With the lock held. */
int host_devices_loaded(void);

/* What the runtime in this process says of itself; NULL: there is none. (main.c) */
const struct loadvm_status *host_status(void);

#endif
