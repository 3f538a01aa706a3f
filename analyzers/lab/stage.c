/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stage for dashboards: exporter, Prometheus, migrations.
 */
#include <signal.h>
#include <string.h>

#include "analyzers/lab/internal.h"
#include "analyzers/lab/stage.h"

#define READY_MS   20000
#define STALL_MS   3000
#define BANDWIDTH  (24 << 20)
#define FILL_MIB   96
#define TIMEOUT_MS 60000
#define ALIVE_MS   10000
#define FLOOD_US   2000
#define SCRAPES_US 3500000 /* so that figures at rest are scraped before and after */

struct lab_stage {
	const char *version;
	uint64_t begin_ns;
	char *exporter;
	char *prefix; /* of the VMs' names: no other exporter test's QEMUs are meant */
	struct lab_process *process, *dance;
	struct lab_prometheus *prometheus;
	GPtrArray *pairs; /* kept alive */
};

static bool start_exporter(struct lab_stage *s, GError **error)
{
	g_autofree char *pattern = g_strdup_printf("%s*", s->prefix);
	const char *argv[] = {
		lab_program("bqlstat"), "export", "--listen", s->exporter, "--match", pattern,
		"--qmp-discover",	NULL};

	s->process = lab_process_new(argv, NULL, error);
	if (!s->process || !lab_process_expect(s->process, "serving", READY_MS, error)) {
		g_autofree char *says = s->process ? lab_process_stderr(s->process) : NULL;

		g_prefix_error(error, "the exporter: %s: ", says ? says : "");
		/* No privilege, no BTF. */
		if (says && (strstr(says, "CAP_BPF") || strstr(says, "no BTF")) && error && *error)
			(*error)->code = LAB_ERROR_UNAVAILABLE;
		return false;
	}
	return true;
}

/*
 * Something that is held when the exporter finds it, so that there is an acquisition which it did
 * not see; and that goes on for as long as a show lasts.
 */
static bool start_dance(struct lab_stage *s, GError **error)
{
	g_autofree char *name = g_strdup_printf("%s-dance", s->prefix);
	const char *argv[] = {lab_program("lockdance"),
			      "-e",
			      "thread IO dance; lock main-loop.c:1; sleep 20000000; unlock; repeat "
			      "250; lock main-loop.c:1; unlock; idle 1000000; end",
			      "--",
			      "-name",
			      name,
			      NULL};

	s->dance = lab_process_new(argv, NULL, error);
	return s->dance;
}

struct lab_stage *lab_stage_new(const struct lab_stage_options *o, GError **error)
{
	struct lab_stage *s = g_new0(struct lab_stage, 1);
	const char *root = lab_source_root();
	g_autofree char *rules =
		root ? g_build_filename(root, "dashboards", "prometheus", NULL) : NULL;
	struct lab_prometheus_options prometheus = {
		.rules = rules, .assets = o->assets, .port = o->prometheus_port};

	s->version = o->version ? o->version : "7.2";
	s->begin_ns = lab_now_ns();
	s->pairs = g_ptr_array_new();
	s->exporter = g_strdup_printf("127.0.0.1:%u", lab_free_port());
	s->prefix = g_strdup_printf("shop%d", getpid());
	prometheus.scrape = s->exporter;
	if (start_dance(s, error) && start_exporter(s, error))
		s->prometheus = lab_prometheus_new(&prometheus, error);
	if (!s->prometheus) {
		lab_stage_free(s);
		return NULL;
	}
	return s;
}

void lab_stage_free(struct lab_stage *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->pairs->len; i++)
		lab_pair_free(s->pairs->pdata[i]);
	g_ptr_array_unref(s->pairs);
	lab_prometheus_free(s->prometheus);
	lab_process_free(s->process);
	lab_process_free(s->dance);
	g_free(s->exporter);
	g_free(s->prefix);
	g_free(s);
}

const char *lab_stage_exporter(const struct lab_stage *s)
{
	return s->exporter;
}

struct lab_prometheus *lab_stage_prometheus(struct lab_stage *s)
{
	return s->prometheus;
}

unsigned lab_stage_seconds(const struct lab_stage *s)
{
	return (lab_now_ns() - s->begin_ns) / 1000000000 + 1;
}

static struct lab_pair *cast(struct lab_stage *s, const char *policy, GError **error)
{
	static const struct lab_rule stall = {
		.channel = LAB_CHANNEL_MULTIFD,
		.nth = 1,
		.offset_bytes = 16 << 20,
		.fault = LAB_FAULT_STALL,
		.stall_ms = STALL_MS,
		.hoard = true,
	};
	g_autofree char *name = g_strdup_printf("%s-%s", s->prefix, policy ? policy : "stock");
	g_autofree char *uuid = g_uuid_string_random();
	g_autofree char *qmp =
		g_strdup_printf("unix:%s/%s.qmp,server=on,wait=off", lab_tmpdir(), name);
	g_autofree char *source_qmp =
		g_strdup_printf("unix:%s/%s-source.qmp,server=on,wait=off", lab_tmpdir(), name);
	const char *args[] = {"-uuid", uuid, "-qmp", source_qmp, NULL};
	const char *destination_args[] = {"-uuid", uuid, "-qmp", qmp, NULL};
	const char *launcher[] = {lab_program("loadvm"), "--quiet", "--policy", policy, "--", NULL};
	const struct lab_pair_options options = {
		.name = name,
		.vm = {.version = s->version,
		       .devices = LAB_DEVICES_DOZEN,
		       .guest = true,
		       .fill_mib = FILL_MIB,
		       .args = args},
		.destination_args = destination_args,
		.destination_launcher = policy ? launcher : NULL,
		.multifd = 2,
		.max_bandwidth = BANDWIDTH,
		.rules = &stall,
		.n_rules = 1,
	};

	return lab_pair_new(&options, error);
}

bool lab_stage_act(struct lab_stage *s, const char *policy, GError **error)
{
	static const char *const commands[] = {"query-status", "query-migrate", NULL};
	struct lab_pair *pair = cast(s, policy, error);
	g_autoptr(lab_poller) poller = NULL;
	struct lab_migration result = {};
	struct lab_latency latency;
	bool ok;

	if (!pair)
		return false;
	g_ptr_array_add(s->pairs, pair);
	g_usleep(SCRAPES_US);
	poller = lab_poller_new_with(lab_pair_destination(pair), commands, FLOOD_US, error);
	ok = poller && lab_pair_migrate(pair, error) &&
	     lab_pair_wait(pair, TIMEOUT_MS, &result, error);
	if (ok && strcmp(result.status, "completed")) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "the migration ended %s",
			    result.status);
		ok = false;
	}
	lab_migration_clear(&result);
	if (poller)
		lab_poller_stop(poller, &latency);
	ok = ok && lab_vm_alive(lab_pair_destination(pair), ALIVE_MS, error);
	if (ok)
		g_usleep(SCRAPES_US);
	lab_vm_kill(lab_pair_source(pair), SIGKILL);
	return ok;
}
