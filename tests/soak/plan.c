/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dice. */
#include <string.h>

#include "tests/soak/plan.h"

enum {
	FAULT_PERCENT = 40,
	STALL_MIN_MS = 20,
	STALL_MAX_MS = 300,
	FOR_EVER_MS = 600000, /* a stall that something else ends */
	DELAY_MAX_MS = 250,
	TIMEOUT_MS = 10000,
};

static const char *const faults[SOAK_FAULTS] = {
	[SOAK_NO_FAULT] = "no fault",	  [SOAK_STALL] = "stall",
	[SOAK_RESET] = "reset",		  [SOAK_FIN] = "end of stream",
	[SOAK_HALF_OPEN] = "half-open",	  [SOAK_QUIT] = "quit",
	[SOAK_SIGTERM] = "SIGTERM",	  [SOAK_KILL_SOURCE] = "source killed",
	[SOAK_CANCEL] = "source cancels", [SOAK_YANK] = "yank",
};

static const char *const ways[LAB_WAYS] = {
	[LAB_WAY_TCP] = "tcp",	 [LAB_WAY_UNIX] = "unix", [LAB_WAY_FD] = "fd",
	[LAB_WAY_EXEC] = "exec", [LAB_WAY_FILE] = "file",
};

static const char *const copies[LAB_COPIES] = {
	[LAB_COPY_PRE] = "precopy",
	[LAB_COPY_POST] = "postcopy",
	[LAB_COPY_PREEMPT] = "postcopy-preempt",
};

static const char *const sections[] = {LAB_SECTION_NET, LAB_SECTION_BLK, LAB_SECTION_SCSI,
				       LAB_SECTION_E1000};

/* Written to its end before it is read: nothing can happen between the two sides. */
static bool stored(enum lab_way way)
{
	return way == LAB_WAY_EXEC || way == LAB_WAY_FILE;
}

static bool chance(GRand *dice, int percent)
{
	return g_rand_int_range(dice, 0, 100) < percent;
}

static void choose_journey(struct soak_plan *p, GRand *dice)
{
	static const enum lab_way likely[] = {LAB_WAY_TCP,  LAB_WAY_TCP,  LAB_WAY_TCP,
					      LAB_WAY_TCP,  LAB_WAY_UNIX, LAB_WAY_FD,
					      LAB_WAY_EXEC, LAB_WAY_FILE, LAB_WAY_FILE};
	static const char *const compressions[] = {NULL, "zlib", "zstd"};
	const char *const *policies = lab_policies();
	struct lab_pair_options *o = &p->options;
	struct lab_journey *j = &p->journey;
	unsigned what = g_rand_int_range(dice, 0, 100);

	j->policy = policies[g_rand_int_range(dice, 0, g_strv_length((char **)policies))];
	o->way = likely[g_rand_int_range(dice, 0, G_N_ELEMENTS(likely))];
	if (o->way == LAB_WAY_FILE && !strcmp(p->version, "7.2"))
		o->way = LAB_WAY_TCP;
	if (o->way == LAB_WAY_TCP) {
		j->tls = chance(dice, 25);
		/* Multifd and postcopy together: asserts on stock 7.2, refused by 10.0. */
		if (what < 40)
			o->multifd = g_rand_int_range(dice, 2, 5);
		else if (what < 75)
			j->copy = what < 58 ? LAB_COPY_POST : LAB_COPY_PREEMPT;
		if (o->multifd)
			j->compression =
				compressions[g_rand_int_range(dice, 0, G_N_ELEMENTS(compressions))];
	} else if (o->way == LAB_WAY_FILE) {
		j->mapped_ram = what < 60;
		if (what < 30)
			o->multifd = 2;
	} else if (o->way == LAB_WAY_UNIX && what < 30) {
		o->multifd = 2;
	}
}

static void choose_place(struct soak_plan *p, GRand *dice)
{
	struct lab_rule *r = &p->rule;
	unsigned where = g_rand_int_range(dice, 0, 100);

	p->has_rule = true;
	r->offset_bytes = g_rand_int_range(dice, 0, p->options.vm.fill_mib << 20);
	if (p->journey.tls) {
		/* What kind of channel it is, and its sections, are encrypted. */
		r->channel = LAB_CHANNEL_ACCEPTED;
		r->nth = g_rand_int_range(dice, 0, p->options.multifd + 1);
	} else if (where < 35 && p->options.vm.devices) {
		r->channel = LAB_CHANNEL_MAIN;
		r->section = sections[g_rand_int_range(dice, 0, G_N_ELEMENTS(sections))];
		r->offset_bytes = g_rand_int_range(dice, 0, 400);
	} else if (where < 70 && p->options.multifd) {
		r->channel = LAB_CHANNEL_MULTIFD;
		r->nth = g_rand_int_range(dice, 0, p->options.multifd);
	} else {
		r->channel = LAB_CHANNEL_MAIN;
	}
	if (chance(dice, 10))
		r->offset_bytes = g_rand_int_range(dice, 0, 32);
	/* Spread over the channels, each carries less. */
	if (p->options.multifd)
		r->offset_bytes /= p->options.multifd;
}

static void choose_fault(struct soak_plan *p, GRand *dice)
{
	bool live = !stored(p->options.way);

	p->delay_ms = g_rand_int_range(dice, 0, DELAY_MAX_MS);
	if (!chance(dice, FAULT_PERCENT))
		return;
	p->fault = g_rand_int_range(dice, SOAK_STALL, SOAK_FAULTS);
	if (p->options.way != LAB_WAY_TCP && (p->fault == SOAK_STALL || p->fault == SOAK_RESET ||
					      p->fault == SOAK_FIN || p->fault == SOAK_HALF_OPEN))
		p->fault = SOAK_QUIT;
	if (!live && (p->fault == SOAK_KILL_SOURCE || p->fault == SOAK_CANCEL))
		p->fault = SOAK_SIGTERM;
	/* Nothing of a pipe or a file can be yanked. */
	if (p->fault == SOAK_YANK && p->options.way != LAB_WAY_TCP &&
	    p->options.way != LAB_WAY_UNIX)
		p->fault = SOAK_QUIT;
	if (p->options.way != LAB_WAY_TCP)
		return;
	switch (p->fault) {
	case SOAK_STALL:
		choose_place(p, dice);
		p->rule.fault = LAB_FAULT_STALL;
		p->rule.stall_ms = g_rand_int_range(dice, STALL_MIN_MS, STALL_MAX_MS);
		break;
	case SOAK_RESET:
		choose_place(p, dice);
		p->rule.fault = LAB_FAULT_RESET;
		break;
	case SOAK_FIN:
		choose_place(p, dice);
		p->rule.fault = LAB_FAULT_FIN;
		break;
	case SOAK_HALF_OPEN:
		choose_place(p, dice);
		p->rule.fault = LAB_FAULT_HALF_OPEN;
		break;
	default:
		/* Half of them while the stream stands still, half while it flows. */
		if (!chance(dice, 50))
			break;
		choose_place(p, dice);
		p->rule.fault = LAB_FAULT_STALL;
		p->rule.stall_ms = FOR_EVER_MS;
	}
}

void soak_plan(struct soak_plan *p, const char *version, guint32 seed, unsigned number)
{
	const guint32 seeds[] = {seed, g_str_hash(version), number};
	GRand *dice = g_rand_new_with_seed_array(seeds, G_N_ELEMENTS(seeds));

	*p = (struct soak_plan){
		.version = version,
		.options =
			{
				.vm =
					{
						.version = version,
						.guest = true,
						.cpus = g_rand_int_range(dice, 1, 5),
						.fill_mib = g_rand_int_range(dice, 8, 49),
						.dirty_mib = g_rand_int_range(dice, 1, 9),
						.devices = chance(dice, 70) ? LAB_DEVICES_DOZEN
									    : LAB_DEVICES_NONE,
						.timeout_ms = TIMEOUT_MS,
					},
			},
		.flood = chance(dice, 30),
	};
	choose_journey(p, dice);
	choose_fault(p, dice);
	if (strcmp(version, "7.2") && chance(dice, 20))
		p->options.stay_on_error = true;
	g_rand_free(dice);
}

char *soak_plan_text(const struct soak_plan *p)
{
	const struct lab_vm_options *vm = &p->options.vm;
	g_autoptr(GString) text = g_string_new(NULL);

	g_string_printf(text, "%s, %s, %s over %s", p->version, p->journey.policy,
			copies[p->journey.copy], ways[p->options.way]);
	if (p->journey.mapped_ram)
		g_string_append(text, " mapped-ram");
	if (p->options.multifd)
		g_string_append_printf(text, ", %u channels %s", p->options.multifd,
				       p->journey.compression ?: "plain");
	g_string_append_printf(text, "%s, %u vCPUs, %u MiB%s%s%s", p->journey.tls ? ", TLS" : "",
			       vm->cpus, vm->fill_mib, vm->devices ? ", devices" : "",
			       p->flood ? ", flood" : "",
			       p->options.stay_on_error ? ", stays on error" : "");
	g_string_append_printf(text, "; %s", faults[p->fault]);
	if (p->has_rule)
		g_string_append_printf(text, " at %s %u%s%s + %" G_GUINT64_FORMAT,
				       p->rule.channel == LAB_CHANNEL_MULTIFD ? "multifd"
				       : p->rule.channel == LAB_CHANNEL_MAIN  ? "main"
									      : "accepted",
				       p->rule.nth, p->rule.section ? " " : "",
				       p->rule.section ?: "", p->rule.offset_bytes);
	else if (p->fault)
		g_string_append_printf(text, " after %u ms", p->delay_ms);
	return g_strdup(text->str);
}

char *soak_plan_kind(const struct soak_plan *p)
{
	return g_strdup_printf("%s %s %s %s%s", p->version, faults[p->fault],
			       copies[p->journey.copy], p->options.multifd ? "multifd" : "",
			       p->options.stay_on_error ? " stays" : "");
}
