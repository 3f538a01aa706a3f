/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaching to QEMUs as they come, letting go as they end, and keeping the book.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "analyzers/watch/collect.h"
#include "analyzers/watch/discover.h"
#include "analyzers/export/fleet.h"
#include "analyzers/export/monitor.h"
#include "analyzers/inspect/under.h"

#define SECOND_NS 1000000000ULL
#define STATUS_NS (10 * SECOND_NS) /* between looks at what loadvm says of itself */
#define RETRY_NS  SECOND_NS	   /* an attach that may go better later */
#define RETRIES	  30
#define NOT_YET	  (-1)

/* Names of VMs are file names almost everywhere; each is repeated in hundreds of samples. */
#define NAME_CHARACTERS 255

struct member {
	pid_t pid;
	int target; /* the tracer's, or NOT_YET */
	unsigned tries;
	uint64_t found_ns, try_ns; /* when to try the next attach; 0: not any more */
	uint64_t status_ns;	   /* when to look at loadvm's status; 0: not any more */
	struct figures *figures;   /* the book's */
};

/* A QEMU that is gone, or has executed another program, and is still to be detached from. */
struct leaver {
	pid_t pid;
	int target;
};

struct fleet {
	const struct fleet_options *options;
	struct book *book;
	struct collector *collector;
	struct tracer *tracer;
	struct discover *discover;
	GPtrArray *members; /* struct member * */
	struct member *by_target[ABI_SLOTS];
	GArray *leavers; /* struct leaver */
	unsigned found;	 /* ever */
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* When it was on the wall clock. */
static int64_t unix_ns(uint64_t at_ns)
{
	return g_get_real_time() * 1000 - (int64_t)(now_ns() - at_ns);
}

void book_init(struct book *book)
{
	pthread_condattr_t clock;

	pthread_mutex_init(&book->lock, NULL);
	book->vms = g_ptr_array_new();
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&book->updated, &clock);
	pthread_condattr_destroy(&clock);
	book->wanted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	book->tended_ns = now_ns();
	book->self.began_unix_ns = unix_ns(now_ns());
}

void book_clear(struct book *book)
{
	for (unsigned i = 0; i < book->vms->len; i++)
		figures_free(book->vms->pdata[i]);
	g_ptr_array_unref(book->vms);
	close(book->wanted_fd);
	pthread_cond_destroy(&book->updated);
	pthread_mutex_destroy(&book->lock);
}

/* ---- what the tracer reports ---- */

static void on_hold(void *opaque, int target, const struct abi_hold *hold)
{
	struct fleet *f = opaque;
	struct member *m = f->by_target[target];
	const struct abi_phase *at = hold->longest_ns ? &hold->at_longest : &hold->at_begin;
	char phase[FIGURES_PHASE];

	if (!m)
		return;
	if (at->kind == ABI_PHASE_DEVICE)
		snprintf(phase, sizeof(phase), "device %s", tracer_device(f->tracer, target, at));
	else
		snprintf(phase, sizeof(phase), "%s", phase_name((enum phase)at->kind));
	figures_hold(m->figures, hold->site, hold->hold_ns, unix_ns(hold->begin_ns + hold->hold_ns),
		     phase);
}

static void on_phase(void *opaque, int target, const struct abi_event_phase *event,
		     const char *device)
{
	struct fleet *f = opaque;
	struct member *m = f->by_target[target];

	if (!m)
		return;
	pthread_mutex_lock(&f->book->lock);
	figures_phase(m->figures, event->at_ns, unix_ns(event->at_ns), (enum phase)event->now.kind,
		      device);
	pthread_mutex_unlock(&f->book->lock);
	/* The policy may have been chosen for this load; its sums are complete at its end. */
	if (event->now.kind == ABI_PHASE_RAM || event->now.kind == ABI_PHASE_NONE)
		m->status_ns = now_ns();
}

/* ---- who it is ---- */

static bool name_taken(const struct fleet *f, const char *vm, const char *uuid)
{
	for (unsigned i = 0; i < f->book->vms->len; i++) {
		const struct figures *other = f->book->vms->pdata[i];

		if (!strcmp(other->vm, vm) && !strcmp(other->uuid, uuid))
			return true;
	}
	return false;
}

/* Of a name that discover has made fit to be shown. g_free(). */
static char *short_name(const char *text)
{
	g_autofree char *head = NULL;

	if (g_utf8_strlen(text, -1) <= NAME_CHARACTERS)
		return g_strdup(text);
	head = g_utf8_substring(text, 0, NAME_CHARACTERS);
	return g_strconcat(head, "...", NULL);
}

/*
 * Two ends of a migration on one host have the same name: the later one gets its number as well.
 * Somebody may have called a VM just so, hence the rest: twice the same series would spoil a
 * scrape.
 */
static char *vm_label(const struct fleet *f, const struct discovered *q, const char *uuid)
{
	g_autofree char *program = short_name(q->program), *name = short_name(q->name);
	g_autofree char *numbered = g_strdup_printf("%s:%d", *name ? name : program, q->pid);
	char *label = g_strdup(*name ? name : numbered);

	for (unsigned i = 1; name_taken(f, label, uuid); i++) {
		g_free(label);
		label = i == 1 ? g_strdup(numbered) : g_strdup_printf("%s:%u", numbered, i);
	}
	return label;
}

/* The socket of -qmp unix:PATH,... that QEMU listens on; NULL: none. g_free(). */
static char *qmp_of_command_line(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *raw = NULL;
	gsize size;

	if (!g_file_get_contents(path, &raw, &size, NULL))
		return NULL;
	for (const char *arg = raw; arg < raw + size; arg += strlen(arg) + 1) {
		const char *value = arg + strlen(arg) + 1;

		if (strcmp(arg, "-qmp") || value >= raw + size || strncmp(value, "unix:", 5) ||
		    !(strstr(value, ",server") || strstr(value, ",wait")))
			continue;
		return g_strndup(value + 5, strcspn(value + 5, ","));
	}
	return NULL;
}

static struct monitor *monitor_for(const struct fleet *f, const struct discovered *q)
{
	g_autofree char *path = NULL;

	for (char **word = f->options->qmp; word && *word; word++) {
		const char *equals = strrchr(*word, '=');
		g_autofree char *vm = g_strndup(*word, equals - *word);
		guint64 pid;

		if (!strcmp(vm, q->name) || (*q->uuid && !strcmp(vm, q->uuid)) ||
		    (g_ascii_string_to_unsigned(vm, 10, 1, G_MAXINT32, &pid, NULL) &&
		     pid == (guint64)q->pid))
			return monitor_new(equals + 1);
	}
	if (f->options->qmp_discover)
		path = qmp_of_command_line(q->pid);
	return path ? monitor_new(path) : NULL;
}

static bool wanted(const struct fleet *f, pid_t pid)
{
	const GArray *pids = f->options->pids;

	if (!pids)
		return true;
	for (unsigned i = 0; i < pids->len; i++)
		if (g_array_index(pids, pid_t, i) == pid)
			return true;
	return false;
}

static void on_appeared(void *opaque, const struct discovered *q)
{
	struct fleet *f = opaque;
	struct member *m;

	if (!wanted(f, q->pid))
		return;
	m = g_new0(struct member, 1);
	m->pid = q->pid;
	m->target = NOT_YET;
	m->found_ns = m->try_ns = now_ns();
	m->figures = figures_new();
	m->figures->pid = q->pid;
	m->figures->uuid = short_name(q->uuid);
	m->figures->vm = vm_label(f, q, m->figures->uuid);
	m->figures->labels =
		exposition_labels("vm", m->figures->vm, "uuid", m->figures->uuid, NULL);
	m->figures->version = g_strdup("");
	m->figures->build_id = g_strdup("");
	m->figures->policy = g_strdup("unknown");
	m->figures->refusal = g_strdup("not attached yet");
	m->figures->monitor = monitor_for(f, q);
	g_ptr_array_add(f->members, m);
	f->found++;
	pthread_mutex_lock(&f->book->lock);
	g_ptr_array_add(f->book->vms, m->figures);
	pthread_mutex_unlock(&f->book->lock);
}

/* Its series end at once. Detaching takes the kernel up to a second: that comes when there is time.
 */
static void forget(struct fleet *f, struct member *m)
{
	pthread_mutex_lock(&f->book->lock);
	g_ptr_array_remove(f->book->vms, m->figures);
	pthread_mutex_unlock(&f->book->lock);
	if (m->target >= 0) {
		f->by_target[m->target] = NULL;
		g_array_append_vals(f->leavers, &(struct leaver){m->pid, m->target}, 1);
	}
	figures_free(m->figures);
	g_free(m);
}

static void detach(struct fleet *f, unsigned leaver)
{
	collector_forget(f->collector, g_array_index(f->leavers, struct leaver, leaver).target);
	g_array_remove_index(f->leavers, leaver);
}

static bool detach_one(struct fleet *f)
{
	if (!f->leavers->len)
		return false;
	detach(f, 0);
	return true;
}

/* What the process was before it executed another program: the tracer takes a process once only. */
static void detach_former(struct fleet *f, pid_t pid)
{
	for (unsigned i = 0; i < f->leavers->len; i++) {
		if (g_array_index(f->leavers, struct leaver, i).pid != pid)
			continue;
		detach(f, i);
		return;
	}
}

static void on_gone(void *opaque, const struct discovered *q)
{
	struct fleet *f = opaque;

	for (unsigned i = 0; i < f->members->len; i++) {
		struct member *m = f->members->pdata[i];

		if (m->pid != q->pid)
			continue;
		if (!f->options->quiet)
			fprintf(stderr, "bqlstat: %s (process %d) has ended\n", m->figures->vm,
				m->pid);
		g_ptr_array_remove_index(f->members, i);
		forget(f, m);
		return;
	}
}

/* ---- attaching ---- */

static void refuse(struct fleet *f, struct member *m, int ret, const char *why)
{
	/* A slot may become free at any time; code that is being patched will not be for long. */
	bool again = ret == -EBUSY || (ret == -EAGAIN && ++m->tries < RETRIES);

	m->try_ns = again ? now_ns() + RETRY_NS : 0;
	pthread_mutex_lock(&f->book->lock);
	g_free(m->figures->refusal);
	m->figures->refusal = g_strdup(why);
	f->book->self.refused += !again;
	pthread_mutex_unlock(&f->book->lock);
	if (!again && !f->options->quiet)
		fprintf(stderr, "bqlstat: %s is not traced: %s\n", m->figures->vm, why);
}

static void attach(struct fleet *f, struct member *m)
{
	struct figures *x = m->figures;
	struct tracer_error err;
	const struct run *run;
	uint64_t begin_ns, now;
	int target;

	detach_former(f, m->pid);
	target = tracer_add(f->tracer, m->pid, &err);
	/* No slot is free while those of others are given back. */
	if (target == -EBUSY && detach_one(f))
		target = tracer_add(f->tracer, m->pid, &err);
	/* Gone: the discover will say so. */
	if (target == -ESRCH) {
		m->try_ns = 0;
		return;
	}
	if (target < 0) {
		refuse(f, m, target, err.text);
		return;
	}
	m->target = target;
	m->try_ns = 0;
	f->by_target[target] = m;
	collector_begin(f->collector, target);
	run = collector_update(f->collector, target);
	tracer_span(f->tracer, target, &begin_ns, &now);
	m->status_ns = now;
	pthread_mutex_lock(&f->book->lock);
	g_clear_pointer(&x->refusal, g_free);
	g_free(x->version);
	g_free(x->build_id);
	x->version = g_strdup(run->qemu_version);
	x->build_id = g_strdup(run->qemu_build_id);
	x->attach_ns = begin_ns;
	x->attach_unix_ns = run->begin_unix_ns;
	f->book->self.attached++;
	figures_histogram_add(&f->book->self.attach, begin_ns - MIN(begin_ns, m->found_ns));
	pthread_mutex_unlock(&f->book->lock);
	if (!f->options->quiet)
		fprintf(stderr, "bqlstat: tracing %s (process %d, QEMU %s)\n", x->vm, m->pid,
			run->qemu_version);
}

bool fleet_tend(struct fleet *f)
{
	struct pollfd news = {.fd = discover_fd(f->discover), .events = POLLIN};
	struct member *next = NULL;
	uint64_t now;

	/* It looks at every QEMU each time. */
	if (poll(&news, 1, 0) > 0)
		discover_poll(f->discover);
	tracer_poll(f->tracer);
	now = now_ns();
	pthread_mutex_lock(&f->book->lock);
	f->book->tended_ns = now;
	pthread_mutex_unlock(&f->book->lock);
	/* First come, first served. */
	for (unsigned i = 0; i < f->members->len; i++) {
		struct member *m = f->members->pdata[i];

		if (m->try_ns && m->try_ns <= now && (!next || m->try_ns < next->try_ns))
			next = m;
	}
	if (next) {
		attach(f, next);
		return true;
	}
	return detach_one(f);
}

/* ---- the book ---- */

static void look_at_loadvm(struct fleet *f, struct member *m, uint64_t now)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/mem", m->pid);
	int mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	struct figures_loadvm *l = &m->figures->loadvm;
	struct loadvm_status s;
	/* The runtime is preloaded before QEMU's first instruction, but a moment after its exec. */
	bool settled = now > m->found_ns + 2 * SECOND_NS;
	const char *policy = settled ? "stock" : "unknown";
	enum under under = under_loadvm(m->pid, mem_fd, &s);

	if (mem_fd >= 0)
		close(mem_fd);
	pthread_mutex_lock(&f->book->lock);
	if (under == UNDER_LOADVM) {
		policy = *s.load_policy ? s.load_policy : s.policy;
		*l = (struct figures_loadvm){true,
					     MAX(l->loads, s.loads),
					     MAX(l->drops, s.drops),
					     MAX(l->contended, s.contended),
					     MAX(l->taken, s.handoff_taken),
					     MAX(l->missed, s.handoff_missed),
					     MAX(l->handoff_ns, s.handoff_ns)};
		l->drops = MAX(l->drops, l->contended);
	} else if (under == UNDER_OTHER || under == UNDER_UNSEEN) {
		policy = "unknown";
	}
	if (strcmp(policy, m->figures->policy)) {
		g_free(m->figures->policy);
		m->figures->policy = g_strdup(policy);
	}
	pthread_mutex_unlock(&f->book->lock);
	if (under == UNDER_NOTHING && settled)
		m->status_ns = 0;
	else
		m->status_ns = now + (settled ? STATUS_NS : SECOND_NS);
}

void fleet_update(struct fleet *f)
{
	struct metrics_self *self = &f->book->self;
	const struct tracer_cost *cost = tracer_cost(f->tracer);
	uint64_t begin = now_ns();

	tracer_poll(f->tracer);
	for (unsigned i = 0; i < f->members->len; i++) {
		struct member *m = f->members->pdata[i];
		struct tracer_coverage coverage;
		const struct run *run;

		if (m->target < 0)
			continue;
		if (m->status_ns && m->status_ns <= begin)
			look_at_loadvm(f, m, begin);
		run = collector_update(f->collector, m->target);
		tracer_coverage(f->tracer, m->target, &coverage);
		pthread_mutex_lock(&f->book->lock);
		m->figures->level = coverage.level;
		m->figures->recorded_ns = MAX(m->figures->recorded_ns, coverage.covered_ns);
		m->figures->recorded_waits_ns =
			MAX(m->figures->recorded_waits_ns, coverage.waits_ns);
		figures_update(m->figures, run, now_ns());
		pthread_mutex_unlock(&f->book->lock);
	}
	pthread_mutex_lock(&f->book->lock);
	self->pair_ns = cost->pair_ns;
	self->hold_bias_ns = cost->hold_bias_ns;
	self->wait_bias_ns = cost->wait_bias_ns;
	tracer_room(f->tracer, &self->records_used, &self->records_room);
	f->book->updated_ns = now_ns();
	self->update_ns = f->book->updated_ns - begin;
	pthread_cond_broadcast(&f->book->updated);
	pthread_mutex_unlock(&f->book->lock);
}

bool fleet_over(const struct fleet *f)
{
	return f->options->pids && !f->members->len;
}

/* ---- its life ---- */

int fleet_new(const struct fleet_options *options, struct book *book, struct fleet **fleet,
	      struct tracer_error *err)
{
	struct fleet *f = g_new0(struct fleet, 1);
	const struct tracer_opts opts = {
		.threshold_ns = options->threshold_ns,
		.max_sites = options->records,
		.calibrate = true,
		.max_overhead = options->max_overhead,
		.sink = {.hold = on_hold, .phase = on_phase, .opaque = f},
	};
	const struct discover_sink sink = {.appeared = on_appeared, .gone = on_gone, .opaque = f};
	const char *why;
	int ret;

	f->options = options;
	f->book = book;
	f->members = g_ptr_array_new();
	f->leavers = g_array_new(FALSE, FALSE, sizeof(struct leaver));
	f->collector = collector_new("");
	*fleet = f;
	ret = tracer_new(&opts, &f->tracer, err);
	if (ret)
		return ret;
	collector_use(f->collector, f->tracer, options->threshold_ns);
	f->discover = discover_new(options->match, &sink);
	if (!discover_prompt(f->discover, &why) && !options->quiet)
		fprintf(stderr, "bqlstat: new QEMUs are found within a second: %s\n", why);
	return 0;
}

void fleet_free(struct fleet *f)
{
	if (!f)
		return;
	discover_free(f->discover);
	for (unsigned i = 0; i < f->members->len; i++)
		forget(f, f->members->pdata[i]);
	g_ptr_array_unref(f->members);
	g_array_unref(f->leavers);
	tracer_free(f->tracer);
	collector_free(f->collector);
	g_free(f);
}

int fleet_fd(const struct fleet *f)
{
	return discover_fd(f->discover);
}
