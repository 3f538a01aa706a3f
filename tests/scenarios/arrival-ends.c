/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrivals that do not arrive: QEMU is told to end, its source dies, the stream breaks or goes
 * silent, at every phase. The destination ends as stock's does, and at once when told to.
 */
#include <signal.h>

#include "tests/scenarios/arrival.h"
#include "tests/scenarios/ending.h"

enum {
	CHANNELS = 2,
	/* 200 ms is ours (the bench says); an idle stock QEMU with its devices takes about 100. */
	AT_ONCE_MS = 1000,
	PATIENCE_MS = 1500, /* for a QEMU that does not end */
	FLOOD_US = 1000,
	ENDING_MS = 2000,
};

#define AT_ONCE "exit 0 at once"

enum phase {
	BEFORE, /* it listens, nobody has come */
	RAM,
	DEVICE,
	MULTIFD, /* one of two channels is late */
	POSTCOPY /* the guest runs, most of its RAM is elsewhere */
};

static struct lab_rule rule_at(enum phase phase, enum lab_fault fault)
{
	struct lab_rule rule = {.channel = LAB_CHANNEL_MAIN, .fault = fault, .stall_ms = STALL_MS};

	switch (phase) {
	case DEVICE:
		rule.section = LAB_SECTION_NET;
		rule.offset_bytes = 64;
		break;
	case MULTIFD:
		rule.channel = LAB_CHANNEL_MULTIFD;
		rule.nth = 1;
		rule.offset_bytes = 1 << 20;
		break;
	case BEFORE:
	case RAM:
	case POSTCOPY:
		rule.offset_bytes = 4 << 20;
		break;
	}
	return rule;
}

/*
 * What was read last when a source is killed or a connection is reset, and with it the reason
 * given, is chance.
 */
static char *without_reason(char *told)
{
	char *reason = told ? strstr(told, "failed: ") : NULL;

	if (reason)
		strcpy(reason, "failed");
	return told;
}

/* A pair whose stream has come to the phase and stands still there, or has met the fault. */
static struct lab_pair *pair_at(const struct cell *cell, enum phase phase, enum lab_fault fault,
				bool stay, GError **error)
{
	const struct lab_rule rule = rule_at(phase, fault);
	struct lab_pair_options options = arrival_options(cell);
	struct lab_journey journey = {.policy = cell->policy};

	options.stay_on_error = stay;
	options.vm.timeout_ms = ANSWER_MS;
	/* More than sockets and proxy hold: the source has not sent all when it is killed. */
	options.vm.fill_mib = 64;
	/* Nor is it at its end, with the lock, when it can send no more. */
	if (phase == RAM)
		options.downtime_limit_ms = 1;
	if (phase == MULTIFD)
		options.multifd = CHANNELS;
	if (phase == POSTCOPY) {
		journey.copy = LAB_COPY_POST;
		options.vm.devices = LAB_DEVICES_NONE;
	}
	if (phase == BEFORE)
		return lab_journey_new(&journey, &options, error);
	options.rules = &rule;
	options.n_rules = 1;
	return arrival_at_rule(&journey, &options, error);
}

/* ---- told to end ---- */

/* signal 0: QMP quit. */
static char *told_to_end(struct lab_vm *vm, int signal, GError **error)
{
	struct ending end;
	uint64_t ms;

	if (!tell_to_end(vm, signal, PATIENCE_MS, &end, error)) {
		if (!g_error_matches(*error, LAB_ERROR, LAB_ERROR_TIMEOUT))
			return NULL;
		g_clear_error(error);
		return g_strdup_printf("no end within %d ms", PATIENCE_MS);
	}
	ms = end.took_ns / MS;
	return ms < AT_ONCE_MS + end.still_ns / MS
		       ? g_strdup_printf("exit %d at once", end.status)
		       : g_strdup_printf("exit %d after %" G_GUINT64_FORMAT " ms", end.status, ms);
}

static char *end_at(const struct cell *cell, enum phase phase, enum lab_fault fault, int signal,
		    GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, phase, fault, false, error);
	g_autofree char *told = NULL, *said = NULL;
	struct lab_vm *there;

	if (!pair)
		return NULL;
	there = lab_pair_destination(pair);
	told = told_to_end(there, signal, error);
	said = lab_vm_stderr(there);
	if (strstr(said, "did not come to rest"))
		return g_strdup("the load did not come to rest");
	return g_steal_pointer(&told);
}

#define ENDS(name, phase, fault, signal)                                                           \
	static char *name(const struct cell *cell, GError **error)                                 \
	{                                                                                          \
		return end_at(cell, phase, fault, signal, error);                                  \
	}

ENDS(quit_before, BEFORE, LAB_FAULT_STALL, 0)
ENDS(quit_ram, RAM, LAB_FAULT_STALL, 0)
ENDS(quit_device, DEVICE, LAB_FAULT_STALL, 0)
ENDS(quit_multifd, MULTIFD, LAB_FAULT_STALL, 0)
ENDS(quit_postcopy, POSTCOPY, LAB_FAULT_STALL, 0)
ENDS(quit_half_open, RAM, LAB_FAULT_HALF_OPEN, 0)
ENDS(term_ram, RAM, LAB_FAULT_STALL, SIGTERM)
ENDS(term_device, DEVICE, LAB_FAULT_STALL, SIGTERM)
ENDS(term_multifd, MULTIFD, LAB_FAULT_STALL, SIGTERM)

/* Nothing stands still: the load is busy when it is told. */
static char *quit_busy(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_pair) pair = NULL;

	options.vm.fill_mib = 96;
	options.proxy = true;
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_journey_begin(&journey, pair, error))
		return NULL;
	g_usleep(30000);
	return told_to_end(lab_pair_destination(pair), 0, error);
}

static char *flood_through_end(const struct cell *cell, GError **error)
{
	static const char *const commands[] = {"query-migrate", NULL};
	g_autoptr(lab_pair) pair = pair_at(cell, RAM, LAB_FAULT_STALL, false, error);
	g_autoptr(lab_poller) flood = NULL;

	if (!pair)
		return NULL;
	flood = lab_poller_new_with(lab_pair_destination(pair), commands, FLOOD_US, error);
	if (!flood)
		return NULL;
	g_usleep(200000);
	return told_to_end(lab_pair_destination(pair), 0, error);
}

/* ---- left alone ---- */

/* How the destination takes it: it ends, or says what has become of the migration. */
static char *took_it(struct lab_pair *pair, GError **error)
{
	struct lab_vm *there = lab_pair_destination(pair);
	g_autoptr(JsonNode) answer = NULL;
	char *ending = lab_vm_ending(there, ENDING_MS, error);

	if (ending || !g_error_matches(*error, LAB_ERROR, LAB_ERROR_TIMEOUT))
		return ending;
	g_clear_error(error);
	answer = lab_qmp(there, error, "query-migrate");
	return answer ? g_strdup_printf("stays: %s", lab_json_string(answer, "status")) : NULL;
}

static char *killed_at(const struct cell *cell, enum phase phase, GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, phase, LAB_FAULT_STALL, false, error);

	if (!pair)
		return NULL;
	lab_vm_kill(lab_pair_source(pair), SIGKILL);
	lab_proxy_release(lab_pair_proxy(pair), 0);
	return took_it(pair, error);
}

static char *killed_ram(const struct cell *cell, GError **error)
{
	return killed_at(cell, RAM, error);
}

/* Main and multifd channels end together: whose end is noticed first, and told of, is chance. */
static char *of_any_channel(char *told)
{
	char *end = told && g_str_has_prefix(told, "exit 1") ? strchr(told, ':') : NULL;

	if (end)
		*end = '\0';
	return told;
}

/* What the source had sent by then waits in sockets: now and then it is the whole VM. */
static char *killed_multifd(const struct cell *cell, GError **error)
{
	char *told = of_any_channel(killed_at(cell, MULTIFD, error));

	if (g_strcmp0(told, "exit 1") && g_strcmp0(told, "stays: completed"))
		return told;
	g_test_message("%s", told);
	g_free(told);
	return g_strdup("exit 1, or completed");
}

/* A pipe that nobody writes any more is hung up, which is not the same as readable. */
static char *killed_fd(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_pair) pair = NULL;

	options.way = LAB_WAY_FD;
	options.max_bandwidth = 10 << 20;
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_journey_begin(&journey, pair, error))
		return NULL;
	arrival_settle();
	lab_vm_kill(lab_pair_source(pair), SIGKILL);
	return without_reason(took_it(pair, error));
}

/* A saved VM of which only the beginning is there. */
static char *exec_too_short(const struct cell *cell, GError **error)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", cell->policy, "--", NULL};
	const struct lab_vm_options options = {
		.version = cell->version,
		.launcher = cell->policy ? launcher : NULL,
		.incoming = "defer",
	};
	g_autoptr(lab_vm) vm = lab_vm_new(&options, error);

	if (!vm ||
	    !lab_qmp_ok(vm, error, "migrate-incoming {'uri': 'exec:printf QEVM; sleep 0.1'}"))
		return NULL;
	return lab_vm_ending(vm, ENDING_MS, error);
}

static char *cut_at(const struct cell *cell, enum phase phase, enum lab_fault fault, GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, phase, fault, false, error);

	return pair ? took_it(pair, error) : NULL;
}

static char *reset_ram(const struct cell *cell, GError **error)
{
	return without_reason(cut_at(cell, RAM, LAB_FAULT_RESET, error));
}

static char *reset_device(const struct cell *cell, GError **error)
{
	return without_reason(cut_at(cell, DEVICE, LAB_FAULT_RESET, error));
}

static char *reset_multifd(const struct cell *cell, GError **error)
{
	return of_any_channel(cut_at(cell, MULTIFD, LAB_FAULT_RESET, error));
}

static char *fin_device(const struct cell *cell, GError **error)
{
	return cut_at(cell, DEVICE, LAB_FAULT_FIN, error);
}

/* How far into a page the source had got decides on the reason. */
static char *cancelled(const struct cell *cell, GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, RAM, LAB_FAULT_STALL, false, error);

	if (!pair || !lab_qmp_ok(lab_pair_source(pair), error, "migrate_cancel"))
		return NULL;
	lab_proxy_release(lab_pair_proxy(pair), 0);
	return without_reason(took_it(pair, error));
}

/* QEMU may well end before the answer is out. */
static bool yank(struct lab_pair *pair, GError **error)
{
	if (lab_qmp_ok(lab_pair_destination(pair), error,
		       "yank {'instances': [{'type': 'migration'}]}"))
		return true;
	if (!g_error_matches(*error, LAB_ERROR, LAB_ERROR_EXITED))
		return false;
	g_clear_error(error);
	return true;
}

static char *yanked_at(const struct cell *cell, enum phase phase, enum lab_fault fault,
		       GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, phase, fault, false, error);

	if (!pair || !yank(pair, error))
		return NULL;
	return took_it(pair, error);
}

static char *yanked_ram(const struct cell *cell, GError **error)
{
	return yanked_at(cell, RAM, LAB_FAULT_HALF_OPEN, error);
}

static char *yanked_device(const struct cell *cell, GError **error)
{
	return yanked_at(cell, DEVICE, LAB_FAULT_STALL, error);
}

/*
 * The load waits for a channel that does not come. QEMU's own code never ends this wait, whatever
 * becomes of the connections; with the lock held, nothing but SIGKILL helps then. The thread sees
 * that the channel's receiver has gone.
 */
static char *yanked_multifd(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	struct lab_pair_options options = arrival_options(cell);
	struct lab_rule rule = rule_at(MULTIFD, LAB_FAULT_STALL);
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *told = NULL;

	rule.hoard = true;
	options.vm.timeout_ms = ANSWER_MS;
	options.multifd = CHANNELS;
	options.rules = &rule;
	options.n_rules = 1;
	pair = arrival_at_rule(&journey, &options, error);
	if (!pair || !yank(pair, error))
		return NULL;
	told = took_it(pair, error);
	return told && g_str_has_prefix(told, "exit 1") ? g_strdup("exit 1")
							: g_steal_pointer(&told);
}

/* The main channel breaks while one multifd channel is late: teardown meets a channel that waits.
 */
static char *multifd_teardown(const struct cell *cell, GError **error)
{
	const struct lab_journey journey = {.policy = cell->policy};
	const struct lab_rule rules[] = {
		rule_at(MULTIFD, LAB_FAULT_STALL),
		{.channel = LAB_CHANNEL_MAIN, .offset_bytes = 256, .fault = LAB_FAULT_RESET},
	};
	struct lab_pair_options options = arrival_options(cell);
	g_autoptr(lab_pair) pair = NULL;

	options.vm.timeout_ms = ANSWER_MS;
	options.multifd = CHANNELS;
	options.rules = rules;
	options.n_rules = G_N_ELEMENTS(rules);
	pair = lab_journey_new(&journey, &options, error);
	if (!pair || !lab_journey_begin(&journey, pair, error) ||
	    !lab_proxy_wait_fired(lab_pair_proxy(pair), 1, FIRED_MS, error))
		return NULL;
	return took_it(pair, error);
}

/* exit-on-error off: it stays, says so, and can still be told to end. */
static char *stays(const struct cell *cell, GError **error)
{
	g_autoptr(lab_pair) pair = pair_at(cell, DEVICE, LAB_FAULT_FIN, true, error);
	g_autofree char *end = NULL;
	g_autoptr(JsonNode) answer = NULL;
	struct lab_vm *there;

	if (!pair)
		return NULL;
	there = lab_pair_destination(pair);
	for (int i = 0; i < 100; i++) {
		g_clear_pointer(&answer, json_node_unref);
		answer = lab_qmp(there, error, "query-migrate");
		if (!answer)
			return NULL;
		if (!g_strcmp0(lab_json_string(answer, "status"), "failed"))
			break;
		g_usleep(20000);
	}
	end = told_to_end(there, 0, error);
	return end ? g_strdup_printf("%s, %s", lab_json_string(answer, "status"), end) : NULL;
}

static const struct scenario scenarios[] = {
	{"quit-before", quit_before, AT_ONCE, 0, false},
	{"quit-ram", quit_ram, AT_ONCE, 0, false},
	{"quit-device", quit_device, AT_ONCE, 0, true},
	{"quit-multifd", quit_multifd, AT_ONCE, 0, false},
	{"quit-postcopy", quit_postcopy, AT_ONCE, 0, false},
	{"quit-half-open", quit_half_open, AT_ONCE, 0, false},
	{"quit-busy", quit_busy, AT_ONCE, 0, false},
	{"sigterm-ram", term_ram, AT_ONCE, 0, false},
	{"sigterm-device", term_device, AT_ONCE, 0, true},
	{"sigterm-multifd", term_multifd, AT_ONCE, 0, false},
	{"flood-through-end", flood_through_end, AT_ONCE, 0, false},
	{"killed-source-ram", killed_ram, NULL, ON_BOTH | ON_11_1, false},
	{"killed-source-multifd", killed_multifd, NULL, 0, false},
	{"killed-source-fd", killed_fd, NULL, 0, false},
	{"exec-too-short", exec_too_short, NULL, 0, false},
	{"reset-ram", reset_ram, NULL, 0, false},
	{"reset-device", reset_device, NULL, 0, false},
	{"reset-multifd", reset_multifd, NULL, 0, false},
	{"fin-device", fin_device, NULL, ON_BOTH | ON_11_1, false},
	{"cancelled", cancelled, NULL, 0, false},
	{"yank-ram", yanked_ram, NULL, 0, false},
	{"yank-device", yanked_device, NULL, 0, true},
	{"yank-multifd", yanked_multifd, "exit 1", 0, false},
	{"multifd-teardown", multifd_teardown, NULL, 0, false},
	{"stays-on-error", stays, "failed, " AT_ONCE, ON_10_0 | ON_11_1, false},
};

int main(int argc, char **argv)
{
	return arrival_main(argc, argv, "arrival-ends", scenarios, G_N_ELEMENTS(scenarios));
}
