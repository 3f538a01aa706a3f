/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the QEMU in small is to load, and how it ends: one scenario a process.
 *
 *	host SCENARIO POLICY [CONTROL]
 *
 * POLICY is what loadvm was told to start it with, "none" if there is no loadvm; CONTROL the
 * control file that it was given, for the scenarios that change policy. Exits 0 when all went as
 * it should.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/host/scenario.h"

/* The first words of --version: loadvm knows an emulator by them, and its release. */
static const char version[] = "QEMU emulator version 10.0.0 (in small)\n";

static const struct loadvm_status *the_status;

/* ---- the runtime, as a tracer sees it ---- */

static int find_core(struct dl_phdr_info *info, size_t size, void *opaque)
{
	(void)size;
	if (!strstr(info->dlpi_name, "/libloadvm-core.so"))
		return 0;
	*(void **)opaque = dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD);
	return 1;
}

static void find_status(void)
{
	void *core = NULL;

	dl_iterate_phdr(find_core, &core);
	the_status = core ? dlsym(core, "loadvm_status") : NULL;
}

const struct loadvm_status *host_status(void)
{
	return the_status;
}

/* Every detour is in that ought to be, and on the very function. */
static void check_detours(void)
{
	static void *const functions[] = {
#define HOST_ADDRESS(name) [CAME_##name] = name,
#define ram_load	   NULL
		HOST_DETOURED(HOST_ADDRESS)
#undef ram_load
#undef HOST_ADDRESS
	};
	const struct loadvm_status *status = host_status();

	if (start_policy == STOCK || !status) {
		g_assert_false(runtime_is_in);
		g_assert_true(!status || status->detours == 0);
	} else {
		g_assert_cmpstr(status->policy, ==, policy_names[start_policy]);
		g_assert_cmpuint(status->detours, ==, CAME_N);
	}
	for (int i = 0; i < CAME_N; i++) {
		const void *at = functions[i] ? functions[i] : (void *)host_ram_handlers.load_state;
		bool patched = *(const uint8_t *)at == 0xe9, listed = false;

		for (uint32_t d = 0; status && d < status->detours; d++)
			listed |= status->detour[d].target == (uintptr_t)at;
		g_assert_cmpint(patched, ==, runtime_is_in);
		g_assert_cmpint(listed, ==, runtime_is_in);
	}
}

/* ---- all ---- */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} scenarios[] = {
		{"balanced", scenario_balanced},
		{"mixed", scenario_mixed},
		{"untouched", scenario_untouched},
		{"receivers", scenario_receivers},
		{"kicked", scenario_kicked},
		{"fair", scenario_fair},
		{"fair-between", scenario_fair_between},
		{"nobody", scenario_nobody},
	};

	if (argc == 2 && !strcmp(argv[1], "--version"))
		return fputs(version, stdout) < 0;
	if (argc == 2 && !strcmp(argv[1], "--quits")) {
		scenario_list_quits();
		return 0;
	}
	g_assert_cmpint(argc, >=, 3);
	start_policy = strcmp(argv[2], "none") != 0 ? host_policy_named(argv[2]) : STOCK;
	runtime_is_in = start_policy != STOCK;
	control = argv[3];
	host_loop_init();
	ram_mig_init();
	rdma_start_incoming_migration();
	vfio_init();
	devices_init();
	host_mapped_fd = memfd_create("mapped", MFD_CLOEXEC);
	for (int i = 0; i < 256; i++)
		g_assert_cmpint(write(host_mapped_fd, "p", 1), ==, 1);
	find_status();
	bql_lock();
	check_detours();
	for (size_t i = 0; i < G_N_ELEMENTS(scenarios); i++) {
		if (strcmp(argv[1], scenarios[i].name))
			continue;
		scenarios[i].run();
		bql_unlock();
		return 0;
	}
	g_assert_true(scenario_quit(argv[1]));
	return 0;
}
