/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm in a QEMU whose SELinux domain has execmod and execmem, or lacks one: `make
 * vmcheck-lsm` runs this in a VM, under Debian's kernel and a policy of our own (selinux.conf)
 * that knows nothing but these two. What a distribution's policy gives its svirt_t it does not say.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"
#include "tests/vm/confined.h"

#define LABEL(domain) "u:r:" domain

/* Denials since this was last asked; g_free(). */
static char *denials(void)
{
	g_autofree char *log = kernel_log();
	g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
	GString *denied = g_string_new(NULL);

	for (char **line = lines; *line; line++)
		if (strstr(*line, "avc:  denied"))
			g_string_append_printf(denied, "%s\n", *line);
	return g_string_free(denied, FALSE);
}

static void set_up(void)
{
	g_assert_cmpint(mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", 0, NULL), ==, 0);
	sh("%s/build/selinux/root/usr/bin/checkpolicy -U allow -o %s/policy"
	   " %s/tests/vm/selinux.conf",
	   lab_source_root(), lab_tmpdir(), lab_source_root());
	/* The kernel takes it in one piece only. */
	sh("dd if=%s/policy of=/sys/fs/selinux/load bs=1M", lab_tmpdir());
	sh("echo 1 >/sys/fs/selinux/enforce");
	assert_label(getpid(), LABEL("base_t"));
	say_all();
}

static char *checked(pid_t pid)
{
	g_autofree char *target = g_strdup_printf("%d", pid);

	return check_says(lab_program("loadvm"), target, "SELinux");
}

/* ---- a domain ---- */

struct domain {
	const char *version;
	const char *name;   /* of selinux.conf */
	const char *says;   /* at the start */
	const char *denied; /* what the kernel notes, and --check says; NULL: nothing */
};

static const struct domain domains[] = {
	{"7.2", "both_t", "loadvm: io-free on QEMU ", NULL},
	{"10.0", "both_t", "loadvm: io-free on QEMU ", NULL},
	{"7.2", "no_execmod_t",
	 "loadvm: qemu_loadvm_state: this system does not let a program change its own code "
	 "(SELinux execmod or the like); QEMU runs stock",
	 "execmod"},
};

static void test_domain(gconstpointer opaque)
{
	const struct domain *domain = opaque;
	g_autofree char *become = g_strdup_printf(
		"printf u:r:%s >/proc/self/attr/current && exec \"$@\"", domain->name);
	g_autofree char *label = g_strconcat(LABEL(""), domain->name, NULL);
	const char *launcher[] = {"sh",	      "-c",	 become, "sh", lab_program("loadvm"),
				  "--policy", "io-free", "--",	 NULL};
	g_autoptr(lab_pair) pair = confined_arrival(domain->version, launcher);
	g_autofree char *denied = NULL, *hint = NULL;
	struct loadvm_status status;
	pid_t pid;

	if (!pair)
		return;
	pid = lab_vm_pid(lab_pair_destination(pair));
	assert_label(pid, label);
	hint = checked(pid);
	denied = denials();
	if (domain->denied) {
		g_assert_cmpint(status_of(pid, &status), ==, UNDER_LOADVM);
		g_assert_cmpuint(status.detours, ==, 0);
		g_assert_nonnull(strstr(denied, domain->denied));
		g_assert_nonnull(strstr(hint, "which does not have execmod on u:r:base_t"));
		g_assert_null(strstr(hint, "execmem"));
	} else {
		assert_loaded_in_thread(pid);
		g_assert_cmpstr(denied, ==, "");
		g_assert_nonnull(strstr(hint, "which has execmod on u:r:base_t, and execmem"));
	}
	assert_quits_saying(pair, domain->says);
	if (domain->denied)
		assert_ends_as_stock(launcher);
}

/* TCG itself wants execmem, unless it maps its code twice; a QEMU with KVM does not. */
static void test_no_execmem(void)
{
	g_autofree char *command = g_strdup_printf(
		"printf u:r:no_execmem_t >/proc/self/attr/current && echo quit |"
		" %s --policy io-free -- %s -accel tcg,split-wx=on -nodefaults -display none -S"
		" -incoming defer -monitor stdio >/dev/null",
		lab_program("loadvm"), lab_qemu_path("7.2", NULL));
	g_autofree char *said = NULL, *denied = NULL;

	g_assert_cmpint(try_sh(&said, command), ==, 0);
	g_test_message("%s", g_strstrip(said));
	g_assert_true(g_str_has_prefix(said, "loadvm: "));
	g_assert_true(g_str_has_suffix(said, "this system does not let a program make new code "
					     "(Permission denied); QEMU runs stock"));
	g_assert_null(strchr(said, '\n'));
	denied = denials();
	g_assert_nonnull(strstr(denied, "{ execmem }"));
}

/* Of no process in particular it says what is needed. */
static void test_check(void)
{
	g_autofree char *hint =
		check_says(lab_program("loadvm"), lab_qemu_path("7.2", NULL), "SELinux");

	g_assert_true(g_str_has_prefix(hint, "SELinux is enforcing: QEMU's domain"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	if (!in_vm())
		return EXIT_CANNOT;
	set_up();
	g_test_add_func("/selinux/check", test_check);
	for (unsigned i = 0; i < G_N_ELEMENTS(domains); i++) {
		g_autofree char *path =
			g_strdup_printf("/selinux/%s/%s", domains[i].name, domains[i].version);

		g_test_add_data_func(path, &domains[i], test_domain);
	}
	g_test_add_func("/selinux/no_execmem_t", test_no_execmem);
	return g_test_run();
}
