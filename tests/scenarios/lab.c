/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lab itself, on real QEMUs: pairs migrate and their guest goes on, faults hit where they
 * should, and the poller sees the freeze that stock QEMUs are known to have.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"

#define PATIENCE_MS 30000
#define STALL_MS    1000
#define MS	    1000000ULL

static const char *const versions[] = {"7.2", "10.0"};

static struct lab_pair_options options_for(const char *version)
{
	return (struct lab_pair_options){
		.vm =
			{
				.version = version,
				.devices = LAB_DEVICES_DOZEN,
				.guest = true,
				.fill_mib = 64,
			},
	};
}

/* A started pair, or NULL when the test has been skipped. */
static struct lab_pair *start(const struct lab_pair_options *options)
{
	g_autoptr(GError) error = NULL;
	struct lab_pair *pair = lab_pair_new(options, &error);

	if (!pair && !lab_skip(error))
		g_assert_no_error(error);
	return pair;
}

static void migrate(struct lab_pair *pair, struct lab_migration *result)
{
	g_autoptr(GError) error = NULL;

	lab_pair_migrate(pair, &error);
	g_assert_no_error(error);
	lab_pair_wait(pair, PATIENCE_MS, result, &error);
	g_assert_no_error(error);
	g_test_message("%s, destination %s, total %" G_GINT64_FORMAT
		       " ms, downtime %" G_GINT64_FORMAT " ms, %" G_GINT64_FORMAT " bytes",
		       result->status, result->destination_status, result->total_time_ms,
		       result->downtime_ms, result->transferred_bytes);
}

static void assert_arrived(struct lab_pair *pair, const struct lab_migration *result)
{
	g_autoptr(JsonNode) status = NULL;
	g_autoptr(GError) error = NULL;

	g_assert_cmpstr(result->status, ==, "completed");
	g_assert_cmpstr(result->destination_status, ==, "completed");
	g_assert_cmpint(result->destination_exit, ==, -1);
	g_assert_null(result->source_error);
	lab_vm_alive(lab_pair_destination(pair), PATIENCE_MS, &error);
	g_assert_no_error(error);
	status = lab_qmp(lab_pair_destination(pair), &error, "query-status");
	g_assert_cmpstr(lab_json_string(status, "status"), ==, "running");
	/* The guest is in one place only. */
	g_assert_false(lab_vm_alive(lab_pair_source(pair), 200, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT);
}

static void move(const struct lab_pair_options *options)
{
	g_autoptr(lab_pair) pair = start(options);
	struct lab_migration result;

	if (!pair)
		return;
	migrate(pair, &result);
	assert_arrived(pair, &result);
	/* 64 MiB of pages that are not zero cannot have gone in less. */
	g_assert_cmpint(result.transferred_bytes, >, 64 << 20);
	lab_migration_clear(&result);
}

static void precopy(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);

	move(&options);
}

static void multifd(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);
	g_autoptr(lab_pair) pair = NULL;
	struct lab_connection c;
	struct lab_migration result;
	unsigned n = 0, main_channels = 0;
	uint64_t bytes = 0;

	options.multifd = 2;
	options.proxy = true;
	pair = start(&options);
	if (!pair)
		return;
	migrate(pair, &result);
	assert_arrived(pair, &result);
	lab_migration_clear(&result);
	for (; lab_proxy_connection(lab_pair_proxy(pair), n, &c); n++) {
		main_channels += c.channel == LAB_CHANNEL_MAIN;
		if (c.channel == LAB_CHANNEL_MULTIFD)
			bytes += c.forward_bytes;
	}
	g_assert_cmpuint(n, ==, 3);
	g_assert_cmpuint(main_channels, ==, 1);
	g_assert_cmpuint(bytes, >, 64 << 20);
}

static void unix_socket(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);

	options.way = LAB_WAY_UNIX;
	move(&options);
}

static void between_versions(void)
{
	struct lab_pair_options options = options_for("7.2");

	options.destination_version = "10.0";
	move(&options);
}

/*
 * What a stall does to the monitor of a stock destination, with the idle control beside it. False:
 * skipped.
 */
static bool stall_once(const struct lab_pair_options *options, struct lab_latency *monitor,
		       struct lab_latency *idle)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autoptr(lab_vm) quiet = NULL;
	g_autoptr(lab_poller) monitor_poller = NULL, idle_poller = NULL;
	struct lab_migration result;
	uint64_t begin, arrived, fired;

	*monitor = *idle = (struct lab_latency){0};
	pair = start(options);
	if (!pair)
		return false;
	quiet = lab_vm_new_idle(options->vm.version, &error);
	g_assert_no_error(error);
	monitor_poller = lab_poller_new(lab_pair_destination(pair), &error);
	g_assert_no_error(error);
	idle_poller = lab_poller_new(quiet, &error);
	g_assert_no_error(error);
	begin = lab_now_ns();
	migrate(pair, &result);
	arrived = lab_now_ns();
	assert_arrived(pair, &result);
	lab_migration_clear(&result);
	/* The source may have written all it had; the destination cannot have read it. */
	g_assert_cmpuint(arrived - begin, >=, STALL_MS * MS);
	fired = lab_proxy_fired_ns(lab_pair_proxy(pair), 0);
	g_assert_cmpuint(fired, >, 0);
	lab_poller_stop(monitor_poller, NULL);
	lab_poller_stop(idle_poller, NULL);
	lab_poller_window(monitor_poller, fired, fired + STALL_MS * MS, monitor);
	lab_poller_window(idle_poller, fired, fired + STALL_MS * MS, idle);
	g_test_message("during the stall, ms: monitor n %" G_GUINT64_FORMAT
		       " p50 %.1f p99 %.1f max %.1f; idle n %" G_GUINT64_FORMAT
		       " p50 %.1f p99 %.1f max %.1f",
		       monitor->n, monitor->p50_ns / 1e6, monitor->p99_ns / 1e6,
		       monitor->max_ns / 1e6, idle->n, idle->p50_ns / 1e6, idle->p99_ns / 1e6,
		       idle->max_ns / 1e6);
	return true;
}

/*
 * The same, on a machine that does not itself stand still meanwhile: then an idle QEMU answers late
 * too, and a client asks less often.
 */
static bool stall(const struct lab_pair_options *options, struct lab_latency *monitor,
		  struct lab_latency *idle)
{
	enum { ATTEMPTS = 4, NOISE_MS = 50 };

	for (int i = 0; i < ATTEMPTS; i++) {
		if (!stall_once(options, monitor, idle))
			return false;
		if (idle->max_ns < NOISE_MS * MS)
			break;
	}
	g_assert_cmpuint(monitor->n, >, 100);
	g_assert_cmpuint(idle->n, >, 100);
	return true;
}

/* The known stock defect: the main loop waits for the stalled channel with the lock held. */
static void stall_multifd(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MULTIFD,
		.nth = 1,
		.offset_bytes = 1 << 20,
		.hoard = true,
		.fault = LAB_FAULT_STALL,
		.stall_ms = STALL_MS,
	};
	struct lab_latency monitor, idle;

	options.multifd = 2;
	options.rules = &rule;
	options.n_rules = 1;
	if (!stall(&options, &monitor, &idle))
		return;
	g_assert_cmpuint(monitor.max_ns, >=, STALL_MS * 8 / 10 * MS);
	/* An open-loop client: half of a freeze's requests wait for half of it or longer. */
	g_assert_cmpuint(monitor.p50_ns, >=, STALL_MS / 3 * MS);
	g_assert_cmpuint(idle.max_ns, <, STALL_MS / 2 * MS);
}

/* On the main channel the stock coroutine yields: the monitor answers all along. */
static void stall_main(const char *version, const char *section, uint64_t offset_bytes)
{
	struct lab_pair_options options = options_for(version);
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.section = section,
		.offset_bytes = offset_bytes,
		.fault = LAB_FAULT_STALL,
		.stall_ms = STALL_MS,
	};
	struct lab_latency monitor, idle;

	options.rules = &rule;
	options.n_rules = 1;
	if (stall(&options, &monitor, &idle))
		g_assert_cmpuint(monitor.p50_ns, <, STALL_MS / 4 * MS);
}

static void stall_ram(gconstpointer version)
{
	stall_main(version, NULL, 8 << 20);
}

static void stall_device(gconstpointer version)
{
	stall_main(version, LAB_SECTION_NET, 64);
}

/* A cut stream: the source says so and its guest goes on, the destination gives up with status 1.
 */
static void cut(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.offset_bytes = 8 << 20,
		.fault = LAB_FAULT_RESET,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;

	options.rules = &rule;
	options.n_rules = 1;
	pair = start(&options);
	if (!pair)
		return;
	migrate(pair, &result);
	g_assert_cmpstr(result.status, ==, "failed");
	g_assert_cmpstr(result.destination_status, ==, "exited");
	g_assert_cmpint(result.destination_exit, ==, 1);
	g_assert_nonnull(result.destination_error);
	g_test_message("%s", result.destination_error);
	lab_migration_clear(&result);
	lab_vm_alive(lab_pair_source(pair), PATIENCE_MS, &error);
	g_assert_no_error(error);
}

/* Half-open: nobody is told anything; the answer of the source to a cancel still comes. */
static void half_open(gconstpointer version)
{
	struct lab_pair_options options = options_for(version);
	const struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.offset_bytes = 8 << 20,
		.fault = LAB_FAULT_HALF_OPEN,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;
	int code;

	/* Else a source that is slow to begin may be at its end, with the lock, when it can send no
	 * more. */
	options.downtime_limit_ms = 1;
	options.rules = &rule;
	options.n_rules = 1;
	pair = start(&options);
	if (!pair)
		return;
	lab_pair_migrate(pair, &error);
	g_assert_no_error(error);
	lab_proxy_wait_fired(lab_pair_proxy(pair), 0, PATIENCE_MS, &error);
	g_assert_no_error(error);
	g_assert_false(lab_pair_wait(pair, 300, &result, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT);
	g_clear_error(&error);
	lab_qmp_ok(lab_pair_source(pair), &error, "migrate_cancel");
	g_assert_no_error(error);
	lab_pair_wait(pair, PATIENCE_MS, &result, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "cancelled");
	g_assert_cmpstr(result.destination_status, ==, "active");
	lab_migration_clear(&result);
	lab_vm_quit(lab_pair_destination(pair), PATIENCE_MS, &code, &error);
	g_assert_no_error(error);
	g_assert_cmpint(code, ==, 0);
}

/* A proof of life that could not fail would be none: spoil one page under a running guest. */
static void lost_page(gconstpointer version)
{
	const struct lab_vm_options options = {.version = version, .guest = true};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	g_autofree char *says = NULL, *path = NULL;
	const char *address;
	uint64_t begin;
	int memory;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	/* HMP says where in QEMU the guest's third MiB lies. */
	says = lab_hmp(vm, &error, "gpa2hva 0x200000");
	g_assert_no_error(error);
	address = strstr(says, "is 0x");
	g_assert_nonnull(address);
	path = g_strdup_printf("/proc/%d/mem", lab_vm_pid(vm));
	memory = open(path, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(memory, >=, 0);
	g_assert_true(lab_vm_alive(vm, PATIENCE_MS, &error));
	g_assert_cmpint(pwrite(memory, "spoilt", 6, g_ascii_strtoull(address + 3, NULL, 16)), ==,
			6);
	close(memory);
	begin = lab_now_ns();
	while (lab_vm_alive(vm, PATIENCE_MS, &error))
		g_assert_cmpuint(lab_now_ns() - begin, <, PATIENCE_MS * MS);
	g_assert_error(error, LAB_ERROR, LAB_ERROR_IO);
}

static void events_and_errors(gconstpointer version)
{
	const struct lab_vm_options options = {.version = version, .guest = true};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	g_autoptr(JsonNode) event = NULL;
	int code;

	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(lab_qmp_ok(vm, &error, "stop"));
	event = lab_qmp_event(vm, "STOP", PATIENCE_MS, &error);
	g_assert_no_error(error);
	g_assert_nonnull(event);
	g_assert_null(lab_qmp_event(vm, "STOP", 50, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT);
	g_clear_error(&error);
	g_assert_false(lab_vm_alive(vm, 200, &error));
	g_clear_error(&error);
	g_assert_false(lab_qmp_ok(vm, &error, "no-such-command"));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_QMP);
	g_clear_error(&error);
	g_assert_true(lab_vm_quit(vm, PATIENCE_MS, &code, &error));
	g_assert_cmpint(code, ==, 0);
	g_assert_false(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_EXITED);
}

/* A QEMU that cannot start: the error is QEMU's own. */
static void bad_option(void)
{
	const struct lab_vm_options options = {
		.args = (const char *const[]){"-device", "no-such-device", NULL}};
	g_autoptr(GError) error = NULL;

	g_assert_null(lab_vm_new(&options, &error));
	if (lab_skip(error))
		return;
	g_assert_error(error, LAB_ERROR, LAB_ERROR_EXITED);
	g_assert_nonnull(strstr(error->message, "no-such-device"));
}

static void unknown_version(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(lab_vm_new(&(struct lab_vm_options){.version = "0.1"}, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE);
}

static void one_gib(void)
{
	const struct lab_vm_options options = {
		.guest = true, .memory_mib = 1030, .fill_mib = 1024, .timeout_ms = PATIENCE_MS};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = NULL;
	g_autofree char *path = NULL, *statm = NULL;
	uint64_t begin = lab_now_ns(), resident;

	vm = lab_vm_new(&options, &error);
	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	path = g_strdup_printf("/proc/%d/statm", lab_vm_pid(vm));
	g_assert_true(g_file_get_contents(path, &statm, NULL, NULL));
	resident = g_ascii_strtoull(strchr(statm, ' '), NULL, 10) * sysconf(_SC_PAGESIZE);
	g_test_message("1 GiB filled in %.1f s, %.0f MiB resident", (lab_now_ns() - begin) / 1e9,
		       resident / 1048576.0);
	g_assert_cmpuint(resident, >, 1ULL << 30);
}

/* A test that aborts leaves no QEMU behind. */
static void abort_leaves_nothing(void)
{
	int channel[2];
	pid_t child, qemu = 0;
	bool gone = false;

	g_assert_cmpint(pipe(channel), ==, 0);
	child = fork();
	if (!child) {
		const struct rlimit no_core = {0};
		struct lab_vm *vm = lab_vm_new(&(struct lab_vm_options){.guest = true}, NULL);

		qemu = vm ? lab_vm_pid(vm) : -1;
		setrlimit(RLIMIT_CORE, &no_core);
		if (write(channel[1], &qemu, sizeof(qemu)) == sizeof(qemu))
			abort();
		_exit(1);
	}
	close(channel[1]);
	g_assert_cmpint(read(channel[0], &qemu, sizeof(qemu)), ==, sizeof(qemu));
	close(channel[0]);
	g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
	if (qemu < 0) {
		g_test_skip("no QEMU 7.2 on this system");
		return;
	}
	for (unsigned i = 0; i < 500 && !gone; i++) {
		g_autofree char *path = g_strdup_printf("/proc/%d/stat", qemu);
		g_autofree char *stat = NULL;

		gone = !g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z ");
		g_usleep(10000);
	}
	g_assert_true(gone);
}

static const struct {
	const char *name;
	void (*run)(gconstpointer version);
} scenarios[] = {
	{"precopy", precopy},
	{"multifd", multifd},
	{"unix-socket", unix_socket},
	{"stall-multifd", stall_multifd},
	{"stall-ram", stall_ram},
	{"stall-device", stall_device},
	{"cut", cut},
	{"half-open", half_open},
	{"lost-page", lost_page},
	{"events-and-errors", events_and_errors},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned v = 0; v < G_N_ELEMENTS(versions); v++) {
		for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
			g_autofree char *path =
				g_strdup_printf("/lab/%s/%s", versions[v], scenarios[i].name);

			g_test_add_data_func(path, versions[v], scenarios[i].run);
		}
	}
	g_test_add_func("/lab/between-versions", between_versions);
	g_test_add_func("/lab/bad-option", bad_option);
	g_test_add_func("/lab/unknown-version", unknown_version);
	g_test_add_func("/lab/one-gib", one_gib);
	g_test_add_func("/lab/abort-leaves-nothing", abort_leaves_nothing);
	return g_test_run();
}
