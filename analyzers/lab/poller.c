/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a monitor takes to answer: an open-loop client in a thread of its own.
 *
 * Open-loop, because a client that waits for one answer before it sends the next turns a freeze of
 * 3 s into a single slow sample, and every percentile then lies.
 */
#include <stdlib.h>

#include "analyzers/lab/internal.h"

#define INTERVAL_US 5000

enum stop { GO_ON, ASK_NO_MORE, NOW };

struct lab_poller {
	struct qmp *qmp;
	const char *const *commands;
	uint64_t interval_ns;
	GThread *thread;
	int stop; /* atomic, of enum stop */
	int done; /* atomic */
	/* The thread's until it is joined. Requests are answered in order. */
	GArray *samples; /* struct lab_sample */
	size_t answered;
};

static gpointer poll_monitor(gpointer opaque)
{
	struct lab_poller *p = opaque;
	const char *const *command = p->commands;
	uint64_t next = lab_now_ns(), now;
	bool connected = true;

	while (connected && g_atomic_int_get(&p->stop) != NOW) {
		bool asks = g_atomic_int_get(&p->stop) == GO_ON;
		g_autoptr(GError) error = NULL;
		g_autoptr(JsonObject) message = qmp_read(p->qmp, next, &error);

		if (message && json_object_has_member(message, "id")) {
			struct lab_sample *s =
				&g_array_index(p->samples, struct lab_sample, p->answered++);

			s->latency_ns = lab_now_ns() - s->sent_ns;
		}
		now = lab_now_ns();
		if (!asks) {
			if (p->answered == p->samples->len)
				break;
			next = now + p->interval_ns;
		} else if (!error && now >= next) {
			struct lab_sample sample = {.sent_ns = now};
			uint64_t id;

			g_array_append_val(p->samples, sample);
			qmp_send(p->qmp, *command, NULL, &id, &error);
			command = command[1] ? command + 1 : p->commands;
			/* Ticks that this thread slept through are the client's fault: not sent. */
			next = MAX(next + p->interval_ns, now);
		}
		connected = !error;
	}
	now = lab_now_ns();
	for (size_t i = p->answered; i < p->samples->len; i++) {
		struct lab_sample *s = &g_array_index(p->samples, struct lab_sample, i);

		s->latency_ns = now - s->sent_ns;
	}
	g_atomic_int_set(&p->done, 1);
	return NULL;
}

struct lab_poller *lab_poller_new(struct lab_vm *vm, GError **error)
{
	static const char *const commands[] = {"query-status", NULL};

	return lab_poller_new_with(vm, commands, INTERVAL_US, error);
}

struct lab_poller *lab_poller_new_with(struct lab_vm *vm, const char *const *commands,
				       unsigned interval_us, GError **error)
{
	struct lab_poller *p = g_new0(struct lab_poller, 1);

	p->commands = commands;
	p->interval_ns = interval_us * 1000ULL;
	p->samples = g_array_new(FALSE, FALSE, sizeof(struct lab_sample));
	p->qmp = qmp_connect(lab_vm_poller_path(vm), lab_vm_process(vm), deadline_in(15000), error);
	if (!p->qmp) {
		g_prefix_error(error, "%s: ", lab_vm_name(vm));
		lab_poller_free(p);
		return NULL;
	}
	p->thread = g_thread_new("lab-poller", poll_monitor, p);
	return p;
}

void lab_poller_stop(struct lab_poller *p, struct lab_latency *latency)
{
	if (p->thread) {
		g_atomic_int_set(&p->stop, NOW);
		g_thread_join(g_steal_pointer(&p->thread));
	}
	if (latency)
		lab_poller_window(p, 0, UINT64_MAX, latency);
}

void lab_poller_finish(struct lab_poller *p, unsigned timeout_ms, struct lab_latency *latency)
{
	uint64_t deadline = deadline_in(timeout_ms);

	g_atomic_int_set(&p->stop, ASK_NO_MORE);
	while (!g_atomic_int_get(&p->done) && deadline_left_ms(deadline))
		g_usleep(1000);
	lab_poller_stop(p, latency);
}

const struct lab_sample *lab_poller_samples(struct lab_poller *p, size_t *n)
{
	*n = p->samples->len;
	return (const struct lab_sample *)p->samples->data;
}

void lab_poller_window(struct lab_poller *p, uint64_t from_ns, uint64_t to_ns,
		       struct lab_latency *latency)
{
	g_autoptr(GArray) inside = g_array_new(FALSE, FALSE, sizeof(struct lab_sample));
	uint64_t outstanding = 0;

	for (size_t i = 0; i < p->samples->len; i++) {
		struct lab_sample *s = &g_array_index(p->samples, struct lab_sample, i);

		if (s->sent_ns < from_ns || s->sent_ns >= to_ns)
			continue;
		g_array_append_val(inside, *s);
		outstanding += i >= p->answered;
	}
	lab_latency_of((struct lab_sample *)inside->data, inside->len, latency);
	latency->outstanding = outstanding;
}

void lab_poller_free(struct lab_poller *p)
{
	if (!p)
		return;
	lab_poller_stop(p, NULL);
	qmp_free(p->qmp);
	g_array_unref(p->samples);
	g_free(p);
}

static int by_latency(const void *a, const void *b)
{
	const struct lab_sample *x = a, *y = b;

	return (x->latency_ns > y->latency_ns) - (x->latency_ns < y->latency_ns);
}

/* Nearest rank: the smallest sample that `percent` of all do not exceed. */
static uint64_t rank(const struct lab_sample *sorted, size_t n, unsigned percent)
{
	return sorted[(n * percent + 99) / 100 - 1].latency_ns;
}

void lab_latency_of(struct lab_sample *samples, size_t n, struct lab_latency *latency)
{
	*latency = (struct lab_latency){.n = n};
	if (!n)
		return;
	qsort(samples, n, sizeof(*samples), by_latency);
	latency->p50_ns = rank(samples, n, 50);
	latency->p90_ns = rank(samples, n, 90);
	latency->p99_ns = rank(samples, n, 99);
	latency->max_ns = samples[n - 1].latency_ns;
	latency->max_at_ns = samples[n - 1].sent_ns;
}
