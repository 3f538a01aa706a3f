/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What changes under a load: parameters, capabilities and devices of the destination, the network
 * under a postcopy, the side that runs (COLO). And what loads a VM without a migration: snapshots.
 */
#include <signal.h>

#include "tests/scenarios/arrival.h"

enum {
	CHANNELS = 2,
	STATE_MS = 10000, /* until a migration or a job is in the state that is waited for */
	POLL_US = 5000,
	PLUGS = 25,
};

#define ARRIVED	 "arrived"
#define PROMOTED "promoted"
#define RESTORED "restored"

/* Wait until `command` answers with this at `path`. */
static bool wait_for(struct lab_vm *vm, const char *command, const char *path, const char *value,
		     GError **error)
{
	uint64_t end = lab_now_ns() + STATE_MS * MS;

	for (;;) {
		g_autoptr(JsonNode) answer = lab_qmp(vm, error, "%s", command);
		const char *now;

		if (!answer)
			return false;
		now = lab_json_string(answer, path);
		if (!g_strcmp0(now, value))
			return true;
		if (lab_now_ns() > end) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "%s: %s never was %s, but %s", lab_vm_name(vm), path, value,
				    now ?: "not there");
			return false;
		}
		g_usleep(POLL_US);
	}
}

static bool wait_migration(struct lab_vm *vm, const char *status, GError **error)
{
	return wait_for(vm, "query-migrate", "status", status, error);
}

/* "ok", or what QEMU has against it; added to a list. A broken monitor is an error. */
static bool ask(struct lab_vm *vm, GString *answers, const char *command, GError **error)
{
	g_autoptr(GError) refused = NULL;
	bool ok = lab_qmp_ok(vm, &refused, "%s", command);

	if (!ok && !g_error_matches(refused, LAB_ERROR, LAB_ERROR_QMP)) {
		g_propagate_error(error, g_steal_pointer(&refused));
		return false;
	}
	g_string_append_printf(answers, "%s; ", ok ? "ok" : refused->message);
	return true;
}

/* The load stands still at `rule`, the commands are given, the load goes on. */
static char *change_at(const struct cell *cell, const struct lab_rule *rule, unsigned multifd,
		       const char *const *args, const char *const *commands, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(GString) told = g_string_new(NULL);
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;
	bool ok;

	options.vm.args = args;
	options.vm.timeout_ms = ANSWER_MS;
	options.multifd = multifd;
	options.rules = rule;
	options.n_rules = 1;
	pair = arrival_at_rule(&journey, &options, error);
	if (!pair)
		return NULL;
	for (; *commands; commands++)
		if (!ask(lab_pair_destination(pair), told, *commands, error))
			return NULL;
	lab_proxy_release(lab_pair_proxy(pair), 0);
	if (!lab_pair_wait(pair, DONE_MS, &result, error))
		return NULL;
	ok = !strcmp(result.destination_status, "completed");
	if (ok)
		g_string_append(told, ARRIVED);
	else
		g_string_append_printf(told, "exit %d", result.destination_exit);
	lab_migration_clear(&result);
	if (ok && !lab_vm_alive(lab_pair_destination(pair), DONE_MS, error))
		return NULL;
	return g_strdup(told->str);
}

static const struct lab_rule in_ram = {
	.channel = LAB_CHANNEL_MAIN,
	.offset_bytes = 4 << 20,
	.fault = LAB_FAULT_STALL,
	.stall_ms = STALL_MS,
};

static const struct lab_rule in_device = {
	.channel = LAB_CHANNEL_MAIN,
	.section = LAB_SECTION_NET,
	.offset_bytes = 64,
	.fault = LAB_FAULT_STALL,
	.stall_ms = STALL_MS,
};

static const struct lab_rule in_channel = {
	.channel = LAB_CHANNEL_MULTIFD,
	.nth = 1,
	.offset_bytes = 1 << 20,
	.fault = LAB_FAULT_STALL,
	.stall_ms = STALL_MS,
};

static const char *const settings[] = {
	"migrate-set-parameters {'max-bandwidth': 1000000000, 'downtime-limit': 500}",
	"migrate-set-parameters {'multifd-channels': 4}",
	"migrate-set-parameters {'multifd-compression': 'zlib'}",
	"migrate-set-capabilities {'capabilities': [{'capability': 'multifd', 'state': false}]}",
	"migrate-set-capabilities {'capabilities': [{'capability': 'auto-converge', 'state': "
	"true}]}",
	"query-migrate-parameters",
	"query-migrate-capabilities",
	NULL};

static char *settings_ram(const struct cell *cell, GError **error)
{
	return change_at(cell, &in_ram, 0, NULL, settings, error);
}

static char *settings_multifd(const struct cell *cell, GError **error)
{
	/* Parameters only that the channels at work do not read again. */
	return change_at(cell, &in_channel, CHANNELS, NULL,
			 (const char *const[]){settings[0], settings[4], NULL}, error);
}

static const char *const plug[] = {
	"device_add {'driver': 'usb-kbd', 'bus': 'xhci0.0', 'id': 'kbd0'}",
	"device_add {'driver': 'usb-mouse', 'bus': 'xhci0.0', 'id': 'mouse1'}",
	"device_del {'id': 'kbd0'}",
	"device_add {'driver': 'virtserialport', 'bus': 'serial0.0', 'id': 'port7'}",
	NULL,
};

static char *plug_ram(const struct cell *cell, GError **error)
{
	return change_at(cell, &in_ram, 0, NULL, plug, error);
}

static char *plug_device(const struct cell *cell, GError **error)
{
	return change_at(cell, &in_device, 0, NULL, plug, error);
}

/* A device whose section is still to come goes away. */
static char *unplug_expected(const struct cell *cell, GError **error)
{
	static const char *const args[] = {"-device", "usb-mouse,bus=xhci0.0,id=mouse0", NULL};
	static const char *const commands[] = {"device_del {'id': 'mouse0'}", NULL};

	return change_at(cell, &in_device, 0, args, commands, error);
}

/* The list of sections changes while sections are looked up in it. */
static char *plug_busy(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;
	struct lab_vm *there;
	unsigned n = 0;
	bool ok;

	/* Seconds, of which so many take a part: then it may be over. */
	options.max_bandwidth = 16 << 20;
	options.vm.fill_mib = 48;
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_journey_begin(&journey, pair, error))
		return NULL;
	there = lab_pair_destination(pair);
	for (bool active = true; active && n < PLUGS; n++) {
		g_autoptr(JsonNode) answer = NULL;

		if (!lab_qmp_ok(there, error, "%s", plug[0]) ||
		    !lab_qmp_ok(there, error, "%s", plug[2]))
			return NULL;
		answer = lab_qmp(there, error, "query-migrate");
		if (!answer)
			return NULL;
		active = g_strcmp0(lab_json_string(answer, "status"), "completed");
	}
	g_test_message("%u devices came and went", n);
	if (!lab_qmp_ok(lab_pair_source(pair), error,
			"migrate-set-parameters {'max-bandwidth': %llu}", 1ull << 37) ||
	    !lab_pair_wait(pair, DONE_MS, &result, error))
		return NULL;
	ok = !strcmp(result.destination_status, "completed");
	lab_migration_clear(&result);
	if (!ok || !lab_vm_alive(there, DONE_MS, error))
		return ok ? NULL : g_strdup("failed");
	return g_strdup(n > 2 ? ARRIVED : "over before it began");
}

/* ---- postcopy without its network ---- */

static bool both_paused(struct lab_pair *pair, GError **error)
{
	return wait_migration(lab_pair_source(pair), "postcopy-paused", error) &&
	       wait_migration(lab_pair_destination(pair), "postcopy-paused", error);
}

/* Both agree on a new way; `rule` (or NULL) is what happens on it. */
static struct lab_proxy *recover(struct lab_pair *pair, unsigned nth, const struct lab_rule *rule,
				 GError **error)
{
	g_autofree char *uri = g_strdup_printf("unix:%s/recover-%d-%u", lab_tmpdir(),
					       lab_vm_pid(lab_pair_destination(pair)), nth);
	g_autoptr(lab_proxy) proxy = NULL;

	if (!lab_qmp_ok(lab_pair_destination(pair), error, "migrate-recover {'uri': '%s'}", uri))
		return NULL;
	proxy = lab_proxy_new(uri, rule, rule ? 1 : 0, error);
	if (!proxy || !lab_qmp_ok(lab_pair_source(pair), error,
				  "migrate {'uri': '%s', 'resume': true}", lab_proxy_uri(proxy)))
		return NULL;
	return g_steal_pointer(&proxy);
}

/* `again_bytes`: where the stream of a first recovery breaks; 0: it does not. */
static char *recovered(const struct cell *cell, enum lab_copy copy, uint64_t again_bytes,
		       GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy, .copy = copy};
	/* Once released, the next rule's place is where the stream stands. */
	const struct lab_rule cut[] = {
		{
			.channel = LAB_CHANNEL_MAIN,
			.offset_bytes = 4 << 20,
			.fault = LAB_FAULT_STALL,
			.stall_ms = STALL_MS,
		},
		{.channel = LAB_CHANNEL_MAIN, .fault = LAB_FAULT_RESET},
	};
	const struct lab_rule cut_again = {
		.channel = LAB_CHANNEL_ACCEPTED,
		.offset_bytes = again_bytes,
		.fault = LAB_FAULT_RESET,
	};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_proxy) broken = NULL, way = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;
	bool ok;

	/* virtio looks into its rings while it is loaded: with the stream still, for ever. */
	options.vm.devices = LAB_DEVICES_NONE;
	options.rules = cut;
	options.n_rules = G_N_ELEMENTS(cut);
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_journey_begin(&journey, pair, error) ||
	    !lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, error) ||
	    !wait_for(lab_pair_destination(pair), "query-status", "status", "running", error))
		return NULL;
	/* A connection that breaks before the guest runs is no pause; stock may even crash there.
	 */
	lab_proxy_release(lab_pair_proxy(pair), 0);
	if (!both_paused(pair, error))
		return NULL;
	if (again_bytes) {
		broken = recover(pair, 0, &cut_again, error);
		if (!broken || !lab_proxy_wait_fired(broken, 0, FIRED_MS, error) ||
		    !both_paused(pair, error))
			return NULL;
	}
	way = recover(pair, 1, NULL, error);
	if (!way || !lab_pair_wait(pair, DONE_MS, &result, error))
		return NULL;
	ok = !strcmp(result.status, "completed") && !strcmp(result.destination_status, "completed");
	lab_migration_clear(&result);
	if (!ok)
		return g_strdup("failed");
	return lab_vm_alive(lab_pair_destination(pair), DONE_MS, error) ? g_strdup(ARRIVED) : NULL;
}

static char *recovered_preempt(const struct cell *cell, GError **error)
{
	return recovered(cell, LAB_COPY_PREEMPT, 0, error);
}

static char *recovered_once(const struct cell *cell, GError **error)
{
	return recovered(cell, LAB_COPY_POST, 0, error);
}

static char *recovered_twice(const struct cell *cell, GError **error)
{
	return recovered(cell, LAB_COPY_POST, 1 << 20, error);
}

/* Before the two have agreed on where they stand. */
static char *recovered_handshake(const struct cell *cell, GError **error)
{
	return recovered(cell, LAB_COPY_POST, 20, error);
}

/* ---- COLO ---- */

static char *colo(const struct cell *cell, GError **error)
{
	static const char *const capabilities[] = {"x-colo", NULL};
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_pair) pair = NULL;
	struct lab_vm *there;

	options.capabilities = capabilities;
	options.vm.devices = LAB_DEVICES_NONE;
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_pair_migrate(pair, error))
		return NULL;
	there = lab_pair_destination(pair);
	if (!wait_migration(there, "colo", error))
		return NULL;
	arrival_settle();
	lab_vm_kill(lab_pair_source(pair), SIGKILL);
	if (!lab_qmp_ok(there, error, "x-colo-lost-heartbeat") ||
	    !wait_for(there, "query-status", "status", "running", error) ||
	    !lab_vm_alive(there, DONE_MS, error))
		return NULL;
	return g_strdup(PROMOTED);
}

/* ---- snapshots ---- */

/* -snapshot puts a qcow2 over the guest's disk: the one node that can hold a VM's state. */
static char *snapshot_node(struct lab_vm *vm, GError **error)
{
	g_autoptr(JsonNode) nodes = lab_qmp(vm, error, "query-named-block-nodes");
	JsonArray *array;

	if (!nodes)
		return NULL;
	array = json_node_get_array(nodes);
	for (guint i = 0; i < json_array_get_length(array); i++) {
		JsonNode *node = json_array_get_element(array, i);

		if (!g_strcmp0(lab_json_string(node, "drv"), "qcow2"))
			return g_strdup(lab_json_string(node, "node-name"));
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_QMP, "no qcow2 node in -snapshot");
	return NULL;
}

/* HMP says what is wrong, and nothing when all went well. */
static bool hmp_quietly(struct lab_vm *vm, const char *command, GError **error)
{
	g_autofree char *said = lab_hmp(vm, error, "%s", command);

	if (said && *said)
		g_set_error(error, LAB_ERROR, LAB_ERROR_QMP, "%s: %s", command, said);
	return said && !*said;
}

static bool job(struct lab_vm *vm, const char *command, const char *node, GError **error)
{
	g_autoptr(JsonNode) jobs = NULL;
	const char *failed;
	JsonArray *array;

	if (!lab_qmp_ok(vm, error,
			"%s {'job-id': 'job0', 'tag': 'two', 'vmstate': '%s', 'devices': ['%s']}",
			command, node, node))
		return false;
	for (int i = 0; i < STATE_MS / 10; i++) {
		g_clear_pointer(&jobs, json_node_unref);
		jobs = lab_qmp(vm, error, "query-jobs");
		if (!jobs)
			return false;
		array = json_node_get_array(jobs);
		if (json_array_get_length(array) == 1 &&
		    !g_strcmp0(lab_json_string(json_array_get_element(array, 0), "status"),
			       "concluded")) {
			failed = lab_json_string(json_array_get_element(array, 0), "error");
			if (failed)
				g_set_error(error, LAB_ERROR, LAB_ERROR_QMP, "%s: %s", command,
					    failed);
			return !failed && lab_qmp_ok(vm, error, "job-dismiss {'id': 'job0'}");
		}
		g_usleep(10000);
	}
	g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT, "%s did not conclude", command);
	return false;
}

static char *snapshots(const struct cell *cell, GError **error)
{
	static const char *const args[] = {"-snapshot", NULL};
	const char *launcher[] = {lab_program("loadvm"), "--policy", cell->policy, "--", NULL};
	const struct lab_vm_options options = {
		.version = cell->version,
		.guest = true,
		.fill_mib = 24,
		.args = args,
		.launcher = cell->policy ? launcher : NULL,
	};
	g_autoptr(lab_vm) vm = lab_vm_new(&options, error);
	g_autofree char *node = NULL;

	if (!vm)
		return NULL;
	node = snapshot_node(vm, error);
	if (!node || !hmp_quietly(vm, "savevm one", error) || !lab_vm_alive(vm, DONE_MS, error) ||
	    !job(vm, "snapshot-save", node, error) || !lab_vm_alive(vm, DONE_MS, error) ||
	    !hmp_quietly(vm, "loadvm one", error) || !lab_vm_alive(vm, DONE_MS, error) ||
	    !lab_qmp_ok(vm, error, "stop") || !job(vm, "snapshot-load", node, error) ||
	    !lab_qmp_ok(vm, error, "cont") || !lab_vm_alive(vm, DONE_MS, error))
		return NULL;
	return g_strdup(RESTORED);
}

static const struct scenario scenarios[] = {
	{"settings-ram", settings_ram, NULL, 0, false},
	{"settings-multifd", settings_multifd, "ok; ok; " ARRIVED, 0, false},
	{"plug-ram", plug_ram, NULL, 0, false},
	{"plug-device", plug_device, NULL, 0, true},
	{"unplug-expected", unplug_expected, NULL, 0, true},
	{"plug-busy", plug_busy, ARRIVED, ON_BOTH | ON_11_1, false},
	{"recovered", recovered_once, ARRIVED, 0, false},
	{"recovered-twice", recovered_twice, ARRIVED, 0, false},
	/* 7.2's source waits in its handshake for ever, 11.1's gives up. */
	{"recovered-handshake", recovered_handshake, ARRIVED, ON_10_0, false},
	{"recovered-preempt", recovered_preempt, ARRIVED, 0, false},
	{"colo", colo, PROMOTED, 0, false},
	{"snapshots", snapshots, RESTORED, 0, false},
};

int main(int argc, char **argv)
{
	return arrival_main(argc, argv, "arrival-changes", scenarios, G_N_ELEMENTS(scenarios));
}
