/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scenario played once: scenario.h.
 */
#include <stdio.h>
#include <string.h>

#include "analyzers/lab/internal.h"
#include "analyzers/lab/journey.h"
#include "analyzers/lab/machine.h"
#include "analyzers/lab/scenario-keys.h"

enum {
	TIMEOUT_S = 60,
	EVENT_MS = 5000,
	MAX_RULES = 8,
	FIRST_SLOT = 0x12, /* behind those of LAB_DEVICES_DOZEN */
	FUNCTIONS = 8,
	MAX_CARDS = 96, /* 12 slots: 0x12 to 0x1d */
};

/* What a pair's options point to. */
struct stage {
	char *devices, *machine, *copy, *compression, *parameters;
	char **capabilities, **args;
	char *texts[MAX_RULES][4]; /* of each rule */
	struct lab_rule rules[MAX_RULES];
	unsigned n_rules;
	GPtrArray *all_args; /* owns its strings */
};

static void strike(struct stage *s)
{
	g_free(s->devices);
	g_free(s->machine);
	g_free(s->copy);
	g_free(s->compression);
	g_free(s->parameters);
	g_strfreev(s->capabilities);
	g_strfreev(s->args);
	for (unsigned i = 0; i < MAX_RULES; i++)
		for (unsigned k = 0; k < G_N_ELEMENTS(s->texts[i]); k++)
			g_free(s->texts[i][k]);
	if (s->all_args)
		g_ptr_array_unref(s->all_args);
}

/* NULL when it is not set. g_free() */
static char *text(const struct lab_scenario *s, const char *group, const char *name)
{
	return g_key_file_get_string(s->keys, group, name, NULL);
}

/* 0 when it is not set, or not a number: it has been checked. */
static uint64_t number(const struct lab_scenario *s, const char *group, const char *name)
{
	return g_key_file_get_uint64(s->keys, group, name, NULL);
}

static bool truth(const struct lab_scenario *s, const char *group, const char *name)
{
	return g_key_file_get_boolean(s->keys, group, name, NULL);
}

static char **words(const struct lab_scenario *s, const char *group, const char *name,
		    GError **error)
{
	g_autofree char *value = text(s, group, name);
	char **argv = NULL;

	if (!value || !*g_strstrip(value))
		return g_new0(char *, 1);
	return g_shell_parse_argv(value, NULL, &argv, error) ? argv : NULL;
}

static int word_index(const char *word, const char *const *list)
{
	for (int i = 0; word && list[i]; i++)
		if (!strcmp(word, list[i]))
			return i;
	return 0;
}

static bool add_rule(struct stage *stage, const struct lab_scenario *s, const char *group,
		     GError **error)
{
	static const char *const channels[] = {"main", "multifd", "accepted", NULL};
	static const enum lab_channel channel[] = {LAB_CHANNEL_MAIN, LAB_CHANNEL_MULTIFD,
						   LAB_CHANNEL_ACCEPTED};
	static const char *const kinds[] = {"stall", "slow", "reset", "fin", "half-open", NULL};
	static const enum lab_fault fault[] = {LAB_FAULT_STALL, LAB_FAULT_SLOW, LAB_FAULT_RESET,
					       LAB_FAULT_FIN, LAB_FAULT_HALF_OPEN};
	char **t = stage->texts[stage->n_rules];

	if (stage->n_rules == MAX_RULES) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO, "more than %d faults", MAX_RULES);
		return false;
	}
	t[0] = text(s, group, "channel");
	t[1] = text(s, group, "kind");
	t[2] = text(s, group, "section");
	t[3] = text(s, group, "pattern");
	stage->rules[stage->n_rules++] = (struct lab_rule){
		.channel = channel[word_index(t[0], channels)],
		.fault = fault[word_index(t[1], kinds)],
		.section = t[2],
		.pattern = t[3],
		.nth = number(s, group, "nth"),
		.offset_bytes = number(s, group, "offset_bytes"),
		.stall_ms = number(s, group, "stall_ms"),
		.hoard = truth(s, group, "hoard"),
		.bytes_per_second = number(s, group, "bytes_per_second"),
	};
	return true;
}

static bool add_rules(struct stage *stage, const struct lab_scenario *s, GError **error)
{
	g_auto(GStrv) groups = g_key_file_get_groups(s->keys, NULL);

	for (char **group = groups; *group; group++)
		if (g_str_has_prefix(*group, "fault") && !add_rule(stage, s, *group, error))
			return false;
	return true;
}

static void add_arg(struct stage *stage, char *arg)
{
	g_ptr_array_add(stage->all_args, arg);
}

/* "none", "dozen", "virtio-net 64", or both: "dozen, virtio-net 8". */
static bool add_devices(struct stage *stage, enum lab_devices *devices, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(stage->devices ?: "none", ",", -1);

	*devices = LAB_DEVICES_NONE;
	for (char **part = parts; *part; part++) {
		unsigned n;

		g_strstrip(*part);
		if (!strcmp(*part, "dozen")) {
			*devices = LAB_DEVICES_DOZEN;
		} else if (sscanf(*part, "virtio-net %u", &n) == 1 && n && n <= MAX_CARDS) {
			for (unsigned i = 0; i < n; i++) {
				add_arg(stage, g_strdup("-netdev"));
				add_arg(stage, g_strdup_printf("hubport,id=card%u,hubid=9", i));
				add_arg(stage, g_strdup("-device"));
				add_arg(stage, g_strdup_printf("virtio-net-pci,netdev=card%u,addr="
							       "%x.%x,multifunction=on,romfile=",
							       i, FIRST_SLOT + i / FUNCTIONS,
							       i % FUNCTIONS));
			}
		} else if (strcmp(*part, "none")) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
				    "[machine] devices = %s: it takes none, dozen, virtio-net N "
				    "(at most %d)",
				    *part, MAX_CARDS);
			return false;
		}
	}
	return true;
}

static bool build(struct stage *stage, const struct lab_scenario *s,
		  const struct lab_play_options *o, struct lab_pair_options *pair, GError **error)
{
	enum lab_devices devices;

	stage->all_args = g_ptr_array_new_with_free_func(g_free);
	stage->devices = text(s, "machine", "devices");
	stage->machine = text(s, "machine", "type");
	stage->parameters = text(s, "migration", "parameters");
	stage->capabilities = words(s, "migration", "capabilities", error);
	if (!stage->capabilities || !add_devices(stage, &devices, error) ||
	    !add_rules(stage, s, error))
		return false;
	stage->args = words(s, "machine", "args", error);
	if (!stage->args)
		return false;
	for (char **arg = stage->args; *arg; arg++)
		add_arg(stage, g_strdup(*arg));
	for (const char *const *arg = o->args; arg && *arg; arg++)
		add_arg(stage, g_strdup(*arg));
	g_ptr_array_add(stage->all_args, NULL);
	*pair = (struct lab_pair_options){
		.vm =
			{
				.version = o->source_qemu ?: o->qemu,
				.machine = stage->machine,
				.memory_mib = number(s, "machine", "memory_mib"),
				.cpus = number(s, "machine", "cpus"),
				.devices = devices,
				.guest = true,
				.fill_mib = number(s, "machine", "fill_mib"),
				.dirty_mib = number(s, "machine", "dirty_mib"),
				.round_ms = number(s, "machine", "round_ms"),
				.flat_out = truth(s, "machine", "flat_out"),
				.args = (const char *const *)stage->all_args->pdata,
				/* A whole firmware under TCG beside other work. */
				.timeout_ms = 60000,
			},
		.destination_version = o->qemu,
		.multifd = number(s, "migration", "multifd"),
		.capabilities = (const char *const *)stage->capabilities,
		.parameters = stage->parameters,
		.max_bandwidth = number(s, "migration", "max_bandwidth"),
		.downtime_limit_ms = number(s, "migration", "downtime_limit_ms"),
		.rules = stage->rules,
		.n_rules = stage->n_rules,
	};
	return true;
}

/* QEMU does not answer at all to what is not even JSON; it takes single quotes, too. */
static bool check_parameters(const char *parameters, GError **error)
{
	g_autofree char *object = g_strdup_printf("{%s}", parameters ?: "");
	g_autoptr(JsonNode) node = json_from_string(g_strdelimit(object, "'", '"'), NULL);

	if (node && JSON_NODE_HOLDS_OBJECT(node))
		return true;
	g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
		    "[migration] parameters = %s: it takes members of a JSON object, such as "
		    "'multifd-zlib-level': 9",
		    parameters);
	return false;
}

bool lab_scenario_check(const struct lab_scenario *s, GError **error)
{
	const struct lab_play_options nothing = {0};
	struct lab_pair_options pair;
	g_autoptr(GBytes) guest = NULL;
	struct stage stage = {0};
	bool ok = build(&stage, s, &nothing, &pair, error) &&
		  check_parameters(stage.parameters, error) &&
		  (guest = lab_guest_image(&pair.vm, error));

	strike(&stage);
	return ok;
}

static struct lab_journey journey_of(struct stage *stage, const struct lab_scenario *s,
				     const char *policy)
{
	static const char *const copies[] = {"precopy", "postcopy", "preempt", NULL};
	static const enum lab_copy copy[] = {LAB_COPY_PRE, LAB_COPY_POST, LAB_COPY_PREEMPT};

	stage->copy = text(s, "migration", "copy");
	stage->compression = text(s, "migration", "compression");
	return (struct lab_journey){
		.policy = policy,
		.copy = copy[word_index(stage->copy, copies)],
		.compression = g_strcmp0(stage->compression, "none") ? stage->compression : NULL,
		.tls = truth(s, "migration", "tls"),
	};
}

static void note_end(struct lab_pair *pair, const struct stage *stage, GError *broken,
		     struct lab_play_result *r)
{
	r->arrived = !broken;
	if (broken) {
		g_strlcpy(r->why, broken->message, sizeof(r->why));
		return;
	}
	/* A fault that never came would make another scenario of it. */
	for (unsigned i = 0; i < stage->n_rules; i++)
		if (!lab_proxy_fired_ns(lab_pair_proxy(pair), i)) {
			r->arrived = false;
			g_snprintf(r->why, sizeof(r->why), "fault %u of the scenario never came",
				   i + 1);
			return;
		}
	lab_pair_blackout(pair, EVENT_MS, &r->blackout_ns, NULL);
}

/* A QEMU that loadvm leaves alone would be measured under the policy's name. */
static bool policy_taken(struct lab_vm *vm, const char *policy, GError **error)
{
	g_autofree char *said = NULL, *taken = NULL;

	if (!policy || !strcmp(policy, "stock"))
		return true;
	said = g_strchomp(lab_vm_stderr(vm));
	taken = g_strdup_printf("loadvm: %s on QEMU ", policy);
	if (strstr(said, taken))
		return true;
	g_set_error(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE, "the destination has no %s: %s",
		    policy, *said ? said : "loadvm said nothing");
	return false;
}

bool lab_scenario_play(const struct lab_scenario *s, const struct lab_play_options *options,
		       struct lab_play_result *r, GError **error)
{
	uint64_t timeout_s = number(s, "migration", "timeout_s") ?: TIMEOUT_S;
	g_autofree char *system = g_find_program_in_path("qemu-system-x86_64");
	struct lab_play_options o = *options;
	struct lab_pair_options pair_options;
	struct stage stage = {0};
	struct lab_journey journey;
	struct lab_pair *pair = NULL;
	struct lab_vm *idle = NULL;
	struct lab_poller *monitor = NULL, *control = NULL;
	const struct lab_sample *samples;
	size_t n_samples;
	g_autoptr(GError) broken = NULL;
	struct machine begin, end;
	pid_t pids[3];
	bool ok = false;

	memset(r, 0, sizeof(*r));
	o.qemu = o.qemu ?: system ?: "7.2";
	if (!build(&stage, s, &o, &pair_options, error))
		goto cleanup;
	journey = journey_of(&stage, s, o.policy);
	pair = lab_journey_new(&journey, &pair_options, error);
	if (!pair || !policy_taken(lab_pair_destination(pair), o.policy, error))
		goto cleanup;
	idle = lab_vm_new_idle(o.qemu, error);
	if (!idle || (o.before && !o.before(pair, o.opaque, error)))
		goto cleanup;
	control = lab_poller_new(idle, error);
	monitor = control ? lab_poller_new(lab_pair_destination(pair), error) : NULL;
	if (!monitor)
		goto cleanup;
	pids[0] = lab_vm_pid(lab_pair_source(pair));
	pids[1] = lab_vm_pid(lab_pair_destination(pair));
	pids[2] = lab_vm_pid(idle);
	begin = machine_now(pids, G_N_ELEMENTS(pids));
	lab_journey_arrive(&journey, pair, timeout_s * 1000, &r->migration, &broken);
	end = machine_now(pids, G_N_ELEMENTS(pids));
	r->other_work = machine_others(&begin, &end);
	lab_poller_stop(monitor, &r->monitor);
	lab_poller_stop(control, &r->idle);
	samples = lab_poller_samples(monitor, &n_samples);
	r->samples = g_array_new(FALSE, FALSE, sizeof(*samples));
	g_array_append_vals(r->samples, samples, n_samples);
	note_end(pair, &stage, broken, r);
	ok = !o.after || o.after(pair, o.opaque, error);
cleanup:
	lab_poller_free(monitor);
	lab_poller_free(control);
	lab_vm_free(idle);
	lab_pair_free(pair);
	strike(&stage);
	return ok;
}
