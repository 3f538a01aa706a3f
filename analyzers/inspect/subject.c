/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening what `doctor` and `probes` look at, and planning the attach by the tracer's own rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/show.h"
#include "analyzers/inspect/subject.h"
#include "probes/plan.h"

/* ---- where a point stands ---- */

struct search {
	uint64_t vaddr;
	const char *name;
	uint64_t start;
};

static bool holds(const struct seam_function *f, void *opaque)
{
	struct search *search = opaque;

	if (search->vaddr < f->vaddr || search->vaddr >= f->vaddr + f->size)
		return true;
	search->name = f->name;
	search->start = f->vaddr;
	return false;
}

/* Points at calls of a function stand in its callers, which may be static and have no name. */
static void name_place(const struct seam_map *map, struct subject_point *out)
{
	const struct seam_point *p = out->point;
	const struct seam_function *f = seam_map_function(map, p->function);
	const char *name = f->name ? f->name : seam_id_name(p->function);
	struct search search = {.vaddr = p->vaddr};

	if (f->name && p->vaddr >= f->vaddr && p->vaddr < f->vaddr + f->size) {
		g_snprintf(out->where, sizeof(out->where), "%s+0x%x", name,
			   (unsigned)(p->vaddr - f->vaddr));
		return;
	}
	seam_map_each_function(map, holds, &search);
	if (search.name)
		g_snprintf(out->where, sizeof(out->where), "%s+0x%x (%s)", search.name,
			   (unsigned)(p->vaddr - search.start), name);
	else
		g_snprintf(out->where, sizeof(out->where), "0x%llx (%s)",
			   (unsigned long long)p->vaddr, name);
}

/* ---- the plan ---- */

static void plan(struct subject *s)
{
	const struct plan_process process = {s->pid, s->bias, s->mem_fd};
	bool by_status = plan_by_status(s->map), have[SEAM_POINT_KINDS] = {};
	size_t count;
	const struct seam_point *points = seam_map_points(s->map, &count);

	for (size_t i = 0; i < count; i++) {
		struct subject_point out = {.point = &points[i], .plan = SUBJECT_ATTACH};
		enum plan_text text;

		name_place(s->map, &out);
		if (!plan_uses(points[i].kind, by_status)) {
			out.plan = SUBJECT_UNUSED;
		} else if (s->pid && s->mem_fd < 0) {
			out.plan = SUBJECT_UNSEEN;
		} else if (s->pid) {
			text = plan_text(&process, &points[i], out.why, sizeof(out.why));
			if (text == PLAN_TEXT_SHARED)
				out.plan = SUBJECT_SHARE;
			else if (text == PLAN_TEXT_REFUSED)
				out.plan = SUBJECT_REFUSED;
		}
		have[points[i].kind] |= out.plan == SUBJECT_ATTACH || out.plan == SUBJECT_SHARE;
		g_array_append_val(s->points, out);
		/* The tracer gives up at the first of these that it cannot have. */
		if (!*s->refusal && plan_needs(points[i].kind, by_status) &&
		    out.plan == SUBJECT_REFUSED)
			g_snprintf(s->refusal, sizeof(s->refusal), "the %s point at %s: %s",
				   seam_point_kind_name(points[i].kind), out.where, out.why);
	}
	if (s->pid && s->mem_fd < 0)
		g_snprintf(s->refusal, sizeof(s->refusal),
			   "its memory cannot be read: run as root, or as its user with "
			   "CAP_SYS_PTRACE");
	for (int kind = 0; kind < SEAM_POINT_KINDS && !*s->refusal; kind++) {
		const char *why = seam_map_missing(s->map, kind);

		if (plan_needs(kind, by_status) && !have[kind])
			g_snprintf(s->refusal, sizeof(s->refusal), "no %s point in this build: %s",
				   seam_point_kind_name(kind), why ? why : "not found");
	}
}

/* ---- opening ---- */

static void ready(struct subject *s)
{
	s->points = g_array_new(FALSE, TRUE, sizeof(struct subject_point));
	plan(s);
}

int subject_open_pid(pid_t pid, struct subject *s, struct seam_error *err)
{
	g_autofree char *mem = g_strdup_printf("/proc/%d/mem", pid);
	int ret;

	*s = (struct subject){.pid = pid, .mem_fd = -1};
	ret = seam_map_open_pid(pid, &s->map, &s->bias, err);
	if (ret)
		return ret;
	s->mem_fd = open(mem, O_RDONLY | O_CLOEXEC);
	ready(s);
	return 0;
}

int subject_open(const char *which, struct subject *s, struct seam_error *err)
{
	g_autofree char *found = NULL;
	guint64 pid;
	int ret;

	if (*which && strspn(which, "0123456789") == strlen(which)) {
		*s = (struct subject){.mem_fd = -1};
		if (g_ascii_string_to_unsigned(which, 10, 1, G_MAXINT32, &pid, NULL))
			return subject_open_pid(pid, s, err);
		g_snprintf(err->text, sizeof(err->text), "there is no process %s", which);
		return -ESRCH;
	}
	*s = (struct subject){.mem_fd = -1};
	if (!strchr(which, '/') && access(which, F_OK))
		found = g_find_program_in_path(which);
	ret = seam_map_open(found ? found : which, &s->map, err);
	if (!ret)
		ready(s);
	return ret;
}

void subject_close(struct subject *s)
{
	if (s->points)
		g_array_unref(s->points);
	if (s->mem_fd >= 0)
		close(s->mem_fd);
	seam_map_free(s->map);
	*s = (struct subject){.mem_fd = -1};
}

char *subject_path(const struct subject *s)
{
	char *name = s->pid ? g_file_read_link(seam_map_path(s->map), NULL) : NULL;

	return name ? name : g_strdup(seam_map_path(s->map));
}

/* ---- showing the plan ---- */

static const struct {
	const char *json, *text, *colour;
} plans[] = {
	[SUBJECT_ATTACH] = {"attach", "attach", SHOW_GREEN},
	[SUBJECT_SHARE] = {"share", "share", SHOW_YELLOW},
	[SUBJECT_UNUSED] = {"unused", "unused", SHOW_DIM},
	[SUBJECT_REFUSED] = {"refused", "REFUSED", SHOW_RED},
	[SUBJECT_UNSEEN] = {"unseen", "unseen", SHOW_YELLOW},
};

static bool has_point(const struct subject *s, int kind)
{
	for (unsigned i = 0; i < s->points->len; i++)
		if ((int)g_array_index(s->points, struct subject_point, i).point->kind == kind)
			return true;
	return false;
}

/* Orders of magnitude, measured on one machine; `bqlstat doctor` measures this one. */
#define EMULATED_NS 500
#define STEPPED_NS  9500

void subject_print_points(FILE *out, const struct subject *s, bool colour)
{
	int wide = 0;

	for (unsigned i = 0; i < s->points->len; i++)
		wide = MAX(wide,
			   (int)strlen(g_array_index(s->points, struct subject_point, i).where));
	for (unsigned i = 0; i < s->points->len; i++) {
		const struct subject_point *p = &g_array_index(s->points, struct subject_point, i);

		fprintf(out, "  %s%-7s%s  %-16s  %-*s  %-17s  %s%s%s\n",
			colour ? plans[p->plan].colour : "", plans[p->plan].text,
			colour ? SHOW_PLAIN : "", seam_point_kind_name(p->point->kind), wide,
			p->where, p->point->emulated ? "emulated ~0.5 us" : "stepped ~9.5 us",
			p->point->insn, *p->why ? "  -> " : "", p->why);
	}
	for (int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		const char *why = seam_map_missing(s->map, kind);

		/* With a point, too: it then misses what does not come that way. */
		if (why)
			fprintf(out, "  %-7s  %-16s  %s\n", has_point(s, kind) ? "partly" : "none",
				seam_point_kind_name(kind), why);
	}
}

void subject_json_head(JsonBuilder *b, const struct subject *s)
{
	g_autofree char *path = subject_path(s);

	show_text(b, "version", seam_map_version(s->map));
	show_text(b, "generation", seam_map_generation(s->map));
	show_text(b, "build_id", seam_map_build_id(s->map));
	show_text(b, "path", path);
	json_builder_set_member_name(b, "pid");
	if (s->pid)
		json_builder_add_int_value(b, s->pid);
	else
		json_builder_add_null_value(b);
	show_text(b, "refusal", *s->refusal ? s->refusal : NULL);
}

void subject_json_points(JsonBuilder *b, const struct subject *s)
{
	json_builder_set_member_name(b, "points");
	json_builder_begin_array(b);
	for (unsigned i = 0; i < s->points->len; i++) {
		const struct subject_point *p = &g_array_index(s->points, struct subject_point, i);

		json_builder_begin_object(b);
		show_text(b, "kind", seam_point_kind_name(p->point->kind));
		show_text(b, "where", p->where);
		show_int(b, "vaddr", p->point->vaddr);
		show_int(b, "offset", p->point->offset);
		show_text(b, "insn", p->point->insn);
		show_bool(b, "emulated", p->point->emulated);
		show_int(b, "predicted_ns", p->point->emulated ? EMULATED_NS : STEPPED_NS);
		show_text(b, "plan", plans[p->plan].json);
		show_text(b, "why", *p->why ? p->why : NULL);
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
	json_builder_set_member_name(b, "missing");
	json_builder_begin_array(b);
	for (int kind = 0; kind < SEAM_POINT_KINDS; kind++) {
		if (!seam_map_missing(s->map, kind))
			continue;
		json_builder_begin_object(b);
		show_text(b, "kind", seam_point_kind_name(kind));
		show_text(b, "why", seam_map_missing(s->map, kind));
		json_builder_end_object(b);
	}
	json_builder_end_array(b);
}

/* ---- finding ---- */

/* A wrapper or an explicit ld.so comes first in some command lines. */
static bool looks_like_qemu(const char *cmdline, size_t size)
{
	for (size_t at = 0; at < size; at += strlen(cmdline + at) + 1) {
		const char *slash = strrchr(cmdline + at, '/');
		const char *name = slash ? slash + 1 : cmdline + at;

		if (g_str_has_prefix(name, "qemu-system-") || !strcmp(name, "qemu-kvm") ||
		    (at == 0 && !strcmp(name, "kvm")))
			return true;
	}
	return false;
}

GArray *subject_running(void)
{
	GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
	GDir *proc = g_dir_open("/proc", 0, NULL);
	const char *name;

	while (proc && (name = g_dir_read_name(proc))) {
		g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", name);
		g_autofree char *cmdline = NULL;
		pid_t pid = atoi(name);
		gsize size;

		if (pid > 0 && g_file_get_contents(path, &cmdline, &size, NULL) &&
		    looks_like_qemu(cmdline, size))
			g_array_append_val(pids, pid);
	}
	if (proc)
		g_dir_close(proc);
	return pids;
}
