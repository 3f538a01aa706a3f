/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The coroutine and the thread end equal: a stopped VM with many devices is written to a file once,
 * a stock QEMU and one under loadvm load that very file, and everything that a monitor can say of
 * the two is compared, guest RAM byte by byte.
 */
#include <unistd.h>

#include "tests/scenarios/arrival.h"

enum {
	RAM_MIB = 128,
	FILL_MIB = 24,
	CPUS = 4,
	POLL_US = 5000,
};

#define EQUAL	"equal"
#define UNEQUAL "unequal"

static int by_line(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What HMP says, its lines sorted when their order means nothing. */
static char *hmp(struct lab_vm *vm, const char *command, bool sorted, GError **error)
{
	g_autofree char *said = lab_hmp(vm, error, "%s", command);
	g_auto(GStrv) lines = NULL;

	if (!said || !sorted)
		return g_steal_pointer(&said);
	lines = g_strsplit(said, "\n", -1);
	qsort(lines, g_strv_length(lines), sizeof(*lines), by_line);
	return g_strjoinv("\n", lines);
}

/* query-cpus-fast without the one thing that must differ. */
static char *cpus(struct lab_vm *vm, GError **error)
{
	g_autoptr(JsonNode) answer = lab_qmp(vm, error, "query-cpus-fast");
	JsonArray *array;

	if (!answer)
		return NULL;
	array = json_node_get_array(answer);
	for (guint i = 0; i < json_array_get_length(array); i++)
		json_object_remove_member(json_array_get_object_element(array, i), "thread-id");
	return json_to_string(answer, TRUE);
}

static const struct {
	const char *command;
	bool sorted;
	size_t least; /* bytes: less cannot be a device-heavy machine's answer */
} dumps[] = {
	{"info mtree -f", true, 10000}, {"info registers -a", false, 4000},
	{"info qtree", false, 10000},	{"info pic", false, 100},
	{"info lapic 0", false, 100},	{"info pci", false, 2000},
	{"info irq", false, 0},		{"info usb", false, 10},
	{"info status", false, 10},
};

/* A place in two texts where they part, to show. */
static char *difference(const char *what, const char *a, const char *b)
{
	g_auto(GStrv) ours = g_strsplit(a, "\n", -1), theirs = g_strsplit(b, "\n", -1);
	size_t i = 0;

	while (ours[i] && theirs[i] && !strcmp(ours[i], theirs[i]))
		i++;
	return g_strdup_printf("%s, line %zu: \"%s\", stock \"%s\"", what, i + 1, ours[i] ?: "",
			       theirs[i] ?: "");
}

static GMappedFile *dump_ram(struct lab_vm *vm, GError **error)
{
	g_autofree char *path = g_strdup_printf("%s/ram-%d", lab_tmpdir(), lab_vm_pid(vm));
	GMappedFile *file = NULL;

	if (lab_qmp_ok(vm, error, "pmemsave {'val': 0, 'size': %d, 'filename': '%s'}",
		       RAM_MIB << 20, path))
		file = g_mapped_file_new(path, FALSE, error);
	unlink(path);
	return file;
}

static char *compare_ram(struct lab_vm *ours, struct lab_vm *theirs, GError **error)
{
	g_autoptr(GMappedFile) a = dump_ram(ours, error), b = a ? dump_ram(theirs, error) : NULL;
	static const char zero[4096];
	const char *x, *y;
	size_t nonzero = 0;

	if (!b)
		return NULL;
	g_assert_cmpuint(g_mapped_file_get_length(a), ==, RAM_MIB << 20);
	g_assert_cmpuint(g_mapped_file_get_length(b), ==, RAM_MIB << 20);
	x = g_mapped_file_get_contents(a);
	y = g_mapped_file_get_contents(b);
	for (size_t i = 0; i < RAM_MIB << 20; i += sizeof(zero)) {
		nonzero += memcmp(y + i, zero, sizeof(zero)) != 0;
		if (memcmp(x + i, y + i, sizeof(zero)))
			return g_strdup_printf("RAM differs in the page at 0x%zx", i);
	}
	/* Else the equality of nothing with nothing was shown. */
	g_assert_cmpuint(nonzero, >, FILL_MIB * 256);
	return g_strdup(EQUAL);
}

static char *compare(struct lab_vm *ours, struct lab_vm *theirs, GError **error)
{
	g_autofree char *a = cpus(ours, error), *b = a ? cpus(theirs, error) : NULL;

	if (!b)
		return NULL;
	if (strcmp(a, b))
		return difference("query-cpus-fast", a, b);
	for (size_t i = 0; i < G_N_ELEMENTS(dumps); i++) {
		g_autofree char *x = hmp(ours, dumps[i].command, dumps[i].sorted, error);
		g_autofree char *y =
			x ? hmp(theirs, dumps[i].command, dumps[i].sorted, error) : NULL;

		if (!y)
			return NULL;
		g_assert_cmpuint(strlen(y), >=, dumps[i].least);
		if (strcmp(x, y))
			return difference(dumps[i].command, x, y);
	}
	return compare_ram(ours, theirs, error);
}

static struct lab_vm_options vm_options(const struct cell *cell, const char *name)
{
	return (struct lab_vm_options){
		.name = name,
		.version = cell->version,
		.devices = LAB_DEVICES_DOZEN,
		.guest = true,
		.memory_mib = RAM_MIB,
		.fill_mib = FILL_MIB,
		.cpus = CPUS,
	};
}

static bool write_stopped(const struct cell *cell, const char *file, GError **error)
{
	const struct lab_vm_options options = vm_options(cell, "source");
	g_autoptr(lab_vm) source = lab_vm_new(&options, error);
	uint64_t end;

	if (!source || !lab_qmp_ok(source, error, "stop") ||
	    !lab_qmp_ok(source, error, "migrate {'uri': 'exec:cat > %s.part && mv %s.part %s'}",
			file, file, file))
		return false;
	end = lab_now_ns() + DONE_MS * MS;
	while (access(file, R_OK)) {
		if (lab_now_ns() > end) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "the source wrote no stream");
			return false;
		}
		g_usleep(POLL_US);
	}
	return true;
}

static struct lab_vm *load_stopped(const struct cell *cell, const char *policy, const char *file,
				   GError **error)
{
	const char *launcher[] = {lab_program("loadvm"), "--policy", policy, "--", NULL};
	struct lab_vm_options options = vm_options(cell, "destination");
	g_autoptr(lab_vm) vm = NULL;
	uint64_t end = lab_now_ns() + DONE_MS * MS;

	options.incoming = "defer";
	if (policy)
		options.launcher = launcher;
	vm = lab_vm_new(&options, error);
	if (!vm || !lab_qmp_ok(vm, error, "migrate-incoming {'uri': 'exec:cat %s'}", file))
		return NULL;
	for (;;) {
		g_autoptr(JsonNode) status = lab_qmp(vm, error, "query-status");

		if (!status)
			return NULL;
		if (!strcmp(lab_json_string(status, "status"), "paused"))
			return g_steal_pointer(&vm);
		if (lab_now_ns() > end) {
			g_set_error(error, LAB_ERROR, LAB_ERROR_TIMEOUT,
				    "the stopped VM did not arrive");
			return NULL;
		}
		g_usleep(POLL_US);
	}
}

/* One stream, loaded twice. */
static bool load_twice(const struct cell *cell, struct lab_vm **ours, struct lab_vm **theirs,
		       GError **error)
{
	static unsigned serial;
	g_autofree char *file = g_strdup_printf("%s/stopped-%u", lab_tmpdir(), serial++);

	if (write_stopped(cell, file, error)) {
		*theirs = load_stopped(cell, NULL, file, error);
		*ours = *theirs ? load_stopped(cell, cell->policy, file, error) : NULL;
	}
	unlink(file);
	return *ours;
}

static char *state(const struct cell *cell, GError **error)
{
	g_autoptr(lab_vm) ours = NULL, theirs = NULL;

	return load_twice(cell, &ours, &theirs, error) ? compare(ours, theirs, error) : NULL;
}

/* A comparison that cannot fail would be none: one of the two guests runs for some milliseconds. */
static char *after_a_while(const struct cell *cell, GError **error)
{
	g_autoptr(lab_vm) ours = NULL, theirs = NULL;
	g_autofree char *of_all = NULL, *of_ram = NULL;

	if (!load_twice(cell, &ours, &theirs, error) || !lab_qmp_ok(ours, error, "cont") ||
	    !lab_vm_alive(ours, DONE_MS, error) || !lab_qmp_ok(ours, error, "stop"))
		return NULL;
	of_all = compare(ours, theirs, error);
	of_ram = of_all ? compare_ram(ours, theirs, error) : NULL;
	if (!of_ram)
		return NULL;
	g_test_message("%s; %s", of_all, of_ram);
	return g_strdup(strcmp(of_all, EQUAL) && strcmp(of_ram, EQUAL) ? UNEQUAL : EQUAL);
}

static const struct scenario scenarios[] = {
	{"state", state, EQUAL, ON_BOTH | ON_11_1, false},
	{"after-a-while", after_a_while, UNEQUAL, ON_10_0, false},
};

int main(int argc, char **argv)
{
	/* Nothing is left to pairs here. */
	g_setenv("ARRIVAL", "all", TRUE);
	return arrival_main(argc, argv, "arrival-equal", scenarios, G_N_ELEMENTS(scenarios));
}
