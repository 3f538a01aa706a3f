/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime's USDT probes as libbpf attaches to them, on real QEMUs in mid-life: payloads,
 * semaphores, and a QEMU that goes on, in its sandbox too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "analyzers/lab/journey.h"
#include "tests/scenarios/recording.h"
#include "tests/scenarios/usdt.h"
#include "tests/scenarios/usdt.skel.h"

struct seen {
	GHashTable *sections, *devices; /* names */
	uint64_t section_bytes, records;
	int64_t result, longest_hold_ns;
	unsigned unknown;
	char *policy;
};

static int see(void *opaque, void *data, size_t size)
{
	const struct usdt_record *r = data;
	struct seen *s = opaque;

	g_assert_cmpuint(size, ==, sizeof(*r));
	s->records++;
	switch (r->kind) {
	case USDT_INCOMING_END:
		s->policy = g_strdup(r->text);
		s->result = r->number;
		break;
	case USDT_SECTION_END:
		g_hash_table_add(s->sections, g_strdup(r->text));
		s->section_bytes += (uint64_t)r->number;
		break;
	case USDT_VMSD_BEGIN:
		g_hash_table_add(s->devices, g_strdup(r->text));
		break;
	case USDT_LOCK_ACQUIRED:
		s->unknown += !strstr(r->text, ".c");
		break;
	case USDT_LOCK_RELEASED:
		s->longest_hold_ns = MAX(s->longest_hold_ns, r->number);
		break;
	}
	return 0;
}

/* False when one of them could not be attached; `links` has room for all. */
static bool attach(struct usdt_bpf *bpf, pid_t pid, struct bpf_link *links[USDT_KINDS])
{
	const char *path = lab_program("libloadvm-core.so");
	struct bpf_program *program;
	unsigned n = 0;

	bpf_object__for_each_program(program, bpf->obj)
	{
		const char *name = bpf_program__name(program);

		links[n] = bpf_program__attach_usdt(program, pid, path, "loadvm", name, NULL);
		if (!links[n]) {
			g_test_message("%s: %s", name, strerror(errno));
			return false;
		}
		n++;
	}
	return n == USDT_KINDS;
}

/* The semaphores of a process: how many listeners each event has. */
static unsigned listeners(pid_t pid)
{
	const char *argv[] = {"readelf", "-SW", lab_program("libloadvm-core.so"), NULL};
	g_autofree char *sections = NULL, *maps = NULL, *path = NULL;
	unsigned long address, offset, size, begin;
	char *line;
	unsigned sum = 0;
	FILE *memory;

	g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
				   &sections, NULL, NULL, NULL));
	line = strstr(sections, "] .probes");
	g_assert_nonnull(line);
	g_assert_cmpint(sscanf(line, "] .probes PROGBITS %lx %lx %lx", &address, &offset, &size),
			==, 3);
	path = g_strdup_printf("/proc/%d/maps", pid);
	g_assert_true(g_file_get_contents(path, &maps, NULL, NULL));
	/* The first mapping is the file's first byte. */
	line = strstr(maps, "libloadvm-core.so");
	g_assert_nonnull(line);
	while (line > maps && line[-1] != '\n')
		line--;
	begin = strtoul(line, NULL, 16);
	g_free(path);
	path = g_strdup_printf("/proc/%d/mem", pid);
	memory = fopen(path, "re");
	g_assert_nonnull(memory);
	for (unsigned long at = 0; at < size; at += sizeof(uint16_t)) {
		uint16_t count = 0;

		fseeko(memory, (off_t)(begin + address + at), SEEK_SET);
		g_assert_cmpuint(fread(&count, sizeof(count), 1, memory), ==, 1);
		sum += count;
	}
	fclose(memory);
	return sum;
}

static void test_usdt(const void *version)
{
	const char *launcher[] = {
		lab_program("loadvm"), "--usdt", "--policy", "io-free", "--", NULL};
	/* Linux 6.18 serves a probed 5-byte nop through a system call: the sandbox must let it. */
	const char *args[] = {"-sandbox",
			      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
			      "resourcecontrol=deny",
			      NULL};
	const struct lab_pair_options options = {
		.vm = {.version = version,
		       .guest = true,
		       .devices = LAB_DEVICES_DOZEN,
		       .timeout_ms = 30000},
		.destination_launcher = launcher,
		.destination_args = args,
		.proxy = true,
	};
	const struct lab_journey journey = {.copy = LAB_COPY_PRE};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_pair) pair = NULL;
	struct usdt_bpf *bpf;
	struct bpf_link *links[USDT_KINDS];
	struct lab_connection connection;
	struct ring_buffer *ring;
	struct seen s = {.result = -1};
	uint64_t acquired, stream_bytes = 0;
	pid_t pid;

	if (geteuid()) {
		g_test_skip("attaching probes needs root");
		return;
	}
	pair = lab_journey_new(&journey, &options, &error);
	if (lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = lab_vm_pid(lab_pair_destination(pair));
	g_assert_cmpuint(listeners(pid), ==, 0);

	libbpf_set_print(NULL);
	bpf = usdt_bpf__open_and_load();
	g_assert_nonnull(bpf);
	g_assert_true(attach(bpf, pid, links));
	/* Two sites an event, each of which counts. */
	g_assert_cmpuint(listeners(pid), ==, 2 * USDT_KINDS);
	s.sections = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s.devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	ring = ring_buffer__new(bpf_map__fd(bpf->maps.records), see, &s, NULL);
	g_assert_nonnull(ring);

	lab_journey_arrive(&journey, pair, PATIENCE_MS, NULL, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; lab_proxy_connection(lab_pair_proxy(pair), i, &connection); i++)
		if (connection.channel == LAB_CHANNEL_MAIN)
			stream_bytes = connection.forward_bytes;
	ring_buffer__consume(ring);
	ring_buffer__free(ring);
	acquired = bpf->bss->counts[USDT_LOCK_ACQUIRED];
	g_test_message("%d acquisitions, %d sections, %d lost, longest hold %d us", (int)acquired,
		       (int)g_hash_table_size(s.sections), (int)bpf->bss->lost,
		       (int)(s.longest_hold_ns / 1000));
	g_assert_cmpuint(acquired, >, 100);
	/* Each once, though it has two sites: what is acquired is released. */
	g_assert_cmpint(ABS((int64_t)(acquired - bpf->bss->counts[USDT_LOCK_RELEASED])), <=, 2);
	g_assert_cmpuint(bpf->bss->counts[USDT_INCOMING_END], ==, 1);
	g_assert_cmpstr(s.policy, ==, "io-free");
	g_assert_cmpint(s.result, ==, 0);
	if (!bpf->bss->lost) {
		g_assert_true(g_hash_table_contains(s.sections, "ram"));
		g_assert_true(g_hash_table_contains(s.sections, LAB_SECTION_NET));
		g_assert_true(g_hash_table_contains(s.devices, "e1000"));
		g_assert_cmpuint(s.unknown, ==, 0);
		g_assert_cmpuint(s.section_bytes, <, stream_bytes);
		g_assert_cmpuint(s.section_bytes, >, stream_bytes - (128 << 10));
	}
	g_assert_cmpint(s.longest_hold_ns, >, 0);

	/* Off again, in mid-life. */
	for (unsigned i = 0; i < USDT_KINDS; i++)
		bpf_link__destroy(links[i]);
	usdt_bpf__destroy(bpf);
	for (int i = 0; i < 50 && listeners(pid); i++)
		g_usleep(20000);
	g_assert_cmpuint(listeners(pid), ==, 0);
	lab_vm_alive(lab_pair_destination(pair), PATIENCE_MS, &error);
	g_assert_no_error(error);
	g_hash_table_unref(s.sections);
	g_hash_table_unref(s.devices);
	g_free(s.policy);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
		g_autofree char *path = g_strdup_printf("/usdt/%s", versions[i]);

		g_test_add_data_func(path, versions[i], test_usdt);
	}
	return g_test_run();
}
