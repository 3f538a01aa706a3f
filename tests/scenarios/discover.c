/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMUs are found as they come and go: by whatever name, however they were started, with the
 * kernel's help and without.
 */
#include <linux/capability.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "analyzers/watch/discover.h"
#include "tests/scenarios/recording.h"

/* This test's own names: others may run on the same machine, and are found too. */
static char *program; /* a lockdance */
static char file_name[32], fresh[32], uuid[40];

/* What was seen: "+NAME" and "-NAME", in order. */
struct seen {
	GString *text;
	unsigned appeared, gone;
	struct discovered last;
	struct discover *discover;
};

static void on_appeared(void *opaque, const struct discovered *q)
{
	struct seen *s = opaque;

	s->appeared++;
	s->last = *q;
	g_string_append_printf(s->text, "+%s", q->name);
}

static void on_gone(void *opaque, const struct discovered *q)
{
	struct seen *s = opaque;

	s->gone++;
	g_string_append_printf(s->text, "-%s", q->name);
}

static void look_for(struct seen *s, const char *pattern)
{
	const struct discover_sink sink = {on_appeared, on_gone, s};

	*s = (struct seen){.text = g_string_new(NULL)};
	s->discover = discover_new(pattern, &sink);
}

static void stop_looking(struct seen *s)
{
	discover_free(s->discover);
	g_string_free(s->text, TRUE);
}

/* As its users do: wait for its descriptor, then poll. Until so many came and went. */
static bool see(struct seen *s, unsigned appeared, unsigned gone, unsigned timeout_ms)
{
	uint64_t end = lab_now_ns() + timeout_ms * 1000000ULL;
	struct pollfd fd = {.fd = discover_fd(s->discover), .events = POLLIN};

	for (;;) {
		uint64_t now = lab_now_ns();

		if (s->appeared >= appeared && s->gone >= gone)
			return s->appeared == appeared && s->gone == gone;
		if (now >= end)
			return false;
		poll(&fd, 1, (end - now) / 1000000 + 1);
		if (fd.revents)
			discover_poll(s->discover);
	}
}

/* Whether nothing comes for a while. */
static bool quiet(struct seen *s, unsigned ms)
{
	unsigned appeared = s->appeared, gone = s->gone;

	return !see(s, appeared + 1, gone, ms) && s->appeared == appeared && s->gone == gone;
}

static struct lab_process *dance_as(const char *way, const char *name)
{
	const char *argv[] = {"/bin/sh", "-c", way,	"sh", program,	"--wait-start", "--pairs",
			      "1",	 "--", "-name", name, "--uuid", uuid,		NULL};
	struct lab_process *p = lab_process_new(argv, NULL, NULL);

	g_assert_nonnull(p);
	return p;
}

/* A name is nothing that a terminal, a log or a page obeys to. */
static void strange_name(void)
{
	g_autofree char *name = g_strdup_printf("guest=%s\033[31m\377\nx", fresh);
	g_autofree char *shown =
		g_strdup_printf("%s\357\277\275[31m\357\277\275\357\277\275x", fresh);
	struct lab_process *p = dance_as("exec \"$@\"", name);
	struct seen s;

	g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
	look_for(&s, uuid);
	discover_poll(s.discover);
	g_assert_cmpuint(s.appeared, ==, 1);
	g_assert_cmpstr(s.last.name, ==, shown);
	lab_process_free(p);
	g_assert_true(see(&s, 1, 1, PATIENCE_MS));
	stop_looking(&s);
}

/* By any of its names, and by no other. */
static void names(void)
{
	g_autofree char *file = g_path_get_basename(program), *start = g_strndup(file, 11);
	g_autofree char *any = g_strdup_printf("%s*", fresh), *half = g_strndup(uuid, 35);
	g_autofree char *start_of_file = g_strdup_printf("%s*", start);
	g_autofree char *start_of_uuid = g_strdup_printf("%s*", half);
	g_autofree char *with = g_strdup_printf("guest=%s-1,debug-threads=on", fresh);
	g_autofree char *comma = g_strdup_printf("%s,,b,process=x", fresh);
	g_autofree char *with_comma = g_strdup_printf("%s,b", fresh);
	g_autofree char *other = g_strdup_printf("%s-2", fresh);
	g_autofree char *process = g_strdup_printf("x,process=%s", fresh);
	const struct {
		const char *pattern, *name;
		bool found;
	} cases[] = {
		{any, with, true},	   {fresh, fresh, true},    {with_comma, comma, true},
		{start_of_uuid, "", true}, {file, fresh, true},	    {start_of_file, "x", true},
		{other, fresh, false},	   {fresh, process, false},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct lab_process *p = dance_as("exec \"$@\"", cases[i].name);
		struct seen s;

		g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
		look_for(&s, cases[i].pattern);
		discover_poll(s.discover);
		g_assert_cmpuint(s.appeared, ==, cases[i].found);
		if (cases[i].found) {
			g_assert_cmpint(s.last.pid, ==, lab_process_pid(p));
			g_assert_cmpstr(s.last.uuid, ==, uuid);
			g_assert_cmpstr(s.last.program, ==, file);
			lab_process_free(p);
			g_assert_true(see(&s, 1, 1, PATIENCE_MS));
		} else {
			lab_process_free(p);
			g_assert_true(quiet(&s, 50));
		}
		stop_looking(&s);
	}
}

/* In whatever way the command line says it. */
static void command_lines(void)
{
	static const struct {
		const char *options[7];
		const char *name, *uuid;
	} cases[] = {
		{{"-name", "a"}, "a", ""},
		{{"--name", "guest=a,debug-threads=on"}, "a", ""},
		{{"-name", "debug-threads=on,guest=a,,b=c"}, "a,b=c", ""},
		{{"-name", "debug-threads=on", "-name", "guest=a"}, "a", ""},
		{{"-name", "a", "-name", "debug-threads=on"}, "a", ""},
		{{"-name", "a", "-name", "b"}, "b", ""},
		{{"-name", "debug-threads=on"}, "", ""},
		{{"-name", "process=x"}, "", ""},
		{{"-uuid", "u-1", "-uuid", "u-2"}, "", "u-2"},
		{{"-smbios", "type=1,uuid=u-3", "-name", "100,debug-threads=on"}, "100", "u-3"},
		{{"-smbios", "type=0,uuid=u-4", "-smbios", "type=11,value=uuid=x"}, "", ""},
		{{"-uuid", "u-5", "-smbios", "type=1,serial=7"}, "", "u-5"},
		{{"-name"}, "", ""},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *argv[16] = {program, "--wait-start", "--pairs", "1", "--"};
		struct lab_process *p;
		struct seen s;

		for (unsigned j = 0; cases[i].options[j]; j++)
			argv[5 + j] = cases[i].options[j];
		look_for(&s, file_name);
		p = lab_process_new(argv, NULL, NULL);
		g_assert_nonnull(p);
		g_assert_true(see(&s, 1, 0, PATIENCE_MS));
		g_assert_cmpstr(s.last.name, ==, cases[i].name);
		g_assert_cmpstr(s.last.uuid, ==, cases[i].uuid);
		lab_process_free(p);
		g_assert_true(see(&s, 1, 1, PATIENCE_MS));
		stop_looking(&s);
	}
}

static const char *const ways[] = {
	"exec \"$@\"",
	"sleep 0.3; exec \"$@\"", /* what stands in between names the VM too, and is no QEMU */
	"exec 3<&0; timeout 60 \"$@\" <&3 & wait $!",
	"exec /lib64/ld-linux-x86-64.so.2 \"$@\"",
	/* As containers do: other process numbers, and a program that nobody else sees. */
	"exec unshare -m -p -n -f --kill-child sh -c 'mount -t proc proc /proc && mount -t tmpfs x "
	"/mnt && "
	"cp \"$1\" /mnt && cd /mnt && exec ./${1##*/} --wait-start --pairs 1 -- -name \"$0\"' "
	"\"$7\" \"$1\"",
};

/* However it is started, one appears once. */
static void comes(gconstpointer way)
{
	g_autofree char *events = NULL;
	struct lab_process *p;
	struct seen s;

	look_for(&s, fresh);
	g_assert_true(quiet(&s, 50));
	p = dance_as(way, fresh);
	g_assert_true(see(&s, 1, 0, PATIENCE_MS));
	g_assert_true(lab_process_expect(p, "ready", PATIENCE_MS, NULL));
	g_assert_true(quiet(&s, 200));
	g_assert_true(g_str_has_suffix(program, s.last.program));
	lab_process_free(p);
	g_assert_true(see(&s, 1, 1, PATIENCE_MS));
	events = g_strdup_printf("+%s-%s", fresh, fresh);
	g_assert_cmpstr(s.text->str, ==, events);
	stop_looking(&s);
}

/*
 * A search, which each end brings about, may find one before the kernel's news of it are read: it
 * is found once all the same. How many do so is up to the machine.
 */
static void late_news(void)
{
	enum { N = 60 };
	g_autofree char *all = g_strdup_printf("%s*", fresh);
	struct lab_process *p[N];
	struct seen s;

	look_for(&s, all);
	for (unsigned i = 0; i < N; i++) {
		g_autofree char *name = g_strdup_printf("%s-%u", fresh, i);

		p[i] = dance_as(ways[0], name);
		/* Before, in the middle of, or after the other's start. */
		g_usleep(i % 16 * 200);
		if (i)
			kill(lab_process_pid(p[i - 1]), SIGKILL);
		g_assert_true(see(&s, i + 1, i, PATIENCE_MS));
	}
	g_assert_true(quiet(&s, 200));
	for (unsigned i = 0; i < N; i++)
		lab_process_free(p[i]);
	stop_looking(&s);
}

static void copy_program(const char *from, const char *to)
{
	g_autofree char *content = NULL;
	gsize size;

	g_assert_true(g_file_get_contents(from, &content, &size, NULL));
	g_assert_true(g_file_set_contents(to, content, size, NULL));
	chmod(to, 0755);
}

/* One that looks like a QEMU by its name only. */
static void impostor(void)
{
	g_autofree char *name = g_strdup_printf("qemu-system-%d", getpid());
	g_autofree char *path = g_build_filename(lab_tmpdir(), name, NULL);
	struct lab_process *p;
	struct seen s;

	copy_program("/bin/sleep", path);
	look_for(&s, name);
	p = lab_process_new((const char *[]){path, "30", NULL}, NULL, NULL);
	g_assert_nonnull(p);
	g_assert_true(quiet(&s, 300));
	lab_process_free(p);
	stop_looking(&s);
}

static void set_effective(uint32_t low, uint32_t high)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	g_assert_cmpint(syscall(SYS_capget, &head, data), ==, 0);
	data[0].effective = data[0].permitted & low;
	data[1].effective = data[1].permitted & high;
	g_assert_cmpint(syscall(SYS_capset, &head, data), ==, 0);
}

/* Where the kernel tells nothing: /proc does, a little later. */
static void unprivileged(void)
{
	struct lab_process *p;
	const char *why;
	struct seen s;
	bool prompt;

	set_effective(~(1U << CAP_SYS_ADMIN), ~(1U << (CAP_BPF - 32) | 1U << (CAP_PERFMON - 32)));
	look_for(&s, fresh);
	set_effective(~0U, ~0U);
	prompt = discover_prompt(s.discover, &why);
	g_assert_false(prompt);
	discover_poll(s.discover);
	g_assert_cmpstr(why, !=, "");
	p = dance_as(ways[1], fresh);
	g_assert_true(see(&s, 1, 0, PATIENCE_MS));
	lab_process_free(p);
	g_assert_true(see(&s, 1, 1, PATIENCE_MS));
	stop_looking(&s);
}

/* A real one that becomes a daemon: the child that lives on is the one that is found. */
static void daemon_child(void)
{
	g_autofree char *pid_file = fresh_path("pid"), *text = NULL;
	const char *why, *qemu = lab_qemu_path("7.2", &why);
	const char *argv[] = {qemu,	"-name",       fresh,	   "-daemonize", "-pidfile",
			      pid_file, "-nodefaults", "-display", "none",	 "-accel",
			      "tcg",	"-S",	       "-machine", "none",	 NULL};
	struct lab_process *p;
	struct seen s;
	int code;

	if (!qemu) {
		g_test_skip(why);
		return;
	}
	look_for(&s, fresh);
	discover_poll(s.discover);
	p = lab_process_new(argv, NULL, NULL);
	g_assert_nonnull(p);
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &code, NULL));
	g_assert_cmpint(code, ==, 0);
	g_assert_true(g_file_get_contents(pid_file, &text, NULL, NULL));
	for (int i = 0; i < 100 && s.last.pid != atoi(text); i++)
		see(&s, s.appeared + 1, s.gone, 100);
	/* The parent's end may be news that comes late. */
	see(&s, s.appeared, s.appeared - 1, PATIENCE_MS);
	quiet(&s, 100);
	kill(atoi(text), SIGKILL);
	g_assert_cmpint(s.last.pid, ==, atoi(text));
	g_assert_cmpuint(s.appeared, ==, s.gone + 1);
	g_assert_true(see(&s, s.appeared, s.appeared, PATIENCE_MS));
	stop_looking(&s);
	lab_process_free(p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_snprintf(file_name, sizeof(file_name), "dance-%d-x", getpid());
	program = g_build_filename(lab_tmpdir(), file_name, NULL);
	copy_program(lab_program("lockdance"), program);
	g_snprintf(fresh, sizeof(fresh), "fresh-%d", getpid());
	g_snprintf(uuid, sizeof(uuid), "6d1f0c8e-8f5e-4f0b-9b43-%012x", getpid());
	g_test_add_func("/discover/names", names);
	g_test_add_func("/discover/command-lines", command_lines);
	g_test_add_func("/discover/strange-name", strange_name);
	for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
		g_autofree char *path = g_strdup_printf("/discover/comes/%u", i);

		g_test_add_data_func(path, ways[i], comes);
	}
	g_test_add_func("/discover/late-news", late_news);
	g_test_add_func("/discover/impostor", impostor);
	g_test_add_func("/discover/unprivileged", unprivileged);
	g_test_add_func("/discover/daemon", daemon_child);
	return g_test_run();
}
