/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TCP proxy that does one exact fault at one exact place of one connection.
 *
 * One thread and poll(). Until a rule's place is found the bytes that come from the source are
 * searched as they are read; bytes beyond the place stay in the buffer until the fault is over, so
 * a stall "after this name" lets the other side read that name and not one byte more.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

#define BUFFER_BYTES	262144
#define HOARD_BYTES	(256u << 20) /* what a stalled connection with .hoard takes in at most */
#define MAX_CONNECTIONS 64
#define MAX_PATTERN	300 /* an idstr is at most 255 bytes, and its length byte */
#define NEVER		UINT64_MAX
#define FROZEN_NS	300000000 /* for which a destination that reads nothing is taken for frozen */
#define LOAD_US		100000	  /* what it takes to load what has been read */

/* QEMU's magics, big-endian at the start of a channel; a multifd one's id stands at byte 24. */
#define MAIN_MAGIC    0x5145564du
#define MULTIFD_MAGIC 0x11223344u
#define MULTIFD_ID    24

enum { SOURCE, DESTINATION, SIDES };

/* One direction of a connection: bytes read from one side and not yet written to the other. */
struct flow {
	char *data;
	size_t begin, end, size;
	uint64_t read_bytes, passed_bytes;
	bool eof, shut; /* the reader saw the end; it has been passed on */
};

struct connection {
	int fd[SIDES];
	struct flow flow[SIDES]; /* by the side it is read from */
	enum { PASSING, STALLED, DRAINING, CLOSED } state;
	struct lab_connection seen; /* its byte counts are taken from the flows */
	bool classified;
	/* Search for the current rule's place in the forward flow. */
	ssize_t rule;	/* -1: none (left) */
	bool matched;	/* the pattern has been seen (or there is none) */
	uint64_t place; /* stream position; NEVER while not matched */
	char tail[MAX_PATTERN];
	size_t tail_len;
	uint64_t stall_end_ns;
	uint64_t rate; /* bytes/s, 0: unlimited */
	double credit;
	uint64_t credit_ns;
};

struct rule {
	struct lab_rule rule;
	char pattern[MAX_PATTERN];
	size_t pattern_len;
	bool taken; /* by a connection */
	bool released;
	uint64_t fired_ns;
};

struct lab_proxy {
	char *uri;
	struct sockaddr_storage target;
	socklen_t target_len;
	int listener, wake;
	GThread *thread;
	/* Guards everything below, which the thread also changes. pthread's: TSAN knows it. */
	pthread_mutex_t lock;
	pthread_cond_t fired;
	bool stop;
	struct rule *rules;
	size_t n_rules;
	struct connection connections[MAX_CONNECTIONS];
	unsigned n_connections;
};

/* ---- rules ---- */

static bool applies(const struct lab_proxy *p, const struct rule *r, const struct connection *c)
{
	switch (r->rule.channel) {
	case LAB_CHANNEL_ACCEPTED:
		return c == &p->connections[r->rule.nth];
	case LAB_CHANNEL_MAIN:
		return c->classified && c->seen.channel == LAB_CHANNEL_MAIN;
	case LAB_CHANNEL_MULTIFD:
		return c->classified && c->seen.channel == LAB_CHANNEL_MULTIFD &&
		       c->seen.multifd_id == r->rule.nth;
	}
	return false;
}

/* Which kind of channel it is shows in its first bytes, all of which are still in the buffer. */
static void classify(struct connection *c)
{
	const struct flow *f = &c->flow[SOURCE];
	const uint8_t *data = (const uint8_t *)f->data;
	uint32_t magic;

	if (c->classified || (f->end < 4 && !f->eof))
		return;
	memcpy(&magic, data, 4);
	magic = f->end < 4 ? 0 : ntohl(magic);
	if (magic == MULTIFD_MAGIC && f->end <= MULTIFD_ID && !f->eof)
		return;
	if (magic == MAIN_MAGIC) {
		c->seen.channel = LAB_CHANNEL_MAIN;
	} else if (magic == MULTIFD_MAGIC && f->end > MULTIFD_ID) {
		c->seen.channel = LAB_CHANNEL_MULTIFD;
		c->seen.multifd_id = data[MULTIFD_ID];
	}
	c->classified = true;
}

/* Search `len` bytes at `data`, which begin at stream position `at`, for the rule's pattern. */
static void search(struct lab_proxy *p, struct connection *c, const char *data, size_t len,
		   uint64_t at)
{
	const struct rule *r;
	const char *hit;
	char seam[2 * MAX_PATTERN];
	size_t keep, head;

	if (c->rule < 0 || c->matched)
		return;
	r = &p->rules[c->rule];
	keep = r->pattern_len - 1;
	/* First where it would lie across the end of what was searched before. */
	head = MIN(len, keep);
	memcpy(seam, c->tail, c->tail_len);
	memcpy(seam + c->tail_len, data, head);
	hit = memmem(seam, c->tail_len + head, r->pattern, r->pattern_len);
	if (hit) {
		c->place = at - c->tail_len + (hit - seam);
	} else {
		hit = memmem(data, len, r->pattern, r->pattern_len);
		if (hit)
			c->place = at + (hit - data);
	}
	if (hit) {
		c->matched = true;
		c->place += r->pattern_len + r->rule.offset_bytes;
		return;
	}
	if (len >= keep) {
		memcpy(c->tail, data + len - keep, keep);
		c->tail_len = keep;
	} else {
		size_t old = MIN(c->tail_len, keep - len);

		memmove(c->tail, c->tail + c->tail_len - old, old);
		memcpy(c->tail + old, data, len);
		c->tail_len = old + len;
	}
}

/*
 * The connection's next rule. Its place is searched for from stream position `from`, where the
 * buffer begins: what lies there was searched, if at all, for the rule before.
 */
static void next_rule(struct lab_proxy *p, struct connection *c, uint64_t from)
{
	const struct flow *f = &c->flow[SOURCE];

	c->rule = -1;
	c->place = NEVER;
	c->tail_len = 0;
	for (size_t i = 0; i < p->n_rules; i++) {
		struct rule *r = &p->rules[i];

		if (r->taken || !applies(p, r, c))
			continue;
		r->taken = true;
		c->rule = i;
		c->matched = !r->pattern_len;
		if (c->matched)
			c->place = MAX(from, r->rule.offset_bytes);
		else
			search(p, c, f->data + f->begin, f->end - f->begin, from);
		return;
	}
}

/* ---- connections ---- */

static void close_connection(struct connection *c, bool reset)
{
	const struct linger now = {.l_onoff = 1};

	for (int side = 0; side < SIDES; side++) {
		if (c->fd[side] < 0)
			continue;
		if (reset)
			setsockopt(c->fd[side], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(c->fd[side]);
		c->fd[side] = -1;
		g_clear_pointer(&c->flow[side].data, g_free);
	}
	c->state = CLOSED;
}

static void fire(struct lab_proxy *p, struct connection *c)
{
	struct rule *r = &p->rules[c->rule];

	r->fired_ns = lab_now_ns();
	pthread_cond_broadcast(&p->fired);
	switch (r->rule.fault) {
	case LAB_FAULT_STALL:
		c->state = STALLED;
		c->stall_end_ns = r->fired_ns + r->rule.stall_ms * 1000000ULL;
		return; /* the next rule is looked for when it is over */
	case LAB_FAULT_HALF_OPEN:
		c->state = STALLED;
		c->stall_end_ns = NEVER;
		return;
	case LAB_FAULT_SLOW:
		c->rate = r->rule.bytes_per_second;
		c->credit = 0;
		c->credit_ns = r->fired_ns;
		break;
	case LAB_FAULT_RESET:
		close_connection(c, true);
		break;
	case LAB_FAULT_FIN:
		/* Closing with unread bytes would send RST: end both ways, read on, drop. */
		shutdown(c->fd[SOURCE], SHUT_WR);
		shutdown(c->fd[DESTINATION], SHUT_WR);
		c->state = DRAINING;
		break;
	}
}

/* Read what has come; false when the connection broke. */
static bool fill(struct lab_proxy *p, struct connection *c, int side)
{
	struct flow *f = &c->flow[side];
	ssize_t n;

	if (f->begin == f->end)
		f->begin = f->end = 0;
	/* The first bytes stay at the start of the buffer until the channel is classified. */
	if (f->end == f->size) {
		if (c->state != STALLED)
			return true;
		f->size *= 2;
		f->data = g_realloc(f->data, f->size);
	}
	n = recv(c->fd[side], f->data + f->end, f->size - f->end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	f->eof = !n;
	f->end += n;
	if (side == SOURCE && !c->classified) {
		classify(c);
		if (c->rule < 0 && c->classified)
			next_rule(p, c, 0);
		else
			search(p, c, f->data + f->end - n, n, f->read_bytes);
	} else if (side == SOURCE) {
		search(p, c, f->data + f->end - n, n, f->read_bytes);
	}
	f->read_bytes += n;
	return true;
}

/* How many forward bytes may go now. */
static size_t allowance(struct connection *c, size_t want, uint64_t now)
{
	struct flow *f = &c->flow[SOURCE];

	if (!c->classified)
		return 0;
	if (c->rule >= 0 && c->place != NEVER)
		want = MIN(want, c->place - MIN(c->place, f->passed_bytes));
	if (c->rate) {
		c->credit += (now - c->credit_ns) / 1e9 * c->rate;
		c->credit = MIN(c->credit, MAX(c->rate / 20.0, 1)); /* bursts of 50 ms at most */
		c->credit_ns = now;
		want = MIN(want, (size_t)c->credit);
	}
	return want;
}

/* Write what may go; false when the connection broke. */
static bool drain(struct lab_proxy *p, struct connection *c, int side, uint64_t now)
{
	struct flow *f = &c->flow[side];
	size_t want = f->end - f->begin;
	ssize_t n;

	if (side == SOURCE)
		want = allowance(c, want, now);
	if (want) {
		n = send(c->fd[!side], f->data + f->begin, want, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		f->begin += n;
		f->passed_bytes += n;
		if (side == SOURCE && c->rate)
			c->credit -= n;
	}
	if (side == SOURCE && c->rule >= 0 && f->passed_bytes >= c->place) {
		fire(p, c);
		if (c->state == PASSING)
			next_rule(p, c, f->passed_bytes);
		if (c->state != PASSING)
			return true;
	}
	if (f->eof && f->begin == f->end && !f->shut) {
		shutdown(c->fd[!side], SHUT_WR);
		f->shut = true;
	}
	return true;
}

static void drop_input(struct connection *c, int side)
{
	char waste[4096];
	ssize_t n;

	while ((n = recv(c->fd[side], waste, sizeof(waste), MSG_DONTWAIT)) > 0)
		;
	c->flow[side].eof = !n || (errno != EAGAIN && errno != EINTR);
}

/* One connection's turn: what poll() said about its sides. */
static void serve(struct lab_proxy *p, struct connection *c, const short revents[SIDES])
{
	uint64_t now = lab_now_ns();

	if (c->state == STALLED && (now >= c->stall_end_ns || p->rules[c->rule].released)) {
		c->state = PASSING;
		next_rule(p, c, c->flow[SOURCE].passed_bytes);
	}
	if (c->state == DRAINING) {
		for (int side = 0; side < SIDES; side++)
			if (revents[side])
				drop_input(c, side);
		if (c->flow[SOURCE].eof && c->flow[DESTINATION].eof)
			close_connection(c, false);
		return;
	}
	if (c->state == STALLED && revents[SOURCE] && !fill(p, c, SOURCE))
		close_connection(c, true);
	for (int side = 0; side < SIDES && c->state == PASSING; side++) {
		if ((revents[side] && !c->flow[side].eof && !fill(p, c, side)) ||
		    !drain(p, c, side, now))
			close_connection(c, true);
	}
	if (c->state == PASSING && c->flow[SOURCE].shut && c->flow[DESTINATION].shut)
		close_connection(c, false);
}

static void accept_connection(struct lab_proxy *p)
{
	int one = 1, fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *c;

	if (fd < 0)
		return;
	if (p->n_connections == MAX_CONNECTIONS) {
		close(fd);
		return;
	}
	c = &p->connections[p->n_connections];
	c->fd[SOURCE] = fd;
	c->fd[DESTINATION] =
		socket(p->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connect(c->fd[DESTINATION], (struct sockaddr *)&p->target, p->target_len) &&
	    errno != EINPROGRESS) {
		close_connection(c, true);
	} else {
		c->state = PASSING;
		for (int side = 0; side < SIDES; side++) {
			c->flow[side].size = BUFFER_BYTES;
			c->flow[side].data = g_malloc(BUFFER_BYTES);
			setsockopt(c->fd[side], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		}
	}
	p->n_connections++;
	next_rule(p, c, 0); /* by order of acceptance; by kind once that is known */
}

/* What to wait for on one side, and until when at the latest. */
static short interest(const struct lab_proxy *p, struct connection *c, int side, uint64_t *until)
{
	struct flow *in = &c->flow[side], *out = &c->flow[!side];
	size_t want = out->end - out->begin;
	short events = 0;

	switch (c->state) {
	case DRAINING:
		return in->eof ? 0 : POLLIN;
	case STALLED:
		*until = MIN(*until, c->stall_end_ns);
		return side == SOURCE && p->rules[c->rule].rule.hoard && !in->eof &&
				       in->end < HOARD_BYTES
			       ? POLLIN
			       : 0;
	case CLOSED:
		return 0;
	case PASSING:
		break;
	}
	if (!in->eof && (in->end < in->size || in->begin == in->end))
		events |= POLLIN;
	if (side == DESTINATION && want) {
		want = allowance(c, want, lab_now_ns());
		if (!want && c->rate)
			*until = MIN(*until, lab_now_ns() + 5000000);
	}
	if (want)
		events |= POLLOUT;
	return events;
}

static gpointer run(gpointer opaque)
{
	struct lab_proxy *p = opaque;
	struct pollfd fds[2 + SIDES * MAX_CONNECTIONS];

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		uint64_t until = NEVER, now;
		struct timespec timeout;
		unsigned n = p->n_connections;

		fds[0] = (struct pollfd){.fd = p->wake, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = p->listener, .events = POLLIN};
		for (unsigned i = 0; i < n * SIDES; i++) {
			struct connection *c = &p->connections[i / SIDES];
			short events = interest(p, c, i % SIDES, &until);

			/* With no interest not even POLLHUP may wake: it would spin through a
			 * stall. */
			fds[2 + i] = (struct pollfd){.fd = events ? c->fd[i % SIDES] : -1,
						     .events = events};
		}
		now = lab_now_ns();
		until = until > now ? MIN(until - now, 1000000000) : 0;
		timeout = (struct timespec){until / 1000000000, until % 1000000000};
		pthread_mutex_unlock(&p->lock);
		ppoll(fds, 2 + n * SIDES, &timeout, NULL);
		pthread_mutex_lock(&p->lock);
		if (fds[0].revents) {
			uint64_t count;

			if (read(p->wake, &count, sizeof(count)) < 0)
				continue;
		}
		if (fds[1].revents)
			accept_connection(p);
		for (unsigned i = 0; i < n; i++) {
			const short revents[SIDES] = {fds[2 + SIDES * i].revents,
						      fds[3 + SIDES * i].revents};

			if (p->connections[i].state != CLOSED)
				serve(p, &p->connections[i], revents);
		}
	}
	for (unsigned i = 0; i < p->n_connections; i++)
		if (p->connections[i].state != CLOSED)
			close_connection(&p->connections[i], false);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the handle ---- */

static bool parse_target(struct lab_proxy *p, const char *target, GError **error)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct sockaddr_un *local = (struct sockaddr_un *)&p->target;
	g_autofree char *host = NULL;
	struct addrinfo *found;
	const char *port;

	if (g_str_has_prefix(target, "unix:")) {
		local->sun_family = AF_UNIX;
		g_strlcpy(local->sun_path, target + strlen("unix:"), sizeof(local->sun_path));
		p->target_len = sizeof(*local);
		return true;
	}
	port = strrchr(target, ':');
	if (g_str_has_prefix(target, "tcp:") && port && port > target + strlen("tcp:")) {
		host = g_strndup(target + strlen("tcp:"), port - target - strlen("tcp:"));
		if (!getaddrinfo(host, port + 1, &hints, &found)) {
			memcpy(&p->target, found->ai_addr, found->ai_addrlen);
			p->target_len = found->ai_addrlen;
			freeaddrinfo(found);
			return true;
		}
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "no address to pass on to: %s", target);
	return false;
}

static bool copy_rule(struct rule *to, const struct lab_rule *from, GError **error)
{
	size_t len = strlen(from->section ? from->section : from->pattern ? from->pattern : "");

	to->rule = *from;
	if (len > 255) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
			    "a rule's pattern is at most 255 bytes");
		return false;
	}
	if (from->section) {
		/* With its length byte, so that no longer name (a RAM block's) is taken for it. */
		to->pattern[0] = len;
		memcpy(to->pattern + 1, from->section, len);
		to->pattern_len = len + 1;
	} else if (len) {
		memcpy(to->pattern, from->pattern, len);
		to->pattern_len = len;
	}
	to->rule.section = to->rule.pattern = NULL;
	return true;
}

struct lab_proxy *lab_proxy_new(const char *target, const struct lab_rule *rules, size_t n_rules,
				GError **error)
{
	struct lab_proxy *p = g_new0(struct lab_proxy, 1);
	struct sockaddr_in local = {.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(local);

	p->listener = p->wake = -1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->fired, NULL);
	p->rules = g_new0(struct rule, n_rules);
	p->n_rules = n_rules;
	for (unsigned i = 0; i < MAX_CONNECTIONS; i++)
		p->connections[i] =
			(struct connection){.fd = {-1, -1}, .state = CLOSED, .rule = -1};
	for (size_t i = 0; i < n_rules; i++)
		if (!copy_rule(&p->rules[i], &rules[i], error))
			goto fail;
	if (!parse_target(p, target, error))
		goto fail;
	p->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->wake < 0 || p->listener < 0 ||
	    bind(p->listener, (struct sockaddr *)&local, sizeof(local)) ||
	    listen(p->listener, MAX_CONNECTIONS) ||
	    getsockname(p->listener, (struct sockaddr *)&local, &len)) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the proxy cannot listen: %s",
			    g_strerror(errno));
		goto fail;
	}
	p->uri = g_strdup_printf("tcp:127.0.0.1:%u", ntohs(local.sin_port));
	p->thread = g_thread_new("lab-proxy", run, p);
	return p;
fail:
	lab_proxy_free(p);
	return NULL;
}

static void wake(struct lab_proxy *p)
{
	uint64_t one = 1;

	if (write(p->wake, &one, sizeof(one)) < 0)
		g_warning("the proxy cannot be woken: %s", g_strerror(errno));
}

void lab_proxy_free(struct lab_proxy *p)
{
	if (!p)
		return;
	if (p->thread) {
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		pthread_mutex_unlock(&p->lock);
		wake(p);
		g_thread_join(p->thread);
	}
	if (p->listener >= 0)
		close(p->listener);
	if (p->wake >= 0)
		close(p->wake);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->fired);
	g_free(p->rules);
	g_free(p->uri);
	g_free(p);
}

const char *lab_proxy_uri(const struct lab_proxy *p)
{
	return p->uri;
}

uint64_t lab_proxy_fired_ns(struct lab_proxy *p, size_t rule)
{
	uint64_t fired;

	pthread_mutex_lock(&p->lock);
	fired = rule < p->n_rules ? p->rules[rule].fired_ns : 0;
	pthread_mutex_unlock(&p->lock);
	return fired;
}

bool lab_proxy_wait_fired(struct lab_proxy *p, size_t rule, unsigned timeout_ms, GError **error)
{
	uint64_t deadline = deadline_in(timeout_ms);
	const struct timespec until = {deadline / 1000000000, deadline % 1000000000};
	bool fired;

	g_assert(rule < p->n_rules);
	pthread_mutex_lock(&p->lock);
	while (!p->rules[rule].fired_ns)
		if (pthread_cond_clockwait(&p->fired, &p->lock, CLOCK_MONOTONIC, &until))
			break;
	fired = p->rules[rule].fired_ns;
	pthread_mutex_unlock(&p->lock);
	if (!fired)
		g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
			    "the stream did not reach the place of rule %zu in %u ms", rule,
			    timeout_ms);
	return fired;
}

/* What the kernel says that a socket of this machine, at the other end of `port`, has not read. */
static uint64_t unread_from(const char *sockets, unsigned port)
{
	g_auto(GStrv) lines = g_strsplit(sockets, "\n", -1);

	for (char **line = lines; *line; line++) {
		unsigned remote, queued;

		if (sscanf(*line, "%*u: %*x:%*x %*x:%x %*x %*x:%x", &remote, &queued) == 2 &&
		    remote == port)
			return queued;
	}
	return 0;
}

/* Of what has passed, how much the destination has not read. Its connections are TCP's. */
static uint64_t unread(struct lab_proxy *p)
{
	g_autofree char *sockets = NULL;
	uint64_t bytes = 0;

	pthread_mutex_lock(&p->lock);
	if (g_file_get_contents("/proc/net/tcp", &sockets, NULL, NULL))
		for (unsigned i = 0; i < p->n_connections; i++) {
			int fd = p->connections[i].fd[DESTINATION], sent = 0;
			struct sockaddr_in own = {0};
			socklen_t len = sizeof(own);

			if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &len) ||
			    own.sin_family != AF_INET)
				continue;
			ioctl(fd, SIOCOUTQ, &sent);
			bytes += sent + unread_from(sockets, ntohs(own.sin_port));
		}
	pthread_mutex_unlock(&p->lock);
	return bytes;
}

void lab_proxy_settle(struct lab_proxy *p)
{
	uint64_t left = unread(p), since = lab_now_ns();

	while (left && lab_now_ns() - since < FROZEN_NS) {
		uint64_t before = left;

		g_usleep(5000);
		left = unread(p);
		if (left != before)
			since = lab_now_ns();
	}
	g_usleep(LOAD_US);
}

void lab_proxy_release(struct lab_proxy *p, size_t rule)
{
	g_assert(rule < p->n_rules);
	pthread_mutex_lock(&p->lock);
	p->rules[rule].released = true;
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

bool lab_proxy_connection(struct lab_proxy *p, unsigned nth, struct lab_connection *connection)
{
	bool there;

	pthread_mutex_lock(&p->lock);
	there = nth < p->n_connections;
	if (there) {
		struct connection *c = &p->connections[nth];

		*connection = c->seen;
		connection->forward_bytes = c->flow[SOURCE].passed_bytes;
		connection->backward_bytes = c->flow[DESTINATION].passed_bytes;
	}
	pthread_mutex_unlock(&p->lock);
	return there;
}
