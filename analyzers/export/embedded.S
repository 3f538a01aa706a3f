/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of dashboards/ as strings: grafana.c names them. */
	.section .rodata
	.macro file symbol, path
	.globl \symbol
	.type \symbol, @object
\symbol:
	.incbin "\path"
	.byte 0
	.size \symbol, . - \symbol
	.endm

	file grafana_fleet, "dashboards/fleet.json"
	file grafana_vm, "dashboards/vm.json"
	file grafana_incoming, "dashboards/incoming.json"
	file grafana_regression, "dashboards/regression.json"
	file grafana_datasource, "dashboards/provisioning/datasource.yaml"
	file grafana_provider, "dashboards/provisioning/dashboards.yaml"
	file grafana_rules, "dashboards/prometheus/rules.yaml"
	file grafana_alerts, "dashboards/prometheus/alerts.yaml"

	.section .note.GNU-stack, "", @progbits
