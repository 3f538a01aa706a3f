/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scenario from the inside: between what reads the file and what plays it.
 */
#ifndef LAB_SCENARIO_KEYS_H
#define LAB_SCENARIO_KEYS_H

#include "analyzers/lab/scenario.h"

struct lab_scenario {
	char *name, *about;
	GKeyFile *keys; /* every one known, and of its kind */
};

#endif
