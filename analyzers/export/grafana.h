/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `bqlstat export grafana`: the dashboards, rules and provisioning files of dashboards/, which are
 * part of the program.
 */
#ifndef EXPORT_GRAFANA_H
#define EXPORT_GRAFANA_H

struct grafana_options {
	char *uid;	  /* print only the dashboard of this uid */
	char *datasource; /* uid of the data source that is chosen at first */
	char *folder;	  /* write everything there */
};

/* An exit code. */
int grafana_print(const struct grafana_options *options);

#endif
