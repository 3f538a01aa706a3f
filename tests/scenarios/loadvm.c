/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMs that arrive at a QEMU under loadvm: they go on there; quit and SIGTERM are answered wherever
 * the stream stalls; whatever fails, fails as it does on stock. What a stall does to the monitor is
 * tests/scenarios/stall.c; how loadvm gets into a process is tests/scenarios/loadvm-start.c.
 */
#include <fcntl.h>
#include <libelf.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/journey.h"
#include "analyzers/lab/lab.h"
#include "runtime/thread/core.h"
#include "tests/scenarios/ending.h"
#include "tests/scenarios/stall.h"
#include "tests/scenarios/threads.h"

enum {
	CHANNELS = 2,
	STALL_MS = 20000, /* longer than any test: it ends when the pair goes */
	FIRED_MS = 20000,
	/* Ours is 200 ms (the bench's row); an idle stock QEMU with its devices takes about 100. */
	QUIT_MS = 1000,
	DONE_MS = 60000,
	ALIVE_MS = 10000,
};

static const char *const versions[] = {"7.2", "10.0", "11.1"};

struct cell {
	const char *version;
	const char *policy; /* NULL: the destination starts without loadvm */
	enum lab_stall_place place;
	bool multifd;
	int signal; /* 0: QMP quit */
	enum lab_fault fault;
	bool kill_source;
};

static struct lab_rule rule_for(const struct cell *cell)
{
	struct lab_rule rule = {
		.channel = LAB_CHANNEL_MAIN,
		.fault = cell->fault,
		.stall_ms = STALL_MS,
		/* What the proxy had taken in would arrive although the source is gone. */
		.hoard = cell->fault == LAB_FAULT_STALL && !cell->kill_source,
	};

	switch (cell->place) {
	case LAB_STALL_DEVICE:
		rule.section = LAB_SECTION_NET;
		rule.offset_bytes = 64;
		break;
	case LAB_STALL_MULTIFD:
		rule.channel = LAB_CHANNEL_MULTIFD;
		rule.nth = 1;
		rule.offset_bytes = 1 << 20;
		break;
	default:
		rule.offset_bytes = 4 << 20;
		break;
	}
	return rule;
}

static struct lab_pair *pair_new(const struct cell *cell, struct lab_pair_options *options,
				 GError **error)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", cell->policy, "--", NULL};
	struct lab_rule rule = rule_for(cell);

	g_assert_nonnull(launcher[0]);
	options->vm.version = cell->version;
	options->vm.devices = LAB_DEVICES_DOZEN;
	options->vm.guest = true;
	options->vm.fill_mib = 24;
	options->vm.dirty_mib = 4;
	if (cell->policy)
		options->destination_launcher = launcher;
	if (cell->multifd || cell->place == LAB_STALL_MULTIFD)
		options->multifd = CHANNELS;
	if (cell->place != LAB_STALL_NOWHERE) {
		options->rules = &rule;
		options->n_rules = 1;
	}
	return lab_pair_new(options, error);
}

/* As a tracer would: the symbol in the file of the core library that the process maps. */
static void read_status(pid_t pid, struct loadvm_status *status)
{
	g_autofree char *maps_path = g_strdup_printf("/proc/%d/maps", pid);
	g_autofree char *mem_path = g_strdup_printf("/proc/%d/mem", pid);
	int mem = open(mem_path, O_RDONLY | O_CLOEXEC);
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;
	unsigned long long base = 0;
	uint64_t vaddr = 0;
	char *path = NULL;
	Elf_Scn *section = NULL;
	Elf *elf;
	int file;

	g_assert_true(g_file_get_contents(maps_path, &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (char **line = lines; *line && !path; line++)
		if (g_str_has_suffix(*line, "/libloadvm-core.so")) {
			base = strtoull(*line, NULL, 16);
			path = strchr(*line, '/');
		}
	g_assert_nonnull(path);
	file = open(path, O_RDONLY | O_CLOEXEC);
	elf_version(EV_CURRENT);
	elf = elf_begin(file, ELF_C_READ, NULL);
	while ((section = elf_nextscn(elf, section))) {
		Elf64_Shdr *header = elf64_getshdr(section);
		Elf_Data *data;

		if (header->sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (size_t i = 0; i < data->d_size / sizeof(Elf64_Sym); i++) {
			const Elf64_Sym *sym = (const Elf64_Sym *)data->d_buf + i;

			if (!strcmp(elf_strptr(elf, header->sh_link, sym->st_name),
				    "loadvm_status")) {
				g_assert_cmpuint(sym->st_size, ==, sizeof(*status));
				vaddr = sym->st_value;
			}
		}
	}
	g_assert_cmpuint(vaddr, >, 0);
	g_assert_cmpint(pread(mem, status, sizeof(*status), (off_t)(base + vaddr)), ==,
			sizeof(*status));
	elf_end(elf);
	close(file);
	close(mem);
}

/* ---- they arrive ---- */

static void test_arrives(const void *data)
{
	const struct cell *cell = data;
	struct lab_pair_options options = {0};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct loadvm_status status;
	struct lab_migration result;
	struct lab_vm *there;
	bool thread = strcmp(cell->policy, "stock") != 0;

	pair = pair_new(cell, &options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	there = lab_pair_destination(pair);
	read_status(lab_vm_pid(there), &status);
	g_assert_cmpuint(status.version, ==, LOADVM_STATUS_VERSION);
	g_assert_cmpstr(status.policy, ==, cell->policy);
	g_assert_cmpint(status.detours > 0, ==, thread);

	g_assert_true(lab_pair_migrate(pair, &error));
	/* A stall holds the stream still, to look at the thread while it certainly runs. */
	if (cell->place != LAB_STALL_NOWHERE) {
		g_assert_true(lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, &error));
		lab_proxy_settle(lab_pair_proxy(pair));
		g_assert_true(await_thread(lab_vm_pid(there), "mig/dst/main", thread));
		lab_proxy_release(lab_pair_proxy(pair), 0);
	}
	g_assert_true(lab_pair_wait(pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_true(lab_vm_alive(there, ALIVE_MS, &error));
	g_assert_no_error(error);
	g_assert_true(await_thread(lab_vm_pid(there), "mig/dst/main", false));
	read_status(lab_vm_pid(there), &status);
	g_assert_cmpint(status.drops > 0, ==, thread);
	g_test_message("lock dropped %" G_GUINT64_FORMAT " times, waited for %" G_GUINT64_FORMAT
		       " times, stood back for %.2f ms at most",
		       status.drops, status.contended, status.handoff_max_ns / 1e6);
	lab_migration_clear(&result);
}

/* seccomp forbids what QEMU promised not to need; the runtime must not need it either. */
static void test_sandbox(const void *data)
{
	static const char *const args[] = {
		"-sandbox", "on,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", NULL};
	const struct cell *cell = data;
	struct lab_pair_options options = {.destination_args = args};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct lab_migration result;

	pair = pair_new(cell, &options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_pair_wait(pair, DONE_MS, &result, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(result.status, ==, "completed");
	g_assert_true(lab_vm_alive(lab_pair_destination(pair), ALIVE_MS, &error));
	g_assert_no_error(error);
	lab_migration_clear(&result);
}

static void test_postcopy(const void *data)
{
	static const char *const capabilities[] = {"postcopy-ram", NULL};
	const struct cell *cell = data;
	/* Slow enough that postcopy begins with RAM still missing. */
	struct lab_pair_options options = {
		.capabilities = capabilities,
		.max_bandwidth = 10 << 20,
		.parameters = "'max-postcopy-bandwidth': 0",
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	const struct lab_journey journey = {.copy = LAB_COPY_POST};

	pair = pair_new(cell, &options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(lab_journey_arrive(&journey, pair, DONE_MS, NULL, &error));
	g_assert_no_error(error);
}

/* A freeze lasts as long as the stall. */
static void no_freeze(const struct lab_stall_result *result)
{
	g_assert_cmpuint(result->monitor.p50_ns, <, 100 * MS);
}

/* 7.2 and 10.0 are stall.c's, with what a noisy machine means there. */
static void test_stall(const void *data)
{
	enum { NOISE_MS = 30 };
	const struct cell *cell = data;
	const struct lab_stall_options options = {
		.version = cell->version,
		.policy = cell->policy,
		.place = cell->place,
		.stall_ms = 1500,
	};
	struct lab_stall_result result;

	if (stall_shown(&options, NOISE_MS, no_freeze, &result))
		g_assert_cmpuint(result.monitor.max_ns, <=, result.idle.max_ns + 100 * MS);
}

/* ---- they do not ---- */

/* Told by QMP, or by a signal: it ends well, and at once but for what the machine stood still. */
static void expect_end(struct lab_vm *vm, int signal)
{
	g_autoptr(GError) error = NULL;
	struct ending end;

	tell_to_end(vm, signal, 10000, &end, &error);
	g_assert_no_error(error);
	g_assert_cmpint(end.status, ==, 0);
	g_assert_cmpuint(end.took_ns, <, QUIT_MS * MS + end.still_ns);
}

static void test_quit(const void *data)
{
	const struct cell *cell = data;
	struct lab_pair_options options = {0};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *said = NULL;
	struct lab_vm *there;

	pair = pair_new(cell, &options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	there = lab_pair_destination(pair);
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, &error));
	g_assert_true(await_thread(lab_vm_pid(there), "mig/dst/main", true));
	lab_proxy_settle(lab_pair_proxy(pair));

	expect_end(there, cell->signal);
	said = lab_vm_stderr(there);
	g_assert_null(strstr(said, "did not come to rest"));
	g_assert_null(strstr(said, "load of migration failed"));
}

/*
 * A pipe cannot be shut down: the thread stays where it waits, and QEMU quits all the same. The
 * stream stops in the middle of the machine's description, before RAM.
 */
static void test_quit_pipe(const void *data)
{
	const struct cell *cell = data;
	const char *launcher[] = {lab_program("loadvm"), "--policy", cell->policy, "--", NULL};
	const struct lab_vm_options options = {
		.version = cell->version,
		.launcher = launcher,
		.incoming = "exec:printf 'QEVM\\000\\000\\000\\003\\007'; exec sleep 60",
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);

	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(await_thread(lab_vm_pid(vm), "mig/dst/main", true));
	expect_end(vm, 0);
}

/* How the destination ends: its exit code and what it says last, numbers and addresses blanked. */
static char *ending(const struct cell *cell, GError **error)
{
	struct lab_pair_options options = {0};
	g_autoptr(lab_pair) pair = pair_new(cell, &options, error);
	g_autoptr(GRegex) numbers = g_regex_new("0x[0-9a-f]+|-?[0-9]+", 0, 0, NULL);
	g_autofree char *said = NULL;
	g_auto(GStrv) lines = NULL;
	struct lab_vm *there;
	int status;
	size_t n;

	if (!pair)
		return NULL;
	there = lab_pair_destination(pair);
	if (!lab_pair_migrate(pair, error) ||
	    !lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, error))
		return NULL;
	if (cell->kill_source) {
		lab_proxy_settle(lab_pair_proxy(pair));
		lab_vm_kill(lab_pair_source(pair), SIGKILL);
		lab_proxy_release(lab_pair_proxy(pair), 0);
	}
	if (!lab_vm_wait_exit(there, 10000, &status, error))
		return NULL;
	said = lab_vm_stderr(there);
	g_test_message("exit %d: %s", status, said);
	lines = g_strsplit(g_strchomp(said), "\n", -1);
	n = g_strv_length(lines);
	g_autofree char *last =
		g_regex_replace_literal(numbers, n ? lines[n - 1] : "", -1, 0, "N", 0, NULL);
	return g_strdup_printf("%d %s", status, strstr(last, "qemu") ?: last);
}

static void test_fails_as_stock(const void *data)
{
	const struct cell *cell = data;
	struct cell stock = *cell;
	g_autofree char *ours = NULL, *theirs = NULL;
	g_autoptr(GError) error = NULL;

	stock.policy = NULL;
	theirs = ending(&stock, &error);
	if (!theirs && lab_skip(error))
		return;
	g_assert_no_error(error);
	ours = ending(cell, &error);
	g_assert_no_error(error);
	g_assert_cmpstr(ours, ==, theirs);
	g_assert_true(g_str_has_prefix(ours, "1 "));
}

/* ---- debuggers ---- */

/* Stalled inside a replacement, in QEMU's own thread: the whole stack is to be seen, both ways. */
static void test_gdb(const void *data)
{
	const struct cell *cell = data;
	struct lab_pair_options options = {0};
	g_autofree char *gdb = g_find_program_in_path("gdb");
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	g_autofree char *attach = NULL, *out = NULL;
	const char *thread, *frame;
	/* From the innermost outwards. */
	static const char *const frames[] = {"in load_channel_wait", "in detour_enter",
					     "in load_thread", "in start_thread"};

	if (!gdb) {
		g_test_skip("gdb is not installed");
		return;
	}
	pair = pair_new(cell, &options, &error);
	if (!pair && lab_skip(error))
		return;
	g_assert_no_error(error);
	g_assert_true(lab_pair_migrate(pair, &error));
	g_assert_true(lab_proxy_wait_fired(lab_pair_proxy(pair), 0, FIRED_MS, &error));
	lab_proxy_settle(lab_pair_proxy(pair));
	attach = g_strdup_printf("attach %d", lab_vm_pid(lab_pair_destination(pair)));

	const char *argv[] = {gdb,
			      "-nx",
			      "-batch",
			      "-ex",
			      "set debuginfod enabled off",
			      "-ex",
			      attach,
			      "-ex",
			      "thread apply all bt",
			      "-ex",
			      "detach",
			      NULL};

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL,
				   NULL, &out, NULL, NULL, &error));
	thread = strstr(out, "\"mig/dst/main\"");
	g_assert_nonnull(thread);
	frame = thread;
	for (size_t i = 0; i < G_N_ELEMENTS(frames); i++) {
		const char *next = strstr(frame, frames[i]);

		if (!next)
			g_test_message("%.6000s", thread);
		g_assert_nonnull(next);
		frame = next;
	}
	frame = strstr(thread, "\n\n");
	g_test_message("%.*s", frame ? (int)(frame - thread) : 4000, thread);
}

/* ---- the table ---- */

#define CELL(v, p, where, ...)                                                                     \
	((struct cell){.version = v, .policy = p, .place = where, ##__VA_ARGS__})

static void add(const char *what, struct cell cell, void (*fn)(const void *))
{
	static const char *const places[LAB_STALL_PLACES] = {"-", "ram", "device", "multifd"};
	g_autofree char *path = g_strdup_printf("/loadvm/%s/%s/%s/%s", what, cell.version,
						cell.policy, places[cell.place]);
	g_autofree char *full = g_strconcat(path, cell.signal ? "-sigterm" : "",
					    cell.multifd ? "-two-channels" : "", NULL);

	g_test_add_data_func_full(full, g_memdup2(&cell, sizeof(cell)), fn, g_free);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		const char *q = versions[v];

		add("arrives", CELL(q, "stock", LAB_STALL_RAM), test_arrives);
		add("arrives", CELL(q, "wait", LAB_STALL_DEVICE), test_arrives);
		add("arrives", CELL(q, "wait", LAB_STALL_MULTIFD), test_arrives);
		add("arrives", CELL(q, "io-free", LAB_STALL_NOWHERE), test_arrives);
		add("arrives", CELL(q, "io-free", LAB_STALL_NOWHERE, .multifd = true),
		    test_arrives);
		add("sandbox", CELL(q, "io-free", LAB_STALL_NOWHERE), test_sandbox);
		add("postcopy", CELL(q, "io-free", LAB_STALL_NOWHERE), test_postcopy);
		for (int place = LAB_STALL_RAM; place <= LAB_STALL_MULTIFD; place++) {
			add("quit", CELL(q, "io-free", place), test_quit);
			add("quit", CELL(q, "wait", place, .signal = SIGTERM), test_quit);
		}
		add("quit-pipe", CELL(q, "io-free", LAB_STALL_NOWHERE), test_quit_pipe);
		add("killed-source", CELL(q, "io-free", LAB_STALL_RAM, .kill_source = true),
		    test_fails_as_stock);
		add("cut-stream", CELL(q, "io-free", LAB_STALL_DEVICE, .fault = LAB_FAULT_FIN),
		    test_fails_as_stock);
	}
	for (int place = LAB_STALL_RAM; place <= LAB_STALL_MULTIFD; place++)
		add("stall", CELL("11.1", "io-free", place), test_stall);
	add("gdb", CELL("7.2", "io-free", LAB_STALL_RAM), test_gdb);
	add("gdb", CELL("10.0", "io-free", LAB_STALL_DEVICE), test_gdb);
	return g_test_run();
}
