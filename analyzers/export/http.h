/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter's web server: /metrics, /healthz and a page for people. Plain HTTP in one thread of
 * its own; TLS and passwords are a proxy's business.
 *
 * What a client can cost is bounded: connections, the size of a request's head, idle time, and the
 * bytes of answers that slow readers have not taken yet.
 */
#ifndef EXPORT_HTTP_H
#define EXPORT_HTTP_H

#include "analyzers/export/metrics.h"

struct http;

/*
 * Serve the book at "ADDRESS:PORT" ("[::1]:10275", ":10275" for every address, port 0: any). NULL
 * with a sentence in *why, to be g_free()d, and EINVAL in errno when that is no address.
 */
struct http *http_new(const char *listen, struct book *book, char **why);
void http_free(struct http *h);
/* As to be written into a URL: "127.0.0.1:10275". */
const char *http_address(const struct http *h);
/* Whether it can be read from this host only. */
bool http_is_local(const struct http *h);

/* page.c: the page for people. With the book's lock held; g_free(). */
char *page_write(const struct book *book);

#endif
