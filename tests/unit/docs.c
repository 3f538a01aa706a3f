/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Help, man pages, completion, the JSON pages and what `make install` installs tell the same story.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/lab/lab.h"

/* ---- small tools ---- */

/* A set of strings. */
static GHashTable *set_new(void)
{
	return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

/* Every match's groups, those that took part. */
static void add_matches(GHashTable *set, const char *text, const char *pattern)
{
	g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);
	g_autoptr(GMatchInfo) match = NULL;

	g_assert_nonnull(regex);
	for (g_regex_match(regex, text, 0, &match); g_match_info_matches(match);
	     g_match_info_next(match, NULL))
		for (int group = 1; group < g_match_info_get_match_count(match); group++) {
			g_autofree char *word = g_match_info_fetch(match, group);

			if (*word)
				g_hash_table_add(set, g_steal_pointer(&word));
		}
}

static void expect_within(GHashTable *a, const char *a_name, GHashTable *b, const char *b_name)
{
	GHashTableIter iter;
	void *word;

	g_hash_table_iter_init(&iter, a);
	while (g_hash_table_iter_next(&iter, &word, NULL))
		if (!g_hash_table_contains(b, word)) {
			g_test_message("%s is in %s, but not in %s", (char *)word, a_name, b_name);
			g_test_fail();
		}
}

static void expect_same(GHashTable *a, const char *a_name, GHashTable *b, const char *b_name)
{
	g_assert_cmpuint(g_hash_table_size(a), >, 0);
	expect_within(a, a_name, b, b_name);
	expect_within(b, b_name, a, a_name);
}

/* The sources, above the programs; the build folder has a docs/man of its own. */
static const char *root(void)
{
	static char *found;
	g_autofree char *here =
		found ? NULL : g_canonicalize_filename(lab_program("bqlstat"), NULL);

	while (!found) {
		g_autofree char *docs = NULL;
		char *up = g_path_get_dirname(here);

		g_assert_cmpstr(up, !=, here);
		g_free(here);
		here = up;
		docs = g_build_filename(here, "docs", "completion", NULL);
		if (g_file_test(docs, G_FILE_TEST_IS_DIR))
			found = g_steal_pointer(&here);
	}
	return found;
}

static char *read_doc(const char *name)
{
	g_autofree char *path = g_build_filename(root(), "docs", name, NULL);
	g_autoptr(GError) error = NULL;
	char *text;

	g_file_get_contents(path, &text, NULL, &error);
	g_assert_no_error(error);
	return text;
}

static int run(const char *const *argv, const char *const *env, char **out)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) process = lab_process_new(argv, env, &error);
	g_autofree char *said = NULL;
	int status;

	g_assert_no_error(error);
	g_assert_true(lab_process_wait(process, 300000, &status, &error));
	said = lab_process_stderr(process);
	if (status)
		g_test_message("%s: exit %d: %s", argv[0], status, said);
	*out = lab_process_stdout(process);
	return status;
}

/* `command` NULL: loadvm. "": bqlstat itself. */
static char *help_of(const char *command)
{
	const char *argv[] = {lab_program(command ? "bqlstat" : "loadvm"), NULL, NULL, NULL};
	char *out;

	argv[1] = command && *command ? command : "--help";
	argv[2] = command && *command ? "--help" : NULL;
	g_assert_cmpint(run(argv, NULL, &out), ==, 0);
	return out;
}

/* Of a man page's source: what stands under a heading. */
static char *section(const char *page, const char *name)
{
	g_autofree char *heading = g_strdup_printf("\n# %s\n", name);
	const char *begin = strstr(page, heading), *end;

	if (!begin) {
		g_test_message("there is no section %s", name);
		g_test_fail();
		return g_strdup("");
	}
	begin += strlen(heading);
	end = strstr(begin, "\n# ");
	return end ? g_strndup(begin, end + 1 - begin) : g_strdup(begin);
}

/* What bash offers for the last word of a line. */
static void bash_offers(GHashTable *set, const char *function, const char *words)
{
	g_autofree char *script = g_strdup_printf("source %s/docs/completion/bqlstat.bash\n"
						  "COMP_WORDS=(%s)\n"
						  "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
						  "%s; printf '%%s\\n' \"${COMPREPLY[@]}\"\n",
						  root(), words, function);
	const char *argv[] = {"bash", "--norc", "-c", script, NULL};
	g_autofree char *out = NULL;

	g_assert_cmpint(run(argv, NULL, &out), ==, 0);
	add_matches(set, out, "^(\\S+)$");
	g_hash_table_remove(set, "--");
}

/* Of the zsh completion: the block of one command, or of loadvm for NULL. */
static char *zsh_block(const char *command)
{
	g_autofree char *text = read_doc("completion/_bqlstat");
	g_autofree char *from =
		command ? g_strdup_printf("\n\t\t%s)", command) : g_strdup("\n_loadvm()");
	const char *begin = strstr(text, from), *end;

	g_assert_nonnull(begin);
	end = strstr(begin, command ? ";;" : "\n}");
	g_assert_nonnull(end);
	return g_strndup(begin, end - begin);
}

#define IN_HELP "^  (?:(-\\w), )?(--[a-z-]+)"
#define IN_MAN	"\\*(--?[A-Za-z][a-z-]*)\\*(?=[ ,\n])"
#define IN_ZSH	"\\{(-\\w),(--[a-z-]+)=?\\}|'\\*?(--[a-z-]+)=?\\["

/* ---- the tests ---- */

static const char *const commands[] = {"record", "report", "top",	"timeline",
				       "lttng",	 "doctor", "probes",	"bench",
				       "diff",	 "export", "crosscheck"};

static void test_commands(void)
{
	g_autoptr(GHashTable) in_help = set_new(), in_man = set_new(), in_bash = set_new();
	g_autoptr(GHashTable) in_zsh = set_new(), after_help = set_new(), here = set_new();
	g_autofree char *help = help_of("");
	g_autofree char *page = read_doc("man/bqlstat.1.scd");
	g_autofree char *in_page = section(page, "COMMANDS");
	g_autofree char *zsh = read_doc("completion/_bqlstat");
	const char *list = strstr(help, "\ncommands:\n");

	g_assert_nonnull(list);
	add_matches(in_help, list, "^  (\\w+) +\\w");
	add_matches(in_man, in_page, "^\\*(\\w+)\\*$");
	add_matches(in_zsh, zsh, "^\t'(\\w+):");
	bash_offers(in_bash, "_bqlstat", "bqlstat ''");
	bash_offers(after_help, "_bqlstat", "bqlstat help ''");
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
		g_hash_table_add(here, g_strdup(commands[i]));
	g_hash_table_add(here, g_strdup("help"));
	expect_same(in_help, "bqlstat --help", here, "this test");
	expect_same(in_help, "bqlstat --help", in_man, "bqlstat(1)");
	expect_same(in_help, "bqlstat --help", in_zsh, "zsh's completion");
	expect_same(in_help, "bqlstat --help", after_help, "bash's completion of help");
	expect_within(in_help, "bqlstat --help", in_bash, "bash's completion");

	/* What each does is said in the same words. */
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		g_autofree char *line = g_strdup_printf("^  %s +(.*)$", commands[i]);
		g_autoptr(GHashTable) does = set_new();
		GHashTableIter iter;
		void *words;

		add_matches(does, list, line);
		g_hash_table_iter_init(&iter, does);
		g_assert_true(g_hash_table_iter_next(&iter, &words, NULL));
		g_assert_nonnull(strstr(zsh, words));
	}
}

static void test_options(const void *opaque)
{
	const char *command = opaque;
	g_autoptr(GHashTable) in_help = set_new(), in_man = set_new(), in_bash = set_new();
	g_autoptr(GHashTable) in_zsh = set_new();
	g_autofree char *help = help_of(command);
	g_autofree char *file = command ? g_strdup_printf("man/bqlstat-%s.1.scd", command)
					: g_strdup("man/loadvm.1.scd");
	g_autofree char *page = read_doc(file);
	g_autofree char *in_page = section(page, "OPTIONS");
	g_autofree char *zsh = zsh_block(command);
	g_autofree char *line =
		command ? g_strdup_printf("bqlstat %s -", command) : g_strdup("loadvm -");

	add_matches(in_help, help, IN_HELP);
	add_matches(in_man, in_page, IN_MAN);
	add_matches(in_zsh, zsh, IN_ZSH);
	bash_offers(in_bash, command ? "_bqlstat" : "_loadvm", line);
	expect_same(in_help, "--help", in_man, file);
	expect_same(in_help, "--help", in_bash, "bash's completion");
	expect_same(in_help, "--help", in_zsh, "zsh's completion");
}

static void test_own_options(void)
{
	g_autoptr(GHashTable) in_help = set_new(), in_man = set_new(), in_bash = set_new();
	g_autoptr(GHashTable) in_zsh = set_new();
	g_autofree char *help = help_of("");
	g_autofree char *page = read_doc("man/bqlstat.1.scd");
	g_autofree char *in_page = section(page, "OPTIONS");
	g_autofree char *zsh = read_doc("completion/_bqlstat");
	const char *arguments = strstr(zsh, "_arguments -C");

	/* The usage names them; -h is understood, too. */
	add_matches(in_help, help, "^ +bqlstat (--[a-z]+) \\| (--[a-z]+)$");
	add_matches(in_man, in_page, "\\*(--[a-z]+)\\*");
	add_matches(in_zsh, arguments, "^\t\t'\\([^)]*\\)'?(?:\\{-h,)?(--[a-z]+)[}[]");
	bash_offers(in_bash, "_bqlstat", "bqlstat --");
	expect_same(in_help, "bqlstat --help", in_man, "bqlstat(1)");
	expect_same(in_help, "bqlstat --help", in_bash, "bash's completion");
	expect_same(in_help, "bqlstat --help", in_zsh, "zsh's completion");
}

static void test_loadvm(void)
{
	const char *list_argv[] = {lab_program("loadvm"), "--list", NULL};
	g_autoptr(GHashTable) listed = set_new(), in_man = set_new(), variables = set_new();
	g_autoptr(GHashTable) man_variables = set_new(), in_bash = set_new();
	g_autofree char *help = help_of(NULL), *list = NULL;
	g_autofree char *page = read_doc("man/loadvm.1.scd");
	g_autofree char *policies = section(page, "POLICIES");
	g_autofree char *environment = section(page, "ENVIRONMENT");
	g_autofree char *folder = g_path_get_dirname(lab_program("loadvm"));
	g_autofree char *line = g_strdup_printf("loadvm -p ''); PATH=%s:$PATH; (:", folder);

	g_assert_cmpint(run(list_argv, NULL, &list), ==, 0);
	add_matches(listed, list, "^([a-z-]+)");
	add_matches(in_man, policies, "^\\*(\\S+)\\*$");
	bash_offers(in_bash, "_loadvm", line);
	expect_same(listed, "loadvm --list", in_man, "loadvm(1)");
	expect_same(listed, "loadvm --list", in_bash, "bash's completion");
	add_matches(variables, help, "(LOADVM_[A-Z]+)");
	add_matches(man_variables, environment, "\\*(LOADVM_[A-Z]+)\\*");
	expect_same(variables, "loadvm --help", man_variables, "loadvm(1)");
}

static void test_pages(void)
{
	static const char *const names[] = {
		"bqlstat",	  "bqlstat-record", "bqlstat-report",	"bqlstat-top",
		"bqlstat-doctor", "bqlstat-probes", "bqlstat-timeline", "bqlstat-crosscheck",
		"bqlstat-lttng",  "bqlstat-bench",  "bqlstat-diff",	"bqlstat-export",
		"loadvm",
	};
	static const char *const sections[] = {
		"NAME",	    "SYNOPSIS",	   "DESCRIPTION", "OPTIONS",
		"OVERHEAD", "EXIT STATUS", "EXAMPLES",	  "SEE ALSO",
	};
	g_autofree char *scdoc = g_find_program_in_path("scdoc");

	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *file = g_strdup_printf("man/%s.1.scd", names[i]);
		g_autofree char *page = read_doc(file);
		g_autofree char *out = NULL;
		g_autofree char *command = g_strdup_printf("scdoc < '%s/docs/%s'", root(), file);
		const char *argv[] = {"sh", "-c", command, NULL};

		for (unsigned s = 0; s < G_N_ELEMENTS(sections); s++) {
			g_autofree char *text = section(page, sections[s]);

			g_assert_cmpuint(strlen(text), >, 10);
		}
		if (!scdoc)
			continue;
		g_assert_cmpint(run(argv, NULL, &out), ==, 0);
		g_assert_nonnull(strstr(out, "\n.SH OVERHEAD"));
	}
	if (!scdoc)
		g_test_skip("scdoc is not installed: the pages were not translated");
}

/* ---- JSON ---- */

static void walk(JsonNode *node, const char *path, GHashTable *paths)
{
	if (JSON_NODE_HOLDS_OBJECT(node)) {
		g_autoptr(GList) members = json_object_get_members(json_node_get_object(node));

		for (GList *m = members; m; m = m->next) {
			g_autofree char *child =
				g_strdup_printf("%s%s%s", path, *path ? "." : "",
						strcmp(path, "lost") ? (char *)m->data : "*");

			walk(json_object_get_member(json_node_get_object(node), m->data), child,
			     paths);
		}
	} else if (JSON_NODE_HOLDS_ARRAY(node)) {
		g_autofree char *child = g_strdup_printf("%s[]", path);

		for (unsigned i = 0; i < json_array_get_length(json_node_get_array(node)); i++)
			walk(json_array_get_element(json_node_get_array(node), i), child, paths);
	} else {
		g_hash_table_add(paths, g_strdup(path));
	}
}

static void walk_output(const char *const *argv, GHashTable *paths)
{
	g_autofree char *out = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = NULL;

	run(argv, NULL, &out); /* doctor exits 3 where bqlstat cannot record */
	node = json_from_string(out, &error);
	g_assert_no_error(error);
	g_assert_nonnull(node);
	walk(node, "", paths);
}

/* Each member is on the page; and each on the page is there, but for those said to be optional. */
static void expect_page(const char *name, GHashTable *members)
{
	g_autofree char *page = read_doc(name);
	g_autoptr(GHashTable) all = set_new(), always = set_new();

	add_matches(all, page, "^\\| `([^`]+)` \\|");
	add_matches(always, page, "^\\| `([^`]+)` \\| (?!only )");
	g_assert_cmpuint(g_hash_table_size(all), >, 10);
	expect_within(members, "the output", all, name);
	expect_within(always, name, members, "the output");
}

static void test_doctor_json(void)
{
	const char *bqlstat = lab_program("bqlstat");
	const char *host[] = {bqlstat, "doctor", "--json", NULL};
	const char *qemu[] = {bqlstat, "doctor", "--json", lab_program("lockdance-11.1"), NULL};
	const char *probes[] = {bqlstat, "probes", "--json", lab_program("lockdance-11.1"), NULL};
	g_autoptr(GHashTable) members = set_new();

	walk_output(host, members);
	walk_output(qemu, members);
	walk_output(probes, members);
	expect_page("doctor-json.md", members);
}

static void test_report_json(void)
{
	g_autofree char *file = g_build_filename(lab_tmpdir(), "docs.bql", NULL), *out = NULL;
	const char *bqlstat = lab_program("bqlstat");
	const char *record[] = {
		bqlstat,
		"record",
		"-q",
		"-o",
		file,
		"--",
		lab_program("lockdance"),
		"-e",
		"thread a; repeat 20; lock savevm.c:2; sleep 2000; unlock; idle 1000; end\n"
		"thread b; repeat 20; lock cpus.c:2; unlock; idle 1000; end",
		NULL,
	};
	const char *report[] = {bqlstat, "report", "--json", file, NULL};
	g_autoptr(GHashTable) members = set_new();

	if (geteuid()) {
		g_test_skip("recording needs root");
		return;
	}
	g_assert_cmpint(run(record, NULL, &out), ==, 0);
	walk_output(report, members);
	expect_page("report-json.md", members);
	unlink(file);
}

/* On runs that ship: two labels of a noisy machine. */
static void test_diff_json(void)
{
	g_autofree char *file = g_build_filename(root(), "tests/data/stall.bql", NULL);
	const char *gated[] = {lab_program("bqlstat"), "diff", "--json", "--fail-on",
			       "hold.max > 10s",       file,   NULL};
	g_autoptr(GHashTable) members = set_new();

	walk_output(gated, members);
	expect_page("diff-json.md", members);
}

/* The members that a schema names; `defs`: what its references stand for. */
static void walk_schema(JsonObject *schema, JsonObject *defs, const char *path, GHashTable *paths)
{
	if (json_object_has_member(schema, "$ref")) {
		const char *name = strrchr(json_object_get_string_member(schema, "$ref"), '/') + 1;

		walk_schema(json_object_get_object_member(defs, name), defs, path, paths);
	} else if (json_object_has_member(schema, "properties")) {
		JsonObject *members = json_object_get_object_member(schema, "properties");
		g_autoptr(GList) names = json_object_get_members(members);

		for (GList *m = names; m; m = m->next) {
			g_autofree char *child =
				g_strdup_printf("%s%s%s", path, *path ? "." : "", (char *)m->data);

			walk_schema(json_object_get_object_member(members, m->data), defs, child,
				    paths);
		}
	} else if (json_object_has_member(schema, "items")) {
		g_autofree char *child = g_strdup_printf("%s[]", path);

		walk_schema(json_object_get_object_member(schema, "items"), defs, child, paths);
	} else {
		g_hash_table_add(paths, g_strdup(path));
	}
}

/* Where the output takes longer to make: against the schema, which another test holds against it.
 */
static void test_page_and_schema(gconstpointer name)
{
	g_autofree char *page = g_strdup_printf("%s-json.md", (const char *)name);
	g_autofree char *file = g_strdup_printf("schema/%s.json", (const char *)name);
	g_autofree char *text = read_doc(file);
	g_autoptr(GHashTable) members = set_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = json_from_string(text, &error);
	JsonObject *schema;

	g_assert_no_error(error);
	schema = json_node_get_object(node);
	walk_schema(schema, json_object_get_object_member(schema, "$defs"), "", members);
	expect_page(page, members);
}

/* ---- make install ---- */

/* As another than who built it would: what is installed finds its parts by itself. */
static void test_install(void)
{
	g_autofree char *dest = g_build_filename(lab_tmpdir(), "installed", NULL);
	g_autofree char *bqlstat = g_build_filename(dest, "usr/bin/bqlstat", NULL);
	g_autofree char *loadvm = g_build_filename(dest, "usr/bin/loadvm", NULL);
	g_autofree char *folder = g_path_get_dirname(lab_program("bqlstat"));
	g_autofree char *build = g_canonicalize_filename(folder, NULL);
	g_autofree char *destdir = g_strdup_printf("DESTDIR=%s", dest);
	g_autofree char *scdoc = g_find_program_in_path("scdoc");
	/* Flags and job server are the outer make's. */
	const char *make[] = {"env", "-u",   "MAKEFLAGS", "-u", "MFLAGS", "make",	 "-s",
			      "-C",  root(), "install",	  NULL, destdir,  "prefix=/usr", NULL};
	g_autofree char *variable = NULL;
	static const char *const files[] = {
		"usr/lib/bqlstat/libloadvm.so",
		"usr/lib/bqlstat/libloadvm-core.so",
		"usr/lib/bqlstat/libloadvm-lttng.so",
		"usr/share/bqlstat/schema/doctor.json",
		"usr/share/bqlstat/schema/loadvm-check.json",
		"usr/share/bqlstat/schema/report.json",
		"usr/share/man/man1/bqlstat.1",
		"usr/share/man/man1/bqlstat-record.1",
		"usr/share/man/man1/bqlstat-report.1",
		"usr/share/man/man1/bqlstat-top.1",
		"usr/share/man/man1/bqlstat-timeline.1",
		"usr/share/man/man1/bqlstat-crosscheck.1",
		"usr/share/man/man1/bqlstat-lttng.1",
		"usr/share/man/man1/bqlstat-bench.1",
		"usr/share/man/man1/bqlstat-export.1",
		"usr/lib/systemd/system/bqlstat-export.service",
		"usr/share/man/man1/bqlstat-diff.1",
		"usr/share/bqlstat/scenarios/precopy.ini",
		"usr/share/man/man1/bqlstat-doctor.1",
		"usr/share/man/man1/bqlstat-probes.1",
		"usr/share/man/man1/loadvm.1",
		"usr/share/bash-completion/completions/bqlstat",
		"usr/share/bash-completion/completions/loadvm",
		"usr/share/zsh/site-functions/_bqlstat",
	};
	const char *version[] = {bqlstat, "--version", NULL};
	const char *doctor[] = {bqlstat, "doctor", NULL};
	const char *scenarios[] = {bqlstat, "bench", "--list", NULL};
	const char *qemu, *why;
	char *out;

	if (!scdoc) {
		g_test_skip("scdoc is not installed");
		return;
	}
	g_assert_true(g_str_has_prefix(build, root()));
	/* The same build as this one, or make would build another over it. */
	variable = strstr("address undefined thread", strrchr(build, '/') + 1)
			   ? g_strdup_printf("SAN=%s", strrchr(build, '/') + 1)
			   : g_strdup_printf("O=%s", build + strlen(root()) + 1);
	make[10] = variable;
	g_assert_cmpint(run(make, NULL, &out), ==, 0);
	g_free(out);
	for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *path = g_build_filename(dest, files[i], NULL);

		g_test_message("%s", files[i]);
		g_assert_true(g_file_test(path, G_FILE_TEST_IS_REGULAR));
	}
	g_assert_cmpint(run(version, NULL, &out), ==, 0);
	g_assert_cmpstr(out, ==, "bqlstat " BQLSTAT_VERSION "\n");
	g_free(out);
	g_assert_cmpint(run(scenarios, NULL, &out), ==, 0);
	g_assert_nonnull(strstr(out, "share/bqlstat/scenarios/precopy.ini"));
	g_free(out);
	/* Its exit code is the host's matter; that the runtime is found is ours. */
	run(doctor, NULL, &out);
	g_assert_nonnull(strstr(out, "its libraries are there and load"));
	g_free(out);

	qemu = lab_qemu_path("7.2", &why);
	if (!qemu) {
		g_test_skip(why);
		return;
	}
	{
		const char *argv[] = {loadvm, "--policy", "io-free", "--", qemu, "--version", NULL};
		g_autoptr(GError) error = NULL;
		g_autoptr(lab_process) process = lab_process_new(argv, NULL, &error);
		g_autofree char *said = NULL;
		int status;

		g_assert_no_error(error);
		g_assert_true(lab_process_wait(process, 30000, &status, &error));
		g_assert_cmpint(status, ==, 0);
		said = lab_process_stderr(process);
		g_assert_nonnull(strstr(said, "loadvm: io-free on QEMU 7.2"));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/docs/commands", test_commands);
	g_test_add_func("/docs/options/bqlstat", test_own_options);
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		g_autofree char *path = g_strdup_printf("/docs/options/%s", commands[i]);

		g_test_add_data_func(path, commands[i], test_options);
	}
	g_test_add_data_func("/docs/options/loadvm", NULL, test_options);
	g_test_add_func("/docs/loadvm", test_loadvm);
	g_test_add_func("/docs/pages", test_pages);
	g_test_add_func("/docs/json/doctor", test_doctor_json);
	g_test_add_func("/docs/json/report", test_report_json);
	g_test_add_func("/docs/json/diff", test_diff_json);
	g_test_add_data_func("/docs/json/top", "top", test_page_and_schema);
	g_test_add_data_func("/docs/json/crosscheck", "crosscheck", test_page_and_schema);
	g_test_add_func("/docs/install", test_install);
	return g_test_run();
}
