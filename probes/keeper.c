/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper's two sides. What is asked lies in memory that both share, a byte through a socket
 * says that it is there, another that it is done; the socket's end is the other side's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probes/abi.h"
#include "probes/keeper.h"
#include "probes/private.h"

/* `pkill bqlstat` is not meant for it. */
#define NAME  "uprobe-keeper"
#define LINKS (ABI_SLOTS * ABI_POINTS)

#define GLANCE_US   1000
#define STACK_BYTES (64 << 10)

/* A link's number goes round. Only OUT -> FREE is the parent's, which may be killed anywhere. */
enum state { FREE, IN, GOING, OUT };

enum what { PUT_IN, TAKE_OUT };

struct shared {
	enum what what;
	int link;
	bool multi;
	struct uprobes probes; /* its pointers say nothing on the other side */
	char path[PATH_MAX];
	uint64_t offsets[ABI_POINTS], cookies[ABI_POINTS];
	int answer;
	uint32_t states[LINKS];
};

struct keeper {
	pid_t pid;
	int socket;
	struct shared *shared;
};

static enum state state_of(const struct shared *s, int link)
{
	return __atomic_load_n(&s->states[link], __ATOMIC_ACQUIRE);
}

static void set_state(struct shared *s, int link, enum state state)
{
	__atomic_store_n(&s->states[link], state, __ATOMIC_RELEASE);
}

/* False: the other side is gone. */
static bool say(int socket)
{
	char byte = 0;

	return send(socket, &byte, 1, MSG_NOSIGNAL) == 1;
}

static bool hear(int socket)
{
	char byte;
	ssize_t n;

	do
		n = recv(socket, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/* ---- the child's side ---- */

struct held {
	struct shared *shared;
	int link;
	int fds[2];
};

/* By number. */
static struct held *held;

static void *close_link(void *opaque)
{
	struct held *h = opaque;

	/* The program leaves before its event does. */
	if (h->fds[1] >= 0)
		close(h->fds[1]);
	close(h->fds[0]);
	set_state(h->shared, h->link, OUT);
	return NULL;
}

/* A thread each: their grace periods pass together. */
static void take_out(struct held *h)
{
	pthread_attr_t attr;
	pthread_t thread;

	set_state(h->shared, h->link, GOING);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, close_link, h))
		close_link(h);
	pthread_attr_destroy(&attr);
}

static int put_in(struct shared *s, int type)
{
	const struct uprobes probes = {
		.prog_fd = s->probes.prog_fd,
		.pid = s->probes.pid,
		.path = s->path,
		.offsets = s->offsets,
		.cookies = s->cookies,
		.count = s->probes.count,
	};
	struct held *h = &held[s->link];
	int ret;

	*h = (struct held){.shared = s, .link = s->link};
	ret = s->multi ? uprobes_open_multi(&probes, h->fds)
		       : uprobes_open_single(&probes, type, h->fds);
	if (!ret)
		set_state(s, s->link, IN);
	return ret;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* All but those: a socket or a lock of the parent's must not live on here. */
static void close_others(int socket, const int *fds, size_t count)
{
	int *keep = calloc(count + 1, sizeof(*keep)), next = 0, null;

	if (!keep)
		_exit(1);
	memcpy(keep, fds, count * sizeof(*keep));
	keep[count] = socket;
	qsort(keep, count + 1, sizeof(*keep), compare);
	for (size_t i = 0; i <= count; i++) {
		if (keep[i] > next)
			close_range(next, keep[i] - 1, 0);
		next = keep[i] + 1;
	}
	close_range(next, ~0U, 0);
	free(keep);
	/* Nothing that is opened later may become somebody's standard output. */
	do
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (null >= 0 && null < STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

static _Noreturn void keep(struct shared *s, int socket, int type, const int *fds, size_t count)
{
	sigset_t all;
	bool busy = true;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* What is sent to bqlstat's group or terminal is not meant for it. */
	setsid();
	prctl(PR_SET_NAME, NAME);
	close_others(socket, fds, count);
	held = calloc(LINKS, sizeof(*held));
	while (held && hear(socket)) {
		if (s->what == PUT_IN)
			s->answer = put_in(s, type);
		else
			take_out(&held[s->link]);
		if (!say(socket))
			break;
	}
	for (int i = 0; i < LINKS; i++)
		if (state_of(s, i) == IN)
			take_out(&held[i]);
	while (busy) {
		busy = false;
		for (int i = 0; i < LINKS; i++)
			busy |= state_of(s, i) == GOING;
		if (busy)
			usleep(GLANCE_US);
	}
	_exit(0);
}

/* ---- the parent's side ---- */

int keeper_new(const int *fds, size_t count, struct keeper **keeper)
{
	struct keeper *k = calloc(1, sizeof(*k));
	int ends[2], type = uprobes_type(), ret;

	*keeper = NULL;
	if (!k)
		return -ENOMEM;
	k->shared = mmap(NULL, sizeof(*k->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (k->shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		ret = -errno;
		goto cleanup;
	}
	k->pid = fork();
	if (!k->pid)
		keep(k->shared, ends[1], type, fds, count);
	ret = k->pid < 0 ? -errno : 0;
	close(ends[1]);
	k->socket = ends[0];
	if (ret)
		close(k->socket);

cleanup:
	if (ret) {
		if (k->shared != MAP_FAILED)
			munmap(k->shared, sizeof(*k->shared));
		free(k);
		return ret;
	}
	*keeper = k;
	return 0;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	close(k->socket);
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(k->shared, sizeof(*k->shared));
	free(k);
}

bool keeper_lives(const struct keeper *k)
{
	struct pollfd fd = {.fd = k->socket};

	return poll(&fd, 1, 0) <= 0 || !(fd.revents & (POLLHUP | POLLERR));
}

static bool ask(struct keeper *k, enum what what, int link)
{
	k->shared->what = what;
	k->shared->link = link;
	return say(k->socket) && hear(k->socket);
}

int keeper_put_in(struct keeper *k, const struct uprobes *probes, bool multi)
{
	struct shared *s = k->shared;
	int link = 0;

	while (link < LINKS && state_of(s, link) != FREE)
		link++;
	if (link == LINKS)
		return -ENOSPC;
	if (probes->count > ABI_POINTS || strlen(probes->path) >= sizeof(s->path))
		return -EINVAL;
	s->multi = multi;
	s->probes = *probes;
	memcpy(s->offsets, probes->offsets, probes->count * sizeof(*s->offsets));
	memcpy(s->cookies, probes->cookies, probes->count * sizeof(*s->cookies));
	strcpy(s->path, probes->path);
	if (!ask(k, PUT_IN, link))
		return -EPIPE;
	return s->answer ? s->answer : link;
}

void keeper_take_out(struct keeper *k, int link)
{
	/* One that is dead has taken it out. */
	ask(k, TAKE_OUT, link);
}

bool keeper_is_out(struct keeper *k, int link)
{
	if (state_of(k->shared, link) != OUT && keeper_lives(k))
		return false;
	set_state(k->shared, link, FREE);
	return true;
}
