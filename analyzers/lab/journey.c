/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each kind of migration needs on the two command lines and in the two monitors: journey.h. */
#include <string.h>

#include "analyzers/lab/internal.h"
#include "analyzers/lab/journey.h"

#define POSTCOPY_BANDWIDTH (10 << 20)
#define PSK_FILE	   "keys.psk" /* the name that QEMU looks for in the folder */
/* QEMU's client says "qemu"; a username on the server endpoint would be refused. */
#define PSK "qemu:6f3a1c0d9b2e47585f6e7d8c9bacbdce\n"

enum {
	MAX_CAPABILITIES = 16,
	SWITCHOVER_MS = 15000, /* until the source may be told to switch to postcopy */
};

static bool write_key(GError **error)
{
	g_autofree char *path = g_build_filename(lab_tmpdir(), PSK_FILE, NULL);

	return g_file_set_contents_full(path, PSK, -1, G_FILE_SET_CONTENTS_NONE, 0600, error);
}

static char **with_key(const char *const *args, const char *endpoint)
{
	g_autoptr(GStrvBuilder) all = g_strv_builder_new();
	g_autofree char *object = g_strdup_printf(
		"tls-creds-psk,id=tls0,endpoint=%s,dir=%s,verify-peer=on", endpoint, lab_tmpdir());

	if (args)
		g_strv_builder_addv(all, (const char **)args);
	g_strv_builder_add(all, "-object");
	g_strv_builder_add(all, object);
	return g_strv_builder_end(all);
}

static void add_parameter(GString *parameters, const char *format, const char *value)
{
	if (parameters->len)
		g_string_append(parameters, ", ");
	g_string_append_printf(parameters, format, value);
}

struct lab_pair *lab_journey_new(const struct lab_journey *journey,
				 const struct lab_pair_options *options, GError **error)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", journey->policy, "--", NULL};
	const char *capabilities[MAX_CAPABILITIES];
	g_autoptr(GString) parameters = g_string_new(options->parameters);
	g_auto(GStrv) source_args = NULL, destination_args = NULL;
	struct lab_pair_options o = *options;
	size_t n = 0;

	if (journey->policy && !launcher[0]) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE, "loadvm is not built");
		return NULL;
	}
	if (journey->policy)
		o.destination_launcher = launcher;
	for (const char *const *c = options->capabilities; c && *c && n < MAX_CAPABILITIES - 4; c++)
		capabilities[n++] = *c;
	if (journey->copy != LAB_COPY_PRE) {
		capabilities[n++] = "postcopy-ram";
		if (journey->copy == LAB_COPY_PREEMPT)
			capabilities[n++] = "postcopy-preempt";
		if (!o.max_bandwidth)
			o.max_bandwidth = POSTCOPY_BANDWIDTH;
	}
	if (journey->mapped_ram)
		capabilities[n++] = "mapped-ram";
	capabilities[n] = NULL;
	o.capabilities = capabilities;
	if (journey->compression)
		add_parameter(parameters, "'multifd-compression': '%s'", journey->compression);
	if (journey->tls) {
		if (!write_key(error))
			return NULL;
		add_parameter(parameters, "'tls-creds': '%s'", "tls0");
		destination_args = with_key(o.destination_args ?: o.vm.args, "server");
		source_args = with_key(o.vm.args, "client");
		o.vm.args = (const char *const *)source_args;
		o.destination_args = (const char *const *)destination_args;
	}
	o.parameters = parameters->len ? parameters->str : NULL;
	return lab_pair_new(&o, error);
}

/* It is refused while setup lasts. */
static bool wait_active(struct lab_vm *source, GError **error)
{
	uint64_t deadline = deadline_in(SWITCHOVER_MS);

	for (;;) {
		g_autoptr(JsonNode) answer = lab_qmp(source, error, "query-migrate");
		const char *status;

		if (!answer)
			return false;
		status = lab_json_string(answer, "status");
		if (status && !strcmp(status, "active"))
			return true;
		if (!deadline_left_ms(deadline)) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "the migration was never active, but %s", status ?: "nothing");
			return false;
		}
		g_usleep(2000);
	}
}

bool lab_journey_begin(const struct lab_journey *journey, struct lab_pair *pair, GError **error)
{
	if (!lab_pair_migrate(pair, error))
		return false;
	return journey->copy == LAB_COPY_PRE ||
	       (wait_active(lab_pair_source(pair), error) && lab_pair_start_postcopy(pair, error));
}

bool lab_journey_arrive(const struct lab_journey *journey, struct lab_pair *pair,
			unsigned timeout_ms, struct lab_migration *result, GError **error)
{
	struct lab_migration own;
	struct lab_migration *r = result ?: &own;
	bool ok;

	*r = (struct lab_migration){.destination_exit = -1};
	ok = lab_journey_begin(journey, pair, error) && lab_pair_wait(pair, timeout_ms, r, error);
	if (ok && (strcmp(r->status, "completed") || strcmp(r->destination_status, "completed"))) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
			    "the source says %s (%s), the destination %s with exit code %d (%s)",
			    r->status, r->source_error ?: "no reason", r->destination_status,
			    r->destination_exit, r->destination_error ?: "no reason");
		ok = false;
	}
	ok = ok && lab_vm_alive(lab_pair_destination(pair), timeout_ms, error);
	if (!result)
		lab_migration_clear(&own);
	return ok;
}

char *lab_vm_ending(struct lab_vm *vm, unsigned timeout_ms, GError **error)
{
	g_autoptr(GRegex) numbers = g_regex_new("0x[0-9a-f]+|-?[0-9]+", 0, 0, NULL);
	g_autofree char *said = NULL, *blanked = NULL;
	const char *last, *self;
	int status;

	if (!lab_vm_wait_exit(vm, timeout_ms, &status, error))
		return NULL;
	said = g_strchomp(lab_vm_stderr(vm));
	last = strrchr(said, '\n');
	last = last ? last + 1 : said;
	/* What stands before differs: a path, or the loader's. What loadvm says at the start is no
	 * end. */
	self = strstr(last, "qemu-system");
	last = g_str_has_prefix(last, "loadvm: ") ? "" : self ?: last;
	blanked = g_regex_replace_literal(numbers, last, -1, 0, "N", 0, NULL);
	return g_strdup_printf("exit %d: %s", status, *blanked ? blanked : "nothing said");
}

const char *const *lab_policies(void)
{
	static char **policies;
	g_autoptr(GStrvBuilder) names = g_strv_builder_new();
	const char *argv[] = {lab_program("loadvm"), "--list", NULL};
	g_autofree char *out = NULL;
	g_auto(GStrv) lines = NULL;

	if (policies)
		return (const char *const *)policies;
	if (argv[0] && g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out,
				    NULL, NULL, NULL))
		lines = g_strsplit(out, "\n", -1);
	for (char **line = lines; line && *line; line++) {
		g_autofree char *name = g_strndup(*line, strcspn(*line, " "));

		/* A line that begins with a blank goes on with the one before. */
		if (*name)
			g_strv_builder_add(names, name);
	}
	policies = g_strv_builder_end(names);
	return (const char *const *)policies;
}
