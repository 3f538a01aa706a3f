/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libloadvm.so: what `loadvm` preloads into the command it starts. It looks whether this process is
 * a QEMU at all, and only then loads the runtime proper, libloadvm-core.so beside it, whose
 * libraries may be missing: QEMU starts all the same. Needs libc only, never exits, and says one
 * line. Wrapper scripts on the way to QEMU hear nothing of it.
 *
 *	LOADVM_POLICY	what to do (the launcher sets it)
 *	LOADVM_CONTROL	the control file (the launcher makes the path absolute)
 *	LOADVM_DISABLE	set to anything but 0: leave QEMU alone
 *	LOADVM_TRACE	"usdt" or "lttng": all tracepoints, and LTTng's too
 *	LOADVM_QUIET	set to anything but 0: no line when all went well
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/thread/core.h"

/*
 * A preloaded library that asks for a version of libc's that is not there stops the program from
 * starting at all. glibc 2.34 gave these new versions when it moved them from libdl; the old ones
 * are in every glibc for x86-64, in libc or in the libdl that a QEMU with modules has loaded.
 */
__asm__(".symver dlopen, dlopen@GLIBC_2.2.5\n"
	".symver dlsym, dlsym@GLIBC_2.2.5\n"
	".symver dlerror, dlerror@GLIBC_2.2.5\n"
	".symver dladdr, dladdr@GLIBC_2.2.5\n");

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strcmp(value, "0") != 0;
}

/* The first object is the program itself. */
static int looks_for_banner(struct dl_phdr_info *info, size_t size, void *opaque)
{
	/* The first words of --version: no tool of QEMU's has them, only the emulators. */
	static const char banner[] = "QEMU emulator version ";
	bool *found = opaque;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum && !*found; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & (PF_R | PF_W)) == PF_R)
			*found = memmem((const char *)info->dlpi_addr + p->p_vaddr, p->p_filesz,
					banner, sizeof(banner) - 1);
	}
	return 1;
}

/*
 * qemu-img and friends carry stubs of the lock functions; only an emulator can load a VM. One that
 * was built without modules exports nothing, but may have a symbol table: the core finds out.
 */
static bool is_qemu(void)
{
	bool banner = false;

	if (dlsym(RTLD_DEFAULT, "qemu_loadvm_state") &&
	    (dlsym(RTLD_DEFAULT, "bql_lock_impl") ||
	     dlsym(RTLD_DEFAULT, "qemu_mutex_lock_iothread_impl")))
		return true;
	dl_iterate_phdr(looks_for_banner, &banner);
	return banner;
}

/* For the sake of a user who would wait for an effect in vain. */
static bool looks_like_qemu(void)
{
	return !strncmp(program_invocation_short_name, "qemu-system-", 12) ||
	       !strcmp(program_invocation_short_name, "qemu-kvm");
}

/* QEMU's children (helpers, exec: migrations) are not ours. The user's own preloads stay. */
static void leave_environment(const char *self)
{
	const char *list = getenv("LD_PRELOAD");
	char *kept, *end;

	unsetenv("LOADVM_POLICY");
	unsetenv("LOADVM_CONTROL");
	unsetenv("LOADVM_TRACE");
	unsetenv("LOADVM_QUIET");
	if (!list || !(kept = malloc(strlen(list) + 1)))
		return;
	end = kept;
	while (*list) {
		size_t length = strcspn(list, ": ");

		if (length && (length != strlen(self) || strncmp(list, self, length) != 0)) {
			if (end != kept)
				*end++ = ':';
			memcpy(end, list, length);
			end += length;
		}
		list += length;
		list += strspn(list, ": ");
	}
	*end = '\0';
	if (end != kept)
		setenv("LD_PRELOAD", kept, 1);
	else
		unsetenv("LD_PRELOAD");
	free(kept);
}

/* RTLD_LOCAL: nothing of ours may stand in for a symbol of QEMU's or its modules'. */
static loadvm_core_install_fn *find_core(const char *self, char *text, size_t size)
{
	const char *slash = strrchr(self, '/');
	int folder = slash ? (int)(slash - self) + 1 : 0;
	loadvm_core_install_fn *install;
	char path[4096];
	void *core;

	snprintf(path, sizeof(path), "%.*slibloadvm-core.so", folder, self);
	core = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!core) {
		snprintf(text, size, "%.400s; QEMU runs stock", dlerror());
		return NULL;
	}
	*(void **)&install = dlsym(core, "loadvm_core_install");
	if (!install)
		snprintf(text, size, "%.400s is not of this release; QEMU runs stock", path);
	return install;
}

__attribute__((constructor)) static void enter(void)
{
	loadvm_core_install_fn *install;
	bool quiet = is_set("LOADVM_QUIET");
	char text[1024] = "", policy[32], control[PATH_MAX], trace[32];
	Dl_info self;
	int r = -1;

	if (!is_qemu()) {
		if (looks_like_qemu())
			fprintf(stderr,
				"loadvm: this has a QEMU's name, but there is no QEMU in it; "
				"it runs stock\n");
		return;
	}
	if (!dladdr(enter, &self))
		return;
	snprintf(policy, sizeof(policy), "%s",
		 getenv("LOADVM_POLICY") ? getenv("LOADVM_POLICY") : "");
	snprintf(control, sizeof(control), "%s",
		 getenv("LOADVM_CONTROL") ? getenv("LOADVM_CONTROL") : "");
	snprintf(trace, sizeof(trace), "%s", getenv("LOADVM_TRACE") ? getenv("LOADVM_TRACE") : "");
	leave_environment(self.dli_fname);
	if (is_set("LOADVM_DISABLE")) {
		r = 0;
		snprintf(text, sizeof(text), "switched off by LOADVM_DISABLE");
	} else if (!*policy) {
		snprintf(text, sizeof(text), "LOADVM_POLICY is not set; QEMU runs stock");
	} else {
		install = find_core(self.dli_fname, text, sizeof(text));
		if (install)
			r = install(
				&(struct loadvm_core_options){
					.policy = policy,
					.control = control,
					.trace = trace,
					.quiet = quiet,
				},
				text, sizeof(text));
	}
	if (r || !quiet)
		fprintf(stderr, "loadvm: %s\n", text);
}
