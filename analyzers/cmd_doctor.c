/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat doctor: what this host and a QEMU allow, what is missing, and how to mend it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/inspect/check.h"
#include "analyzers/command.h"
#include "analyzers/show.h"
#include "analyzers/inspect/subject.h"
#include "analyzers/inspect/under.h"
#include "analyzers/inspect/usdt.h"

#define FORMAT 1

struct doctor {
	GPtrArray *host, *qemu;	   /* findings; qemu NULL: not asked, or not to be opened */
	const char *which;	   /* what was asked for, or NULL */
	struct seam_error refusal; /* why `which` could not be opened */
	struct subject subject;
	GPtrArray *usdt;
	enum under under;
	struct loadvm_status loadvm;
	GArray *running; /* pid_t, when nothing was asked for */
	bool usable;
	char *verdict;
};

/* ---- the QEMU ---- */

static void check_loadvm(struct doctor *d)
{
	struct subject *s = &d->subject;

	if (!s->pid)
		return;
	d->under = under_loadvm(s->pid, s->mem_fd, &d->loadvm);
	switch (d->under) {
	case UNDER_NOTHING:
		checks_add(d->qemu, CHECK_OK, "loadvm", NULL, "not started by it");
		break;
	case UNDER_GATE:
		checks_add(d->qemu, CHECK_NOTE, "loadvm",
			   "what QEMU wrote to stderr at its start says why",
			   "started by it, but switched off or failed: QEMU runs stock");
		break;
	case UNDER_LOADVM:
		if (d->loadvm.detours)
			checks_add(d->qemu, CHECK_OK, "loadvm", NULL,
				   "policy %s, %u functions detoured, release %s", d->loadvm.policy,
				   d->loadvm.detours, d->loadvm.release);
		else
			checks_add(d->qemu, CHECK_NOTE, "loadvm", NULL,
				   "started by it, nothing is detoured: QEMU runs stock");
		break;
	case UNDER_OTHER:
		checks_add(d->qemu, CHECK_NOTE, "loadvm", NULL,
			   "started by it, of another release than this bqlstat");
		break;
	case UNDER_UNSEEN:
		checks_add(d->qemu, CHECK_NOTE, "loadvm", "run as root",
			   "started by it, but its status cannot be read");
		break;
	}
}

static void check_usdt(struct doctor *d)
{
	/* The map's own path may name a descriptor of ours. */
	g_autofree char *path = subject_path(&d->subject);

	d->usdt = usdt_list(seam_map_path(d->subject.map));
	if (!d->usdt)
		checks_add(d->qemu, CHECK_NOTE, "USDT probes", NULL, "the file cannot be read");
	else if (!d->usdt->len)
		checks_add(d->qemu, CHECK_OK, "USDT probes", NULL,
			   "none in this build; bqlstat needs none");
	else
		checks_add(d->qemu, CHECK_OK, "USDT probes", NULL,
			   "%u in this build; bqlstat needs none, other tools can use them: "
			   "bpftrace -l 'usdt:%s:*'",
			   d->usdt->len, path);
}

static pid_t debugger_of(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
	g_autofree char *status = NULL;
	const char *line;

	if (!g_file_get_contents(path, &status, NULL, NULL))
		return 0;
	line = strstr(status, "\nTracerPid:");
	return line ? atoi(line + strlen("\nTracerPid:")) : 0;
}

static void check_process(struct doctor *d)
{
	pid_t pid = d->subject.pid, debugger = pid ? debugger_of(pid) : 0;

	if (!pid)
		return;
	if (d->subject.mem_fd < 0)
		checks_add(d->qemu, CHECK_UNSEEN, "memory",
			   "run as root, or as its user with CAP_SYS_PTRACE",
			   "cannot be read: whether it is as in the file is not known");
	else
		checks_add(d->qemu, CHECK_OK, "memory", NULL, "can be read");
	if (debugger)
		checks_add(d->qemu, CHECK_NOTE, "debugger", "detach it before recording",
			   "process %d is attached: while it stops QEMU, holds grow", debugger);
}

static void check_points(struct doctor *d)
{
	const struct subject *s = &d->subject;
	unsigned wanted = 0, stepped = 0, shared = 0, refused = 0;
	const char *why = "";

	for (unsigned i = 0; i < s->points->len; i++) {
		const struct subject_point *p = &g_array_index(s->points, struct subject_point, i);

		if (p->plan == SUBJECT_UNUSED)
			continue;
		wanted++;
		stepped += !p->point->emulated;
		shared += p->plan == SUBJECT_SHARE;
		refused += p->plan == SUBJECT_REFUSED;
		if (p->plan == SUBJECT_REFUSED)
			why = p->why;
	}
	if (*s->refusal)
		checks_add(d->qemu, s->pid && s->mem_fd < 0 ? CHECK_UNSEEN : CHECK_MISSING,
			   "probe points", NULL, "%s", s->refusal);
	else
		checks_add(d->qemu, stepped ? CHECK_NOTE : CHECK_OK, "probe points", NULL,
			   "%u wanted, %u of them where the kernel emulates the instruction",
			   wanted, wanted - stepped);
	if (refused && !*s->refusal)
		checks_add(d->qemu, CHECK_NOTE, "refused points", NULL,
			   "%u will be left out: %s; phases may be told less exactly", refused,
			   why);
	if (shared)
		checks_add(d->qemu, CHECK_NOTE, "breakpoints", NULL,
			   "on %u points another tracer has a probe: both work, each costs",
			   shared);
}

static void look_at(struct doctor *d)
{
	d->qemu = checks_new();
	check_process(d);
	check_points(d);
	check_loadvm(d);
	check_usdt(d);
}

/* ---- the verdict ---- */

static void judge(struct doctor *d)
{
	const struct check *host = checks_obstacle(d->host);
	const struct check *qemu = d->qemu ? checks_obstacle(d->qemu) : NULL;
	bool unopened = d->which && !d->qemu;

	if (unopened)
		d->verdict = g_strdup_printf("Not usable: %s.", d->refusal.text);
	else if (qemu && qemu->state == CHECK_MISSING)
		d->verdict = g_strdup_printf("Not usable: this QEMU cannot be traced: %s.",
					     qemu->detail);
	else if (host && host->state == CHECK_MISSING)
		d->verdict = g_strdup_printf("Not usable here: %s is missing%s%s.", host->name,
					     host->mend ? ": " : "", host->mend ? host->mend : "");
	else if (host || qemu)
		d->verdict = g_strdup_printf("Not usable as this user: %s: %s.",
					     host ? host->name : qemu->name,
					     host ? host->detail : qemu->detail);
	else if (d->qemu && d->subject.pid)
		d->verdict =
			g_strdup_printf("Usable: bqlstat record -p %d -o FILE", d->subject.pid);
	else if (d->qemu)
		d->verdict = g_strdup_printf("Usable: bqlstat record -o FILE -- %s ...", d->which);
	else
		d->verdict = g_strdup("Usable on this host. `bqlstat doctor PID` looks at a QEMU.");
	d->usable = !unopened && !host && !qemu;
}

/* ---- text ---- */

static void print_functions(const struct seam_map *map, bool colour)
{
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(map, id);

		printf("  %-20s", seam_id_name(id));
		if (!f->name) {
			printf("%s-  %s%s\n", colour ? SHOW_DIM : "",
			       f->refusal ? f->refusal : "not found", colour ? SHOW_PLAIN : "");
			continue;
		}
		printf("%-32s  0x%-8llx  ", f->name, (unsigned long long)f->vaddr);
		if (f->extent)
			printf("detour of %u bytes%s", f->extent, f->found_by ? "; " : "");
		else
			printf("no detour: %s%s", f->refusal ? f->refusal : "?",
			       f->found_by ? "; " : "");
		printf("%s\n", f->found_by ? f->found_by : "");
	}
}

static void heading(const char *text, bool colour)
{
	printf("%s%s%s\n", colour ? SHOW_BOLD : "", text, colour ? SHOW_PLAIN : "");
}

static void print_running(const GArray *running)
{
	for (unsigned i = 0; i < running->len; i++) {
		pid_t pid = g_array_index(running, pid_t, i);
		struct seam_error err;
		struct seam_map *map;

		if (seam_map_open_pid(pid, &map, NULL, &err)) {
			/* Scripts that start a QEMU have its name in their command line, too. */
			if (strstr(err.text, "look into"))
				printf("  %-8d %s\n", pid, err.text);
			continue;
		}
		printf("  %-8d QEMU %s\n", pid, seam_map_version(map));
		seam_map_free(map);
	}
}

static void print(const struct doctor *d)
{
	bool colour = show_colour();

	heading("This host and user", colour);
	checks_print(stdout, d->host, colour);
	if (d->qemu) {
		const struct seam_map *map = d->subject.map;
		g_autofree char *path = subject_path(&d->subject);
		g_autofree char *title =
			d->subject.pid ? g_strdup_printf("\nProcess %d: QEMU %s", d->subject.pid,
							 seam_map_version(map))
				       : g_strdup_printf("\nQEMU %s", seam_map_version(map));

		heading(title, colour);
		printf("  binary    %s\n  build id  %s\n  kind      %s\n", path,
		       *seam_map_build_id(map) ? seam_map_build_id(map) : "none",
		       seam_map_generation(map));
		checks_print(stdout, d->qemu, colour);
		heading("\nWhere probes go, and what a hit costs", colour);
		subject_print_points(stdout, &d->subject, colour);
		heading("\nFunctions, and whether loadvm may detour them", colour);
		print_functions(map, colour);
	}
	if (d->running && d->running->len) {
		heading("\nRunning QEMUs", colour);
		print_running(d->running);
	}
	printf("\n%s%s%s\n",
	       !colour	   ? ""
	       : d->usable ? SHOW_GREEN
			   : SHOW_RED,
	       d->verdict, colour ? SHOW_PLAIN : "");
}

/* ---- JSON ---- */

static void json_functions(JsonBuilder *b, const struct seam_map *map)
{
	json_builder_set_member_name(b, "functions");
	json_builder_begin_array(b);
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(map, id);

		json_builder_begin_object(b);
		show_text(b, "id", seam_id_name(id));
		show_text(b, "name", f->name);
		show_int(b, "vaddr", f->vaddr);
		show_int(b, "size", f->size);
		show_bool(b, "exported", f->exported);
		show_text(b, "found_by", f->found_by);
		show_int(b, "detour_bytes", f->extent);
		show_text(b, "detour_refusal", f->refusal);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

static void json_loadvm(JsonBuilder *b, const struct doctor *d)
{
	static const char *const names[] = {
		[UNDER_NOTHING] = "no",	 [UNDER_GATE] = "off",	    [UNDER_LOADVM] = "yes",
		[UNDER_OTHER] = "other", [UNDER_UNSEEN] = "unseen",
	};

	json_builder_set_member_name(b, "loadvm");
	json_builder_begin_object(b);
	show_text(b, "state", d->subject.pid ? names[d->under] : NULL);
	show_text(b, "policy", d->under == UNDER_LOADVM ? d->loadvm.policy : NULL);
	show_int(b, "detours", d->under == UNDER_LOADVM ? d->loadvm.detours : 0);
	show_text(b, "release", d->under == UNDER_LOADVM ? d->loadvm.release : NULL);
	json_builder_end_object(b);
}

static void print_json(const struct doctor *d)
{
	g_autoptr(JsonBuilder) b = json_builder_new();

	json_builder_begin_object(b);
	show_int(b, "format", FORMAT);
	show_text(b, "tool", BQLSTAT_VERSION);
	show_bool(b, "usable", d->usable);
	show_text(b, "verdict", d->verdict);
	json_builder_set_member_name(b, "host");
	json_builder_begin_object(b);
	checks_json(b, d->host);
	json_builder_end_object(b);
	json_builder_set_member_name(b, "qemu");
	if (d->qemu) {
		json_builder_begin_object(b);
		subject_json_head(b, &d->subject);
		checks_json(b, d->qemu);
		json_loadvm(b, d);
		json_builder_set_member_name(b, "usdt");
		json_builder_begin_array(b);
		for (unsigned i = 0; d->usdt && i < d->usdt->len; i++)
			json_builder_add_string_value(b, d->usdt->pdata[i]);
		json_builder_end_array(b);
		subject_json_points(b, &d->subject);
		json_functions(b, d->subject.map);
		json_builder_end_object(b);
	} else {
		json_builder_add_null_value(b);
	}
	json_builder_end_object(b);
	show_json(stdout, b);
}

static int doctor(const struct command *command, int argc, char **argv)
{
	gboolean json = FALSE, measure = FALSE;
	const GOptionEntry entries[] = {
		{"json", 'j', 0, G_OPTION_ARG_NONE, &json, "for programs", NULL},
		{"measure", 'm', 0, G_OPTION_ARG_NONE, &measure,
		 "also measure what a recorded lock and unlock costs here", NULL},
		{},
	};
	struct doctor d = {.subject.mem_fd = -1};
	int code;

	if (!command_options(command, entries, &argc, &argv))
		return EXIT_USAGE;
	if (argc > 2)
		return command_fail(EXIT_USAGE, "give one PID or QEMU binary, or none: `bqlstat "
						"help doctor` tells how");
	d.which = argc > 1 ? argv[1] : NULL;
	d.host = checks_new();
	host_checks(d.host, measure);
	if (!d.which)
		d.running = subject_running();
	else if (!subject_open(d.which, &d.subject, &d.refusal))
		look_at(&d);
	judge(&d);
	if (json)
		print_json(&d);
	else
		print(&d);
	code = d.usable ? EXIT_DONE : EXIT_CANNOT;
	if (fflush(stdout) || ferror(stdout))
		code = command_fail(EXIT_CANNOT, "cannot write: %s", strerror(errno));

	g_ptr_array_unref(d.host);
	if (d.qemu)
		g_ptr_array_unref(d.qemu);
	if (d.usdt)
		g_ptr_array_unref(d.usdt);
	if (d.running)
		g_array_unref(d.running);
	subject_close(&d.subject);
	g_free(d.verdict);
	return code;
}

const struct command command_doctor = {
	.name = "doctor",
	.does = "tell what this host and a QEMU allow, and how to mend what is missing",
	.usage = "[PID|BINARY]",
	.help = "Tries what bqlstat needs of this kernel and of this user's rights, one thing a "
		"line: ok, note\n"
		"(works, but one should know), MISSING, or unseen (this user may not look). A "
		"line that begins\n"
		"with -> says how to mend it.\n\n"
		"With a process id or a QEMU binary (a path, or a name in PATH) also what this "
		"QEMU allows:\n"
		"version, build id, each function that bqlstat and loadvm know, each place for a "
		"probe with\n"
		"its cost, USDT probes, and, of a process, whether it runs under loadvm and "
		"whether others\n"
		"have put breakpoints into it. Nothing is attached to it. Without one, running "
		"QEMUs are listed.\n\n"
		"The last line is the verdict; exits 0 when recording will work, 3 when not.",
	.run = doctor,
};
