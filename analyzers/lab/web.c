/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A web client, just enough: HTTP/1.0, so that an answer ends with its connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "analyzers/lab/web.h"

#define PATIENCE_NS 10000000000ULL

static int dial(const char *at, GError **error)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	const char *colon = strrchr(at, ':');
	g_autofree char *host = g_strndup(at, colon - at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_port = htons(atoi(colon + 1));
	inet_pton(AF_INET, host, &address.sin_addr);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot connect to %s: %s", at,
		    g_strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool read_all(int fd, GString *into, GError **error)
{
	uint64_t end = lab_now_ns() + PATIENCE_NS;
	char text[65536];

	for (;;) {
		uint64_t now = lab_now_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (now >= end || poll(&p, 1, (end - now) / 1000000 + 1) <= 0)
			break;
		got = read(fd, text, sizeof(text));
		if (!got)
			return true;
		if (got < 0)
			break;
		g_string_append_len(into, text, got);
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT, "no complete answer came");
	return false;
}

bool lab_web_ask(const char *at, const char *method, const char *path, const char *headers,
		 struct lab_answer *answer, GError **error)
{
	g_autofree char *request =
		g_strdup_printf("%s %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n%s\r\n", method,
				path, at, headers ? headers : "");
	g_autoptr(GString) all = g_string_new(NULL);
	int fd = dial(at, error);
	const char *body;
	bool ok;

	memset(answer, 0, sizeof(*answer));
	if (fd < 0)
		return false;
	ok = send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request);
	if (!ok)
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "cannot send to %s", at);
	ok = ok && read_all(fd, all, error);
	close(fd);
	body = ok ? strstr(all->str, "\r\n\r\n") : NULL;
	if (ok && !body)
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "%s does not speak HTTP: %s", at,
			    all->str);
	if (!body)
		return false;
	answer->status = all->len > 9 ? atoi(all->str + 9) : 0;
	answer->head = g_strndup(all->str, body + 2 - all->str);
	answer->size = all->str + all->len - (body + 4);
	answer->body = g_malloc0(answer->size + 1);
	memcpy(answer->body, body + 4, answer->size);
	return true;
}

void lab_answer_clear(struct lab_answer *answer)
{
	g_clear_pointer(&answer->head, g_free);
	g_clear_pointer(&answer->body, g_free);
}

char *lab_web_get(const char *at, const char *path, const char *headers, GError **error)
{
	struct lab_answer answer;
	char *body;

	if (!lab_web_ask(at, "GET", path, headers, &answer, error))
		return NULL;
	body = g_steal_pointer(&answer.body);
	if (answer.status != 200) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "%s%s: %u: %.300s", at, path,
			    answer.status, body);
		g_clear_pointer(&body, g_free);
	}
	lab_answer_clear(&answer);
	return body;
}

unsigned lab_free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		g_error("no free port: %s", g_strerror(errno));
	close(fd);
	return ntohs(address.sin_port);
}
