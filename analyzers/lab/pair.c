/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A source and a destination, and one migration between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

#define DOWNTIME_LIMIT_MS 2000
#define MAX_BANDWIDTH	  (1ULL << 37) /* bytes/s; QEMU's own default would throttle to 128 MiB/s */
#define POLL_MS		  5
/* How long a destination may take to notice that its stream has ended. */
#define ENDED_MS 3000
/* How long a source may write a file. */
#define FILE_MS 15000

struct lab_pair {
	struct lab_vm *source, *destination;
	struct lab_proxy *proxy;
	char *uri;	    /* what the source migrates to */
	char *incoming_uri; /* NULL: the destination listens already */
	char *file;	    /* what holds the stream in between, or NULL */
	unsigned timeout_ms;
	bool stay_on_error;
};

struct lab_vm *lab_pair_source(struct lab_pair *pair)
{
	return pair->source;
}

struct lab_vm *lab_pair_destination(struct lab_pair *pair)
{
	return pair->destination;
}

struct lab_proxy *lab_pair_proxy(struct lab_pair *pair)
{
	return pair->proxy;
}

static bool configure(struct lab_vm *vm, const struct lab_pair_options *o, GError **error)
{
	g_autoptr(GString) capabilities = g_string_new("{'capability': 'events', 'state': true}");
	uint64_t bandwidth = o->max_bandwidth ? o->max_bandwidth : MAX_BANDWIDTH;
	unsigned limit_ms = o->downtime_limit_ms ? o->downtime_limit_ms : DOWNTIME_LIMIT_MS;

	if (o->multifd)
		g_string_append(capabilities, ", {'capability': 'multifd', 'state': true}");
	for (const char *const *c = o->capabilities; c && *c; c++)
		g_string_append_printf(capabilities, ", {'capability': '%s', 'state': true}", *c);
	return lab_qmp_ok(vm, error, "migrate-set-capabilities {'capabilities': [%s]}",
			  capabilities->str) &&
	       lab_qmp_ok(vm, error,
			  "migrate-set-parameters {'max-bandwidth': %" G_GUINT64_FORMAT
			  ", 'downtime-limit': %u, 'multifd-channels': %u%s%s}",
			  bandwidth, limit_ms, o->multifd ? o->multifd : 2,
			  o->parameters ? ", " : "", o->parameters ? o->parameters : "");
}

/* Where the destination listens: the port is the kernel's choice. */
static char *listening_uri(struct lab_vm *vm, GError **error)
{
	g_autoptr(JsonNode) answer = lab_qmp(vm, error, "query-migrate");
	JsonArray *addresses = NULL;
	JsonNode *address;

	if (!answer)
		return NULL;
	if (json_object_has_member(json_node_get_object(answer), "socket-address"))
		addresses = json_object_get_array_member(json_node_get_object(answer),
							 "socket-address");
	if (!addresses || !json_array_get_length(addresses)) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_QMP, "%s does not say where it listens",
			    lab_vm_name(vm));
		return NULL;
	}
	address = json_array_get_element(addresses, 0);
	return g_strdup_printf("tcp:%s:%s", lab_json_string(address, "host"),
			       lab_json_string(address, "port"));
}

static bool listen_on(struct lab_pair *pair, const char *uri, GError **error)
{
	return lab_qmp_ok(pair->destination, error, "migrate-incoming {'uri': '%s'%s}", uri,
			  pair->stay_on_error ? ", 'exit-on-error': false" : "");
}

static bool pass_pipe(struct lab_pair *pair, GError **error)
{
	int ends[2];
	bool ok;

	if (pipe2(ends, O_CLOEXEC)) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "no pipe: %s", g_strerror(errno));
		return false;
	}
	ok = lab_vm_pass_fd(pair->destination, ends[0], "stream", error) &&
	     lab_vm_pass_fd(pair->source, ends[1], "stream", error);
	close(ends[0]);
	close(ends[1]);
	return ok;
}

static bool open_way(struct lab_pair *pair, const struct lab_pair_options *o, GError **error)
{
	static int serial;
	unsigned n = g_atomic_int_add(&serial, 1);

	switch (o->way) {
	case LAB_WAY_UNIX:
		pair->uri = g_strdup_printf("unix:%s/stream-%u", lab_tmpdir(), n);
		return listen_on(pair, pair->uri, error);
	case LAB_WAY_FD:
		pair->uri = g_strdup("fd:stream");
		return pass_pipe(pair, error) && listen_on(pair, pair->uri, error);
	case LAB_WAY_EXEC:
		/* QEMU says "completed" before it waits for its child: the name says when. */
		pair->file = g_strdup_printf("%s/stream-%u", lab_tmpdir(), n);
		pair->uri = g_strdup_printf("exec:cat > %s.part && mv %s.part %s", pair->file,
					    pair->file, pair->file);
		pair->incoming_uri = g_strconcat("exec:cat ", pair->file, NULL);
		return true;
	case LAB_WAY_FILE:
		pair->file = g_strdup_printf("%s/stream-%u", lab_tmpdir(), n);
		pair->uri = g_strconcat("file:", pair->file, NULL);
		pair->incoming_uri = g_strdup(pair->uri);
		return true;
	case LAB_WAY_TCP:
	case LAB_WAYS:
		break;
	}
	if (!listen_on(pair, "tcp:127.0.0.1:0", error))
		return false;
	pair->uri = listening_uri(pair->destination, error);
	if (!pair->uri || (!o->proxy && !o->n_rules))
		return pair->uri;
	pair->proxy = lab_proxy_new(pair->uri, o->rules, o->n_rules, error);
	if (!pair->proxy)
		return false;
	g_free(pair->uri);
	pair->uri = g_strdup(lab_proxy_uri(pair->proxy));
	return true;
}

struct lab_pair *lab_pair_new(const struct lab_pair_options *o, GError **error)
{
	struct lab_pair *pair = g_new0(struct lab_pair, 1);
	struct lab_vm_options source = o->vm, destination = o->vm;

	g_autofree char *source_name = o->name ? g_strdup_printf("%s-source", o->name) : NULL;

	source.name = o->name ? source_name : "source";
	destination.name = o->name ? o->name : "destination";
	destination.incoming = "defer";
	if (o->destination_version)
		destination.version = o->destination_version;
	if (o->destination_version || o->destination_binary)
		destination.binary = o->destination_binary;
	if (o->destination_launcher)
		destination.launcher = o->destination_launcher;
	if (o->destination_args)
		destination.args = o->destination_args;
	if (o->destination_env)
		destination.env = o->destination_env;

	pair->timeout_ms = o->vm.timeout_ms ? o->vm.timeout_ms : FILE_MS;
	pair->stay_on_error = o->stay_on_error;
	pair->source = lab_vm_new(&source, error);
	if (!pair->source)
		goto fail;
	pair->destination = lab_vm_new(&destination, error);
	if (!pair->destination || !configure(pair->source, o, error) ||
	    !configure(pair->destination, o, error) || !open_way(pair, o, error))
		goto fail;
	return pair;
fail:
	lab_pair_free(pair);
	return NULL;
}

void lab_pair_free(struct lab_pair *pair)
{
	if (!pair)
		return;
	lab_vm_free(pair->source);
	lab_vm_free(pair->destination);
	lab_proxy_free(pair->proxy);
	if (pair->file)
		unlink(pair->file);
	g_free(pair->file);
	g_free(pair->incoming_uri);
	g_free(pair->uri);
	g_free(pair);
}

bool lab_pair_start_postcopy(struct lab_pair *pair, GError **error)
{
	return lab_qmp_ok(pair->source, error, "migrate-start-postcopy");
}

static bool is_end(const char *status)
{
	return status && (!strcmp(status, "completed") || !strcmp(status, "failed") ||
			  !strcmp(status, "cancelled"));
}

static bool source_ended(struct lab_pair *pair, uint64_t deadline_ns, struct lab_migration *result,
			 GError **error)
{
	for (;;) {
		g_autoptr(JsonNode) answer = lab_qmp(pair->source, error, "query-migrate");
		const char *status;

		if (!answer)
			return false;
		status = lab_json_string(answer, "status");
		/* QEMU says "completed" a moment before it has worked out its figures. */
		if (is_end(status) &&
		    (strcmp(status, "completed") || lab_json_int(answer, "total-time") ||
		     !deadline_left_ms(deadline_ns))) {
			g_strlcpy(result->status, status, sizeof(result->status));
			result->total_time_ms = lab_json_int(answer, "total-time");
			result->downtime_ms = lab_json_int(answer, "downtime");
			result->setup_time_ms = lab_json_int(answer, "setup-time");
			result->transferred_bytes = lab_json_int(answer, "ram.transferred");
			result->source_error = g_strdup(lab_json_string(answer, "error-desc"));
			return true;
		}
		if (!deadline_left_ms(deadline_ns)) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "the migration did not end in time: the source says \"%s\"",
				    status ? status : "nothing");
			return false;
		}
		g_usleep(POLL_MS * 1000);
	}
}

bool lab_pair_migrate(struct lab_pair *pair, GError **error)
{
	struct lab_migration written = {0};
	uint64_t deadline = deadline_in(pair->timeout_ms);
	bool ok;

	if (!lab_qmp_ok(pair->source, error, "migrate {'uri': '%s'}", pair->uri))
		return false;
	if (!pair->incoming_uri)
		return true;
	ok = source_ended(pair, deadline, &written, error);
	if (ok && strcmp(written.status, "completed")) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the source could not write: %s",
			    written.source_error ? written.source_error : written.status);
		ok = false;
	}
	lab_migration_clear(&written);
	while (ok && access(pair->file, R_OK) && deadline_left_ms(deadline))
		g_usleep(POLL_MS * 1000);
	return ok && listen_on(pair, pair->incoming_uri, error);
}

/* The last line of what it printed: QEMU says why it gives up just before it exits. */
static char *last_words(struct lab_vm *vm)
{
	g_autofree char *says = g_strchomp(lab_vm_stderr(vm));
	char *newline = strrchr(says, '\n');

	return *says ? g_strdup(newline ? newline + 1 : says) : NULL;
}

static void exited(struct lab_pair *pair, struct lab_migration *result)
{
	lab_vm_wait_exit(pair->destination, 0, &result->destination_exit, NULL);
	g_strlcpy(result->destination_status, "exited", sizeof(result->destination_status));
	result->destination_error = last_words(pair->destination);
}

/* One look at the destination: true when it has ended its side. */
static bool look_at_destination(struct lab_pair *pair, bool *ended, struct lab_migration *result,
				GError **error)
{
	struct lab_process *process = lab_vm_process(pair->destination);
	g_autoptr(JsonNode) migration = NULL, vm = NULL;
	g_autoptr(GError) broken = NULL;
	const char *status, *vm_status;

	*ended = false;
	if (lab_process_running(process))
		migration = lab_qmp(pair->destination, &broken, "query-migrate");
	if (migration)
		vm = lab_qmp(pair->destination, &broken, "query-status");
	if (!vm) {
		/* Its monitor goes a moment before the process does. */
		if (broken && !g_error_matches(broken, LAB_ERROR, LAB_ERROR_EXITED)) {
			g_propagate_error(error, g_steal_pointer(&broken));
			return false;
		}
		if (!lab_vm_wait_exit(pair->destination, 5000, NULL, error))
			return false;
		exited(pair, result);
		*ended = true;
		return true;
	}
	status = lab_json_string(migration, "status");
	vm_status = lab_json_string(vm, "status");
	g_strlcpy(result->destination_status, status ? status : "none",
		  sizeof(result->destination_status));
	g_free(result->destination_error);
	result->destination_error = g_strdup(lab_json_string(migration, "error-desc"));
	/* "completed" comes before disks are active and vCPUs run. */
	*ended = is_end(status) &&
		 (strcmp(status, "completed") || (vm_status && strcmp(vm_status, "inmigrate")));
	return true;
}

bool lab_pair_wait(struct lab_pair *pair, unsigned timeout_ms, struct lab_migration *result,
		   GError **error)
{
	uint64_t deadline = deadline_in(timeout_ms), patience;
	bool ended;

	*result = (struct lab_migration){.destination_exit = -1};
	if (!source_ended(pair, deadline, result, error))
		return false;
	/* A stream that broke off half-open never ends for the destination: that is a result too.
	 */
	patience = strcmp(result->status, "completed") ? MIN(deadline, deadline_in(ENDED_MS))
						       : deadline;
	for (;;) {
		if (!look_at_destination(pair, &ended, result, error))
			return false;
		if (ended)
			return true;
		if (!deadline_left_ms(patience))
			break;
		g_usleep(POLL_MS * 1000);
	}
	if (strcmp(result->status, "completed"))
		return true;
	g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
		    "the source has completed but the destination still says \"%s\"",
		    result->destination_status);
	return false;
}

void lab_migration_clear(struct lab_migration *result)
{
	g_clear_pointer(&result->source_error, g_free);
	g_clear_pointer(&result->destination_error, g_free);
}

/* Since the epoch, as the event itself says. */
static bool event_time(struct lab_vm *vm, const char *name, unsigned timeout_ms, int64_t *us,
		       GError **error)
{
	g_autoptr(JsonNode) event = lab_qmp_event(vm, name, timeout_ms, error);

	if (!event)
		return false;
	*us = lab_json_int(event, "timestamp.seconds") * G_USEC_PER_SEC +
	      lab_json_int(event, "timestamp.microseconds");
	return true;
}

bool lab_pair_blackout(struct lab_pair *pair, unsigned timeout_ms, uint64_t *ns, GError **error)
{
	int64_t stopped, resumed;

	if (!event_time(pair->source, "STOP", timeout_ms, &stopped, error) ||
	    !event_time(pair->destination, "RESUME", timeout_ms, &resumed, error))
		return false;
	/* Two processes' reading of one clock. */
	*ns = (uint64_t)MAX(0, resumed - stopped) * 1000;
	return true;
}
