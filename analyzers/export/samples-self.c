/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The samples that are not one QEMU's: the exporter's own, and those that need its figures.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "analyzers/export/samples.h"

/* The pair's cost is the same for all: the caller knows it. */
void samples_probe_time(struct exposition *e, const struct book *book)
{
	for (unsigned i = 0; i < book->vms->len; i++) {
		const struct figures *f = book->vms->pdata[i];

		if (f->refusal)
			continue;
		e->prefix = f->labels;
		exposition_ns(e, "", f->acquired * book->self.pair_ns);
	}
	e->prefix = "";
}

/* ---- the exporter ---- */

void samples_build(struct exposition *e, const struct book *book)
{
	(void)book;
	exposition_count(e, "version=\"" BQLSTAT_VERSION "\"", 1);
}

void samples_vms(struct exposition *e, const struct book *book)
{
	unsigned traced = 0;

	for (unsigned i = 0; i < book->vms->len; i++)
		traced += !((struct figures *)book->vms->pdata[i])->refusal;
	exposition_count(e, "state=\"traced\"", traced);
	exposition_count(e, "state=\"refused\"", book->vms->len - traced);
}

void samples_attaches(struct exposition *e, const struct book *book)
{
	exposition_count(e, "result=\"attached\"", book->self.attached);
	exposition_count(e, "result=\"refused\"", book->self.refused);
}

void samples_attach(struct exposition *e, const struct book *book)
{
	exposition_histogram(e, "", figures_bounds_ns, FIGURES_BOUNDS, book->self.attach.bucket,
			     book->self.attach.sum_ns, NULL);
}

void samples_pair(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "", book->self.pair_ns);
}

void samples_bias(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "of=\"hold\"", book->self.hold_bias_ns);
	exposition_ns(e, "of=\"wait\"", book->self.wait_bias_ns);
}

void samples_records(struct exposition *e, const struct book *book)
{
	exposition_count(e, "state=\"used\"", book->self.records_used);
	exposition_count(e, "state=\"free\"", book->self.records_room - book->self.records_used);
}

void samples_update(struct exposition *e, const struct book *book)
{
	exposition_ns(e, "", book->self.update_ns);
}

void samples_scrapes(struct exposition *e, const struct book *book)
{
	exposition_count(e, "format=\"text\"", book->self.scrapes[EXPOSITION_TEXT]);
	exposition_count(e, "format=\"openmetrics\"", book->self.scrapes[EXPOSITION_OPENMETRICS]);
}

void samples_cpu(struct exposition *e, const struct book *book)
{
	struct rusage u;

	(void)book;
	getrusage(RUSAGE_SELF, &u);
	exposition_real(e, "",
			u.ru_utime.tv_sec + u.ru_stime.tv_sec +
				(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

void samples_start(struct exposition *e, const struct book *book)
{
	exposition_unix_ns(e, "", book->self.began_unix_ns);
}

void samples_memory(struct exposition *e, const struct book *book)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	(void)book;
	if (f && fscanf(f, "%*u %lu", &pages) == 1)
		exposition_count(e, "", pages * sysconf(_SC_PAGESIZE));
	if (f)
		fclose(f);
}

void samples_fds(struct exposition *e, const struct book *book)
{
	GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
	uint64_t n = 0;

	(void)book;
	while (dir && g_dir_read_name(dir))
		n++;
	if (dir)
		g_dir_close(dir);
	exposition_count(e, "", n ? n - 1 : 0); /* without the folder's own */
}

void samples_max_fds(struct exposition *e, const struct book *book)
{
	struct rlimit limit;

	(void)book;
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		exposition_count(e, "", limit.rlim_cur);
}
