/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm --check: would this QEMU be given its thread, and if not, why not? The checks are those of
 * needs.c; beside them stands what only a look at the system can tell.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "runtime/thread/core.h"
#include "runtime/thread/lsm.h"
#include "runtime/thread/needs.h"

#define EXPORTED __attribute__((visibility("default")))

struct report {
	FILE *out;
	bool json;
	unsigned int passed, failed, hints;
};

/* --- writing -----------------------------------------------------------------------------------
 */

/* Other bytes than ASCII may be anything: they are shown as their code. */
static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void put_member(const struct report *r, const char *name, const char *value)
{
	fprintf(r->out, "  \"%s\": ", name);
	put_string(r->out, value);
	fputs(",\n", r->out);
}

static void put_finding(const struct need_finding *f, void *opaque)
{
	struct report *r = opaque;

	if (r->json) {
		fprintf(r->out, "%s    {\"kind\": ", r->passed + r->failed ? ",\n" : "");
		put_string(r->out, f->kind);
		fputs(", \"name\": ", r->out);
		put_string(r->out, f->name);
		fprintf(r->out, ", \"ok\": %s, \"detail\": ", f->ok ? "true" : "false");
		put_string(r->out, f->detail);
		fputc('}', r->out);
	} else {
		fprintf(r->out, "  %-4s %-10s %-30s %s\n", f->ok ? "ok" : "NO", f->kind, f->name,
			f->detail);
	}
	r->passed += f->ok;
	r->failed += !f->ok;
}

static void put_hint(const char *text, void *opaque)
{
	struct report *r = opaque;

	if (r->json) {
		fprintf(r->out, "%s    ", r->hints ? ",\n" : "");
		put_string(r->out, text);
	} else {
		fprintf(r->out, "  note %s\n", text);
	}
	r->hints++;
}

/* --- the system --------------------------------------------------------------------------------
 */

/* The loader drops LD_PRELOAD for a program that gains privileges by being started. */
static void check_secure(struct report *r, const char *path)
{
	struct need_finding f = {.kind = "start", .name = "preload", .ok = true};
	struct stat st;

	snprintf(f.detail, sizeof(f.detail), "the binary gains no privileges when started");
	if (!stat(path, &st) && (st.st_mode & (S_ISUID | S_ISGID))) {
		f.ok = false;
		snprintf(f.detail, sizeof(f.detail),
			 "it is set-user-id or set-group-id: the loader ignores LD_PRELOAD");
	} else if (getxattr(path, "security.capability", NULL, 0) > 0) {
		f.ok = false;
		snprintf(f.detail, sizeof(f.detail),
			 "it has file capabilities: the loader ignores LD_PRELOAD");
	}
	put_finding(&f, r);
}

static void put_hints(struct report *r, pid_t pid, const char *path)
{
	if (r->json)
		fputs("\n  ],\n  \"hints\": [\n", r->out);
	lsm_ask(pid, path, put_hint, r);
	put_hint("a service manager's MemoryDenyWriteExecute forbids new code: QEMU then runs "
		 "stock, and says so",
		 r);
}

/* --- all ---------------------------------------------------------------------------------------
 */

static bool is_number(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n && n < 10 && !text[n];
}

static int refuse(const struct report *r, const char *target, int code, const char *why)
{
	if (r->json) {
		fputs("{\n", r->out);
		put_member(r, "target", target);
		put_member(r, "reason", why);
		fputs("  \"supported\": false\n}\n", r->out);
	} else {
		fprintf(r->out, "%s\nnot supported\n", why);
	}
	return code;
}

EXPORTED int loadvm_core_check(const char *target, bool json, FILE *out)
{
	struct report r = {.out = out, .json = json};
	pid_t pid = is_number(target) ? (pid_t)atoi(target) : 0;
	const char *package;
	struct seam_error err;
	struct seam_map *map;
	int ret;

	ret = pid ? seam_map_open_pid(pid, &map, NULL, &err) : seam_map_open(target, &map, &err);
	if (ret)
		return refuse(&r, target, ret == -ENOTSUP || ret == -ENOEXEC ? 1 : ret, err.text);
	package = needs_validated(map);
	if (json) {
		fputs("{\n", out);
		put_member(&r, "target", target);
		put_member(&r, "version", seam_map_version(map));
		put_member(&r, "build_id", seam_map_build_id(map));
		put_member(&r, "generation", seam_map_generation(map));
		fprintf(out, "  \"validated\": ");
		if (package)
			put_string(out, package);
		else
			fputs("null", out);
		fputs(",\n  \"checks\": [\n", out);
	} else {
		fprintf(out, "QEMU %s, build %s\n", seam_map_version(map), seam_map_build_id(map));
	}
	needs_check(map, put_finding, &r);
	check_secure(&r, seam_map_path(map));
	put_hints(&r, pid, seam_map_path(map));
	if (json)
		fprintf(out, "\n  ],\n  \"supported\": %s\n}\n", r.failed ? "false" : "true");
	else if (r.failed)
		fprintf(out, "not supported: %u of %u checks failed\n", r.failed,
			r.passed + r.failed);
	else
		fprintf(out, "supported: %u checks passed; %s%s\n", r.passed,
			package ? "the tests ran on this build: "
				: "an unseen build, which the tests have not run on",
			package ? package : "");
	seam_map_free(map);
	return r.failed ? 1 : 0;
}
