/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding QEMUs: the kernel tells which process executes a program, /proc tells what it is.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <glib.h>

#include "analyzers/model/plain.h"
#include "analyzers/watch/discover.h"
#include "probes/execs.h"

#define SCAN_NS	      1000000000ULL  /* between searches when the kernel does not tell */
#define RARE_SCAN_NS  30000000000ULL /* else: against what we have not thought of */
#define FIRST_WAIT_NS 10000000ULL    /* before another look at one that was not clear; doubles */
#define LOOKS	      9		     /* 10 ms ... 2.5 s: 5 s in all */
#define PROGRAMS      4096	     /* remembered; a build host makes new ones all day */

/* What a file is never changes, but a file's number may be used again. */
struct program {
	dev_t device;
	ino_t inode;
	struct timespec changed;
	bool qemu, loader;
};

struct known {
	struct discovered is; /* the strings are in `strings` */
	uint64_t looked_ns;   /* when */
	uint64_t code;	      /* where its program lies in memory */
	dev_t device;
	ino_t inode;
	char *strings[3];
};

/* To be looked at again: ld.so has not mapped its program yet, or it was just forked by a QEMU. */
struct doubt {
	pid_t pid;
	unsigned looks;
	uint64_t due_ns;
};

struct discover {
	char *pattern;
	struct discover_sink sink;
	int epoll_fd, timer_fd;
	struct execs *execs;
	struct tracer_error why;
	uint64_t scanned_ns; /* when /proc was searched last */
	uint64_t scan_ns;    /* when the next search is due */
	GHashTable *known;   /* pid -> struct known, owned */
	GArray *programs;    /* struct program */
	GArray *doubts;	     /* struct doubt */
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* ---- what /proc says of a process ---- */

static char *proc_file(pid_t pid, const char *name, gsize *size)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/%s", pid, name);
	char *content = NULL;

	return g_file_get_contents(path, &content, size, NULL) ? content : NULL;
}

/* The n-th field of /proc/PID/stat, the name being the second. 0: none. */
static uint64_t stat_field(pid_t pid, unsigned n)
{
	g_autofree char *stat = proc_file(pid, "stat", NULL);
	char *at = stat ? strrchr(stat, ')') : NULL;

	for (unsigned field = 2; at && field < n; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

enum { STAT_PARENT = 4, STAT_STARTED = 22, STAT_CODE = 26 };

/* One key=value of an option's list, where a comma within stands twice; returns what is left. */
static const char *next_part(const char *list, GString *part)
{
	g_string_truncate(part, 0);
	for (; *list && (*list != ',' || list[1] == ','); list++) {
		list += *list == ',';
		g_string_append_c(part, *list);
	}
	return list + (*list == ',');
}

/* -name NAME[,key=value...] or -name guest=NAME,... */
static void take_name(const char *list, GString *name)
{
	g_autoptr(GString) part = g_string_new(NULL);

	for (bool first = true; *list; first = false) {
		list = next_part(list, part);
		if (g_str_has_prefix(part->str, "guest="))
			g_string_assign(name, part->str + strlen("guest="));
		else if (first && !strchr(part->str, '='))
			g_string_assign(name, part->str);
	}
}

/* -smbios type=1,uuid=UUID, which QEMU takes for -uuid: Proxmox VE gives no other. */
static void take_smbios(const char *list, GString *uuid)
{
	g_autoptr(GString) part = g_string_new(NULL), found = g_string_new(NULL);
	bool system = false;

	while (*list) {
		list = next_part(list, part);
		system |= !strcmp(part->str, "type=1");
		if (g_str_has_prefix(part->str, "uuid="))
			g_string_assign(found, part->str + strlen("uuid="));
	}
	if (system && found->len)
		g_string_assign(uuid, found->str);
}

/*
 * What the VM is called, of options with one dash or two. An option that stands twice adds to its
 * first, and what is said later is what holds.
 */
static void read_names(const char *cmdline, gsize size, GString *name, GString *uuid)
{
	const char *end = cmdline + size;

	for (const char *arg = cmdline; arg < end; arg += strlen(arg) + 1) {
		const char *value = arg + strlen(arg) + 1;
		const char *option = arg + (arg[0] == '-') + (arg[0] == '-' && arg[1] == '-');

		if (option == arg || value >= end)
			continue;
		if (!strcmp(option, "name"))
			take_name(value, name);
		else if (!strcmp(option, "uuid"))
			g_string_assign(uuid, value);
		else if (!strcmp(option, "smbios"))
			take_smbios(value, uuid);
	}
}

/* ---- is it a QEMU? ---- */

static bool is_loader(const char *program)
{
	return g_str_has_prefix(program, "ld-") || g_str_has_prefix(program, "ld.so") ||
	       g_str_has_prefix(program, "ld64");
}

static char *program_name(const char *link)
{
	g_autofree char *path = g_file_read_link(link, NULL), *base = NULL;

	if (path && g_str_has_suffix(path, " (deleted)"))
		path[strlen(path) - strlen(" (deleted)")] = 0;
	base = path ? g_path_get_basename(path) : NULL;
	return base ? plain_text(base) : NULL;
}

static const struct program *program_of(struct discover *d, pid_t pid)
{
	g_autofree char *link = g_strdup_printf("/proc/%d/exe", pid), *name = NULL;
	struct seam_map *map = NULL;
	struct program fresh;
	struct stat st;

	if (stat(link, &st))
		return NULL;
	for (unsigned i = 0; i < d->programs->len; i++) {
		const struct program *p = &g_array_index(d->programs, struct program, i);

		if (p->device == st.st_dev && p->inode == st.st_ino &&
		    p->changed.tv_sec == st.st_ctim.tv_sec &&
		    p->changed.tv_nsec == st.st_ctim.tv_nsec)
			return p;
	}
	name = program_name(link);
	if (!name)
		return NULL;
	fresh = (struct program){st.st_dev, st.st_ino, st.st_ctim, .loader = is_loader(name)};
	fresh.qemu = !fresh.loader && !seam_map_open(link, &map, NULL);
	seam_map_free(map);
	if (d->programs->len == PROGRAMS)
		g_array_set_size(d->programs, 0);
	g_array_append_val(d->programs, fresh);
	return &g_array_index(d->programs, struct program, d->programs->len - 1);
}

/* The QEMU that ld.so runs, when it has mapped one. */
static char *loaded_program(pid_t pid)
{
	struct seam_map *map;
	char *name;

	if (seam_map_open_pid(pid, &map, NULL, NULL))
		return NULL;
	name = program_name(seam_map_path(map));
	seam_map_free(map);
	return name;
}

static bool matches(const struct discover *d, const struct discovered *q)
{
	g_autofree char *comm = proc_file(q->pid, "comm", NULL);

	return !d->pattern || !fnmatch(d->pattern, q->program, 0) ||
	       (comm && !fnmatch(d->pattern, g_strchomp(comm), 0)) ||
	       !fnmatch(d->pattern, q->name, 0) || !fnmatch(d->pattern, q->uuid, 0);
}

/* ---- known ones ---- */

static void known_free(gpointer data)
{
	struct known *k = data;

	close(k->is.pid_fd);
	for (unsigned i = 0; i < G_N_ELEMENTS(k->strings); i++)
		g_free(k->strings[i]);
	g_free(k);
}

static struct known *known_of(const struct discover *d, pid_t pid)
{
	return g_hash_table_lookup(d->known, GINT_TO_POINTER(pid));
}

static bool exited(int pid_fd)
{
	struct pollfd fd = {.fd = pid_fd, .events = POLLIN};

	return poll(&fd, 1, 0) != 0;
}

static void lose(struct discover *d, struct known *k)
{
	epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, k->is.pid_fd, NULL);
	g_hash_table_steal(d->known, GINT_TO_POINTER(k->is.pid));
	d->sink.gone(d->sink.opaque, &k->is);
	known_free(k);
}

/*
 * One is gone before it could be looked at. A QEMU that has become a daemon lives on in a child,
 * which has executed nothing.
 */
static void look_for_children(struct discover *d)
{
	d->scan_ns = MIN(d->scan_ns, d->scanned_ns + SCAN_NS);
}

/* True: look again. */
static bool take(struct discover *d, pid_t pid, bool sure)
{
	struct epoll_event event = {.events = EPOLLIN};
	const struct program *program;
	g_autofree char *cmdline = NULL;
	uint64_t looked_ns = now_ns();
	g_autoptr(GString) name = NULL, uuid = NULL;
	struct known *k;
	gsize size = 0;
	bool again;
	int pid_fd;

	program = program_of(d, pid);
	if (!program && sure)
		look_for_children(d);
	if (!program || !(program->qemu || program->loader))
		return false;
	/* A child that a QEMU forks, to start something or to become a daemon, still looks like it.
	 */
	if (!sure && known_of(d, stat_field(pid, STAT_PARENT)))
		return true;
	pid_fd = syscall(SYS_pidfd_open, pid, 0);
	if (pid_fd < 0)
		return false;
	k = g_new0(struct known, 1);
	k->is.pid = pid;
	k->is.pid_fd = pid_fd;
	k->looked_ns = looked_ns;
	k->code = stat_field(pid, STAT_CODE);
	k->is.started = stat_field(pid, STAT_STARTED);
	k->device = program->device;
	k->inode = program->inode;
	if (program->loader) {
		k->strings[0] = loaded_program(pid);
	} else {
		g_autofree char *link = g_strdup_printf("/proc/%d/exe", pid);

		k->strings[0] = program_name(link);
	}
	cmdline = proc_file(pid, "cmdline", &size);
	/* In the middle of an execve(), or of ld.so's work. */
	if (!k->strings[0] || !cmdline || !k->code) {
		again = program->loader || !k->code;
		known_free(k);
		return again;
	}
	name = g_string_new(NULL);
	uuid = g_string_new(NULL);
	read_names(cmdline, size, name, uuid);
	k->strings[1] = plain_text(name->str);
	k->strings[2] = plain_text(uuid->str);
	k->is.program = k->strings[0];
	k->is.name = k->strings[1];
	k->is.uuid = k->strings[2];
	/* All of it was about one process if that has not ended meanwhile. */
	if (exited(pid_fd)) {
		look_for_children(d);
		known_free(k);
		return false;
	}
	if (!matches(d, &k->is)) {
		known_free(k);
		return false;
	}
	g_hash_table_insert(d->known, GINT_TO_POINTER(pid), k);
	event.data.fd = pid_fd;
	epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, pid_fd, &event);
	d->sink.appeared(d->sink.opaque, &k->is);
	return false;
}

/* ---- what to look at ---- */

static void doubt(struct discover *d, pid_t pid, unsigned looks)
{
	struct doubt doubt = {pid, looks, now_ns() + (FIRST_WAIT_NS << looks)};

	if (looks < LOOKS)
		g_array_append_val(d->doubts, doubt);
}

static void forget_doubt(struct discover *d, pid_t pid)
{
	for (unsigned i = 0; i < d->doubts->len; i++)
		if (g_array_index(d->doubts, struct doubt, i).pid == pid)
			g_array_remove_index_fast(d->doubts, i--);
}

static bool in_doubt(const struct discover *d, pid_t pid)
{
	for (unsigned i = 0; i < d->doubts->len; i++)
		if (g_array_index(d->doubts, struct doubt, i).pid == pid)
			return true;
	return false;
}

/*
 * Whether a search has seen what the news only tell: it may come before they are read, even before
 * they are written, as a program's file is known for a moment before it runs. Then it lies where it
 * lay; at another time that may be chance, if addresses are not random.
 */
static bool seen_already(const struct known *k, uint64_t at_ns)
{
	return k->looked_ns > at_ns ||
	       (at_ns - k->looked_ns < SCAN_NS && k->code == stat_field(k->is.pid, STAT_CODE));
}

/* What it was it is no more. */
static void on_exec(void *opaque, pid_t pid, uint64_t at_ns)
{
	struct discover *d = opaque;
	struct known *k = known_of(d, pid);

	if (k && seen_already(k, at_ns))
		return;
	if (k)
		lose(d, k);
	forget_doubt(d, pid);
	if (take(d, pid, true))
		doubt(d, pid, 0);
}

static void look_again(struct discover *d)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; i < d->doubts->len; i++) {
		struct doubt was = g_array_index(d->doubts, struct doubt, i);

		if (was.due_ns > now)
			continue;
		g_array_remove_index(d->doubts, i--);
		if (!known_of(d, was.pid) && take(d, was.pid, true))
			doubt(d, was.pid, was.looks + 1);
	}
}

/* Has it executed another program, unseen? */
static bool changed(const struct known *k)
{
	g_autofree char *link = g_strdup_printf("/proc/%d/exe", k->is.pid);
	struct stat st;

	return !stat(link, &st) && (st.st_dev != k->device || st.st_ino != k->inode);
}

static void scan(struct discover *d)
{
	GDir *proc = g_dir_open("/proc", 0, NULL);
	const char *name;

	while (proc && (name = g_dir_read_name(proc))) {
		pid_t pid = atoi(name);
		struct known *k = pid > 0 ? known_of(d, pid) : NULL;

		if (pid <= 0 || in_doubt(d, pid))
			continue;
		if (k && !changed(k))
			continue;
		if (k)
			lose(d, k);
		if (take(d, pid, false))
			doubt(d, pid, 0);
	}
	if (proc)
		g_dir_close(proc);
	d->scanned_ns = now_ns();
	d->scan_ns = d->scanned_ns + (d->execs ? RARE_SCAN_NS : SCAN_NS);
}

/* Those that have exited. True: some have, and what they left behind must be looked for. */
static bool bury(struct discover *d)
{
	g_autoptr(GList) all = g_hash_table_get_values(d->known);
	bool any = false;

	for (GList *l = all; l; l = l->next) {
		struct known *k = l->data;

		if (!exited(k->is.pid_fd))
			continue;
		lose(d, k);
		any = true;
	}
	return any;
}

static void set_timer(struct discover *d)
{
	uint64_t due = d->scan_ns;
	struct itimerspec when = {};

	for (unsigned i = 0; i < d->doubts->len; i++)
		due = MIN(due, g_array_index(d->doubts, struct doubt, i).due_ns);
	when.it_value.tv_sec = due / 1000000000;
	when.it_value.tv_nsec = due % 1000000000;
	timerfd_settime(d->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void discover_poll(struct discover *d)
{
	if (d->execs && execs_poll(d->execs, on_exec, d))
		d->scan_ns = 0;
	/* Likewise at once when a known one has gone. */
	if (bury(d) || now_ns() >= d->scan_ns)
		scan(d);
	look_again(d);
	set_timer(d);
}

/* ---- life ---- */

static void listen_to(struct discover *d, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

struct discover *discover_new(const char *pattern, const struct discover_sink *sink)
{
	struct discover *d = g_new0(struct discover, 1);

	d->pattern = g_strdup(pattern);
	d->sink = *sink;
	d->known = g_hash_table_new_full(NULL, NULL, NULL, known_free);
	d->programs = g_array_new(FALSE, FALSE, sizeof(struct program));
	d->doubts = g_array_new(FALSE, FALSE, sizeof(struct doubt));
	d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	listen_to(d, d->timer_fd);
	if (!execs_new(&d->execs, &d->why))
		listen_to(d, execs_fd(d->execs));
	/* Due at once. */
	timerfd_settime(d->timer_fd, 0, &(struct itimerspec){.it_value.tv_nsec = 1}, NULL);
	return d;
}

void discover_free(struct discover *d)
{
	if (!d)
		return;
	execs_free(d->execs);
	g_hash_table_unref(d->known);
	g_array_unref(d->programs);
	g_array_unref(d->doubts);
	close(d->timer_fd);
	close(d->epoll_fd);
	g_free(d->pattern);
	g_free(d);
}

int discover_fd(const struct discover *d)
{
	return d->epoll_fd;
}

bool discover_prompt(const struct discover *d, const char **why)
{
	*why = d->execs ? "" : d->why.text;
	return d->execs;
}
