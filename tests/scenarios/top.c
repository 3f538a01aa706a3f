/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat top as text, as JSON and on a terminal: a pseudo terminal with a lockdance to look at.
 */
#include <errno.h>
#include <glib-unix.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>

#include "tests/scenarios/recording.h"

/* Takes the lock some 500 times a second, for a minute. */
static struct lab_process *busy(char pid[16])
{
	const char *argv[] = {
		lab_program("lockdance"), "-e",
		"thread CPU 0/TCG; repeat 30000; lock dance-a.c:1; unlock; idle 2000; "
		"end\n"
		"thread CPU 1/TCG; repeat 600; lock dance-b.c:2; sleep 20000; unlock; "
		"idle 80000; end",
		NULL};
	struct lab_process *p = lab_process_new(argv, NULL, NULL);

	g_assert_nonnull(p);
	g_snprintf(pid, 16, "%d", lab_process_pid(p));
	return p;
}

static bool skipped(const char *says)
{
	if (!strstr(says, "CAP_BPF") && !strstr(says, "no BTF"))
		return false;
	g_test_skip(says);
	return true;
}

static void as_text(void)
{
	char pid[16];
	struct lab_process *d = busy(pid);
	struct lab_process *p = bqlstat("top", "-p", pid, "-d", "300ms", "-n", "3", NULL);
	g_autofree char *says = NULL, *out = NULL;
	g_auto(GStrv) tables = NULL;
	unsigned heads = 0, both = 0;
	int code;

	says = outcome(p, &code);
	out = lab_process_stdout(p);
	lab_process_free(p);
	lab_process_free(d);
	if (code == 3 && skipped(says))
		return;
	g_assert_cmpint(code, ==, 0);
	for (const char *at = out; (at = strstr(at, "acquisitions/s")); at++)
		heads++;
	g_assert_cmpuint(heads, ==, 3);
	/* What holds most comes first, in each interval in which both took the lock. */
	tables = g_strsplit(out, "acquisitions/s", -1);
	for (char **table = tables; *table; table++) {
		const char *a = strstr(*table, "dance-a.c:1"), *b = strstr(*table, "dance-b.c:2");

		g_assert_true(!a || !b || b < a);
		both += a && b;
	}
	g_assert_cmpuint(both, >, 0);
}

/* In the middle of a hold: no row has it yet, and it is told who holds the lock. */
static void goes_on(void)
{
	struct dance d = start_dance("lockdance", "thread CPU 0/TCG; lock dance-a.c:1; "
						  "sleep 5000000; unlock");
	struct lab_process *p = bqlstat("top", "-p", d.pid, "-d", "500ms", NULL);
	bool told;
	char *says;

	if (!lab_process_expect(p, "acquisitions/s", PATIENCE_MS, NULL)) {
		says = lab_process_stderr(p);
		if (!skipped(says))
			g_error("%s", says);
		g_free(says);
		lab_process_free(p);
		return;
	}
	go(&d);
	told = lab_process_expect(p, "by vCPU 0 at dance-a.c:1", PATIENCE_MS, NULL);
	says = lab_process_stdout(p);
	if (!told || !strstr(says, "  held now, for "))
		g_error("%s", says);
	g_free(says);
	lab_process_free(p);
	danced(&d);
	g_strfreev(finish(&d));
}

/* Every acquisition is in one interval, and in no other; it ends with the QEMU. */
static void as_json(void)
{
	struct dance d =
		start_dance("lockdance", "thread CPU 0/TCG; repeat 1200; lock dance-a.c:1; "
					 "unlock; idle 1000; end");
	struct lab_process *p =
		bqlstat("top", "-p", d.pid, "-d", "200ms", "--json", "-m", "0", NULL);
	g_autofree char *says = NULL, *out = NULL;
	g_auto(GStrv) lines = NULL;
	uint64_t acquired = 0, sites = 0;
	double covered = 0, passed = 0;
	int code;

	if (!lab_process_expect(p, "\"acquired\"", PATIENCE_MS, NULL)) {
		says = lab_process_stderr(p);
		lab_process_free(p);
		go(&d);
		danced(&d);
		g_strfreev(finish(&d));
		if (!skipped(says))
			g_error("%s", says);
		return;
	}
	go(&d);
	danced(&d);
	g_strfreev(finish(&d));
	says = outcome(p, &code);
	g_assert_cmpint(code, ==, 0);
	out = lab_process_stdout(p);
	lab_process_free(p);
	lines = g_strsplit(out, "\n", -1);
	for (char **line = lines; *line && **line; line++) {
		GError *error = NULL;
		g_autoptr(JsonNode) node = json_from_string(*line, &error);
		JsonArray *rows;

		g_assert_no_error(error);
		acquired += lab_json_int(node, "acquired");
		covered += lab_json_int(node, "covered_ns");
		passed += lab_json_int(node, "interval_ns");
		/* Its clock is read after the account: all together, not each for itself. */
		g_assert_cmpfloat(covered, <=, passed);
		g_assert_cmpstr(lab_json_string(node, "level"), ==, "full");
		rows = json_object_get_array_member(json_node_get_object(node), "sites");
		for (unsigned i = 0; i < json_array_get_length(rows); i++) {
			JsonObject *row = json_array_get_object_element(rows, i);

			g_assert_cmpstr(json_object_get_string_member(row, "site"), ==,
					"dance-a.c:1");
			sites += json_object_get_int_member(row, "acquired");
		}
	}
	g_assert_cmpuint(acquired, ==, 1200);
	g_assert_cmpuint(sites, ==, 1200);
	g_assert_cmpfloat(covered, >, 1e9);
}

/* ---- those that come and go ---- */

static struct lab_process *named(const char *name, pid_t *pid)
{
	const char *argv[] = {
		lab_program("lockdance"),
		"-e",
		"thread CPU 0/TCG; repeat 30000; lock dance-a.c:1; unlock; idle 2000; "
		"end",
		"--",
		"-name",
		name,
		NULL};
	struct lab_process *p = lab_process_new(argv, NULL, NULL);

	g_assert_nonnull(p);
	*pid = lab_process_pid(p);
	return p;
}

/* Waits for a JSON line with this process in it, gone or not. */
static bool tells(struct lab_process *top, pid_t pid, bool gone)
{
	g_autofree char *text = g_strdup_printf("\"pid\":%d,", (int)pid);

	for (int i = 0; i < PATIENCE_MS / 20; i++) {
		g_autofree char *out = lab_process_stdout(top);
		g_auto(GStrv) lines = g_strsplit(out, "\n", -1);

		for (char **line = lines; *line && line[1]; line++)
			if (strstr(*line, text) && (strstr(*line, "\"gone\":true") != NULL) == gone)
				return true;
		if (!lab_process_running(top))
			return false;
		g_usleep(20000);
	}
	return false;
}

/* One comes in the interval in which another went, and has its place in the kernel: both are told.
 */
static void newcomers(void)
{
	g_autofree char *name = g_strdup_printf("top-%d", (int)getpid()), *says = NULL;
	struct lab_process *top = bqlstat("top", "-M", name, "-d", "1s", "--json", NULL), *d;
	pid_t pid, before;
	int code;

	d = named(name, &pid);
	if (!tells(top, pid, false)) {
		says = lab_process_stderr(top);
		lab_process_free(top);
		lab_process_free(d);
		if (!skipped(says))
			g_error("%s", says);
		return;
	}
	for (int i = 0; i < 4; i++) {
		before = pid;
		lab_process_free(d);
		g_usleep(100000); /* it is seen to go before the next one comes */
		d = named(name, &pid);
		g_assert_true(tells(top, before, true));
		g_assert_true(tells(top, pid, false));
	}
	lab_process_kill(top, SIGINT);
	says = outcome(top, &code);
	lab_process_free(top);
	lab_process_free(d);
	if (code)
		g_error("%d: %s", code, says);
}

/* ---- on a terminal ---- */

struct terminal {
	int fd;
	pid_t pid;
	GString *seen;
	struct termios before;
};

static void start_on_terminal(struct terminal *t, const char *pid)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	int slave;

	t->seen = g_string_new(NULL);
	g_assert_cmpint(openpty(&t->fd, &slave, NULL, NULL, &size), ==, 0);
	g_assert_cmpint(tcgetattr(slave, &t->before), ==, 0);
	t->pid = fork();
	if (!t->pid) {
		login_tty(slave);
		setenv("TERM", "xterm", 1);
		setenv("LC_ALL", "C.UTF-8", 1);
		execl(lab_program("bqlstat"), "bqlstat", "top", "-p", pid, "-d", "200ms", NULL);
		_exit(127);
	}
	close(slave);
	g_unix_set_fd_nonblocking(t->fd, TRUE, NULL);
}

/* Whether it shows this text from now on; "" just reads. */
static bool shows(struct terminal *t, const char *text, unsigned timeout_ms)
{
	uint64_t end = lab_now_ns() + timeout_ms * 1000000ULL;
	gsize from = t->seen->len;
	char buffer[4096];

	while (lab_now_ns() < end) {
		ssize_t n = read(t->fd, buffer, sizeof(buffer));

		if (n > 0)
			g_string_append_len(t->seen, buffer, n);
		else if (n < 0 && errno == EIO)
			break;
		if (*text && strstr(t->seen->str + from, text))
			return true;
		g_usleep(10000);
	}
	return false;
}

static void press(struct terminal *t, const char *keys)
{
	g_assert_cmpint(write(t->fd, keys, strlen(keys)), ==, (ssize_t)strlen(keys));
}

static char state_of(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid), *stat = NULL;

	g_assert_true(g_file_get_contents(path, &stat, NULL, NULL));
	return strrchr(stat, ')')[2];
}

static bool becomes(pid_t pid, char state)
{
	for (int i = 0; i < 500 && state_of(pid) != state; i++)
		g_usleep(10000);
	return state_of(pid) == state;
}

/* It has ended well and the terminal is as it was: cooked, cursor on, the first screen back. */
static void expect_restored(struct terminal *t)
{
	struct termios after;
	int status = -1;

	shows(t, "\033[?1049l", 5000);
	for (int i = 0; i < 500 && waitpid(t->pid, &status, WNOHANG) != t->pid; i++) {
		shows(t, "", 10);
		if (i == 499)
			g_error("bqlstat top did not end");
	}
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
	g_assert_nonnull(strstr(t->seen->str, "\033[?1049l"));
	g_assert_cmpint(tcgetattr(t->fd, &after), ==, 0);
	g_assert_cmpuint(after.c_lflag, ==, t->before.c_lflag);
	g_assert_cmpuint(after.c_iflag, ==, t->before.c_iflag);
	close(t->fd);
	g_string_free(t->seen, TRUE);
}

/* True: it cannot trace here. */
static bool cannot(struct terminal *t)
{
	if (shows(t, "dance-b.c:2", PATIENCE_MS))
		return false;
	if (!skipped(t->seen->str))
		g_error("it showed: %s", t->seen->str);
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	return true;
}

static void on_terminal(void)
{
	struct winsize narrow = {.ws_row = 7, .ws_col = 30}, wide = {.ws_row = 40, .ws_col = 140};
	char pid[16];
	struct lab_process *d = busy(pid);
	struct terminal t;

	start_on_terminal(&t, pid);
	if (cannot(&t)) {
		lab_process_free(d);
		return;
	}
	press(&t, "h");
	g_assert_true(shows(&t, "next order", 5000));
	press(&t, "h\n");
	g_assert_true(shows(&t, "since the recording began", 5000));
	g_assert_true(shows(&t, "blocked meanwhile", 5000) ||
		      strstr(t.seen->str, "blocked meanwhile"));
	press(&t, "\n/dance-a");
	g_assert_true(shows(&t, "show only: ", 5000) || strstr(t.seen->str, "show only: "));
	press(&t, "\n");
	g_assert_true(shows(&t, "only \"dance-a\"", 5000));
	g_assert_cmpint(ioctl(t.fd, TIOCSWINSZ, &narrow), ==, 0);
	shows(&t, "", 700);
	g_assert_cmpint(ioctl(t.fd, TIOCSWINSZ, &wide), ==, 0);
	g_assert_true(shows(&t, "blocked", 5000));
	kill(t.pid, SIGTSTP);
	g_assert_true(becomes(t.pid, 'T'));
	g_assert_true(shows(&t, "\033[?1049l", 1000) || strstr(t.seen->str, "\033[?1049l"));
	kill(t.pid, SIGCONT);
	g_assert_true(shows(&t, "dance-a.c:1", 5000));
	press(&t, "q");
	expect_restored(&t);
	lab_process_free(d);
}

static void ends_by_signal(gconstpointer signal)
{
	char pid[16];
	struct lab_process *d = busy(pid);
	struct terminal t;

	start_on_terminal(&t, pid);
	if (!cannot(&t)) {
		if (GPOINTER_TO_INT(signal))
			kill(t.pid, GPOINTER_TO_INT(signal));
		else
			press(&t, "\003"); /* Ctrl-C */
		expect_restored(&t);
	}
	lab_process_free(d);
}

/* ---- wrong usage ---- */

static void refused(void)
{
	static const struct {
		const char *args[4];
		int code;
		const char *says;
	} cases[] = {
		{{"-p", "none"}, 2, "-p wants process ids"},
		{{"-p", ""}, 2, "-p wants process ids"},
		{{"-p", "1", "-M", "x"}, 2, "which of them"},
		{{"-d", "1ms"}, 2, "-d wants an interval"},
		{{"-n", "-1"}, 2, "-n wants"},
		{{"--sort", "colour"}, 2, "--sort wants"},
		{{"-m", "x"}, 2, "--max-overhead wants"},
		{{"what"}, 2, "what is what?"},
		{{"-p", "4194304"}, 3, "no process 4194304"},
		{{"-p", "1"}, 3, "process 1"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *const *a = cases[i].args;
		struct lab_process *p = bqlstat("top", a[0], a[1], a[2], a[3], NULL);
		g_autofree char *says = NULL;
		int code;

		says = outcome(p, &code);
		lab_process_free(p);
		if (code != cases[i].code || !strstr(says, cases[i].says))
			g_error("wanted %d and \"%s\", got %d and: %s", cases[i].code,
				cases[i].says, code, says);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/top/text", as_text);
	g_test_add_func("/top/goes-on", goes_on);
	g_test_add_func("/top/json", as_json);
	g_test_add_func("/top/newcomers", newcomers);
	g_test_add_func("/top/terminal", on_terminal);
	g_test_add_data_func("/top/terminal/ctrl-c", GINT_TO_POINTER(0), ends_by_signal);
	g_test_add_data_func("/top/terminal/sigterm", GINT_TO_POINTER(SIGTERM), ends_by_signal);
	g_test_add_data_func("/top/terminal/sigint", GINT_TO_POINTER(SIGINT), ends_by_signal);
	g_test_add_func("/top/refused", refused);
	return g_test_run();
}
