/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client that measures: see monitor.h.
 *
 * It sends query-status and query-migrate in turn. Answers come in the order of the requests;
 * events in between have no "return" and no "error".
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-glib/json-glib.h>

#include "analyzers/export/monitor.h"

#define RETRY_NS	1000000000ULL
#define OUTSTANDING_MAX 1200	  /* ten minutes: as good as gone; a socket holds more */
#define ANSWER_MAX	(1 << 20) /* no answer to what we ask comes near */

struct monitor {
	char *path;
	GThread *thread;
	int stop_fd; /* eventfd */
	pthread_mutex_t lock;
	struct monitor_figures figures; /* under the lock */
	uint64_t oldest_ns;		/* under the lock; 0: none is outstanding */

	/* The thread's. */
	int fd;
	GString *input;
	GQueue sent; /* of uint64_t *: when; those not yet answered */
	bool greeted, capable, ask_migration;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

static void publish_oldest(struct monitor *m)
{
	const uint64_t *oldest = g_queue_peek_head(&m->sent);

	pthread_mutex_lock(&m->lock);
	m->oldest_ns = oldest ? *oldest : 0;
	pthread_mutex_unlock(&m->lock);
}

static void hang_up(struct monitor *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
	m->greeted = m->capable = false;
	g_string_truncate(m->input, 0);
	g_queue_clear_full(&m->sent, g_free);
	pthread_mutex_lock(&m->lock);
	m->figures.up = false;
	m->figures.status[0] = 0;
	m->figures.total_bytes = 0;
	m->oldest_ns = 0;
	pthread_mutex_unlock(&m->lock);
}

static void dial(struct monitor *m)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(m->path) >= sizeof(address.sun_path))
		return;
	strcpy(address.sun_path, m->path);
	m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->fd >= 0 && connect(m->fd, (struct sockaddr *)&address, sizeof(address)))
		hang_up(m);
}

static bool send_line(struct monitor *m, const char *line)
{
	size_t size = strlen(line);

	return send(m->fd, line, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void ask(struct monitor *m, uint64_t now)
{
	uint64_t *sent;

	if (!m->capable)
		return;
	if (!send_line(m, m->ask_migration ? "{\"execute\":\"query-migrate\"}\n"
					   : "{\"execute\":\"query-status\"}\n")) {
		hang_up(m);
		return;
	}
	m->ask_migration = !m->ask_migration;
	sent = g_new(uint64_t, 1);
	*sent = now;
	g_queue_push_tail(&m->sent, sent);
	if (m->sent.length > OUTSTANDING_MAX)
		hang_up(m);
	else
		publish_oldest(m);
}

static uint64_t member(JsonObject *object, const char *name)
{
	return json_object_has_member(object, name) ? json_object_get_int_member(object, name) : 0;
}

/* query-migrate's answer has a "status" that is not a run state, or nothing. */
static void take_migration(struct monitor *m, JsonObject *answer)
{
	JsonObject *ram = NULL;

	if (json_object_has_member(answer, "running"))
		return;
	pthread_mutex_lock(&m->lock);
	g_strlcpy(m->figures.status,
		  json_object_get_string_member_with_default(answer, "status", "none"),
		  sizeof(m->figures.status));
	if (json_object_has_member(answer, "ram"))
		ram = json_object_get_object_member(answer, "ram");
	m->figures.transferred_bytes = ram ? member(ram, "transferred") : 0;
	m->figures.remaining_bytes = ram ? member(ram, "remaining") : 0;
	m->figures.total_bytes = ram ? member(ram, "total") : 0;
	pthread_mutex_unlock(&m->lock);
}

static void take_answer(struct monitor *m, uint64_t now)
{
	g_autofree uint64_t *sent = NULL;

	if (!m->capable) {
		m->capable = true;
		pthread_mutex_lock(&m->lock);
		m->figures.up = true;
		pthread_mutex_unlock(&m->lock);
		return;
	}
	sent = g_queue_pop_head(&m->sent);
	if (!sent)
		return;
	pthread_mutex_lock(&m->lock);
	figures_histogram_add(&m->figures.latency, now - *sent);
	pthread_mutex_unlock(&m->lock);
	publish_oldest(m);
}

static void take_line(struct monitor *m, const char *line, uint64_t now)
{
	g_autoptr(JsonNode) node = json_from_string(line, NULL);
	JsonObject *object, *answer;

	if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
		hang_up(m);
		return;
	}
	object = json_node_get_object(node);
	if (json_object_has_member(object, "QMP") && !m->greeted) {
		m->greeted = true;
		if (!send_line(m, "{\"execute\":\"qmp_capabilities\"}\n"))
			hang_up(m);
	} else if (json_object_has_member(object, "error")) {
		take_answer(m, now);
	} else if (json_object_has_member(object, "return")) {
		JsonNode *is = json_object_get_member(object, "return");

		answer = JSON_NODE_HOLDS_OBJECT(is) ? json_node_get_object(is) : NULL;
		if (answer && m->capable)
			take_migration(m, answer);
		take_answer(m, now);
	}
}

static void take_input(struct monitor *m, uint64_t now)
{
	char text[4096], *end;
	ssize_t got = recv(m->fd, text, sizeof(text), 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0 || m->input->len + got > ANSWER_MAX) {
		hang_up(m);
		return;
	}
	g_string_append_len(m->input, text, got);
	while (m->fd >= 0 && (end = memchr(m->input->str, '\n', m->input->len))) {
		*end = 0;
		if (end > m->input->str + 1)
			take_line(m, m->input->str, now);
		if (m->input->len)
			g_string_erase(m->input, 0, end + 1 - m->input->str);
	}
}

static gpointer measure(gpointer opaque)
{
	struct monitor *m = opaque;
	uint64_t next = now_ns();

	for (;;) {
		uint64_t now = now_ns();
		struct pollfd fds[] = {{.fd = m->stop_fd, .events = POLLIN},
				       {.fd = m->fd, .events = POLLIN}};
		int wait_ms = now < next ? (next - now) / 1000000 + 1 : 0;

		poll(fds, 2, wait_ms);
		if (fds[0].revents)
			break;
		if (m->fd >= 0 && fds[1].revents)
			take_input(m, now_ns());
		now = now_ns();
		if (now < next)
			continue;
		if (m->fd < 0)
			dial(m);
		else
			ask(m, now);
		/* Beats that this thread itself slept through were not due. */
		next = MAX(next, now) + (m->fd < 0 ? RETRY_NS : MONITOR_BEAT_NS);
	}
	hang_up(m);
	return NULL;
}

struct monitor *monitor_new(const char *path)
{
	struct monitor *m = g_new0(struct monitor, 1);

	m->path = g_strdup(path);
	m->fd = -1;
	m->input = g_string_new(NULL);
	g_queue_init(&m->sent);
	pthread_mutex_init(&m->lock, NULL);
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	m->thread = g_thread_new("monitor", measure, m);
	return m;
}

void monitor_free(struct monitor *m)
{
	if (!m)
		return;
	eventfd_write(m->stop_fd, 1);
	g_thread_join(m->thread);
	close(m->stop_fd);
	g_string_free(m->input, TRUE);
	pthread_mutex_destroy(&m->lock);
	g_free(m->path);
	g_free(m);
}

void monitor_read(struct monitor *m, struct monitor_figures *figures)
{
	uint64_t now = now_ns();

	pthread_mutex_lock(&m->lock);
	*figures = m->figures;
	figures->waiting_ns = m->oldest_ns && now > m->oldest_ns ? now - m->oldest_ns : 0;
	pthread_mutex_unlock(&m->lock);
}
