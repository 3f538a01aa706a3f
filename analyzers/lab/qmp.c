/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One QMP connection: messages in and out with deadlines, answers matched by id, events queued.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

struct qmp {
	int fd;
	GString *in, *out;
	uint64_t last_id;
	GQueue events; /* JsonObject * */
};

static JsonObject *qmp_message(struct qmp *qmp, uint64_t deadline_ns, const char *late,
			       GError **error)
{
	GError *broken = NULL;
	JsonObject *message = qmp_read(qmp, deadline_ns, &broken);

	if (!message && !broken)
		g_set_error_literal(&broken, LAB_ERROR, LAB_ERROR_TIMEOUT, late);
	if (broken)
		g_propagate_error(error, broken);
	return message;
}

struct qmp *qmp_connect(const char *path, struct lab_process *process, uint64_t deadline_ns,
			GError **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct qmp *qmp = g_new0(struct qmp, 1);
	g_autoptr(JsonNode) answer = NULL;
	JsonObject *greeting;
	uint64_t id;

	qmp->in = g_string_new(NULL);
	qmp->out = g_string_new(NULL);
	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	qmp->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(qmp->fd, (struct sockaddr *)&address, sizeof(address))) {
		if (!lab_process_running(process)) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED,
				    "QEMU ended before its monitor was there");
			goto fail;
		}
		if (!deadline_left_ms(deadline_ns)) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "QEMU's monitor did not appear in time");
			goto fail;
		}
		g_usleep(2000);
	}
	greeting = qmp_message(qmp, deadline_ns, "QMP sent no greeting", error);
	if (!greeting)
		goto fail;
	json_object_unref(greeting);
	if (!qmp_send(qmp, "qmp_capabilities", NULL, &id, error))
		goto fail;
	answer = qmp_answer(qmp, id, deadline_ns, error);
	if (answer)
		return qmp;
fail:
	qmp_free(qmp);
	return NULL;
}

void qmp_free(struct qmp *qmp)
{
	if (!qmp)
		return;
	if (qmp->fd >= 0)
		close(qmp->fd);
	g_queue_clear_full(&qmp->events, (GDestroyNotify)json_object_unref);
	g_string_free(qmp->in, TRUE);
	g_string_free(qmp->out, TRUE);
	g_free(qmp);
}

/* What the socket takes now; the rest goes when it drains (a frozen QEMU reads nothing). */
static bool flush(struct qmp *qmp, GError **error)
{
	while (qmp->out->len) {
		ssize_t n =
			send(qmp->fd, qmp->out->str, qmp->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			g_string_erase(qmp->out, 0, n);
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "cannot send to QMP: %s",
				    g_strerror(errno));
			return false;
		}
	}
	return true;
}

bool qmp_send(struct qmp *qmp, const char *command, const char *arguments, uint64_t *id,
	      GError **error)
{
	*id = ++qmp->last_id;
	g_string_append_printf(
		qmp->out, "{\"execute\": \"%s\", \"id\": %" G_GUINT64_FORMAT "%s%s}\n", command,
		*id, arguments ? ", \"arguments\": " : "", arguments ? arguments : "");
	return flush(qmp, error);
}

bool qmp_send_fd(struct qmp *qmp, int fd, const char *name, uint64_t *id, GError **error)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	/* It comes with the byte before the command that takes it: blanks are nothing to QMP. */
	char blank = ' ';
	struct iovec data = {&blank, 1};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	g_autofree char *arguments = g_strdup_printf("{\"fdname\": \"%s\"}", name);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(qmp->fd, &message, MSG_NOSIGNAL) != 1) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot pass a descriptor: %s",
			    g_strerror(errno));
		return false;
	}
	return qmp_send(qmp, "getfd", arguments, id, error);
}

JsonObject *qmp_read(struct qmp *qmp, uint64_t deadline_ns, GError **error)
{
	char chunk[16384];
	ssize_t n;

	for (;;) {
		char *newline = memchr(qmp->in->str, '\n', qmp->in->len);
		struct pollfd wait = {.fd = qmp->fd, .events = POLLIN};
		uint64_t now = lab_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
		struct timespec timeout = {left / 1000000000, left % 1000000000};

		if (newline) {
			g_autoptr(JsonNode) node = NULL;
			JsonObject *object = NULL;

			*newline = '\0';
			node = json_from_string(qmp->in->str, error);
			if (node && JSON_NODE_HOLDS_OBJECT(node))
				object = json_node_dup_object(node);
			else if (node)
				g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "QMP said \"%s\"",
					    qmp->in->str);
			g_string_erase(qmp->in, 0, newline + 1 - qmp->in->str);
			return object;
		}
		if (qmp->out->len)
			wait.events |= POLLOUT;
		if (ppoll(&wait, 1, &timeout, NULL) <= 0) {
			if (!left)
				return NULL;
			continue; /* a signal, or another look at the clock */
		}
		if (wait.revents & POLLOUT && !flush(qmp, error))
			return NULL;
		if (!(wait.revents & ~POLLOUT))
			continue;
		n = read(qmp->fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_EXITED, "QMP closed");
			return NULL;
		}
		g_string_append_len(qmp->in, chunk, n);
	}
}

JsonNode *qmp_answer(struct qmp *qmp, uint64_t id, uint64_t deadline_ns, GError **error)
{
	for (;;) {
		g_autoptr(JsonObject) message = NULL;
		JsonObject *reason;

		message = qmp_message(qmp, deadline_ns, "QMP did not answer in time", error);
		if (!message)
			return NULL;
		if (json_object_has_member(message, "event")) {
			g_queue_push_tail(&qmp->events, g_steal_pointer(&message));
			continue;
		}
		if (!json_object_has_member(message, "id") ||
		    (uint64_t)json_object_get_int_member(message, "id") != id)
			continue;
		if (json_object_has_member(message, "return"))
			return json_object_dup_member(message, "return");
		reason = json_object_get_object_member(message, "error");
		g_set_error(error, LAB_ERROR, LAB_ERROR_QMP, "%s",
			    json_object_get_string_member(reason, "desc"));
		return NULL;
	}
}

static JsonNode *take_event(struct qmp *qmp, const char *name)
{
	for (GList *at = qmp->events.head; at; at = at->next) {
		JsonObject *event = at->data;
		JsonNode *node;

		if (strcmp(json_object_get_string_member(event, "event"), name))
			continue;
		g_queue_delete_link(&qmp->events, at);
		node = json_node_init_object(json_node_alloc(), event);
		json_object_unref(event);
		return node;
	}
	return NULL;
}

JsonNode *qmp_event(struct qmp *qmp, const char *name, uint64_t deadline_ns, GError **error)
{
	for (;;) {
		JsonNode *event = take_event(qmp, name);
		JsonObject *message;

		if (event)
			return event;
		message = qmp_message(qmp, deadline_ns, "the event did not come in time", error);
		if (!message)
			return NULL;
		if (json_object_has_member(message, "event"))
			g_queue_push_tail(&qmp->events, message);
		else
			json_object_unref(
				message); /* an answer that came too late for its caller */
	}
}

/* ---- reading answers ---- */

static JsonNode *member(JsonNode *node, const char *path)
{
	g_auto(GStrv) names = g_strsplit(path, ".", -1);

	for (char **name = names; node && *name; name++)
		node = JSON_NODE_HOLDS_OBJECT(node)
			       ? json_object_get_member(json_node_get_object(node), *name)
			       : NULL;
	return node;
}

const char *lab_json_string(JsonNode *node, const char *path)
{
	node = member(node, path);
	return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;
}

int64_t lab_json_int(JsonNode *node, const char *path)
{
	node = member(node, path);
	return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_int(node) : 0;
}
