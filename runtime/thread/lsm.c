/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AppArmor and SELinux, for loadvm --check. Both answer what they would allow, without a library of
 * theirs and without anything being tried.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "runtime/thread/core.h"
#include "runtime/thread/lsm.h"

/* Where the emulator for libvirt that is installed with loadvm looks. */
#define CONTROL "/etc/loadvm.policy"

struct asking {
	pid_t pid;
	const char *binary;
	void (*say)(const char *text, void *opaque);
	void *opaque;
};

__attribute__((format(printf, 2, 3))) static void say(const struct asking *a, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	a->say(text, a->opaque);
}

/* The first line of a small file, or false. */
__attribute__((format(printf, 3, 4))) static bool first_line(char *line, size_t size,
							     const char *fmt, ...)
{
	char path[256];
	va_list ap;
	FILE *file;
	bool ok;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	file = fopen(path, "re");
	if (!file)
		return false;
	ok = fgets(line, (int)size, file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

/* Both modules have a file that is written a question and then read. */
static bool question(const char *path, const char *query, size_t length, char *answer, size_t size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t n = -1;

	if (fd < 0)
		return false;
	if (write(fd, query, length) == (ssize_t)length)
		n = read(fd, answer, size - 1);
	close(fd);
	answer[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void append(char *list, size_t size, const char *what, const char *path)
{
	size_t used = strlen(list);

	snprintf(list + used, size - used, "%s%s%s", used ? ", " : "", what, path);
}

/* --- AppArmor ----------------------------------------------------------------------------------
 */

/* The kernel's, security/apparmor/include: the class of rules about files, and what they allow. */
enum { AA_CLASS_FILE = 2, AA_MAY_EXEC = 1 << 0, AA_MAY_READ = 1 << 2, AA_EXEC_MMAP = 1 << 16 };

/* What the loaded profile `label` allows with a path. False: the kernel does not say. */
static bool profile_allows(const char *label, const char *path, unsigned int *allowed)
{
	char query[PATH_MAX + 512], answer[256];
	int length =
		snprintf(query, sizeof(query), "label%c%s%c%c%s", 0, label, 0, AA_CLASS_FILE, path);

	return length < (int)sizeof(query) &&
	       question("/sys/kernel/security/apparmor/.access", query, (size_t)length, answer,
			sizeof(answer)) &&
	       sscanf(answer, "allow 0x%x", allowed) == 1;
}

/* The profile of that QEMU; of no QEMU, that of any guest of libvirt's. False: there is none. */
static bool find_profile(pid_t pid, char *label, size_t size, bool *enforced)
{
	char line[256] = "", *mode;
	FILE *file;

	if (pid) {
		/* Where two modules are on, the plain file may be the other's. */
		if (!first_line(line, sizeof(line), "/proc/%d/attr/apparmor/current", (int)pid))
			first_line(line, sizeof(line), "/proc/%d/attr/current", (int)pid);
	} else {
		file = fopen("/sys/kernel/security/apparmor/profiles", "re");
		while (file && fgets(line, sizeof(line), file) && strncmp(line, "libvirt-", 8))
			*line = '\0';
		if (file)
			fclose(file);
	}
	mode = strrchr(line, '(');
	*enforced = mode && !strncmp(mode, "(enforce)", 9);
	line[strcspn(line, " \n")] = '\0';
	snprintf(label, size, "%s", line);
	return *line && strcmp(line, "unconfined");
}

/* About the files of this very installation. False: the kernel does not say. */
static bool ask_profile(const struct asking *a, const char *label, bool enforced)
{
	const char *control = getenv("LOADVM_CONTROL");
	char launcher[PATH_MAX] = "", core[PATH_MAX], gate[PATH_MAX + 32];
	const struct {
		const char *path, *what;
		unsigned int needs;
	} files[] = {
		{launcher, "to start (ix) ", AA_MAY_EXEC},
		{gate, "to read and map (rm) ", AA_MAY_READ | AA_EXEC_MMAP},
		{core, "to read and map (rm) ", AA_MAY_READ | AA_EXEC_MMAP},
		{control && *control ? control : CONTROL, "to read (r) ", AA_MAY_READ},
	};
	char who[320], denied[3072] = "";
	Dl_info self;

	if (!dladdr(&loadvm_status, &self) || !realpath(self.dli_fname, core) ||
	    readlink("/proc/self/exe", launcher, sizeof(launcher) - 1) < 0)
		return false;
	snprintf(gate, sizeof(gate), "%.*s/libloadvm.so", (int)(strrchr(core, '/') - core), core);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		unsigned int allowed;

		if (!profile_allows(label, files[i].path, &allowed))
			return false;
		if ((allowed & files[i].needs) != files[i].needs)
			append(denied, sizeof(denied), files[i].what, files[i].path);
	}
	if (a->pid)
		snprintf(who, sizeof(who), "process %d is confined by %s", (int)a->pid, label);
	else
		snprintf(who, sizeof(who), "a guest of libvirt's is confined by %s", label);
	if (!enforced)
		say(a, "AppArmor: %s, in complain mode: nothing is denied", who);
	else if (*denied)
		say(a, "AppArmor: %s, which does not allow %s", who, denied);
	else
		say(a, "AppArmor: %s, which allows what loadvm needs", who);
	return true;
}

static void ask_apparmor(const struct asking *a)
{
	char line[16], label[256];
	bool confined, enforced;

	if (!first_line(line, sizeof(line), "/sys/module/apparmor/parameters/enabled") ||
	    line[0] != 'Y')
		return;
	confined = find_profile(a->pid, label, sizeof(label), &enforced);
	if (a->pid && !confined)
		say(a, "AppArmor is on, and does not confine process %d", (int)a->pid);
	else if (!confined || !ask_profile(a, label, enforced))
		say(a, "AppArmor is on: a confined QEMU has to be allowed to start loadvm (ix), to "
		       "read and map the two libloadvm libraries (rm) and to read the control file "
		       "(r); --check PID asks the profile of a QEMU that runs");
}

/* --- SELinux -----------------------------------------------------------------------------------
 */

/* Whether the loaded policy lets `source` do it to `target`. False: the kernel does not say. */
static bool policy_allows(const char *source, const char *target, const char *class,
			  const char *permission, bool *allows)
{
	char index[16], bit[16], query[1024], answer[128];
	unsigned int allowed;
	int length;

	if (!first_line(index, sizeof(index), "/sys/fs/selinux/class/%s/index", class) ||
	    !first_line(bit, sizeof(bit), "/sys/fs/selinux/class/%s/perms/%s", class, permission))
		return false;
	length = snprintf(query, sizeof(query), "%s %s %d", source, target, atoi(index));
	if (length >= (int)sizeof(query) ||
	    !question("/sys/fs/selinux/access", query, (size_t)length, answer, sizeof(answer)) ||
	    sscanf(answer, "%x", &allowed) != 1)
		return false;
	*allows = allowed & 1u << (atoi(bit) - 1);
	return true;
}

static bool ask_domain(const struct asking *a, const char *mode)
{
	char domain[256], type[256], denied[768] = "";
	bool execmod, execmem;
	ssize_t n = getxattr(a->binary, "security.selinux", type, sizeof(type) - 1);

	if (n <= 0 ||
	    (!first_line(domain, sizeof(domain), "/proc/%d/attr/selinux/current", (int)a->pid) &&
	     !first_line(domain, sizeof(domain), "/proc/%d/attr/current", (int)a->pid)))
		return false;
	type[n] = '\0';
	if (!policy_allows(domain, type, "file", "execmod", &execmod) ||
	    !policy_allows(domain, domain, "process", "execmem", &execmem))
		return false;
	if (!execmod)
		append(denied, sizeof(denied), "execmod on ", type);
	if (!execmem)
		append(denied, sizeof(denied), "execmem", "");
	if (*denied)
		say(a, "SELinux is %s: process %d is %s, which does not have %s", mode, (int)a->pid,
		    domain, denied);
	else
		say(a, "SELinux is %s: process %d is %s, which has execmod on %s, and execmem",
		    mode, (int)a->pid, domain, type);
	return true;
}

static void ask_selinux(const struct asking *a)
{
	const char *mode;
	char line[16];

	if (!first_line(line, sizeof(line), "/sys/fs/selinux/enforce"))
		return;
	mode = line[0] == '1' ? "enforcing" : "permissive";
	if (!a->pid || !ask_domain(a, mode))
		say(a,
		    "SELinux is %s: QEMU's domain (svirt_t, svirt_tcg_t) needs execmod on the type "
		    "of the binary, and execmem; --check PID asks for that of a QEMU that runs. "
		    "Where denied, loadvm finds out on a page of its own, says so, and QEMU runs "
		    "stock",
		    mode);
}

void lsm_ask(pid_t pid, const char *binary, void (*say)(const char *text, void *opaque),
	     void *opaque)
{
	const struct asking a = {pid, binary, say, opaque};

	ask_apparmor(&a);
	ask_selinux(&a);
}
