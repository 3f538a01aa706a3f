/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An exporter of one's own for a test, and what it serves. Failures end the test at the caller's
 * line.
 */
#ifndef EXPORT_TEST_H
#define EXPORT_TEST_H

#include "analyzers/lab/web.h"
#include "tests/scenarios/recording.h"

#define OPEN_METRICS "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"

/* An exporter of our own, that sees only this test's processes. */
struct exporter {
	struct lab_process *process;
	char at[32];
};

static char fresh[32]; /* a name that no other process here has */

/* NULL after g_test_skip() where there is no tracing. */
static inline bool start_exporter(struct exporter *x, const char *option, const char *value)
{
	g_autofree char *says = NULL;
	int code;

	g_snprintf(x->at, sizeof(x->at), "127.0.0.1:%u", lab_free_port());
	x->process = bqlstat("export", "--listen", x->at, option, value, NULL);
	for (int i = 0; i < PATIENCE_MS / 20; i++) {
		g_free(says);
		says = lab_process_stderr(x->process);
		if (strstr(says, "serving"))
			return true;
		if (!lab_process_running(x->process))
			break;
		g_usleep(20000);
	}
	lab_process_wait(x->process, 1000, &code, NULL);
	if (!strstr(says, "CAP_BPF") && !strstr(says, "no BTF"))
		g_error("the exporter does not serve: %s", says);
	g_test_skip(says);
	lab_process_free(x->process);
	return false;
}

static inline void stop_exporter(struct exporter *x)
{
	g_autofree char *says = NULL;
	int code;

	lab_process_kill(x->process, SIGTERM);
	says = outcome(x->process, &code);
	if (code)
		g_error("the exporter ended with %d: %s", code, says);
	lab_process_free(x->process);
}

static inline char *scrape(const struct exporter *x, const char *headers)
{
	GError *error = NULL;
	char *text = lab_web_get(x->at, "/metrics", headers, &error);

	g_assert_no_error(error);
	return text;
}

/* The value of a sample whose line begins so; below 0: there is none. */
static inline double value_of(const char *text, const char *sample)
{
	size_t length = strlen(sample);

	for (const char *at = strstr(text, sample); at; at = strstr(at + 1, sample))
		if ((at == text || at[-1] == '\n') && at[length] == ' ')
			return g_ascii_strtod(at + length, NULL);
	return -1;
}

/* The same of a sample of one dance: NAME{vm="...",uuid="..."[,LABELS]}. */
static inline double figure(const char *text, const char *name, const char *vm, const char *labels)
{
	g_autofree char *sample = g_strdup_printf("%s{vm=\"%s\",uuid=\"\"%s%s}", name, vm,
						  labels ? "," : "", labels ? labels : "");

	return value_of(text, sample);
}

/*
 * What is served once all of a dance's acquisitions are in it: an exporter that has no processor
 * just then serves what it has. More than there were fails where it is looked at.
 */
static inline char *scrape_settled(const struct exporter *x, const char *vm, double acquired)
{
	uint64_t end = lab_now_ns() + PATIENCE_MS * 1000000ULL;
	char *text = scrape(x, NULL);

	while (figure(text, "bqlstat_acquisitions_total", vm, NULL) < acquired &&
	       lab_now_ns() < end) {
		g_usleep(50000);
		g_free(text);
		text = scrape(x, NULL);
	}
	return text;
}

/* A file of the sources, which lie above the programs. */
static inline char *source(const char *name)
{
	g_autofree char *at = g_canonicalize_filename(lab_program("bqlstat"), NULL);

	while (strlen(at) > 1) {
		char *up = g_path_get_dirname(at);
		g_autofree char *path = g_build_filename(up, name, NULL);

		g_free(at);
		at = up;
		if (g_file_test(path, G_FILE_TEST_EXISTS))
			return g_steal_pointer(&path);
	}
	g_error("no %s above the programs", name);
}

static inline struct lab_process *dance(const char *name, const char *script)
{
	const char *argv[] = {lab_program("lockdance"),
			      "--wait-start",
			      "--wait-end",
			      "-e",
			      script,
			      "--",
			      "-name",
			      name,
			      NULL};
	GError *error = NULL;
	struct lab_process *p = lab_process_new(argv, NULL, &error);

	g_assert_no_error(error);
	return p;
}

static inline char *named(const char *suffix)
{
	return g_strdup_printf("%s-%s", fresh, suffix);
}

/* Until the VM has, or has not, a series; how long that took. */
static inline uint64_t wait_traced(const struct exporter *x, const char *vm, bool traced)
{
	uint64_t begin = lab_now_ns();

	while (lab_now_ns() - begin < PATIENCE_MS * 1000000ULL) {
		g_autofree char *text = scrape(x, NULL);

		if ((figure(text, "bqlstat_vm_traced", vm, NULL) == 1) == traced)
			return lab_now_ns() - begin;
		g_usleep(20000);
	}
	g_error("%s is %s after %d s", vm, traced ? "not traced" : "still there",
		PATIENCE_MS / 1000);
}

#endif
