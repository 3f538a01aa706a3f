/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the tracer: what its files share. Not for users of tracer.h.
 */
#ifndef PROBES_PRIVATE_H
#define PROBES_PRIVATE_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "probes/budget.h"
#include "probes/keeper.h"
#include "probes/tracer.h"
#pragma GCC diagnostic push
/* bpftool's generated header declares functions that not every user calls. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "probes/bql.skel.h"
#pragma GCC diagnostic pop

struct device_name {
	uint64_t address;
	char name[ABI_NAME];
};

struct probe {
	struct bpf_program *prog;	/* NULL: the point gets none */
	const struct seam_point *point; /* the map's; NULL: calibration's */
	uint64_t offset, cookie;
	int link; /* the keeper's number, with uprobe_multi that of others, too; -1: it is not in */
	int err;  /* why the kernel did not take it */
};

/* One QEMU. Its index in tracer.targets is its slot in the kernel and its number outside. */
struct target {
	uint32_t epoch; /* 0: never used; kept after detaching so that its records can be read */
	bool attached;
	pid_t pid;
	struct seam_map *map; /* NULL for the calibration */
	uint64_t bias;
	int mem_fd; /* /proc/PID/mem, -1 when none */
	uint64_t armed_ns, disarmed_ns;
	uint32_t last_owner; /* tid that held the lock when it was disarmed */
	size_t nr_points;
	struct tracer_point points[ABI_POINTS];
	struct probe probes[ABI_POINTS]; /* of the point with the same index */
	char *path;			 /* the file that the offsets are of */
	int leaving[ABI_POINTS];	 /* links on their way out */
	size_t nr_leaving;
	struct budget budget;
	struct device_name *devices;
	size_t nr_devices;
};

/* A kernel's table as it was at the last tracer_poll(). */
struct copy {
	bool fresh;
	uint32_t count;
	void *keys, *values; /* room for the whole table */
};

struct tracer {
	struct tracer_opts opts;
	struct tracer_cost cost;
	bool multi; /* the programs are for uprobe_multi links */
	struct bql_bpf *skel;
	struct keeper *keeper;
	struct ring_buffer *ring;
	struct target targets[ABI_SLOTS];
	uint32_t next_epoch;

	/* The kernel's tables, mapped. */
	struct abi_slot *slots; /* writable: user space sets the BQL's address and arms the slot */
	struct abi_thread
		*threads;	/* writable, like the sites: to clear those of a QEMU that left */
	struct abi_site *sites; /* as far as sites_used() says */
	size_t sites_mapped;
	uint32_t max_sites;

	char **names; /* of source files, each once */
	size_t nr_names;
	struct copy blocked, charges;

	const char **files;	 /* by site: names learnt so far */
	uint32_t nr_files_known; /* all sites below have their name or never will */
};

uint64_t now_ns(void);
void tracer_fail(struct tracer_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* attach.c */

void target_clear(struct target *target);
/* A free slot, not yet armed: its points pass unrecorded. -EBUSY: none. */
int slot_take(struct tracer *tracer, pid_t pid);
/* From here on the slot's points count. */
void slot_arm(struct tracer *tracer, int slot, uint64_t bql);
/* Stop recording and begin to remove every attachment. slot_release() completes it. */
void slot_disarm(struct tracer *tracer, int slot);
/* Remove every attachment and stop recording; the records stay. */
void slot_release(struct tracer *tracer, int slot);
/* Add a probe of a point of its own at an offset of target.path. -ENOSPC: too many. */
int slot_add(struct tracer *tracer, int slot, struct bpf_program *prog, uint64_t offset,
	     enum abi_mark mark);
/*
 * Put in every probe that is not, of the kinds wanted (a bit each): what did not go in has its
 * `err` and its point a refusal. Or take them out: the probes are gone at once or soon, everything
 * is when slot_settle() returns.
 */
void slot_attach(struct tracer *tracer, int slot, uint32_t kinds);
void slot_detach(struct tracer *tracer, int slot, uint32_t kinds);
void slot_settle(struct tracer *tracer, int slot);
/* Whether it would return at once. */
bool slot_settled(struct tracer *tracer, int slot);
#define ALL_KINDS (~0U)
/* They are gone, with who held them. */
void slot_bereft(struct tracer *tracer, int slot);
/* Every point that the map has for this process, compared with its memory first. */
int attach_plan(struct tracer *tracer, int slot, struct tracer_error *err);

/* copy.c */

/* Unless it is fresh. */
void copy_read(struct copy *copy, struct bpf_map *map);
void copy_free(struct copy *copy);

/* recycle.c */

/* The name, kept until the tracer is freed; NULL: out of memory. */
const char *keep_name(struct tracer *tracer, const char *name);
void names_free(struct tracer *tracer);

/* sites.c */

bool sites_reserve(struct tracer *tracer);
void sites_unmap(struct tracer *tracer);
/* All site records below may be in use, and can be read. */
uint32_t sites_used(struct tracer *tracer);

/* kallsyms.c */

/* Where a function of the kernel begins and ends. -ENOENT: the kernel hides it, or has none. */
int kernel_function(const char *name, uint64_t *begin, uint64_t *end);

/* process.c */

/* Read exactly size bytes at an address of a process. */
bool process_read(int mem_fd, uint64_t address, void *buf, size_t size);
/* A NUL-terminated printable string of at most size - 1 characters, faulting it in if need be. */
bool process_read_string(int mem_fd, uint64_t address, char *buf, size_t size);
/* Where the code of a function of this program lies in the program's file. */
bool own_offset(void (*function)(void), uint64_t *offset);
/* The debugger of a process, 0: none. */
pid_t process_debugger(pid_t pid);

/* features.c: a function whose first instruction the kernel emulates. */
void bqlstat_emulated(void);

#endif
