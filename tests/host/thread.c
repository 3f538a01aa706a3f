/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * util/qemu-thread-posix.c, util/thread-pool.c, util/rcu.c and the Big QEMU Lock.
 */
#include "tests/host/host.h"

#include <errno.h>
#include <time.h>

static QemuMutex bql = {PTHREAD_MUTEX_INITIALIZER};
static __thread bool bql_mine, rcu_reader;
QemuMutex *const host_bql = &bql;
QemuMutexLockFunc bql_mutex_lock_func = qemu_mutex_lock_impl;

/* ---- mutexes, condition variables, semaphores ---- */

EXPORTED void qemu_mutex_lock_impl(QemuMutex *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	g_assert_cmpint(pthread_mutex_lock(&mutex->lock), ==, 0);
}

EXPORTED void qemu_mutex_unlock_impl(QemuMutex *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	g_assert_cmpint(pthread_mutex_unlock(&mutex->lock), ==, 0);
}

EXPORTED void qemu_cond_wait_impl(QemuCond *cond, QemuMutex *mutex, const char *file, int line)
{
	(void)file;
	(void)line;
	g_assert_cmpint(pthread_cond_wait(&cond->cond, &mutex->lock), ==, 0);
}

void qemu_sem_init(QemuSemaphore *sem, unsigned int count)
{
	pthread_mutex_init(&sem->lock, NULL);
	pthread_cond_init(&sem->cond, NULL);
	sem->count = count;
}

void qemu_sem_post(QemuSemaphore *sem)
{
	pthread_mutex_lock(&sem->lock);
	sem->count++;
	pthread_cond_signal(&sem->cond);
	pthread_mutex_unlock(&sem->lock);
}

EXPORTED void qemu_sem_wait(QemuSemaphore *sem)
{
	HOST_CAME(qemu_sem_wait);
	pthread_mutex_lock(&sem->lock);
	while (!sem->count)
		pthread_cond_wait(&sem->cond, &sem->lock);
	sem->count--;
	pthread_mutex_unlock(&sem->lock);
}

EXPORTED int qemu_sem_timedwait(QemuSemaphore *sem, int ms)
{
	struct timespec end;
	int r = 0;

	host_count(TIMED_WAITS, 1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += ms % 1000 * 1000000L;
	end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	pthread_mutex_lock(&sem->lock);
	while (!sem->count && !r)
		r = pthread_cond_clockwait(&sem->cond, &sem->lock, CLOCK_MONOTONIC, &end);
	if (sem->count) {
		sem->count--;
		r = 0;
	}
	pthread_mutex_unlock(&sem->lock);
	return r ? -1 : 0;
}

/* ---- threads ---- */

EXPORTED void qemu_thread_create(QemuThread *thread, const char *name, void *(*fn)(void *),
				 void *arg, int mode)
{
	HOST_CAME(qemu_thread_create);
	g_assert_nonnull(name);
	g_assert_cmpint(mode, ==, 0); /* QEMU_THREAD_JOINABLE */
	g_assert_cmpint(pthread_create(&thread->thread, NULL, fn, arg), ==, 0);
	host_count(THREADS_CREATED, 1);
}

EXPORTED void *qemu_thread_join(QemuThread *thread)
{
	void *r;

	g_assert_cmpint(pthread_join(thread->thread, &r), ==, 0);
	host_count(THREADS_JOINED, 1);
	return r;
}

EXPORTED void rcu_register_thread(void)
{
	g_assert_false(rcu_reader);
	rcu_reader = true;
	host_count(RCU_REGISTERED, 1);
}

EXPORTED void rcu_unregister_thread(void)
{
	g_assert_true(rcu_reader);
	rcu_reader = false;
	host_count(RCU_UNREGISTERED, 1);
}

/* ---- thread pools: a thread for each task ---- */

struct task {
	QemuThread thread;
	ThreadPool *pool;
	int (*fn)(void *);
	void *opaque;
};

struct ThreadPool {
	QemuMutex lock;
	QemuCond done;
	int running;
	GPtrArray *tasks;
};

static void *run_task(void *opaque)
{
	struct task *task = opaque;

	rcu_register_thread();
	task->fn(task->opaque);
	rcu_unregister_thread();
	qemu_mutex_lock(&task->pool->lock);
	task->pool->running--;
	pthread_cond_broadcast(&task->pool->done.cond);
	qemu_mutex_unlock(&task->pool->lock);
	return NULL;
}

ThreadPool *thread_pool_new(void)
{
	ThreadPool *pool = g_new0(ThreadPool, 1);

	pthread_mutex_init(&pool->lock.lock, NULL);
	pthread_cond_init(&pool->done.cond, NULL);
	pool->tasks = g_ptr_array_new_with_free_func(g_free);
	return pool;
}

void thread_pool_submit_immediate(ThreadPool *pool, int (*fn)(void *), void *opaque)
{
	struct task *task = g_new0(struct task, 1);

	*task = (struct task){.pool = pool, .fn = fn, .opaque = opaque};
	g_ptr_array_add(pool->tasks, task);
	qemu_mutex_lock(&pool->lock);
	pool->running++;
	qemu_mutex_unlock(&pool->lock);
	qemu_thread_create(&task->thread, "pool", run_task, task, 0);
}

EXPORTED void thread_pool_wait(ThreadPool *pool)
{
	HOST_CAME(thread_pool_wait);
	g_assert_false(bql_locked());
	host_count(IN_JOIN, 1);
	qemu_mutex_lock(&pool->lock);
	while (pool->running)
		qemu_cond_wait(&pool->done, &pool->lock);
	qemu_mutex_unlock(&pool->lock);
	host_count(IN_JOIN, -1);
}

void thread_pool_free(ThreadPool *pool)
{
	for (unsigned int i = 0; i < pool->tasks->len; i++)
		qemu_thread_join(&((struct task *)pool->tasks->pdata[i])->thread);
	g_ptr_array_free(pool->tasks, TRUE);
	g_free(pool);
}

/* ---- the lock ---- */

EXPORTED bool bql_locked(void)
{
	return bql_mine;
}

/* As in system/cpus.c, by a variable, through which QEMU's lock profiler goes. */
EXPORTED void bql_lock_impl(const char *file, int line)
{
	QemuMutexLockFunc lock = __atomic_load_n(&bql_mutex_lock_func, __ATOMIC_RELAXED);

	g_assert_false(bql_locked());
	lock(&bql, file, line);
	bql_mine = true;
}

EXPORTED void bql_unlock(void)
{
	g_assert_true(bql_locked());
	bql_mine = false;
	qemu_mutex_unlock(&bql);
}
