/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter's web server, on libmicrohttpd.
 */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <microhttpd.h>
#include <zlib.h>

#include "analyzers/export/http.h"

#define CONNECTIONS	 128
#define CONNECTIONS_EACH 96 /* of one address: a proxy has only one */
#define IDLE_S		 10
#define REQUEST_BYTES	 16384
#define UNTAKEN_BYTES	 (16 << 20) /* then "503": slow readers must not fill memory */

/* Figures this old are good enough; else wait this long for better ones. */
#define FRESH_NS 50000000ULL
#define WAIT_NS	 250000000ULL
/* A main loop that has not come by for so long is stuck. Attaching takes a second or two. */
#define STUCK_NS 30000000000ULL

struct http {
	struct MHD_Daemon *daemon;
	struct book *book;
	char *address;
	bool loopback;
	gint untaken; /* bytes of answers not yet sent; atomic */
};

struct body {
	struct http *http;
	size_t size;
	char *data;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

static void body_free(void *opaque)
{
	struct body *b = opaque;

	g_atomic_int_add(&b->http->untaken, -(gint)b->size);
	g_free(b->data);
	g_free(b);
}

/* What a browser may make of an answer: what it says it is, and no script is any of ours. */
static void add_headers(struct MHD_Response *r, const char *type)
{
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'; "
				"frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned code, const char *text)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result ret;

	add_headers(r, "text/plain; charset=utf-8");
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", "GET, HEAD");
	if (code == MHD_HTTP_SERVICE_UNAVAILABLE)
		MHD_add_response_header(r, "Retry-After", "5");
	ret = MHD_queue_response(connection, code, r);
	MHD_destroy_response(r);
	return ret;
}

/* Takes the data. */
static enum MHD_Result send_body(struct http *h, struct MHD_Connection *connection, char *data,
				 size_t size, const char *type, bool gzip)
{
	struct body *b = g_new0(struct body, 1);
	struct MHD_Response *r;
	enum MHD_Result ret;

	*b = (struct body){h, size, data};
	g_atomic_int_add(&h->untaken, size);
	r = MHD_create_response_from_buffer_with_free_callback_cls(size, data, body_free, b);
	add_headers(r, type);
	MHD_add_response_header(r, "Vary", "Accept, Accept-Encoding");
	if (gzip)
		MHD_add_response_header(r, "Content-Encoding", "gzip");
	ret = MHD_queue_response(connection, MHD_HTTP_OK, r);
	MHD_destroy_response(r);
	return ret;
}

/* ---- what the client wants ---- */

/* The weight that a header's list gives to a word; below 0: it does not name it. */
static double weight_of(const char *header, const char *word)
{
	g_auto(GStrv) items = g_strsplit(header, ",", 32);
	double best = -1;

	for (char **item = items; *item; item++) {
		g_auto(GStrv) parts = g_strsplit(*item, ";", 8);
		double weight = 1;

		if (!*parts || g_ascii_strcasecmp(g_strstrip(*parts), word))
			continue;
		for (char **part = parts + 1; *part; part++)
			if (!g_ascii_strncasecmp(g_strstrip(*part), "q=", 2))
				weight = g_ascii_strtod(*part + 2, NULL);
		best = MAX(best, weight);
	}
	return best;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
	const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);

	return value ? value : "";
}

static enum exposition_format wanted_format(struct MHD_Connection *connection)
{
	const char *accept = header(connection, "Accept");
	double open = weight_of(accept, "application/openmetrics-text");

	return open > 0 && open >= weight_of(accept, "text/plain") ? EXPOSITION_OPENMETRICS
								   : EXPOSITION_TEXT;
}

/* The same, smaller; NULL: it could not be done. */
static char *compress_text(const char *text, size_t size, size_t *out_size)
{
	z_stream z = {.next_in = (Bytef *)text, .avail_in = size};
	size_t room;
	char *out;

	if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	room = deflateBound(&z, size);
	out = g_malloc(room);
	z.next_out = (Bytef *)out;
	z.avail_out = room;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		g_clear_pointer(&out, g_free);
	*out_size = z.total_out;
	deflateEnd(&z);
	return out ? g_realloc(out, *out_size) : NULL;
}

/* ---- answers ---- */

/* With the lock held. The main loop may be busy attaching: then what there is must do. */
static void refresh(struct book *book)
{
	uint64_t before = book->updated_ns, until_ns = now_ns() + WAIT_NS;
	const struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};

	if (now_ns() - before < FRESH_NS)
		return;
	eventfd_write(book->wanted_fd, 1);
	while (book->updated_ns == before)
		if (pthread_cond_timedwait(&book->updated, &book->lock, &until))
			break;
}

static enum MHD_Result metrics(struct http *h, struct MHD_Connection *connection)
{
	static const char *const types[] = {
		[EXPOSITION_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
		[EXPOSITION_OPENMETRICS] =
			"application/openmetrics-text; version=1.0.0; charset=utf-8",
	};
	enum exposition_format format = wanted_format(connection);
	char *data, *packed = NULL;
	size_t size, packed_size;
	GString *text;

	if (g_atomic_int_get(&h->untaken) > UNTAKEN_BYTES)
		return say(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			   "too many answers wait for slow readers\n");
	pthread_mutex_lock(&h->book->lock);
	refresh(h->book);
	h->book->self.scrapes[format]++;
	text = metrics_write(h->book, format);
	pthread_mutex_unlock(&h->book->lock);
	size = text->len;
	data = g_string_free(text, FALSE);
	if (weight_of(header(connection, "Accept-Encoding"), "gzip") > 0)
		packed = compress_text(data, size, &packed_size);
	if (!packed)
		return send_body(h, connection, data, size, types[format], false);
	g_free(data);
	return send_body(h, connection, packed, packed_size, types[format], true);
}

static enum MHD_Result page(struct http *h, struct MHD_Connection *connection)
{
	char *text;

	if (g_atomic_int_get(&h->untaken) > UNTAKEN_BYTES)
		return say(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			   "too many answers wait for slow readers\n");
	pthread_mutex_lock(&h->book->lock);
	refresh(h->book);
	text = page_write(h->book);
	pthread_mutex_unlock(&h->book->lock);
	return send_body(h, connection, text, strlen(text), "text/html; charset=utf-8", false);
}

static enum MHD_Result health(struct http *h, struct MHD_Connection *connection)
{
	bool stuck;

	pthread_mutex_lock(&h->book->lock);
	stuck = now_ns() > h->book->tended_ns + STUCK_NS;
	pthread_mutex_unlock(&h->book->lock);
	return stuck ? say(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			   "the tracer has not answered for 30 s\n")
		     : say(connection, MHD_HTTP_OK, "ok\n");
}

static bool has_body(struct MHD_Connection *connection)
{
	return *header(connection, "Transfer-Encoding") ||
	       g_ascii_strtoull(header(connection, "Content-Length"), NULL, 10);
}

static enum MHD_Result answer(void *opaque, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *upload,
			      size_t *upload_size, void **state)
{
	struct http *h = opaque;

	(void)version;
	(void)upload;
	(void)upload_size;
	/* At once, so that its body is not waited for; that closes the connection. */
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (has_body(connection))
		return say(connection, MHD_HTTP_CONTENT_TOO_LARGE, "a request has no body here\n");
	/* The first call comes before the request's end: an answer then would close it, too. */
	if (!*state) {
		*state = h;
		return MHD_YES;
	}
	if (!strcmp(url, "/metrics"))
		return metrics(h, connection);
	if (!strcmp(url, "/healthz"))
		return health(h, connection);
	if (!strcmp(url, "/"))
		return page(h, connection);
	return say(connection, MHD_HTTP_NOT_FOUND, "there are /, /metrics and /healthz\n");
}

/* ---- listening ---- */

static void fail(char **why, const char *listen, const char *what)
{
	*why = g_strdup_printf("cannot listen at %s: %s", listen, what);
}

static struct addrinfo *resolve(const char *listen, char **why)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	const char *colon = strrchr(listen, ':');
	g_autofree char *host = g_strndup(listen, colon ? colon - listen : 0);
	struct addrinfo *found = NULL;
	size_t length = strlen(host);

	if (!colon || !colon[1]) {
		fail(why, listen, "say ADDRESS:PORT, such as 127.0.0.1:10275");
		return NULL;
	}
	if (*host == '[' && host[length - 1] == ']') {
		memmove(host, host + 1, length - 2);
		host[length - 2] = 0;
	}
	if (strspn(colon + 1, "0123456789") != strlen(colon + 1) || atoi(colon + 1) > 65535)
		fail(why, listen, "its port is no number up to 65535");
	else if (getaddrinfo(*host ? host : "::", colon + 1, &hints, &found))
		fail(why, listen, "its address is no number such as 127.0.0.1 or [::1]");
	return found;
}

static char *address_of(const struct addrinfo *at, unsigned port)
{
	char host[NI_MAXHOST] = "?";

	getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	return g_strdup_printf(at->ai_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
}

static bool is_loopback(const struct sockaddr *address)
{
	const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
	const uint8_t *four = (const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr;

	if (address->sa_family == AF_INET)
		return four[0] == 127;
	return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static struct MHD_Daemon *start(struct http *h, const struct addrinfo *at)
{
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;

	if (at->ai_family == AF_INET6)
		flags |= MHD_USE_IPv6 | MHD_USE_DUAL_STACK;
	errno = 0;
	return MHD_start_daemon(
		flags, 0, NULL, NULL, answer, h, MHD_OPTION_SOCK_ADDR, at->ai_addr,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		CONNECTIONS_EACH, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES, MHD_OPTION_END);
}

struct http *http_new(const char *listen, struct book *book, char **why)
{
	struct addrinfo *at = resolve(listen, why);
	const union MHD_DaemonInfo *info;
	struct http *h;

	if (!at) {
		errno = EINVAL;
		return NULL;
	}
	h = g_new0(struct http, 1);
	h->book = book;
	h->daemon = start(h, at);
	/* Every address of a host whose kernel has no IPv6. */
	if (!h->daemon && errno == EAFNOSUPPORT && *listen == ':') {
		g_autofree char *four = g_strconcat("0.0.0.0", listen, NULL);

		freeaddrinfo(at);
		at = resolve(four, why);
		h->daemon = start(h, at);
	}
	if (!h->daemon) {
		fail(why, listen, errno ? g_strerror(errno) : "the web server does not start");
		g_clear_pointer(&h, g_free);
	} else {
		info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
		h->address = address_of(at, info ? info->port : 0);
		h->loopback = is_loopback(at->ai_addr);
	}
	freeaddrinfo(at);
	if (!h)
		errno = EIO;
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->daemon);
	g_free(h->address);
	g_free(h);
}

const char *http_address(const struct http *h)
{
	return h->address;
}

bool http_is_local(const struct http *h)
{
	return h->loopback;
}
