/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drawing with ncurses. No line is longer than the terminal is wide: columns that do not fit are
 * left out, the least important first.
 */
#include <locale.h>
#include <langinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NCURSES_WIDECHAR 1
#include <ncurses.h>

#include "analyzers/model/words.h"
#include "analyzers/top/screen.h"

#define D(ns) words_duration((char[WORDS_DURATION]){}, ns)

#define FELT_NS	    10000000
#define FILTER_MAX  40
#define SITE_MIN    16
#define HISTOGRAM_W 40

enum { COLOUR_FELT = 1, COLOUR_HEAD };

struct screen {
	SCREEN *terminal;
	enum live_sort sort;
	unsigned qemu;	   /* which one is shown */
	unsigned selected; /* row */
	unsigned scroll;
	char filter[FILTER_MAX + 1];
	bool typing, help, paused, detail, each_vcpu, utf8;
	char *site, *who; /* of the detail */
};

char *screen_cost(const struct tracer_coverage *c)
{
	static const char *const how[] = {
		[TRACER_FULL] = "tracing costs",
		[TRACER_HOLDS] = "holds only: all would cost",
		[TRACER_BURSTS] = "in bursts: all would cost",
		[TRACER_AWAY] = "hardly traced: all would cost",
	};

	return g_strdup_printf("%s %.1f%% of a core", how[c->level], 100 * c->cores);
}

struct screen *screen_new(enum live_sort sort, bool each_vcpu, const char *filter, const char **why)
{
	struct screen *s = g_new0(struct screen, 1);
	const char *term = getenv("TERM");

	setlocale(LC_CTYPE, "");
	s->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	s->sort = sort;
	s->each_vcpu = each_vcpu;
	g_strlcpy(s->filter, filter ? filter : "", sizeof(s->filter));
	s->terminal = term && *term ? newterm(NULL, stdout, stdin) : NULL;
	if (!s->terminal) {
		*why = "this terminal is of a kind that is not known (TERM)";
		g_free(s);
		return NULL;
	}
	cbreak();
	noecho();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	if (has_colors() && !getenv("NO_COLOR")) {
		start_color();
		use_default_colors();
		init_pair(COLOUR_FELT, COLOR_RED, -1);
		init_pair(COLOUR_HEAD, COLOR_CYAN, -1);
	}
	return s;
}

void screen_free(struct screen *s)
{
	if (!s)
		return;
	endwin();
	delscreen(s->terminal);
	g_free(s->site);
	g_free(s->who);
	g_free(s);
}

void screen_resized(struct screen *s)
{
	struct winsize size;

	(void)s;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col)
		resizeterm(size.ws_row, size.ws_col);
	clear();
}

void screen_suspend(struct screen *s)
{
	endwin();
	raise(SIGSTOP);
	screen_resized(s);
	refresh();
}

bool screen_paused(const struct screen *s)
{
	return s->paused;
}

bool screen_in_detail(const struct screen *s)
{
	return s->detail;
}

bool screen_each_vcpu(const struct screen *s)
{
	return s->each_vcpu;
}

/* ---- pieces ---- */

/* At most the terminal's width; below the terminal: nothing. */
static void put(int y, int x, int attributes, const char *format, ...) G_GNUC_PRINTF(4, 5);

static void put(int y, int x, int attributes, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	if (y < 0 || y >= LINES || x >= COLS)
		return;
	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	attron(attributes);
	mvaddnstr(y, x, text, COLS - x);
	attroff(attributes);
}

/* The newest on the right; values from 0 to 1. */
static void sparkline(const struct screen *s, int y, int x, int width, const double *values,
		      unsigned n)
{
	static const char *const bars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const plain[] = {" ", ".", ".", ":", ":", "|", "|", "#", "#"};

	for (int i = 0; i < width && (unsigned)i < n; i++) {
		double v = CLAMP(values[n - 1 - i], 0.0, 1.0);
		unsigned level = v > 0 ? 1 + (unsigned)(v * 7.999) : 0;

		put(y, x + MIN(width, (int)n) - 1 - i, COLOR_PAIR(COLOUR_HEAD), "%s",
		    (s->utf8 ? bars : plain)[MIN(level, 8u)]);
	}
}

/* Of what matters: 10 us is the least that shows, 1 s is full, each step about five times more. */
static double height_of(uint64_t ns)
{
	double height = 0;

	for (double edge = 10000; edge <= 1e9 && ns >= edge; edge *= 5.18)
		height += 1 / 8.0;
	return height;
}

static void show_sparklines(const struct screen *s, const struct live *live, int y)
{
	double values[LIVE_HISTORY];
	int width = COLS - 20;

	if (width < 8)
		return;
	for (unsigned i = 0; i < live->points; i++)
		values[i] = live->history[i].held;
	put(y, 0, 0, "held    %5.1f%%", 100 * live->held);
	sparkline(s, y, 16, width, values, live->points);
	for (unsigned i = 0; i < live->points; i++)
		values[i] = height_of(live->history[i].longest_ns);
	put(y + 1, 0, live->longest_ns >= FELT_NS ? COLOR_PAIR(COLOUR_FELT) | A_BOLD : 0,
	    "longest %-7s", D(live->longest_ns));
	sparkline(s, y + 1, 16, width, values, live->points);
}

static int show_head(const struct screen *s, const struct screen_qemu *q, unsigned n,
		     uint64_t interval_ns)
{
	g_autoptr(GDateTime) now = g_date_time_new_now_local();
	g_autofree char *clock = g_date_time_format(now, "%T");
	g_autofree char *cost = screen_cost(&q->coverage);
	const struct live *l = q->live;
	g_autofree char *which = n > 1 ? g_strdup_printf("[%u/%u] ", s->qemu + 1, n) : g_strdup("");

	put(0, 0, A_BOLD, "%sQEMU %.*s %s pid %d%s", which, (int)strcspn(q->run->qemu_version, " "),
	    q->run->qemu_version, q->name, (int)q->pid, q->gone ? " (has exited)" : "");
	if (COLS >= 70)
		put(0, COLS - 26, 0, "%10s every %s%s", clock, D(interval_ns),
		    s->paused ? " PAUSED" : "");
	if (l->covered_ns)
		put(1, 0, 0, "%.0f acquisitions/s, phase %s, lost %llu, %s",
		    l->acquired * 1e9 / l->covered_ns, q->phase, (unsigned long long)l->lost, cost);
	else
		put(1, 0, 0, "not watched in this interval; phase %s, lost %llu, %s", q->phase,
		    (unsigned long long)l->lost, cost);
	show_sparklines(s, l, 2);
	if (l->holding_ns < FELT_NS)
		return 4;
	put(4, 0, COLOR_PAIR(COLOUR_FELT) | A_BOLD, "held now, for %s, by %s at %s",
	    D(l->holding_ns), l->holding_who, l->holding_site);
	return 5;
}

/* ---- the list ---- */

enum column { SITE, WHO, RATE, HELD, LONGEST, P99, WAIT, LONGEST_WAIT, BLOCKED, COLUMNS };

static const struct {
	const char *title;
	int width;
} columns[COLUMNS] = {
	[SITE] = {"call site", 0}, [WHO] = {"who", 13},		[RATE] = {"count/s", 9},
	[HELD] = {"held", 7},	   [LONGEST] = {"longest", 9},	[P99] = {"p99", 9},
	[WAIT] = {"waiting", 8},   [LONGEST_WAIT] = {"max", 9}, [BLOCKED] = {"blocked", 9},
};

/* Which are shown; the site has what they leave. */
static int fit(bool shown[COLUMNS])
{
	static const enum column least_first[] = {BLOCKED, P99,	 LONGEST_WAIT, RATE,
						  WHO,	   WAIT, LONGEST};
	int width = COLS;

	for (int c = 0; c < COLUMNS; c++) {
		shown[c] = true;
		width -= columns[c].width;
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(least_first) && width < 2 * SITE_MIN; i++) {
		shown[least_first[i]] = false;
		width += columns[least_first[i]].width;
	}
	return MAX(width, 1);
}

static char *cell(enum column c, const struct live_row *r, const struct live *l)
{
	double covered = l->covered_ns ? l->covered_ns : 1;

	switch (c) {
	case WHO:
		return g_strdup(r->who);
	case RATE:
		return g_strdup_printf("%.0f", r->acquired * 1e9 / covered);
	case HELD:
		return g_strdup_printf("%.1f%%", 100 * r->hold_ns / covered);
	case LONGEST:
		return g_strdup(D(r->hold_max_ns));
	case P99:
		return g_strdup(D(r->hold_p99_ns));
	case WAIT:
		return r->waits ? g_strdup_printf("%.1f%%", 100 * r->wait_ns / covered)
				: g_strdup("-");
	case LONGEST_WAIT:
		return g_strdup(r->waits ? D(r->wait_max_ns) : "-");
	case BLOCKED:
		return g_strdup(r->blocked_ns ? D(r->blocked_ns) : "-");
	default:
		return NULL;
	}
}

/* The end of a path says more than its beginning. */
static const char *tail_of(const char *text, int width)
{
	int length = strlen(text);

	return length > width ? text + length - width : text;
}

static void show_row(int y, const struct live_row *r, const struct live *l,
		     const bool shown[COLUMNS], int site_width, bool selected)
{
	int attributes = selected ? A_REVERSE : 0, x = site_width;

	if (r->hold_max_ns >= FELT_NS)
		attributes |= COLOR_PAIR(COLOUR_FELT) | A_BOLD;
	put(y, 0, attributes, "%-*s", COLS, "");
	put(y, 0, attributes, "%s", tail_of(r->site, site_width - 1));
	for (int c = WHO; c < COLUMNS; c++) {
		g_autofree char *text = NULL;

		if (!shown[c])
			continue;
		text = cell(c, r, l);
		if (c == WHO)
			put(y, x, attributes, " %-*.*s", columns[c].width - 1, columns[c].width - 1,
			    text);
		else
			put(y, x, attributes, "%*s", columns[c].width, text);
		x += columns[c].width;
	}
}

static void show_titles(int y, const bool shown[COLUMNS], int site_width, enum live_sort sort)
{
	static const enum column sorted[LIVE_SORTS] = {HELD, LONGEST, RATE, WAIT};
	int x = site_width;

	put(y, 0, A_UNDERLINE, "%-*s", COLS, columns[SITE].title);
	for (int c = WHO; c < COLUMNS; c++) {
		int attributes = A_UNDERLINE | (sorted[sort] == (enum column)c ? A_BOLD : 0);

		if (!shown[c])
			continue;
		if (c == WHO)
			put(y, x, attributes, " %s", columns[c].title);
		else
			put(y, x, attributes, "%*s", columns[c].width, columns[c].title);
		x += columns[c].width;
	}
}

static void choose(struct screen *s, const struct live_row *r)
{
	g_free(s->site);
	g_free(s->who);
	s->site = g_strdup(r->site);
	s->who = g_strdup(r->who);
}

static void show_list(struct screen *s, const struct screen_qemu *q, int y)
{
	bool shown[COLUMNS];
	int site_width = fit(shown), room = LINES - y - 2;
	unsigned index = 0, n = 0;

	live_sort(q->live, s->sort);
	for (unsigned i = 0; i < q->live->rows->len; i++)
		n += live_matches(q->live->rows->pdata[i], s->filter);
	if (s->selected >= n)
		s->selected = n ? n - 1 : 0;
	if (s->selected < s->scroll)
		s->scroll = s->selected;
	if (room > 0 && s->selected >= s->scroll + room)
		s->scroll = s->selected - room + 1;
	show_titles(y, shown, site_width, s->sort);
	for (unsigned i = 0; i < q->live->rows->len; i++) {
		const struct live_row *r = q->live->rows->pdata[i];

		if (!live_matches(r, s->filter))
			continue;
		if (index == s->selected)
			choose(s, r);
		if (index >= s->scroll && (int)(index - s->scroll) < room)
			show_row(y + 1 + index - s->scroll, r, q->live, shown, site_width,
				 index == s->selected);
		index++;
	}
	if (!n)
		put(y + 1, 0, A_DIM,
		    *s->filter		  ? "nothing that matches took the lock"
		    : q->live->holding_ns ? "nobody else took the lock"
					  : "nobody took the lock");
}

/* ---- one site ---- */

static bool is_chosen(const struct screen *s, struct run *run, unsigned site, unsigned thread)
{
	const struct thread *t = &g_array_index(run->threads, struct thread, thread);
	g_autofree char *name = words_site(run, site);

	return !g_strcmp0(name, s->site) && !g_strcmp0(run_who(run, t, s->each_vcpu), s->who);
}

/* Holds by powers of four. */
static int show_histogram(const struct histogram *h, uint64_t bias_ns, int y)
{
	uint64_t counts[16] = {}, most = 1;
	unsigned first = 16, last = 0;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		uint64_t ns = abi_bucket_low(b), low = 256;
		unsigned i = 0;

		if (!h->bucket[b])
			continue;
		ns = ns > bias_ns ? ns - bias_ns : 0;
		for (; i < 15 && ns >= low; low *= 4)
			i++;
		counts[i] += h->bucket[b];
		most = MAX(most, counts[i]);
		first = MIN(first, i);
		last = MAX(last, i);
	}
	for (unsigned i = first; i <= last && first < 16; i++) {
		int bar = counts[i] * MIN(HISTOGRAM_W, MAX(COLS - 34, 1)) / most;
		g_autofree char *hashes = g_strnfill(counts[i] ? MAX(bar, 1) : 0, '#');

		put(y++, 2, 0, "< %-7s %10llu  %s", D(256ULL << (2 * i)),
		    (unsigned long long)counts[i], hashes);
	}
	return y;
}

static int show_blocking(const struct usage *u, int y)
{
	for (unsigned i = 0; i < u->blocking->len; i++) {
		const struct blocking *b = &g_array_index(u->blocking, struct blocking, i);

		put(y++, 2, 0, "%-7s in %llu holds, at most %s: %s", D(b->ns),
		    (unsigned long long)b->count, D(b->max_ns), cause_text(b->cause));
	}
	return y;
}

static int show_longest(const struct screen *s, struct run *run, int y)
{
	g_autoptr(GPtrArray) longest = run_longest(run, 0);
	const struct hold *h = NULL;

	for (unsigned i = 0; i < longest->len && !h; i++) {
		const struct hold *candidate = longest->pdata[i];

		if (is_chosen(s, run, candidate->site, candidate->thread))
			h = candidate;
	}
	if (!h)
		return y;
	put(y++, 0, A_BOLD, "longest: %s, phase %s %s%s", D(run_hold_ns(run, h->hold_ns)),
	    phase_name(h->at_end.phase), h->at_end.device, h->unfinished ? ", goes on" : "");
	for (unsigned i = 0; i < ABI_CAUSES && h->blocked[i].count; i++)
		put(y++, 2, 0, "blocked %s in %s", D(h->blocked[i].ns),
		    cause_text(h->blocked[i].cause));
	for (unsigned i = 0; h->stack && y < LINES - 1; i++) {
		const struct stack *stack = &g_array_index(run->stacks, struct stack, h->stack - 1);
		const struct frame *f;

		if (i >= stack->frames->len)
			break;
		f = &g_array_index(run->frames, struct frame,
				   g_array_index(stack->frames, unsigned, i));
		put(y++, 4, 0, "%s", *f->symbol ? f->symbol : f->module);
	}
	return y;
}

static int show_victims(const struct screen *s, struct run *run, int y)
{
	g_autoptr(GArray) victims = run_victims(run, s->each_vcpu);
	bool any = false;

	for (unsigned i = 0; i < victims->len && y < LINES - 1; i++) {
		const struct victim_row *v = &g_array_index(victims, struct victim_row, i);
		g_autofree char *holder = NULL, *victim = NULL;

		if (v->holder_site < 0)
			continue;
		holder = words_site(run, v->holder_site);
		if (g_strcmp0(holder, s->site) || g_strcmp0(v->holder_who, s->who))
			continue;
		if (!any)
			put(y++, 0, A_BOLD, "made wait");
		any = true;
		victim = words_site(run, v->victim_site);
		put(y++, 2, 0, "%-7s %s at %s, at most %s", D(v->ns), v->victim_who, victim,
		    D(v->max_ns));
	}
	return y;
}

static void show_detail(const struct screen *s, struct run *run, int y)
{
	bool any = false;

	put(y++, 0, A_BOLD, "%s by %s, since the recording began", s->site, s->who);
	for (unsigned i = 0; i < run->usages->len; i++) {
		const struct usage *u = &g_array_index(run->usages, struct usage, i);

		if (!is_chosen(s, run, u->site, u->thread))
			continue;
		any = true;
		put(y++, 0, 0, "%llu acquisitions, held %s, at most %s; waited %s, at most %s",
		    (unsigned long long)u->acquired, D(u->hold.sum_ns), D(u->hold.max_ns),
		    D(u->wait.sum_ns), D(u->wait.max_ns));
		y = show_histogram(&u->hold, run->hold_bias_ns, y);
		if (u->blocking->len) {
			put(y++, 0, A_BOLD, "blocked meanwhile");
			y = show_blocking(u, y);
		}
		if (y > LINES * 2 / 3)
			break;
	}
	if (!any)
		put(y++, 0, A_DIM, "it has not taken the lock here");
	y = show_longest(s, run, y);
	show_victims(s, run, y);
}

/* ---- all of it ---- */

static void show_help(int y)
{
	static const char *const lines[] = {
		"Who held the lock in the last interval: shares of the time, longest hold, waits.",
		"",
		"  up, down, j, k   choose a call site     Enter   look into it, and back",
		"  s                next order: held, longest, count, wait",
		"  /                show only what has this text in it; empty: all",
		"  Tab, n, p        next, previous QEMU    v       vCPUs apart, together",
		"  space            pause                  q       quit",
		"",
		"Red: held for 10 ms or more, which guests and management feel.",
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++)
		put(y + i, 0, 0, "%s", lines[i]);
}

static void show_foot(const struct screen *s, const char *trouble)
{
	if (s->typing)
		put(LINES - 1, 0, 0, "show only: %s_", s->filter);
	else if (trouble)
		put(LINES - 1, 0, A_BOLD, "%s", trouble);
	else if (*s->filter)
		put(LINES - 1, 0, A_DIM, "only \"%s\"   / change   h help   q quit", s->filter);
	else
		put(LINES - 1, 0, A_DIM, "by %s (s)   Enter look into   / filter   h help   q quit",
		    live_sort_name(s->sort));
}

void screen_show(struct screen *s, struct screen_qemu *qemus, unsigned n, uint64_t interval_ns,
		 const char *trouble)
{
	erase();
	if (n) {
		int y;

		s->qemu = MIN(s->qemu, n - 1);
		y = show_head(s, &qemus[s->qemu], n, interval_ns);
		if (s->help)
			show_help(y + 1);
		else if (s->detail && s->site)
			show_detail(s, qemus[s->qemu].run, y);
		else
			show_list(s, &qemus[s->qemu], y);
	} else {
		put(0, 0, A_BOLD, "no QEMU yet: waiting for one");
		if (s->help)
			show_help(2);
	}
	show_foot(s, trouble);
	refresh();
}

static void type(struct screen *s, int key)
{
	size_t length = strlen(s->filter);

	if (key == '\n' || key == KEY_ENTER || key == 27) {
		s->typing = false;
		if (key == 27)
			*s->filter = 0;
	} else if (key == KEY_BACKSPACE || key == 127 || key == 8) {
		if (length)
			s->filter[length - 1] = 0;
	} else if (key >= ' ' && key < 127 && length < FILTER_MAX) {
		s->filter[length] = key;
		s->filter[length + 1] = 0;
	}
}

static void press(struct screen *s, int key, unsigned n)
{
	switch (key) {
	case KEY_DOWN:
	case 'j':
		s->selected++;
		break;
	case KEY_UP:
	case 'k':
		s->selected -= s->selected > 0;
		break;
	case '\n':
	case KEY_ENTER:
		s->detail = !s->detail;
		break;
	case 27:
	case KEY_BACKSPACE:
		s->detail = s->help = false;
		break;
	case 's':
		s->sort = (s->sort + 1) % LIVE_SORTS;
		break;
	case '/':
		s->typing = true;
		s->detail = s->help = false;
		break;
	case '\t':
	case 'n':
		s->qemu = n ? (s->qemu + 1) % n : 0;
		s->detail = false;
		break;
	case 'p':
		s->qemu = n ? (s->qemu + n - 1) % n : 0;
		s->detail = false;
		break;
	case 'v':
		s->each_vcpu = !s->each_vcpu;
		break;
	case ' ':
		s->paused = !s->paused;
		break;
	case 'h':
	case '?':
		s->help = !s->help;
		break;
	}
}

bool screen_keys(struct screen *s, unsigned n)
{
	int key;

	while ((key = getch()) != ERR) {
		if (s->typing)
			type(s, key);
		else if (key == 'q')
			return false;
		else
			press(s, key, n);
	}
	return true;
}
