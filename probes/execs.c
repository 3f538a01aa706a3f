/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader of exec.bpf.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/execs.h"
#include "probes/execs_abi.h"
#include "probes/private.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "probes/exec.skel.h"
#pragma GCC diagnostic pop

/* PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h: the same on every boot. */
#define INITIAL_PID_NAMESPACE "pid:[4026531836]"

struct execs {
	struct exec_bpf *skel;
	struct ring_buffer *ring;
	uint32_t missed;
	execs_fn fn;
	void *opaque;
};

static bool in_initial_namespace(void)
{
	char name[64] = "";

	return readlink("/proc/self/ns/pid", name, sizeof(name) - 1) > 0 &&
	       !strcmp(name, INITIAL_PID_NAMESPACE);
}

static int on_event(void *opaque, void *data, size_t size)
{
	const struct execs_event *event = data;
	struct execs *e = opaque;

	if (size >= sizeof(*event))
		e->fn(e->opaque, event->tgid, event->at_ns);
	return 0;
}

/* Not being allowed is normal here, and the caller's to tell. */
static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

int execs_new(struct execs **execs, struct tracer_error *err)
{
	libbpf_print_fn_t print;
	struct execs *e;
	int ret;

	*execs = NULL;
	/* The kernel would tell numbers that mean other processes here, or none. */
	if (!in_initial_namespace()) {
		tracer_fail(err, "not in the initial PID namespace");
		return -EXDEV;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		tracer_fail(err, "out of memory");
		return -ENOMEM;
	}
	print = libbpf_set_print(silent);
	e->skel = exec_bpf__open_and_load();
	ret = -errno;
	libbpf_set_print(print);
	if (!e->skel)
		goto cleanup;
	e->ring = ring_buffer__new(bpf_map__fd(e->skel->maps.execs), on_event, e, NULL);
	if (!e->ring) {
		ret = -errno;
		goto cleanup;
	}
	ret = exec_bpf__attach(e->skel);
	if (ret)
		goto cleanup;
	*execs = e;
	return 0;

cleanup:
	tracer_fail(err, "cannot watch for new processes: %s", strerror(-ret));
	execs_free(e);
	return ret;
}

void execs_free(struct execs *e)
{
	if (!e)
		return;
	ring_buffer__free(e->ring);
	exec_bpf__destroy(e->skel);
	free(e);
}

int execs_fd(const struct execs *e)
{
	return ring_buffer__epoll_fd(e->ring);
}

int execs_poll(struct execs *e, execs_fn fn, void *opaque)
{
	uint32_t missed;

	e->fn = fn;
	e->opaque = opaque;
	ring_buffer__consume(e->ring);
	missed = __atomic_load_n(&e->skel->bss->missed, __ATOMIC_RELAXED);
	if (missed == e->missed)
		return 0;
	e->missed = missed;
	return -ENOBUFS;
}
