/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run as Perfetto TrackEvents: https://perfetto.dev/docs/reference/synthetic-track-event
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "analyzers/model/words.h"
#include "analyzers/render/perfetto.h"
#include "analyzers/render/protobuf.h"

/* Field numbers, from Perfetto's protos/perfetto/trace/. */
enum {
	TRACE_PACKET = 1,

	PACKET_CLOCK_SNAPSHOT = 6,
	PACKET_TIMESTAMP = 8,
	PACKET_SEQUENCE = 10,
	PACKET_TRACK_EVENT = 11,
	PACKET_INTERNED = 12,
	PACKET_SEQUENCE_FLAGS = 13,
	PACKET_DEFAULTS = 59,
	PACKET_TRACK = 60,

	DEFAULTS_CLOCK = 58,

	SNAPSHOT_CLOCK = 1,
	SNAPSHOT_PRIMARY = 2,
	CLOCK_ID = 1,
	CLOCK_TIME = 2,

	INTERNED_CATEGORY = 1,
	INTERNED_NAME = 2,
	INTERNED_ANNOTATION = 3,
	INTERN_ID = 1,
	INTERN_TEXT = 2,

	TRACK_UUID = 1,
	TRACK_NAME = 2,
	TRACK_PROCESS = 3,
	TRACK_THREAD = 4,
	TRACK_PARENT = 5,
	TRACK_COUNTER = 8,
	TRACK_CHILD_ORDER = 11,
	TRACK_RANK = 12,
	PROCESS_PID = 1,
	PROCESS_CMDLINE = 2,
	PROCESS_NAME = 6,
	COUNTER_UNIT_NAME = 6,
	THREAD_PID = 1,
	THREAD_TID = 2,
	THREAD_NAME = 5,

	EVENT_CATEGORY_ID = 3,
	EVENT_ANNOTATION = 4,
	EVENT_TYPE = 9,
	EVENT_NAME_ID = 10,
	EVENT_TRACK = 11,
	EVENT_NAME = 23,
	EVENT_DOUBLE_COUNTER = 44,
	EVENT_FLOWS = 47,
	EVENT_ENDED_FLOWS = 48,

	ANNOTATION_NAME_ID = 1,
	ANNOTATION_BOOL = 2,
	ANNOTATION_UINT = 3,
	ANNOTATION_DOUBLE = 5,
	ANNOTATION_TEXT = 6,
	ANNOTATION_NAME = 10,
};

enum {
	CLOCK_IS_REALTIME = 1,
	CLOCK_IS_MONOTONIC = 3,
	SEQUENCE_STARTS = 1,
	SEQUENCE_GOES_ON = 2,
	EXPLICIT_ORDER = 3,
	TYPE_BEGIN = 1,
	TYPE_END = 2,
	TYPE_INSTANT = 3,
	TYPE_COUNTER = 4,
};

enum category {
	CATEGORY_HOLD = 1,
	CATEGORY_WAIT,
	CATEGORY_PHASE,
	CATEGORY_DEVICE,
	CATEGORY_LOST,
	CATEGORY_RECORDING,
	CATEGORIES
};

static const char *const categories[CATEGORIES] = {
	[CATEGORY_HOLD] = "hold",     [CATEGORY_WAIT] = "wait", [CATEGORY_PHASE] = "phase",
	[CATEGORY_DEVICE] = "device", [CATEGORY_LOST] = "lost", [CATEGORY_RECORDING] = "recording",
};

/* Names of a hold's arguments, interned: there is one set of them for each hold. */
enum argument {
	ARG_WAIT = 1,
	ARG_CALL_SITE,
	ARG_PHASE,
	ARG_PHASE_AT_END,
	ARG_BLOCKED,
	ARG_BLOCKED_NS,
	ARG_LONGEST,
	ARG_LONGEST_NS,
	ARG_LONGEST_PHASE,
	ARG_RUNNABLE,
	ARG_UNFINISHED,
	ARG_WAKER,
	ARG_STACK,
	ARG_STACK_TAKEN,
	ARGUMENTS
};

static const char *const arguments[ARGUMENTS] = {
	[ARG_WAIT] = "waited_ns",
	[ARG_CALL_SITE] = "call_site",
	[ARG_PHASE] = "phase",
	[ARG_PHASE_AT_END] = "phase_at_end",
	[ARG_BLOCKED] = "blocked_in",
	[ARG_BLOCKED_NS] = "blocked_ns",
	[ARG_LONGEST] = "longest_block_in",
	[ARG_LONGEST_NS] = "longest_block_ns",
	[ARG_LONGEST_PHASE] = "longest_block_phase",
	[ARG_RUNNABLE] = "waited_for_cpu_ns",
	[ARG_UNFINISHED] = "still_held_at_the_end",
	[ARG_WAKER] = "longest_block_ended_by",
	[ARG_STACK] = "stack",
	[ARG_STACK_TAKEN] = "stack_taken",
};

/* A run's tracks; threads and tracks of phases count from TRACK_OF_THREADS on. */
enum track {
	TRACK_OF_PROCESS,
	TRACK_OF_RECORDING,
	TRACK_OF_PHASES,
	TRACK_OF_DEVICES,
	TRACK_OF_LOSSES,
	TRACK_OF_MONITOR,
	TRACK_OF_THREADS
};

/* Names of slices that are no call site; a site's is NAME_OF_SITES + its index. */
enum name {
	NAME_WAIT = 1,
	NAME_OF_SITES,
};

#define FLUSH_BYTES (256 << 10)
#define WINDOW	    256 /* finished holds not yet written: who waits for one comes soon after it */
#define FLOWS	    16	/* kept of one hold, and of one wait: the last ones */

struct flows {
	uint64_t ids[FLOWS];
	unsigned n;
};

/* A hold that later waits may still refer to. */
struct recent {
	struct hold hold;
	struct flows to;
};

struct perfetto {
	char *path, *fresh; /* the same, but while another is replaced */
	gzFile file;
	int error;
	GByteArray *out;
	struct perfetto_options options;
	struct perfetto_counts counts;

	unsigned runs;
	GHashTable *pids; /* of the runs so far */
	struct run *run;
	int64_t shift_ns;
	bool anew; /* the next packet is the first of its sequence */
	struct recent recent[WINDOW];
	uint64_t pushed, written;
};

static int fail(struct perfetto_error *err, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static int fail(struct perfetto_error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

static void forget(struct perfetto *p)
{
	g_clear_pointer(&p->pids, g_hash_table_unref);
	g_clear_pointer(&p->out, g_byte_array_unref);
	g_free(p->fresh);
	g_free(p->path);
	g_free(p);
}

/* Beside the one that it replaces in the end: until then that stays as it is. */
static int open_fresh(struct perfetto *p)
{
	g_free(p->fresh);
	p->fresh = g_strdup_printf("%s.XXXXXX", p->path);
	return g_mkstemp_full(p->fresh, O_WRONLY | O_CLOEXEC, 0666);
}

int perfetto_create(const char *path, const struct perfetto_options *options,
		    struct perfetto **perfetto, struct perfetto_error *err)
{
	struct perfetto *p;
	struct stat st;
	char *real;
	int fd;

	/* A device or a pipe would be removed should the writing fail. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return fail(err, -EEXIST, "%s is not a regular file: give another name", path);
	p = g_new0(struct perfetto, 1);
	real = options->replace ? realpath(path, NULL) : NULL;
	p->path = g_strdup(real ? real : path);
	p->fresh = g_strdup(p->path);
	if (real)
		fd = open_fresh(p);
	else
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	free(real);
	if (fd < 0) {
		int error = errno;

		forget(p);
		if (error == EEXIST)
			return fail(err, -EEXIST,
				    "%s exists and is left as it is: give another name, or --force",
				    path);
		return fail(err, -error, "cannot write %s: %s", path, strerror(error));
	}
	p->file = gzdopen(fd, g_str_has_suffix(path, ".gz") ? "wb" : "wbT");
	p->out = g_byte_array_sized_new(FLUSH_BYTES * 2);
	p->options = *options;
	p->pids = g_hash_table_new(NULL, NULL);
	*perfetto = p;
	return 0;
}

static void flush(struct perfetto *p)
{
	if (p->out->len && !p->error && gzwrite(p->file, p->out->data, p->out->len) <= 0)
		p->error = errno ? errno : EIO;
	g_byte_array_set_size(p->out, 0);
}

/* ---- packets ---- */

static uint64_t track(const struct perfetto *p, unsigned number)
{
	return (uint64_t)p->runs << 32 | (number + 1);
}

static unsigned begin_packet(struct perfetto *p)
{
	unsigned packet;

	if (p->out->len > FLUSH_BYTES)
		flush(p);
	packet = pb_begin(p->out, TRACE_PACKET);
	pb_uint(p->out, PACKET_SEQUENCE, p->runs);
	pb_uint(p->out, PACKET_SEQUENCE_FLAGS, p->anew ? SEQUENCE_STARTS : SEQUENCE_GOES_ON);
	p->anew = false;
	return packet;
}

/* A packet with an open TrackEvent. */
struct event {
	unsigned packet, event;
};

static struct event begin_event(struct perfetto *p, uint64_t at_ns, unsigned on, unsigned type)
{
	struct event e = {.packet = begin_packet(p)};

	pb_uint(p->out, PACKET_TIMESTAMP, at_ns + p->shift_ns);
	e.event = pb_begin(p->out, PACKET_TRACK_EVENT);
	pb_uint(p->out, EVENT_TYPE, type);
	pb_uint(p->out, EVENT_TRACK, track(p, on));
	return e;
}

static void end_event(struct perfetto *p, struct event e)
{
	pb_end(p->out, e.event);
	pb_end(p->out, e.packet);
}

static void end_slice(struct perfetto *p, uint64_t at_ns, unsigned on, unsigned flow_field,
		      const struct flows *flows)
{
	struct event e = begin_event(p, at_ns, on, TYPE_END);

	for (unsigned i = 0; flows && i < MIN(flows->n, FLOWS); i++)
		pb_fixed64(p->out, flow_field, flows->ids[i]);
	end_event(p, e);
}

static void named(struct perfetto *p, enum category category, const char *name)
{
	pb_uint(p->out, EVENT_CATEGORY_ID, category);
	pb_string(p->out, EVENT_NAME, name);
}

static void say(struct perfetto *p, const char *name, const char *text)
{
	unsigned a = pb_begin(p->out, EVENT_ANNOTATION);

	pb_string(p->out, ANNOTATION_NAME, name);
	pb_string(p->out, ANNOTATION_TEXT, text);
	pb_end(p->out, a);
}

static void say_count(struct perfetto *p, const char *name, uint64_t value)
{
	unsigned a = pb_begin(p->out, EVENT_ANNOTATION);

	pb_string(p->out, ANNOTATION_NAME, name);
	pb_uint(p->out, ANNOTATION_UINT, value);
	pb_end(p->out, a);
}

static void say_value(struct perfetto *p, const char *name, double value)
{
	unsigned a = pb_begin(p->out, EVENT_ANNOTATION);

	pb_string(p->out, ANNOTATION_NAME, name);
	pb_double(p->out, ANNOTATION_DOUBLE, value);
	pb_end(p->out, a);
}

/* The same for a hold's, by number. */
static void tell(struct perfetto *p, enum argument argument, const char *text)
{
	unsigned a = pb_begin(p->out, EVENT_ANNOTATION);

	pb_uint(p->out, ANNOTATION_NAME_ID, argument);
	pb_string(p->out, ANNOTATION_TEXT, text);
	pb_end(p->out, a);
}

static void tell_count(struct perfetto *p, enum argument argument, unsigned field, uint64_t value)
{
	unsigned a = pb_begin(p->out, EVENT_ANNOTATION);

	pb_uint(p->out, ANNOTATION_NAME_ID, argument);
	pb_uint(p->out, field, value);
	pb_end(p->out, a);
}

/* ---- the head of a run ---- */

static void write_clock(struct perfetto *p, unsigned id, uint64_t ns)
{
	unsigned clock = pb_begin(p->out, SNAPSHOT_CLOCK);

	pb_uint(p->out, CLOCK_ID, id);
	pb_uint(p->out, CLOCK_TIME, ns);
	pb_end(p->out, clock);
}

/* Times are CLOCK_MONOTONIC; what that is on the calendar is the first run's to say. */
static void write_clocks(struct perfetto *p)
{
	unsigned packet = begin_packet(p), snapshot;

	snapshot = pb_begin(p->out, PACKET_CLOCK_SNAPSHOT);
	write_clock(p, CLOCK_IS_MONOTONIC, p->run->begin_ns + p->shift_ns);
	write_clock(p, CLOCK_IS_REALTIME, p->run->begin_unix_ns);
	pb_uint(p->out, SNAPSHOT_PRIMARY, CLOCK_IS_MONOTONIC);
	pb_end(p->out, snapshot);
	pb_end(p->out, packet);
}

static void intern(struct perfetto *p, unsigned field, unsigned id, const char *text)
{
	unsigned entry = pb_begin(p->out, field);

	pb_uint(p->out, INTERN_ID, id);
	pb_string(p->out, INTERN_TEXT, text);
	pb_end(p->out, entry);
}

static void write_interned(struct perfetto *p)
{
	unsigned packet = begin_packet(p), part;

	part = pb_begin(p->out, PACKET_DEFAULTS);
	pb_uint(p->out, DEFAULTS_CLOCK, CLOCK_IS_MONOTONIC);
	pb_end(p->out, part);
	part = pb_begin(p->out, PACKET_INTERNED);
	for (unsigned i = 1; i < CATEGORIES; i++)
		intern(p, INTERNED_CATEGORY, i, categories[i]);
	for (unsigned i = 1; i < ARGUMENTS; i++)
		intern(p, INTERNED_ANNOTATION, i, arguments[i]);
	intern(p, INTERNED_NAME, NAME_WAIT, "wait for the lock");
	for (unsigned i = 0; i < p->run->sites->len; i++) {
		g_autofree char *site = words_site(p->run, i);

		intern(p, INTERNED_NAME, NAME_OF_SITES + i, site);
	}
	pb_end(p->out, part);
	pb_end(p->out, packet);
}

/* `unit` NULL: it has slices; else it is a counter's. */
static void write_track(struct perfetto *p, unsigned number, const char *name, const char *unit)
{
	unsigned packet = begin_packet(p), descriptor;

	descriptor = pb_begin(p->out, PACKET_TRACK);
	pb_uint(p->out, TRACK_UUID, track(p, number));
	pb_uint(p->out, TRACK_PARENT, track(p, TRACK_OF_PROCESS));
	pb_string(p->out, TRACK_NAME, name);
	pb_uint(p->out, TRACK_RANK, number);
	if (unit) {
		unsigned counter = pb_begin(p->out, TRACK_COUNTER);

		pb_string(p->out, COUNTER_UNIT_NAME, unit);
		pb_end(p->out, counter);
	}
	pb_end(p->out, descriptor);
	pb_end(p->out, packet);
}

/*
 * Perfetto puts processes of one number together, and threads too: two recordings of one QEMU would
 * be drawn over each other. The second gets tracks without numbers.
 */
static void write_process(struct perfetto *p, const char *name, bool numbered)
{
	unsigned packet = begin_packet(p), descriptor, process;
	g_autofree char *full = g_strdup_printf("%s%sQEMU %s", name ? name : "", name ? ", " : "",
						p->run->qemu_version);
	g_autofree char *other =
		g_strdup_printf("%s, process %u, run %u", full, p->run->pid, p->runs);

	descriptor = pb_begin(p->out, PACKET_TRACK);
	pb_uint(p->out, TRACK_UUID, track(p, TRACK_OF_PROCESS));
	pb_uint(p->out, TRACK_CHILD_ORDER, EXPLICIT_ORDER);
	if (numbered) {
		process = pb_begin(p->out, TRACK_PROCESS);
		pb_int(p->out, PROCESS_PID, p->run->pid);
		pb_string(p->out, PROCESS_NAME, full);
		if (*p->run->qemu_cmdline)
			pb_string(p->out, PROCESS_CMDLINE, p->run->qemu_cmdline);
		pb_end(p->out, process);
	} else {
		pb_string(p->out, TRACK_NAME, other);
	}
	pb_end(p->out, descriptor);
	pb_end(p->out, packet);
}

static void write_thread(struct perfetto *p, unsigned index)
{
	const struct thread *t = &g_array_index(p->run->threads, struct thread, index);
	unsigned packet = begin_packet(p), descriptor, thread;

	descriptor = pb_begin(p->out, PACKET_TRACK);
	pb_uint(p->out, TRACK_UUID, track(p, TRACK_OF_THREADS + index));
	pb_uint(p->out, TRACK_PARENT, track(p, TRACK_OF_PROCESS));
	thread = pb_begin(p->out, TRACK_THREAD);
	pb_int(p->out, THREAD_PID, p->run->pid);
	pb_int(p->out, THREAD_TID, t->tid);
	pb_string(p->out, THREAD_NAME, run_who(p->run, t, true));
	pb_end(p->out, thread);
	pb_end(p->out, descriptor);
	pb_end(p->out, packet);
}

static void write_tracks(struct perfetto *p, const char *name)
{
	bool numbered = g_hash_table_add(p->pids, GUINT_TO_POINTER(p->run->pid));

	write_process(p, name, numbered);
	write_track(p, TRACK_OF_RECORDING, "recording", NULL);
	if (p->run->marks->len) {
		write_track(p, TRACK_OF_PHASES, "incoming migration", NULL);
		write_track(p, TRACK_OF_DEVICES, "device sections", NULL);
	}
	write_track(p, TRACK_OF_LOSSES, "lost events", NULL);
	if (p->run->answers->len)
		write_track(p, TRACK_OF_MONITOR, "monitor answers after", "ms");
	for (unsigned i = 0; i < p->run->threads->len; i++) {
		const struct thread *t = &g_array_index(p->run->threads, struct thread, i);

		if (numbered)
			write_thread(p, i);
		else
			write_track(p, TRACK_OF_THREADS + i, run_who(p->run, t, true), NULL);
	}
}

/* What the trace is, and is not, as arguments of a slice over all of it. */
static void write_recording(struct perfetto *p, bool every_hold)
{
	const struct run *run = p->run;
	struct event e = begin_event(p, run->begin_ns, TRACK_OF_RECORDING, TYPE_BEGIN);
	g_autofree char *threshold = g_strdup_printf("holds and waits of %llu ns and longer, and "
						     "the longest hold of each call site",
						     (unsigned long long)run->threshold_ns);

	named(p, CATEGORY_RECORDING, *run->label ? run->label : "recording");
	say(p, "source", run->source);
	say(p, "bqlstat", run->tool);
	say(p, "qemu", run->qemu_version);
	say(p, "ended", *run->ended ? run->ended : "cut short");
	say(p, "holds_recorded_one_by_one", every_hold ? "all" : threshold);
	say_count(p, "left_out_when_shorter_than_ns", p->options.shortest_ns);
	say_count(p, "acquisitions", run_acquired(run));
	say_count(p, "held_ns", run_held_ns(run));
	say_count(p, "lost", run_lost(run));
	say_count(p, "taken_off_each_hold_ns", run->hold_bias_ns);
	say_count(p, "taken_off_each_wait_ns", run->wait_bias_ns);
	if (p->shift_ns)
		say_value(p, "moved_by_ns_to_meet_the_first_run", p->shift_ns);
	for (unsigned i = 0; i < run->metrics->len; i++) {
		const struct metric *m = &g_array_index(run->metrics, struct metric, i);

		say_value(p, m->name, m->value);
	}
	end_event(p, e);
	end_slice(p, run->begin_ns + run->duration_ns, TRACK_OF_RECORDING, 0, NULL);
}

/* When most of them happened is not known: they stand at the end. */
static void write_losses(struct perfetto *p)
{
	for (unsigned i = 0; i < p->run->lost->len; i++) {
		const struct lost *l = &g_array_index(p->run->lost, struct lost, i);
		struct event e;

		if (!l->count || lost_at_edge(l->what))
			continue;
		e = begin_event(p, p->run->begin_ns + p->run->duration_ns, TRACK_OF_LOSSES,
				TYPE_INSTANT);
		named(p, CATEGORY_LOST, lost_meaning(l->what));
		say_count(p, "count", l->count);
		end_event(p, e);
	}
}

/* By when the request was sent: while one is high, that monitor was silent. */
static void write_answers(struct perfetto *p)
{
	for (unsigned i = 0; i < p->run->answers->len; i++) {
		const struct answer *a = &g_array_index(p->run->answers, struct answer, i);
		struct event e = begin_event(p, a->sent_at_ns, TRACK_OF_MONITOR, TYPE_COUNTER);

		pb_double(p->out, EVENT_DOUBLE_COUNTER, a->latency_ns / 1e6);
		end_event(p, e);
	}
}

/* What the overhead budget made of the recording. */
static void write_thinnings(struct perfetto *p)
{
	for (unsigned i = 0; i < p->run->thinnings->len; i++) {
		const struct thinning *t = &g_array_index(p->run->thinnings, struct thinning, i);
		struct event e = begin_event(p, t->at_ns, TRACK_OF_LOSSES, TYPE_INSTANT);

		named(p, CATEGORY_LOST, "over the budget: from here on");
		say(p, "recorded", t->level);
		say_value(p, "cores", t->cores);
		end_event(p, e);
	}
}

/* ---- phases ---- */

/* Between two device sections the phase falls back for some microseconds: one stretch of devices.
 */
static bool same_stretch(const struct run *run, unsigned i)
{
	const struct mark *m = &g_array_index(run->marks, struct mark, i);

	return i && i + 1 < run->marks->len && m[-1].in.phase == PHASE_DEVICE &&
	       m[1].in.phase == PHASE_DEVICE;
}

static void write_phase(struct perfetto *p, unsigned on, enum category category, const char *name,
			uint64_t begin_ns, uint64_t end_ns)
{
	struct event e;

	if (end_ns < begin_ns)
		return;
	e = begin_event(p, begin_ns, on, TYPE_BEGIN);
	named(p, category, name);
	end_event(p, e);
	end_slice(p, end_ns, on, 0, NULL);
	p->counts.marks++;
}

static void write_marks(struct perfetto *p)
{
	const GArray *marks = p->run->marks;
	uint64_t end_ns = p->run->begin_ns + p->run->duration_ns, since_ns = 0;
	enum phase phase = PHASE_NONE;

	for (unsigned i = 0; i < marks->len; i++) {
		const struct mark *m = &g_array_index(marks, struct mark, i);
		uint64_t next = i + 1 < marks->len ? m[1].at_ns : end_ns;

		if (m->in.phase == PHASE_DEVICE)
			write_phase(p, TRACK_OF_DEVICES, CATEGORY_DEVICE, m->in.device, m->at_ns,
				    next);
		if (m->in.phase == phase || (phase == PHASE_DEVICE && same_stretch(p->run, i)))
			continue;
		if (phase != PHASE_NONE)
			write_phase(p, TRACK_OF_PHASES, CATEGORY_PHASE, phase_name(phase), since_ns,
				    m->at_ns);
		phase = m->in.phase;
		since_ns = m->at_ns;
	}
	if (phase != PHASE_NONE)
		write_phase(p, TRACK_OF_PHASES, CATEGORY_PHASE, phase_name(phase), since_ns,
			    end_ns);
}

/* ---- holds ---- */

static void tell_phase(struct perfetto *p, enum argument argument, const struct phase_at *at)
{
	g_autofree char *text = NULL;

	if (at->phase == PHASE_NONE)
		return;
	text = g_strdup_printf("%s%s%s", phase_name(at->phase), *at->device ? " " : "", at->device);
	tell(p, argument, text);
}

static void tell_blocking(struct perfetto *p, const struct hold *h)
{
	g_autoptr(GString) causes = g_string_new(NULL);
	uint64_t ns = 0;

	for (unsigned i = 0; i < G_N_ELEMENTS(h->blocked); i++) {
		const struct blocking *b = &h->blocked[i];
		char text[WORDS_DURATION];

		if (!b->count)
			continue;
		ns += b->ns;
		g_string_append_printf(causes, "%s%s %s", causes->len ? ", " : "",
				       cause_text(b->cause), words_duration(text, b->ns));
	}
	if (!causes->len)
		return;
	tell(p, ARG_BLOCKED, causes->str);
	tell_count(p, ARG_BLOCKED_NS, ANNOTATION_UINT, ns);
	if (!h->longest_ns)
		return;
	tell(p, ARG_LONGEST, cause_text(h->longest_cause));
	tell_count(p, ARG_LONGEST_NS, ANNOTATION_UINT, h->longest_ns);
	tell_phase(p, ARG_LONGEST_PHASE, &h->at_longest);
	if (h->longest_waker)
		tell(p, ARG_WAKER,
		     run_who(p->run,
			     &g_array_index(p->run->threads, struct thread, h->longest_waker - 1),
			     true));
}

/* Innermost first, a line a frame. */
static void tell_stack(struct perfetto *p, const struct hold *h)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const struct stack *s;

	if (!h->stack)
		return;
	s = &g_array_index(p->run->stacks, struct stack, h->stack - 1);
	for (unsigned i = 0; i < s->frames->len; i++) {
		const struct frame *f = &g_array_index(p->run->frames, struct frame,
						       g_array_index(s->frames, unsigned, i));

		/* As reports show it: "~" before the nearest symbol, when that is another
		 * function's. */
		g_string_append_printf(text, "%s%s%s+0x%llx", i ? "\n" : "",
				       *f->symbol && !f->inside ? "~" : "",
				       *f->symbol ? f->symbol : f->module,
				       (unsigned long long)(*f->symbol ? f->offset : f->address));
	}
	tell(p, ARG_STACK, text->str);
	tell(p, ARG_STACK_TAKEN, taken_name(h->taken));
}

static void write_hold(struct perfetto *p, const struct recent *r)
{
	const struct hold *h = &r->hold;
	unsigned on = TRACK_OF_THREADS + h->thread;
	struct event e = begin_event(p, h->begin_ns, on, TYPE_BEGIN);

	pb_uint(p->out, EVENT_CATEGORY_ID, CATEGORY_HOLD);
	pb_uint(p->out, EVENT_NAME_ID, NAME_OF_SITES + h->site);
	if (h->wait_ns != UNKNOWN_NS)
		tell_count(p, ARG_WAIT, ANNOTATION_UINT, run_wait_ns(p->run, h->wait_ns));
	tell_phase(p, ARG_PHASE, &h->at_begin);
	tell_phase(p, ARG_PHASE_AT_END, &h->at_end);
	tell_blocking(p, h);
	tell_stack(p, h);
	if (h->runnable_ns)
		tell_count(p, ARG_RUNNABLE, ANNOTATION_UINT, h->runnable_ns);
	if (h->unfinished)
		tell_count(p, ARG_UNFINISHED, ANNOTATION_BOOL, true);
	end_event(p, e);
	end_slice(p, h->begin_ns + run_hold_ns(p->run, h->hold_ns), on, EVENT_FLOWS, &r->to);
	p->counts.holds++;
}

static void write_wait(struct perfetto *p, const struct hold *h, const struct flows *from)
{
	unsigned on = TRACK_OF_THREADS + h->thread;
	g_autofree char *site = words_site(p->run, h->site);
	struct event e =
		begin_event(p, h->begin_ns - run_wait_ns(p->run, h->wait_ns), on, TYPE_BEGIN);

	pb_uint(p->out, EVENT_CATEGORY_ID, CATEGORY_WAIT);
	pb_uint(p->out, EVENT_NAME_ID, NAME_WAIT);
	tell(p, ARG_CALL_SITE, site);
	end_event(p, e);
	end_slice(p, h->begin_ns, on, EVENT_ENDED_FLOWS, from);
	p->counts.waits++;
}

/* Everyone who held the lock while this one waited for it, as far as they are drawn. */
static void find_holders(struct perfetto *p, const struct hold *waiter, struct flows *from)
{
	uint64_t asked_ns = waiter->begin_ns - waiter->wait_ns;

	for (uint64_t i = p->pushed; i > p->written && from->n < FLOWS; i--) {
		struct recent *r = &p->recent[(i - 1) % WINDOW];
		uint64_t id;

		if (r->hold.begin_ns + r->hold.hold_ns <= asked_ns)
			break;
		if (r->hold.thread == waiter->thread || r->hold.begin_ns >= waiter->begin_ns)
			continue;
		id = ++p->counts.flows;
		from->ids[from->n++] = id;
		r->to.ids[r->to.n++ % FLOWS] = id;
	}
}

static void write_oldest(struct perfetto *p)
{
	write_hold(p, &p->recent[p->written++ % WINDOW]);
}

void perfetto_end(struct perfetto *p)
{
	while (p->written < p->pushed)
		write_oldest(p);
	p->run = NULL;
}

void perfetto_hold(struct perfetto *p, const struct hold *hold)
{
	bool waited = hold->wait_ns != UNKNOWN_NS && hold->wait_ns;
	struct flows from = {.n = 0};

	if (waited && run_wait_ns(p->run, hold->wait_ns) >= p->options.shortest_ns) {
		find_holders(p, hold, &from);
		write_wait(p, hold, &from);
	} else if (waited) {
		p->counts.omitted++;
	}
	if (run_hold_ns(p->run, hold->hold_ns) < p->options.shortest_ns) {
		p->counts.omitted++;
		return;
	}
	if (p->pushed - p->written == WINDOW)
		write_oldest(p);
	p->recent[p->pushed++ % WINDOW] = (struct recent){.hold = *hold};
}

void perfetto_gap(struct perfetto *p, uint64_t begin_ns, uint64_t end_ns, uint64_t events)
{
	struct event e = begin_event(p, begin_ns, TRACK_OF_LOSSES, TYPE_BEGIN);

	named(p, CATEGORY_LOST, "events discarded by the tracer");
	if (events)
		say_count(p, "count", events);
	end_event(p, e);
	end_slice(p, MAX(end_ns, begin_ns), TRACK_OF_LOSSES, 0, NULL);
}

void perfetto_run(struct perfetto *p, struct run *run, const char *name, int64_t shift_ns,
		  bool every_hold)
{
	p->runs++;
	p->run = run;
	p->shift_ns = shift_ns;
	p->anew = true;
	write_interned(p);
	if (p->runs == 1)
		write_clocks(p);
	write_tracks(p, name);
	write_recording(p, every_hold);
	write_thinnings(p);
	write_losses(p);
	write_answers(p);
	write_marks(p);
}

const struct perfetto_counts *perfetto_counts(const struct perfetto *p)
{
	return &p->counts;
}

int perfetto_close(struct perfetto *p, struct perfetto_error *err)
{
	int ret = 0;

	flush(p);
	errno = 0;
	if (gzclose(p->file) != Z_OK && !p->error)
		p->error = errno ? errno : EIO;
	if (!p->error && strcmp(p->fresh, p->path) && rename(p->fresh, p->path))
		p->error = errno;
	if (p->error) {
		unlink(p->fresh);
		if (p->error == ENOSPC)
			ret = fail(err, -ENOSPC, "the disk is full: %s was not written", p->path);
		else
			ret = fail(err, -p->error, "cannot write %s: %s", p->path,
				   strerror(p->error));
	}
	forget(p);
	return ret;
}

void perfetto_abandon(struct perfetto *p)
{
	if (!p)
		return;
	gzclose(p->file);
	unlink(p->fresh);
	forget(p);
}
