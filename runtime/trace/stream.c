/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Following an incoming stream: which section of which device, and how many bytes of it.
 *
 * The functions that read sections are static. What they read headers with is exported, so what
 * those return is followed here as a small state machine. It only looks: the one call it makes,
 * qemu_peek_buffer() for one byte ahead of qemu_get_byte(), is what the latter begins with. Within
 * a VMSD and RAM, where most of those calls are, they bypass this.
 *
 * docs/devel/migration in QEMU's source has the format.
 */
#include <pthread.h>
#include <string.h>
#include <sys/uio.h>

#include "runtime/trace/internal.h"

enum {
	STREAMS = 4,  /* one, and packages within it */
	STARTED = 64, /* sections of more than one part: RAM, dirty bitmaps, VFIO devices */
	NAME = 256,
	FOOTER = 0x7e,
};

#define UNKNOWN UINT64_MAX

enum {
	COMMAND_PACKAGED = 7,
};

static const char *const commands[] = {
	"INVALID",	"OPEN_RETURN_PATH",	"PING",	    "POSTCOPY_ADVISE", "POSTCOPY_LISTEN",
	"POSTCOPY_RUN", "POSTCOPY_RAM_DISCARD", "PACKAGED", "ENABLE_COLO",     "POSTCOPY_RESUME",
	"RECV_BITMAP",	"SWITCHOVER_START",
};

/* What is read next. */
enum next {
	NEXT_TYPE,
	NEXT_ID,
	NEXT_NAME,
	NEXT_INSTANCE,
	NEXT_VERSION,
	NEXT_CONTENTS,	   /* of a kind whose end is not known: until something like a footer */
	NEXT_MAYBE_FOOTER, /* its id, if it is one */
	NEXT_FOOTER,
	NEXT_FOOTER_ID,
	NEXT_COMMAND,
	NEXT_LENGTH,
	NEXT_PACKAGE, /* its length */
	NEXT_NOTHING,
};

struct section {
	uint32_t id, instance;
	char name[NAME];
};

struct stream {
	const void *file; /* NULL: free */
	const void *co;	  /* that reads it; NULL: a thread does */
	enum next next;
	unsigned int loading; /* loaders that are bracketed and running */
	bool open;	      /* a section is */
	const char *type;
	struct section now;
	struct section started[STARTED];
	unsigned int n_started;
	uint32_t command;
	bool packaged;		 /* a stream within it is about to be read */
	bool postcopy;		 /* read on by another thread after the load's end */
	uint64_t begin;		 /* position of the section's or command's type */
	uint64_t payload_until;	 /* of a command */
	uint64_t footer;	 /* position of what may be one */
	uint64_t read_bytes;	 /* from its channel */
	const uint8_t *read_end; /* of them in the file's buffer */
	uint32_t ram_sections;
};

static struct stream streams[STREAMS];
/* Guards opening and closing, and the bypass. */
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t loads;

uint32_t trace_stream_bypass = 1;

/* What this thread reads, NULL before it does; which coroutine does is in there. */
static __thread struct stream *current;
static __thread bool within; /* a function that is followed */
static __thread unsigned int vmsd_depth, read_depth;

uint64_t trace_loads(void)
{
	return __atomic_load_n(&loads, __ATOMIC_RELAXED);
}

/* --- streams -----------------------------------------------------------------------------------
 */

static struct stream *find(const void *file)
{
	for (int i = 0; i < STREAMS; i++)
		if (__atomic_load_n(&streams[i].file, __ATOMIC_ACQUIRE) == file)
			return &streams[i];
	return NULL;
}

/* With streams_lock. Bypassed only while every stream is within a loader. */
static void set_bypass(void)
{
	bool headers = false;

	for (int i = 0; i < STREAMS; i++)
		headers |=
			streams[i].file && !streams[i].loading && streams[i].next != NEXT_NOTHING;
	__atomic_store_n(&trace_stream_bypass, !headers, __ATOMIC_RELEASE);
}

static void set_loading(struct stream *s, int step)
{
	pthread_mutex_lock(&streams_lock);
	s->loading += (unsigned int)step;
	set_bypass();
	pthread_mutex_unlock(&streams_lock);
}

static struct stream *open_stream(const void *file, const void *co)
{
	struct stream *s;

	pthread_mutex_lock(&streams_lock);
	s = find(file);
	if (!s)
		s = find(NULL);
	if (s) {
		*s = (struct stream){.co = co};
		__atomic_store_n(&s->file, file, __ATOMIC_RELEASE);
		set_bypass();
	}
	pthread_mutex_unlock(&streams_lock);
	return s;
}

static void end_section(struct stream *s, uint64_t at)
{
	if (!s->open)
		return;
	s->open = false;
	TRACE(section_end, s->type, s->now.name, s->now.instance, s->now.id,
	      at == UNKNOWN || s->begin == UNKNOWN ? UNKNOWN : at - s->begin);
}

static void close_stream(struct stream *s)
{
	end_section(s, UNKNOWN);
	pthread_mutex_lock(&streams_lock);
	__atomic_store_n(&s->file, NULL, __ATOMIC_RELEASE);
	s->next = NEXT_NOTHING;
	set_bypass();
	pthread_mutex_unlock(&streams_lock);
}

void trace_stream_forget(void)
{
	for (int i = 0; i < STREAMS; i++)
		if (streams[i].file)
			close_stream(&streams[i]);
}

/* The main thread runs other things while the coroutine waits. */
static struct stream *reading(void)
{
	if (!current || !current->file ||
	    (current->co && current->co != trace_qemu.coroutine_self()))
		return NULL;
	return current;
}

bool trace_reading(void)
{
	return reading() != NULL;
}

bool trace_follows(const void *stream)
{
	return find(stream) != NULL;
}

void trace_reads(const void *stream)
{
	current = find(stream);
}

/* --- the machine -------------------------------------------------------------------------------
 */

static void begin_section(struct stream *s)
{
	s->open = true;
	s->next = NEXT_CONTENTS;
	TRACE(section_begin, s->type, s->now.name, s->now.instance, s->now.id);
}

static void see_type(struct stream *s, int type, uint64_t at)
{
	static const char *const types[] = {[1] = "START", [2] = "PART", [3] = "END", [4] = "FULL"};

	s->begin = at;
	switch (type) {
	case 1 ... 4:
		s->type = types[type];
		s->next = NEXT_ID;
		break;
	case 7: /* configuration: a VMSD of its own follows, without a section's header */
		s->next = NEXT_TYPE;
		break;
	case 8:
		s->next = NEXT_COMMAND;
		break;
	default: /* the end, or an error */
		s->next = NEXT_NOTHING;
	}
}

static void see_byte(struct stream *s, int byte, uint64_t at)
{
	switch (s->next) {
	case NEXT_TYPE:
		if (at == UNKNOWN || at >= s->payload_until)
			see_type(s, byte, at);
		break;
	case NEXT_FOOTER:
		end_section(s, at);
		if (byte == FOOTER)
			s->next = NEXT_FOOTER_ID;
		else
			see_type(s, byte, at);
		break;
	case NEXT_CONTENTS:
	case NEXT_MAYBE_FOOTER:
		s->next = byte == FOOTER ? NEXT_MAYBE_FOOTER : NEXT_CONTENTS;
		s->footer = at;
		break;
	default:
		break;
	}
}

static void see_start(struct stream *s)
{
	if (s->type[0] == 'S' && s->n_started < STARTED)
		s->started[s->n_started++] = s->now;
	begin_section(s);
}

static void see_part(struct stream *s)
{
	s->now.instance = 0;
	strcpy(s->now.name, "?");
	for (unsigned int i = 0; i < s->n_started; i++)
		if (s->started[i].id == s->now.id)
			s->now = s->started[i];
	begin_section(s);
}

static void see_be32(struct stream *s, uint32_t value)
{
	switch (s->next) {
	case NEXT_ID:
		s->now.id = value;
		if (s->type[0] == 'S' || s->type[0] == 'F')
			s->next = NEXT_NAME;
		else
			see_part(s);
		break;
	case NEXT_INSTANCE:
		s->now.instance = value;
		s->next = NEXT_VERSION;
		break;
	case NEXT_VERSION:
		see_start(s);
		break;
	case NEXT_MAYBE_FOOTER:
		s->next = NEXT_CONTENTS;
		if (value == s->now.id) {
			end_section(s, s->footer);
			s->next = NEXT_TYPE;
		}
		break;
	case NEXT_FOOTER_ID:
		s->next = NEXT_TYPE;
		break;
	case NEXT_PACKAGE:
		s->packaged = true;
		s->next = NEXT_TYPE;
		break;
	default:
		break;
	}
}

static void see_be16(struct stream *s, uint32_t value)
{
	if (s->next == NEXT_COMMAND) {
		s->command = value;
		s->next = NEXT_LENGTH;
	} else if (s->next == NEXT_LENGTH) {
		/* The command's type, itself and its length are 5 bytes. */
		if (s->begin != UNKNOWN)
			s->payload_until = s->begin + 5 + value;
		s->next = s->command == COMMAND_PACKAGED ? NEXT_PACKAGE : NEXT_TYPE;
		TRACE(command, s->command,
		      s->command < sizeof(commands) / sizeof(commands[0]) ? commands[s->command]
									  : "?",
		      value);
	}
}

/* --- what QEMU reads with ----------------------------------------------------------------------
 */

static struct stream *stream_of(const void *file)
{
	struct stream *s;

	if (within)
		return NULL;
	s = find(file);
	if (!s && current && current->packaged && reading()) {
		s = open_stream(file, current->co);
		/* LISTEN comes in the package, and is about the stream around it. */
		current->packaged = false;
		current->postcopy = true;
		current->co = NULL;
	}
	if (s)
		current = s;
	return s;
}

/*
 * How many bytes were read before the next one, which is waited for. What the channel gave last
 * ends at read_end, what is left of it begins at the next byte.
 */
static uint64_t position(const struct stream *s)
{
	uint8_t *at;

	if (!trace_qemu.peek_buffer((void *)s->file, &at, 1, 0) || !s->read_end ||
	    at > s->read_end || (uint64_t)(s->read_end - at) > s->read_bytes)
		return UNKNOWN;
	return s->read_bytes - (uint64_t)(s->read_end - at);
}

int trace_get_byte(void *f)
{
	struct stream *s = stream_of(f);
	uint64_t at;
	int r;

	if (!s || s->next == NEXT_NOTHING)
		return trace_original.get_byte(f);
	within = true;
	at = position(s);
	r = trace_original.get_byte(f);
	within = false;
	see_byte(s, r & 0xff, at);
	if (s->next == NEXT_NOTHING) {
		pthread_mutex_lock(&streams_lock);
		set_bypass();
		pthread_mutex_unlock(&streams_lock);
	}
	return r;
}

unsigned int trace_get_be16(void *f)
{
	struct stream *s = stream_of(f);
	unsigned int r;

	if (!s)
		return trace_original.get_be16(f);
	within = true;
	r = trace_original.get_be16(f);
	within = false;
	see_be16(s, r);
	return r;
}

unsigned int trace_get_be32(void *f)
{
	struct stream *s = stream_of(f);
	unsigned int r;

	if (!s)
		return trace_original.get_be32(f);
	within = true;
	r = trace_original.get_be32(f);
	within = false;
	see_be32(s, r);
	return r;
}

size_t trace_get_string(void *f, char *buffer)
{
	struct stream *s = stream_of(f);
	size_t r;

	if (!s)
		return trace_original.get_string(f, buffer);
	within = true;
	r = trace_original.get_string(f, buffer);
	within = false;
	if (s->next == NEXT_NAME) {
		memcpy(s->now.name, r ? buffer : "", r ? NAME : 1);
		s->now.name[NAME - 1] = '\0';
		s->next = NEXT_INSTANCE;
	}
	return r;
}

/* --- what the thread says ----------------------------------------------------------------------
 */

void trace_incoming_begin(const void *stream, const char *policy, const void *co)
{
	__atomic_add_fetch(&loads, 1, __ATOMIC_RELAXED);
	TRACE(incoming_begin, trace_loads(), policy);
	/* Without the hooks nobody could tell one coroutine from another. */
	if (co && !trace_installed())
		return;
	trace_stream_forget();
	open_stream(stream, co);
	current = co ? find(stream) : NULL;
}

void trace_incoming_end(const void *stream, const char *policy, int result)
{
	struct stream *outer = find(stream);
	bool postcopy = outer && outer->postcopy && result >= 0;

	current = NULL;
	for (int i = 0; i < STREAMS; i++)
		if (streams[i].file && (&streams[i] != outer || !postcopy))
			close_stream(&streams[i]);
	TRACE(incoming_end, trace_loads(), policy, result);
}

/* Its loader is known: nothing of the contents needs to be followed. */
static struct stream *begin_loader(const void *file)
{
	struct stream *s = find(file);

	if (s) {
		current = s;
		set_loading(s, 1);
	}
	return s ? s : reading();
}

static void end_loader(const void *file)
{
	struct stream *s = find(file);

	if (!s)
		return;
	if (s->next == NEXT_CONTENTS)
		s->next = NEXT_FOOTER;
	set_loading(s, -1);
}

static const char *vmsd_name(const void *vmsd)
{
	return *(const char *const *)vmsd;
}

void trace_vmsd_begin(const void *stream, const void *vmsd, int version)
{
	if (vmsd_depth++) {
		TRACE(nested_begin, vmsd_name(vmsd), version, vmsd_depth - 1);
		return;
	}
	if (begin_loader(stream))
		TRACE(vmsd_begin, vmsd_name(vmsd), version);
}

void trace_vmsd_end(const void *stream, const void *vmsd, int result)
{
	if (--vmsd_depth) {
		TRACE(nested_end, vmsd_name(vmsd), result, vmsd_depth);
		return;
	}
	if (find(stream) || reading())
		TRACE(vmsd_end, vmsd_name(vmsd), result);
	end_loader(stream);
}

void trace_ram_begin(const void *stream)
{
	struct stream *s = begin_loader(stream);

	if (!s)
		return;
	s->ram_sections++;
	TRACE(ram_begin, s->ram_sections, s->read_bytes);
}

void trace_ram_end(const void *stream, int result)
{
	struct stream *s = find(stream);

	if (s)
		TRACE(ram_end, s->ram_sections, s->read_bytes, result);
	end_loader(stream);
}

/* One channel may read through another (TLS): the outermost is the stream's. */
void trace_channel_read_begin(void)
{
	read_depth++;
}

void trace_channel_read_end(const void *iov, long result)
{
	const struct iovec *to = iov;
	struct stream *s;

	if (--read_depth || result <= 0)
		return;
	s = reading();
	if (!s)
		return;
	s->read_bytes += (uint64_t)result;
	s->read_end = (const uint8_t *)to->iov_base + result;
}

const char *trace_channel_type(const void *ioc)
{
	return trace_qemu.object_type ? trace_qemu.object_type(ioc) : "";
}
