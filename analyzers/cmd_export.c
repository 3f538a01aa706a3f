/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bqlstat export: serve what is known of every QEMU's lock to Prometheus, and print dashboards.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "analyzers/command.h"
#include "analyzers/export/fleet.h"
#include "analyzers/export/grafana.h"
#include "analyzers/export/http.h"

#define LISTEN	"127.0.0.1:10275"
#define TEND_MS 200
/* Even when nobody asks: the windows of the longest hold have slots of 5 s. */
#define UPDATE_NS 2500000000ULL

struct export
{
	char *listen, *match, *pids, *threshold, *overhead;
	char **qmp;
	gboolean qmp_discover, quiet;
	int records;
	struct fleet_options options;
	GArray *pid_list;
	struct book book;
	struct fleet *fleet;
	struct http *http;
	int signal_fd;
};

static uint64_t now_ns(void)
{
	return g_get_monotonic_time() * 1000;
}

/* A point is two descriptors, a QEMU some twenty points. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int serve(struct export *x)
{
	bool more = false, over = false;
	uint64_t updated = 0;

	while (!over) {
		struct pollfd fds[] = {
			{.fd = x->signal_fd, .events = POLLIN},
			{.fd = fleet_fd(x->fleet), .events = POLLIN},
			{.fd = x->book.wanted_fd, .events = POLLIN},
		};
		eventfd_t wanted = 0;

		poll(fds, G_N_ELEMENTS(fds), more ? 0 : TEND_MS);
		if (fds[0].revents)
			break;
		if (fds[2].revents)
			eventfd_read(x->book.wanted_fd, &wanted);
		/* Between two attaches: a host that starts fifty QEMUs is read all the same. */
		if (wanted || now_ns() - updated >= UPDATE_NS) {
			fleet_update(x->fleet);
			updated = now_ns();
		}
		more = fleet_tend(x->fleet);
		over = !more && fleet_over(x->fleet);
	}
	if (over && !x->quiet)
		fputs("bqlstat: every QEMU of -p has ended\n", stderr);
	return EXIT_DONE;
}

static int check_pids(struct export *x)
{
	/* Finds all that run. */
	fleet_tend(x->fleet);
	if (!fleet_over(x->fleet))
		return EXIT_DONE;
	return command_fail(EXIT_CANNOT,
			    "none of -p %s is a QEMU that can be traced: `bqlstat doctor PID` says "
			    "why",
			    x->pids);
}

static int run_export(struct export *x)
{
	g_autofree char *why = NULL;
	struct tracer_error err;
	sigset_t signals;
	int code;

	raise_limits();
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	x->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	/* First: a port that is taken is told before anything is loaded. */
	x->http = http_new(x->listen ? x->listen : LISTEN, &x->book, &why);
	if (!x->http)
		return command_fail(errno == EINVAL ? EXIT_USAGE : EXIT_CANNOT, "%s", why);
	if (fleet_new(&x->options, &x->book, &x->fleet, &err))
		return command_fail(EXIT_CANNOT, "%s", err.text);
	code = x->pids ? check_pids(x) : EXIT_DONE;
	if (code != EXIT_DONE)
		return code;
	if (!x->quiet && !http_is_local(x->http))
		fprintf(stderr,
			"bqlstat: other hosts can read %s, without a password: "
			"bqlstat-export(1) tells how to put a proxy before it\n",
			http_address(x->http));
	/* Scripts wait for this line. */
	if (!x->quiet)
		fprintf(stderr, "bqlstat: serving http://%s/metrics\n", http_address(x->http));
	return serve(x);
}

static bool parse_pids(struct export *x)
{
	g_auto(GStrv) words = g_strsplit(x->pids, ",", -1);

	for (char **word = words; *word; word++) {
		guint64 pid;

		if (!g_ascii_string_to_unsigned(*word, 10, 1, G_MAXINT32, &pid, NULL))
			return false;
		g_array_append_vals(x->pid_list, &(pid_t){pid}, 1);
	}
	x->options.pids = x->pid_list;
	return x->pid_list->len;
}

static bool parse_qmp(const struct export *x)
{
	for (char **word = x->qmp; word && *word; word++) {
		const char *equals = strrchr(*word, '=');

		if (!equals || equals == *word || !equals[1])
			return false;
	}
	return true;
}

static bool understand(struct export *x, const char **wrong)
{
	*wrong = NULL;
	if (x->pids && x->match)
		*wrong = "-p and --match exclude each other";
	else if (x->pids && !parse_pids(x))
		*wrong = "-p wants process ids such as 1234 or 1234,5678";
	else if (!parse_qmp(x))
		*wrong = "--qmp wants VM=PATH: a VM's name, uuid or process id, and its QMP socket";
	else if (x->threshold && !command_duration(x->threshold, 1000000, &x->options.threshold_ns))
		*wrong = "--threshold wants a duration such as 1ms or 250us";
	else if (x->overhead && !command_percent(x->overhead, &x->options.max_overhead))
		*wrong = "--max-overhead wants percents of a core such as 5 or 0.5%, or 0 for no "
			 "limit";
	else if (x->records < 64 || x->records > 65536)
		*wrong = "--records wants a number from 64 to 65536";
	x->options.match = x->match;
	x->options.records = x->records;
	x->options.qmp = x->qmp;
	x->options.qmp_discover = x->qmp_discover;
	x->options.quiet = x->quiet;
	return !*wrong;
}

static int export(const struct command *command, int argc, char **argv)
{
	struct export x = {.signal_fd = -1,
			   .records = 2048,
			   .options.threshold_ns = 1000000,
			   .options.max_overhead = 0.05};
	struct grafana_options grafana = {};
	const GOptionEntry entries[] = {
		{"listen", 'l', 0, G_OPTION_ARG_STRING, &x.listen,
		 "where to serve (" LISTEN "); :PORT is every address", "ADDR:PORT"},
		{"match", 'm', 0, G_OPTION_ARG_STRING, &x.match,
		 "only QEMUs whose program, VM name or uuid is like this", "PATTERN"},
		{"pid", 'p', 0, G_OPTION_ARG_STRING, &x.pids,
		 "only these QEMUs; ends when they have ended", "PID[,PID]"},
		{"qmp", 0, 0, G_OPTION_ARG_STRING_ARRAY, &x.qmp,
		 "measure how fast this VM's monitor answers; may be repeated", "VM=PATH"},
		{"qmp-discover", 0, 0, G_OPTION_ARG_NONE, &x.qmp_discover,
		 "take each VM's -qmp unix:... socket for it; nobody else may use that one", NULL},
		{"threshold", 't', 0, G_OPTION_ARG_STRING, &x.threshold,
		 "holds of this length can be exemplars (1ms)", "DUR"},
		{"max-overhead", 0, 0, G_OPTION_ARG_STRING, &x.overhead,
		 "record less when it costs a QEMU more of a core than this (5); 0: never",
		 "PERCENT"},
		{"records", 'r', 0, G_OPTION_ARG_INT, &x.records,
		 "room for pairs of thread and call site, 9 KB each (2048)", "N"},
		{"quiet", 'q', 0, G_OPTION_ARG_NONE, &x.quiet, "say nothing when all is well",
		 NULL},
		{"uid", 0, 0, G_OPTION_ARG_STRING, &grafana.uid,
		 "grafana: only the dashboard of this uid", "UID"},
		{"datasource", 0, 0, G_OPTION_ARG_STRING, &grafana.datasource,
		 "grafana: uid of the Prometheus to show at first", "UID"},
		{"output", 'o', 0, G_OPTION_ARG_FILENAME, &grafana.folder,
		 "grafana: write everything into this folder", "DIR"},
		{},
	};
	const char *wrong;
	int code;

	x.pid_list = g_array_new(FALSE, FALSE, sizeof(pid_t));
	book_init(&x.book);
	if (!command_options(command, entries, &argc, &argv))
		code = EXIT_USAGE;
	else if (argc == 2 && !strcmp(argv[1], "grafana"))
		code = grafana_print(&grafana);
	else if (argc > 1)
		code = command_fail(EXIT_USAGE,
				    "what is %s? `bqlstat help export` tells what there is",
				    argv[1]);
	else if (grafana.uid || grafana.datasource || grafana.folder)
		code = command_fail(EXIT_USAGE,
				    "--uid, --datasource and --output go with `bqlstat export "
				    "grafana`");
	else if (!understand(&x, &wrong))
		code = command_fail(EXIT_USAGE, "%s: `bqlstat help export` tells how", wrong);
	else
		code = run_export(&x);

	http_free(x.http);
	fleet_free(x.fleet);
	book_clear(&x.book);
	if (x.signal_fd >= 0)
		close(x.signal_fd);
	g_array_unref(x.pid_list);
	g_free(x.listen);
	g_free(x.match);
	g_free(x.pids);
	g_free(x.threshold);
	g_free(x.overhead);
	g_strfreev(x.qmp);
	g_free(grafana.uid);
	g_free(grafana.datasource);
	g_free(grafana.folder);
	return code;
}

const struct command command_export = {
	.name = "export",
	.does = "serve all QEMUs to Prometheus; print Grafana dashboards",
	.usage = "[-l ADDR:PORT] [-m PATTERN | -p PID[,PID]] | grafana [--uid UID] [-o DIR]",
	.help = "Attaches to every QEMU of this host as they come and go, and serves at\n"
		"  /metrics   counters and histograms for Prometheus (docs/metrics.md)\n"
		"  /healthz   whether the exporter works\n"
		"  /          a page for people\n"
		"until Ctrl-C. Detaching leaves nothing in the QEMUs. Plain HTTP on this host "
		"only, "
		"unless\n"
		"-l says otherwise: a proxy adds TLS and passwords.\n\n"
		"`bqlstat export grafana` lists the dashboards and rules; with --uid prints one, "
		"with -o\n"
		"writes all of them into a folder.",
	.run = export,
};
